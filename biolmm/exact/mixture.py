"""The upper tail of quadratic forms of normal variables at 0, to ten digits wherever it lies.

For T = Σ μᵢ zᵢ², z independent standard normal, with K(s) = −½ Σ log(1 − 2μᵢ s) its cumulant generating function,

    P(T > 0) = 1/(2πi) ∫ exp(K(s)) / s ds      along a line from below to above that crosses 0 < s < 1/(2 max μ)

The line is laid through the saddle of the integrand, where it is largest and does not oscillate, so that nothing cancels
however small the probability; and it is bent away from the origin, so that the integrand falls fast. The trapezoidal rule
converges geometrically on it (Trefethen & Weideman 2014, doi 10.1137/130932132). The method of Davies 1980 is the same
integral along the imaginary axis, where probabilities below its rounding are lost.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

AGREEMENT = 1e-10
"""Two step sizes that agree to this, relatively, end the refinement."""
MAX_POINTS = 2**17

Array = NDArray[np.float64]


def neg_log10_p_positive(weights: Array, counts: Array) -> float:
    """Compute −log₁₀ P(Σ μᵢ χ²(kᵢ) > 0).

    Parameters
    ----------
    weights
        (m,) μ of either sign.
    counts
        (m,) degrees of freedom k that share each.

    Returns
    -------
    float
        Infinity where no weight is positive, 0 where none is negative.

    Examples
    --------
    >>> from scipy import stats
    >>> p = stats.f.sf(3.0, 2, 10)  # χ²(2)/2 > 3 χ²(10)/10
    >>> bool(abs(neg_log10_p_positive(np.array([0.5, -0.3]), np.array([2.0, 10.0])) + np.log10(p)) < 1e-9)
    True
    """
    used = (counts > 0) & (weights != 0)
    mu, k = weights[used] / np.max(np.abs(weights), initial=1e-300), counts[used]
    if not len(mu) or mu.max() <= 0:
        return float("inf")
    if mu.min() >= 0:
        return 0.0
    end = 1 / (2 * float(mu.max()))

    def slope(s: float) -> float:
        return float((k * mu / (1 - 2 * mu * s)).sum() - 1 / s)

    saddle = float(brentq(slope, end * 1e-12, end * (1 - 1e-12), xtol=1e-300, rtol=1e-12))
    width = float(((2 * k * mu**2 / (1 - 2 * mu * saddle) ** 2).sum() + saddle**-2) ** -0.5)
    height = float(-0.5 * (k * np.log1p(-2 * mu * saddle)).sum() - np.log(saddle))
    integral = _integral(mu, k, saddle, width, height)
    return float(abs((height + np.log(integral * width / np.pi)) / np.log(10)))


def _integral(mu: Array, k: Array, saddle: float, width: float, height: float) -> float:
    """Return ∫₀^∞ of the integrand over its height at the saddle; u runs along the bent line in units of its width.

    u = sinh(v) takes a slow fall, of few degrees of freedom, to a fast one.
    """
    bend = 0.1

    def values(v: Array) -> Array:
        u, du = np.sinh(v), np.cosh(v)
        s = saddle + width * (1j * u + bend * (np.sqrt(1 + u * u) - 1))
        ds = du * (1 + bend * u / np.sqrt(1 + u * u) / 1j)
        logs = -0.5 * (k[:, None] * np.log(1 - 2 * np.multiply.outer(mu, s))).sum(axis=0) - np.log(s) - height
        return np.asarray((np.exp(logs) * ds).real)

    end = 1.0
    while end < 60 and np.abs(values(np.array([end, end + 0.05]))).max() > 1e-16:
        end += 0.5
    n = 32
    total = float(np.trapezoid(values(np.linspace(0, end, n + 1)), dx=end / n))
    while n < MAX_POINTS:
        middles = values((np.arange(n) + 0.5) * end / n)
        finer = 0.5 * (total + float(middles.sum()) * end / n)
        n *= 2
        if abs(finer - total) < AGREEMENT * abs(finer):
            return finer
        total = finer
    return total
