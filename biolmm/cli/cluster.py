"""`biolmm run` and `biolmm worker`, and the option `--cluster` of heavy commands."""

from __future__ import annotations

import functools
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from biolmm.cli.options import together
from biolmm.cli.root import cli
from biolmm.errors import ParameterError

if TYPE_CHECKING:
    from biolmm.cluster.options import ClusterOptions

Command = TypeVar("Command", bound=Callable[..., Any])


FOLDER = click.Path(path_type=Path)
_TARGET_HELP = (
    "local: processes on this machine; slurm: this srun step, or jobs through dask-jobqueue; kubernetes: this Indexed Job; "
    "tcp://… or tls://…: a scheduler that is there; NAME.json: its scheduler file; threads: this process."
)
_target = click.option("--cluster", "target", metavar="TARGET", default="auto", show_default=True,
                       help=f"Where to run. {_TARGET_HELP} auto: the ranks of this step or Job, else threads.")  # fmt: skip
_local = together(
    click.option("--workers", type=int, metavar="N", help="Worker processes or jobs; one a processor by default."),
    click.option("--threads-per-worker", type=int, metavar="N", default=1, show_default=True,
                 help="Tasks at a time in a worker of local or slurm."),
    click.option("--worker-memory", metavar="SIZE", help="Limit of each worker, such as 8GiB; its share by default."),
    click.option("--spill", type=FOLDER, metavar="FOLDER", help="Fast local disk for what does not fit a worker's memory."),
)  # fmt: skip
_network = together(
    click.option("--run-directory", type=FOLDER, metavar="FOLDER",
                 help="Shared folder of this run, private to the user: certificates, and where the leader is."),
    click.option("--leader", metavar="HOST[:PORT]", help="The leader's name, where the ranks share no folder."),
    click.option("--host", metavar="ADDRESS", help="Address to listen on; by default that of the default route."),
    click.option("--interface", metavar="NAME", help="Network interface to listen on, such as ib0."),
    click.option("--tls-directory", type=FOLDER, metavar="FOLDER",
                 help="Certificates to use: ca.pem cert.pem key.pem, or ca.crt tls.crt tls.key. By default made for the run."),
    click.option("--insecure", is_flag=True, help="Allow addresses beyond this machine without TLS."),
    click.option("--leader-timeout", type=float, metavar="SECONDS", default=900.0, show_default=True,
                 help="A worker that finds no leader for so long exits with 69."),
    click.option("--stay/--no-stay", default=None,
                 help="Whether workers wait for another leader after one that failed or stopped; by default on Kubernetes."),
)  # fmt: skip


@cli.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_target
@_local
@_network
@click.option("--port", type=int, metavar="N", help="Port of the leader; 8786 with --leader, else any.")
@click.option("--tls", is_flag=True, help="Encrypt on this machine too: where other users log in.")
@click.option("--rank", type=click.IntRange(min=0), metavar="N", help="This process's rank; 0 leads.")
@click.option("--performance-report", type=FOLDER, metavar="FILE", help="Write Dask's report (HTML) of the whole run.")
@click.option("--progress", "progress_seconds", type=float, default=60.0, show_default=True, metavar="SECONDS",
              help="How often a line of progress is logged where there is no terminal.")  # fmt: skip
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_context
def run(context: click.Context, /, command: tuple[str, ...], **options: Any) -> None:
    """Run a command on a cluster: biolmm run --cluster local -- gwas …

    The same line serves every rank of an srun step or an Indexed Job: rank 0 is scheduler and driver, the others work.
    SIGTERM and SIGUSR1 stop it at a checkpoint. Exit codes: 0 done, 64 the user's mistake (never try again), 69 a worker
    found no leader, 70 another failure (try again), 75 stopped at a checkpoint (try again), 130 interrupted.
    """
    from biolmm.cluster.exits import RETRY, USER_NEVER_RETRY, for_schedulers

    words = list(command[1:] if command[0] == "--" else command)
    if not words or words[0] in ("run", "worker"):
        _end("UsageError: name a command to run, such as `biolmm run --cluster local -- gwas …`.", USER_NEVER_RETRY)
    flags = ["--debug"] * context.obj["debug"] + ["--quiet"] * (logging.getLogger("biolmm").level > logging.INFO)
    try:
        code = for_schedulers(_run(options, [*flags, *words]))
    except ParameterError as error:
        _end(f"{type(error).__name__}: {error}", USER_NEVER_RETRY)
    except OSError as error:  # ports, certificates, folders
        _end(f"{type(error).__name__}: {' '.join(str(error).split())}", RETRY)
    sys.exit(code)


