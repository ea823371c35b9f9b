"""What is measured of one study: three passes over its chunks, in memory that does not grow with the variants.

χ² = (β/SE)²;  λ exactly, over all variants and by bins of frequency and imputation quality
v  = 2p(1−p)·INFO·N·SE²   the trait's variance as the standard errors have it (the Visscher statistic); 1 if standardised
log SE² against log 2p(1−p)·N·INFO has the slope −1
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from biolmm.results.diagnostics import neg_log10_p
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.meta.block import StudyBlock
from biolmm.sumstats.meta.genomic_control import (
    Medians,
    RankCounts,
    first_counts,
    gathered,
    medians_of,
    more_counts,
    narrowed,
)
from biolmm.sumstats.meta.tails import z_from_neg_log10_p
from biolmm.sumstats.quality.config import COMMON_MAF, INFO_EDGES, MAF_EDGES, Filters
from biolmm.sumstats.quality.histogram import Line, LogHistogram, Moments, Vector
from biolmm.sumstats.quality.thinned import Grid, Heights
from biolmm.sumstats.status import Status

COLUMNS = ("beta", "se", "eaf", "info", "n", "neg_log10_p", "status")
MANY_CONTIGS = 64
"""Scales are compared between so many contigs."""

TAIL_TOP = 400.0
"""Largest −log₁₀ p that the picture of p against z tells apart."""


@dataclass(frozen=True, eq=False)
class StudyCells:
    """A chunk of one study: the variants that it has, in double precision."""

    contig: NDArray[np.int32]
    position: NDArray[np.int64]
    beta: Vector
    se: Vector
    eaf: Vector
    info: Vector
    n: Vector
    neg_log10_p: Vector
    status: NDArray[np.uint16]

    @property
    def z_of_effect(self) -> Vector:
        """β / SE."""
        return self.beta / self.se

    @property
    def z(self) -> Vector:
        """The statistic that meta-analysis by p-values takes: of p where p is kept, else β / SE."""
        parts = (values[:, None] for values in (self.beta, self.se, self.neg_log10_p))
        beta, se, tail = parts
        return StudyBlock(beta=beta, se=se, neg_log10_p=tail).z_scores()[:, 0]

    @property
    def maf(self) -> Vector:
        """Minor allele frequency."""
        return np.minimum(self.eaf, 1 - self.eaf)

    @property
    def information(self) -> Vector:
        """2p(1−p)·N·INFO; INFO counts as 1 where there is none, and where it is above."""
        info = np.where(np.isnan(self.info), 1.0, np.minimum(self.info, 1.0))
        return 2 * self.eaf * (1 - self.eaf) * self.n * info


@dataclass(eq=False)
class StudyMeasures:
    """What was measured of one study; see the module's legend."""

    n_present: int = 0
    n_status: dict[str, int] = field(default_factory=dict)
    n_missing: dict[str, int] = field(default_factory=dict)
    n_positive: int = 0
    n_signed: int = 0
    beta: Moments = field(default_factory=Moments)
    abs_beta: LogHistogram = field(default_factory=LogHistogram)
    n_beta_near_one: int = 0
    se: LogHistogram = field(default_factory=LogHistogram)
    scaled_precision: LogHistogram = field(default_factory=LogHistogram)
    """1 / (SE √(2p(1−p)·INFO)), which is √N over the trait's standard deviation."""
    n: LogHistogram = field(default_factory=LogHistogram)
    max_n: float = float("nan")
    info: LogHistogram = field(default_factory=LogHistogram)
    n_info_low: int = 0
    visscher: LogHistogram = field(default_factory=LogHistogram)
    unit_variance: LogHistogram = field(default_factory=LogHistogram)
    """2p(1−p)·INFO·SE², for studies without N."""
    visscher_by_contig: dict[int, LogHistogram] = field(default_factory=dict)
    precision: Line = field(default_factory=Line)
    chisq: LogHistogram = field(default_factory=LogHistogram)
    strongest: Vector = field(default_factory=lambda: np.empty(0))
    z_ratio: LogHistogram = field(default_factory=LogHistogram)
    n_tail: int = 0
    n_tail_strong: int = 0
    largest_tail: float = 0.0
    n_largest_tail: int = 0
    n_beyond_largest: int = 0
    medians: Medians | None = None
    p_against_z: Grid = field(default_factory=lambda: Grid(220, (0.0, float(np.log10(1 + TAIL_TOP)))))
    heights: Heights = field(default_factory=Heights)
    filtered: dict[str, int] = field(default_factory=dict)
    n_filtered: int = 0

    def lambda_gc(self, column: int = 0) -> float:
        """Give λ of a column of `COLUMNS_OF_LAMBDA`; NaN where there are no variants."""
        assert self.medians is not None
        return float(self.medians.lambda_gc()[column])

    @property
    def lambda_column(self) -> int:
        """The column of λ to judge by: of effects, or of p where there are more."""
        return 0 if self.n_lambda(0) >= self.n_lambda(1) else 1

    def n_lambda(self, column: int) -> int:
        """Count the variants of a λ."""
        assert self.medians is not None
        return int(self.medians.n[column])


