"""Kernels around products of 8-bit whole numbers that a library computes: unpack, round to digits, put together.

Legend: b variants, n bytes of a row, N samples, r columns, D digits of a rounded number q = Σ_d 256^(D−1−d) · digit_d.
A row's calls are unpacked plane by plane, which takes shifts alone: column p·n + j of a tile is sample 4j + p.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def unpack_planes(packed, codes, tile):  # type: ignore[no-untyped-def]
    """Write `codes[i, call]` for every call of row i to the tile. Parameters: packed (b, n), codes (b, 4), tile (b, 4n)."""
    n_bytes = packed.shape[1]
    for i in range(packed.shape[0]):
        row = packed[i]
        t0, t1, t2, t3 = codes[i, 0], codes[i, 1], codes[i, 2], codes[i, 3]
        for p in range(4):
            shift = np.uint8(2 * p)
            out = tile[i, p * n_bytes : (p + 1) * n_bytes]
            for j in range(n_bytes):
                call = (row[j] >> shift) & np.uint8(3)
                even = t2 if call & np.uint8(2) else t0
                odd = t3 if call & np.uint8(2) else t1
                out[j] = odd if call & np.uint8(1) else even


@numba.njit(nogil=True, cache=True)
def column_ranges(values, weight, largest, mean_square):  # type: ignore[no-untyped-def]
    """Write the largest absolute value of every column and the weighted mean of its squares.

    NaN where a value is not finite: whatever is computed from that column then is NaN.
    Parameters: values (n, r); weight (n,); largest, mean_square (r,) float64.
    """
    largest[:] = 0.0
    mean_square[:] = 0.0
    for i in range(values.shape[0]):
        for c in range(values.shape[1]):
            value = np.float64(values[i, c])
            mean_square[c] += weight[i] * value * value
            largest[c] = max(largest[c], abs(value))
    total = weight.sum()
    for c in range(largest.shape[0]):
        if not np.isfinite(mean_square[c]):
            largest[c] = np.nan
        if total > 0.0:
            mean_square[c] /= total


@numba.njit(nogil=True, cache=True)
def split_digits(values, order, steps, n_digits, digits, sums):  # type: ignore[no-untyped-def]
    """Round `values / steps` to whole numbers and write their digits, the highest first, digit d in the d-th r columns.

    Parameters: values (n, r); order (n',) which row goes where, −1 for a row of zeros; steps (r,) float64; digits (n', D·r)
    int8; sums (r,) float64, to which the whole numbers are added.
    """
    r = values.shape[1]
    inverse = np.zeros(r)
    for c in range(r):
        if steps[c] > 0.0:
            inverse[c] = 1.0 / steps[c]
    whole = np.zeros(r, np.int32)
    for i in range(order.shape[0]):
        at = order[i]
        for c in range(r):
            whole[c] = np.int32(np.rint(values[at, c] * inverse[c])) if at >= 0 and inverse[c] > 0.0 else np.int32(0)
            sums[c] += whole[c]
        for d in range(n_digits - 1, -1, -1):
            for c in range(r):
                digit = np.int8(whole[c] & np.int32(255))
                digits[i, d * r + c] = digit
                whole[c] = (whole[c] - digit) >> np.int32(8)


@numba.njit(nogil=True, cache=True)
def join_digits(products, n_digits, W):  # type: ignore[no-untyped-def]
    """Add products of digits, (b, D·r) int32, up to those of the whole numbers: `W`, (b, r) float64, exact below 2⁵³."""
    r = W.shape[1]
    for i in range(W.shape[0]):
        for c in range(r):
            total = np.float64(0.0)
            for d in range(n_digits):
                total = 256.0 * total + products[i, d * r + c]
            W[i, c] += total


@numba.njit(nogil=True, cache=True)
def add_planes(products, n_digits, steps, shift, first, Y):  # type: ignore[no-untyped-def]
    """Add `step (Σ_d 256^(D−1−d) P_d + shift)` of every sample to its row of Y.

    Parameters: products (4n, D·r) int32, rows in the order of the planes; steps, shift (r,) float32; first sample; Y (N, r).
    """
    r = Y.shape[1]
    n_bytes = products.shape[0] // 4
    for p in range(4):
        for j in range(min(n_bytes, (Y.shape[0] - first - p + 3) // 4)):
            row, out = products[p * n_bytes + j], Y[first + 4 * j + p]
            if n_digits == 1:
                for c in range(r):
                    out[c] += steps[c] * (np.float32(row[c]) + shift[c])
            elif n_digits == 2:
                for c in range(r):
                    total = np.float32(256.0) * np.float32(row[c]) + np.float32(row[r + c])
                    out[c] += steps[c] * (total + shift[c])
            else:
                for c in range(r):
                    high = np.float32(256.0) * np.float32(row[c]) + np.float32(row[r + c])
                    out[c] += steps[c] * (np.float32(256.0) * high + np.float32(row[2 * r + c]) + shift[c])
