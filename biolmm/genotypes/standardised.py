"""Genotypes with their standardisation: what the operator and the scan multiply with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import map_tasks
from biolmm.files.encoding import Encoding, Rows
from biolmm.genotypes.coding import Coding
from biolmm.genotypes.filters import VariantFilters, add_counts
from biolmm.genotypes.kernels import standardise_dosages, standardise_samples, unpack_into, unpack_samples
from biolmm.genotypes.moments import Moments, SampleMasks
from biolmm.genotypes.scaling import Scale, Scaling, scaling_from_moments
from biolmm.genotypes.source import ChosenGenotypes, Partition, RowReader
from biolmm.linalg.blas import add_product

TILE_BYTES = 10 * 2**20
FULL_WIDTH_SAMPLES = 24_576
"""Up to this many samples a tile of whole rows stays in cache between two products and is unpacked once."""
SQUARE_TILE = 1024
"""Side of the tile of larger cohorts: unpacked twice, which is cheaper than a trip to memory."""


@dataclass(frozen=True)
class PartitionTask:
    """One partition and how it is standardised.

    Attributes
    ----------
    partition
        Its variants.
    scaling
        The map of each.
    tables
        (b, 4) standardised values of dosages 0, 1, 2 and of a missing one.
    male_tables
        The same for males where they count otherwise.
    """

    partition: Partition
    scaling: Scaling
    tables: NDArray[np.float32]
    male_tables: NDArray[np.float32] | None = None

    def __getitem__(self, where: slice) -> PartitionTask:
        male = None if self.male_tables is None else self.male_tables[where]
        variants = replace(self.partition, variants=self.partition.variants[where])
        return PartitionTask(variants, self.scaling[where], self.tables[where], male)


@dataclass(frozen=True)
class StandardisedGenotypes:
    """Z: rows, the affine map of every variant, and the tasks that one pass consists of.

    Attributes
    ----------
    source
        The chosen samples and variants.
    scaling
        (M,) the map of every variant.
    tasks
        One a partition.
    filtered
        How many variants each filter took out before.
    """

    source: ChosenGenotypes
    scaling: Scaling
    tasks: tuple[PartitionTask, ...]
    filtered: dict[str, int]


@dataclass(frozen=True)
class CodedRows:
    """Consecutive rows with the maps that standardise them.

    Attributes
    ----------
    rows
        (b, width) encoded.
    encoding
        How.
    task
        The maps of the same variants.
    males
        Samples to which `task.male_tables` apply, ascending.
    """

    rows: Rows
    encoding: Encoding
    task: PartitionTask
    males: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, where: slice) -> CodedRows:
        return CodedRows(self.rows[where], self.encoding, self.task[where], self.males)

    def blocks(self, tile: NDArray[np.float32]) -> Iterator[CodedRows]:
        """Cut the rows into blocks that fit the tile."""
        for start in range(0, len(self.rows), len(tile)):
            yield self[start : start + len(tile)]

    def unpacked(
        self, tile: NDArray[np.float32] | NDArray[np.float64], left: int, right: int
    ) -> NDArray[np.float32] | NDArray[np.float64]:
        """Standardise samples left:right into the tile, (b, right − left); `left` is a multiple of 4."""
        view = tile[: len(self.rows), : right - left]
        tables = self.task.tables
        male_tables = self.task.male_tables
        males = self.males[slice(*np.searchsorted(self.males, [left, right]))] - left
        if self.encoding is Encoding.CALLS:
            part = self.rows[:, left // 4 : (right + 3) // 4]
            unpack_into(part, tables, view)
            if male_tables is not None:
                unpack_samples(part, male_tables, males, view)
            return view
        part = self.rows[:, left:right]
        steps, missing = self.encoding.steps, self.encoding.missing
        standardise_dosages(part, tables, steps, missing, view)
        if male_tables is not None:
            standardise_samples(part, male_tables, steps, missing, males, view)
        return view

    def product(self, X: NDArray[np.float32], tile: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `Z_b X`, (b, r), for rows that fit the tile; a tile that holds whole rows is left filled."""
        N, width = X.shape[0], tile.shape[1]
        W = np.empty((len(self.rows), X.shape[1]), np.float32)
        for left in range(0, N, width):
            right = min(left + width, N)
            view = self.unpacked(tile, left, right)
            if left == 0:
                np.matmul(view, X[left:right], out=W)
            else:
                add_product(W, view, X[left:right])
        return W


