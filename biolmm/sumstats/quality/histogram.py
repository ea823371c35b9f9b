"""Quantiles of positive numbers by counting: one pass, fixed memory, counts of chunks add up.

A double's exponent and the first seven bits of its fraction name its bin, so a bin is at most 1/128 of its values wide;
quantiles are interpolated in it. λ, which has to be exact, is found by `biolmm/sumstats/meta/genomic_control.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_FRACTION = 7
_LOWEST = (1023 - 64) << _FRACTION
_BINS = 128 << _FRACTION


@dataclass
class LogHistogram:
    """Counts of values between 2⁻⁶⁴ and 2⁶⁴; what is below, 0 too, is in the first bin, what is above in the last.

    Examples
    --------
    >>> counted = LogHistogram()
    >>> counted.add(np.array([1.0, 2.0, 4.0, np.nan]))
    >>> counted.n, round(counted.quantile(0.5), 1)
    (3, 2.0)
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64), repr=False)

    @property
    def n(self) -> int:
        """Count the values."""
        return int(self.counts.sum())

    def add(self, values: Vector) -> None:
        """Count values; NaN and negative ones are left out."""
        with np.errstate(invalid="ignore"):
            there = np.ascontiguousarray(values[values >= 0], dtype=np.float64) + 0.0
        bins = (there.view(np.uint64) >> np.uint64(52 - _FRACTION)).astype(np.int64) - _LOWEST
        self.counts += np.bincount(np.clip(bins, 0, _BINS - 1), minlength=_BINS)

    def quantile(self, share: float) -> float:
        """Give a quantile; NaN where nothing was counted."""
        n = self.n
        return float(self.at_ranks(np.array([share * (n - 1)]))[0]) if n else float("nan")

    def at_ranks(self, ranks: NDArray[np.floating] | NDArray[np.integer]) -> Vector:
        """Give the values with these ranks, from 0, in ascending order of values."""
        ends = np.cumsum(self.counts)
        bins = np.searchsorted(ends, ranks, side="right").clip(0, _BINS - 1)
        inside = (ranks - (ends[bins] - self.counts[bins]) + 0.5) / np.maximum(self.counts[bins], 1)
        low, high = _edge(bins), _edge(bins + 1)
        return np.asarray(low + inside * (high - low))


def _edge(bins: NDArray[np.integer]) -> Vector:
    """Give the lower end of bins."""
    return ((bins.astype(np.int64) + _LOWEST).astype(np.uint64) << np.uint64(52 - _FRACTION)).view(np.float64)


@dataclass
class Moments:
    """Count, mean and central sums of powers up to the fourth; parts are joined without cancellation (Pébay 2008).

    Examples
    --------
    >>> found = Moments()
    >>> found.add(np.array([0.0, 1.0])); found.add(np.array([5.0]))
    >>> found.n, found.mean, round(found.skewness, 4)
    (3, 2.0, 0.5952)
    """

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0
    m3: float = 0.0
    m4: float = 0.0

    def add(self, values: Vector) -> None:
        """Take in a chunk's values; NaN is left out."""
        there = values[~np.isnan(values)]
        if not len(there):
            return
        mean = float(there.mean())
        centred = there - mean
        squares = centred * centred
        other = (float(squares.sum()), float((squares * centred).sum()), float((squares * squares).sum()))
        self._join(len(there), mean, *other)

    def _join(self, n: int, mean: float, m2: float, m3: float, m4: float) -> None:
        total, d = self.n + n, mean - self.mean
        a, b = self.n, n
        self.m4 += (
            m4
            + d**4 * a * b * (a * a - a * b + b * b) / total**3
            + 6 * d * d * (a * a * m2 + b * b * self.m2) / total**2
        )
        self.m4 += 4 * d * (a * m3 - b * self.m3) / total
        self.m3 += m3 + d**3 * a * b * (a - b) / total**2 + 3 * d * (a * m2 - b * self.m2) / total
        self.m2 += m2 + d * d * a * b / total
        self.mean += d * b / total
        self.n = total

    @property
    def sd(self) -> float:
        """Standard deviation; NaN below two values."""
        return float(np.sqrt(self.m2 / (self.n - 1))) if self.n > 1 else float("nan")

    @property
    def skewness(self) -> float:
        """√n m₃ / m₂^{3/2}; NaN where nothing varies."""
        return float(np.sqrt(self.n) * self.m3 / self.m2**1.5) if self.m2 > 0 else float("nan")

    @property
    def kurtosis(self) -> float:
        """n m₄ / m₂², 3 of a normal distribution; NaN where nothing varies."""
        return float(self.n * self.m4 / self.m2**2) if self.m2 > 0 else float("nan")


@dataclass
class Line:
    """Sums of a regression of y on x with an intercept."""

    sums: Vector = field(default_factory=lambda: np.zeros(6))

    def add(self, x: Vector, y: Vector) -> None:
        """Take in a chunk's pairs; those with a NaN are left out."""
        there = np.isfinite(x) & np.isfinite(y)
        x, y = x[there], y[there]
        self.sums += [len(x), x.sum(), y.sum(), x @ x, x @ y, y @ y]

    @property
    def n(self) -> int:
        """Count the pairs."""
        return int(self.sums[0])

    @property
    def slope(self) -> float:
        """Slope; NaN where x hardly varies."""
        xx, xy, _ = self._central()
        return xy / xx if self.n > 1 and xx > 1e-4 * self.n else float("nan")

    @property
    def correlation(self) -> float:
        """Correlation; NaN where either hardly varies."""
        xx, xy, yy = self._central()
        return xy / float(np.sqrt(xx * yy)) if xx > 1e-9 and yy > 1e-9 else float("nan")

    def _central(self) -> tuple[float, float, float]:
        n, x, y, xx, xy, yy = (float(value) for value in self.sums)
        return (xx - x * x / n, xy - x * y / n, yy - y * y / n) if n else (0.0, 0.0, 0.0)
