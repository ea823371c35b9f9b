"""Variants of one partition under the exact model: read, filtered, rotated once a set of samples, tested on every trait.

Legend: b variants, N samples, T traits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biolmm.contigs import Ploidy
from biolmm.exact.eigenbasis import Eigenbasis
from biolmm.exact.variant_tests import ExactStatistics, TraitModel, exact_tests, fixed_ratio_test, squares_of
from biolmm.files.encoding import Rows
from biolmm.genotypes.coding import Coding, Counted
from biolmm.genotypes.filters import VariantFilters, add_counts, information
from biolmm.genotypes.moments import SampleMasks
from biolmm.genotypes.scaling import Scaling, scaling_from_moments
from biolmm.genotypes.source import Partition, RowReader
from biolmm.genotypes.standardised import CodedRows, PartitionTask, coded_rows

COLLINEAR = 1e-5
"""A variant whose variance falls below this share once covariates are taken out has no statistics."""
TILE_BYTES = 32 * 2**20

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Dosages:
    """Some variants of the cohort, centred, a missing call at the mean of everybody called.

    Attributes
    ----------
    variants
        (b,) store indices.
    Z
        (b, N) dosages of ALT less their mean.
    counted
        Their sums under the sets of samples.
    """

    variants: NDArray[np.int64]
    Z: Array
    counted: Counted

    def usable(self, system: int, rows: NDArray[np.int64], rotated: Array) -> NDArray[np.bool_]:
        """Say which variants have variance left among a system's samples once covariates are taken out, (b,)."""
        Z = self.Z if len(rows) == self.Z.shape[1] else self.Z[:, rows]
        total = np.einsum("ij,ij->i", Z, Z)
        # z is centred on everybody, so that its square among some is not its variance there.
        total -= Z.sum(axis=1) ** 2 / max(len(rows), 1)
        left = np.einsum("ij,ij->i", rotated, rotated)
        return np.asarray((left > COLLINEAR * np.maximum(total, 1e-300)) & self.counted.moments.vary[:, system + 1])


class Tested(Protocol):
    """Traits observed on the same samples that know how to be tested."""

    @property
    def traits(self) -> tuple[int, ...]:
        """Which traits."""
        ...

    def tests(self, block: Dosages, index: int) -> Iterator[tuple[int, ExactStatistics]]:
        """Yield every trait with the tests of a block; `index` is the system's place among the masks."""
        ...


@dataclass(frozen=True, eq=False)
class System:
    """Traits observed on the same samples, under one relatedness matrix.

    Attributes
    ----------
    basis
        The eigenbasis.
    traits
        Which traits.
    models
        Theirs.
    h2
        (T of this system,) h² at which variants are tested; empty where each variant has its own.
    """

    basis: Eigenbasis
    traits: tuple[int, ...]
    models: tuple[TraitModel, ...]
    h2: tuple[float, ...] = ()

    def tests(self, block: Dosages, index: int) -> Iterator[tuple[int, ExactStatistics]]:
        """Rotate a block once and test it on every trait."""
        rotated = self.basis.rotate(block.Z)
        usable = block.usable(index, self.basis.rows, rotated)
        if self.h2:
            for trait, model, h2 in zip(self.traits, self.models, self.h2, strict=True):
                yield trait, fixed_ratio_test(model, h2, rotated, usable)
            return
        squares = squares_of(self.models[0], rotated)
        for trait, model in zip(self.traits, self.models, strict=True):
            yield trait, exact_tests(model, rotated, squares, usable)


@dataclass(frozen=True, eq=False)
class ExactPanel:
    """What all parts of a scan with one relatedness matrix share.

    Attributes
    ----------
    reader
        Rows of the cohort.
    systems
        Every set of observed samples.
    masks
        The whole cohort, then the samples of every system.
    n_traits
        T.
    filters
        Variants that fail are not tested.
    """

    reader: RowReader
    systems: tuple[Tested, ...]
    masks: SampleMasks
    n_traits: int
    filters: VariantFilters = field(default_factory=VariantFilters)


@dataclass(frozen=True, eq=False)
class ExactPart:
    """What came of one partition.

    Attributes
    ----------
    variants
        (b,) store indices of those that passed the filters.
    statistics
        One a trait.
    frequency
        (b, T) of ALT among each trait's samples.
    info
        (b,) imputation quality; None for hard calls.
    n_monomorphic
        Variants that do not vary in the cohort.
    removed
        Variants that each filter took out.
    """

    variants: NDArray[np.int64]
    statistics: tuple[ExactStatistics, ...]
    frequency: Array
    info: Array | None
    n_monomorphic: int
    removed: dict[str, int]


