"""p-values of likelihood ratios where parameters lie on the boundary of what is possible.

Self & Liang 1987 (doi 10.2307/2289471): under the null hypothesis the ratio is distributed as the difference of squared
distances of a normal vector from two cones. For one component with every other above zero that is ½χ²₀ + ½χ²₁; otherwise it
is drawn.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.optimize import nnls
from scipy.special import log_ndtr
from scipy.stats import chi2

N_DRAWS = 20_000
N_DRAWS_SOLVED = 8_000
"""Where every draw is a problem of its own."""
TAIL = 100
"""The largest of so many draws are not resolved one by one."""
MAX_ENUMERATED = 8
"""Up to here all sets of coordinates above zero are tried, for all draws at once."""
RIDGE = 1e-10
"""Keeps a singular information solvable; the information has diagonal 1."""


def half_mixture_p(statistic: float) -> float:
    """Return the p-value against ½χ²₀ + ½χ²₁; 1 for a ratio of 0.

    Examples
    --------
    >>> round(half_mixture_p(2.706), 3), half_mixture_p(0.0)
    (0.05, 1.0)
    """
    return float(np.exp(log_ndtr(-np.sqrt(statistic)))) if statistic > 0 else 1.0


def cone_p(
    statistic: float,
    information: NDArray[np.float64],
    tested: NDArray[np.bool_],
    at_bound: NDArray[np.bool_],
    seed: int = 0,
) -> float:
    """Return the p-value of several components being zero at once, or of one beside others that are at zero.

    Parameters
    ----------
    statistic
        Twice the difference of log-likelihoods.
    information
        (q, q) of all components, under the null hypothesis.
    tested
        (q,) which are zero under it.
    at_bound
        (q,) which of the others are at zero too.
    seed
        Of the draws.

    Returns
    -------
    float
        The share of draws at least as large; where they are too few, continued by the tail of a mixture of χ².

    Notes
    -----
    **Cost**: below a second up to `MAX_ENUMERATED` bounded components; beyond, `N_DRAWS_SOLVED` (twice, where others are
    at zero) least-squares problems with x ≥ 0, half a second for 20.

    **Randomness**: a function of the seed; within a tenth or so of itself.

    Examples
    --------
    Two independent components: ¼χ²₀ + ½χ²₁ + ¼χ²₂.

    >>> both = np.array([True, True])
    >>> p = cone_p(2.0, np.eye(2), both, ~both)
    >>> abs(p - (0.5 * 0.1573 + 0.25 * 0.3679)) < 0.01
    True
    """
    if statistic <= 0:
        return 1.0
    bounded = tested | at_bound
    if tested.sum() == 1 and not at_bound.any():
        return half_mixture_p(statistic)
    # What the free components can take up leaves the information on the bounded ones by its Schur complement.
    inside, outside = np.flatnonzero(bounded), np.flatnonzero(~bounded)
    reduced = information[np.ix_(inside, inside)].copy()
    if len(outside):
        cross = information[np.ix_(inside, outside)]
        reduced -= cross @ np.linalg.pinv(information[np.ix_(outside, outside)]) @ cross.T
    scale = np.sqrt(np.maximum(np.diag(reduced), 1e-300))
    reduced = reduced / np.outer(scale, scale)
    values, vectors = np.linalg.eigh(reduced)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    reduced = root @ root.T  # without what rounding put below zero
    n_draws = N_DRAWS if len(inside) <= MAX_ENUMERATED else N_DRAWS_SOLVED
    scores = np.random.default_rng(seed).standard_normal((n_draws, len(inside))) @ root.T
    largest, rank = _gain(scores, reduced)
    nuisance = ~tested[inside]
    if not nuisance.any():
        return _mixture_p(statistic, rank)
    taken, nuisance_rank = _gain(scores[:, nuisance], reduced[np.ix_(nuisance, nuisance)])
    ratios = np.sort(largest - taken)
    n_tail = n_draws // TAIL
    known = float(ratios[-n_tail])
    if statistic <= known:
        return float((1 + np.sum(ratios >= statistic)) / (1 + n_draws))
    # Beyond the draws the tail falls as the mixture that it is where the two are independent.
    more = np.clip(rank - nuisance_rank, 0, tested.sum())
    more = more if more.any() else np.full(n_draws, tested.sum())
    return n_tail / n_draws * _mixture_p(statistic, more) / _mixture_p(max(known, 0.0), more)


def _mixture_p(statistic: float, df: NDArray[np.intp]) -> float:
    """Return the p-value against a mixture of χ², one of these degrees of freedom a draw; χ²₀ is zero."""
    weights = np.bincount(df) / len(df)
    return float(sum(weight * chi2.sf(statistic, k) for k, weight in enumerate(weights) if k))


def _gain(
    scores: NDArray[np.float64], information: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return `max over x ≥ 0 of 2 sᵀx − xᵀ I x` for every row s, and how many coordinates are above zero there.

    The maximum is that without bounds on one of the sets of coordinates, and no other set with a solution inside the bounds
    has more. Beyond `MAX_ENUMERATED` coordinates there are too many sets, and each row is solved by itself.
    """
    k = scores.shape[1]
    if k > MAX_ENUMERATED:
        return _gain_by_row(scores, information)
    best, rank = np.zeros(len(scores)), np.zeros(len(scores), dtype=np.intp)
    for each in product([False, True], repeat=k):
        chosen = np.flatnonzero(each)
        if not len(chosen):
            continue
        x = scores[:, chosen] @ np.linalg.pinv(information[np.ix_(chosen, chosen)])
        gain = np.einsum("ij,ij->i", x, scores[:, chosen])
        better = (gain > best) & (x >= 0).all(axis=1)
        best[better], rank[better] = gain[better], len(chosen)
    return best, rank


def _gain_by_row(
    scores: NDArray[np.float64], information: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return what `_gain` does by the active sets of Lawson & Hanson: ‖Lᵀx − L⁻¹s‖² is least where the gain is largest."""
    k = scores.shape[1]
    L = np.linalg.cholesky(information + RIDGE * np.eye(k))
    whitened = solve_triangular(L, scores.T, lower=True).T
    x = np.stack([nnls(L.T, row, maxiter=50 * k)[0] for row in whitened])
    gain = np.einsum("ij,ij->i", x, 2 * scores - x @ information)
    return np.maximum(gain, 0.0), (x > 0).sum(axis=1)
