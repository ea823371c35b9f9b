"""Manhattan plot: −log₁₀ p along the genome."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from biolmm.plots import style
from biolmm.plots.height import set_height
from biolmm.plots.thin import thin_to_grid
from biolmm.results.diagnostics import GENOME_WIDE_NEG_LOG10_P
from biolmm.results.paths import natural_key

LINEAR_UP_TO = 50.0
"""The axis is compressed logarithmically above this −log₁₀ p when the largest value lies well beyond it."""

_GAP_SHARE = 0.006


@dataclass(frozen=True)
class Genome:
    """Contigs laid end to end: where each begins on the x axis, and where its name stands."""

    names: tuple[str, ...]
    starts: NDArray[np.float64]
    centres: NDArray[np.float64]
    code: NDArray[np.int64]
    x: NDArray[np.float64]

    def place(self, contig: str, position: float) -> float | None:
        """Place on the x axis, or None for a contig that is not drawn."""
        return float(self.starts[self.names.index(contig)] + position) if contig in self.names else None


def manhattan(
    frame: pd.DataFrame,
    leads: pd.DataFrame | None = None,
    *,
    title: str | None = None,
    threshold_neg_log10_p: float = GENOME_WIDE_NEG_LOG10_P,
    max_labels: int = 12,
    size: tuple[float, float] = (9.0, 3.2),
) -> Figure:
    """Draw −log₁₀ p along the genome, contigs in two shades, significant variants and leads set off.

    Parameters
    ----------
    frame
        Results of one trait: `chromosome`, `base_pair_location`, `neg_log_10_p_value`, rows in any order.
    leads
        Lead variants to label, with `rsid` beside these columns; the strongest labels that fit are drawn.
    title
        Title; none by default.
    threshold_neg_log10_p
        Height of the line of significance.
    max_labels
        At most this many labels.
    size
        Width and height in inches.

    Returns
    -------
    Figure
        Points are one embedded picture and thinned to what can be seen, so ten million variants draw in seconds.
        Beyond −log₁₀ p of 50 the axis is compressed, and says so.
    """
    with style.new_figure(*size, style.margins(title)) as figure:
        axes = figure.add_subplot()
        height = frame["neg_log_10_p_value"].to_numpy(dtype=np.float64, na_value=np.nan)
        genome = layout(frame)
        top = float(np.nanmax(height, initial=0.0, where=np.isfinite(height)))
        scale = set_height(axes, max(top, threshold_neg_log10_p), LINEAR_UP_TO)
        shown = thin_to_grid(genome.x, scale(height))
        draw_points(axes, genome, height, shown, threshold_neg_log10_p)
        name_contigs(axes, genome, frame)
        axes.axhline(threshold_neg_log10_p, color=style.QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_ylabel("−log₁₀ p")
        if title is not None:
            axes.set_title(title)
        if shown.size == 0:
            style.empty_note(axes, "no variant has a p-value")
        elif leads is not None and len(leads):
            label_leads(figure, axes, genome, leads, max_labels)
    return figure


def layout(frame: pd.DataFrame) -> Genome:
    """Lay the contigs of a table end to end."""
    codes, names = pd.factorize(frame["chromosome"].astype(str))
    order = sorted(range(len(names)), key=lambda index: natural_key(str(names[index])))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    code = rank[codes] if len(order) else np.empty(0, dtype=np.int64)
    position = frame["base_pair_location"].to_numpy(dtype=np.float64)
    first, last = np.full(len(order), np.inf), np.zeros(len(order))
    np.minimum.at(first, code, position)
    np.maximum.at(last, code, position)
    # One contig is drawn from where its variants begin; several from the contigs' own origins.
    origin = first if len(order) == 1 else np.zeros(len(order))
    length = np.maximum(last - origin, 1.0)
    gap = _GAP_SHARE * length.sum()
    starts = np.concatenate([[0.0], np.cumsum(length + gap)[:-1]]) if len(order) else np.empty(0)
    names_in_order = tuple(str(names[index]) for index in order)
    if len(order) == 1:
        starts = np.zeros(1)
    return Genome(names_in_order, starts, starts + origin + length / 2, code, starts[code] + position)


def draw_points(
    axes: Axes, genome: Genome, height: NDArray[np.float64], shown: NDArray[np.intp], threshold: float
) -> None:
    """Draw the rows `shown`, contigs in two shades, what is above the threshold in orange."""
    size = 5.0 if shown.size > 5_000 else 9.0
    for parity, color in enumerate((style.BLUE, style.LIGHT_BLUE)):
        here = shown[genome.code[shown] % 2 == parity]
        style.points(axes, genome.x[here], height[here], color=color, size=size)
    above = shown[height[shown] > threshold]
    style.points(axes, genome.x[above], height[above], color=style.ORANGE, size=size * 1.5)


def name_contigs(axes: Axes, genome: Genome, frame: pd.DataFrame, *, ticks: bool = False) -> None:
    """Contig names below the axis, leaving out those that would overlap; megabases when there is one contig.

    Names are plain text, which costs a tenth of what ticks do, or, on request, ticks.
    """
    if not genome.names:
        axes.set_xticks([])
        return
    span = float(np.nanmax(genome.x) - np.nanmin(genome.x)) or 1.0
    if len(genome.names) == 1:
        axes.set_xlim(float(np.nanmin(genome.x)) - 0.01 * span, float(np.nanmax(genome.x)) + 0.01 * span)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:,.6g}"))
        axes.set_xlabel(f"position on contig {genome.names[0]} (Mb)", parse_math=False)
        return
    end = float(np.nanmax(genome.x))
    axes.set_xlim(-0.005 * end, end * 1.005)
    places, labels, free_from = [], [], -np.inf
    for name, centre in zip(genome.names, genome.centres, strict=True):
        half = 0.0055 * end * max(len(name), 1.4)
        if centre - half >= free_from:
            places.append(centre)
            labels.append(name)
            free_from = centre + half
    if ticks:
        axes.set_xticks(places, labels, parse_math=False)
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel("contig")
        return
    axes.set_xticks([])
    for place, name in zip(places, labels, strict=True):
        axes.annotate(
            name, (place, 0), xycoords=axes.get_xaxis_transform(), xytext=(0, -3.5), textcoords="offset points", ha="center",
            va="top", fontsize=8.0, parse_math=False,
        )  # fmt: skip
    axes.set_xlabel("contig", labelpad=14.0)


def label_leads(
    figure: Figure, axes: Axes, genome: Genome, leads: pd.DataFrame, max_labels: int, *, below: bool = False
) -> None:
    """Name the strongest leads, leaving out every label that would cover one drawn before; below on an axis upside down."""
    strongest = leads.sort_values(["neg_log_10_p_value", "base_pair_location"], ascending=[False, True])
    to_pixels = axes.transData.transform
    style.lay_out(figure)
    limits = axes.get_window_extent()
    taken: list[tuple[float, float, float, float]] = []
    for lead in strongest.head(3 * max_labels).to_dict("records"):
        height = float(lead["neg_log_10_p_value"])
        x = genome.place(str(lead["chromosome"]), float(lead["base_pair_location"]))
        if x is None or len(taken) == max_labels:
            continue
        name = str(lead["rsid"])
        px, py = to_pixels((x, height))
        half, tall = 0.28 * 7.5 * len(name) * figure.dpi / 72, 10.0 * figure.dpi / 72
        centre = min(max(px, limits.x0 + half), limits.x1 - half)
        box = (
            (centre - half, py - 2 - tall, centre + half, py - 2)
            if below
            else (centre - half, py + 2, centre + half, py + 2 + tall)
        )
        if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
            continue
        taken.append(box)
        axes.annotate(
            name, (x, height), xytext=((centre - px) * 72 / figure.dpi, -4 if below else 4),
            textcoords="offset points", ha="center", va="top" if below else "bottom", fontsize=7.5, annotation_clip=False,
        )  # fmt: skip
