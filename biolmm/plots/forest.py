"""Forest plot: one variant in every study, and what they make together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from biolmm.plots import style

_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Summary:
    """A combined estimate, drawn as a diamond.

    Attributes
    ----------
    name
        `Fixed effects`, `Random effects (REML)`.
    beta, se
        Estimate and standard error.
    neg_log10_p
        −log₁₀ p, for the text; None leaves it out.
    """

    name: str
    beta: float
    se: float
    neg_log10_p: float | None = None


def forest(
    names: Sequence[str],
    beta: NDArray[np.float64],
    se: NDArray[np.float64],
    summaries: Sequence[Summary] = (),
    *,
    n: NDArray[np.float64] | None = None,
    i_squared: float | None = None,
    q_neg_log10_p: float | None = None,
    tau2: float | None = None,
    odds_ratios: bool = False,
    title: str | None = None,
    effect: str = "effect β",
    width: float = 7.8,
) -> Figure:
    """Draw each study's estimate with its 95 % interval, the square's area its weight 1/SE², and diamonds below.

    Parameters
    ----------
    names
        Of the studies, from the top.
    beta, se
        Estimates and standard errors; a study with a NaN keeps its row and says so.
    summaries
        Combined estimates.
    n
        Sample sizes, for a column of text.
    i_squared, q_neg_log10_p, tau2
        Heterogeneity, written below: I² as a share, −log₁₀ p of Q, τ².
    odds_ratios
        Write exp(β) on a logarithmic axis.
    title
        Title; none by default.
    effect
        What β is.
    width
        In inches; the height follows the rows.
    """
    k, s = len(names), len(summaries)
    rows = k + s + (0.6 if s else 0)
    with style.new_figure(width, 1.15 + 0.26 * rows) as figure:
        axes, text = figure.subplots(1, 2, width_ratios=[1.5, 1.15], gridspec_kw={"wspace": 0.02})
        low, high = beta - _Z95 * se, beta + _Z95 * se
        place = np.arange(k, dtype=float)
        _studies(axes, place, beta, se)
        base = k + (0.6 if s else 0.0)
        for at, summary in enumerate(summaries):
            _diamond(axes, base + at, summary)
        if summaries:
            axes.axvline(summaries[0].beta, color=style.GREEN, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.axhline(k - 0.2, color=style.QUIET, linewidth=0.6)
        axes.axvline(0.0, color=style.QUIET, linewidth=0.9)
        labels = [_short(name) for name in names] + [summary.name for summary in summaries]
        axes.set_yticks([*place, *(base + np.arange(s))], labels, parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(rows - 0.4, -0.8)
        _limits(axes, np.concatenate([low, high, [x.beta + z * x.se for x in summaries for z in (-_Z95, _Z95)], [0.0]]))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        if odds_ratios:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{np.exp(value):.3g}"))
        axes.set_xlabel("odds ratio" if odds_ratios else effect)
        _columns(text, axes, place, base, beta, se, n, summaries, odds_ratios=odds_ratios)
        _heterogeneity(axes, i_squared, q_neg_log10_p, tau2)
        if title is not None:
            axes.set_title(title)
    return figure


def _studies(axes: Axes, place: NDArray[np.float64], beta: NDArray[np.float64], se: NDArray[np.float64]) -> None:
    there = np.isfinite(beta) & np.isfinite(se) & (se > 0)
    weight = np.where(there, 1 / np.square(np.where(there, se, 1.0)), 0.0)
    area = 12 + 90 * weight / max(float(weight.max(initial=0.0)), 1e-300)
    axes.hlines(place[there], (beta - _Z95 * se)[there], (beta + _Z95 * se)[there], color=style.INK, linewidth=1.0)
    axes.scatter(beta[there], place[there], s=area[there], marker="s", color=style.BLUE, linewidths=0, zorder=3)


def _diamond(axes: Axes, row: float, summary: Summary) -> None:
    half = _Z95 * summary.se
    corners = [
        (summary.beta - half, row),
        (summary.beta, row - 0.3),
        (summary.beta + half, row),
        (summary.beta, row + 0.3),
    ]
    axes.add_patch(Polygon(corners, closed=True, facecolor=style.GREEN, edgecolor="none", zorder=3))


def _limits(axes: Axes, values: NDArray[np.float64]) -> None:
    """Show everything, but let one wide interval run out of the picture rather than flatten the others."""
    there = values[np.isfinite(values)]
    low, high = float(there.min()), float(there.max())
    if there.size > 8:
        middle = np.quantile(there, [0.1, 0.9])
        reach = 3.0 * float(middle[1] - middle[0])
        low, high = max(low, float(middle[0]) - reach), min(high, float(middle[1]) + reach)
    margin = 0.05 * (high - low) or 1.0
    axes.set_xlim(low - margin, high + margin)


def _columns(text: Axes, axes: Axes, place: NDArray[np.float64], base: float, beta: NDArray[np.float64],
             se: NDArray[np.float64], n: NDArray[np.float64] | None, summaries: Sequence[Summary], *,
             odds_ratios: bool) -> None:  # fmt: skip
    """Write estimates and sizes beside the picture."""
    text.set_ylim(axes.get_ylim())
    text.set_xlim(0, 1)
    text.axis("off")
    head = "odds ratio (95 %)" if odds_ratios else "β (95 %)"
    text.text(0.02, -0.75, head, fontsize=8, fontweight="bold", va="center")
    if n is not None:
        text.text(0.98, -0.75, "N", fontsize=8, fontweight="bold", va="center", ha="right")
    for row, value, error, size in zip(place, beta, se, n if n is not None else [np.nan] * len(beta), strict=True):
        words = (
            _interval(value, error, odds_ratios=odds_ratios)
            if np.isfinite(value) and error > 0
            else "not in this study"
        )
        text.text(0.02, row, words, fontsize=8, va="center", color=style.INK if np.isfinite(value) else style.QUIET)
        if np.isfinite(size):
            text.text(0.98, row, f"{size:,.0f}", fontsize=8, va="center", ha="right")
    for at, summary in enumerate(summaries):
        text.text(0.02, base + at, _interval(summary.beta, summary.se, odds_ratios=odds_ratios), fontsize=8, va="center",
                  fontweight="bold")  # fmt: skip
        if summary.neg_log10_p is not None:
            text.text(0.98, base + at, f"p = {_p(summary.neg_log10_p)}", fontsize=8, va="center", ha="right")


def _interval(value: float, error: float, *, odds_ratios: bool) -> str:
    three = [value, value - _Z95 * error, value + _Z95 * error]
    if odds_ratios:
        three = [float(np.exp(each)) for each in three]
    digits = max(0, 2 - int(np.floor(np.log10(max(abs(three[2] - three[1]), 1e-12)))) - 1)
    middle, low, high = (f"{each:.{min(digits, 8)}f}".replace("-", "−") for each in three)
    return f"{middle} ({low}, {high})"


def _heterogeneity(axes: Axes, i_squared: float | None, q: float | None, tau2: float | None) -> None:
    parts = [f"I² = {100 * i_squared:.0f} %"] if i_squared is not None and np.isfinite(i_squared) else []
    parts += [f"p of Q = {_p(q)}"] if q is not None and np.isfinite(q) else []
    parts += [f"τ² = {tau2:.3g}"] if tau2 is not None and np.isfinite(tau2) else []
    if parts:
        axes.annotate(" · ".join(parts), (0, 0), xycoords="axes fraction", xytext=(0, -38), textcoords="offset points", fontsize=8,
                      color=style.QUIET, ha="left", va="top", annotation_clip=False)  # fmt: skip


def _p(neg_log10_p: float) -> str:
    if neg_log10_p < 3:
        return f"{10**-neg_log10_p:.2g}"
    exponent = int(np.floor(-neg_log10_p))
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{10 ** (-neg_log10_p - exponent):.1f} × 10{digits}"


def _short(name: str) -> str:
    return name if len(name) <= 30 else name[:29] + "…"
