"""What several commands do: show progress, read sizes and numbers, print plans."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biolmm.errors import ParameterError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from biolmm.cluster.cost import Machine
    from biolmm.memory import StagePlan
    from biolmm.store.data import GenotypeData


class _Place(click.ParamType):  # type: ignore[type-arg]
    """A local path, or a URL of an object store."""

    name = "path"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Read what the user wrote."""
        from biolmm.places import place

        return place(value)


PATH = _Place()


@contextmanager
def working() -> Iterator[None]:
    """Show progress while the block runs, on a terminal; plain log lines elsewhere."""
    logger = logging.getLogger("biolmm")
    if not sys.stderr.isatty() or logger.level > logging.INFO:
        yield
        return
    from biolmm.terminal import shown_progress

    plain, logger.handlers[:] = list(logger.handlers), []
    try:
        with shown_progress(logger):
            yield
    finally:
        logger.handlers[:] = plain


def budget_bytes(text: str | None) -> int:
    """Read `--memory`; three quarters of what is free by default."""
    from biolmm.memory import default_budget_bytes, parse_bytes

    return default_budget_bytes() if text is None else parse_bytes(text)


def numbers(text: str, name: str) -> float | tuple[float, ...]:
    """Read one number, or several with commas between them.

    Raises
    ------
    ParameterError
        When one is no number.
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ParameterError(f"--{name} {text!r} is not a number or a list of numbers such as 0.2,0.5.") from error
    return values[0] if len(values) == 1 else values


def open_genotypes(paths: tuple[Path, ...], options: dict[str, Any]) -> GenotypeData:
    """Open a store, or files with the options of `reading`."""
    from biolmm.pipeline import Inputs
    from biolmm.pipeline.genotypes import open_data

    taken = {name: options[name] for name in ("sample_file", "encoding", "samples")}
    return open_data(paths, Inputs(genotypes=paths, **taken))


def listed_samples(data: GenotypeData, options: dict[str, Any]) -> NDArray[np.int64]:
    """Return the indices of the samples that `--keep` and `--remove` leave."""
    import numpy

    from biolmm.cohort.samples import all_samples, apply_lists
    from biolmm.files.lists import read_id_list

    keep, remove = (read_id_list(options[name]) if options[name] else None for name in ("keep", "remove"))
    return numpy.flatnonzero(apply_lists(all_samples(data.sample_id), keep, remove).kept)


def check_files(data: GenotypeData) -> None:
    """Refuse results of files that were changed while they were read."""
    from biolmm.store.collection import Collection
    from biolmm.store.convert import check_unchanged

    if isinstance(data, Collection):
        check_unchanged(data)


def print_plans(
    plans: list[StagePlan], memory: str | None, machine: Machine | None = None, threads: int | None = None
) -> None:
    """Print every stage, its time where the rates of a machine are given, then refuse what does not fit."""
    from biolmm.cli_text import plan_text

    click.echo(plan_text(plans))
    if machine is not None:
        from biolmm.chunks import n_threads
        from biolmm.cluster.plan import threads_text, workers_text

        click.echo(workers_text(plans, machine) or threads_text(plans, machine, threads or n_threads()))
    else:
        shares = sys.modules.get("biolmm.cluster.plan")  # loaded by `biolmm run`
        if shares is not None and (text := shares.workers_text(plans)):
            click.echo(text)
    for plan in plans:
        plan.check(budget_bytes(memory))
