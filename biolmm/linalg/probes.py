"""Random columns tied to row names: the same row gets the same draw whatever the order or company of rows.

A counter-based generator (SplitMix64, Steele, Lea & Flood 2014, doi 10.1145/2660193.2660195) is fed with a hash of
the row's name and of the column's purpose, so a column can be drawn again on any machine, in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


def row_keys(names: Iterable[str]) -> NDArray[np.uint64]:
    """Hash each row's name into 64 bits."""
    return np.array([_hash64(name) for name in names], dtype=np.uint64)


def rademacher(keys: NDArray[np.uint64], purpose: str, columns: Sequence[int], seed: int) -> NDArray[np.float32]:
    """Draw ±1 with equal probability.

    Parameters
    ----------
    keys
        (n,) from `row_keys`.
    purpose
        What the columns are for; other purposes give independent draws.
    columns
        Which columns of the endless sequence of that purpose.
    seed
        The run's seed.

    Returns
    -------
    NDArray[np.float32]
        (n, len(columns)) of −1 and 1.
    """
    drawn = np.empty((len(keys), len(columns)), dtype=np.float32)
    for position, column in enumerate(columns):
        drawn[:, position] = 1.0 - 2.0 * (uniform_bits(keys, f"{seed}/{purpose}/{column}") >> np.uint64(63))
    return drawn


def uniform_bits(keys: NDArray[np.uint64], stream: str) -> NDArray[np.uint64]:
    """Return 64 random bits a key, a function of key and stream alone."""
    state = keys + np.uint64(_hash64(stream))
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(state ^ (state >> np.uint64(31)), dtype=np.uint64)


def _hash64(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
