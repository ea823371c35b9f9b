"""p-values in log space, genomic inflation, QQ points and loci.

    two-sided normal      p = 2 Φ(−|z|)                log p = log 2 + log Φ(−|z|)
    two-sided Student     p = I_x(ν/2, ½)              x = ν / (ν + t²), I the regularised incomplete beta function

Nothing underflows: −log₁₀ p of z = 1000 is 217,150, and right to the last digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

GENOME_WIDE_NEG_LOG10_P = float(-np.log10(5e-8))
"""−log₁₀ of the customary genome-wide threshold, 5e-8."""

MEDIAN_CHISQ_1 = float(special.chdtri(1, 0.5))
"""Median of a chi-squared variable with one degree of freedom, 0.4549…"""

_LN10 = float(np.log(10.0))
_DIRECT_LIMIT = 1e-250
_MANY_DF = 200.0
_NEAR_NORMAL = 0.15
"""Up to this t²/ν, and from `_MANY_DF` degrees of freedom, three terms beyond the normal give log p to 1e-12."""


def neg_log10_p(z: ArrayLike) -> NDArray[np.float64]:
    """Compute −log₁₀ of the two-sided normal p-value, −(log 2 + log Φ(−|z|)) / ln 10, for any z.

    Parameters
    ----------
    z
        Statistics that are standard normal under the null.

    Returns
    -------
    ndarray
        Same shape; NaN stays NaN, ±inf gives inf.

    Examples
    --------
    >>> neg_log10_p([0.0, 1.959963984540054, 1000.0]).round(4).tolist()
    [0.0, 1.301, 217150.339]
    """
    size = np.abs(np.asarray(z, dtype=np.float64))
    # Near zero log 2 + log Φ cancels; 1 − erf does not.
    near = np.log1p(-special.erf(np.minimum(size, 1.0) / np.sqrt(2.0)))
    far = np.log(2.0) + special.log_ndtr(-size)
    return np.asarray(np.abs(np.where(size < 1.0, near, far) / _LN10))


def neg_log10_p_chisq(chisq: ArrayLike) -> NDArray[np.float64]:
    """Compute −log₁₀ p of a chi-squared statistic with one degree of freedom.

    Examples
    --------
    >>> neg_log10_p_chisq([3.841458820694124]).round(4).tolist()
    [1.301]
    """
    return neg_log10_p(np.sqrt(np.asarray(chisq, dtype=np.float64)))


def neg_log10_p_t(t: ArrayLike, df: ArrayLike) -> NDArray[np.float64]:
    """Compute −log₁₀ of the two-sided p-value of Student's t, p = I_x(ν/2, ½) with x = ν/(ν + t²), for any t.

    Parameters
    ----------
    t
        Statistics of the plain regression.
    df
        Degrees of freedom ν > 0, broadcast against `t`.

    Returns
    -------
    ndarray
        NaN stays NaN, ±inf gives inf.

    Notes
    -----
    With many degrees of freedom, as in a scan, by an expansion about the normal that costs no more than the normal does. With
    few, where p is an ordinary number, from the incomplete beta function. Beyond,
    log p = ν/2 log x + ½ log(1 − x) − log(ν/2) − log B(ν/2, ½) + log F with F the continued fraction of the
    incomplete beta function (DLMF 8.17.22), which converges fast out there. Relative error of log p below 1e-12
    for ν up to 10⁸.

    Examples
    --------
    >>> neg_log10_p_t([2.0, 1e6], [2.0, 2.0]).round(6).tolist()  # p = 1 − t/√(2+t²) for ν = 2
    [0.736356, 12.0]
    """
    t, df = np.broadcast_arrays(np.abs(np.asarray(t, dtype=np.float64)), np.asarray(df, dtype=np.float64))
    shape, t, df = t.shape, t.ravel(), df.ravel()
    near = (df >= _MANY_DF) & (t <= np.sqrt(_NEAR_NORMAL * df))
    if near.all():
        return _neg_log10_p_t_near_normal(t, df).reshape(shape)
    out = np.empty(t.shape)
    out[near] = _neg_log10_p_t_near_normal(t[near], df[near])
    out[~near] = _neg_log10_p_t_by_beta(t[~near], df[~near])
    return out.reshape(shape)


def _neg_log10_p_t_near_normal(t: NDArray[np.float64], df: NDArray[np.float64]) -> NDArray[np.float64]:
    """−log₁₀ p where Student's t is nearly normal.

    With w² = N log(1 + t²/ν), N = ν − ½, and v = w²/2N, the density of w is that of the normal times √(v / sinh v), which is
    1 − v²/12 + v⁴/160 − 61 v⁶/120960 + …; each power integrates to a polynomial times φ(w) and a multiple of Φ(−w).
    """
    n = df - 0.5
    w = np.sqrt(n * np.log1p(t * t / df))
    w2 = w * w
    # In units of the coefficient of v^2k / w^4k: what Φ(−w) gets, and what φ(w) gets.
    c1, c2, c3 = -1 / (12 * (2 * n) ** 2), 1 / (160 * (2 * n) ** 4), -61 / (120960 * (2 * n) ** 6)
    more = 3 * c1 + 105 * c2 + 10395 * c3
    with np.errstate(invalid="ignore"):
        p1 = w * (w2 + 3)
        p2 = w * (((w2 + 7) * w2 + 35) * w2 + 105)
        p3 = w * (((((w2 + 11) * w2 + 99) * w2 + 693) * w2 + 3465) * w2 + 10395)
        edge = (c1 * p1 + c2 * p2 + c3 * p3) * np.sqrt(2 / np.pi) * np.exp(-w2 / 2) / (1 + more)
        below = np.log1p(-special.erf(np.minimum(w, 1.0) / np.sqrt(2.0)) + edge)
        tail = np.log(2.0) + special.log_ndtr(-w)
        above = tail + np.log1p(edge * np.exp(-tail))
    return np.asarray(np.abs(np.where(w < 1.0, below, above)) / _LN10)


def _neg_log10_p_t_by_beta(t: NDArray[np.float64], df: NDArray[np.float64]) -> NDArray[np.float64]:
    """−log₁₀ p by the incomplete beta function, for any t and ν."""
    ratio = t / np.sqrt(df)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        squared = ratio * ratio
        # Of x and 1 − x the smaller keeps all its digits, and so does the function that takes it.
        x, y = 1.0 / (1.0 + squared), 1.0 / (1.0 + 1.0 / squared)
        tail = special.betaincc(0.5, df / 2, y)
        wide = np.flatnonzero(squared >= 1.0)
        tail[wide] = special.betainc(df[wide] / 2, 0.5, x[wide])
        out = -np.log(tail)
    centre = np.flatnonzero(tail > 0.9)
    out[centre] = -np.log1p(-special.betainc(0.5, df[centre] / 2, y[centre]))
    far = np.flatnonzero((tail < _DIRECT_LIMIT) & np.isfinite(t))
    out[far] = -_log_p_t_far(ratio[far], df[far])
    return np.asarray(np.abs(out) / _LN10)


def _log_p_t_far(ratio: NDArray[np.float64], df: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log of the two-sided tail far out; `ratio` = |t|/√ν."""
    if not ratio.size:
        return ratio
    a = df / 2
    small = ratio < 1e8
    bounded = np.where(small, ratio, 1.0)
    # log(1 + ratio²) and log(1 − x) = −log(1 + 1/ratio²) without overflow.
    log1p_squared = np.where(small, np.log1p(bounded * bounded), 2 * np.log(ratio))
    log_y = -np.log1p(1.0 / np.where(small, bounded * bounded, np.inf))
    x = np.exp(-log1p_squared)
    log_prefactor = -a * log1p_squared + 0.5 * log_y - np.log(a) - _log_beta_half(a)
    return np.asarray(log_prefactor + np.log(_beta_fraction(a, 0.5, x)))


