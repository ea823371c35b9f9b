"""Columns as whole numbers of a few bytes.

Legend: r columns of n values; a whole number of P planes is `Σ 256^(P−1−p) · plane_p`, each plane a signed byte.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.arithmetic import int8_kernels as kernels
from biolmm.genotypes.arithmetic.vnni import MAX_COLUMNS

TOP = {1: 127, 2: 127 * 256 + 127, 3: 127 * 65_536 + 127 * 256 + 127}
"""The largest whole number of so many planes."""
MAX_RANGE = 20.0
"""A column whose largest value is further above its root mean square takes three planes: two would be off by more than
20/(32,639·√12) = 1.8e-4 of it."""


@dataclass(frozen=True)
class Packed:
    """Columns of whole numbers, `value ≈ step · q`.

    Attributes
    ----------
    bytes
        Their planes; see `int8_kernels`.
    starts
        First column of every group, and how many there are.
    n_planes
        Bytes of a number, as many as the widest column needs.
    steps
        (r,) step of each column.
    sums
        (r,) weighted sums of q.
    """

    bytes: NDArray[np.int8]
    starts: NDArray[np.int64]
    n_planes: int
    steps: NDArray[np.float64]
    sums: NDArray[np.float64]

    @property
    def n_columns(self) -> int:
        """Columns, r."""
        return len(self.steps)


def packed_columns(
    values: NDArray[np.float32],
    order: NDArray[np.int64],
    importance: NDArray[np.float64],
    weights: NDArray[np.float64],
    n_planes: int | None = None,
) -> Packed:
    """Round columns to whole numbers.

    Parameters
    ----------
    values
        (r, n): a column is a row here.
    order
        Which value sits where, −1 for a zero.
    importance
        (n,) how much the square of a rounding error matters where it is.
    weights
        (n,) of the sums.
    n_planes
        By default two, or three where one of the columns needs them: the others then leave the first empty, so that
        what they are rounded to does not depend on their neighbours.
    """
    n_columns = len(values)
    largest, squares, sums = (np.empty(n_columns) for _ in range(3))
    kernels.extents(values, importance, largest, squares)
    needed = np.full(n_columns, n_planes or 2)
    if n_planes is None:
        needed[largest**2 > MAX_RANGE**2 * squares] = 3
        n_planes = int(needed.max(initial=2))
    n_groups = max(1, -(-n_columns // (MAX_COLUMNS // n_planes)))
    starts = np.arange(n_groups + 1) * n_columns // n_groups
    steps = largest / np.array([TOP[planes] for planes in needed.tolist()])
    packed = np.empty(n_columns * n_planes * len(order), np.int8)
    kernels.pack_columns(values, order, weights, steps, n_planes, starts, packed, sums)
    return Packed(packed, starts, n_planes, steps, sums)
