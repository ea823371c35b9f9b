"""p-values of likelihood ratios where parameters lie on the boundary of what is possible.

Self & Liang 1987 (doi 10.2307/2289471): under the null hypothesis the ratio is distributed as the difference of squared
distances of a normal vector from two cones. For one component with every other above zero that is ½χ²₀ + ½χ²₁; otherwise it
is drawn.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

N_DRAWS = 20_000
MAX_ENUMERATED = 10


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
        (1 + draws at least as large) / (1 + draws); never below 1 / (1 + N_DRAWS).

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
    scores = np.random.default_rng(seed).standard_normal((N_DRAWS, len(inside))) @ root.T
    largest = _gain(scores, reduced)
    nuisance = ~tested[inside]
    within_null = _gain(scores[:, nuisance], reduced[np.ix_(nuisance, nuisance)]) if nuisance.any() else 0.0
    return float((1 + np.sum(largest - within_null >= statistic)) / (1 + N_DRAWS))


def _gain(scores: NDArray[np.float64], information: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `max over x ≥ 0 of 2 sᵀx − xᵀ I x` for every row s: the best over all sets of positive coordinates."""
    k = scores.shape[1]
    best = np.zeros(len(scores))
    sets = product([False, True], repeat=k) if k <= MAX_ENUMERATED else [np.ones(k, dtype=bool)]
    for each in sets:
        chosen = np.flatnonzero(each)
        if not len(chosen):
            continue
        x = scores[:, chosen] @ np.linalg.pinv(information[np.ix_(chosen, chosen)])
        gain = np.einsum("ij,ij->i", x, scores[:, chosen])
        # Beyond so many coordinates the bounds are ignored, which makes the p-value larger than it is.
        possible = (x >= 0).all(axis=1) if k <= MAX_ENUMERATED else np.ones(len(scores), dtype=bool)
        best = np.where(possible, np.maximum(best, gain), best)
    return best
