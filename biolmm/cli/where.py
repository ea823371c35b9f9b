"""Where a command runs: the options of clusters, and `--cluster` on heavy commands."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from biolmm.cli.options import together
from biolmm.cli.root import Section
from biolmm.errors import ParameterError

if TYPE_CHECKING:
    from biolmm.cluster.options import ClusterOptions

Command = TypeVar("Command", bound=Callable[..., Any])

FOLDER = click.Path(path_type=Path)
ADDRESSES = "tcp://… or tls://…: a scheduler that is there; NAME.json: its scheduler file; threads: this process."
local_options = together(
    click.option("--workers", cls=Section, type=int, metavar="N",
                 help="Worker processes or jobs; one a processor by default."),
    click.option("--threads-per-worker", cls=Section, type=int, metavar="N",
                 help="Tasks at a time in a worker: one by default, in ranks of a step or Job all processors they have."),
    click.option("--worker-memory", cls=Section, metavar="SIZE",
                 help="Limit of each worker, such as 8GiB; its share by default."),
    click.option("--spill", cls=Section, type=FOLDER, metavar="FOLDER",
                 help="Fast local disk for what does not fit a worker's memory."),
)  # fmt: skip
tls_option = click.option("--tls-directory", cls=Section, type=FOLDER, metavar="FOLDER",
                          help="Certificates to use: ca.pem cert.pem key.pem, or ca.crt tls.crt tls.key. By default made "
                          "for the run.")  # fmt: skip
_HERE = ("workers", "threads_per_worker", "worker_memory", "spill", "tls_directory")
PROGRESS_SECONDS = 60.0


def cluster_option(command: Command) -> Command:
    """Add `--cluster` and the size of its workers to a command, which then runs on that cluster.

    With `--plan` none is started: the plan says what it would mean for its workers. Whatever the target, SIGTERM and
    SIGUSR1 stop the command at a checkpoint, and without a terminal its progress is logged.
    """

    @click.option("--cluster", "target", cls=Section, metavar="TARGET", default="threads", show_default=True,
                  help=f"Where passes are computed. local: processes on this machine; slurm: jobs, through dask-jobqueue; "
                  f"{ADDRESSES}")  # fmt: skip
    @local_options
    @tls_option
    @functools.wraps(command)
    def wrapped(*arguments: Any, target: str, **options: Any) -> Any:
        mine = {name: options.pop(name) for name in _HERE}
        with _elsewhere(target, mine, plan=bool(options.get("plan"))):
            return command(*arguments, **options)

    return wrapped  # type: ignore[return-value]


@contextmanager
def _elsewhere(target: str, given: dict[str, Any], *, plan: bool) -> Iterator[None]:
    """Run a command's block where it was asked for."""
    from biolmm.cluster.options import check_target

    here = check_target(target) in ("threads", "auto")
    if plan:
        from biolmm.cluster.plan import expected_workers

        with expected_workers(*expected(target, given)) if given["workers"] else ExitStack():
            yield
        return
    if here and (useless := [name for name in _HERE if given[name] is not None]):
        option = "--" + useless[0].replace("_", "-")
        raise ParameterError(f"{option} is for workers, and this runs in threads: choose them with --cluster.")
    if not here:
        _refuse_twice(target)
    from biolmm.cluster.progress import progress_lines
    from biolmm.cluster.signals import draining

    with ExitStack() as stack:
        stack.enter_context(draining())
        if not sys.stderr.isatty():
            stack.enter_context(progress_lines(PROGRESS_SECONDS))
        stack.enter_context(connected(target, given))
        yield


def expected(target: str, given: dict[str, Any]) -> tuple[int | None, int, int | None]:
    """Return what a plan needs to know of the workers: how many, tasks at a time, and the processors that they share."""
    from biolmm.processors import available_threads

    return given["workers"], given["threads_per_worker"] or 1, available_threads() if target == "local" else None


def _refuse_twice(target: str) -> None:
    """Refuse a second cluster, and one for every rank of a step."""
    from biolmm.chunks import has_cluster
    from biolmm.cluster.ranks import find_rank

    if has_cluster():
        raise ParameterError(
            f"--cluster {target}: this run has a cluster already. Name one, with `biolmm run --cluster` or with --cluster."
        )
    if find_rank() is not None:
        raise ParameterError(
            f"--cluster {target} inside a step or Job of several ranks would start a cluster for each: use "
            "`biolmm run -- …`, whose rank 0 leads."
        )


@contextmanager
def connected(target: str, given: dict[str, Any], report: Path | None = None) -> Iterator[None]:
    """Be connected to a cluster inside the block, unless the target is this process."""
    from biolmm.cluster.options import check_target

    if check_target(target) in ("threads", "auto"):
        if report is not None:
            raise ParameterError("--performance-report needs a cluster: name one with --cluster.")
        yield
        return
    from biolmm.cluster import connect

    with connect(target, cluster_options(given)), reported(report):
        yield


@contextmanager
def reported(file: Path | None) -> Iterator[None]:
    """Write Dask's performance report of the block."""
    if file is None:
        yield
        return
    from biolmm.cluster.report import performance_report_to

    with performance_report_to(file):
        yield


def cluster_options(given: dict[str, Any]) -> ClusterOptions:
    """Turn options of the command line into those of a cluster."""
    from biolmm.cluster.options import ClusterOptions
    from biolmm.memory import parse_bytes

    taken = {name: value for name, value in given.items() if name in ClusterOptions.__dataclass_fields__}
    taken["stay"] = bool(taken.get("stay"))
    memory = given.get("worker_memory")
    return ClusterOptions(**taken, memory_bytes=None if memory is None else parse_bytes(memory))
