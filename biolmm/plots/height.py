"""The −log₁₀ p axis: linear where the eye compares, logarithmic far above, so that p = 1e-1000 does not flatten all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from biolmm.plots import style

Scale = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_COMPRESS_BEYOND = 1.3
_STRENGTH = 0.24


def compressed_scale(linear_up_to: float) -> tuple[Scale, Scale]:
    """Make the scale y ↦ min(y, b) + s b log(max(y, b) / b), which is the identity up to b, and its inverse.

    Examples
    --------
    >>> scale, inverse = compressed_scale(50.0)
    >>> scale(np.array([20.0, 1000.0])).round(2).tolist()
    [20.0, 85.95]
    >>> inverse(scale(np.array([20.0, 1000.0]))).round(6).tolist()
    [20.0, 1000.0]
    """
    b, strength = linear_up_to, _STRENGTH * linear_up_to

    def scale(height: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.minimum(height, b) + strength * np.log(np.maximum(height, b) / b))

    def inverse(height: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.minimum(height, b) * np.exp(np.maximum(height - b, 0.0) / strength))

    return scale, inverse


def set_height(axes: Axes, top: float, linear_up_to: float, *, note_left: bool = False) -> Scale:
    """Scale the y axis from 0 to a little above `top`; compress it when `top` lies well beyond `linear_up_to`.

    Where it is compressed the picture says so, at the right or left end.

    Returns
    -------
    Callable
        From −log₁₀ p to height in the picture.
    """
    if top <= _COMPRESS_BEYOND * linear_up_to:
        axes.set_ylim(0, top * 1.12)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        return lambda height: height
    scale, inverse = compressed_scale(linear_up_to)
    axes.set_yscale("function", functions=(scale, inverse))
    axes.set_ylim(0, float(inverse(np.asarray(float(scale(np.asarray(top))) * 1.08))))
    low = np.asarray(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(0, linear_up_to))
    low = low[low <= linear_up_to]
    axes.yaxis.set_major_locator(FixedLocator([*low.tolist(), *_sparse_ticks(float(low.max()), top, scale)]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.axhspan(linear_up_to, axes.get_ylim()[1], color=style.BAND, alpha=0.12, linewidth=0)
    axes.annotate(
        "compressed scale",
        (0 if note_left else 1, linear_up_to),
        xycoords=("axes fraction", "data"),
        xytext=(4 if note_left else -3, 3),
        textcoords="offset points",
        ha="left" if note_left else "right",
        va="bottom",
        fontsize=7,
        color=style.QUIET,
    )
    return scale


def _sparse_ticks(low: float, top: float, scale: Scale) -> list[float]:
    """Ticks 1, 2, 5 × 10ᵏ between `low` and `top`, at least a twelfth of the axis apart."""
    candidates = [step * 10.0**decade for decade in range(1, 7) for step in (1, 2, 5)]
    apart = float(scale(np.asarray(top))) / 12
    ticks, last = [], float(scale(np.asarray(low)))
    for value in candidates:
        place = float(scale(np.asarray(value)))
        if low < value <= top * 1.05 and place - last >= apart:
            ticks.append(value)
            last = place
    return ticks
