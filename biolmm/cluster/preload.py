"""What every worker process does first: leave signals to the process that started it.

A whole SLURM step, a systemd unit or a terminal sends its signals to every process. The leader drains and the worker's
parent says goodbye; a worker that died of the signal itself would lose the tasks that are being finished.
"""

from __future__ import annotations

import signal
import threading


def dask_setup(worker: object) -> None:
    """Ignore the signals that ask to stop, where this is a process of its own; called by Dask."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
