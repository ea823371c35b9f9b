"""How many processors this process may use: affinity, the quota of its cgroup, and what SLURM gave the task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from biolmm.cgroups import CGROUPS, MEMBERSHIP, group_folders, read_limit


def available_threads(
    environment: Mapping[str, str] = os.environ, cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP
) -> int:
    """Return the processors that this process may use, at least 1: the least of what limits them.

    Parameters
    ----------
    environment
        Where SLURM says what it gave.
    cgroups, membership
        Where control groups are mounted, and the file that names those of this process.

    Notes
    -----
    The limits are the processors that the process is bound to; the quota of its cgroup and of those above it, as
    containers have it, rounded up; and what SLURM gave, which it binds on some sites only.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = (bound, quota_threads(cgroups, membership), slurm_threads(environment))
    return max(1, min(limit for limit in limits if limit is not None))


def quota_threads(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """Return the least quota of this process's cgroup and those above it in processors, rounded up; None without any."""
    found = [quota for folder in group_folders("cpu", cgroups, membership) if (quota := _quota(folder)) is not None]
    return min(found, default=None)


def slurm_threads(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return the processors that SLURM gave this process, if it did.

    A task of a step has `--cpus-per-task`; the script of a batch job, and a task that was given no number, has what the
    job has on this node.

    Examples
    --------
    >>> slurm_threads({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "2"})
    8
    >>> step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_CPUS_ON_NODE": "8"}
    >>> slurm_threads(step), slurm_threads({**step, "SLURM_CPUS_PER_TASK": "2"})
    (8, 2)
    >>> slurm_threads({"SLURM_CPUS_PER_TASK": "2"}) is None
    True
    """
    if "SLURM_JOB_ID" not in environment:
        return None
    in_step = environment.get("SLURM_STEP_ID", "").isdecimal() and environment.get("SLURM_PROCID", "").isdecimal()
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE") if in_step else ("SLURM_CPUS_ON_NODE",):
        given = environment.get(name, "")
        if given.isdecimal() and int(given) > 0:
            return int(given)
    return None


def _quota(folder: Path) -> int | None:
    """Return the quota of one group in processors, rounded up: `cpu.max` of version 2, `cpu.cfs_quota_us` of version 1."""
    texts = read_limit(folder / "cpu.max").split()
    if not texts:
        texts = [read_limit(folder / "cpu.cfs_quota_us"), read_limit(folder / "cpu.cfs_period_us")]
    if len(texts) != 2 or not all(text.isdecimal() for text in texts):  # "max" and −1: no limit
        return None
    quota, period = (int(text) for text in texts)
    return -(-quota // period) if quota > 0 and period > 0 else None