COLUMNS_OF_LAMBDA = (
    "effect", "p",
    *(f"maf {low:g}–{high:g}" for low, high in itertools.pairwise(MAF_EDGES)),
    *(f"INFO {low:g}–{high:g}" if high <= 1 else f"INFO above {low:g}"
      for low, high in itertools.pairwise(INFO_EDGES)),
)  # fmt: skip
"""λ of β/SE, of p, and of β/SE in bins."""

_N_MAF, _N_INFO = len(MAF_EDGES) - 1, len(INFO_EDGES) - 1


def measure_study(store: SumstatsStore, study: int, filters: Filters, reference: Callable[[int], Vector] | None = None,
                  strongest: int = 1000) -> StudyMeasures:  # fmt: skip
    """Measure one study.

    Parameters
    ----------
    store
        The store.
    study
        Number of the study.
    filters
        What to count for the plan.
    reference
        Gives a chunk's reference frequencies; needed by `max_eaf_difference` only.
    strongest
        So many of the largest χ² are kept exactly for the QQ plot.

    Notes
    -----
    **Cost**: three passes over the study's columns. Memory: about 100 bytes × a chunk's variants, and 8 MB.
    """
    out = StudyMeasures()
    first: list[RankCounts] = []
    for chunk in range(store.n_chunks):
        cells, rows = read_cells(store, chunk, study)
        first.append(first_counts(chisq_columns(cells)))
        _take_in(out, cells, strongest)
        _filter(out, cells, filters, None if reference is None else reference(chunk)[rows])
        if len(first) > 1:
            first = [first[0] + first[1]]
    search = narrowed(first[0])
    search = narrowed(reduce(RankCounts.__add__, (more_counts(x, search) for x in _chisq(store, study))))
    out.medians = medians_of(search, [gathered(x, search) for x in _chisq(store, study)])
    out.heights.finish()
    return out


def _chisq(store: SumstatsStore, study: int) -> Iterator[NDArray[np.float64]]:
    for chunk in range(store.n_chunks):
        yield chisq_columns(read_cells(store, chunk, study)[0])


def read_cells(store: SumstatsStore, chunk: int, study: int) -> tuple[StudyCells, NDArray[np.int64]]:
    """Read the variants that a study has in a chunk, and which rows of the chunk they are."""
    status = store.read_cells("status", chunk, study)
    rows = np.flatnonzero(status & Status.PRESENT.value)
    values = {name: store.read_cells(name, chunk, study)[rows].astype(np.float64) for name in COLUMNS[:-1]}
    contig, position = (store.read_column(name, chunk)[rows] for name in ("variant_contig", "variant_position"))
    return StudyCells(contig, position, status=status[rows], **values), rows


def chisq_columns(cells: StudyCells) -> NDArray[np.float64]:
    """Give (b, 12) χ²: of effects, of p, and of effects in each bin, NaN outside."""
    chisq = np.square(cells.z_of_effect)
    out = np.full((len(chisq), len(COLUMNS_OF_LAMBDA)), np.nan)
    out[:, 0], out[:, 1] = chisq, np.square(cells.z)
    for first, values, edges in ((2, cells.maf, MAF_EDGES), (2 + _N_MAF, cells.info, INFO_EDGES)):
        with np.errstate(invalid="ignore"):
            bins = np.searchsorted(edges, values, side="left") - 1
        for number in range(len(edges) - 1):
            inside = (bins == number) & ~np.isnan(values)
            out[inside, first + number] = chisq[inside]
    return out


