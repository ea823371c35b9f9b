"""A Dask client of any cluster, with our settings, for as long as a block runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask.config
from distributed import Client, SpecCluster
from distributed.security import Security

from biolmm.chunks import check_workers
from biolmm.cluster.options import SCHEMES, ClusterOptions, check_target
from biolmm.cluster.processes import (
    default_memory_bytes,
    default_workers,
    scheduler_spec,
    worker_environment,
    worker_spec,
)
from biolmm.cluster.ranks import own_address
from biolmm.cluster.rundir import private_folder, scheduler_address
from biolmm.cluster.settings import applied
from biolmm.cluster.tls import is_loopback, open_certificates, refuse_open, run_certificates
from biolmm.errors import ParameterError
from biolmm.memory import format_bytes, parse_bytes

log = logging.getLogger(__name__)


@contextmanager
def connect(target: str = "local", options: ClusterOptions | None = None, **given: Any) -> Iterator[Client]:
    """Give a client of a cluster inside the block; everything biolmm computes there runs on its workers.

    Parameters
    ----------
    target
        `local`: processes on this machine; `slurm`: a job for each worker, through dask-jobqueue, replaced when it is
        lost; `tcp://…`, `tls://…` or a scheduler file `NAME.json`: a scheduler that is there already.
    options, given
        See `ClusterOptions`; single ones can be given by name.

    Raises
    ------
    ParameterError
        When the target cannot be used, or when it is an address beyond this machine without TLS.

    Notes
    -----
    Dask's settings are those of `settings.DEFAULTS` where the user has none of their own. Nothing is served over HTTP.

    Examples
    --------
    >>> with connect("local", workers=1) as client:  # doctest: +SKIP
    ...     biolmm.fit(operator, cohort)
    """
    chosen = replace(options or ClusterOptions(), **given)
    check_target(target)
    if target in ("auto", "threads", "kubernetes"):
        raise ParameterError(
            f"'{target}' is not a cluster to connect to: use local, slurm, an address or a scheduler file; inside a "
            "Kubernetes Job or an srun step use `biolmm run`."
        )
    maker = {"local": _local, "slurm": _slurm}.get(target)
    with maker(chosen) if maker else _remote(target, chosen) as client:
        yield client


@contextmanager
def _local(options: ClusterOptions) -> Iterator[Client]:
    """Start a scheduler in this process and workers beside it."""
    host = options.host or "127.0.0.1"
    with TemporaryDirectory(prefix="biolmm-") as scratch:  # 0700
        folder = Path(scratch)
        secure = options.tls or options.tls_directory is not None or not is_loopback(host) or bool(options.interface)
        security = None
        if secure and not (options.insecure and not options.tls):
            security = _certificates(options, folder).security()
        refuse_open(options.interface or host, tls=security is not None, insecure=options.insecure)
        n_workers = default_workers(options)
        memory = options.memory_bytes or default_memory_bytes(n_workers)
        options = options if options.spill else replace(options, spill=folder / "spill")
        spec = worker_spec(options, n_threads=options.tasks_a_worker, memory_bytes=memory, security=security, host=host)
        log.info("cluster: %d workers of %d threads, %s each", n_workers, options.tasks_a_worker, format_bytes(memory))
        with (
            applied(secure=security is not None),
            SpecCluster(
                workers=dict.fromkeys(range(n_workers), spec),
                scheduler=scheduler_spec(options, security=security, host=host),
                security=security or Security(),
                silence_logs="ERROR",
            ) as cluster,
            Client(cluster) as client,
        ):
            cluster.adapt(minimum=n_workers, maximum=n_workers)  # replaces what its own parent process does not
            yield client


@contextmanager
def _remote(target: str, options: ClusterOptions) -> Iterator[Client]:
    """Connect to a scheduler that is there already."""
    address = target if target.startswith(SCHEMES) else scheduler_address(Path(target))
    security = None
    if address.startswith("tls://"):
        folder = options.tls_directory or (None if target.startswith(SCHEMES) else Path(target).parent / "tls")
        if folder is None or not folder.is_dir():
            raise ParameterError(f"{address} needs certificates: name the folder that holds them with --tls-directory.")
        security = open_certificates(folder).security()
    refuse_open(address, tls=security is not None, insecure=options.insecure)
    with applied(secure=security is not None), Client(address, security=security or Security()) as client:
        check_workers(client)
        yield client


@contextmanager
def _slurm(options: ClusterOptions) -> Iterator[Client]:
    """Submit a job for each worker, and another one for each that is lost."""
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError:
        raise ParameterError(
            "'slurm' outside of an srun step needs dask-jobqueue: pip install dask-jobqueue, or start all ranks with "
            "`srun biolmm run --cluster slurm -- …`."
        ) from None
    if options.workers is None:
        raise ParameterError("say how many jobs to submit: --workers N.")
    folder = private_folder(options.run_directory or Path(f"biolmm-run-{os.getpid()}"))
    security = None if options.insecure else _certificates(options, folder).security()
    site = dask.config.get("jobqueue.slurm", {})
    arguments = job_arguments(options, site, folder)
    host = options.host or (None if arguments["interface"] else own_address())
    with (
        applied(secure=security is not None),
        SLURMCluster(
            **arguments,
            security=security,
            protocol="tls://" if security else "tcp://",
            scheduler_options={**(site.get("scheduler-options") or {}), "host": host, **_quiet_scheduler()},
        ) as cluster,
        Client(cluster) as client,
    ):
        cluster.adapt(minimum_jobs=options.workers, maximum_jobs=options.workers)
        log.info("cluster: %d jobs of %s cores and %s", options.workers, arguments["cores"], arguments["memory"])
        yield client


def job_arguments(options: ClusterOptions, site: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what a job of `SLURMCluster` is, from the options, and where they say nothing from the site's file.

    The site's extra arguments of workers and the lines at the start of its jobs stay; ours follow.

    Examples
    --------
    >>> site = {"cores": 8, "processes": 2, "memory": "32GiB", "worker-extra-args": ["--lifetime", "3h"]}
    >>> job = job_arguments(ClusterOptions(), site, Path("run"))
    >>> job["cores"], job["processes"], job["memory"], job["worker_extra_args"][:2]
    (8, 2, '32GiB', ['--lifetime', '3h'])
    >>> job = job_arguments(ClusterOptions(threads_per_worker=4, memory_bytes=2**33), site, Path("run"))
    >>> job["cores"], job["processes"], job["memory"]
    (4, 1, '8.0 GiB')
    """
    given = options.memory_bytes is not None or not site.get("memory")
    memory = options.memory_bytes or 4 * 2**30
    cores, processes = (options.tasks_a_worker, 1) if given else (site.get("cores") or 1, site.get("processes") or 1)
    each = memory if given else parse_bytes(str(site["memory"])) // int(processes)
    exports = [f"export {name}={value}" for name, value in worker_environment(each).items()]
    ours = ["--preload", "biolmm.cluster.preload", "--no-dashboard"]
    theirs = [each for each in site.get("worker-extra-args") or () if each not in ours]
    return {
        "cores": cores,
        "processes": processes,
        "memory": format_bytes(memory) if given else site["memory"],
        "interface": options.interface or (None if options.host else site.get("interface")),
        "local_directory": site.get("local-directory") if options.spill is None else str(options.spill),
        "shared_temp_directory": site.get("shared-temp-directory") or str(folder),
        "log_directory": site.get("log-directory") or str(folder),
        "job_script_prologue": [*(site.get("job-script-prologue") or ()), *exports],
        "worker_extra_args": [*theirs, *ours],
    }


def _quiet_scheduler() -> dict[str, Any]:
    spec = scheduler_spec(ClusterOptions(), security=None, host=None)["options"]
    return {name: spec[name] for name in ("dashboard", "dashboard_address")}


def _certificates(options: ClusterOptions, folder: Path) -> Any:
    return open_certificates(options.tls_directory) if options.tls_directory else run_certificates(folder / "tls")