@cli.command()
@_local
@_network
def worker(**options: Any) -> None:
    """Work for a run on other machines: what the ranks above 0 of `biolmm run` do."""
    from biolmm.cluster.worker import work

    sys.exit(work(_cluster_options(options)))


def cluster_option(command: Command) -> Command:
    """Add `--cluster` and the size of its workers to a command, which then runs on that cluster."""

    @click.option("--cluster", "target", metavar="TARGET", default="threads", show_default=True,
                  help=f"Where to run. {_TARGET_HELP}")  # fmt: skip
    @_local
    @functools.wraps(command)
    def wrapped(*arguments: Any, target: str, **options: Any) -> Any:
        mine = {name: options.pop(name) for name in ("workers", "threads_per_worker", "worker_memory", "spill")}
        from biolmm.cluster.signals import draining

        with draining(), _on(target, mine):
            return command(*arguments, **options)

    return wrapped  # type: ignore[return-value]


@contextmanager
def _on(target: str, given: dict[str, Any], report: Path | None = None) -> Iterator[None]:
    """Be connected to a cluster inside the block, unless the target is this process."""
    from biolmm.cluster.options import check_target

    if check_target(target) in ("threads", "auto"):
        if report is not None:
            raise ParameterError("--performance-report needs a cluster: name one with --cluster.")
        yield
        return
    from biolmm.cluster import connect

    with connect(target, _cluster_options(given)), _reported(report):
        yield


@contextmanager
def _reported(file: Path | None) -> Iterator[None]:
    """Write Dask's performance report of the block."""
    if file is None:
        yield
        return
    from biolmm.cluster.report import performance_report_to

    with performance_report_to(file):
        yield


def _run(options: dict[str, Any], words: list[str]) -> int:
    """Run a command as the rank that this process is; return its exit code as the command line has it."""
    from biolmm.cluster.options import PORT, check_target
    from biolmm.cluster.plan import expected_workers
    from biolmm.cluster.progress import progress_lines
    from biolmm.cluster.ranks import find_rank
    from biolmm.cluster.signals import draining

    target, report = check_target(options.pop("target")), options.pop("performance_report")
    given_rank, seconds = options.pop("rank"), options.pop("progress_seconds")
    rank = find_rank(given=given_rank) if target in ("auto", "slurm", "kubernetes") else None
    if target == "kubernetes" and rank is None:
        raise ParameterError("'kubernetes' is for the pods of an Indexed Job: JOB_COMPLETION_INDEX is not set.")
    if options["stay"] is None:
        options["stay"] = rank is not None and rank.source == "kubernetes"
    if rank is not None and rank.source == "kubernetes" and options["port"] is None:
        options["port"] = PORT  # what network policies let through
    with ExitStack() as stack:
        stack.enter_context(expected_workers(options["workers"], options["threads_per_worker"]))
        if "--plan" in words or "--help" in words:
            return _exit_code(words)
        if rank is not None and not rank.leads:
            from biolmm.cluster.worker import work

            return work(_cluster_options(options))
        if not sys.stderr.isatty():
            stack.enter_context(progress_lines(seconds))
        stack.enter_context(draining())
        if rank is None:
            stack.enter_context(_on(target, options, report))
            return _exit_code(words)
        from biolmm.cluster.leader import lead

        leader = stack.enter_context(lead(_cluster_options(options)))
        stack.enter_context(_reported(report))
        code = _exit_code(words)
        from biolmm.cluster.exits import for_schedulers

        leader.code = for_schedulers(code)
        return code


def _exit_code(words: list[str]) -> int:
    """Run a command in this process and return its exit code."""
    from biolmm.cli.entry import main
    from biolmm.errors import BiolmmError

    try:
        main(words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1 if stop.code else 0
    except BiolmmError as error:  # with --debug
        traceback.print_exc()
        return error.exit_code
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _cluster_options(given: dict[str, Any]) -> ClusterOptions:
    from biolmm.cluster.options import ClusterOptions
    from biolmm.memory import parse_bytes

    taken = {name: value for name, value in given.items() if name in ClusterOptions.__dataclass_fields__}
    taken["stay"] = bool(taken.get("stay"))
    memory = given.get("worker_memory")
    return ClusterOptions(**taken, memory_bytes=None if memory is None else parse_bytes(memory))


def _end(message: str, code: int) -> None:
    click.echo(message, err=True)
    sys.exit(code)
