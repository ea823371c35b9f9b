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
from scipy.stats import chi2

N_DRAWS = 20_000
N_TAIL = 200
"""So many of the largest draws are not resolved one by one."""
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
        The share of draws at least as large; where they are too few, continued by the tail of χ².

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
    largest, rank = _gain(scores, reduced)
    nuisance = ~tested[inside]
    if not nuisance.any():
        # Shares of draws with so many coordinates above zero are the weights of a mixture of χ².
        weights = np.bincount(rank, minlength=len(inside) + 1) / N_DRAWS
        return float(sum(weight * chi2.sf(statistic, df) for df, weight in enumerate(weights) if df))
    ratios = np.sort(largest - _gain(scores[:, nuisance], reduced[np.ix_(nuisance, nuisance)])[0])
    known = float(ratios[-N_TAIL])
    if statistic <= known:
        return float((1 + np.sum(ratios >= statistic)) / (1 + N_DRAWS))
    # Beyond the draws the tail falls as that of χ² with a degree of freedom a tested component.
    df = int(tested.sum())
    return float(N_TAIL / N_DRAWS * np.exp(chi2.logsf(statistic, df) - chi2.logsf(max(known, 0.0), df)))


def _gain(
    scores: NDArray[np.float64], information: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return `max over x ≥ 0 of 2 sᵀx − xᵀ I x` for every row s, and how many coordinates are above zero there.

    The maximum is that without bounds on one of the sets of coordinates, and no other set with a solution inside the bounds
    has more. Beyond `MAX_ENUMERATED` coordinates bounds are ignored, which makes p-values larger than they are.
    """
    k = scores.shape[1]
    best, rank = np.zeros(len(scores)), np.zeros(len(scores), dtype=np.intp)
    sets = product([False, True], repeat=k) if k <= MAX_ENUMERATED else [(True,) * k]
    for each in sets:
        chosen = np.flatnonzero(each)
        if not len(chosen):
            continue
        x = scores[:, chosen] @ np.linalg.pinv(information[np.ix_(chosen, chosen)])
        gain = np.einsum("ij,ij->i", x, scores[:, chosen])
        better = (gain > best) & ((x >= 0).all(axis=1) | (k > MAX_ENUMERATED))
        best[better], rank[better] = gain[better], len(chosen)
    return best, rank
