"""Principal components and the leading eigenvalues of the relatedness matrix."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from biolmm.plots import style
from biolmm.plots.thin import thin_to_grid


def pc_scatter(pcs: pd.DataFrame) -> Figure:
    """Draw PC1 against PC2 and, when there are four, PC3 against PC4.

    Parameters
    ----------
    pcs
        Table with the columns PC1, PC2, …; one row a sample.
    """
    names = [name for name in pcs.columns if str(name).startswith("PC")]
    pairs = [(names[i], names[i + 1]) for i in range(0, min(len(names), 4) - 1, 2)]
    if len(names) == 1:
        pairs = [(names[0], "")]
    with style.new_figure(6.6, 3.2) as figure:
        for index, (first, second) in enumerate(pairs):
            axes = figure.add_subplot(1, 2, index + 1)
            x = pcs[first].to_numpy(dtype=float)
            y = pcs[second].to_numpy(dtype=float) if second else np.zeros(len(pcs))
            shown = thin_to_grid(x, y, 700, 700)
            many = shown.size > 2_000
            style.points(axes, x[shown], y[shown], color=style.BLUE, size=4 if many else 10, alpha=0.55)
            axes.set_xlabel(first)
            axes.set_ylabel(second)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
            axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
            axes.margins(0.06)
        if not pairs:
            style.empty_note(figure.add_subplot(), "no principal component")
    return figure


def scree(eigen: pd.DataFrame) -> Figure:
    """Draw the leading eigenvalues of the relatedness matrix, with a line at 1, the mean of all of them.

    Parameters
    ----------
    eigen
        Table with the columns `component` and `eigenvalue`.
    """
    with style.new_figure(3.3, 3.2) as figure:
        axes = figure.add_subplot()
        if eigen.empty:
            style.empty_note(axes, "no eigenvalue")
            return figure
        component, value = eigen["component"].to_numpy(), eigen["eigenvalue"].to_numpy(dtype=float)
        axes.vlines(component, 0, value, color=style.LIGHT_BLUE, linewidth=1.2)
        axes.plot(component, value, "o", color=style.BLUE, markersize=4, markeredgewidth=0)
        axes.axhline(1.0, color=style.QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_ylim(0, float(np.nanmax(value)) * 1.06)
        axes.set_xlabel("component")
        axes.set_ylabel("eigenvalue of K")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    return figure
