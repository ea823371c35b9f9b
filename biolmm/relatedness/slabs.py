"""Blocks of standardised genotypes of a few bands of samples: what tiles of `ZᵀZ` are multiplied from.

Legend: b variants of a slab; a band is a run of samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.source import RowReader
from biolmm.genotypes.standardised import CodedRows, PartitionTask, coded_rows

SLAB_VARIANTS = 1024
"""Variants of a slab: products of this length run near the processor's peak."""

Band = NDArray[np.float32]


@dataclass(frozen=True)
class Slab:
    """Consecutive variants, unpacked for every band.

    Attributes
    ----------
    bands
        One (b, samples of the band) each: standardised genotypes.
    missing
        The same shapes: √weight where a genotype is missing and 0 elsewhere; empty unless asked for.
    """

    bands: tuple[Band, ...]
    missing: tuple[Band, ...] = ()

    def __len__(self) -> int:
        return len(self.bands[0])


def slab_bytes(bands: Sequence[int], with_missing: bool) -> int:
    """Give the memory of a slab over bands of these many samples."""
    return 4 * SLAB_VARIANTS * sum(bands) * (2 if with_missing else 1)


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
        Unpack where genotypes are missing too.
    """
    size = min(SLAB_VARIANTS, sum(len(task.partition.variants) for task in tasks))
    widths = [band.stop - band.start for band in bands]
    values = tuple(np.empty((size, width), np.float32) for width in widths)
    missing = tuple(np.empty((size, width), np.float32) for width in widths) if with_missing else ()
    filled = 0
    for task in tasks:
        for where, rows in reader.blocks(task.partition):
            coded = coded_rows(rows, reader, task[where])
            start = 0
            while start < len(coded):
                stop = min(len(coded), start + size - filled)
                block = coded[start:stop]
                here = slice(filled, filled + stop - start)
                _unpack(block, values, bands, here)
                if with_missing:
                    _unpack(_where_missing(block), missing, bands, here)
                start, filled = stop, here.stop
                if filled == size:
                    yield Slab(values, missing)
                    filled = 0
    if filled:
        yield Slab(tuple(each[:filled] for each in values), tuple(each[:filled] for each in missing))


def _unpack(block: CodedRows, parts: Sequence[Band], bands: Sequence[slice], here: slice) -> None:
    for part, band in zip(parts, bands, strict=True):
        block.unpacked(part[here], band.start, band.stop)


def _where_missing(block: CodedRows) -> CodedRows:
    """Map a missing genotype to √weight and every other to 0."""
    task = block.task
    tables = np.zeros_like(task.tables)
    tables[:, 3] = np.sqrt(task.scaling.weight)
    male_tables = None if task.male_tables is None else tables
    return replace(block, task=replace(task, tables=tables, male_tables=male_tables))
