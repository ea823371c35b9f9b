"""Counter-based random numbers for kernels: a value depends on a key and a counter, never on what was drawn before."""

from __future__ import annotations

import numba
import numpy as np

# splitmix64: the increment and the two multipliers of its finaliser.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_UNIT = 2.0**-53


@numba.njit(nogil=True, cache=True)
def mix(x: np.uint64) -> np.uint64:
    """Scramble 64 bits (the finaliser of splitmix64)."""
    x = (x ^ (x >> _S30)) * _FIRST
    x = (x ^ (x >> _S27)) * _SECOND
    return x ^ (x >> _S31)


@numba.njit(nogil=True, cache=True)
def draw(key: np.uint64, counter: int) -> np.uint64:
    """Return the 64 random bits number `counter` of a key."""
    return mix(key + np.uint64(counter + 1) * GOLDEN)


@numba.njit(nogil=True, cache=True)
def unit(bits: np.uint64) -> float:
    """Turn random bits into a number of (0, 1)."""
    return (np.float64(bits >> _S11) + 0.5) * _UNIT
