"""Correlations between many studies or traits as coloured squares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage

from biolmm.plots import style

DIVERGING = LinearSegmentedColormap.from_list(
    "diverging", [style.ORANGE, "#f3b98a", "#f7f7f5", style.LIGHT_BLUE, "#1c4f8a"]
)
"""−1 orange, 0 nearly white, 1 blue: told apart by the colour-blind."""

_SQUARES = 40


def correlation_heatmap(
    matrix: NDArray[np.float64],
    names: Sequence[str],
    *,
    standard_errors: NDArray[np.float64] | None = None,
    p_values: NDArray[np.float64] | None = None,
    cluster: bool = False,
    label: str = "genetic correlation r_g",
    title: str | None = None,
) -> Figure:
    """Draw a matrix of correlations; with standard errors, the surer an estimate, the larger its square.

    Parameters
    ----------
    matrix
        (T, T) correlations, NaN where there is none; beyond ±1, as estimates may be, the colour stops and the number says
        it.
    names
        Of the rows and columns.
    standard_errors
        Squares have the side max(0.2, 1 − SE/0.3) of their cell.
    p_values
        Two-sided; a star marks those below 0.05 over the number of pairs.
    cluster
        Put alike rows side by side (average linkage of 1 − r).
    label
        Of the scale of colours.
    title
        Title; none by default.
    """
    k = len(names)
    order = _order(matrix) if cluster and k > 2 else np.arange(k)
    values = matrix[np.ix_(order, order)]
    cell = 0.42 if k <= 12 else max(0.16, 5.0 / k)
    longest = max((len(name) for name in names), default=1)
    margin = min(2.6, 0.5 + 0.075 * min(longest, 28))
    with style.new_figure(cell * max(k, 2) + margin + 1.1, cell * max(k, 2) + margin * 0.8 + 0.3) as figure:
        axes = figure.add_subplot()
        if not k:
            style.empty_note(axes, "nothing to correlate")
            return figure
        sides = np.ones_like(values)
        if standard_errors is not None:
            errors = standard_errors[np.ix_(order, order)]
            sides = np.clip(1 - np.nan_to_num(errors, nan=1.0) / 0.3, 0.2, 1.0)
            np.fill_diagonal(sides, 1.0)
        mesh = _squares(axes, values, sides)
        _numbers(axes, values, sides, None if p_values is None else p_values[np.ix_(order, order)], cell)
        labels = [names[at] if len(names[at]) <= 28 else names[at][:27] + "…" for at in order]
        axes.set_xticks(np.arange(k), labels, rotation=45 if longest > 3 else 0, ha="right" if longest > 3 else "center",
                        rotation_mode="anchor", parse_math=False)  # fmt: skip
        axes.set_yticks(np.arange(k), labels, parse_math=False)
        axes.tick_params(length=0, labelsize=8 if k <= 25 else 6)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlim(-0.5, k - 0.5)
        axes.set_ylim(k - 0.5, -0.5)
        axes.set_aspect("equal")
        bar = figure.colorbar(mesh, ax=axes, fraction=0.05, pad=0.03, label=label, ticks=[-1, -0.5, 0, 0.5, 1])
        bar.outline.set_visible(False)
        if title is not None:
            axes.set_title(title)
    return figure


def _order(matrix: NDArray[np.float64]) -> NDArray[np.int64]:
    distance = 1 - np.clip(np.nan_to_num((matrix + matrix.T) / 2), -1, 1)
    upper = distance[np.triu_indices(len(matrix), 1)]
    return np.asarray(leaves_list(linkage(upper, "average")), dtype=np.int64)


def _squares(axes, values, sides):  # type: ignore[no-untyped-def]
    """Draw the squares as one collection."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    rows, columns = np.nonzero(np.isfinite(values))
    patches = [
        Rectangle((c - 0.48 * sides[r, c], r - 0.48 * sides[r, c]), 0.96 * sides[r, c], 0.96 * sides[r, c])
        for r, c in zip(rows, columns, strict=True)
    ]
    found = PatchCollection(patches, cmap=DIVERGING, linewidths=0)
    found.set_array(np.clip(values[rows, columns], -1, 1))
    found.set_clim(-1, 1)
    axes.add_collection(found)
    empty = np.argwhere(~np.isfinite(values))
    axes.scatter(empty[:, 1], empty[:, 0], marker="x", s=14, color=style.BAND, linewidths=0.8)
    return found


def _numbers(axes, values, sides, p_values, cell: float) -> None:  # type: ignore[no-untyped-def]
    """Write the numbers where they can be read, and stars."""
    k = len(values)
    if cell < 0.3:
        return
    bound = 0.05 / max(k * (k - 1) / 2, 1)
    for row in range(k):
        for column in range(k):
            value = values[row, column]
            if not np.isfinite(value) or row == column:
                continue
            star = "*" if p_values is not None and p_values[row, column] < bound else ""
            # White only where the square is as wide as the number.
            colour = "white" if abs(value) > 0.7 and sides[row, column] > 0.75 else style.INK
            text = f"{value:.2f}".replace("-", "−").replace("0.", ".", 1) + star
            axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)
