"""Some variants, wherever they are, as standardised columns: sampled ones and leads."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import map_tasks
from biolmm.genotypes.filters import VariantFilters
from biolmm.genotypes.source import ChosenGenotypes, Partition
from biolmm.genotypes.standardised import Standardiser, coded_rows, partition_task


@dataclass(frozen=True)
class Columns:
    """Variants in the order that they were asked for.

    Attributes
    ----------
    Z
        (N, v) standardised; (N, 0) where only counts were asked for.
    scale
        (v,) what one copy of ALT adds to z; 0 for variants that do not vary.
    frequency
        (v,) of ALT.
    passes
        (v,) whether each passes the filters.
    """

    Z: NDArray[np.float64]
    scale: NDArray[np.float64]
    frequency: NDArray[np.float64]
    passes: NDArray[np.bool_]


def standardised_columns(
    source: ChosenGenotypes,
    variants: NDArray[np.int64],
    filters: VariantFilters | None = None,
    *,
    count_only: bool = False,
) -> Columns:
    """Read variants, given by their store indices in any order, and standardise them on the cohort.

    Notes
    -----
    **Cost**: reads the chunks that hold them.
    """
    wanted, place_of = np.unique(variants, return_inverse=True)  # two traits may share a lead
    parts, places = [], []
    for partition in source.partitions:
        mine = np.flatnonzero(np.isin(wanted, partition.variants))
        if len(mine):
            parts.append(replace(partition, variants=wanted[mine]))
            places.append(mine)
    how = Standardiser(source.reader)
    found = map_tasks(_read_columns, parts, (how, filters or VariantFilters(), count_only))
    n = len(wanted)
    columns = Columns(
        np.empty((source.n_samples, 0 if count_only else n)), np.zeros(n), np.full(n, np.nan), np.zeros(n, dtype=bool)
    )
    for place, part in zip(places, found, strict=True):
        if not count_only:
            columns.Z[:, place] = part.Z
        columns.scale[place], columns.frequency[place] = part.scale, part.frequency
        columns.passes[place] = part.passes
    Z = columns.Z if count_only or n == len(variants) == 0 else columns.Z[:, place_of]
    return Columns(Z, columns.scale[place_of], columns.frequency[place_of], columns.passes[place_of])


def _read_columns(partition: Partition, shared: tuple[Standardiser, VariantFilters, bool]) -> Columns:
    how, filters, count_only = shared
    reader = how.reader
    rows = reader.read_variants(partition.variants)
    counted = reader.coding.count(rows, reader.encoding, how.everyone, partition.ploidy)
    passes = filters.passing(rows, reader, partition.variants, counted, partition.ploidy).kept
    scaling = how.scaling(counted.moments.of(0), partition.ploidy)
    Z = np.empty((0, reader.n_samples))
    if not count_only:
        Z = np.empty((len(rows), reader.n_samples))
        coded_rows(rows, reader, partition_task(partition, scaling, reader.coding)).unpacked(Z, 0, reader.n_samples)
    return Columns(Z.T, scaling.scale, counted.frequency[:, 0], passes)