@dataclass(frozen=True)
class Standardiser:
    """Reads partitions and standardises them on the spot: each from its own rows, so nothing is read before.

    Attributes
    ----------
    reader
        Reads the rows of the cohort.
    alpha, by
        See `scaling_from_moments`.
    """

    reader: RowReader
    alpha: float = -1.0
    by: Scale = "hwe"

    @cached_property
    def everyone(self) -> SampleMasks:
        """The whole cohort as a set of samples."""
        return SampleMasks(np.ones((1, self.reader.n_samples), dtype=bool))

    def scaling(self, moments: Moments, ploidy: int) -> Scaling:
        """Return the maps of variants from their moments over the whole cohort, each (b,)."""
        by = "sample" if self.reader.coding.weights(ploidy) != (1.0, 1.0) else self.by
        return scaling_from_moments(moments, self.alpha, by)


def partition_task(partition: Partition, scaling: Scaling, coding: Coding) -> PartitionTask:
    """Return the maps of a partition's variants for females and, where they count otherwise, for males."""
    female, male = coding.weights(partition.ploidy)
    tables = scaling.tables(female).astype(np.float32)
    if female == 0:
        tables[:] = 0.0
    male_tables = scaling.tables(male).astype(np.float32) if coding.splits(partition.ploidy) else None
    return PartitionTask(partition, scaling, tables, male_tables)


def coded_rows(rows: Rows, reader: RowReader, task: PartitionTask) -> CodedRows:
    """Put rows together with their maps."""
    males = np.flatnonzero(reader.coding.male) if task.male_tables is not None else np.zeros(0, np.int64)
    return CodedRows(rows, reader.encoding, task, males)


def read_blocks(reader: RowReader, task: PartitionTask, tile: NDArray[np.float32]) -> Iterator[CodedRows]:
    """Read the rows of a partition in blocks that fit the tile."""
    for where, rows in reader.blocks(task.partition):
        yield from coded_rows(rows, reader, task[where]).blocks(tile)


def standardise(
    source: ChosenGenotypes,
    alpha: float = -1.0,
    scale: Scale = "hwe",
    filters: VariantFilters | None = None,
) -> StandardisedGenotypes:
    """Estimate means and variances on the cohort and set up the tasks of a pass.

    Parameters
    ----------
    source
        Samples and variants.
    alpha, scale
        See `scaling_from_moments`.
    filters
        Variants that fail are left out.

    Notes
    -----
    **Cost**: one quick pass that counts; what it reads stays in memory where the budget allows.
    """
    how = Standardiser(source.reader, alpha, scale)
    filters = filters or VariantFilters()
    parts = map_tasks(_scale_partition, source.partitions, (how, filters))
    if filters.active and parts:
        source = source.keep(np.concatenate([part.kept for part in parts]))
    scaling = Scaling.joined([part.scaling for part in parts])
    tasks, stop = [], 0
    for partition in source.partitions:
        start, stop = stop, stop + len(partition.variants)
        tasks.append(partition_task(partition, scaling[start:stop], source.reader.coding))
    return StandardisedGenotypes(source, scaling, tuple(tasks), add_counts(part.removed for part in parts))


@dataclass(frozen=True)
class _ScaledPart:
    """The maps of a partition's variants that pass the filters, which they are, and what the filters took."""

    scaling: Scaling
    kept: NDArray[np.bool_]
    removed: dict[str, int]


def _scale_partition(partition: Partition, shared: tuple[Standardiser, VariantFilters]) -> _ScaledPart:
    how, filters = shared
    reader = how.reader
    scalings, passing = [], []
    for where, rows in reader.blocks(partition):
        counted = reader.coding.count(rows, reader.encoding, how.everyone, partition.ploidy)
        found = filters.passing(rows, reader, partition.variants[where], counted, partition.ploidy)
        scalings.append(how.scaling(counted.moments.of(0), partition.ploidy)[found.kept])
        passing.append(found)
    kept = np.concatenate([found.kept for found in passing])
    return _ScaledPart(Scaling.joined(scalings), kept, add_counts(found.removed for found in passing))


def new_tile(n_samples: int) -> NDArray[np.float32]:
    """Allocate the tile that blocks of rows are standardised into, (variants, samples)."""
    if n_samples > FULL_WIDTH_SAMPLES:
        return np.empty((SQUARE_TILE, SQUARE_TILE), np.float32)
    n_variants = int(np.clip(TILE_BYTES // (4 * n_samples) // 32 * 32, 64, 512))
    return np.empty((n_variants, n_samples), np.float32)


def sums_of_squares(moments: Moments, scaling: Scaling) -> NDArray[np.float64]:
    """Return `Σᵢ Dᵢᵢ zᵢ²`, (b, k), from the moments of w · d under each set of samples."""
    mean, scale = scaling.mean[:, None], scaling.scale[:, None]
    sums = moments.squares - 2 * mean * moments.total + mean**2 * moments.called
    return np.maximum(scale**2 * sums, 0.0)
