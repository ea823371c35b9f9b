"""The exact null distribution of RE2's statistic for k studies of equal precision.

With equal variances v the maximum-likelihood estimate is explicit. Let X = Q ~ χ²_{k−1}, independent of S₁ ~ χ²₁:

    τ̂² > 0  iff  X > k,  and then  S₂ = g(X) = X − k − k log(X/k);   otherwise S₂ = 0

    P(S ≥ s) = P(X ≤ k) P(χ²₁ ≥ s) + ∫_k^{x_s} f(x) P(χ²₁ ≥ s − g(x)) dx + P(X > x_s),     g(x_s) = s

One integral takes the place of a table from simulation, which ends (METASOFT's holds its last ratio beyond S = 33 and
k = 50). With g(x) = s sin²φ the integrand is smooth on 0 ≤ φ ≤ π/2, and Gauss–Legendre nodes crowd where it moves.
Everything is relative to e^{−s/2}, f(x) P(χ²₁ ≥ s cos²φ) e^{s/2} ∝ x^{−3/2} erfcx(√(s/2) cos φ), so that nothing
underflows. Where precisions differ between studies, as they do, it is an approximation, the one that the table makes too.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.interpolate import CubicSpline

from biolmm.errors import ParameterError
from biolmm.sumstats.meta.tails import log_chisq_tail

_N_NODES = 128
_N_KNOTS = 320
_GREATEST_ROOT = 1000.0
"""Knots reach √S of this, p = 10⁻²¹⁷⁰⁰⁰; beyond, log p + S/2 goes on as a line in log(1 + √S)."""

_LN10 = float(np.log(10.0))


def neg_log10_p_equal_variances(statistic: ArrayLike, n_studies: int) -> NDArray[np.float64]:
    """Compute −log₁₀ P(S ≥ s) under the null for k studies of equal precision.

    Parameters
    ----------
    statistic
        S; NaN stays NaN, 0 or less gives 0.
    n_studies
        k ≥ 2.

    Raises
    ------
    ParameterError
        With fewer than two studies.

    Notes
    -----
    **Cost** a cubic spline in log(1 + √s) through exact values of log p + s/2, made once for every k (about 20 ms) and
    kept; its error is below 1e-8 of log p.

    Examples
    --------
    For k = 2 the chance that τ̂² is positive is P(χ²₁ > 2) = 0.157, not a half:

    >>> round(float(10 ** -neg_log10_p_equal_variances(10.0, 2)), 6)
    0.001865
    """
    if n_studies < 2:
        raise ParameterError(f"RE2 of {n_studies} studies has no heterogeneity; its distribution needs at least 2.")
    s = np.asarray(statistic, dtype=np.float64)
    root = np.sqrt(np.maximum(s, 0.0))
    spline, slope = _spline(n_studies)
    inside = np.log1p(np.minimum(root, _GREATEST_ROOT))
    beyond = np.log1p(root) - inside
    log_p = spline(inside) + slope * beyond - 0.5 * root * root
    return np.where(np.isnan(s), np.nan, np.maximum(-log_p, 0.0) / _LN10)


def log_p_equal_variances(statistic: NDArray[np.float64], n_studies: int) -> NDArray[np.float64]:
    """Compute log P(S ≥ s) + s/2 by the integral, s > 0."""
    s, k = statistic[:, None], float(n_studies)
    nodes, weights = np.polynomial.legendre.leggauss(_N_NODES)
    angle = (nodes + 1.0) * (np.pi / 4)
    sine, cosine = np.sin(angle), np.cos(angle)
    excess = _excess(s * sine**2 / k)  # x = k (1 + excess)
    # dx/dφ = 2 s sin φ cos φ / (1 − k/x)
    log_step = np.log(2.0 * s * sine * cosine * (1.0 + excess) / excess)
    # f(x) e^{g/2} = x^{(k−3)/2} (x/k)^{−k/2} e^{−k/2} / (2^{(k−1)/2} Γ((k−1)/2))
    log_density = (
        (k - 3) / 2 * np.log(k)
        - 1.5 * np.log1p(excess)
        - k / 2
        - (k - 1) / 2 * np.log(2.0)
        - special.gammaln((k - 1) / 2)
    )
    log_integrand = log_step + log_density + np.log(special.erfcx(np.sqrt(s / 2) * cosine))
    within = special.logsumexp(log_integrand, b=weights * (np.pi / 4), axis=1)
    flat = statistic
    without = np.log(special.gammainc((k - 1) / 2, k / 2)) + np.log(special.erfcx(np.sqrt(flat / 2)))
    last = k * (1.0 + _excess(flat / k))
    above = log_chisq_tail(last, k - 1) + flat / 2
    return np.asarray(np.logaddexp(np.logaddexp(without, within), above))


def _excess(c: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve d − log(1 + d) = c for d > 0 by Newton's method from above, where it converges from one side."""
    d = np.sqrt(2 * c) + c + np.log1p(np.sqrt(c))
    for _ in range(60):
        step = (d - np.log1p(d) - c) * (1 + d) / d
        d = d - step
        if np.all(np.abs(step) <= 1e-15 * d):
            break
    # For a small d the difference above loses digits; its series d²/2 − d³/3 + … inverted does not.
    root = np.sqrt(2 * c)
    series = root + 2 * c / 3 + root**3 / 36 - 4 * c**2 / 270
    return np.where(root < 1e-3, series, d)


@lru_cache(maxsize=512)
def _spline(n_studies: int) -> tuple[CubicSpline, float]:
    """Interpolate log p + s/2 in log(1 + √s); give the spline and its last slope."""
    knots = np.linspace(0.0, np.log1p(_GREATEST_ROOT), _N_KNOTS)
    values = np.zeros(_N_KNOTS)
    values[1:] = log_p_equal_variances(np.expm1(knots[1:]) ** 2, n_studies)
    spline = CubicSpline(knots, values)
    return spline, float(spline(knots[-1], 1))
