"""Run one program and write what it used as JSON: `launch.py REPORT LIMIT_SECONDS LOG PROGRAM [ARGUMENT …]`.

A process of its own, importing next to nothing: Linux counts a child's peak memory from its parent's at the moment it
is started, so a program launched by a large Python process would be blamed for that process's memory.
"""

import json
import os
import subprocess
import sys
import threading
import time


def main() -> None:
    """Start the program, wait for it, kill it at the limit, write the report."""
    report, limit, log, *command = sys.argv[1:]
    with open(log, "wb") as output:  # noqa: PTH123 - pathlib would add to this process's memory
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        timer = threading.Timer(float(limit), process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        late = not timer.is_alive()
        timer.cancel()
    found = {
        "exit_code": process.returncode,
        "timed_out": late,
        "wall_seconds": wall,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
    }
    with open(report, "w") as file:  # noqa: PTH123
        json.dump(found, file)


if __name__ == "__main__":
    main()
