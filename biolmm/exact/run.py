"""Run the exact model part by part into a results folder; a part that is there is not computed again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.chunks import map_tasks
from biolmm.cohort import Cohort
from biolmm.exact.blocks import ExactPanel, System, Tested, n_counted, partition_tests
from biolmm.exact.eigenbasis import Eigenbasis, decompose
from biolmm.exact.records import RecordComponents, Records, RecordSystem, fit_records, fixed_records
from biolmm.exact.variant_tests import ExactStatistics, TraitModel
from biolmm.genotypes.dense import DenseRelatedness
from biolmm.genotypes.filters import VariantFilters
from biolmm.genotypes.moments import SampleMasks
from biolmm.genotypes.operator import NO_CONTIG, GenotypeOperator
from biolmm.genotypes.parts import PartJob, ScanSummary, part_jobs, summarise
from biolmm.genotypes.source import ChosenGenotypes, Partition
from biolmm.linalg.operators import Restriction
from biolmm.reml.likelihood import VarianceComponents
from biolmm.results.associations import write_part

log = logging.getLogger(__name__)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ExactConfig:
    """How variants are tested.

    Attributes
    ----------
    loco
        Leave the tested variant's contig out of the relatedness matrix.
    fixed_ratio
        Test at the variance components of the null model (EMMAX, P3D) instead of each variant's own.
    filters
        Variants that fail are not tested.
    """

    loco: bool = True
    fixed_ratio: bool = False
    filters: VariantFilters = field(default_factory=VariantFilters)


@dataclass(frozen=True, eq=False)
class ExactScan:
    """Traits, genotypes and a relatedness matrix, ready to be tested.

    Attributes
    ----------
    cohort
        Traits and covariates.
    source
        The variants to test, on the cohort's samples.
    relatedness
        Gives K (N, N), or K₋c without a contig, by the contig's index.
    contig_index
        Index of the contigs that have variants in the matrix; those that are not here are tested with K itself.
    config
        How.
    records
        The records behind the trait, where individuals have several: it is tested with variances that are estimated
        once, with K itself.
    """

    cohort: Cohort
    source: ChosenGenotypes
    relatedness: Callable[[int], Array]
    contig_index: dict[str, int]
    config: ExactConfig
    records: Records | None = None
    _kept: dict[int, tuple[Eigenbasis, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, operator: GenotypeOperator, cohort: Cohort, source: ChosenGenotypes, config: ExactConfig) -> ExactScan:
        """Take K from the model's variants."""
        contigs = enumerate(operator.source.store.contig_id)
        index = {str(name): i for i, name in contigs if operator.contig_m[i] > 0}
        return cls(cohort, source, written_out(operator), index if config.loco else {}, config)

    @classmethod
    def of_records(
        cls, operator: GenotypeOperator, records: Records, source: ChosenGenotypes, config: ExactConfig
    ) -> ExactScan:
        """Take K from the model's variants, and a trait with several records an individual."""
        return replace(cls.of(operator, records.cohort, source, config), records=records)

    @classmethod
    def of_matrix(cls, K: Array, cohort: Cohort, source: ChosenGenotypes, config: ExactConfig) -> ExactScan:
        """Take a given K, (N, N) over the cohort's samples in their order; no contig can be left out of it."""
        return cls(cohort, source, lambda contig: K, {}, config)

    def bases(self, contig: int) -> tuple[Eigenbasis, ...]:
        """Return the eigenbasis of every set of observed samples without a contig; those used last are kept."""
        if contig not in self._kept:
            K = self.relatedness(contig)
            self._kept.clear()
            log.info("exact: eigendecomposition of %d set(s) of samples", len(self.cohort.classes))
            self._kept[contig] = tuple(decompose(K, Restriction(c.observed, c.basis)) for c in self.cohort.classes)
        return self._kept[contig]

    def components(self) -> list[VarianceComponents]:
        """Return the null model of every trait with K itself."""
        bases, y = self.bases(NO_CONTIG), self.cohort.y
        return [
            TraitModel.fit(bases[c], y[:, t]).components() for t, c in enumerate(self.cohort.class_of_trait.tolist())
        ]

    @cached_property
    def record_components(self) -> RecordComponents | None:
        """The variances of a trait with several records an individual, with K itself; else None."""
        return None if self.records is None else fit_records(self.relatedness(NO_CONTIG), self.records).components

    def panel(self, contig: int, h2: Sequence[float]) -> ExactPanel:
        """Return what the parts share for which a contig is left out; h2 of every trait where it is fixed."""
        everyone = np.ones((1, self.cohort.n_samples), dtype=bool)
        masks = SampleMasks(np.concatenate([everyone, [c.observed for c in self.cohort.classes]]))
        systems = self._record_systems(contig) or self._systems(contig, h2)
        return ExactPanel(self.source.reader, systems, masks, self.cohort.n_traits, self.config.filters)

    def _record_systems(self, contig: int) -> tuple[Tested, ...]:
        if self.records is None or self.record_components is None:
            return ()
        ratios = self.record_components.ratios
        return (RecordSystem(fixed_records(self.relatedness(contig), self.records, ratios)),)

    def _systems(self, contig: int, h2: Sequence[float]) -> tuple[System, ...]:
        systems = []
        for index, basis in enumerate(self.bases(contig)):
            traits = tuple(np.flatnonzero(self.cohort.class_of_trait == index).tolist())
            models = tuple(TraitModel.fit(basis, self.cohort.y[:, t]) for t in traits)
            systems.append(System(basis, traits, models, tuple(h2[t] for t in traits) if h2 else ()))
        return tuple(systems)

    def trait_systems(self, contig: int) -> tuple[System, ...]:
        """Return every set of observed samples with its traits, without a contig; each variant has its own λ."""
        return self._systems(contig, ())

    def contig_of(self, partition: Partition) -> str:
        """Return the name of a part's contig."""
        return str(self.source.store.contig_id[partition.contig])

    def groups(self, parts: Sequence[Partition], h2: Sequence[float]) -> Iterator[tuple[ExactPanel, list[Partition]]]:
        """Yield the parts by the contig that is left out for them, with their panel."""
        left_out = [self.contig_index.get(self.contig_of(part), NO_CONTIG) for part in parts]
        for contig in sorted(set(left_out)):
            chosen = [part for part, out in zip(parts, left_out, strict=True) if out == contig]
            yield self.panel(contig, h2), chosen


