"""Pruning by its definition, in whole numbers, and genotypes in memory to prune."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.files.encoding import Encoding, Rows
from biolmm.ld import Window


@dataclass(frozen=True, eq=False)
class MemoryData:
    """Encoded rows as `GenotypeData`."""

    rows: Rows
    n_samples: int
    encoding: Encoding
    contig_id: tuple[str, ...]
    variant_contig: NDArray[np.int32]
    variant_position: NDArray[np.int64]
    chunk_variants: int = 64
    path: Path = Path("memory.zarr")
    fingerprint: str = "memory"
    ids: tuple[str, ...] = field(default=())

    @property
    def n_variants(self) -> int:
        return len(self.rows)

    @property
    def variant_id(self) -> NDArray[Any]:
        return np.array(self.ids or [f"v{i}" for i in range(self.n_variants)], dtype=np.dtypes.StringDType())

    def chunk_range(self, chunk: int) -> tuple[int, int]:
        start = chunk * self.chunk_variants
        return start, min(start + self.chunk_variants, self.n_variants)

    def read_rows(self, chunk: int) -> Rows:
        start, stop = self.chunk_range(chunk)
        return self.rows[start:stop].copy()


def exact_r2(x: NDArray[np.int64], y: NDArray[np.int64]) -> Fraction:
    """Give r² of whole numbers, negative = missing, over what both observe; 0 where one does not vary."""
    both = (x >= 0) & (y >= 0)
    x, y, n = x[both], y[both], int(both.sum())
    covariance, *variances = (n * int(a @ b) - int(a.sum()) * int(b.sum()) for a, b in ((x, y), (x, x), (y, y)))
    return Fraction(covariance**2, variances[0] * variances[1]) if all(variances) else Fraction(0)


def naive_prune(
    genotypes: NDArray[np.int64],
    top: int,
    contig: NDArray[np.int32],
    position: NDArray[np.int64],
    window: Window,
    step: int,
    threshold: str,
) -> NDArray[np.bool_]:
    """Prune genotypes (M, N), 0 to `top`, negative = missing; windows, pairs and frequencies one by one."""
    observed = [g[g >= 0] for g in genotypes]
    kept = np.array([len(set(g.tolist())) > 1 for g in observed])
    alt = [Fraction(int(g.sum()), top * len(g)) if len(g) else Fraction(0) for g in observed]
    commoner = [max(f, 1 - f) for f in alt]
    compared = set()
    for name in np.unique(contig):
        (mine,) = np.nonzero(contig == name)
        for start in range(0, len(mine), step):
            if window.in_bp:
                members = [i for i in mine[start:] if position[i] <= position[mine[start]] + window.size]
            else:
                members = list(mine[start : start + window.size])
            removed = True
            while removed:
                removed = False
                for here, i in enumerate(members):
                    for j in members[here + 1 :]:
                        if not (kept[i] and kept[j]) or (i, j) in compared:
                            continue
                        compared.add((i, j))
                        if exact_r2(genotypes[i], genotypes[j]) > Fraction(threshold):
                            kept[i if commoner[i] > commoner[j] else j] = False
                            removed = True
                            break
    return kept


def linked_calls(
    rng: np.random.Generator, n_variants: int, n_samples: int, *, likeness: float = 0.9, missing: float = 0.05
) -> NDArray[np.int8]:
    """Draw calls (M, N) of two haplotypes a sample, each a random walk along the variants; -9 = missing."""
    walk = rng.standard_normal(2 * n_samples)
    calls = np.empty((n_variants, n_samples), np.int8)
    for row in calls:
        walk = likeness * walk + np.sqrt(1 - likeness**2) * rng.standard_normal(2 * n_samples)
        carried = walk > rng.standard_normal()
        row[:] = carried[::2].astype(np.int8) + carried[1::2]
    calls[rng.random(calls.shape) < missing] = -9
    return calls
