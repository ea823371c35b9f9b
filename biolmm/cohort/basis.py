"""Orthonormal bases of covariates, by a factorisation that keeps the order and reveals the rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

COLLINEAR = 1e-6
"""A column of which less than this fraction is left after the earlier ones adds nothing but rounding of its digits."""

CONSTANT = 64 * float(np.finfo(np.float64).eps)
"""A column whose standard deviation is less than this fraction of its largest value varies by rounding only."""


@dataclass(frozen=True, eq=False)
class Basis:
    """Q with orthonormal columns spanning 1 and the columns kept; why each other column was dropped."""

    Q: NDArray[np.float64]
    kept: tuple[int, ...]
    dropped: dict[int, str]


def orthonormal_basis(columns: NDArray[np.float64], names: tuple[str, ...]) -> Basis:
    """Compute Q with QᵀQ = I and range(Q) = range([1, columns]), dropping columns that add nothing.

    Gram–Schmidt with a second sweep in the order of the columns: of two collinear columns the later one goes.

    Parameters
    ----------
    columns
        Finite numbers, shape (n, k), n ≥ 1; any scale.
    names
        Of the k columns, for the reasons.

    Returns
    -------
    Basis
        Q of shape (n, 1 + kept), the indices kept, and the reason for each index dropped.

    Notes
    -----
    **Cost**: 8·n·k² flop; holds the columns and Q.

    References
    ----------
    Giraud, Langou & Rozložník 2005 (10.1016/j.camwa.2005.08.009): twice is enough.

    Examples
    --------
    >>> basis = orthonormal_basis(np.array([[1.0, 2, 5], [2, 4, 5], [4, 8, 5]]), ("age", "months", "site"))
    >>> basis.kept, basis.dropped
    ((0,), {1: 'linear combination of age', 2: 'constant'})
    """
    n_rows, n_columns = columns.shape
    Q = np.empty((n_rows, min(n_columns + 1, n_rows)), dtype=np.float64, order="F")
    R = np.zeros((Q.shape[1], Q.shape[1]))
    Q[:, 0] = 1 / np.sqrt(n_rows)
    R[0, 0] = np.sqrt(n_rows)
    kept: list[int] = []
    dropped: dict[int, str] = {}
    for index in range(n_columns):
        centred, scale = standardise(columns[:, index])
        if scale == 0.0:
            dropped[index] = "constant"
            continue
        n_done = len(kept) + 1
        done = Q[:, :n_done]
        unit = centred / np.linalg.norm(centred)
        once = done.T @ unit
        rest = unit - done @ once
        twice = done.T @ rest
        rest -= done @ twice
        norm = float(np.linalg.norm(rest))
        if norm < max(COLLINEAR, 16 * _rounding(columns[:, index], scale)) or n_done == Q.shape[1]:
            dropped[index] = _reason(R[:n_done, :n_done], once + twice, ["", *(names[k] for k in kept)])
            continue
        Q[:, n_done] = _polish(rest / norm, done)
        R[:n_done, n_done] = once + twice
        R[n_done, n_done] = norm
        kept.append(index)
    return Basis(np.ascontiguousarray(Q[:, : len(kept) + 1]), tuple(kept), dropped)


def _rounding(column: NDArray[np.float64], deviation: float) -> float:
    """Bound the rounding of a column's values, in standard deviations: an offset costs digits."""
    return float(np.finfo(np.float64).eps * np.max(np.abs(column)) / deviation)


def standardise(column: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Compute (x − mean) / s.d. and the s.d.; a column constant to rounding gives zeros and 0.

    Examples
    --------
    >>> standardise(np.array([1.0, 3.0]))
    (array([-1.,  1.]), 1.0)
    """
    largest = float(np.max(np.abs(column)))
    if float(np.min(column)) == float(np.max(column)):
        return np.zeros_like(column), 0.0
    scaled = column / largest  # no overflow in the squares, whatever the unit
    scaled = scaled - scaled.mean()
    scaled -= scaled.mean()
    deviation = float(np.sqrt(np.mean(scaled * scaled)))
    if deviation < CONSTANT:
        return np.zeros_like(column), 0.0
    return scaled / deviation, deviation * largest


def _polish(unit: NDArray[np.float64], done: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project once more: after a long subtraction the rounding of the rest is what is left of the earlier columns."""
    rest: NDArray[np.float64] = unit - done @ (done.T @ unit)
    return rest / np.linalg.norm(rest)


def _reason(R: NDArray[np.float64], coordinates: NDArray[np.float64], names: list[str]) -> str:
    """Name the earlier columns that, with the intercept (which has no name here), add up to a dropped one."""
    coefficients = np.abs(solve_triangular(R, coordinates))
    sizes = coefficients * np.linalg.norm(R, axis=0)
    involved = [name for name, size in zip(names, sizes, strict=True) if size > 1e-4 * sizes.max() and name]
    more = f" and {len(involved) - 5:,} more" if len(involved) > 5 else ""
    return f"linear combination of {', '.join(involved[:5])}{more}"
