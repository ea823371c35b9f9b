"""Figures of quality control of summary statistics, each embedded in its page as PNG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from biolmm.plots.heatmap import correlation_heatmap
from biolmm.plots.manhattan import manhattan
from biolmm.plots.qq import qq_of_points
from biolmm.plots.scatter import af_af_of_counts, lambdas, p_against_z, precision_against_n
from biolmm.results.diagnostics import QQPoints, neg_log10_p_chisq, qq_at_ranks, qq_ranks
from biolmm.sumstats.quality.across import AcrossMeasures
from biolmm.sumstats.quality.study import COLUMNS_OF_LAMBDA, TAIL_TOP, StudyMeasures
from biolmm.sumstats.quality.verdicts import lambda_margin

MAX_IN_HEATMAP = 60


def study_figures(found: StudyMeasures, contigs: Sequence[str], across: AcrossMeasures | None, study: int,
                  *, against: str) -> dict[str, Figure]:  # fmt: skip
    """Draw the figures of one study, by name."""
    contig, position, height = found.heights.arrays()
    frame = pd.DataFrame({
        "chromosome": np.array(contigs, dtype=object)[contig] if len(contigs) else contig,
        "base_pair_location": position,
        "neg_log_10_p_value": height,
    })  # fmt: skip
    bins = [at for at in range(len(COLUMNS_OF_LAMBDA)) if found.n_lambda(at) >= 50]
    size = found.n.quantile(0.5)
    out = {
        "manhattan": manhattan(frame, size=(9.0, 2.9)),
        "qq": qq_of_points(qq_of_study(found), lambda_gc=found.lambda_gc(1), size=(3.6, 3.4),
                           n_samples=None if np.isnan(size) else round(size)),
        "p_z": p_against_z(found.p_against_z.counts, TAIL_TOP),
        "lambda": lambdas([COLUMNS_OF_LAMBDA[at] for at in bins], np.array([found.lambda_gc(at) for at in bins]),
                          np.array([lambda_margin(found.n_lambda(at)) / 3 * 1.96 for at in bins])),
    }  # fmt: skip
    if across is not None:
        out["af_af"] = af_af_of_counts(across.grid[study], correlation=float(across.frequency_correlation()[study]),
                                       labels=(f"frequency in {against}", "frequency in this study"))  # fmt: skip
    return out


def qq_of_study(found: StudyMeasures) -> QQPoints:
    """Give the points of a QQ plot: the strongest exactly, the others from counts of χ², within 1 in 128."""
    n = found.chisq.n
    if not n:
        empty = np.empty(0)
        return QQPoints(empty, empty, empty, empty, 0)
    ranks = qq_ranks(n)
    chisq = found.chisq.at_ranks(n - ranks)
    exact = ranks <= len(found.strongest)
    chisq[exact] = found.strongest[len(found.strongest) - ranks[exact]]
    return qq_at_ranks(ranks, neg_log10_p_chisq(chisq), n)


def across_figures(names: Sequence[str], found: Sequence[StudyMeasures], across: AcrossMeasures,
                   levels: Sequence[str]) -> dict[str, Figure]:  # fmt: skip
    """Draw the figures of all studies, by name."""
    out = {
        "se_n": precision_against_n(names, np.array([each.n.quantile(0.5) for each in found]),
                                    np.array([each.scaled_precision.quantile(0.5) for each in found]), levels=levels),
        "lambdas": lambdas(names, np.array([each.lambda_gc(each.lambda_column) for each in found]),
                           np.array([lambda_margin(each.n_lambda(each.lambda_column)) / 3 * 1.96 for each in found])),
    }  # fmt: skip
    if 1 < len(names) <= MAX_IN_HEATMAP:
        out["z"] = correlation_heatmap(across.z_correlation(), names, label="correlation of z")
        out["eaf"] = correlation_heatmap(across.eaf_correlation(), names, label="correlation of frequencies")
        n, same, _ = (across.lead[at] + across.lead[at].T for at in range(3))
        with np.errstate(invalid="ignore", divide="ignore"):
            signs = np.where(n > 0, 2 * same / n - 1, np.nan)
        np.fill_diagonal(signs, 1.0)
        out["signs"] = correlation_heatmap(signs, names, label="agreement of strong signals' signs")
    return out
