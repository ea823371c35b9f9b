"""Sizes of an analysis, and the tasks that its passes are cut into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.cohort import Cohort
from biolmm.genotypes.operator import MAX_GROUP_BYTES, MIN_GROUP_BYTES, N_GROUPS
from biolmm.genotypes.source import partition_step
from biolmm.pipeline.genotypes import AnalysisGenotypes
from biolmm.pipeline.variants import ChosenVariants
from biolmm.store.data import GenotypeData

NEARLY_ALL = 0.95
"""Share of the cohort's people that a set of them is taken to have where nobody says."""


@dataclass(frozen=True)
class Shape:
    """Sizes that decide what an analysis costs.

    Attributes
    ----------
    n_systems
        Sets of samples: the cohort, and those of traits that lack some.
    n_used
        Of these, sets that a trait has.
    row_bytes, scan_row_bytes
        Bytes of one row of the model and of the scan.
    chunk_bytes
        Bytes of the largest chunk of rows that a task holds, over all samples of the genotypes.
    parts, tasks
        Variants of every partition of the model, and of every task of a pass.
    contig_tasks
        Those of a pass that keeps each contig's part, contig by contig.
    scan_parts
        Variants of every part of the scan.
    n_left_out
        Contigs of the model, each of which can be left out.
    observed
        Share of the cohort's people in every set that lacks some.
    """

    n_samples: int
    n_variants: int
    n_scanned: int
    n_traits: int
    n_systems: int
    n_covariates: int
    n_contigs: int
    row_bytes: int
    scan_row_bytes: int
    chunk_bytes: int
    n_used: int = 1
    parts: tuple[int, ...] = ()
    tasks: tuple[int, ...] = ()
    contig_tasks: tuple[tuple[int, ...], ...] = ()
    scan_parts: tuple[int, ...] = ()
    n_left_out: int = 22
    observed: tuple[float, ...] = ()

    @classmethod
    def of(cls, cohort: Cohort, data: AnalysisGenotypes, variants: ChosenVariants) -> Shape:
        """Measure a cohort and its choice of variants."""
        observed = tuple(float(mask.observed.mean()) for mask in cohort.classes if not mask.observed.all())
        both = (data.model, data.scan)
        row_bytes = data.model.encoding.row_bytes(cohort.n_samples)
        parts, contigs = partition_sizes(data.model, variants.model)
        return cls(
            n_samples=cohort.n_samples,
            n_variants=len(variants.model),
            n_scanned=len(variants.scan),
            n_traits=cohort.n_traits,
            n_systems=1 + len(observed),
            n_covariates=1 + len(cohort.covariate_names),
            n_contigs=len(data.model.contig_id),
            row_bytes=row_bytes,
            scan_row_bytes=data.scan.encoding.row_bytes(cohort.n_samples),
            chunk_bytes=max(each.chunk_variants * each.encoding.row_bytes(each.n_samples) for each in both),
            n_used=len(cohort.classes),
            parts=tuple(parts),
            tasks=task_sizes(parts, row_bytes),
            contig_tasks=contig_task_sizes(parts, contigs, row_bytes),
            scan_parts=tuple(partition_sizes(data.scan, variants.scan)[0]),
            n_left_out=len(set(contigs)),
            observed=observed,
        )

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the cohort's people in every set that lacks some, known or not."""
        return self.observed or (NEARLY_ALL,) * (self.n_systems - 1)

    @property
    def pass_bytes(self) -> int:
        """Bytes that one pass over the model's variants reads."""
        return self.n_variants * self.row_bytes


def partition_sizes(data: GenotypeData, chosen: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Return how many of the chosen variants each partition has, and the partition's contig."""
    step = partition_step(len(chosen), data.chunk_variants, data.encoding.row_bytes(data.n_samples))
    return cut_partitions(data.variant_contig[chosen], chosen, step)


def cut_partitions(contigs: NDArray[np.integer], chosen: NDArray[np.int64], step: int) -> tuple[list[int], list[int]]:
    """Cut variants of given contigs and places in the store as `ChosenGenotypes` does; pseudo-autosomal ends aside.

    Examples
    --------
    >>> cut_partitions(np.array([0, 0, 0, 1]), np.arange(4), step=2)
    ([2, 1, 1], [0, 0, 1])
    """
    if not len(chosen):
        return [], []
    changes = (np.diff(contigs) != 0) | (np.diff(chosen // step) != 0)
    edges = np.concatenate([[0], np.flatnonzero(changes) + 1, [len(chosen)]])
    return np.diff(edges).tolist(), contigs[edges[:-1]].tolist()


def task_sizes(partitions: Sequence[int], row_bytes: int, of_all: int | None = None) -> tuple[int, ...]:
    """Return the variants of each task of a pass: neighbouring partitions together, as `GenotypeOperator` groups them.

    Parameters
    ----------
    partitions
        Variants of each.
    row_bytes
        Bytes of a variant.
    of_all
        Variants of the whole pass, where the partitions are some of them.

    Examples
    --------
    >>> task_sizes([1000, 1000, 1000], row_bytes=5000)
    (2000, 1000)
    """
    if not partitions:
        return ()
    n_bytes = (sum(partitions) if of_all is None else of_all) * row_bytes
    target = np.clip(n_bytes // N_GROUPS, MIN_GROUP_BYTES, MAX_GROUP_BYTES)
    sizes = np.asarray(partitions, dtype=np.int64)
    group_of = (np.concatenate([[0], np.cumsum(sizes)[:-1]]) * row_bytes) // target
    return tuple(int(sizes[group_of == one].sum()) for one in np.unique(group_of))


def contig_task_sizes(partitions: Sequence[int], contigs: Sequence[int], row_bytes: int) -> tuple[tuple[int, ...], ...]:
    """Return the variants of each task of a pass that keeps the sum of each contig, contig by contig."""
    by_contig = [
        [size for size, other in zip(partitions, contigs, strict=True) if other == contig]
        for contig in dict.fromkeys(contigs)
    ]
    return tuple(task_sizes(parts, row_bytes, sum(partitions)) for parts in by_contig)
