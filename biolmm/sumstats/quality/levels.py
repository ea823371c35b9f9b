"""Verdicts: good, look or bad, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from biolmm.report.format import significant

GOOD, LOOK, BAD, NONE = "good", "look", "bad", "none"
LEVELS = (NONE, GOOD, LOOK, BAD)

ENOUGH = 200
"""Variants that a verdict on a distribution needs."""


@dataclass(frozen=True)
class Verdict:
    """One check: what was measured, what is wanted, how it came out, and what to do.

    Attributes
    ----------
    key
        Name for programs, `p_z`.
    level
        `good`, `look`, `bad`, or `none` where there is nothing to judge by.
    """

    key: str
    name: str
    level: str
    measured: str
    wanted: str
    text: str


def worst(verdicts: list[Verdict]) -> str:
    """Give the worst level.

    Examples
    --------
    >>> worst([Verdict("a", "A", "good", "", "", ""), Verdict("b", "B", "look", "", "", "")])
    'look'
    """
    return max((verdict.level for verdict in verdicts), key=LEVELS.index, default=NONE)


def level_of(value: float, good: float, look: float) -> str:
    """Give the level of a value that should be small; NaN is none."""
    if np.isnan(value):
        return NONE
    return GOOD if value <= good else LOOK if value <= look else BAD


def percent(part: float, whole: float) -> str:
    """Write a share."""
    return f"{significant(100 * part / whole)} %" if whole else "–"
