"""What several commands do: show progress, read sizes and numbers, print plans."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from biolmm.errors import ParameterError

if TYPE_CHECKING:
    from biolmm.memory import StagePlan

PATH = click.Path(path_type=Path)


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


def print_plans(plans: list[StagePlan], memory: str | None) -> None:
    """Print every stage, then refuse what does not fit."""
    from biolmm.cli_text import plan_text

    click.echo(plan_text(plans))
    for plan in plans:
        plan.check(budget_bytes(memory))
