"""`biolmm reanalyse`: a release of an analysis, made from the last one as far as it goes."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from biolmm.cli import analyses
from biolmm.cli.analyses import analysis_config
from biolmm.cli.root import cli
from biolmm.cli.shared import PATH, budget_bytes, print_plans, working
from biolmm.cli.where import cluster_option
from biolmm.errors import ParameterError, named

if TYPE_CHECKING:
    from biolmm.pipeline import AnalysisConfig
    from biolmm.reanalysis.plan import Entry, Plan
    from biolmm.reanalysis.run import Outcome

_ELSEWHERE = "where to run is said on the command line"
_NOT_IN_PLANS = {
    "out": "the releases go below the plan's own `out`",
    "overwrite": "a release is never replaced",
    "plan": "pass --plan to `biolmm reanalyse`",
    "plan-leads": "pass --plan to `biolmm reanalyse`",
    "known-model": "the last release's model is reused by itself",
    "scratch": "releases are local",
    "cluster": _ELSEWHERE,
    "workers": _ELSEWHERE,
    "threads-per-worker": _ELSEWHERE,
    "worker-memory": _ELSEWHERE,
    "spill": _ELSEWHERE,
    "tls-directory": _ELSEWHERE,
}
_PREFIXES = ("ld-scores",)
"""Options that are paths though they name no file."""


@cli.command()
@click.argument("plan_file", metavar="PLAN", type=PATH)
@click.option("--threads", type=int, metavar="N", help="Threads; as the plan says, or every available processor.")
@click.option("--memory", metavar="SIZE", help="Memory budget, such as 4GiB; as the plan says, or by default.")
@click.option("--plan", is_flag=True, help="Say what would be taken over and what computed, and why, and stop.")
@cluster_option
def reanalyse(plan_file: Path, threads: int | None, memory: str | None, plan: bool) -> None:
    """Make the release of an analysis that PLAN (YAML) describes, taking over from the last one what has not changed.

    Exit codes: 0 done, or nothing to do; 65 done but for traits that cannot be analysed, whose reasons are in the report:
    trying again would change nothing; 2 the user's mistake; 73 another reanalysis is running; 75 stopped at a checkpoint, or
    inputs changed meanwhile: the same command continues.
    """
    from biolmm.cluster.exits import PARTIAL
    from biolmm.reanalysis.plan import read_plan
    from biolmm.reanalysis.run import reanalyse as make_release

    found = read_plan(plan_file)
    config = plan_config(found)
    resources = config.resources
    if threads is not None:
        resources = replace(resources, threads=threads)
    if memory is not None:
        resources = replace(resources, memory_bytes=budget_bytes(memory))
    config = replace(config, resources=resources, command=shlex.join(["biolmm", *sys.argv[1:]]))
    if plan:
        _print_prospect(found, config, memory)
        return
    with working():
        outcome = make_release(found, config)
    _print_outcome(outcome)
    if outcome.release.failed:
        sys.exit(PARTIAL)


def plan_config(plan: Plan) -> AnalysisConfig:
    """Turn the options of a plan into a configuration, by the parser of the command that they belong to.

    Raises
    ------
    ParameterError
        When an option is unknown or has a value that cannot be used: naming the file and the line.
    """
    command: click.Command = getattr(analyses, plan.command)
    words = ["--out", str(plan.out)]
    for name, entry in plan.options.items():
        words += _words(plan, command, name, entry)
    try:
        context = command.make_context(plan.command, words)
    except click.UsageError as error:
        parameter = getattr(error, "param", None)
        name = "" if parameter is None else parameter.opts[0].removeprefix("--")
        message = " ".join(error.format_message().split())
        raise ParameterError(
            f"{plan.where(name)}: {message.removesuffix('.')}. The options are those of `biolmm {plan.command} --help`."
        ) from None
    try:
        return analysis_config(context.params)
    except ParameterError as error:
        raise ParameterError(f"'{plan.path}': {error}") from None


def _words(plan: Plan, command: click.Command, name: str, entry: Entry) -> list[str]:
    """Write one option as it is typed."""
    from biolmm.cohort.config import close_match

    if name in _NOT_IN_PLANS:
        raise ParameterError(f"{plan.where(name)}: {name!r} has no place in a plan: {_NOT_IN_PLANS[name]}.")
    options = {
        each.opts[0].removeprefix("--"): each
        for each in command.params
        if isinstance(each, click.Option) and each.opts[0].removeprefix("--") not in _NOT_IN_PLANS
    }
    option = options.get(name)
    if option is None:
        hint = close_match(name, options)
        raise ParameterError(
            f"{plan.where(name)}: `biolmm {plan.command}` has no option {name!r}{hint}: it has {named(options, 40)}."
        )
    if option.is_flag:
        if entry.truth is None:
            raise ParameterError(f"{plan.where(name)}: {name} must be true or false.")
        negative = option.secondary_opts[:1]
        return [option.opts[0]] if entry.truth else [*negative]
    if not entry.words or (len(entry.words) > 1 and not option.multiple):
        wanted = "at least one value" if option.multiple else "one value"
        raise ParameterError(f"{plan.where(name)}: {name} needs {wanted}, and has {len(entry.words):,}.")
    is_path = option.type is PATH or name in _PREFIXES
    values = [plan.resolve(word) if is_path else word for word in entry.words]
    return [word for value in values for word in (option.opts[0], value)]


def _print_prospect(plan: Plan, config: AnalysisConfig, memory: str | None) -> None:
    from biolmm.chunks import threads
    from biolmm.reanalysis.run import describe, foresee, stage_plans

    with threads(config.resources.threads):
        prospect = foresee(plan, config)
        click.echo(describe(prospect, plan.out))
        for piece, plans in [] if prospect.same is not None else stage_plans(prospect):
            if plans:
                click.echo(f"\npiece {piece.name}, without what is reused:")
                print_plans(plans, memory)


def _print_outcome(outcome: Outcome) -> None:
    from collections import Counter

    release = outcome.release
    if not outcome.is_new:
        click.echo(f"nothing to do: nothing has changed since release {release.name}")
    counts = Counter(record.status for record in release.traits.values())
    if outcome.is_new:
        click.echo(
            f"release {release.name}: " + ", ".join(f"{count:,} traits {what}" for what, count in counts.items())
        )
    for name in release.failed:
        click.echo(f"failed: {name}: {release.traits[name].why}")
    click.echo(str(release.path / "changes.md"))
    click.echo(str(release.path / "report.html"))
