"""Tasks that tests send to workers of other processes, which import them by this name."""

from __future__ import annotations

import numpy as np
from distributed import get_worker
from numpy.typing import NDArray

from biolmm.errors import DamagedStoreError


def fail(item: int) -> int:
    """Fail on item 3."""
    if item == 3:
        raise DamagedStoreError("chunk 3 is damaged")
    return item


def pick(item: int, shared: list[list[int]]) -> list[int]:
    """Take one of what is shared."""
    return shared[item]


def rounding_sum(item: int, shared: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return something whose sum depends on the order of additions."""
    return np.float32(10.0) ** np.float32(item % 9 - 4) * shared


def two(item: int, shared: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return two arrays."""
    return np.array([item, shared]), np.full(2, 0.1 * item)


def worker_name(_: int) -> object:
    """Name the worker that this runs on."""
    return get_worker().name
