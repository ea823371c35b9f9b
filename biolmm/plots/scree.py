"""Principal components: how much each explains, and all pairs of the first."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from biolmm.plots import style
from biolmm.plots.thin import thin_to_grid

MAX_PAIRED = 6
"""Components that are drawn against each other."""


def variance_explained(eigenvalues: pd.DataFrame) -> Figure:
    """Draw the share of the variance that each component explains; hollow where a component is not settled.

    Parameters
    ----------
    eigenvalues
        Table with the columns `component`, `share` and `settled`.
    """
    with style.new_figure(4.2, 3.0) as figure:
        axes = figure.add_subplot()
        if eigenvalues.empty:
            style.empty_note(axes, "no component")
            return figure
        number = np.arange(1, len(eigenvalues) + 1)
        percent = 100 * eigenvalues["share"].to_numpy(dtype=float)
        settled = eigenvalues["settled"].to_numpy(dtype=bool)
        axes.vlines(number, 0, percent, color=style.LIGHT_BLUE, linewidth=1.2)
        for where, face in ((settled, style.BLUE), (~settled, "white")):
            axes.plot(number[where], percent[where], "o", color=style.BLUE, markerfacecolor=face, markersize=4.5)
        axes.set_ylim(0, float(np.nanmax(percent)) * 1.08)
        axes.set_xlabel("component")
        axes.set_ylabel("variance explained (%)")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    return figure


def component_pairs(pcs: pd.DataFrame, projected: NDArray[np.bool_] | None = None) -> Figure:
    """Draw every pair of the first six components.

    Parameters
    ----------
    pcs
        Table with the columns PC1, PC2, …; one row a sample.
    projected
        (N,) who was projected; drawn in another colour on top.
    """
    names = [str(name) for name in pcs.columns if str(name).startswith("PC")][:MAX_PAIRED]
    side = max(len(names) - 1, 1)
    marked = np.zeros(len(pcs), dtype=bool) if projected is None else np.asarray(projected, dtype=bool)
    with style.new_figure(1.9 * side + 1.0, 1.8 * side + 0.8) as figure:
        if not names:
            style.empty_note(figure.add_subplot(), "no principal component")
            return figure
        grid = figure.subplots(side, side, squeeze=False)
        values = [pcs[name].to_numpy(dtype=float) for name in names]
        if len(values) == 1:
            names, values = [names[0], ""], [values[0], np.zeros(len(pcs))]
        for row in range(side):
            for column in range(side):
                axes = grid[row, column]
                if column > row:
                    axes.set_visible(False)
                    continue
                x, y = values[column], values[row + 1]
                for who, color in ((~marked, style.BLUE), (marked, style.ORANGE)):
                    shown = thin_to_grid(x[who], y[who], 400, 400)
                    style.points(axes, x[who][shown], y[who][shown], color=color, size=5, alpha=0.55)
                axes.xaxis.set_major_locator(MaxNLocator(nbins=3))
                axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
                axes.margins(0.06)
                if row == side - 1:
                    axes.set_xlabel(names[column])
                if column == 0:
                    axes.set_ylabel(names[row + 1])
        if marked.any():
            handles = [
                Line2D([], [], marker="o", linestyle="", markersize=4, color=color, label=label)
                for color, label in ((style.BLUE, "computed on"), (style.ORANGE, "projected"))
            ]
            figure.legend(handles=handles, loc="outside upper right", ncols=2)
    return figure
