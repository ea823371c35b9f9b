"""Figures of quality control: spectra of variants and samples, with the thresholds drawn in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from biolmm.plots import style
from biolmm.plots.qq import qq
from biolmm.plots.thin import thin_to_grid
from biolmm.qc.config import QcConfig
from biolmm.qc.samples import SEX_NAMES, SampleQuality
from biolmm.qc.variants import VariantQuality

SIZE = (4.2, 2.9)
COMMON_MAF = 0.01
"""The QQ plot shows variants this common: rarer ones have too few possible p-values to follow the diagonal."""

_SEX_COLOURS = {"male": style.BLUE, "female": style.GREEN, "unknown": style.QUIET}


def draw_figures(variants: VariantQuality, samples: SampleQuality, config: QcConfig) -> dict[str, Figure]:
    """Draw every figure for which there are data, by the name of its file."""
    columns, table = variants.columns, samples.table
    figures: dict[str, Figure] = {
        "maf": maf_spectrum(columns["maf"]),
        "hwe": hwe_qq(columns["hwe_p"], columns["maf"]),
        "variant_call_rate": call_rates(columns["call_rate"], config.min_variant_call_rate, "variants"),
        "sample_call_rate": call_rates(table["call_rate"].to_numpy(), config.min_sample_call_rate, "samples"),
        "heterozygosity": heterozygosity(table, config),
        "singletons": singletons(table),
    }
    if samples.tells_sex:
        figures["sex"] = sexes(table, config)
    imputation = np.where(np.isnan(columns["info"]), columns["r2"], columns["info"])
    if not np.isnan(imputation).all():
        figures["imputation"] = imputation_quality(imputation, config.min_info)
    return figures


def maf_spectrum(maf: NDArray[np.float64]) -> Figure:
    """Draw how many variants have which minor allele frequency, on a logarithmic axis, and say how many do not vary."""
    varying = maf[maf > 0]

    def draw(axes: Axes) -> None:
        low = min(float(varying.min()) * 0.9, 0.25)
        axes.hist(varying, np.geomspace(low, 0.5, 41).tolist(), color=style.BLUE)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        note = f"{int((maf == 0).sum()):,} do not vary"
        axes.text(0.03, 0.97, note, transform=axes.transAxes, fontsize=8, va="top", color=style.QUIET)

    return _figure("minor allele frequency", "variants", draw if len(varying) else None, "no variant varies")


def hwe_qq(p: NDArray[np.float64], maf: NDArray[np.float64]) -> Figure:
    """Draw observed against expected p-values of Hardy–Weinberg proportions, of common variants."""
    common = p[maf >= COMMON_MAF]
    return qq(-np.log10(np.maximum(common, 1e-307)), size=SIZE)


def call_rates(rates: NDArray[np.float64], threshold: float, what: str) -> Figure:
    """Draw how many variants or samples have which call rate; the threshold is dashed."""
    rates = rates[~np.isnan(rates)]

    def draw(axes: Axes) -> None:
        low = min(float(rates.min()), threshold - 0.1 * (1 - threshold), 0.999)
        _bars(axes, rates, np.linspace(low, 1, 51), rates < threshold)
        axes.axvline(threshold, color=style.INK, linewidth=0.8, linestyle=(0, (4, 3)))
        _logarithmic(axes)

    return _figure("call rate", what, draw if len(rates) else None, "nothing to count")


def heterozygosity(table: pd.DataFrame, config: QcConfig) -> Figure:
    """Draw each sample's inbreeding coefficient against its call rate; flagged ones in orange."""
    f, rate = table["f"].to_numpy(), table["call_rate"].to_numpy()
    flagged = table["flagged_for"].str.contains("het_|call_rate", regex=True).to_numpy()

    def draw(axes: Axes) -> None:
        for chosen, colour in ((~flagged, style.BLUE), (flagged, style.ORANGE)):
            x, y = rate[chosen], f[chosen]
            shown = thin_to_grid(x, y, 600, 600)
            style.points(axes, x[shown], y[shown], color=colour, size=9, alpha=0.7)
        axes.axvline(config.min_sample_call_rate, color=style.INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.axhline(0, color=style.QUIET, linewidth=0.6)
        axes.set_ylim(*_limits(f, config.max_abs_f))
        for bound in (-config.max_abs_f, config.max_abs_f):
            axes.axhline(bound, color=style.INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))

    return _figure("call rate", "inbreeding coefficient F", draw if np.isfinite(f).any() else None, "no variant varies")


