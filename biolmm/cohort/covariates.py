"""Covariate columns: numbers as they are, categories as indicators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.cohort.config import CohortConfig, select_names
from biolmm.cohort.traits import non_numbers
from biolmm.errors import CovariateError, named


@dataclass(frozen=True, eq=False)
class Design:
    """Covariates of the cohort, categories expanded, before collinear columns are dropped."""

    names: tuple[str, ...]
    columns: NDArray[np.float64]
    levels: dict[str, Any]


def select_covariates(covariates: pd.DataFrame, config: CohortConfig, source: str) -> dict[str, bool]:
    """Decide which covariates are used and which of them are categorical: `{name: is_categorical}`.

    Raises
    ------
    CovariateError
        When one is unknown, or is text although most of its values are numbers (a slip, not categories).
    """
    available = list(covariates.columns)
    names = select_names(config.covariate_names, available, "covariate", source, CovariateError)
    categorical = select_names(config.categorical, available, "categorical covariate", source, CovariateError)
    unused = [name for name in categorical if name not in names]
    if unused:
        raise CovariateError(f"Categorical covariates {named(unused)} are not among the covariates used: add them.")
    return {name: name in categorical or _is_text(covariates[name], name, source) for name in names}


def _is_text(column: pd.Series, name: str, source: str) -> bool:
    """Whether a column holds categories."""
    wrong = non_numbers(column)
    n_present = int(column.notna().sum())
    if 0 < len(wrong) < n_present / 2:
        raise CovariateError(
            f"Covariate '{name}' in {source} is a number for {n_present - len(wrong):,} of {n_present:,} samples, but "
            f"sample '{wrong.index[0]}' has '{wrong.iloc[0]}'. Mend it (NA where missing), or name it as categorical."
        )
    return len(wrong) > 0


def complete_samples(covariates: pd.DataFrame, names: Sequence[str], source: str) -> NDArray[np.bool_]:
    """Say which samples have every covariate.

    Raises
    ------
    CovariateError
        When no sample has one of them, or none has all.
    """
    missing = covariates[list(names)].isna()
    empty = [f"'{name}'" for name in names if missing[name].all()]
    if empty:
        raise CovariateError(
            f"No value for covariate {named(empty)} in any of the {len(covariates):,} samples ({source}): leave it out."
        )
    complete: NDArray[np.bool_] = np.logical_not(missing.to_numpy(np.bool_).any(axis=1))
    if not complete.any():
        counts = named(f"'{name}' ({int(missing[name].sum()):,})" for name in names if missing[name].any())
        raise CovariateError(
            f"No sample of {len(covariates):,} has all covariates ({source}); missing: {counts}. Leave some out."
        )
    return complete


def build_design(covariates: pd.DataFrame, kinds: dict[str, bool], config: CohortConfig, source: str) -> Design:
    """Expand complete covariates to columns of numbers.

    A category becomes an indicator `name=level`; the most frequent one is the reference and has none.

    Raises
    ------
    CovariateError
        When a value is infinite, a covariate has more categories than `config.max_categories`, or names clash.
    """
    names: list[str] = []
    columns: list[NDArray[np.float64]] = []
    levels: dict[str, Any] = {}
    for name, is_categorical in kinds.items():
        if is_categorical:
            level_of = _levels(covariates[name])
            counts = _count_levels(level_of, name, config.max_categories, source)
            reference = max(counts, key=lambda level: counts[level])
            levels[name] = {"reference": reference, "n": counts}
            others = [level for level in counts if level != reference]
            # A single category is kept as a constant column, so that it is dropped and named like any other.
            names += [f"{name}={level}" for level in others] or [name]
            columns += [(level_of == level).astype(np.float64) for level in others] or [np.ones(len(level_of))]
        else:
            names.append(name)
            columns.append(_numbers(covariates[name], name, source))
    if len(set(names)) < len(names):
        raise CovariateError(f"Covariate names clash once categories are expanded: {named(names)}. Rename a column.")
    return Design(tuple(names), np.column_stack(columns), levels)


def _numbers(column: pd.Series, name: str, source: str) -> NDArray[np.float64]:
    """Read one numeric covariate."""
    values = pd.to_numeric(column).to_numpy(np.float64)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise CovariateError(
            f"Covariate '{name}' in {source} is infinite for {len(infinite):,} of {len(values):,} samples, the "
            f"first '{column.index[infinite[0]]}'. Write NA where a value is missing."
        )
    return np.asarray(values)


def _levels(column: pd.Series) -> NDArray[np.object_]:
    """Spell categories as text; whole numbers without a decimal point."""
    if pd.api.types.is_numeric_dtype(column):
        spelled = [repr(float(value)).removesuffix(".0") for value in column]
    else:
        spelled = [str(value) for value in column]
    return np.array(spelled, dtype=object)


def _count_levels(level_of: NDArray[np.object_], name: str, max_categories: int, source: str) -> dict[str, int]:
    """Count each category, in the order of the alphabet, numbers by size."""
    found, n_found = np.unique(level_of.astype(str), return_counts=True)
    if len(found) > max_categories:
        raise CovariateError(
            f"Covariate '{name}' in {source} has {len(found):,} categories, more than {max_categories}: "
            f"{named(found)}. Group them or leave it out (in Python, max_categories can be raised)."
        )
    counts = {str(level): int(n) for level, n in zip(found, n_found, strict=True)}
    return {level: counts[level] for level in sorted(counts, key=_order)}


def _order(level: str) -> tuple[int, float, str]:
    """Sort numbers by size, before text."""
    try:
        return (0, float(level), level)
    except ValueError:
        return (1, 0.0, level)
