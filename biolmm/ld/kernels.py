"""Kernels of pruning: genotypes in bit planes or as codes, r² of pairs from whole numbers, and the greedy walk.

Legend: a **pool** holds the variants of a window, each in a slot.

    calls      (slots, 2, words) uint64: the low and the high bits of 64 two-bit calls a word, in any order of samples that
               is the same for all. With x = copies − 1: x ≠ 0 where the low bit is clear, x = 1 where the high bit is set
               as well; missing (both set) and heterozygous (low only) calls add nothing to sums of x.
    dosages    (slots, samples) uint8 or uint16: x is the code.

Sums over the samples that both variants of a pair observe: n, Σx, Σx² of each, Σxy. They are whole numbers, so that r² does
not depend on chunks, threads or the order of samples.
"""

from __future__ import annotations

import numba
import numpy as np
from numba.extending import overload

from biolmm.files.encoding import popcount

_EVEN = np.uint64(0x5555555555555555)
_ODD = np.uint64(0xAAAAAAAAAAAAAAAA)
_ONE = np.uint64(1)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@numba.njit(nogil=True, cache=True)
def load_calls(words, rows, slots, pool):  # type: ignore[no-untyped-def]
    """Sort the bits of some `rows` of packed calls (b, w) into their slots; a word that is not there is missing."""
    n_words = words.shape[1]
    for i in range(rows.shape[0]):
        row, low, high = words[rows[i]], pool[slots[i], 0], pool[slots[i], 1]
        for k in range(low.shape[0]):
            first = row[2 * k]
            second = row[2 * k + 1] if 2 * k + 1 < n_words else _ALL
            low[k] = (first & _EVEN) | ((second & _EVEN) << _ONE)
            high[k] = ((first >> _ONE) & _EVEN) | (second & _ODD)


@numba.njit(nogil=True, cache=True)
def load_codes(codes, rows, slots, pool):  # type: ignore[no-untyped-def]
    """Copy some `rows` of dosages (b, samples) into their slots."""
    for i in range(rows.shape[0]):
        row, out = codes[rows[i]], pool[slots[i]]
        for k in range(row.shape[0]):
            out[k] = row[k]


@numba.njit(nogil=True, cache=True)
def moments_of_calls(words, moments):  # type: ignore[no-untyped-def]
    """Write n, Σx and Σx² of each row of packed calls (b, w) into `moments` (b, 3)."""
    for i in range(words.shape[0]):
        row = words[i]
        missing, plus, zeros = 0, 0, 0
        for k in range(row.shape[0]):
            low, high = row[k] & _EVEN, (row[k] >> _ONE) & _EVEN
            missing += popcount(low & high)
            plus += popcount(high & ~low)
            zeros += popcount(low)
        squares = 32 * row.shape[0] - zeros
        moments[i, 0], moments[i, 1], moments[i, 2] = 32 * row.shape[0] - missing, 2 * plus - squares, squares


def _product(pool, a, b):  # type: ignore[no-untyped-def]
    """Return Σxy of two slots without missing genotypes (of calls: with any)."""
    raise NotImplementedError("for kernels only")


@overload(_product)
def _product_of_a_pool(pool, a, b):  # type: ignore[no-untyped-def]
    def of_planes(pool, a, b):  # type: ignore[no-untyped-def]
        both, opposite = 0, 0
        for k in range(pool.shape[2]):
            nonzero = ~(pool[a, 0, k] | pool[b, 0, k])
            both += popcount(nonzero)
            opposite += popcount(nonzero & (pool[a, 1, k] ^ pool[b, 1, k]))
        return np.int64(both - 2 * opposite)

    def of_codes(pool, a, b):  # type: ignore[no-untyped-def]
        total = np.uint64(0)
        for k in range(pool.shape[1]):
            total += np.uint64(np.uint32(pool[a, k]) * np.uint32(pool[b, k]))
        return np.int64(total)

    return of_planes if pool.ndim == 3 else of_codes


def _sums(pool, missing, a, b):  # type: ignore[no-untyped-def]
    """Return n, Σx, Σx², Σy, Σy², Σxy over the samples that both slots observe."""
    raise NotImplementedError("for kernels only")


