"""Trait columns: numbers, finite, varying."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.cohort.config import CohortConfig, select_names
from biolmm.errors import TraitError, named

MISSING_CODE = -9.0
"""PLINK's usual code for a missing value; pointed out where it looks like one, never assumed."""


def non_numbers(column: pd.Series) -> pd.Series:
    """Give the values of a column that are present but not numbers.

    Examples
    --------
    >>> non_numbers(pd.Series({"S1": "1.5", "S2": "tall", "S3": None}, dtype=object)).to_dict()
    {'S2': 'tall'}
    """
    if pd.api.types.is_numeric_dtype(column):
        return column.iloc[:0]
    is_number = pd.to_numeric(column.astype(object), errors="coerce").notna()
    return column[~is_number & column.notna()]


def select_traits(traits: pd.DataFrame, config: CohortConfig, source: str) -> tuple[str, ...]:
    """Give the traits to analyse.

    Raises
    ------
    TraitError
        When there is none, one is unknown, or a value is not a number: named with its sample and column.
    """
    names = select_names(config.trait_names, list(traits.columns), "trait", source, TraitError)
    if not names:
        raise TraitError(f"{source} has no column of traits.")
    for name in names:
        wrong = non_numbers(traits[name])
        if len(wrong):
            value = str(wrong.iloc[0])
            hint = "a decimal comma? Use a point" if "," in value else "use numbers, and NA where missing"
            raise TraitError(
                f"Trait '{name}' in {source} is not numeric: sample '{wrong.index[0]}' has '{value}'"
                f"{_and_more(len(wrong))} ({hint}); or choose other traits by name."
            )
    return names


def trait_matrix(traits: pd.DataFrame, names: tuple[str, ...], source: str) -> NDArray[np.float64]:
    """Read the traits of the cohort as numbers, NaN where missing, shape (n_samples, n_traits).

    Raises
    ------
    TraitError
        When a trait is infinite somewhere, missing everywhere or constant: all such traits are named.
    """
    y = np.column_stack([pd.to_numeric(traits[name]).to_numpy(np.float64, na_value=np.nan) for name in names])
    infinite: list[str] = []
    empty: list[str] = []
    constant: list[str] = []
    for name, column in zip(names, y.T, strict=True):
        values = column[~np.isnan(column)]
        if np.isinf(values).any():
            rows = np.flatnonzero(np.isinf(column))
            infinite.append(f"'{name}' (sample '{traits.index[rows[0]]}' has {column[rows[0]]}{_and_more(len(rows))})")
        elif len(values) == 0:
            empty.append(f"'{name}'")
        elif values.min() == values.max():
            constant.append(f"'{name}' ({len(values):,} times {values[0]:g})")
    if infinite:
        raise TraitError(f"Infinite values in {source}: {named(infinite)}. Write NA where a value is missing.")
    if empty:
        raise TraitError(
            f"No value for {named(empty)} in any of the {len(y):,} analysed samples ({source}): leave it out."
        )
    if constant:
        raise TraitError(f"No variation in {named(constant)} among the analysed samples ({source}): leave it out.")
    return y


def suspect_codes(names: tuple[str, ...], y: NDArray[np.float64]) -> list[str]:
    """Point out traits in which -9 is the only negative value: most likely it means missing."""
    warnings = []
    for name, column in zip(names, y.T, strict=True):
        negative = column[column < 0]
        if len(negative) and (negative == MISSING_CODE).all():
            warnings.append(
                f"Trait '{name}' is -9 for {len(negative):,} of {len(y):,} samples and never negative otherwise. It "
                "was taken as a number; if it means missing, say so with missing_value=-9."
            )
    return warnings


def _and_more(n_found: int) -> str:
    return f", and {n_found - 1:,} more like it" if n_found > 1 else ""