def _log_beta_half(a: NDArray[np.float64]) -> NDArray[np.float64]:
    """log B(a, ½) = log √π − log(Γ(a+½)/Γ(a)); Stirling's series for large a, where the difference would cancel."""
    big = np.maximum(a, 16.0)
    r = 1.0 / (big * big)
    series = (-1 / 8 + r * (1 / 192 + r * (-1 / 640 + r * (17 / 14336 + r * (-31 / 18432 + r * 691 / 180224))))) / big
    log_ratio = np.where(a >= 16.0, 0.5 * np.log(big) + series, special.gammaln(a + 0.5) - special.gammaln(a))
    return np.asarray(0.5 * np.log(np.pi) - log_ratio)


def _beta_fraction(a: NDArray[np.float64], b: float, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Continued fraction of I_x(a, b) by the modified Lentz method, all elements together."""
    # F = 1/(1 + d₁/(1 + d₂/(1 + …))); c and d are the usual ratios of successive numerators and denominators.
    fraction, c, d = np.ones_like(x), np.full_like(x, np.inf), np.ones_like(x)
    for step in range(1, 20_000):
        m = step // 2
        if step % 2:
            coefficient = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            coefficient = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1.0 / (1.0 + coefficient * d)
        c = 1.0 + coefficient / c
        fraction = fraction * (c * d)
        if np.all(np.abs(c * d - 1.0) < 1e-15):
            break
    return fraction


def lambda_gc(chisq: ArrayLike) -> float:
    """Compute the genomic inflation factor, median(χ²) / 0.4549; NaN values are left out, no value gives NaN.

    Examples
    --------
    >>> round(lambda_gc([0.1, 0.4549364, 2.0]), 6)
    1.0
    """
    values = np.asarray(chisq, dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(np.median(values) / MEDIAN_CHISQ_1) if values.size else float("nan")


@dataclass(frozen=True)
class QQPoints:
    """Observed against expected −log₁₀ p, and the 95 % band of the expectation."""

    expected: NDArray[np.float64]
    observed: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    n: int


def qq_points(neg_log10_p_values: ArrayLike, max_points: int = 1500, confidence: float = 0.95) -> QQPoints:
    """Compute the points of a QQ plot; the i-th smallest of n uniform p-values is Beta(i, n + 1 − i).

    Parameters
    ----------
    neg_log10_p_values
        −log₁₀ p in any order; NaN is left out.
    max_points
        About how many points to return: every one of the smallest p-values, then ranks evenly spaced in log rank,
        so that ten million values draw like a thousand and look the same.
    confidence
        Width of the pointwise band.

    Returns
    -------
    QQPoints
        Most significant first; empty when there is no value. Expected is −log₁₀ of the mean i / (n + 1).

    Examples
    --------
    >>> qq_points([0.1, 2.0, 0.5]).observed.tolist()
    [2.0, 0.5, 0.1]
    """
    values = np.asarray(neg_log10_p_values, dtype=np.float64)
    values = values[~np.isnan(values)]
    n = values.size
    if n == 0:
        empty = np.empty(0)
        return QQPoints(empty, empty, empty, empty, 0)
    ranks = qq_ranks(n, max_points)
    return qq_at_ranks(ranks, np.sort(values)[n - ranks], n, confidence)


def qq_ranks(n: int, max_points: int = 1500) -> NDArray[np.int64]:
    """Choose the ranks that a QQ plot of n values shows, 1 the most significant."""
    all_of_top = max_points // 2
    ranks = np.arange(1, min(n, all_of_top) + 1)
    if n > all_of_top:
        spaced = np.geomspace(all_of_top, n, max_points - all_of_top).round().astype(np.int64)
        ranks = np.unique(np.concatenate([ranks, spaced]))
    return ranks


def qq_at_ranks(ranks: NDArray[np.int64], observed: NDArray[np.float64], n: int, confidence: float = 0.95) -> QQPoints:
    """Give the points of a QQ plot from the values with these ranks among n."""
    tail = (1.0 - confidence) / 2
    return QQPoints(
        expected=-np.log10(ranks / (n + 1.0)),
        observed=observed,
        lower=-np.log10(special.betaincinv(ranks, n + 1.0 - ranks, 1.0 - tail)),
        upper=-np.log10(special.betaincinv(ranks, n + 1.0 - ranks, tail)),
        n=n,
    )
