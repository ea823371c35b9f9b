"""Products of packed genotypes with whole numbers in bytes; `vnni` has the layouts.

Legend: b variants (B padded to panels), N samples, r columns, P planes: a whole number q is `Σ 256^(P−1−p) · plane_p`, each
plane a signed byte. Columns come in groups of at most six planes, group g being the columns `starts[g]:starts[g + 1]`;
packed, each group is (steps, its planes, 4) bytes, one group after another. Numba frees an array after its last visible
use, so whoever takes an address gets the array as an argument.
"""

from __future__ import annotations

import numba
import numpy as np

from biolmm.files.encoding import popcount
from biolmm.genotypes.arithmetic.vnni import (
    GROUP_BYTES,
    LANES,
    MAX_COLUMNS,
    add_products,
    unpack_samples,
    unpack_variants,
)

PANEL_GROUPS = 3
"""Groups of 256 samples that are unpacked before they are multiplied: 48 KiB of a panel of variants."""
ROUNDING = 4e-5
"""About what the rounding of columns costs, relative to a product; see `choose_codes`."""
LEAST_FACTOR, GREATEST_FACTOR = 20, 127
_LOW_BITS = np.uint64(0x5555555555555555)
SPILL_GROUPS = 256
"""65,536 samples: |Σ u q| ≤ 65,536 · 254 · 128 fits in 32 bits."""
STEP_BYTES = 4 * LANES


@numba.njit(nogil=True, cache=True)
def _aligned(n_bytes):  # type: ignore[no-untyped-def]
    """Allocate bytes from the beginning of a cache line on: vectors across two lines take twice as long."""
    memory = np.empty(n_bytes + 64, np.uint8)
    return memory[-memory.ctypes.data % 64 :][:n_bytes]


@numba.njit(nogil=True, cache=True)
def extents(values, weights, largest, squares):  # type: ignore[no-untyped-def]
    """Write the largest absolute value and the weighted mean square of every row; values (r, n), weights (n,)."""
    total = 1e-300
    for i in range(weights.shape[0]):
        total += weights[i]
    for c in range(values.shape[0]):
        most, square = 0.0, 0.0
        for i in range(values.shape[1]):
            value = np.float64(values[c, i])
            most = max(most, abs(value))
            square += weights[i] * value * value
        largest[c], squares[c] = most, square / total


@numba.njit(nogil=True, cache=True)
def pack_columns(values, order, weights, steps, n_planes, starts, packed, sums):  # type: ignore[no-untyped-def]
    """Write every column, divided by its step and rounded, as planes; and the weighted sums of the whole numbers.

    Parameters: values (r, n); order (4 K,): which value sits where, −1 for a zero; weights (n,); steps (r,), 0 for a
    column of zeros; packed (r · P · 4 K,) int8; sums (r,).
    """
    n_steps = order.shape[0] // 4
    whole = np.empty(4 * n_steps, np.int32)
    for group in range(starts.shape[0] - 1):
        first, last = starts[group], starts[group + 1]
        width = (last - first) * n_planes
        target = packed[first * n_planes * 4 * n_steps :][: width * 4 * n_steps].reshape(n_steps, width, 4)
        for c in range(first, last):
            inverse = 1.0 / steps[c] if steps[c] > 0 else 0.0
            total = 0.0
            for i in range(4 * n_steps):
                at = order[i]
                whole[i] = np.int32(np.rint(values[c, at] * inverse)) if at >= 0 else np.int32(0)
                total += weights[at] * whole[i]
            sums[c] = total
            for plane in range((c - first + 1) * n_planes - 1, (c - first) * n_planes - 1, -1):
                for k in range(n_steps):
                    for j in range(4):
                        digit = np.int8(whole[4 * k + j] & 255)
                        target[k, plane, j] = digit
                        whole[4 * k + j] = (whole[4 * k + j] - digit) >> 8


