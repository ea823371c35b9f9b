"""From haplotypes to packed calls: transpose, add up, lose some; and the genetic values on the way."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.simulate.hashing import draw, unit

_LANES = 8
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_HALF = np.uint64(0x00000000FFFFFFFF)
_BYTE = np.uint64(0xFF)
_S8, _S16, _S24, _S32 = np.uint64(8), np.uint64(16), np.uint64(24), np.uint64(32)
_S40, _S48, _S56 = np.uint64(40), np.uint64(48), np.uint64(56)


@numba.njit(nogil=True, cache=True)
def pack_calls(words: NDArray[np.uint64], first: int, rows: NDArray[np.uint64]) -> None:  # pragma: no cover - compiled
    """Write the calls of variants `first …` of a word to packed rows.

    With the alleles a, b of a sample's haplotypes, a XOR b and a AND b are the low and the high bit of ALT's count. 32
    samples' low and high words make a 64 × 64 matrix of bits whose transpose is 64 packed words, one per variant. Eight
    such matrices are transposed at once. Calls of the padding samples are 3 (missing).

    Parameters
    ----------
    words
        Alleles of both haplotypes, 2 × samples; bit j is variant j.
    rows
        Packed calls as 8-byte words, variants × ⌈samples / 32⌉.
    """
    n_groups = rows.shape[1]
    tile = np.empty((64, _LANES), dtype=np.uint64)
    for group in range(0, n_groups, _LANES):
        lanes = min(_LANES, n_groups - group)
        _fill(words, 32 * group, lanes, tile)
        _transpose(tile)
        for j in range(rows.shape[0]):
            for lane in range(lanes):
                rows[j, group + lane] = tile[first + j, lane]


@numba.njit(nogil=True, cache=True)
def _fill(
    words: NDArray[np.uint64], start: int, lanes: int, tile: NDArray[np.uint64]
) -> None:  # pragma: no cover - compiled
    n = words.shape[1]
    for lane in range(lanes):
        for i in range(32):
            sample = start + 32 * lane + i
            if sample < n:
                a, b = words[0, sample], words[1, sample]
                tile[2 * i, lane] = a ^ b
                tile[2 * i + 1, lane] = a & b
            else:
                tile[2 * i, lane] = _ALL
                tile[2 * i + 1, lane] = _ALL


@numba.njit(nogil=True, cache=True)
def _transpose(tile: NDArray[np.uint64]) -> None:  # pragma: no cover - compiled
    """Transpose a 64 × 64 matrix of bits per lane: swap off-diagonal halves, quarters, … of rows and columns."""
    step = 32
    mask = _HALF
    while step:
        shift = np.uint64(step)
        for block in range(0, 64, 2 * step):
            for i in range(block, block + step):
                for lane in range(_LANES):
                    swap = ((tile[i, lane] >> shift) ^ tile[i + step, lane]) & mask
                    tile[i, lane] ^= swap << shift
                    tile[i + step, lane] ^= swap
        step >>= 1
        mask ^= mask << np.uint64(step)


@numba.njit(nogil=True, cache=True)
def lose_calls(
    rows: NDArray[np.uint8], rates: NDArray[np.float64], key: np.uint64, first: int, n_samples: int
) -> None:  # pragma: no cover - compiled
    """Set calls to 3 (missing) at random, each with its variant's rate; the gaps between them are geometric.

    Row r is variant `first + r` of its contig, whose key is `key`.
    """
    for row in range(rows.shape[0]):
        if rates[row] <= 0:
            continue
        row_key = draw(key, first + row)
        scale = 1.0 / np.log1p(-rates[row])
        sample, counter = -1, 0
        while True:
            sample += 1 + int(np.log(unit(draw(row_key, counter))) * scale)
            counter += 1
            if sample >= n_samples:
                break
            rows[row, sample >> 2] |= np.uint8(3 << (2 * (sample & 3)))


@numba.njit(nogil=True, cache=True)
def add_genetic_values(
    words: NDArray[np.uint64], effects: NDArray[np.float64], traits: NDArray[np.int64], values: NDArray[np.float64]
) -> None:  # pragma: no cover - compiled
    """Add Σ_j (a_j + b_j) β_j over the variants of a word to the samples' genetic values.

    The sums over each byte of a word are tabulated, so that eight variants cost one look-up.

    Parameters
    ----------
    effects
        β of the word's variants, 64 × traits; 0 where there is none.
    traits
        Columns of `values` that the columns of `effects` belong to.
    values
        Samples × all traits; added to.
    """
    n_traits = effects.shape[1]
    table = _byte_sums(effects)
    total = np.empty(n_traits)
    for sample in range(words.shape[1]):
        left, right = words[0, sample], words[1, sample]
        for t in range(n_traits):
            total[t] = _look_up(table, left, t) + _look_up(table, right, t)
        for t in range(n_traits):
            values[sample, traits[t]] += total[t]


@numba.njit(nogil=True, cache=True)
def _look_up(table: NDArray[np.float64], alleles: np.uint64, t: int) -> float:  # pragma: no cover - compiled
    """Sum of the effects whose bits are set: one look-up a byte, written out so that the compiler keeps it straight."""
    low = (
        table[0, alleles & _BYTE, t]
        + table[1, (alleles >> _S8) & _BYTE, t]
        + table[2, (alleles >> _S16) & _BYTE, t]
        + table[3, (alleles >> _S24) & _BYTE, t]
    )
    high = (
        table[4, (alleles >> _S32) & _BYTE, t]
        + table[5, (alleles >> _S40) & _BYTE, t]
        + table[6, (alleles >> _S48) & _BYTE, t]
        + table[7, alleles >> _S56, t]
    )
    return float(low + high)


@numba.njit(nogil=True, cache=True)
def _byte_sums(effects: NDArray[np.float64]) -> NDArray[np.float64]:  # pragma: no cover - compiled
    """Sums of effects for every value of every byte: 8 × 256 × traits."""
    n_traits = effects.shape[1]
    table = np.zeros((8, 256, n_traits))
    for byte in range(8):
        for bit in range(8):
            step = 1 << bit
            for low in range(step):
                for t in range(n_traits):
                    table[byte, step + low, t] = table[byte, low, t] + effects[8 * byte + bit, t]
    return table
