"""Genomic control of studies and of results: λ by an exact median that chunks of variants agree on.

    λ = median χ² / 0.4549364        METAL's: of n sorted values the one numbered int(n/2) from 0, the upper median
                                     χ² = (β/se)² for its STDERR scheme, z(p)² for SAMPLESIZE
    λ₁₀₀₀ = 1 + (λ − 1) (1/n_cases + 1/n_controls) / (2/1000)

A double that is not negative sorts as its bits do. So the value of any rank is found by counting the first 12 bits of all
values, then the next 12 of those in the right bin, then sorting the few left, each a pass over chunks whose counts add up:
the exact order statistic, in fixed memory, in any order of chunks and workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from biolmm.errors import ParameterError
from biolmm.results.diagnostics import MEDIAN_CHISQ_1, neg_log10_p
from biolmm.sumstats.meta.block import Matrix, Vector

METAL_MEDIAN = 0.4549364
"""METAL's (and GWAMA's) median of χ²₁; the true one is 0.45493642…"""

MedianRule = Literal["metal", "ordinary"]

_BITS = 12
_BINS = 1 << _BITS


@dataclass(frozen=True, eq=False)
class RankCounts:
    """Counts of χ² by their leading bits, of each study; those of other chunks add to it.

    Attributes
    ----------
    level
        How often the search was narrowed: 0, 1.
    prefix
        (2, k) bits that values must start with to be counted, for the lower and the upper median.
    below
        (2, k) values known to be lower.
    counts
        (2, k, 4096) values by their next 12 bits.
    n
        All values of each study, known once the first stage is over.
    """

    level: int
    prefix: NDArray[np.uint64]
    below: NDArray[np.int64]
    counts: NDArray[np.int64]
    n: NDArray[np.int64]

    def __add__(self, other: RankCounts) -> RankCounts:
        """Add the counts of another chunk."""
        return replace(self, counts=self.counts + other.counts)


@dataclass(frozen=True, eq=False)
class Medians:
    """Lower and upper median of each study's χ², and how many there were; NaN where there were none."""

    lower: Vector
    upper: Vector
    n: NDArray[np.int64]

    def lambda_gc(self, rule: MedianRule = "metal") -> Vector:
        """Give λ: METAL's upper median over its constant, or the ordinary median (mean of both) over the exact one."""
        if rule == "metal":
            return self.upper / METAL_MEDIAN
        return 0.5 * (self.lower + self.upper) / MEDIAN_CHISQ_1


@dataclass(frozen=True, eq=False)
class ControlledResult:
    """A result under genomic control: λ as applied (at least 1), and z/√λ, se·√λ, and the p-value of it."""

    lambda_gc: float
    z: Vector
    se_factor: float
    neg_log10_p: Vector


def first_counts(chisq: Matrix) -> RankCounts:
    """Count a chunk's χ² (b, k), NaN left out, by their first 12 bits.

    Raises
    ------
    ParameterError
        When a statistic is negative.
    """
    k = chisq.shape[1]
    prefix, below, counts = np.zeros((2, k), np.uint64), np.zeros((2, k), np.int64), np.zeros((2, k, _BINS), np.int64)
    return more_counts(chisq, RankCounts(0, prefix, below, counts, np.zeros(k, np.int64)))


def more_counts(chisq: Matrix, search: RankCounts) -> RankCounts:
    """Count a chunk's χ² at the stage of a search that `narrowed` gave; only the search's position is used."""
    values = np.ascontiguousarray(chisq, dtype=np.float64)
    if np.any(values < 0):
        raise ParameterError(f"A chi-squared statistic is {np.nanmin(values)} but must be at least 0.")
    counts = np.zeros_like(search.counts)
    _count((values + 0.0).view(np.uint64), search.prefix, 64 - _BITS * (search.level + 1), counts)
    return replace(search, counts=counts)


def narrowed(counted: RankCounts) -> RankCounts:
    """Find the bins of the medians in counts over all chunks; give the next stage's empty search."""
    n = counted.n if counted.level else counted.counts[0].sum(axis=1)
    prefix, below = counted.prefix.copy(), counted.below.copy()
    for which, rank in enumerate(_ranks(n)):
        reached = below[which][:, None] + np.cumsum(counted.counts[which], axis=1)
        bins = np.minimum((reached <= rank[:, None]).sum(axis=1), _BINS - 1)
        rows = np.arange(len(bins))
        below[which] = reached[rows, bins] - counted.counts[which][rows, bins]
        prefix[which] = (prefix[which] << np.uint64(_BITS)) | bins.astype(np.uint64)
    return RankCounts(counted.level + 1, prefix, below, np.zeros_like(counted.counts), n)


