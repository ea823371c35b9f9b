"""The exact test of Hardy–Weinberg proportions, for many variants at a time.

Given n genotypes with r copies of the rarer allele, the number of heterozygotes H has

    P(h) ∝ 2^h / (a! h! c!),    a = (r − h)/2,  c = (2n − r − h)/2,    P(h + 2) / P(h) = 4 a c / ((h + 2)(h + 1)),

a log-concave distribution over h ≡ r (mod 2) (Wigginton, Cutler & Abecasis 2005, 10.1086/429864). The p-value is the
probability of all h that are no more probable than the one observed; the mid-p value counts those exactly as probable,
the observed one included, by half, and keeps its level on average (Graffelman & Moreno 2013, 10.1515/sagmb-2012-0039).
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from biolmm.errors import ParameterError

_TIE = 1e-11
"""Relative difference below which two probabilities are equal: beyond the rounding of 10⁵ steps of the recurrence."""

_SCALE = 2.0**800
"""Probabilities relative to the observed one are kept below this and the factors that were taken out counted."""


def hwe_exact_p(
    n_hom_ref: ArrayLike, n_het: ArrayLike, n_hom_alt: ArrayLike, *, midp: bool = True
) -> NDArray[np.float64]:
    """Test Hardy–Weinberg proportions exactly from counts of genotypes.

    Parameters
    ----------
    n_hom_ref, n_het, n_hom_alt
        Counts of diploid genotypes, of one shape; the two homozygotes may be swapped.
    midp
        Count genotypes exactly as probable as the observed ones by half.

    Returns
    -------
    p-values of the same shape; 1 (mid-p: 0.5) without variation, NaN without genotypes, 0 below 10⁻³⁰⁷
    (`hwe_exact_neg_log_10_p` has no such limit).

    Raises
    ------
    ParameterError
        When a count is negative or the shapes differ.

    Notes
    -----
    **Cost** O(|observed − expected| + √n) steps a variant, as terms are added outwards until the rest cannot matter.

    Examples
    --------
    Three people and two copies of the allele: one heterozygous pair has P = 4/5, one homozygote 1/5.

    >>> hwe_exact_p([2, 1], [0, 2], [1, 0], midp=False).round(12).tolist()
    [0.2, 1.0]
    >>> hwe_exact_p([2, 1], [0, 2], [1, 0]).round(12).tolist()
    [0.1, 0.6]
    """
    return _test(n_hom_ref, n_het, n_hom_alt, midp)[0]


def hwe_exact_neg_log_10_p(
    n_hom_ref: ArrayLike, n_het: ArrayLike, n_hom_alt: ArrayLike, *, midp: bool = True
) -> NDArray[np.float64]:
    """Test as `hwe_exact_p`, on a scale on which no p-value is too small to be told: −log₁₀ p.

    Examples
    --------
    >>> hwe_exact_neg_log_10_p([250_000], [0], [250_000]).round(1).tolist()
    [150515.1]
    """
    return _test(n_hom_ref, n_het, n_hom_alt, midp)[1]


def _test(
    n_hom_ref: ArrayLike, n_het: ArrayLike, n_hom_alt: ArrayLike, midp: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return p and −log₁₀ p."""
    hom_ref, het, hom_alt = counts = [np.asarray(each).astype(np.int64) for each in (n_hom_ref, n_het, n_hom_alt)]
    shapes = {each.shape for each in counts}
    if len(shapes) > 1:
        raise ParameterError(f"Counts of genotypes have shapes {shapes} but must have the same one.")
    lowest = min((int(each.min()) for each in counts if each.size), default=0)
    if lowest < 0:
        raise ParameterError(f"A count of genotypes is {lowest} but must be at least 0.")
    p, neg_log = np.empty((2, het.size))
    _exact(hom_ref.ravel(), het.ravel(), hom_alt.ravel(), midp, p, neg_log)
    return p.reshape(het.shape), neg_log.reshape(het.shape)


@numba.njit(nogil=True, cache=True)
def _exact(hom_ref, het, hom_alt, midp, p, neg_log):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(len(het)):
        if hom_ref[i] + het[i] + hom_alt[i] == 0:
            p[i] = neg_log[i] = np.nan
            continue
        rare, common = min(hom_ref[i], hom_alt[i]), max(hom_ref[i], hom_alt[i])
        # In units of P(observed): what is less probable, as probable, and more probable (that times _SCALE^power).
        less_up, tied_up, more_up, power_up = _walk(float(rare), float(het[i]), float(common), True)
        less_down, tied_down, more_down, power_down = _walk(float(rare), float(het[i]), float(common), False)
        tied = 1.0 + tied_up + tied_down
        tail = less_up + less_down + (0.5 * tied if midp else tied)
        rest = 0.5 * tied if midp else 0.0
        power = max(power_up, power_down)  # the mode is on one side only: nothing is more probable on the other
        if power == 0:
            p[i] = tail / (tail + rest + more_up + more_down)
            neg_log[i] = max(-np.log10(p[i]), 0.0)
        else:
            # What is not more probable is less than _SCALE⁻¹ of the rest, beyond double precision.
            neg_log[i] = np.log10(more_up + more_down) + power * np.log10(_SCALE) - np.log10(tail)
            p[i] = 10.0 ** -neg_log[i]


@numba.njit(nogil=True, cache=True)
def _walk(rare, het, common, up):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add up P(h)/P(observed) over more (`up`) or fewer heterozygotes: less, as, and more probable, and its power."""
    less, tied, more = 0.0, 0.0, 0.0
    term, power, most = 1.0, 0, 0  # P = term · _SCALE^power; `more` is in units of _SCALE^most
    while True:
        if up:
            ratio = 4.0 * rare * common / ((het + 2.0) * (het + 1.0))
            rare, het, common = rare - 1.0, het + 2.0, common - 1.0
        else:
            ratio = het * (het - 1.0) / (4.0 * (rare + 1.0) * (common + 1.0))
            rare, het, common = rare + 1.0, het - 2.0, common + 1.0
        if ratio == 0.0:  # no pair of homozygotes, or of heterozygotes, is left
            break
        term *= ratio
        if term > _SCALE:
            term, power = term / _SCALE, power + 1
            if power > most:
                more, most = more / _SCALE, power
        elif power > 0 and term * _SCALE < 1e100:  # the neighbours of the mode stay in its units
            term, power = term * _SCALE, power - 1
        if power > 0 or term > 1.0 + _TIE:
            if power == most:
                more += term
        elif term >= 1.0 - _TIE:
            tied += 1.0
        else:
            less += term
            if term < 1e-17 * (1.0 - ratio):  # the terms left are less than a geometric series
                break
    return less, tied, more, most
