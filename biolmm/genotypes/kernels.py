"""Kernels over encoded rows: unpack and standardise, count and add up, gather samples; see `files.encoding` for the rows."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.files.encoding import popcount

_LOW_BITS = np.uint64(0x5555555555555555)


@numba.njit(nogil=True, cache=True, fastmath=True)
def unpack_into(packed, tables, tile):  # type: ignore[no-untyped-def]
    """Write `tables[i, call]` for every call of packed row i into `tile`.

    Parameters: packed (b, n_bytes) uint8; tables (b, 4) of float; tile (b, ≤ 4·n_bytes) of the same type.
    Codes go through a small buffer so that the second loop turns into vector selects.
    """
    n_rows, n_columns = tile.shape
    n_bytes = (n_columns + 3) // 4
    codes = np.empty(4 * n_bytes, np.uint8)
    for i in range(n_rows):
        row = packed[i]
        for j in range(n_bytes):
            byte = row[j]
            codes[4 * j] = byte & 3
            codes[4 * j + 1] = (byte >> 2) & 3
            codes[4 * j + 2] = (byte >> 4) & 3
            codes[4 * j + 3] = byte >> 6
        t0, t1, t2, t3 = tables[i, 0], tables[i, 1], tables[i, 2], tables[i, 3]
        out = tile[i]
        for j in range(n_columns):
            code = codes[j]
            even = t2 if code & 2 else t0
            odd = t3 if code & 2 else t1
            out[j] = odd if code & 1 else even


@numba.njit(nogil=True, cache=True)
def _count_masked(words, masks, low_bits, counts):  # type: ignore[no-untyped-def]
    for i in range(words.shape[0]):
        for k in range(masks.shape[0]):
            n_low, n_high, n_both = 0, 0, 0
            for w in range(words.shape[1]):
                word = words[i, w] & masks[k, w]
                low = word & low_bits
                high = (word >> np.uint64(1)) & low_bits
                n_low += popcount(low)
                n_high += popcount(high)
                n_both += popcount(low & high)
            counts[i, k, 0] = n_low - n_both
            counts[i, k, 1] = n_high - n_both
            counts[i, k, 2] = n_both


def count_masked(packed: NDArray[np.uint8], masks: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Count heterozygotes, ALT homozygotes and missing calls of each row under each mask.

    Parameters
    ----------
    packed
        (b, n_bytes) packed rows, n_bytes a multiple of 8.
    masks
        (k, n_bytes / 8) from `pack_masks`.

    Returns
    -------
    NDArray[np.int32]
        (b, k, 3): heterozygotes, ALT homozygotes, missing.
    """
    counts = np.empty((packed.shape[0], masks.shape[0], 3), np.int32)
    _count_masked(np.ascontiguousarray(packed).view(np.uint64), masks, _LOW_BITS, counts)
    return counts


def pack_masks(observed: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Turn masks (k, n) over samples into two set bits a sample, (k, words), zero in the padding."""
    n_masks, n_samples = observed.shape
    padded = np.zeros((n_masks, -(-n_samples // 32) * 32), dtype=bool)
    padded[:, :n_samples] = observed
    return np.packbits(np.repeat(padded, 2, axis=1), axis=1, bitorder="little").view(np.uint64)


@numba.njit(nogil=True, cache=True)
def gather_samples(packed, sample_index, out):  # type: ignore[no-untyped-def]
    """Repack rows for the samples `sample_index`; `out` (b, n_bytes) must come filled with 255 (missing)."""
    n_samples = sample_index.shape[0]
    for i in range(packed.shape[0]):
        row = packed[i]
        target = out[i]
        for j in range((n_samples + 3) // 4):
            byte = np.uint8(255)
            for k in range(min(4, n_samples - 4 * j)):
                source = sample_index[4 * j + k]
                call = (row[source >> 2] >> np.uint8(2 * (source & 3))) & np.uint8(3)
                byte = (byte & ~np.uint8(np.uint8(3) << np.uint8(2 * k))) | np.uint8(call << np.uint8(2 * k))
            target[j] = byte


@numba.njit(nogil=True, cache=True)
def unpack_samples(packed, tables, samples, tile):  # type: ignore[no-untyped-def]
    """Write `tables[i, call]` of some samples of packed row i into column j of `tile` for the j-th of `samples`.

    Parameters: packed (b, n_bytes) uint8; tables (b, 4); samples (s,) ascending; tile (b, N): column `samples[j]`.
    """
    for i in range(tile.shape[0]):
        for j in range(samples.shape[0]):
            sample = samples[j]
            tile[i, sample] = tables[i, (packed[i, sample >> 2] >> np.uint8(2 * (sample & 3))) & np.uint8(3)]


@numba.njit(nogil=True, cache=True, fastmath=True)
def standardise_dosages(rows, tables, steps, missing, tile):  # type: ignore[no-untyped-def]
    """Write the affine function of every dosage that is `tables[i, 0]` at 0 and `tables[i, 1]` at 1 into `tile`.

    Parameters: rows (b, n) codes, `steps` a copy of ALT; tables (b, 4), the last of which is the value of `missing`.
    """
    for i in range(tile.shape[0]):
        at_zero, absent = tables[i, 0], tables[i, 3]
        slope = np.float32((tables[i, 1] - at_zero) / np.float32(steps))
        row, out = rows[i], tile[i]
        for j in range(tile.shape[1]):
            code = row[j]
            value = at_zero + slope * np.float32(code)
            out[j] = absent if code == missing else value


@numba.njit(nogil=True, cache=True, fastmath=True)
def standardise_samples(rows, tables, steps, missing, samples, tile):  # type: ignore[no-untyped-def]
    """As `standardise_dosages`, for some samples only: column `samples[j]` of `tile` and of `rows`."""
    for i in range(tile.shape[0]):
        at_zero, absent = tables[i, 0], tables[i, 3]
        slope = np.float32((tables[i, 1] - at_zero) / np.float32(steps))
        for j in range(samples.shape[0]):
            code = rows[i, samples[j]]
            tile[i, samples[j]] = absent if code == missing else at_zero + slope * np.float32(code)


@numba.njit(nogil=True, cache=True)
def gather_columns(rows, sample_index, out):  # type: ignore[no-untyped-def]
    """Copy the columns `sample_index` of rows of dosages."""
    for i in range(rows.shape[0]):
        row, target = rows[i], out[i]
        for j in range(sample_index.shape[0]):
            target[j] = row[sample_index[j]]


@numba.njit(nogil=True, cache=True)
def dosage_sums(rows, missing, sums):  # type: ignore[no-untyped-def]
    """Write the number, the sum and the sum of squares of the codes of every row that are not missing, (b, 3) int64."""
    for i in range(rows.shape[0]):
        row = rows[i]
        n, total, squares = np.int64(0), np.int64(0), np.int64(0)
        for j in range(row.shape[0]):
            code = np.int64(row[j])
            present = np.int64(code != missing)
            n += present
            total += present * code
            squares += present * code * code
        sums[i, 0], sums[i, 1], sums[i, 2] = n, total, squares


@numba.njit(nogil=True, cache=True)
def dosage_sums_at(rows, missing, samples, sums):  # type: ignore[no-untyped-def]
    """As `dosage_sums` over some samples."""
    for i in range(rows.shape[0]):
        row = rows[i]
        n, total, squares = np.int64(0), np.int64(0), np.int64(0)
        for j in range(samples.shape[0]):
            code = np.int64(row[samples[j]])
            if code != missing:
                n += 1
                total += code
                squares += code * code
        sums[i, 0], sums[i, 1], sums[i, 2] = n, total, squares
