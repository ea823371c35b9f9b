"""Locus plot: −log₁₀ p of one region, coloured by LD with its lead, with the genes below."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from biolmm.plots import style
from biolmm.plots.thin import thin_to_grid
from biolmm.results.diagnostics import GENOME_WIDE_NEG_LOG10_P

R2_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
R2_COLOURS = ("#2b3a67", "#5aa0d8", "#3f9b57", "#eda63b", "#d1382c")
_NO_LD = "#b4bcc4"


def locus(
    frame: pd.DataFrame,
    *,
    lead: str | None = None,
    r2: NDArray[np.float64] | None = None,
    genes: pd.DataFrame | None = None,
    title: str | None = None,
    threshold_neg_log10_p: float = GENOME_WIDE_NEG_LOG10_P,
    size: tuple[float, float] | None = None,
) -> Figure:
    """Draw the variants of one region of one contig.

    Parameters
    ----------
    frame
        `chromosome` (one only), `base_pair_location`, `neg_log_10_p_value`, and `rsid` or `variant_id` to name the lead.
    lead
        Identifier of the variant to mark; the most significant by default.
    r2
        Squared correlation of each row with the lead, NaN where it is not known; without, all have one colour.
    genes
        `name`, `start`, `end` (bp) and perhaps `strand` (+ or −) of what to draw below.
    title
        Title; none by default.
    threshold_neg_log10_p
        Height of the line of significance.
    size
        Width and height in inches.

    Raises
    ------
    ValueError
        When the rows are of several contigs.
    """
    contigs = frame["chromosome"].astype(str).unique()
    if len(contigs) > 1:
        raise ValueError(f"a locus is of one contig, but the rows are of {len(contigs)}")
    position = frame["base_pair_location"].to_numpy(dtype=np.float64)
    height = frame["neg_log_10_p_value"].to_numpy(dtype=np.float64, na_value=np.nan)
    lanes = (
        [] if genes is None or genes.empty else _lanes(genes, float(position.max(initial=1) - position.min(initial=0)))
    )
    n_lanes = max(lanes, default=-1) + 1
    track = 0.35 + 0.24 * n_lanes if n_lanes else 0.0
    with style.new_figure(*(size or (6.8, 3.4 + track))) as figure:
        if n_lanes:
            axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, track])
        else:
            axes = below = figure.add_subplot()
        axes.set_ylabel("−log₁₀ p")
        if title is not None:
            axes.set_title(title)
        if not np.isfinite(height).any():
            style.empty_note(axes, "no variant has a p-value")
            return figure
        _points(axes, position, height, r2)
        _mark(axes, frame, position, height, lead)
        axes.axhline(threshold_neg_log10_p, color=style.QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_ylim(0, max(float(np.nanmax(height)), threshold_neg_log10_p) * 1.18)
        span = max(float(position.max() - position.min()), 1.0)
        axes.set_xlim(float(position.min()) - 0.02 * span, float(position.max()) + 0.02 * span)
        if n_lanes and genes is not None:
            _draw_genes(below, genes, lanes, axes.get_xlim())
        below.xaxis.set_major_locator(MaxNLocator(nbins=7))
        below.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:,.6g}"))
        below.set_xlabel(f"position on contig {contigs[0]} (Mb)", parse_math=False)
    return figure


def _points(
    axes: Axes, position: NDArray[np.float64], height: NDArray[np.float64], r2: NDArray[np.float64] | None
) -> None:
    shown = thin_to_grid(position, height)
    size = 14.0 if shown.size < 5000 else 7.0
    if r2 is None:
        style.points(axes, position[shown], height[shown], color=style.BLUE, size=size, alpha=0.85)
        return
    known = shown[np.isfinite(r2[shown])]
    unknown = shown[~np.isfinite(r2[shown])]
    style.points(axes, position[unknown], height[unknown], color=_NO_LD, size=size)
    bins = np.clip(np.searchsorted(R2_EDGES, r2[known], side="right") - 1, 0, len(R2_COLOURS) - 1)
    for number, colour in enumerate(R2_COLOURS):  # high r² on top
        here = known[bins == number]
        style.points(axes, position[here], height[here], color=colour, size=size * (1 + 0.15 * number))
    marks = [Line2D([], [], marker="o", linestyle="", color=colour, markersize=5, label=f"{low:g}–{high:g}")
             for low, high, colour in zip(R2_EDGES[-2::-1], R2_EDGES[:0:-1], R2_COLOURS[::-1], strict=True)]  # fmt: skip
    if unknown.size:
        marks.append(Line2D([], [], marker="o", linestyle="", color=_NO_LD, markersize=5, label="not known"))
    axes.legend(handles=marks, title="r² with the lead", loc="upper left", bbox_to_anchor=(1.0, 1.0), handletextpad=0.2,
                title_fontsize=8, alignment="left")  # fmt: skip


def _mark(
    axes: Axes, frame: pd.DataFrame, position: NDArray[np.float64], height: NDArray[np.float64], lead: str | None
) -> None:
    """Mark the lead with a diamond and its name."""
    name_column = next((name for name in ("rsid", "variant_id") if name in frame), None)
    at = int(np.nanargmax(height))
    if lead is not None:
        for column in ("rsid", "variant_id"):
            rows = np.flatnonzero((frame[column] == lead).to_numpy()) if column in frame else np.empty(0, np.intp)
            if rows.size:
                at = int(rows[0])
                break
    if not np.isfinite(height[at]):
        return
    axes.scatter(
        position[at], height[at], marker="D", s=34, color="#7b3294", edgecolors="white", linewidths=0.6, zorder=4
    )
    name = None if name_column is None else frame[name_column].iloc[at]
    if isinstance(name, str):
        right = position[at] > float(position.mean())
        axes.annotate(name, (position[at], height[at]), xytext=(-6 if right else 6, 3), textcoords="offset points", fontsize=8,
                      ha="right" if right else "left", va="bottom")  # fmt: skip


def _lanes(genes: pd.DataFrame, span: float) -> list[int]:
    """Put genes, with their names, into as few lanes as hold them without overlap."""
    free: list[float] = []
    lanes = []
    letter = span * 0.0135
    for name, start, end in zip(genes["name"].astype(str), genes["start"], genes["end"], strict=True):
        half = max((float(end) - float(start)) / 2, letter * (len(name) + 2) / 2)
        middle = (float(start) + float(end)) / 2
        lane = next((at for at, until in enumerate(free) if until <= middle - half), len(free))
        if lane == len(free):
            free.append(0.0)
        free[lane] = middle + half
        lanes.append(lane)
    return lanes


def _draw_genes(axes: Axes, genes: pd.DataFrame, lanes: list[int], limits: tuple[float, float]) -> None:
    strands = genes["strand"].astype(str) if "strand" in genes else [""] * len(genes)
    for name, start, end, strand, lane in zip(
        genes["name"].astype(str), genes["start"], genes["end"], strands, lanes, strict=True
    ):
        low, high = max(float(start), limits[0]), min(float(end), limits[1])
        axes.hlines(lane, low, high, color=style.BLUE, linewidth=3.0)
        text = f"{name} →" if strand == "+" else f"← {name}" if strand in ("-", "−") else name
        axes.text(
            (low + high) / 2, lane - 0.22, text, ha="center", va="bottom", fontsize=7, clip_on=True, style="italic"
        )
    axes.set_ylim(max(lanes) + 0.5, -0.9)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
