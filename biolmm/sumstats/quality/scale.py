"""Verdict on the scale of effects: the trait's variance as the standard errors have it, and what a column of N means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from biolmm.report.format import significant
from biolmm.sumstats.quality.config import QualityConfig
from biolmm.sumstats.quality.conventions import NAMES, name_convention
from biolmm.sumstats.quality.levels import BAD, ENOUGH, GOOD, LOOK, NONE, Verdict, level_of
from biolmm.sumstats.quality.study import StudyMeasures

_KEY, _NAME = "scale", "Scale of effects, meaning of N"
_BINARY = "4 (effective N), 2 (half), or above 4 (total) for log odds ratios"


def judge_scale(meta: Mapping[str, Any], found: StudyMeasures, config: QualityConfig) -> Verdict:
    """Judge the scale of one study by itself; see `biolmm/sumstats/quality/conventions.py`."""
    if found.visscher.n < ENOUGH:
        measured = f"{found.visscher.n:,} common variants with SE, frequency and N"
        return Verdict(_KEY, _NAME, NONE, measured, "a known scale", "Nothing to compare.")
    cases = config.cases.get(str(meta.get("name")))
    v = found.visscher.quantile(0.5)
    if meta.get("trait_type") == "binary" or cases is not None:
        return _binary(v, found.n.quantile(0.5), cases)
    measured = f"median 2p(1−p)·N·SE² = {significant(v, 3)}: standard deviation {significant(v**0.5, 3)} of the trait"
    if config.expected_sd is None:
        advice = "1 is a standardised trait; give --expected-sd to hold it against a number."
        return Verdict(_KEY, _NAME, GOOD, measured, "compared between studies below", advice)
    ratio = v**0.5 / config.expected_sd
    level = level_of(abs(float(np.log(ratio))), float(np.log(1.2)), float(np.log(1.5)))
    text = "Nothing to do."
    if level != GOOD:
        text = (
            f"Effects are {significant(ratio)} times as large as expected: another unit of the trait (divide β and SE by "
            f"{significant(ratio)}), or N is off by {significant(ratio**2)}."
        )
    return Verdict(_KEY, _NAME, level, measured, f"standard deviation {config.expected_sd:g}", text)


def _binary(v: float, n: float, cases: tuple[float, float] | None) -> Verdict:
    what = name_convention(v, n, cases)
    measured = f"median 2p(1−p)·N·SE² = {significant(v, 3)}; N = {n:,.0f}"
    if what.name == "linear":
        text = (
            "Effects are of a linear model of 0/1, not log odds ratios: divide β and SE by φ(1−φ), φ the share of cases, or "
            "combine by p-values."
        )
        return Verdict(_KEY, _NAME, BAD, measured, _BINARY, text)
    measured += f", effective N by the standard errors {what.effective_n:,.0f}"
    if what.name == "none":
        text = "N fits none of the conventions: it, or SE, is of something else. Give --n."
        return Verdict(_KEY, _NAME, BAD, measured, _BINARY, text)
    if cases is not None:
        true = 4 / (1 / cases[0] + 1 / cases[1])
        if abs(what.effective_n / true - 1) > 0.3:
            text = f"Standard errors are those of an effective N of {what.effective_n:,.0f}, but "
            text += f"cases and controls make {true:,.0f}."
            return Verdict(_KEY, _NAME, BAD, measured, _BINARY, text)
    share = "" if what.case_share is None else f", {what.case_share:.1%} cases"
    measured += f"; N is {NAMES[what.name]}{share}"
    if what.name == "effective":
        return Verdict(_KEY, _NAME, GOOD, measured, _BINARY, "Nothing to do.")
    text = (
        f"Where weights are N, give the effective N, {what.effective_n:,.0f} (--n when adding): studies must not mix "
        "conventions."
    )
    return Verdict(_KEY, _NAME, LOOK, measured, _BINARY, text)
