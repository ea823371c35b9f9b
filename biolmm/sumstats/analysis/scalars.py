"""What spans variants, found before any result: λ of each study, correlations of shared samples, axes of ancestry.

All are sums over chunks, or the last variant of each megabase: no cutting of the genome, by chunk or by chromosome, changes
λ or the markers of the axes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import map_tasks, sum_tasks
from biolmm.errors import ParameterError
from biolmm.sumstats.analysis.reading import Reader, takes_part
from biolmm.sumstats.matrix.layout import CONTIG, POSITION
from biolmm.sumstats.meta.ancestry import ancestry_axes, distance_sums, is_distance_marker
from biolmm.sumstats.meta.block import StudyBlock
from biolmm.sumstats.meta.fixed_effects import inverse_variance, sample_size
from biolmm.sumstats.meta.genomic_control import (
    Medians,
    RankCounts,
    first_counts,
    gathered,
    medians_of,
    more_counts,
    narrowed,
)
from biolmm.sumstats.meta.overlap import (
    OverlapCorrelation,
    OverlapSums,
    estimate_overlap,
    inverse_variance_with_overlap,
    overlap_sums,
    sample_size_with_overlap,
)

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

BIN_BP = 1_000_000


@dataclass(frozen=True, eq=False)
class Scalars:
    """Numbers that pass 2 needs.

    Attributes
    ----------
    lambda_gc
        Of each study, at least 1 as applied; ones without genomic control.
    medians
        As measured, where they were.
    overlap
        Correlations of studies that share samples.
    distances, coordinates
        Between studies, and on axes of ancestry.
    n_markers
        Variants that told distances.
    result_lambda
        Of the fixed-effects result, before control; NaN where it was not asked for.
    """

    lambda_gc: Vector
    medians: Medians | None = None
    overlap: OverlapCorrelation | None = None
    distances: Matrix | None = None
    coordinates: Matrix | None = None
    n_markers: int = 0
    result_lambda: float = float("nan")


def find_scalars(reader: Reader) -> Scalars:
    """Read the store as often as needed: not at all, three times for λ, once for overlap or axes.

    Raises
    ------
    ParameterError
        When no variant tells ancestries apart or axes are more than differences.
    """
    options, k = reader.options, len(reader.columns)
    found = Scalars(np.ones(k))
    if options.genomic_control:
        medians = find_medians(reader, _study_chisq, k)
        measured = medians.lambda_gc(options.lambda_rule)
        found = replace(found, medians=medians, lambda_gc=np.where(measured > 1, measured, 1.0))
    if options.overlap:
        sums = map_tasks(_overlap, _chunks(reader), (reader, options.z_cutoff))
        total = sums[0]
        for each in sums[1:]:
            total = total + each
        found = replace(found, overlap=estimate_overlap(total))
    if options.axes or options.partition:
        markers = _distance_markers(reader)
        found = replace(found, distances=distance_sums(markers).mean(), n_markers=len(markers))
    if options.axes:
        assert found.distances is not None
        found = replace(found, coordinates=ancestry_axes(found.distances, options.axes).coordinates)
    if options.result_control:
        medians = find_medians(reader, _ResultChisq(found), 1)
        found = replace(found, result_lambda=float(medians.lambda_gc(options.lambda_rule)[0]))
    return found


def fixed_z(block: StudyBlock, scalars: Scalars, scheme: str) -> Vector:
    """Give the statistic of the fixed-effects analysis."""
    if scalars.overlap is not None:
        analyse = inverse_variance_with_overlap if scheme == "ivw" else sample_size_with_overlap
        return analyse(block, scalars.overlap.correlation, scalars.lambda_gc).z
    return (inverse_variance if scheme == "ivw" else sample_size)(block, scalars.lambda_gc).z


def find_medians(reader: Reader, chisq: Callable[[Reader, StudyBlock], Matrix], k: int) -> Medians:
    """Find the exact medians of statistics over all chunks, in three passes."""
    chunks = _chunks(reader)
    empty = RankCounts(0, np.zeros((2, k), np.uint64), np.zeros((2, k), np.int64), np.zeros((2, k, 4096), np.int64),
                       np.zeros(k, np.int64))  # fmt: skip
    search = empty
    for _ in range(2):
        counts = sum_tasks(_count, chunks, (reader, chisq, search))
        search = narrowed(replace(search, counts=counts))
    return medians_of(search, map_tasks(_gather, chunks, (reader, chisq, search)))


@dataclass(frozen=True, eq=False)
class _ResultChisq:
    """χ² of the fixed-effects result, of the variants that are written."""

    scalars: Scalars

    def __call__(self, reader: Reader, block: StudyBlock) -> Matrix:
        options = reader.options
        written = takes_part(block, options.scheme).sum(axis=1) >= options.min_studies
        z = fixed_z(block, self.scalars, options.scheme)
        return np.where(written, z, np.nan)[:, None] ** 2


def _study_chisq(reader: Reader, block: StudyBlock) -> Matrix:
    """χ² of each study, of the cells that take part."""
    if reader.options.scheme == "samplesize":
        assert block.n is not None
        return np.where(np.isnan(block.n), np.nan, block.z_scores() ** 2)
    beta, se = block.effects()
    return np.asarray((beta / se) ** 2)


def _chunks(reader: Reader) -> list[int]:
    if not reader.store.n_chunks:
        raise ParameterError(f"{reader.store.path} has no variants.")
    return list(range(reader.store.n_chunks))


_Search = tuple[Reader, Callable[[Reader, StudyBlock], Matrix], RankCounts]


def _count(chunk: int, shared: _Search) -> NDArray[np.int64]:
    reader, chisq, search = shared
    total = np.zeros_like(search.counts)
    for stretch in reader.stretches(chunk):
        values = chisq(reader, stretch.block)
        total += (more_counts(values, search) if search.level else first_counts(values)).counts
    return total


def _gather(chunk: int, shared: _Search) -> list[Vector]:
    reader, chisq, search = shared
    pieces = [gathered(chisq(reader, stretch.block), search) for stretch in reader.stretches(chunk)]
    return [np.concatenate(each) for each in zip(*pieces, strict=True)]


def _overlap(chunk: int, shared: tuple[Reader, float]) -> OverlapSums:
    reader, cutoff = shared
    sums = [overlap_sums(stretch.block.z_scores(), cutoff) for stretch in reader.stretches(chunk)]
    total = sums[0]
    for each in sums[1:]:
        total = total + each
    return total


def _distance_markers(reader: Reader) -> Matrix:
    """Give the frequencies of the last eligible variant of each megabase, as MR-MEGA chooses them."""
    last: dict[tuple[int, int], Vector] = {}
    for found in map_tasks(_last_markers, _chunks(reader), reader):
        last.update(found)
    if not last:
        return np.empty((0, len(reader.columns)))
    return np.stack([last[key] for key in sorted(last)])


def _last_markers(chunk: int, reader: Reader) -> dict[tuple[int, int], Vector]:
    """Find the last eligible variant of each bin that a chunk has part of; later chunks replace it."""
    contig, position = reader.store.read_column(CONTIG, chunk), reader.store.read_column(POSITION, chunk)
    out: dict[tuple[int, int], Vector] = {}
    for stretch in reader.stretches(chunk, eaf=True):
        eaf = stretch.block.eaf
        assert eaf is not None
        rows = np.flatnonzero(is_distance_marker(np.where(np.isnan(stretch.block.beta), np.nan, eaf)))
        where = np.stack([contig[rows + stretch.start], position[rows + stretch.start] // BIN_BP])
        last = np.ones(len(rows), np.bool_)
        last[:-1] = np.any(where[:, 1:] != where[:, :-1], axis=0)
        for i in np.flatnonzero(last):
            out[int(where[0, i]), int(where[1, i])] = eaf[rows[i]]
    return out