@overload(_sums)
def _sums_of_a_pool(pool, missing, a, b):  # type: ignore[no-untyped-def]
    def of_planes(pool, missing, a, b):  # type: ignore[no-untyped-def]
        n, both, opposite, sx, sxx, sy, syy = 0, 0, 0, 0, 0, 0, 0
        for k in range(pool.shape[2]):
            low, high, other_low, other_high = pool[a, 0, k], pool[a, 1, k], pool[b, 0, k], pool[b, 1, k]
            observed, other_observed = ~(low & high), ~(other_low & other_high)
            nonzero = ~(low | other_low)
            x, y = ~low & other_observed, ~other_low & observed
            n += popcount(observed & other_observed)
            both += popcount(nonzero)
            opposite += popcount(nonzero & (high ^ other_high))
            sxx += popcount(x)
            syy += popcount(y)
            sx += popcount(x & high)
            sy += popcount(y & other_high)
        return n, 2 * sx - sxx, sxx, 2 * sy - syy, syy, both - 2 * opposite

    def of_codes(pool, missing, a, b):  # type: ignore[no-untyped-def]
        n, sx, sxx = np.int64(0), np.int64(0), np.int64(0)
        sy, syy, sxy = np.int64(0), np.int64(0), np.int64(0)
        for k in range(pool.shape[1]):
            x, y = np.int64(pool[a, k]), np.int64(pool[b, k])
            observed = np.int64((x != missing) & (y != missing))
            x, y = x * observed, y * observed
            n += observed
            sx += x
            sxx += x * x
            sy += y
            syy += y * y
            sxy += x * y
        return n, sx, sxx, sy, syy, sxy

    return of_planes if pool.ndim == 3 else of_codes


@numba.njit(nogil=True, cache=True)
def _linked(pool, missing, n_samples, slot, moments, threshold, i, j):  # type: ignore[no-untyped-def]
    """Whether r² of variants i and j is greater than the threshold; where one does not vary, it is not."""
    if moments[i, 0] == n_samples and moments[j, 0] == n_samples:
        n, sx, sxx = n_samples, moments[i, 1], moments[i, 2]
        sy, syy = moments[j, 1], moments[j, 2]
        sxy = _product(pool, slot[i], slot[j])
    else:
        n, sx, sxx, sy, syy, sxy = _sums(pool, missing, slot[i], slot[j])
    size = np.float64(n)
    covariance = size * np.float64(sxy) - np.float64(sx) * np.float64(sy)
    variance = size * np.float64(sxx) - np.float64(sx) * np.float64(sx)
    other_variance = size * np.float64(syy) - np.float64(sy) * np.float64(sy)
    return covariance * covariance > threshold * variance * other_variance


@numba.njit(nogil=True, cache=True)
def walk(pool, missing, n_samples, slot, moments, major, ends, step, threshold, window, n_loaded, first, kept):  # type: ignore[no-untyped-def]
    """Prune window after window while all their variants are loaded; return the first window that was not.

    Parameters: pool; code of missing dosages; samples; slot (m,) and moments (m, 3) of every variant loaded; major (m,)
    copies of the commoner allele in codes; window w is variants `w·step` to `ends[w]`; threshold of r²; the first window to
    do; how many variants are loaded; first (m,) the first partner that variant i was not compared with yet, and kept (m,),
    both changed here.

    In a window each variant kept is compared with the later ones until one of the pair is removed; rounds are repeated
    until nothing is. Of a pair the variant whose commoner allele is commoner goes; of equals the later one.
    """
    while window < ends.shape[0] and ends[window] <= n_loaded:
        start, end = window * step, ends[window]
        removed = window == 0 or end > ends[window - 1]
        while removed:
            removed = False
            for i in range(start, end):
                if not kept[i]:
                    continue
                j = first[i]
                while j < end:
                    if kept[j] and _linked(pool, missing, n_samples, slot, moments, threshold, i, j):
                        loser = i if major[i] * moments[j, 0] > major[j] * moments[i, 0] else j
                        kept[loser] = False
                        removed = True
                        j += 1
                        break
                    j += 1
                first[i] = j
        window += 1
    return window
