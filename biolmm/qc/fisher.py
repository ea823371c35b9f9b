"""Fisher's exact test for many 2 × 2 tables: are genotypes missing in one group more often than in another?"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_TIE = 1e-11
"""Relative difference below which two probabilities are equal: beyond the rounding of 10⁵ steps of the recurrence."""


def missing_p(missing: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Test whether genotypes are missing as often in two groups: two-sided p of Fisher's exact test.

    With m missing in n₁ + n₂ samples, P(k) ∝ C(n₁, k) C(n₂, m − k) is the probability that k of them are in the first
    group, and p adds up all P(k) that are at most P(observed).

    Parameters
    ----------
    missing
        (b, 2) Samples of each group without a genotype.
    size
        Samples in each group.

    Returns
    -------
    (b,) p-values; 1 where nothing is missing, NaN where a group is empty, 0 where p underflows.

    Notes
    -----
    **Cost** O(|observed − expected| + √m) steps a variant.

    Examples
    --------
    >>> missing_p(np.array([[2, 0], [0, 0]]), (2, 2)).round(12).tolist()
    [0.333333333333, 1.0]
    """
    p = np.full(len(missing), np.nan)
    if min(size) > 0:
        _fisher(np.ascontiguousarray(missing, np.int64), float(size[0]), float(size[1]), p)
    return p


@numba.njit(nogil=True, cache=True)
def _fisher(missing, n_first, n_second, p):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(len(p)):
        tail, more = 1.0, 0.0  # in units of P(observed)
        for up in (True, False):
            a, b = float(missing[i, 0]), float(missing[i, 1])
            term = 1.0
            while True:
                if up:
                    ratio = (n_first - a) * b / ((a + 1.0) * (n_second - b + 1.0))
                    a, b = a + 1.0, b - 1.0
                else:
                    ratio = a * (n_second - b) / ((n_first - a + 1.0) * (b + 1.0))
                    a, b = a - 1.0, b + 1.0
                term *= ratio
                if ratio == 0.0 or np.isinf(term):
                    break
                if term > 1.0 + _TIE:
                    more += term
                else:
                    tail += term
                    if term < 1e-17 * (1.0 - ratio):  # the terms left are less than a geometric series
                        break
            if np.isinf(term):
                more = term
        p[i] = tail / (tail + more)