def _take_in(out: StudyMeasures, cells: StudyCells, strongest: int) -> None:
    out.n_present += len(cells.beta)
    for bit in Status:
        out.n_status[str(bit.name).lower()] = out.n_status.get(str(bit.name).lower(), 0) + int(
            np.count_nonzero(cells.status & bit.value)
        )
    for name in ("se", "eaf", "info", "n"):
        out.n_missing[name] = out.n_missing.get(name, 0) + int(np.isnan(getattr(cells, name)).sum())
    z, maf = cells.z, cells.maf
    out.n_positive += int(np.count_nonzero(cells.beta > 0))
    out.n_signed += int(np.count_nonzero(cells.beta != 0))
    chisq = np.square(z)
    out.chisq.add(chisq)
    out.strongest = np.sort(np.concatenate([out.strongest, chisq[~np.isnan(chisq)]]))[-strongest:]
    out.heights.add(cells.contig, cells.position, z)
    with np.errstate(invalid="ignore", divide="ignore"):
        effects = ~np.isnan(cells.se)
        common = effects & ((maf >= COMMON_MAF) | np.isnan(maf))
        out.beta.add(cells.beta[common])
        out.abs_beta.add(np.abs(cells.beta[common]))
        out.n_beta_near_one += int(
            np.count_nonzero((np.abs(cells.beta[common]) > 0.5) & (np.abs(cells.beta[common]) < 2))
        )
        out.se.add(cells.se[common])
        out.info.add(cells.info)
        out.n_info_low += int(np.count_nonzero(cells.info < INFO_EDGES[1]))
        out.n.add(cells.n)
        if len(cells.n) and not np.isnan(cells.n).all():
            out.max_n = float(np.fmax(out.max_n, np.nanmax(cells.n)))
        _scales(out, cells, common & (maf >= COMMON_MAF))
        _tails(out, cells)


def _scales(out: StudyMeasures, cells: StudyCells, common: NDArray[np.bool_]) -> None:
    """Take in what tells the trait's variance."""
    information, squared = cells.information[common], np.square(cells.se[common])
    v = information * squared
    out.visscher.add(v)
    out.precision.add(np.log(information), np.log(squared))
    unit = information / cells.n[common] if not np.isnan(cells.n[common]).all() else _without_n(cells)[common]
    out.unit_variance.add(unit * squared)
    out.scaled_precision.add(1 / np.sqrt(unit * squared))
    scale = v if not np.isnan(v).all() else unit * squared
    for contig in np.unique(cells.contig[common]):
        if int(contig) < MANY_CONTIGS:
            out.visscher_by_contig.setdefault(int(contig), LogHistogram()).add(scale[cells.contig[common] == contig])


def _without_n(cells: StudyCells) -> Vector:
    info = np.where(np.isnan(cells.info), 1.0, np.minimum(cells.info, 1.0))
    return 2 * cells.eaf * (1 - cells.eaf) * info


def _tails(out: StudyMeasures, cells: StudyCells) -> None:
    """Take in the p-values that are kept beside effects."""
    both = ~np.isnan(cells.neg_log10_p) & ~np.isnan(cells.se)
    if not both.any():
        return
    tail, z = cells.neg_log10_p[both], np.abs(cells.z_of_effect[both])
    from_effect = neg_log10_p(z)
    out.n_tail += len(tail)
    out.p_against_z.add(np.log10(1 + from_effect), np.log10(1 + tail))
    strong = (z > 1) & ((cells.status[both] & Status.P_DISAGREES.value) > 0)
    out.n_tail_strong += int(strong.sum())
    out.z_ratio.add(z_from_neg_log10_p(tail[strong]) / z[strong])
    largest = float(tail.max())
    if largest > out.largest_tail:
        out.largest_tail, out.n_largest_tail = largest, 0
    at_top = tail == out.largest_tail
    out.n_largest_tail += int(at_top.sum())
    out.n_beyond_largest += int((at_top & (from_effect > tail * 1.02 + 0.02)).sum())


def _filter(out: StudyMeasures, cells: StudyCells, filters: Filters, reference: Vector | None) -> None:
    """Count what each filter, and all together, would leave out; a missing number passes."""
    tests: Mapping[str, Callable[[float], NDArray[np.bool_]]] = {
        "min_maf": lambda bound: cells.maf < bound,
        "min_mac": lambda bound: 2 * cells.n * cells.maf < bound,
        "min_info": lambda bound: cells.info < bound,
        "min_n": lambda bound: cells.n < bound,
        "max_se": lambda bound: cells.se > bound,
        "max_abs_beta": lambda bound: np.abs(cells.beta) > bound,
        "max_eaf_difference": lambda bound: (
            np.zeros(len(cells.eaf), bool) if reference is None else np.abs(cells.eaf - reference) > bound
        ),
    }
    left_out = np.zeros(len(cells.beta), bool)
    for name, bound in filters.asked().items():
        with np.errstate(invalid="ignore"):
            fails = tests[name](bound)
        out.filtered[name] = out.filtered.get(name, 0) + int(fails.sum())
        left_out |= fails
    out.n_filtered += int(left_out.sum())
