"""The sums over files that an ANALYZE line asks for, of a stretch of markers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.sumstats.meta.block import StudyBlock
from biolmm.sumstats.meta.fixed_effects import (
    Frequencies,
    Heterogeneity,
    frequencies,
    heterogeneity_of,
    inverse_variance,
    inverse_variance_weights,
    sample_size,
)
from biolmm.sumstats.meta.metal_overlap import MetalOverlap, metal_overlap
from biolmm.sumstats.metal.settings import Analyse
from biolmm.sumstats.metal.study import Shelf, Study

Vector = NDArray[np.float64]

STRETCH = 1 << 15


@dataclass(frozen=True, eq=False)
class Stretch:
    """Results of markers start to stop that METAL would print.

    Attributes
    ----------
    rows
        Numbers of the markers.
    first, second
        Effect and StdErr, or Weight and Zscore.
    z, neg_log10_p
        The statistic and its p-value.
    n
        Sample size without what overlaps, with OVERLAP.
    direction
        A character a file.
    """

    rows: NDArray[np.int64]
    first: Vector
    second: Vector
    z: Vector
    neg_log10_p: Vector
    n: Vector | None
    direction: list[str]
    freq: Frequencies | None
    heterogeneity: Heterogeneity | None
    custom: list[Vector]


def combine(step: Analyse, studies: Sequence[Study], shelf: Shelf, *, as_metal: bool = False,
            stretch: int = STRETCH) -> Iterator[Stretch]:  # fmt: skip
    """Combine studies, stretch by stretch.

    Raises
    ------
    InputFileError
        With OVERLAP and frequencies, whose mean METAL gets wrong, unless `as_metal`.
    """
    n = shelf.markers.n
    overlap = None
    if step.settings.overlap:
        if step.settings.average_freq and not as_metal:
            raise InputFileError(
                f"{step.line}: with OVERLAP ON METAL divides AVERAGEFREQ by the wrong weights, and Freq1 may lie outside MinFreq "
                "and MaxFreq; write AVERAGEFREQ OFF, or use --as-metal for METAL's numbers."
            )
        overlap = metal_overlap(_block(step, studies, 0, n), step.settings.z_cutoff, [s.lambda_gc for s in studies])
    for start in range(0, n, stretch):
        stop = min(start + stretch, n)
        found = _stretch(step, studies, shelf, start, stop, overlap)
        if len(found.rows):
            yield found


def _columns(values: Sequence[Vector], start: int, stop: int) -> NDArray[np.float64]:
    """Put studies side by side; those that ended before have NaN."""
    out = np.full((stop - start, len(values)), np.nan)
    for at, each in enumerate(values):
        part = each[start:stop]
        out[: len(part), at] = part
    return out


def _block(step: Analyse, studies: Sequence[Study], start: int, stop: int) -> StudyBlock:
    statistic = _columns([study.statistic for study in studies], start, stop)
    scale = _columns([study.scale for study in studies], start, stop)
    eaf = None
    if step.settings.use_freq:
        eaf = _columns([study.freq if study.freq is not None else np.empty(0) for study in studies], start, stop)
        eaf = np.where((eaf >= 0) & (eaf <= 1), eaf, np.nan)
    if step.settings.scheme == "stderr":
        return StudyBlock(statistic, se=scale, eaf=eaf)
    return StudyBlock(statistic, n=scale, z=statistic, eaf=eaf)


def _stretch(step: Analyse, studies: Sequence[Study], shelf: Shelf, start: int, stop: int,
             overlap: MetalOverlap | None) -> Stretch:  # fmt: skip
    settings = step.settings
    block, lambdas = _block(step, studies, start, stop), np.array([study.lambda_gc for study in studies])
    if settings.scheme == "stderr":
        by_error = inverse_variance(block, lambdas)
        first, second, z, tail, weight = by_error.beta, by_error.se, by_error.z, by_error.neg_log10_p, by_error.weight
        kept, direction, q = weight > 0, by_error.direction, by_error.heterogeneity
    else:
        by_size = sample_size(block, lambdas)
        first, second, tail, weight = by_size.weight, by_size.z, by_size.neg_log10_p, by_size.weight
        direction, q = by_size.direction, by_size.heterogeneity
        if overlap is not None:
            first, second, tail = overlap.weight[start:stop], overlap.z[start:stop], overlap.neg_log10_p[start:stop]
            q = _overlap_heterogeneity(block, lambdas, first, second)
        z, kept = second, first >= max(settings.min_weight, np.nextafter(0, 1))
    rows = np.flatnonzero(kept)
    freq = None
    if settings.use_freq:
        weights = inverse_variance_weights(block, lambdas) if settings.scheme == "stderr" else block.n
        assert weights is not None
        freq = frequencies(block.rows(rows), weights[rows])
        if overlap is not None and settings.average_freq:
            freq = _metal_overlap_freq(freq, weight[rows] / first[rows])
    return Stretch(
        rows + start, first[rows], second[rows], z[rows], tail[rows], None if overlap is None else overlap.n[start:stop][rows],
        [text.decode() for text in direction[rows].tolist()], freq, _rows(q, rows) if step.heterogeneity else None,
        [sums[start:stop][rows] for sums in shelf.custom],
    )  # fmt: skip


def _rows(q: Heterogeneity, rows: NDArray[np.int64]) -> Heterogeneity:
    return Heterogeneity(q.q[rows], q.df[rows], q.neg_log10_p[rows], q.i2[rows])


def _overlap_heterogeneity(block: StudyBlock, lambdas: Vector, weight: Vector, z: Vector) -> Heterogeneity:
    """Sum (z_i − √w_i S/W)² with the weights that overlap gives."""
    assert block.n is not None and block.z is not None
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = z / np.sqrt(weight)
    q = np.nansum((block.z / np.sqrt(lambdas) - np.sqrt(block.n) * ratio[:, None]) ** 2, axis=1)
    return heterogeneity_of(q, (~np.isnan(block.z)).sum(axis=1))


def _metal_overlap_freq(freq: Frequencies, share: Vector) -> Frequencies:
    """Divide sums of w f by the weights that overlap gives, as METAL does with OVERLAP."""
    mean = freq.mean * share
    square = (freq.spread**2 + freq.mean**2) * share - mean**2
    return Frequencies(mean, np.sqrt(np.maximum(square, 0.0)), freq.minimum, freq.maximum)
