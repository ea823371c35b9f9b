"""Tails of distributions in log space: χ² with any whole number of degrees of freedom, and the normal's inverse.

    even ν   Q = e^{−x/2} Σ_{j<ν/2} (x/2)^j / j!
    odd ν    Q = erfc √(x/2) + e^{−x/2} Σ_{j=1}^{(ν−1)/2} (x/2)^{j−½} / Γ(j+½)

(Abramowitz & Stegun 26.4.4–5). All terms are positive; the largest is taken out and the rest added up by their ratios, so
nothing cancels, underflows or overflows: `scipy.stats.chi2.logsf` gives −inf where ν > 1 and p < 10⁻³⁰⁸. For the
two-sided normal, one degree of freedom and Student's t see `biolmm/results/diagnostics.py`.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

_LN10 = float(np.log(10.0))


def log_chisq_tail(x: ArrayLike, df: ArrayLike) -> NDArray[np.float64]:
    """Compute the natural log of the upper tail of χ² with whole degrees of freedom.

    Parameters
    ----------
    x
        Statistics; below 0 counts as 0.
    df
        Degrees of freedom, whole numbers of at least 1, broadcast against `x`.

    Returns
    -------
    ndarray
        0 where x ≤ 0, −inf where x is infinite, NaN where x is NaN or df below 1.

    Notes
    -----
    **Cost** O(min(ν, √x)) multiplications and a logarithm or two. Relative error of log p about 1e-14 for ν < 100.

    Examples
    --------
    >>> log_chisq_tail([2000.0, 2.0], [4, 2]).round(9).tolist()
    [-993.091245221, -1.0]
    """
    x, df = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(df, dtype=np.float64))
    out = np.empty(x.size)
    _tails(np.array(x.ravel()), np.array(df.ravel()), out)  # copies: what is broadcast cannot be written to
    return out.reshape(x.shape)


def neg_log10_p_chisq_df(x: ArrayLike, df: ArrayLike) -> NDArray[np.float64]:
    """Compute −log₁₀ p of χ² statistics with whole degrees of freedom; as `log_chisq_tail`.

    Examples
    --------
    >>> neg_log10_p_chisq_df([2000.0], 4).round(6).tolist()
    [431.294048]
    """
    return np.asarray(np.abs(log_chisq_tail(x, df)) / _LN10)


def neg_log10_p_mixture(x: ArrayLike) -> NDArray[np.float64]:
    """Compute −log₁₀ of ½ P(χ²₁ ≥ x) + ½ P(χ²₂ ≥ x): one parameter on the boundary, another free.

    Examples
    --------
    >>> neg_log10_p_mixture([0.0, 26.488063215]).round(6).tolist()
    [0.0, 5.99224]
    """
    one, two = log_chisq_tail(x, 1), log_chisq_tail(x, 2)  # Q₁ ≤ Q₂
    with np.errstate(invalid="ignore"):
        both = np.where(np.isinf(two), two, two + np.log1p(np.exp(one - two)) - np.log(2.0))
    return np.asarray(np.abs(both) / _LN10)


def z_from_neg_log10_p(neg_log10_p: ArrayLike) -> NDArray[np.float64]:
    """Compute the |z| of a two-sided p-value, −Φ⁻¹(p/2), from −log₁₀ p of any size.

    Examples
    --------
    >>> z_from_neg_log10_p([0.0, 1.3010299956639813, 5000.0]).round(4).tolist()
    [0.0, 1.96, 151.7081]
    """
    log_half = -np.asarray(neg_log10_p, dtype=np.float64) * _LN10 - np.log(2.0)
    return np.asarray(np.maximum(-special.ndtri_exp(log_half), 0.0) + 0.0)


@numba.njit(nogil=True, cache=True)
def _tails(x, df, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(len(x)):
        out[i] = log_tail(x[i], df[i])


@numba.njit(nogil=True, cache=True)
def log_tail(x, df):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Compute log Q(x; df) of one statistic, for kernels."""
    if math.isnan(x) or not df >= 1.0:
        return math.nan
    if x <= 0.0:
        return 0.0
    if math.isinf(x):
        return -math.inf
    half, odd = 0.5 * x, df % 2.0 == 1.0
    log_complement = _log_erfc(math.sqrt(half)) if odd else -math.inf
    shift = 0.5 if odd else 0.0  # exponents of the terms: shift, shift + 1, …, highest
    highest = 0.5 * df - 1.0
    if highest < 0.0:
        return log_complement
    # The largest term has the exponent next below x/2.
    peak = min(highest, shift + max(0.0, math.floor(half - shift)))
    log_peak = peak * math.log(half) - half - math.lgamma(peak + 1.0)
    total, term, power = 1.0, 1.0, peak
    while power > shift + 0.25 and term > 1e-18 * total:  # downwards: (x/2)^(j−1)/Γ(j) = (x/2)^j/Γ(j+1) · j/(x/2)
        term *= power / half
        power -= 1.0
        total += term
    term, power = 1.0, peak
    while power < highest - 0.25 and term > 1e-18 * total:
        power += 1.0
        term *= half / power
        total += term
    log_series = log_peak + math.log(total)
    top = max(log_series, log_complement)
    low = min(log_series, log_complement)
    return min(0.0, top + math.log1p(math.exp(low - top)))


@numba.njit(nogil=True, cache=True)
def _log_erfc(y):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Compute log erfc(y), y ≥ 0; far out by its asymptotic series, whose terms fall below 1e-17 for y ≥ 20."""
    if y < 0.25:
        return math.log1p(-math.erf(y))
    if y < 20.0:
        return math.log(math.erfc(y))
    r = 0.5 / (y * y)
    series = 1.0 - r * (1.0 - 3.0 * r * (1.0 - 5.0 * r * (1.0 - 7.0 * r * (1.0 - 9.0 * r * (1.0 - 11.0 * r)))))
    return -y * y - math.log(y * math.sqrt(math.pi)) + math.log(series)