def sexes(table: pd.DataFrame, config: QcConfig) -> Figure:
    """Draw the coefficient on X by the sex that was reported; thresholds are dashed."""
    x_f = table["x_f"].to_numpy()

    def draw(axes: Axes) -> None:
        edges = np.linspace(min(float(np.nanmin(x_f)), -0.2), max(float(np.nanmax(x_f)), 1.0), 61).tolist()
        for name in SEX_NAMES.values():
            values = x_f[(table["sex"] == name).to_numpy() & ~np.isnan(x_f)]
            if len(values):
                axes.hist(values, edges, color=_SEX_COLOURS[name], alpha=0.7, label=f"reported {name}")
        for bound in (config.max_female_x_f, config.min_male_x_f):
            axes.axvline(bound, color=style.INK, linewidth=0.8, linestyle=(0, (4, 3)))
        _logarithmic(axes)
        axes.legend(loc="upper center")

    return _figure("inbreeding coefficient on X", "samples", draw if np.isfinite(x_f).any() else None, "no calls on X")


def imputation_quality(values: NDArray[np.float64], threshold: float) -> Figure:
    """Draw how many variants have which imputation quality."""

    def draw(axes: Axes) -> None:
        present = np.clip(values[~np.isnan(values)], 0, None)
        _bars(axes, present, np.linspace(0, max(1.0, float(present.max())), 51), present < threshold)
        axes.axvline(threshold, color=style.INK, linewidth=0.8, linestyle=(0, (4, 3)))

    return _figure("imputation quality (INFO, or R² where there is none)", "variants", draw, "")


def singletons(table: pd.DataFrame) -> Figure:
    """Draw how many samples have how many singletons."""
    counts = table["n_singletons"].to_numpy(np.float64)

    def draw(axes: Axes) -> None:
        top = float(counts.max()) + 1
        _bars(
            axes,
            counts,
            np.linspace(0, top, int(min(top, 60)) + 1),
            table["flagged_for"].str.contains("singletons").to_numpy(),
        )
        _logarithmic(axes)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))

    return _figure("singletons of a sample", "samples", draw if len(counts) else None, "no sample")


def _figure(x: str, y: str, draw: Callable[[Axes], None] | None, nothing: str) -> Figure:
    """Make a figure with labelled axes; say why it is empty where there is nothing to draw."""
    with style.new_figure(*SIZE) as figure:
        axes = figure.add_subplot()
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        if draw is None:
            style.empty_note(axes, nothing)
        else:
            draw(axes)
    return figure


def _bars(axes: Axes, values: NDArray[np.float64], edges: NDArray[np.float64], flagged: NDArray[np.bool_]) -> None:
    """Draw a histogram, what is flagged in orange on top."""
    colours = [style.BLUE, style.ORANGE]
    axes.hist([values[~flagged], values[flagged]], edges.tolist(), stacked=True, color=colours, log=False)


def _logarithmic(axes: Axes) -> None:
    """Count on a logarithmic axis, written in plain numbers."""
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def _limits(values: NDArray[np.float64], least: float) -> tuple[float, float]:
    """Give limits that hold all values and ± `least`, with a margin."""
    low, high = min(float(np.nanmin(values)), -least), max(float(np.nanmax(values)), least)
    return low - 0.06 * (high - low), high + 0.06 * (high - low)
