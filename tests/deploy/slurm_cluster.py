"""A real SLURM cluster of several small nodes on this machine: Debian's daemons, own ports, every file in one folder.

It needs root (slurmd starts jobs as other users) and the packages slurmctld, slurmd, slurm-client and munge. A node is a
slurmd under another name, so losing one is killing its daemon and its processes.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scontrol", "scancel", "squeue", "sinfo")
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}

CONFIGURATION = """\
ClusterName=ci
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock
CredType=cred/munge
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,defer_batch
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
SlurmdTimeout=30
KillWait=5
MinJobAge=600
InactiveLimit=0
MailProg=/bin/true
{nodes}
PartitionName=main Nodes={names} Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=500
"""


def missing() -> str:
    """Say why there can be no cluster here; an empty string where there can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if absent:
        return f"SLURM is not installed ({', '.join(absent)}): apt-get install slurmctld slurmd slurm-client munge"
    return "" if os.geteuid() == 0 else "slurmd needs root"


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until a condition holds.

    Raises
    ------
    TimeoutError
        When it does not within the time, naming `what`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


@dataclass
class SlurmCluster:
    """Nodes n1, n2, … of `cpus` processors and `memory_mb` each, below `folder`."""

    folder: Path
    n_nodes: int = 3
    cpus: int = 2
    memory_mb: int = 4000
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Choose the environment in which the commands of this cluster run."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "SRUN"))}
        self.environment = {**kept, "PATH": _path(), "SLURM_CONF": str(self.folder / "slurm.conf")}

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes."""
        return [f"n{i + 1}" for i in range(self.n_nodes)]

    def up(self) -> None:
        """Write the configuration, start the daemons, wait until every node is idle."""
        for name in ("run", "state", "log", *(f"spool/{node}" for node in self.nodes)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.joinpath("run").chmod(0o755)
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        self._configure()
        files = {"socket": "run/munge.sock", "pid-file": "run/munged.pid", "log-file": "log/munged.log"}
        options = [f"--{name}={self.folder / where}" for name, where in files.items()]
        self.command("munged", "--force", f"--key-file={key}", f"--seed-file={self.folder}/munge.seed", *options)
        self.command("slurmctld", "-i")
        for node in self.nodes:
            self.start_node(node)
        wait_for(lambda: self.command("sinfo", "-h", "-N", "-o", "%t").split() == ["idle"] * self.n_nodes, 30, "nodes")

    def down(self) -> None:
        """Cancel everything and stop the daemons, by their pid files."""
        with suppress(subprocess.SubprocessError):
            self.command("scancel", "--signal=KILL", "--user=root", timeout=10)
            wait_for(lambda: not self.command("squeue", "-h"), 15, "jobs ending")
        for name in (*(f"slurmd-{node}" for node in self.nodes), "slurmctld", "munged"):
            _stop(self.folder / "run" / f"{name}.pid")

    def start_node(self, node: str) -> None:
        """Start the daemon of a node."""
        self.command("slurmd", "-N", node)

    def lose_node(self, node: str) -> None:
        """Lose a node as a power cut would: its daemon and its job's processes are killed, and it is down."""
        daemon = self.folder / "run" / f"slurmd-{node}.pid"
        os.kill(int(daemon.read_text()), signal.SIGKILL)
        daemon.unlink()
        for pid in self.processes(node):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.command("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")

    def back_up(self, node: str) -> None:
        """Bring a lost node back."""
        self.start_node(node)
        with suppress(RuntimeError):  # it may be back by itself: ReturnToService
            self.command("scontrol", "update", f"nodename={node}", "state=resume")
        wait_for(
            lambda: self.command("sinfo", "-h", "-n", node, "-o", "%t").strip() == "idle", 30, f"{node} being back"
        )

    def processes(self, node: str) -> list[int]:
        """Find the job processes of a node: SLURM tells each the node's name."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    words = (entry / "environ").read_bytes().split(b"\0")
                    if f"SLURMD_NODENAME={node}".encode() in words and self._is_mine(words):
                        found.append(int(entry.name))
        return found

    def submit(self, *arguments: str | Path, **environment: str) -> str:
        """Submit a job; return its number."""
        out = self.command("sbatch", "--parsable", *map(str, arguments), environment=environment)
        return out.split(";")[0].strip()

    def show(self, job: str) -> dict[str, str]:
        """Tell what SLURM knows of a job, also for ten minutes after its end."""
        words = self.command("scontrol", "show", "--oneliner", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def state(self, job: str) -> str:
        """Tell a job's state, such as RUNNING."""
        return self.show(job)["JobState"]

    def wait(self, job: str, seconds: float = 120) -> tuple[str, int]:
        """Wait for a job's end; return its state and the exit code of its script."""
        try:
            wait_for(lambda: self.state(job) in ENDED, seconds, f"the end of job {job}")
        except TimeoutError as late:
            shown = self.show(job)
            raise TimeoutError(f"{late}: it is {shown['JobState']} ({shown['Reason']})") from None
        shown = self.show(job)
        return shown["JobState"], int(shown["ExitCode"].split(":")[0])

    def command(self, *words: str, environment: dict[str, str] | None = None, timeout: float = 30) -> str:
        """Run one of SLURM's commands against this cluster.

        Raises
        ------
        RuntimeError
            When it fails, with what it said.
        """
        done = subprocess.run(
            words,
            env={**self.environment, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _configure(self) -> None:
        host = socket.gethostname().split(".")[0]
        ports = _free_ports(self.n_nodes + 1)
        nodes = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
            f"CPUs={self.cpus} RealMemory={self.memory_mb} State=UNKNOWN"
            for node, port in zip(self.nodes, ports[1:], strict=True)
        ]
        text = CONFIGURATION.format(
            host=host, folder=self.folder, ports=ports, nodes="\n".join(nodes), names=",".join(self.nodes)
        )
        (self.folder / "slurm.conf").write_text(text)

    def _is_mine(self, words: Sequence[bytes]) -> bool:
        return f"SLURM_CONF={self.folder / 'slurm.conf'}".encode() in words


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(listener.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def _stop(pid_file: Path) -> None:
    """End a daemon by its pid file, which it removes itself when it has ended."""
    if not pid_file.exists():
        return
    with suppress(ProcessLookupError, ValueError):
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        for _ in range(50):
            # A process that nobody reaps stays in the table: trust the file.
            if not pid_file.exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
