"""Transforms of traits."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

_TIE_DECIMALS = 9
"""Residuals that agree to this many decimals of their standard deviation are ties, not rounding."""


def rank_inverse_normal(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Transform values to normal scores Φ⁻¹((rank − 3/8) / (n + 1/4)), ties at their mean rank.

    Parameters
    ----------
    values
        Finite numbers, shape (n,).

    Returns
    -------
    NDArray[np.float64]
        Scores in the order of the input, shape (n,); equal values have equal scores.

    References
    ----------
    Blom 1958; McCaw et al. 2020, Biometrics (10.1111/biom.13214) on direct and indirect use.

    Examples
    --------
    >>> rank_inverse_normal(np.array([10.0, 30.0, 20.0])).round(4).tolist()
    [-0.8694, 0.8694, 0.0]
    """
    scores: NDArray[np.float64] = ndtri((pd.Series(values).rank().to_numpy() - 0.375) / (len(values) + 0.25))
    return scores


def residuals(values: NDArray[np.float64], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute y − QQᵀy, twice to be orthogonal to rounding; Q orthonormal, shape (n, n_covariates)."""
    once = values - basis @ (basis.T @ values)
    rest: NDArray[np.float64] = once - basis @ (basis.T @ once)
    return rest


def transform_trait(values: NDArray[np.float64], basis: NDArray[np.float64], transform: str) -> NDArray[np.float64]:
    """Apply one of `TRANSFORMS` to the observed values of one trait."""
    if transform == "rint":
        return rank_inverse_normal(values)
    if transform == "rint-indirect":
        rest = residuals(values, basis)
        rounded: NDArray[np.float64] = np.round(rest / np.sqrt(np.mean(rest * rest)), _TIE_DECIMALS)
        return rank_inverse_normal(rounded)
    return values
