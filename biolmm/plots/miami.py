"""Miami plot: two Manhattan plots, one up and one down, on one genome."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from biolmm.plots import style
from biolmm.plots.height import set_height
from biolmm.plots.manhattan import LINEAR_UP_TO, draw_points, label_leads, layout, name_contigs
from biolmm.plots.thin import thin_to_grid
from biolmm.results.diagnostics import GENOME_WIDE_NEG_LOG10_P


def miami(
    upper: pd.DataFrame,
    lower: pd.DataFrame,
    names: tuple[str, str] = ("upper", "lower"),
    *,
    leads: tuple[pd.DataFrame | None, pd.DataFrame | None] = (None, None),
    title: str | None = None,
    threshold_neg_log10_p: float = GENOME_WIDE_NEG_LOG10_P,
    max_labels: int = 8,
    size: tuple[float, float] = (9.0, 5.2),
) -> Figure:
    """Draw −log₁₀ p of two results back to back.

    Parameters
    ----------
    upper, lower
        `chromosome`, `base_pair_location`, `neg_log_10_p_value`, rows in any order; contigs of either are drawn for both.
    names
        What the halves show.
    leads
        Lead variants of each to label, with `rsid`.
    title
        Title; none by default.
    threshold_neg_log10_p
        Height of the lines of significance.
    max_labels
        At most this many labels a half.
    size
        Width and height in inches.

    Returns
    -------
    Figure
        Points are one picture and thinned, as those of `manhattan`. Both halves have the same scale.
    """
    with style.new_figure(*size) as figure:
        frame = pd.concat([upper[list(_PLACE)], lower[list(_PLACE)]], ignore_index=True)
        genome = layout(frame)
        heights = frame["neg_log_10_p_value"].to_numpy(dtype=np.float64, na_value=np.nan)
        top = max(float(np.nanmax(heights, initial=0.0, where=np.isfinite(heights))), threshold_neg_log10_p)
        halves = figure.subplots(2, 1, sharex=True)
        for number, (axes, name) in enumerate(zip(halves, names, strict=True)):
            scale = set_height(axes, top, LINEAR_UP_TO)
            mine = np.arange(len(upper)) if number == 0 else np.arange(len(upper), len(frame))
            shown = mine[thin_to_grid(genome.x[mine], scale(heights[mine]))]
            draw_points(axes, genome, heights, shown, threshold_neg_log10_p)
            axes.axhline(threshold_neg_log10_p, color=style.QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.set_ylabel(f"{name}\n−log₁₀ p", parse_math=False)
            if number:
                axes.invert_yaxis()
                axes.spines["bottom"].set_visible(False)
            if shown.size == 0:
                style.empty_note(axes, "no variant has a p-value")
        name_contigs(halves[0], genome, frame, ticks=True)
        halves[0].tick_params(axis="x", labelbottom=True, length=0)
        halves[1].tick_params(axis="x", labelbottom=False, length=0)
        label = halves[0].get_xlabel()
        halves[0].set_xlabel("")
        halves[1].set_xlabel(label, parse_math=False)
        if title is not None:
            halves[0].set_title(title)
        for axes, table, below in zip(halves, leads, (False, True), strict=True):
            if table is not None and len(table):
                label_leads(figure, axes, genome, table, max_labels, below=below)
    return figure


_PLACE = ("chromosome", "base_pair_location", "neg_log_10_p_value")
