"""The block jackknife: standard errors from estimates without each block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

N_BLOCKS = 200


def pseudovalues(estimate: Matrix, deleted: Matrix) -> Matrix:
    """Compute `B θ − (B − 1) θ₋b`, (B, k), from the estimate (k,) and those without each block (B, k)."""
    B = len(deleted)
    return np.asarray(B * estimate - (B - 1) * deleted)


def covariance(estimate: Matrix, deleted: Matrix) -> Matrix:
    """Estimate the covariance (k, k) of k estimates: that of the pseudovalues, over the number of blocks.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 4.0, 5.0])
    >>> deleted = (x.sum() - x)[:, None] / 3
    >>> bool(np.isclose(covariance(np.array([x.mean()]), deleted)[0, 0], x.var(ddof=1) / 4))
    True
    """
    values = pseudovalues(estimate, deleted)
    return np.atleast_2d(np.cov(values, rowvar=False, ddof=1)) / len(deleted)


def standard_error(estimate: float, deleted: Vector) -> float:
    """Estimate the standard error of one estimate."""
    return float(np.sqrt(covariance(np.array([estimate]), deleted[:, None])[0, 0]))


@dataclass(frozen=True)
class Ratio:
    """A ratio of estimates and its standard error."""

    value: float
    se: float


def ratio_jackknife(numerator: float, denominator: float, deleted: Vector, deleted_denominator: Vector) -> Ratio:
    """Estimate a ratio and its standard error by the jackknife; NaN where a denominator is not above 0."""
    if not denominator > 0 or not (deleted_denominator > 0).all():
        return Ratio(numerator / denominator if denominator > 0 else np.nan, np.nan)
    value = numerator / denominator
    return Ratio(value, standard_error(value, deleted / deleted_denominator))
