"""QQ plot: observed against expected −log₁₀ p."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from biolmm.plots import style
from biolmm.plots.height import set_height
from biolmm.results.diagnostics import QQPoints, qq_points


def qq(
    neg_log10_p_values: ArrayLike,
    *,
    lambda_gc: float | None = None,
    n_samples: int | None = None,
    title: str | None = None,
    size: tuple[float, float] = (3.2, 3.2),
) -> Figure:
    """Draw observed against expected −log₁₀ p with the 95 % band of the null, λ_GC and the numbers behind it.

    Parameters
    ----------
    neg_log10_p_values
        −log₁₀ p of all variants, in any order; NaN is left out.
    lambda_gc, n_samples
        Written into the plot when given.
    title
        Title; none by default.
    size
        Width and height in inches.
    """
    return qq_of_points(qq_points(neg_log10_p_values), lambda_gc=lambda_gc, n_samples=n_samples, title=title, size=size)


def qq_of_points(
    quantiles: QQPoints,
    *,
    lambda_gc: float | None = None,
    n_samples: int | None = None,
    title: str | None = None,
    size: tuple[float, float] = (3.2, 3.2),
) -> Figure:
    """Draw as `qq` points that were found elsewhere, such as from counts of more values than fit in memory."""
    with style.new_figure(*size, style.margins(title)) as figure:
        axes = figure.add_subplot()
        axes.set_xlabel("expected −log₁₀ p")
        axes.set_ylabel("observed −log₁₀ p")
        if title is not None:
            axes.set_title(title)
        if quantiles.n == 0:
            style.empty_note(axes, "no variant has a p-value")
            return figure
        axes.fill_between(
            quantiles.expected, quantiles.lower, quantiles.upper, color=style.BAND, alpha=0.30, linewidth=0
        )
        end = float(quantiles.expected[0])
        axes.plot([0, end], [0, end], color=style.QUIET, linewidth=0.9)
        style.points(axes, quantiles.expected, quantiles.observed, color=style.BLUE, size=7.0)
        top = max(float(np.max(quantiles.observed)), end)
        axes.set_xlim(0, end * 1.06)
        set_height(axes, top, max(2.0 * end, 5.0), note_left=True)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        lines = [f"λ = {lambda_gc:.3f}"] if lambda_gc is not None else []
        lines += [f"{quantiles.n:,} variants"]
        lines += [f"{n_samples:,} samples"] if n_samples is not None else []
        # Below the diagonal nothing is ever drawn, and the compressed part of the axis is above it.
        text = axes.text(0.98, 0.03, "\n".join(lines), transform=axes.transAxes, fontsize=8, linespacing=1.45)
        text.set(va="bottom", ha="right")
    return figure
