"""Moments of genotypes under sets of samples: what frequencies, variances and tests are made of.

Legend: b variants, k sets of samples (masks), N samples; d dosage of ALT.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from biolmm.files.encoding import HARD_CALL_THRESHOLD, Encoding, Rows
from biolmm.genotypes.kernels import count_masked, dosage_sums, dosage_sums_at, pack_masks

VARIES = 1e-12
"""A variance below this is rounding."""


@dataclass(frozen=True)
class Moments:
    """Sums over the samples of each set that have a genotype, each (b, k).

    Attributes
    ----------
    called
        Samples with a genotype.
    total
        Σ d.
    squares
        Σ d².
    """

    called: NDArray[np.float64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean dosage; 0 where nobody has a genotype."""
        return self.total / np.maximum(self.called, 1.0)

    @property
    def variance(self) -> NDArray[np.float64]:
        """Variance of the dosage with n in the denominator; 0 where nobody has a genotype."""
        return np.maximum(self.squares / np.maximum(self.called, 1.0) - self.mean**2, 0.0)

    @property
    def vary(self) -> NDArray[np.bool_]:
        """Whether two different genotypes occur."""
        return self.variance > VARIES

    def scaled(self, factor: float) -> Moments:
        """Return the moments of `factor · d`."""
        return Moments(self.called, self.total * factor, self.squares * factor**2)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.called + other.called, self.total + other.total, self.squares + other.squares)

    def __getitem__(self, variants: NDArray[np.bool_] | slice) -> Moments:
        return Moments(self.called[variants], self.total[variants], self.squares[variants])

    def of(self, mask: int) -> Moments:
        """Return the moments under one set of samples, each (b,)."""
        return Moments(self.called[:, mask], self.total[:, mask], self.squares[:, mask])


@dataclass(frozen=True)
class SampleMasks:
    """Sets of samples.

    Attributes
    ----------
    observed
        (k, N) who belongs to each set.
    """

    observed: NDArray[np.bool_]

    @property
    def n_observed(self) -> NDArray[np.int64]:
        """(k,) samples in each set."""
        return np.asarray(self.observed.sum(axis=1))

    @cached_property
    def packed(self) -> NDArray[np.uint64]:
        """The sets as two bits a sample."""
        return pack_masks(self.observed)

    @cached_property
    def absent(self) -> tuple[NDArray[np.int64], ...]:
        """Who does not belong to each set."""
        return tuple(np.flatnonzero(~mask) for mask in self.observed)

    def within(self, some: NDArray[np.bool_]) -> SampleMasks:
        """Return the part of each set that is in another."""
        return SampleMasks(self.observed & some)


def row_moments(rows: Rows, encoding: Encoding, masks: SampleMasks) -> Moments:
    """Add up the genotypes of every row under every set of samples.

    Notes
    -----
    **Cost**: calls are counted in words, 3·10¹¹ a second and core; dosages are added one by one, about 10⁹ a second, and for
    each set those of the samples outside it again.
    """
    if encoding is Encoding.CALLS:
        het, hom, missing = np.moveaxis(count_masked(rows, masks.packed).astype(np.float64), 2, 0)
        return Moments(masks.n_observed - missing, het + 2 * hom, het + 4 * hom)
    everyone = np.empty((len(rows), 3), np.int64)
    dosage_sums(rows, encoding.missing, everyone)
    sums = np.empty((len(rows), len(masks.observed), 3), np.int64)
    for k, absent in enumerate(masks.absent):
        dosage_sums_at(rows, encoding.missing, absent, sums[:, k])
        sums[:, k] = everyone - sums[:, k]
    called, total, squares = np.moveaxis(sums.astype(np.float64), 2, 0)
    return Moments(called, total / encoding.steps, squares / encoding.steps**2)


def genotype_counts(rows: Rows, encoding: Encoding, masks: SampleMasks) -> NDArray[np.int64]:
    """Count the hard calls 0, 1 and 2 of every row under every set of samples, (b, k, 3).

    A dosage within 0.1 of a whole number is called (PLINK's threshold).
    """
    if encoding is Encoding.CALLS:
        het, hom, missing = np.moveaxis(count_masked(rows, masks.packed).astype(np.int64), 2, 0)
        return np.stack([masks.n_observed - het - hom - missing, het, hom], axis=2)
    codes = np.arange(2 * encoding.steps + 1) / encoding.steps
    near = np.abs(codes - np.rint(codes)) <= HARD_CALL_THRESHOLD + 1e-6
    kind = np.full(np.iinfo(encoding.dtype).max + 1, 3, np.uint8)
    kind[: len(codes)] = np.where(near, np.rint(codes), 3)
    kinds = kind[rows]
    return np.stack([(kinds == call) @ masks.observed.T.astype(np.float32) for call in range(3)], axis=2).astype(
        np.int64
    )
