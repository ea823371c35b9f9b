"""One look for every figure: colours that colour-blind readers tell apart, little ink, text that follows the page.

Figures are made without pyplot, so that no figure outlives its caller.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

INK = "#1c2733"
QUIET = "#7c8894"
BLUE = "#2f6db3"
LIGHT_BLUE = "#86b2dc"
ORANGE = "#d55e00"
GREEN = "#00876c"
BAND = "#8d99a6"

# matplotlib's stubs type every key of this dictionary by its literal name.
RC: Any = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    # Trait names may hold a dollar sign; it must not start a formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
}

RASTER_DPI = 200


@dataclass(frozen=True)
class Margins:
    """Room around the axes, in inches."""

    left: float
    right: float
    bottom: float
    top: float


def margins(title: str | None) -> Margins:
    """Give the room that −log₁₀ p, up to thousands, and names of contigs take, with or without a title."""
    return Margins(left=0.62, right=0.08, bottom=0.45, top=0.08 if title is None else 0.30)


@contextmanager
def new_figure(width: float, height: float, around: Margins | None = None) -> Iterator[Figure]:
    """Make a figure of this size in inches in the house style.

    It is laid out when it is saved, which takes as long as drawing it; not so with given margins.
    """
    with mpl.rc_context(RC):
        figure = Figure(figsize=(width, height), layout="constrained" if around is None else None)
        FigureCanvasAgg(figure)
        if around is not None:
            figure.subplots_adjust(
                around.left / width, around.bottom / height, 1 - around.right / width, 1 - around.top / height
            )
        yield figure


def lay_out(figure: Figure) -> None:
    """Give everything its place, once: a figure that is saved would be drawn twice for it."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def empty_note(axes: Axes, text: str) -> None:
    """Say in the middle of empty axes why they are empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=QUIET)


def points(
    axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], *, color: str, size: float = 5.0, alpha: float = 1.0
) -> None:
    """Draw many points as one picture, whatever the format of the figure."""
    axes.scatter(x, y, s=size, color=color, alpha=alpha, linewidths=0, rasterized=True)


def to_png(figure: Figure, dpi: int = RASTER_DPI) -> bytes:
    """Write a figure as PNG on white."""
    buffer = io.BytesIO()
    with mpl.rc_context(RC):
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def to_inline_svg(figure: Figure, salt: str) -> str:
    """Write a figure as an SVG element for an HTML page: no outside names, text in the colour and font of the page.

    Parameters
    ----------
    figure
        A figure of this package.
    salt
        Different for every figure of a page, so that their internal ids differ; equal input gives equal output.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({**RC, "svg.hashsalt": salt}):
        lay_out(figure)
        figure.savefig(buffer, format="svg", dpi=RASTER_DPI, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'<svg ([^>]*?)height="[^"]*"([^>]*?)width="[^"]*"', r"<svg \1\2", svg, count=1)
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"([^>]*?)height="[^"]*"', r"<svg \1\2", svg, count=1)
    referenced = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r'\sid="([^"]*)"', lambda match: match[0] if match[1] in referenced else "", svg)
    return svg.replace(INK, "currentColor")
