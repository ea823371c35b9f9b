"""Who this process is among those that were started with the same command: rank 0 leads, the others work."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Source = Literal["option", "slurm", "kubernetes"]


@dataclass(frozen=True)
class Rank:
    """A process's number among its equals, and where it comes from."""

    number: int
    source: Source

    @property
    def leads(self) -> bool:
        """Whether this process is the scheduler and the driver."""
        return self.number == 0


def find_rank(environment: Mapping[str, str] = os.environ, given: int | None = None) -> Rank | None:
    """Return this process's rank: the one given, that of an Indexed Job, or that of an `srun` step of several tasks.

    The script of a batch job has SLURM's variables too, but is no step: there the answer is None.

    Examples
    --------
    >>> find_rank({"JOB_COMPLETION_INDEX": "3"})
    Rank(number=3, source='kubernetes')
    >>> find_rank({"SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"})
    Rank(number=0, source='slurm')
    >>> find_rank({"SLURM_PROCID": "0", "SLURM_JOB_ID": "12"}) is None
    True
    """
    if given is not None:
        return Rank(given, "option")
    if environment.get("JOB_COMPLETION_INDEX", "").isdecimal():
        return Rank(int(environment["JOB_COMPLETION_INDEX"]), "kubernetes")
    in_step = environment.get("SLURM_STEP_ID", "").isdecimal() and environment.get("SLURM_PROCID", "").isdecimal()
    if in_step and int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return Rank(int(environment["SLURM_PROCID"]), "slurm")
    return None


def default_run_directory(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return a folder below the current one that all ranks of a SLURM step agree on, a new one in every life of the job.

    Examples
    --------
    >>> str(default_run_directory({"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}))
    'biolmm-run-7.0.0'
    """
    job = environment.get("SLURM_JOB_ID")
    if job is None:
        return None
    return Path(
        f"biolmm-run-{job}.{environment.get('SLURM_STEP_ID', '0')}.{environment.get('SLURM_RESTART_COUNT', '0')}"
    )


def own_address(environment: Mapping[str, str] = os.environ) -> str:
    """Return the address under which other machines reach this one; the loopback where there is no other."""
    if environment.get("POD_IP"):
        return environment["POD_IP"]
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("10.255.255.255", 1))  # chooses a route, sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        pass
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


def threads_here(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return the processors that SLURM gave this task, if it did."""
    given = environment.get("SLURM_CPUS_PER_TASK", "")
    return int(given) if given.isdecimal() else None


def memory_here(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return nine tenths of the memory that SLURM gave this task, if it says; in bytes.

    Examples
    --------
    >>> memory_here({"SLURM_MEM_PER_NODE": "2000", "SLURM_NTASKS_PER_NODE": "2"})
    943718400
    >>> memory_here({"SLURM_MEM_PER_CPU": "1000", "SLURM_CPUS_PER_TASK": "4"})
    3774873600
    """
    per_cpu, per_node = environment.get("SLURM_MEM_PER_CPU", ""), environment.get("SLURM_MEM_PER_NODE", "")
    tasks = environment.get("SLURM_NTASKS_PER_NODE", "1")
    if per_cpu.isdecimal():
        megabytes = int(per_cpu) * (threads_here(environment) or 1)
    elif per_node.isdecimal() and int(per_node) > 0:
        megabytes = int(per_node) // (int(tasks) if tasks.isdecimal() else 1)
    else:
        return None
    return megabytes * 2**20 * 9 // 10
