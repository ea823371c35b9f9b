"""Drop points that nobody would see: of all points in one small cell of the picture, one is drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def thin_to_grid(
    x: NDArray[np.float64], y: NDArray[np.float64], n_columns: int = 2400, n_rows: int = 1000
) -> NDArray[np.intp]:
    """Choose at most one point per cell of a grid over the picture; what is left looks the same.

    Returns
    -------
    ndarray
        Ascending indices of the points to draw. NaN points are never among them.

    Notes
    -----
    Cost: one pass over the points, and one index per cell.

    Examples
    --------
    >>> thin_to_grid(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1e-9, 1.0])).tolist()
    [0, 2]
    """
    kept = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if kept.size == 0:
        return kept
    cell = _cells(x[kept], n_columns) * n_rows + _cells(y[kept], n_rows)
    first = np.full(n_columns * n_rows, -1, dtype=np.intp)
    first[cell[::-1]] = kept[::-1]
    return np.sort(first[first >= 0])


def _cells(values: NDArray[np.float64], n_cells: int) -> NDArray[np.int64]:
    low, high = float(values.min()), float(values.max())
    scale = (n_cells - 1) / (high - low) if high > low else 0.0
    return ((values - low) * scale).astype(np.int64)