def read_dosages(
    reader: RowReader, partition: Partition, masks: SampleMasks, filters: VariantFilters, removed: dict[str, int]
) -> Iterator[Dosages]:
    """Yield the variants of a partition that pass the filters, as blocks in double precision.

    What the filters take out is added to `removed`.
    """
    height = int(np.clip(TILE_BYTES // (8 * reader.n_samples), 32, 512))
    for where, rows in reader.blocks(partition):
        part = replace(partition, variants=partition.variants[where])
        coded, counted, taken = _passing(reader, part, rows, masks, filters)
        removed.update(add_counts([removed, taken]))
        for start in range(0, len(coded), height):
            some = coded[start : start + height]
            found = counted[start : start + height]
            yield Dosages(some.task.partition.variants, _unpacked(some, reader.n_samples), found)


def read_chosen(reader: RowReader, partition: Partition, masks: SampleMasks, filters: VariantFilters) -> Dosages:
    """Return some variants of a partition at once, those that pass the filters."""
    rows = reader.read_variants(partition.variants)
    coded, counted, _ = _passing(reader, partition, rows, masks, filters)
    return Dosages(coded.task.partition.variants, _unpacked(coded, reader.n_samples), counted)


def partition_tests(partition: Partition, panel: ExactPanel) -> ExactPart:
    """Test a partition's variants on every trait.

    Notes
    -----
    Cost: 2·n² flop a variant and set of observed samples; 400·n a trait.
    """
    removed: dict[str, int] = {}
    none = np.zeros(0)
    empty = ExactStatistics(*[none] * len(ExactStatistics.__dataclass_fields__))
    statistics: list[list[ExactStatistics]] = [[empty] for _ in range(panel.n_traits)]
    frequencies, variants = [np.zeros((0, panel.n_traits))], [np.zeros(0, np.int64)]
    n_monomorphic = 0
    for block in read_dosages(panel.reader, partition, panel.masks, panel.filters, removed):
        frequency = np.empty((len(block.variants), panel.n_traits))
        n_monomorphic += int(np.count_nonzero(~block.counted.moments.vary[:, 0]))
        for index, system in enumerate(panel.systems):
            for trait, found in system.tests(block, index):
                statistics[trait].append(found)
                frequency[:, trait] = block.counted.frequency[:, index + 1]
        variants.append(block.variants)
        frequencies.append(frequency)
    kept = np.concatenate(variants)
    return ExactPart(
        kept, tuple(map(_joined, statistics)), np.concatenate(frequencies), information(panel.reader, kept),
        n_monomorphic, removed,
    )  # fmt: skip


def n_counted(panel: ExactPanel, partition: Partition) -> NDArray[np.int64]:
    """Return how many samples each trait's tests rest on, (T,): those observed, on Y the males among them."""
    masks = panel.masks.within(panel.reader.coding.male) if partition.ploidy == Ploidy.Y else panel.masks
    n = np.zeros(panel.n_traits, np.int64)
    for index, system in enumerate(panel.systems):
        n[list(system.traits)] = masks.n_observed[index + 1]
    return n


def _passing(
    reader: RowReader, partition: Partition, rows: Rows, masks: SampleMasks, filters: VariantFilters
) -> tuple[CodedRows, Counted, dict[str, int]]:
    """Count and filter variants; return what passes, centred, and how many each filter took."""
    counted = reader.coding.count(rows, reader.encoding, masks, partition.ploidy)
    found = filters.passing(rows, reader, partition.variants, counted, partition.ploidy)
    if not found.kept.all():
        partition = replace(partition, variants=partition.variants[found.kept])
        rows, counted = rows[found.kept], counted[found.kept]
    scaling = scaling_from_moments(counted.moments.of(0), alpha=0.0)
    return coded_rows(rows, reader, _task(partition, scaling, reader.coding)), counted, found.removed


def _task(partition: Partition, scaling: Scaling, coding: Coding) -> PartitionTask:
    """Return the maps of variants as `genotypes.standardised.partition_task`, in double precision."""
    female, male = coding.weights(partition.ploidy)
    tables = scaling.tables(female)
    if female == 0:
        tables[:] = 0.0
    return PartitionTask(partition, scaling, tables, scaling.tables(male) if coding.splits(partition.ploidy) else None)  # type: ignore[arg-type]


def _unpacked(block: CodedRows, n_samples: int) -> Array:
    tile = np.empty((len(block), n_samples))
    block.unpacked(tile, 0, n_samples)
    return tile


def _joined(blocks: list[ExactStatistics]) -> ExactStatistics:
    fields = ExactStatistics.__dataclass_fields__
    return ExactStatistics(**{name: np.concatenate([getattr(block, name) for block in blocks]) for name in fields})
