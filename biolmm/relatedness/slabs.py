"""Blocks of standardised genotypes of a few bands of samples: what tiles of `ZᵀZ` are multiplied from.

Legend: b variants of a slab; a band is a run of samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.files.encoding import Encoding
from biolmm.genotypes.source import RowReader
from biolmm.genotypes.standardised import CodedRows, PartitionTask, coded_rows

SLAB_VARIANTS = 1024
"""Variants of a slab: products of this length run near the processor's peak."""

Band = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Missing:
    """Who of a band has no genotype at the variants of a slab.

    Attributes
    ----------
    samples
        Places in the band, variant by variant, ascending within each.
    offsets
        (b + 1,) where each variant's begin.
    weight
        (b,) of the variants.
    """

    samples: NDArray[np.int32]
    offsets: NDArray[np.int64]
    weight: NDArray[np.float64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """(b,) how many each variant has."""
        return np.diff(self.offsets)

    def lacked(self, n_samples: int) -> NDArray[np.float64]:
        """Add up the weights of the variants that each sample of the band has not, (n_samples,)."""
        sums = np.bincount(self.samples, np.repeat(self.weight, self.counts), minlength=n_samples)
        return sums.astype(np.float64)  # of an empty list bincount makes integers

    def dense(self, n_samples: int) -> Band:
        """Return (b, n_samples): √weight where a genotype is missing, 0 elsewhere."""
        out = np.zeros((len(self.weight), n_samples), np.float32)
        variant = np.repeat(np.arange(len(self.weight)), self.counts)
        out[variant, self.samples] = np.sqrt(self.weight)[variant]
        return out


@dataclass(frozen=True)
class Slab:
    """Consecutive variants, unpacked for every band.

    Attributes
    ----------
    bands
        One (b, samples of the band) each: standardised genotypes.
    missing
        Who has none in each; empty unless asked for.
    """

    bands: tuple[Band, ...]
    missing: tuple[Missing, ...] = ()

    def __len__(self) -> int:
        return len(self.bands[0])


def slab_bytes(bands: Sequence[int]) -> int:
    """Give the memory of a slab over bands of these many samples."""
    return 4 * SLAB_VARIANTS * sum(bands)


def read_slabs(
    reader: RowReader, tasks: Sequence[PartitionTask], bands: Sequence[slice], *, with_missing: bool = False
) -> Iterator[Slab]:
    """Read variants in order and unpack them for some bands of samples, `SLAB_VARIANTS` at a time.

    Slabs end where so many variants are together, not where chunks of the store do. A slab is overwritten by the next.

    Parameters
    ----------
    reader
        Reads the rows of the cohort.
    tasks
        Partitions and how they are standardised.
    bands
        Samples, each beginning at a multiple of 4.
    with_missing
        List who has no genotype too.
    """
    size = min(SLAB_VARIANTS, sum(len(task.partition.variants) for task in tasks))
    widths = [band.stop - band.start for band in bands]
    values = tuple(np.empty((size, width), np.float32) for width in widths)
    lists: list[list[Missing]] = [[] for _ in bands]
    filled = 0
    for task in tasks:
        for where, rows in reader.blocks(task.partition):
            coded = coded_rows(rows, reader, task[where])
            start = 0
            while start < len(coded):
                stop = min(len(coded), start + size - filled)
                block = coded[start:stop]
                for part, band, found in zip(values, bands, lists, strict=True):
                    block.unpacked(part[filled : filled + len(block)], band.start, band.stop)
                    if with_missing:
                        found.append(_list_missing(block, band))
                start, filled = stop, filled + len(block)
                if filled == size:
                    yield Slab(values, _joined(lists))
                    filled = 0
    if filled:
        yield Slab(tuple(each[:filled] for each in values), _joined(lists))


def _joined(lists: list[list[Missing]]) -> tuple[Missing, ...]:
    """Put the lists of each band one after another, and empty them."""
    joined = []
    for found in lists:
        if found:
            counts = np.concatenate([each.counts for each in found])
            offsets = np.concatenate([[0], np.cumsum(counts)])
            samples = np.concatenate([each.samples for each in found])
            joined.append(Missing(samples, offsets, np.concatenate([each.weight for each in found])))
            found.clear()
    return tuple(joined)


def _list_missing(block: CodedRows, band: slice) -> Missing:
    width = band.stop - band.start
    counts = np.empty(len(block), np.int64)
    if block.encoding is Encoding.CALLS:
        part = block.rows[:, band.start // 4 : -(-band.stop // 4)]
        _count_calls(part, width, counts)
    else:
        part = block.rows[:, band]
        _count_codes(part, block.encoding.missing, counts)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    samples = np.empty(int(offsets[-1]), np.int32)
    if len(samples):
        if block.encoding is Encoding.CALLS:
            _fill_calls(part, width, offsets, samples)
        else:
            _fill_codes(part, block.encoding.missing, offsets, samples)
    return Missing(samples, offsets, block.task.scaling.weight)


_FIRST_BITS = np.uint8(0x55)


@numba.njit(nogil=True, cache=True)
def _count_calls(packed, width, counts):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Count the missing calls among the first `width` of every packed row; calls beyond are missing and do not count."""
    for i in range(packed.shape[0]):
        n = 0
        for j in range(packed.shape[1]):
            both = packed[i, j] & (packed[i, j] >> np.uint8(1)) & _FIRST_BITS
            n += (both & 1) + ((both >> 2) & 1) + ((both >> 4) & 1) + (both >> 6)
        for sample in range(width, 4 * packed.shape[1]):
            n -= ((packed[i, sample >> 2] >> np.uint8(2 * (sample & 3))) & 3) == 3
        counts[i] = n


@numba.njit(nogil=True, cache=True)
def _fill_calls(packed, width, offsets, samples):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(packed.shape[0]):
        place = offsets[i]
        if place == offsets[i + 1]:
            continue
        for j in range(packed.shape[1]):
            both = packed[i, j] & (packed[i, j] >> np.uint8(1)) & _FIRST_BITS
            if both == 0:
                continue
            for k in range(4):
                if (both >> (2 * k)) & 1 and 4 * j + k < width:
                    samples[place] = 4 * j + k
                    place += 1


@numba.njit(nogil=True, cache=True)
def _count_codes(codes, missing, counts):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(codes.shape[0]):
        n = 0
        for j in range(codes.shape[1]):
            n += codes[i, j] == missing
        counts[i] = n


@numba.njit(nogil=True, cache=True)
def _fill_codes(codes, missing, offsets, samples):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(codes.shape[0]):
        place = offsets[i]
        for j in range(codes.shape[1]):
            if codes[i, j] == missing:
                samples[place] = j
                place += 1
