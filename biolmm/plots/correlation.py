"""Genetic correlations of many traits as a coloured triangle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from biolmm.plots import style

_MAX_NAME = 24
_MAX_WRITTEN = 30


def correlation_map(
    names: Sequence[str],
    correlation: NDArray[np.float64],
    standard_error: NDArray[np.float64],
    *,
    label: str = "genetic correlation",
) -> Figure:
    """Draw the lower triangle: colour is the correlation, numbers are written in; faint where it is within 2 errors of 0.

    Parameters
    ----------
    names
        T traits.
    correlation, standard_error
        (T, T), NaN where it is not known; drawn as a grey square.
    label
        Of the colour bar.
    """
    n = len(names)
    side = float(np.clip(1.6 + 0.42 * n, 3.2, 14.0))
    with style.new_figure(side + 0.9, side) as figure:
        axes = figure.add_subplot()
        if n < 2:
            style.empty_note(axes, "a correlation needs two traits")
            return figure
        shown = np.where(np.tri(n, k=-1, dtype=bool), correlation, np.nan)
        lower = np.ma.masked_invalid(np.clip(shown, -1, 1))
        unknown = np.where(np.tri(n, k=-1, dtype=bool) & np.isnan(correlation), 0.5, np.nan)
        axes.imshow(np.ma.masked_invalid(unknown), cmap="Greys", vmin=0, vmax=2, aspect="equal")
        image = axes.imshow(lower, cmap="RdBu_r", vmin=-1, vmax=1, aspect="equal")
        if n <= _MAX_WRITTEN:
            for i in range(n):
                for j in range(i):
                    if np.isnan(correlation[i, j]):
                        continue
                    clear = abs(correlation[i, j]) > 2 * standard_error[i, j]
                    dark = clear and abs(correlation[i, j]) > 0.6
                    axes.text(
                        j, i, f"{correlation[i, j]:.2f}", ha="center", va="center", fontsize=7,
                        color="white" if dark else style.INK, alpha=1.0 if clear else 0.5,
                    )  # fmt: skip
        short = [name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…" for name in names]
        axes.set_xticks(range(n - 1), short[:-1], rotation=90, parse_math=False)
        axes.set_yticks(range(1, n), short[1:], parse_math=False)
        axes.set_xlim(-0.5, n - 1.5)
        axes.set_ylim(n - 0.5, 0.5)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        figure.colorbar(image, ax=axes, label=label, shrink=0.7)
    return figure