def gathered(chisq: Matrix, search: RankCounts) -> list[Vector]:
    """Give the values of a chunk that are in the bins still searched: two arrays a study, of lower and upper median."""
    bits = np.ascontiguousarray(chisq + 0.0, dtype=np.float64).view(np.uint64)
    shift = np.uint64(64 - _BITS * search.level)
    out = []
    for which in range(2):
        for study in range(chisq.shape[1]):
            inside = (bits[:, study] >> shift == search.prefix[which, study]) & ~np.isnan(chisq[:, study])
            out.append(np.asarray(chisq[inside, study], dtype=np.float64))
    return out


def chisq_medians(chunks: Callable[[], Iterable[Matrix]]) -> Medians:
    """Find the medians of each study's χ² in three passes over chunks.

    Parameters
    ----------
    chunks
        Called three times, each time gives the same (b, k) statistics in chunks of any size and order; NaN is left out.

    Raises
    ------
    ParameterError
        When there is no chunk or a statistic is negative.

    Examples
    --------
    >>> found = chisq_medians(lambda: [np.array([[1.0], [4.0]]), np.array([[2.0], [3.0]])])
    >>> found.lower.tolist(), found.upper.tolist()
    ([2.0], [3.0])
    """
    first = list(map(first_counts, chunks()))
    if not first:
        raise ParameterError("λ needs statistics, but no chunk of variants was given.")
    search = narrowed(reduce(RankCounts.__add__, first))
    search = narrowed(reduce(RankCounts.__add__, (more_counts(chunk, search) for chunk in chunks())))
    return medians_of(search, [gathered(chunk, search) for chunk in chunks()])


def medians_of(search: RankCounts, pieces: list[list[Vector]]) -> Medians:
    """Finish the search: sort what every chunk gathered and take the ranks."""
    k = len(search.n)
    found = np.full((2, k), np.nan)
    for which, rank in enumerate(_ranks(search.n)):
        for study in np.flatnonzero(search.n):
            values = np.concatenate([piece[which * k + study] for piece in pieces])
            place = int(rank[study] - search.below[which, study])
            found[which, study] = np.partition(values, place)[place]
    return Medians(found[0], found[1], search.n)


def lambda_1000(lambda_gc: ArrayLike, n_cases: ArrayLike, n_controls: ArrayLike) -> Vector:
    """Rescale λ to a study of 1,000 cases and 1,000 controls.

    Examples
    --------
    >>> lambda_1000(1.2, 4000, 4000).round(6).tolist()
    1.05
    """
    size = 1.0 / np.asarray(n_cases, dtype=np.float64) + 1.0 / np.asarray(n_controls, dtype=np.float64)
    return np.asarray(1.0 + (np.asarray(lambda_gc, dtype=np.float64) - 1.0) * size * 500.0)


def control_result(z: ArrayLike, lambda_gc: float) -> ControlledResult:
    """Apply genomic control to the result of a meta-analysis; λ below 1 counts as 1.

    Raises
    ------
    ParameterError
        When λ is not a positive number.
    """
    if not (lambda_gc > 0 and np.isfinite(lambda_gc)):
        raise ParameterError(f"λ of the result is {lambda_gc} but must be a number above 0.")
    factor = max(1.0, lambda_gc)
    smaller = np.asarray(z, dtype=np.float64) / np.sqrt(factor)
    return ControlledResult(factor, smaller, float(np.sqrt(factor)), neg_log10_p(smaller))


def _ranks(n: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the lower and the upper median from 0."""
    return np.maximum(n - 1, 0) // 2, n // 2


@numba.njit(nogil=True, cache=True)
def _count(bits, prefix, shift, counts):  # type: ignore[no-untyped-def]  # pragma: no cover
    largest = np.uint64(0x7FF0000000000000)  # above infinity's bits there are NaNs
    down, mask = np.uint64(shift), np.uint64(4095)
    up = np.uint64(shift + 12)
    first = shift + 12 == 64
    for i in range(bits.shape[0]):
        for j in range(bits.shape[1]):
            value = bits[i, j]
            if value > largest:
                continue
            place = np.int64((value >> down) & mask)
            for which in range(2):
                if first or (value >> up) == prefix[which, j]:
                    counts[which, j, place] += 1