@numba.njit(nogil=True, cache=True)
def unpack_columns(packed, order, steps, n_planes, starts, out):  # type: ignore[no-untyped-def]
    """Write the columns that `pack_columns` packed, rounded as they are, into `out` (n, r)."""
    n_steps = order.shape[0] // 4
    for group in range(starts.shape[0] - 1):
        first, last = starts[group], starts[group + 1]
        width = (last - first) * n_planes
        source = packed[first * n_planes * 4 * n_steps :][: width * 4 * n_steps].reshape(n_steps, width, 4)
        for c in range(first, last):
            for i in range(4 * n_steps):
                total = 0.0
                for plane in range((c - first) * n_planes, (c - first + 1) * n_planes):
                    total = 256.0 * total + source[i // 4, plane, i % 4]
                if order[i] >= 0:
                    out[order[i], c] = steps[c] * total


@numba.njit(nogil=True, cache=True)
def row_addresses(rows, addresses):  # type: ignore[no-untyped-def]
    """Write the address of every row; of the last one from there on."""
    for v in range(addresses.shape[0]):
        addresses[v] = rows.ctypes.data + min(v, rows.shape[0] - 1) * rows.strides[0]


@numba.njit(nogil=True, cache=True)
def multiply(rows, ends, addresses, codes, packed, starts, n_planes, W):  # type: ignore[no-untyped-def]
    """Write `Σ_s u_vs q_sc` to `W[c, v]`, exact.

    Parameters: rows (b, n_bytes) and ends (b, 64), the last, incomplete group of each row; addresses (2, B) of both; codes
    (B, 4); packed and starts of X; W (r, B) float64.
    """
    n_full, tail = rows.shape[1] // GROUP_BYTES, rows.shape[1] % GROUP_BYTES > 0
    n_panels = codes.shape[0] // LANES
    n_columns = W.shape[0] * n_planes
    n_steps = GROUP_BYTES * (n_full + tail)
    panel = _aligned(PANEL_GROUPS * GROUP_BYTES * STEP_BYTES)
    sums = _aligned(4 * n_panels * n_columns * LANES).view(np.int32).reshape(n_panels, n_columns, LANES)
    sums[:] = 0
    W[:] = 0.0
    since = 0
    for group in range(0, n_full, PANEL_GROUPS):
        n = min(PANEL_GROUPS, n_full - group)
        if since + n > SPILL_GROUPS:
            _spill(sums, n_planes, W)
            since = 0
        since += n
        _multiply_groups(addresses[0], group, n, group, n_steps, codes, packed, starts, n_planes, panel, sums)
    if tail:
        _spill(sums, n_planes, W)
        _multiply_groups(
            addresses[1], np.int64(0), np.int64(1), n_full, n_steps, codes, packed, starts, n_planes, panel, sums
        )
    _spill(sums, n_planes, W)


@numba.njit(nogil=True, cache=True)
def _multiply_groups(addresses, at, n, group, n_steps, codes, packed, starts, n_planes, panel, sums):  # type: ignore[no-untyped-def]
    """Add the products of n groups of samples, the first of which is `at` in the rows and `group` among all."""
    for p in range(sums.shape[0]):
        for quarter in range(4):
            v = LANES * p + 16 * quarter
            unpack_variants(
                addresses.ctypes.data + 8 * v, at * GROUP_BYTES, codes.ctypes.data + 4 * v,
                panel.ctypes.data + GROUP_BYTES * quarter, n,
            )  # fmt: skip
        for g in range(starts.shape[0] - 1):
            first, width = starts[g] * n_planes, (starts[g + 1] - starts[g]) * n_planes
            columns = packed.ctypes.data + 4 * (first * n_steps + group * GROUP_BYTES * width)
            totals = sums.ctypes.data + 4 * LANES * (p * sums.shape[1] + first)
            add_products(panel.ctypes.data, columns, totals, n * GROUP_BYTES, width)


@numba.njit(nogil=True, cache=True)
def _spill(sums, n_planes, W):  # type: ignore[no-untyped-def]
    """Add sums of 32 bits up in double precision, where they are exact to 2⁵³, and clear them."""
    for p in range(sums.shape[0]):
        for c in range(W.shape[0]):
            out = W[c, LANES * p : LANES * (p + 1)]
            for lane in range(LANES):
                total = np.float64(0.0)
                for plane in range(n_planes):
                    total = 256.0 * total + sums[p, c * n_planes + plane, lane]
                out[lane] += total
    sums[:] = 0


@numba.njit(nogil=True, cache=True)
def standardise(W, sums, steps, mean, scale, factor, absent):  # type: ignore[no-untyped-def]
    """Turn `Σ u q` into `s/f · z x`, what the second product multiplies codes with; zero in the columns `absent`."""
    for c in range(W.shape[0]):
        if absent[c]:
            W[c] = 0.0
            continue
        for v in range(W.shape[1]):
            slope = scale[v] / factor[v]
            W[c, v] = slope * slope * steps[c] * (W[c, v] - factor[v] * mean[v] * sums[c])


@numba.njit(nogil=True, cache=True)
def add_transposed(rows, ends, addresses, codes, packed, starts, n_planes, steps, shift, Y):  # type: ignore[no-untyped-def]
    """Add `step_c (Σ_v u_vs ω_vc − shift_c)` to `Y[s // 64, c, lane of s]`.

    Parameters: rows, ends, addresses, codes as `multiply`; packed and starts of the whole numbers ω; steps, shift (r,);
    Y (panels of samples, r, 64) float32.
    """
    n_full, tail = rows.shape[1] // GROUP_BYTES, rows.shape[1] % GROUP_BYTES > 0
    n_steps = (rows.shape[0] + 3) // 4
    panels = _aligned(4 * PANEL_GROUPS * n_steps * STEP_BYTES)
    sums = _aligned(4 * MAX_COLUMNS * LANES).view(np.int32).reshape(MAX_COLUMNS, LANES)
    for group in range(0, n_full, PANEL_GROUPS):
        n = min(PANEL_GROUPS, n_full - group)
        part = Y[4 * group : 4 * (group + n)]
        _add_groups(addresses[0], group, n, n_steps, codes, packed, starts, n_planes, steps, shift, panels, sums, part)
    if tail:
        part = Y[4 * n_full :]
        at, n = np.int64(0), np.int64(1)
        _add_groups(addresses[1], at, n, n_steps, codes, packed, starts, n_planes, steps, shift, panels, sums, part)


@numba.njit(nogil=True, cache=True)
def _add_groups(addresses, at, n, n_steps, codes, packed, starts, n_planes, steps, shift, panels, sums, Y):  # type: ignore[no-untyped-def]
    """Add the products of n groups of samples, which are `at` in the rows, to their part of Y."""
    stride = n_steps * STEP_BYTES
    for k in range(n_steps):
        unpack_samples(
            addresses.ctypes.data + 32 * k, at * GROUP_BYTES, codes.ctypes.data + 16 * k,
            panels.ctypes.data + STEP_BYTES * k, stride, n,
        )  # fmt: skip
    for p in range(4 * n):
        for g in range(starts.shape[0] - 1):
            first, last = starts[g], starts[g + 1]
            width = (last - first) * n_planes
            sums[:width] = 0
            columns = packed.ctypes.data + 4 * first * n_planes * n_steps
            add_products(panels.ctypes.data + p * stride, columns, sums.ctypes.data, n_steps, width)
            for c in range(first, last):
                at = (c - first) * n_planes
                if n_planes == 1:
                    _add_one(sums[at], np.float32(steps[c]), np.float32(shift[c]), Y[p, c])
                elif n_planes == 2:
                    _add_two(sums[at], sums[at + 1], np.float32(steps[c]), np.float32(shift[c]), Y[p, c])
                else:
                    _add_three(sums[at : at + 3], np.float32(steps[c]), np.float32(shift[c]), Y[p, c])


@numba.njit(nogil=True, cache=True)
def _add_one(sums, step, shift, out):  # type: ignore[no-untyped-def]
    for lane in range(LANES):
        out[lane] += step * (np.float32(sums[lane]) - shift)


@numba.njit(nogil=True, cache=True)
def _add_two(high, low, step, shift, out):  # type: ignore[no-untyped-def]
    for lane in range(LANES):
        out[lane] += step * (np.float32(256.0) * np.float32(high[lane]) + np.float32(low[lane]) - shift)


@numba.njit(nogil=True, cache=True)
def _add_three(sums, step, shift, out):  # type: ignore[no-untyped-def]
    for lane in range(LANES):
        total = np.float32(256.0) * np.float32(sums[0, lane]) + np.float32(sums[1, lane])
        out[lane] += step * (np.float32(256.0) * total + np.float32(sums[2, lane]) - shift)


@numba.njit(nogil=True, cache=True)
def choose_codes(words, n_samples, mean, scale, codes, factor, off):  # type: ignore[no-untyped-def]
    """Choose the byte of every call, `f` a copy of ALT, and of a missing one, f · mean rounded, which is `off` by so much.

    f follows the scale, so that s/f, which is rounded for many variants together, varies less; where calls are missing it
    is also one for which f · mean is nearly whole. Returns the mean square over variants of what the missing calls
    add to z, relative to z.

    Parameters: words (b, n_bytes / 8) uint64; mean, scale (b,); codes (B, 4), factor and off (B,): 0, 1 and 0 beyond b.
    """
    codes[:], factor[:], off[:] = 0, 1.0, 0.0
    total = 0.0
    for v in range(words.shape[0]):
        if scale[v] == 0.0:
            continue
        missing = (_missing_calls(words[v]) - (32 * words.shape[1] - n_samples)) / n_samples
        # The scale is at least √2 where all variants are to have one variance.
        wanted = min(max(28.0 * scale[v], 40.0), 127.0)
        least, added = np.inf, 0.0
        for way in (1, -1):
            f = int(wanted)
            while LEAST_FACTOR <= f <= GREATEST_FACTOR:
                price = (ROUNDING * max(f / wanted, wanted / f)) ** 2
                if price >= least:  # and dearer from here on
                    break
                rest = np.rint(f * mean[v]) - f * mean[v]
                imputed = missing * (scale[v] * rest / f) ** 2
                if price + imputed < least:
                    least, factor[v], off[v], added = price + imputed, f, rest, imputed
                f += way
        total += added
        for call in range(3):
            codes[v, call] = np.uint8(call * factor[v])
        codes[v, 3] = np.uint8(np.rint(factor[v] * mean[v]))
    return total / max(words.shape[0], 1)


@numba.njit(nogil=True, cache=True)
def _missing_calls(words):  # type: ignore[no-untyped-def]
    n = 0
    for i in range(words.shape[0]):
        n += popcount(words[i] & (words[i] >> np.uint64(1)) & _LOW_BITS)
    return n


@numba.njit(nogil=True, cache=True)
def put_in_order(Y, order, rows):  # type: ignore[no-untyped-def]
    """Turn every panel of `Y` (panels, r, 64), its lanes in `order`, into 64 `rows` (64 panels, r) in the same memory."""
    r = Y.shape[1]
    panel = np.empty((r, LANES), np.float32)
    for p in range(Y.shape[0]):
        for c in range(r):
            for lane in range(LANES):
                panel[c, lane] = Y[p, c, lane]
        for lane in range(LANES):
            for c in range(r):
                rows[LANES * p + order[lane], c] = panel[c, lane]
