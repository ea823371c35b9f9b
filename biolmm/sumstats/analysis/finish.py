"""After the last chunk: loci, λ of the result, and plots, reading parts one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.results.diagnostics import (
    GENOME_WIDE_NEG_LOG10_P,
    QQPoints,
    neg_log10_p_chisq,
    qq_at_ranks,
    qq_ranks,
)
from biolmm.results.folder import write_tsv
from biolmm.results.loci import find_loci
from biolmm.sumstats.analysis.parts import P_COLUMN, part_path, read_part
from biolmm.sumstats.meta.genomic_control import chisq_medians
from biolmm.sumstats.quality.histogram import LogHistogram
from biolmm.sumstats.quality.thinned import Heights

LOCI = "loci.tsv"
PLOTS = "plots"

_STRONGEST = 4096


@dataclass(frozen=True)
class Finished:
    """Number of loci, and λ of the fixed-effects result."""

    n_loci: int
    lambda_gc: float


def finish(out: Path, n_parts: int, *, draw: bool = True) -> Finished:
    """Write loci and plots.

    Notes
    -----
    **Cost** four reads of one column. Memory a part, the variants above the threshold, and a thinned picture.
    """
    loci = _find_loci(out, n_parts)
    write_tsv(out / LOCI, loci)

    def chisq() -> Iterator[NDArray[np.float64]]:
        for part in range(n_parts):
            yield read_part(part_path(out, part), ["z"])["z"].to_numpy()[:, None] ** 2

    medians = chisq_medians(chisq)
    lambda_gc = float(medians.lambda_gc("ordinary")[0])
    if draw:
        _draw(out, n_parts, loci, lambda_gc)
    return Finished(len(loci), lambda_gc)


def _find_loci(out: Path, n_parts: int) -> pd.DataFrame:
    """Find the loci of the fixed-effects result; the whole rows of their leads."""
    frames: list[pd.DataFrame] = []
    for part in range(n_parts):
        table = read_part(part_path(out, part), [P_COLUMN])
        strong = table[P_COLUMN].to_numpy() > GENOME_WIDE_NEG_LOG10_P
        if strong.any() or (part == n_parts - 1 and not frames):
            frames.append(read_part(part_path(out, part)).filter(strong).to_pandas())
    return find_loci(pd.concat(frames, ignore_index=True))


def _draw(out: Path, n_parts: int, loci: pd.DataFrame, lambda_gc: float) -> None:
    """Draw Manhattan and QQ plots of variants thinned to what can be seen."""
    from biolmm.plots.manhattan import manhattan
    from biolmm.plots.qq import qq_of_points
    from biolmm.plots.saving import save_figure

    heights, names, counted, strongest = Heights(), [], LogHistogram(), np.empty(0)
    for part in range(n_parts):
        table = read_part(part_path(out, part), ["chromosome", "base_pair_location", "z"])
        contigs = table["chromosome"].combine_chunks().dictionary_encode()
        for name in contigs.dictionary.to_pylist():
            if name not in names:
                names.append(name)
        numbers = np.array([names.index(name) for name in contigs.dictionary.to_pylist()] or [0], np.int32)
        z = table["z"].to_numpy()
        heights.add(numbers[contigs.indices.to_numpy()], table["base_pair_location"].to_numpy(), z)
        counted.add(z**2)
        strongest = np.sort(np.concatenate([strongest, (z**2)[~np.isnan(z)]]))[-_STRONGEST:]
    contig, position, tail = heights.arrays()
    frame = pd.DataFrame({"chromosome": np.array(names or [""], object)[contig], "base_pair_location": position,
                          "neg_log_10_p_value": tail})  # fmt: skip
    leads = loci.assign(rsid=loci["rsid"].fillna(loci["variant_id"])) if len(loci) else None
    save_figure(manhattan(frame, leads), out / PLOTS / "manhattan.png")
    save_figure(qq_of_points(_qq_points(counted, strongest), lambda_gc=lambda_gc), out / PLOTS / "qq.png")


def _qq_points(counted: LogHistogram, strongest: NDArray[np.float64]) -> QQPoints:
    """Give points of the QQ plot: the strongest exactly, the others from counts of χ², within 1 in 128."""
    n = counted.n
    if not n:
        empty = np.empty(0)
        return QQPoints(empty, empty, empty, empty, 0)
    ranks = qq_ranks(n)
    chisq = np.where(
        ranks <= len(strongest),
        strongest[np.maximum(len(strongest) - ranks, 0)],
        counted.at_ranks(n - ranks),
    )
    return qq_at_ranks(ranks, neg_log10_p_chisq(chisq), n)
