"""`biolmm run` and `biolmm worker`."""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import ExitStack
from typing import Any

import click

from biolmm.cli.options import together
from biolmm.cli.root import cli
from biolmm.cli.where import (
    ADDRESSES,
    FOLDER,
    cluster_options,
    connected,
    expected,
    local_options,
    reported,
    tls_option,
)
from biolmm.errors import ParameterError

_target = click.option("--cluster", "target", metavar="TARGET", default="auto", show_default=True,
                       help="Where to run. local: processes on this machine; slurm: this srun step, or jobs through "
                       f"dask-jobqueue; kubernetes: this Indexed Job; {ADDRESSES} auto: the ranks of this step or Job, else "
                       "threads.")  # fmt: skip
_network = together(
    click.option("--run-directory", type=FOLDER, metavar="FOLDER",
                 help="Shared folder of this run, private to the user: certificates, and where the leader is."),
    click.option("--leader", metavar="HOST[:PORT]", help="The leader's name, where the ranks share no folder."),
    click.option("--host", metavar="ADDRESS", help="Address to listen on; by default that of the default route."),
    click.option("--interface", metavar="NAME", help="Network interface to listen on, such as ib0."),
    tls_option,
    click.option("--insecure", is_flag=True, help="Allow addresses beyond this machine without TLS."),
    click.option("--leader-timeout", type=float, metavar="SECONDS", default=900.0, show_default=True,
                 help="A worker that finds no leader for so long exits with 69."),
    click.option("--stay/--no-stay", default=None,
                 help="Whether workers wait for another leader after one that failed or stopped; by default on Kubernetes."),
)  # fmt: skip


@cli.command(cls=click.Command, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_target
@local_options
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


@cli.command(cls=click.Command)
@local_options
@_network
def worker(**options: Any) -> None:
    """Work for a run on other machines: what the ranks above 0 of `biolmm run` do."""
    from biolmm.cluster.worker import work

    sys.exit(work(cluster_options(options)))


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
        stack.enter_context(expected_workers(*expected(target, options)))
        if "--plan" in words or "--help" in words:
            return _exit_code(words)
        if rank is not None and not rank.leads:
            from biolmm.cluster.worker import work

            return work(cluster_options(options))
        if not sys.stderr.isatty():
            stack.enter_context(progress_lines(seconds))
        stack.enter_context(draining())
        if rank is None:
            stack.enter_context(connected(target, options, report))
            return _exit_code(words)
        from biolmm.cluster.leader import lead

        leader = stack.enter_context(lead(cluster_options(options)))
        stack.enter_context(reported(report))
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


def _end(message: str, code: int) -> None:
    click.echo(message, err=True)
    sys.exit(code)