def written_out(operator: GenotypeOperator) -> Callable[[int], Array]:
    """Return a function of a contig that gives K₋c; K is written out when it is first asked for, and kept."""
    kept: list[DenseRelatedness] = []

    def left_out(contig: int) -> Array:
        if not kept:
            kept.append(DenseRelatedness(operator))
        return kept[0].left_out(contig)

    return left_out


@dataclass(frozen=True, eq=False)
class _Shared:
    panel: ExactPanel
    traits: tuple[str, ...]
    out: Path


def run_exact(scan: ExactScan, out: Path, markers: Path, h2: Sequence[float] = ()) -> ScanSummary:
    """Test every part and write `out/associations`, with the columns of `schema.EXACT_COLUMNS`.

    Parameters
    ----------
    scan
        What is tested.
    out
        The results folder.
    markers
        Folder of receipts, one a finished part, named after what the tests depend on.
    h2
        With `fixed_ratio`, every trait's h².

    Notes
    -----
    **Cost**: for every contig left out that has parts to do, one eigendecomposition (9·n³ flop) for each set of observed
    samples; 2·n² flop a variant and set.

    Raises
    ------
    OutputError
        When a part cannot be written. Finished parts stay.
    DamagedStoreError
        When a chunk of genotypes is damaged.
    """
    if scan.config.fixed_ratio and len(h2) != scan.cohort.n_traits:
        raise ValueError(f"{len(h2)} values of h2 for {scan.cohort.n_traits} traits")
    jobs = part_jobs(scan.source, markers)
    todo = {job.partition.index: job for job in jobs if job.receipt(out) is None}
    log.info("exact: %d of %d parts to do", len(todo), len(jobs))
    fixed = tuple(h2) if scan.config.fixed_ratio else ()
    for panel, partitions in scan.groups([job.partition for job in todo.values()], fixed):
        shared = _Shared(panel, scan.cohort.trait_names, out)
        map_tasks(_test_and_write, [todo[partition.index] for partition in partitions], shared)
    return summarise(jobs, out, scan.cohort.trait_names, len(todo))


def h2_table(cohort: Cohort, components: Sequence[VarianceComponents]) -> pd.DataFrame:
    """Return the rows of `h2.tsv`."""
    rows = [
        {
            "trait": name,
            "n": int(np.count_nonzero(~np.isnan(cohort.y[:, t]))),
            **{key: getattr(found, key) for key in ("h2", "h2_se", "h2_mc_se", "sigma2_g", "sigma2_e", "lrt_p")},
        }
        for t, (name, found) in enumerate(zip(cohort.trait_names, components, strict=True))
    ]
    return pd.DataFrame(rows)


def _test_and_write(job: PartJob, shared: _Shared) -> None:
    """Test one part, write its files, then its receipt."""
    panel = shared.panel
    found = partition_tests(job.partition, panel)
    n = n_counted(panel, job.partition)
    files = []
    common = job.labels_of(found.variants)
    if found.info is not None:
        common["info"] = found.info
    for t, trait in enumerate(shared.traits if len(found.variants) else ()):
        columns = {
            **common,
            **statistic_columns(found.statistics[t]),
            "effect_allele_frequency": found.frequency[:, t],
            "n": np.full(len(found.variants), n[t], np.int32),
            "exact": np.ones(len(found.variants), dtype=bool),
        }
        files.append(write_part(shared.out / "associations", trait, job.contig, job.number, columns))
    job.finish(
        shared.out,
        files,
        n_variants=len(found.variants),
        n_monomorphic=found.n_monomorphic,
        n_without_statistics=[int(np.isnan(one.chisq).sum()) for one in found.statistics],
        removed=found.removed,
    )


def statistic_columns(found: ExactStatistics) -> dict[str, NDArray[Any]]:
    """Return one trait's statistics under the names of the result columns."""
    return {name: getattr(found, name) for name in ExactStatistics.__dataclass_fields__}
