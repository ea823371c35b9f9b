"""Tails of χ² and F of any degrees of freedom as −log₁₀ p, which do not underflow.

    χ²(k):  p = Q(k/2, x/2)                       far out: Q(a, x) = xᵃ e⁻ˣ / Γ(a) · 1/(x+1−a− 1(1−a)/(x+3−a− …))
    F(k,ν): p = I_y(ν/2, k/2), y = ν/(ν + kF)     far out: I_y(a, b) = yᵃ(1−y)ᵇ / (a B(a,b)) · 1/(1+ d₁/(1+ d₂/(1+ …)))

(DLMF 8.9.2 and 8.17.22.)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import special

DIRECT = 1e-200
"""Above this the library's functions keep all digits."""
TINY = 1e-300
MAX_TERMS = 5_000


def neg_log10_p_chisq_k(statistic: float, degrees: int) -> float:
    """Compute −log₁₀ of the upper tail of χ² with any degrees of freedom.

    Examples
    --------
    >>> round(neg_log10_p_chisq_k(5.991464547, 2), 6), round(neg_log10_p_chisq_k(20_000.0, 2), 6)  # p = exp(−x/2)
    (1.30103, 4342.944819)
    """
    if not statistic > 0:
        return 0.0 if statistic <= 0 else float("nan")
    a, x = degrees / 2, statistic / 2
    p = float(special.gammaincc(a, x))
    if p > DIRECT:
        return _neg_log10(p, float(special.gammainc(a, x)))
    fraction = _lentz(x + 1 - a, ((-m * (m - a), x + 1 - a + 2 * m) for m in range(1, MAX_TERMS)))
    return float(-(a * np.log(x) - x - special.gammaln(a) - np.log(fraction)) / np.log(10))


def neg_log10_p_f(statistic: float, k: int, degrees: float) -> float:
    """Compute −log₁₀ of the upper tail of F with k and ν degrees of freedom.

    Examples
    --------
    >>> round(neg_log10_p_f(2.0, 2, 4.0), 6)  # p = (1 + kF/ν)^(−ν/2) for k = 2
    0.60206
    >>> round(neg_log10_p_f(1e9, 2, 100.0), 6)
    365.051501
    """
    if not statistic > 0:
        return 0.0 if statistic <= 0 else float("nan")
    a, b = degrees / 2, k / 2
    ratio = k * statistic / degrees
    y = 1 / (1 + ratio)
    p = float(special.betainc(a, b, y))
    if p > DIRECT:
        return _neg_log10(p, float(special.betainc(b, a, 1 / (1 + 1 / ratio))))

    def terms() -> Iterator[tuple[float, float]]:
        for step in range(1, MAX_TERMS):
            m = step // 2
            if step % 2:
                yield -(a + m) * (a + b + m) * y / ((a + 2 * m) * (a + 2 * m + 1)), 1.0
            else:
                yield m * (b - m) * y / ((a + 2 * m - 1) * (a + 2 * m)), 1.0

    log_p = (
        -a * np.log1p(ratio)
        + b * -np.log1p(1 / ratio)
        - np.log(a)
        - special.betaln(a, b)
        - np.log(_lentz(1.0, terms()))
    )
    return float(-log_p / np.log(10))


def _neg_log10(p: float, rest: float) -> float:
    """Return −log₁₀ p from p and 1 − p, by the one that keeps its digits."""
    return float(abs(np.log10(p))) if p < 0.5 else float(-np.log1p(-rest) / np.log(10))


def _lentz(first: float, terms: Iterator[tuple[float, float]]) -> float:
    """Return `first + a₁/(b₁ + a₂/(b₂ + …))` by the modified method of Lentz, terms (a, b)."""
    fraction = first if first != 0 else TINY
    c, d = fraction, 0.0
    for a, b in terms:
        d = b + a * d
        c = b + a / c
        d, c = 1 / (d if d != 0 else TINY), (c if c != 0 else TINY)
        fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return fraction
