"""Pictures of any number of variants in fixed memory: counts on a grid, and the highest points of each small window."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from biolmm.results.diagnostics import neg_log10_p
from biolmm.sumstats.quality.histogram import Vector

_COLUMN_BP = 500_000
_ROW = 0.05
_HIGH = 60.0


@dataclass
class Grid:
    """Counts of pairs on a square grid; what is outside counts at its border."""

    size: int
    limits: tuple[float, float]
    counts: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.counts = np.zeros((self.size, self.size), np.int64)

    def add(self, x: Vector, y: Vector) -> None:
        """Count pairs; those with a NaN are left out."""
        there = ~np.isnan(x) & ~np.isnan(y)
        cells = self._cell(x[there]) * self.size + self._cell(y[there])
        self.counts += np.bincount(cells, minlength=self.size**2).reshape(self.size, self.size)

    def _cell(self, values: Vector) -> NDArray[np.int64]:
        low, high = self.limits
        return np.clip((values - low) / (high - low) * self.size, 0, self.size - 1).astype(np.int64)


@dataclass
class Heights:
    """What a Manhattan plot shows: one variant of each cell of 500 kb and 0.05 in −log₁₀ p."""

    parts: list[tuple[NDArray[np.int32], NDArray[np.int64], Vector]] = field(default_factory=list, repr=False)

    def add(self, contig: NDArray[np.int32], position: NDArray[np.int64], z: Vector) -> None:
        """Take in a chunk."""
        there = np.flatnonzero(~np.isnan(z))
        tail = neg_log10_p(z[there])
        first = seen(position[there], tail, contig[there])
        chosen = there[first]
        self.parts.append((contig[chosen], position[chosen], tail[first]))

    def finish(self) -> None:
        """Put the parts together."""
        if len(self.parts) > 1:
            joined = [np.concatenate([part[at] for part in self.parts]) for at in range(3)]
            self.parts = [(joined[0].astype(np.int32), joined[1].astype(np.int64), joined[2].astype(np.float64))]

    def arrays(self) -> tuple[NDArray[np.int32], NDArray[np.int64], Vector]:
        """Give contigs, positions and −log₁₀ p."""
        self.finish()
        return self.parts[0] if self.parts else (np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0))


def seen(
    position: NDArray[np.int64], tail: NDArray[np.floating], contig: NDArray[np.int32] | None = None
) -> NDArray[np.intp]:
    """Choose one variant of each cell of 500 kb and 0.05 in −log₁₀ p; far up, where axes are compressed, cells grow.

    Examples
    --------
    >>> seen(np.array([10, 20, 30]), np.array([1.01, 1.02, 3.0])).tolist()
    [0, 2]
    """
    row = np.where(tail < _HIGH, tail / _ROW, _HIGH / _ROW * (1 + np.log(np.maximum(tail, _HIGH) / _HIGH)))
    cell = (position // _COLUMN_BP << 20) + row.astype(np.int64)
    if contig is not None:
        cell += contig.astype(np.int64) << 40
    _, first = np.unique(cell, return_index=True)
    return np.asarray(first, dtype=np.intp)
