"""Schedulers and workers as Dask's classes take them, from one set of options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from biolmm.cluster.options import ClusterOptions
from biolmm.memory import CACHE_VARIABLE, available_bytes
from biolmm.processors import available_threads

if TYPE_CHECKING:
    from distributed.security import Security

NOWHERE = "127.0.0.1:0"
"""Dask always opens a port for HTTP: on the loopback, with nothing behind it."""
CACHE_SHARE = 0.25
"""Share of a worker's memory for rows kept between passes; the rest is for tasks and their results."""
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def default_workers(options: ClusterOptions) -> int:
    """Return how many worker processes fill this machine."""
    return options.workers or max(1, available_threads() // options.tasks_a_worker)


def default_memory_bytes(n_workers: int) -> int:
    """Return each worker's share of what is free now; the driver has one share too."""
    return available_bytes() // (n_workers + 1)


def worker_environment(memory_bytes: int) -> dict[str, str]:
    """Return the environment of a worker process: a thread each for BLAS and numba, and its share for rows."""
    return {**dict.fromkeys(_ONE_THREAD, "1"), CACHE_VARIABLE: str(int(memory_bytes * CACHE_SHARE))}


def worker_arguments(
    options: ClusterOptions, *, n_threads: int, memory_bytes: int, security: Security | None, host: str | None
) -> dict[str, Any]:
    """Return what a `Nanny` takes: limits, one BLAS and one numba thread a task, where to spill, no HTTP."""
    return {
        "nthreads": n_threads,
        "memory_limit": memory_bytes,
        "local_directory": None if options.spill is None else str(options.spill),
        "security": security,
        "protocol": "tls://" if security else "tcp://",
        "host": None if options.interface else host,
        "interface": options.interface,
        "dashboard": False,
        "dashboard_address": NOWHERE,
        "preload": ["biolmm.cluster.preload"],
        "env": worker_environment(memory_bytes),
        "silence_logs": "ERROR",
    }


def worker_spec(options: ClusterOptions, **arguments: Any) -> dict[str, Any]:
    """Return a worker as `SpecCluster` takes it."""
    from distributed import Nanny  # only where workers are started: the plan of a run needs no more than sizes

    return {"cls": Nanny, "options": worker_arguments(options, **arguments)}


def scheduler_spec(
    options: ClusterOptions, *, security: Security | None, host: str | None, port: int = 0
) -> dict[str, Any]:
    """Return a scheduler as `SpecCluster` takes it, without a dashboard."""
    from distributed import Scheduler

    return {
        "cls": Scheduler,
        "options": {
            "host": None if options.interface else host,
            "interface": options.interface,
            "port": port,
            "protocol": "tls://" if security else "tcp://",
            "security": security,
            "dashboard": False,
            "dashboard_address": NOWHERE,
        },
    }
