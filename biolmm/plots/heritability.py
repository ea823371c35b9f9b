"""Heritability of the traits with its errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from biolmm.plots import style

_MAX_NAME = 32


def h2_bars(h2: pd.DataFrame, *, width: float = 6.5) -> Figure:
    """Draw one bar per trait: h², whiskers of one standard error, and the Monte-Carlo error as a thick mark.

    Parameters
    ----------
    h2
        Table with the columns of `schema.H2_COLUMNS`, drawn in its order from the top.
    width
        Width in inches; the height follows the number of traits.
    """
    n_traits = len(h2)
    with style.new_figure(width, 0.95 + 0.27 * max(n_traits, 1)) as figure:
        axes = figure.add_subplot()
        if n_traits == 0:
            style.empty_note(axes, "no trait was fitted")
            return figure
        place = np.arange(n_traits)
        value, error = h2["h2"].to_numpy(dtype=float), h2["h2_se"].to_numpy(dtype=float)
        monte_carlo = h2["h2_mc_se"].to_numpy(dtype=float)
        axes.barh(place, value, height=0.62, color=style.LIGHT_BLUE)
        axes.errorbar(
            value, place, xerr=np.nan_to_num(error), fmt="none", ecolor=style.INK, elinewidth=1.0, capsize=2.5
        )
        drawn = np.flatnonzero(monte_carlo > 0)
        axes.hlines(
            place[drawn], (value - monte_carlo)[drawn], (value + monte_carlo)[drawn], color=style.ORANGE, linewidth=4
        )
        names = [name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…" for name in h2["trait"].astype(str)]
        axes.set_yticks(place, names, parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(n_traits - 0.4, -0.6)
        finite = np.nan_to_num(value + np.nan_to_num(error))
        axes.set_xlim(0, min(max(0.1, float(finite.max()) * 1.08), 1.05))
        axes.set_xlabel("heritability h²")
        marks = [Line2D([], [], color=style.INK, linewidth=1.0, label="± standard error")]
        if drawn.size:
            marks.append(Line2D([], [], color=style.ORANGE, linewidth=4, label="± Monte-Carlo error"))
        figure.legend(handles=marks, loc="outside upper right", ncols=2, handlelength=1.4)
    return figure
