"""Kernels of quality control: counts of each sample over many variants, and hard calls of dosages.

Packed rows are read a word of 32 calls at a time. `words` (b, W) holds the rows of b variants, the first sample in the
lowest two bits; a heterozygote is 01, a missing call 11. Counters have 32·W entries, the padding included.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.files.encoding import HARD_CALL_THRESHOLD, Encoding, Rows, row_bytes

_LOW = np.uint64(0x5555555555555555)
_PAIRS = np.uint64(0x3333333333333333)
_NIBBLES = np.uint64(0x0F0F0F0F0F0F0F0F)
_BYTES = np.uint64(0x0101010101010101)
_TILE = 256
"""Words of a tile: its rows' counters of 2, 4 and 8 bits (7 a word) stay in the first-level cache."""


@numba.njit(nogil=True, cache=True)
def count_sample_hets(words, counts):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add each sample's heterozygotes to `counts` (32·W,).

    Bits of many rows are added side by side within a word: up to 3 in lanes of 2 bits, 15 in lanes of 4, 255 in bytes.
    """
    n_rows, n_words = words.shape
    lanes = np.zeros((7, _TILE), np.uint64)
    two, four, eight = lanes[0], lanes[1:3], lanes[3:]
    for first in range(0, n_words, _TILE):
        width = min(_TILE, n_words - first)
        in_two, in_four, in_eight = 0, 0, 0
        for i in range(n_rows):
            row = words[i, first : first + width]
            for w in range(width):
                two[w] += row[w] & ~(row[w] >> np.uint64(1)) & _LOW
            in_two += 1
            last = i == n_rows - 1
            if in_two == 3 or last:
                _widen(two, four, width, np.uint64(2), _PAIRS)
                in_two, in_four = 0, in_four + 1
            if in_four == 5 or last:
                _widen(four[0], eight[:2], width, np.uint64(4), _NIBBLES)
                _widen(four[1], eight[2:], width, np.uint64(4), _NIBBLES)
                in_four, in_eight = 0, in_eight + 1
            if in_eight == 17 or last:
                _flush(eight, width, counts[32 * first :])
                in_eight = 0


@numba.njit(nogil=True, cache=True)
def _widen(narrow, wide, width, bits, keep):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add the even lanes of `narrow` to `wide[0]`, the odd ones to `wide[1]`, and clear it."""
    for w in range(width):
        wide[0, w] += narrow[w] & keep
        wide[1, w] += (narrow[w] >> bits) & keep
        narrow[w] = np.uint64(0)


@numba.njit(nogil=True, cache=True)
def _flush(eight, width, counts):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add the bytes to the counters: byte k of `eight[2a + b]` belongs to sample 4k + a + 2b of its word."""
    for lane in range(4):
        offset = (lane >> 1) + 2 * (lane & 1)
        for w in range(width):
            word = eight[lane, w]
            for k in range(8):
                counts[32 * w + 4 * k + offset] += np.int32((word >> np.uint64(8 * k)) & np.uint64(255))
            eight[lane, w] = np.uint64(0)


@numba.njit(inline="always", cache=True)
def _lowest_bit(word):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Give the position of the lowest set bit: the number of ones below it."""
    ones = (word & (~word + np.uint64(1))) - np.uint64(1)
    ones = ones - ((ones >> np.uint64(1)) & _LOW)
    ones = (ones & _PAIRS) + ((ones >> np.uint64(2)) & _PAIRS)
    ones = (ones + (ones >> np.uint64(4))) & _NIBBLES
    return np.int64((ones * _BYTES) >> np.uint64(56))


@numba.njit(nogil=True, cache=True)
def count_sample_missing(words, weights, counts, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add each sample's missing calls to `counts` (32·W,), and those variants' `weights` (b,) to `sums` (32·W,)."""
    for i in range(words.shape[0]):
        weight = weights[i]
        for w in range(words.shape[1]):
            missing = words[i, w] & (words[i, w] >> np.uint64(1)) & _LOW
            while missing:
                sample = 32 * w + (_lowest_bit(missing) >> 1)
                counts[sample] += 1
                sums[sample] += weight
                missing &= missing - np.uint64(1)


@numba.njit(nogil=True, cache=True)
def count_singletons(words, mask, is_singleton, counts):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add 1 to `counts` of the one heterozygote under the mask (W,) of every row that `is_singleton` (b,)."""
    for i in range(words.shape[0]):
        if not is_singleton[i]:
            continue
        for w in range(words.shape[1]):
            het = words[i, w] & ~(words[i, w] >> np.uint64(1)) & _LOW & mask[w]
            if het:
                counts[32 * w + (_lowest_bit(het) >> 1)] += 1
                break


def split_dosages(
    rows: Rows, encoding: Encoding, weight: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float64]]:
    """Split rows of dosages into what the kernels of calls understand.

    Parameters
    ----------
    rows
        (b, N) encoded dosages.
    encoding
        Their encoding.
    weight
        (N,) Which of two sums a sample's dosage is added to: 0 or 1; 2 for neither.

    Returns
    -------
    calls
        (b, row_bytes) packed hard calls; a dosage further than 0.1 from a whole number is missing.
    presence
        (b, row_bytes) packed 0 where there is a dosage, 3 where there is none.
    sums
        (b, 2) copies of ALT, added up exactly before they are scaled.
    """
    calls, presence = (np.full((len(rows), row_bytes(rows.shape[1])), 255, np.uint8) for _ in range(2))
    sums = np.zeros((len(rows), 2), np.int64)
    near = int((HARD_CALL_THRESHOLD + 1e-6) * encoding.steps)
    _split(rows, encoding.missing, encoding.steps, near, weight, calls, presence, sums)
    return calls, presence, sums / encoding.steps


@numba.njit(nogil=True, cache=True)
def _split(rows, missing, steps, near, weight, calls, presence, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Work a tile of samples at a time, in loops without branches, so that they turn into vector instructions."""
    n_samples = rows.shape[1]
    tile = 1024
    call, present = np.empty(tile, np.uint8), np.empty(tile, np.uint8)
    top, step, tolerance, none = np.int32(2 * steps - near), np.int32(steps), np.int32(near), np.int32(missing)
    for i in range(rows.shape[0]):
        for first in range(0, n_samples, tile):
            width = min(tile, n_samples - first)
            row, group = rows[i, first : first + width], weight[first : first + width]
            zero, one = np.int64(0), np.int64(0)
            call[:], present[:] = 3, 3
            for j in range(width):
                value = np.int32(row[j])
                code = np.uint8(2) if value >= top else np.uint8(3)
                code = np.uint8(1) if abs(value - step) <= tolerance else code
                code = np.uint8(0) if value <= tolerance else code
                call[j] = np.uint8(3) if value == none else code
                present[j] = np.uint8(3) if value == none else np.uint8(0)
            for j in range(width):
                value = np.int32(row[j]) if np.int32(row[j]) != none else np.int32(0)
                zero += value if group[j] == 0 else np.int32(0)
                one += value if group[j] == 1 else np.int32(0)
            sums[i, 0] += zero
            sums[i, 1] += one
            for k in range((width + 3) // 4):
                calls[i, first // 4 + k] = _four(call, 4 * k)
                presence[i, first // 4 + k] = _four(present, 4 * k)


@numba.njit(inline="always", cache=True)
def _four(codes, j):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Pack four codes into a byte."""
    return codes[j] | (codes[j + 1] << 2) | (codes[j + 2] << 4) | (codes[j + 3] << 6)
