"""Numbers against numbers: frequencies of two studies, p of two sources, precision against N."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from biolmm.plots import style
from biolmm.plots.thin import thin_to_grid

DENSITY = LinearSegmentedColormap.from_list("density", ["#cfe0f1", style.LIGHT_BLUE, style.BLUE, "#123a6b"])
"""Colours of counts, light for few."""

SIZE = (3.6, 3.4)


def af_af(
    reference: NDArray[np.float64],
    study: NDArray[np.float64],
    *,
    max_difference: float = 0.2,
    labels: tuple[str, str] = ("reference allele frequency", "study allele frequency"),
    title: str | None = None,
    size: tuple[float, float] = SIZE,
) -> Figure:
    """Draw frequencies of the same alleles against each other; those further apart than allowed in orange.

    Parameters
    ----------
    reference, study
        Frequencies, NaN where there is none.
    max_difference
        Dashed lines are drawn this far from the diagonal.
    labels
        Of the axes.
    title, size
        Title, and width and height in inches.
    """
    with style.new_figure(*size) as figure:
        axes = figure.add_subplot()
        shown = thin_to_grid(reference, study, 700, 700)
        x, y = reference[shown], study[shown]
        away = np.abs(x - y) > max_difference
        point = 3.0 if len(shown) > 5000 else 8.0
        style.points(axes, x[~away], y[~away], color=style.BLUE, size=point, alpha=0.7)
        style.points(axes, x[away], y[away], color=style.ORANGE, size=point * 1.5)
        _unit_square(axes, max_difference, labels)
        there = np.isfinite(reference) & np.isfinite(study)
        _note(axes, reference[there], study[there])
        if title is not None:
            axes.set_title(title)
    return figure


def af_af_of_counts(
    counts: NDArray[np.int64],
    *,
    correlation: float,
    max_difference: float = 0.2,
    labels: tuple[str, str] = ("reference allele frequency", "study allele frequency"),
    size: tuple[float, float] = SIZE,
) -> Figure:
    """Draw as `af_af` from counts on a grid over the unit square, [reference, study]."""
    with style.new_figure(*size) as figure:
        axes = figure.add_subplot()
        if counts.any():
            edges = np.linspace(0, 1, len(counts) + 1)
            _density(figure, axes, edges, counts)
        else:
            style.empty_note(axes, "no frequencies to compare")
        _unit_square(axes, max_difference, labels)
        if counts.any():
            text = f"r = {_signed(correlation)}\n{int(counts.sum()):,} variants"
            axes.text(
                0.03,
                0.97,
                text,
                transform=axes.transAxes,
                va="top",
                fontsize=8,
                linespacing=1.4,
                bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 2},
            )
    return figure


def p_against_z(counts: NDArray[np.int64], top: float, *, size: tuple[float, float] = SIZE) -> Figure:
    """Draw −log₁₀ p as given against that of β/SE from counts on a grid that is even in log₁₀(1 + −log₁₀ p).

    Parameters
    ----------
    counts
        [of β/SE, as given], from 0 to `top`.
    top
        Where the grid ends, in −log₁₀ p.
    size
        Width and height in inches.
    """
    with style.new_figure(*size) as figure:
        axes = figure.add_subplot()
        axes.set_xlabel("−log₁₀ p of β / SE")
        axes.set_ylabel("−log₁₀ p as given")
        if not counts.any():
            style.empty_note(axes, "every p that is given follows from β / SE")
            axes.set_xticks([])
            axes.set_yticks([])
            return figure
        end = float(np.log10(1 + top))
        edges = np.linspace(0, end, len(counts) + 1)
        _density(figure, axes, edges, counts)
        used = np.flatnonzero(counts.any(axis=0) | counts.any(axis=1)).max() + 2
        limit = float(edges[min(used, len(counts))])
        axes.plot([0, limit], [0, limit], color=style.QUIET, linewidth=0.9)
        ticks = np.array([0, 1, 2, 5, 10, 20, 50, 100, 200, 400])
        places = np.log10(1 + ticks)
        shown = places <= limit
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator(places[shown].tolist()))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value - 1:.0f}"))
        axes.set_xlim(0, limit)
        axes.set_ylim(0, limit)
        axes.set_aspect("equal")
    return figure


def precision_against_n(
    names: Sequence[str],
    n: NDArray[np.float64],
    scaled_precision: NDArray[np.float64],
    *,
    levels: Sequence[str] | None = None,
    size: tuple[float, float] = (5.2, 3.8),
) -> Figure:
    """Draw the median of 1/(SE √(2p(1−p)·INFO)) of studies against √N: on one line through 0 where scales agree.

    Parameters
    ----------
    names
        Of the studies.
    n, scaled_precision
        Largest N, and the median; NaN where not known.
    levels
        Studies whose level is `look` or `bad` are orange.
    size
        Width and height in inches.
    """
    with style.new_figure(*size) as figure:
        axes = figure.add_subplot()
        axes.set_xlabel("√N")
        axes.set_ylabel("median 1 / (SE √(2p(1−p)·INFO))")
        there = np.flatnonzero(np.isfinite(n) & np.isfinite(scaled_precision))
        if not there.size:
            style.empty_note(axes, "no study has SE, frequency and N")
            return figure
        x, y = np.sqrt(n), scaled_precision
        slope = float(np.median(y[there] / x[there]))
        end = float(x[there].max()) * 1.12
        axes.plot([0, end], [0, slope * end], color=style.QUIET, linewidth=0.9)
        for factor in (0.8, 1.25):
            axes.plot([0, end], [0, slope * end * factor], color=style.QUIET, linewidth=0.7, linestyle=(0, (4, 3)))
        odd = np.array([levels is not None and levels[int(at)] in ("look", "bad") for at in there])
        style.points(axes, x[there][~odd], y[there][~odd], color=style.BLUE, size=26)
        style.points(axes, x[there][odd], y[there][odd], color=style.ORANGE, size=26)
        for at in there if there.size <= 30 else there[odd]:
            axes.annotate(
                _short(names[int(at)]), (x[at], y[at]), xytext=(5, 3), textcoords="offset points", fontsize=7.5
            )
        axes.set_xlim(0, end)
        axes.set_ylim(0, float(max(y[there].max(), slope * end)) * 1.12)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        sd = 1 / slope
        axes.text(0.98, 0.04, f"line: standard deviation {sd:.3g} of the trait", transform=axes.transAxes, ha="right",
                  fontsize=7.5, color=style.QUIET)  # fmt: skip
    return figure


def lambdas(
    names: Sequence[str],
    values: NDArray[np.float64],
    margins: NDArray[np.float64],
    *,
    size: tuple[float, float] | None = None,
) -> Figure:
    """Draw λ of bins or studies as points with margins of chance, one row each."""
    height = 0.9 + 0.24 * max(len(names), 2)
    with style.new_figure(*(size or (4.4, height))) as figure:
        axes = figure.add_subplot()
        rows = np.flatnonzero(np.isfinite(values))
        axes.axvline(1.0, color=style.QUIET, linewidth=0.9)
        axes.errorbar(values[rows], rows, xerr=margins[rows], fmt="o", markersize=4.5, color=style.BLUE, elinewidth=1.0,
                      capsize=2.0)  # fmt: skip
        axes.set_yticks(np.arange(len(names)), [_short(name) for name in names], parse_math=False)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("λ")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    return figure


def _signed(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"


def _density(figure: Figure, axes: Axes, edges: NDArray[np.float64], counts: NDArray[np.int64]) -> None:
    """Draw counts [x, y] as colours on a logarithmic scale; nothing where there are none."""
    masked = np.ma.masked_equal(counts.T, 0)
    top = max(int(counts.max()), 2)
    mesh = axes.pcolormesh(edges, edges, masked, cmap=DENSITY, norm=LogNorm(1, top), rasterized=True)
    bar = figure.colorbar(mesh, ax=axes, fraction=0.05, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    bar.outline.set_visible(False)


def _unit_square(axes: Axes, max_difference: float, labels: tuple[str, str]) -> None:
    axes.plot([0, 1], [0, 1], color=style.QUIET, linewidth=0.9)
    for shift in (-max_difference, max_difference):
        axes.plot([0, 1], [shift, 1 + shift], color=style.QUIET, linewidth=0.7, linestyle=(0, (4, 3)))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=5))
    axes.set_xlabel(labels[0], parse_math=False)
    axes.set_ylabel(labels[1], parse_math=False)


def _note(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    if len(x) > 2 and x.std() > 0 and y.std() > 0:
        text = f"r = {_signed(float(np.corrcoef(x, y)[0, 1]))}\n{len(x):,} variants"
        axes.text(
            0.03,
            0.97,
            text,
            transform=axes.transAxes,
            va="top",
            fontsize=8,
            linespacing=1.4,
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 2},
        )
    elif not len(x):
        style.empty_note(axes, "no frequencies to compare")
