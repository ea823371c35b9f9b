"""Counting the genotypes of encoded rows: packed calls a word of 32 at a time, dosages exactly, in whole numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.files.encoding import Encoding, Rows, padded_samples, popcount, row_bytes

_LOW_BITS = np.uint64(0x5555555555555555)


@dataclass(frozen=True, eq=False)
class CallCounts:
    """Counts of each variant over the samples, padding left out."""

    alt: NDArray[np.int32]
    """Copies of ALT among the calls."""
    het: NDArray[np.int32]
    missing: NDArray[np.int32]


@numba.njit(nogil=True, cache=True)
def _count_words(words, low_bits, het, hom, missing):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Count each row of `words` (n_variants, n_words), padding included."""
    for i in range(words.shape[0]):
        n_low, n_high, n_both = 0, 0, 0
        for w in range(words.shape[1]):
            low = words[i, w] & low_bits
            high = (words[i, w] >> np.uint64(1)) & low_bits
            n_low += popcount(low)
            n_high += popcount(high)
            n_both += popcount(low & high)
        het[i] = n_low - n_both
        hom[i] = n_high - n_both
        missing[i] = n_both


def count_calls(packed: NDArray[np.uint8], n_samples: int) -> CallCounts:
    """Count copies of ALT, heterozygotes and missing calls of each row.

    With the low bits L and the high bits H of the calls: het = |L| − |L∧H|, hom ALT = |H| − |L∧H|, missing = |L∧H|
    less the padding, alt = het + 2 hom ALT.

    Parameters
    ----------
    packed
        Packed rows (n_variants, row_bytes), C-contiguous, padded with missing calls.
    n_samples
        Samples without the padding.

    Raises
    ------
    ValueError
        When the rows have another width, or their padding is not missing calls.

    Examples
    --------
    >>> row = np.full((1, 8), 0xFF, np.uint8)
    >>> row[0, 0] = 0b11_01_10_00                     # 0, 2, 1, missing
    >>> counts = count_calls(row, 4)
    >>> counts.alt.tolist(), counts.het.tolist(), counts.missing.tolist()
    ([3], [1], [1])
    """
    n_padding = padded_samples(n_samples) - n_samples
    if packed.ndim != 2 or packed.shape[1] * 4 != n_samples + n_padding:
        raise ValueError(f"packed rows of {n_samples} samples have {row_bytes(n_samples)} bytes; given: {packed.shape}")
    words = np.ascontiguousarray(packed).view("<u8").astype(np.uint64, copy=False)
    padding = np.uint64((1 << 64) - (1 << (64 - 2 * n_padding)))
    if np.any((words[:, -1] & padding) != padding):
        raise ValueError(f"the {n_padding} padding calls of each packed row must be 3 (missing)")
    het, hom, missing = (np.empty(len(words), np.int32) for _ in range(3))
    _count_words(words, _LOW_BITS, het, hom, missing)
    return CallCounts(alt=het + 2 * hom, het=het, missing=missing - np.int32(n_padding))


@dataclass(frozen=True, eq=False)
class DosageCounts:
    """Exact sums of the codes of each variant over the samples with a genotype."""

    encoding: Encoding
    called: NDArray[np.int32]
    """Samples with a genotype."""
    code_sum: NDArray[np.int64]
    code_squares: NDArray[np.int64]

    @property
    def dosage_sum(self) -> NDArray[np.float64]:
        """Sum of the dosages, Σd."""
        return self.code_sum / self.encoding.steps

    @property
    def dosage_squares(self) -> NDArray[np.float64]:
        """Sum of the squared dosages, Σd²."""
        return self.code_squares / self.encoding.steps**2


def count_dosages(rows: Rows, encoding: Encoding) -> DosageCounts:
    """Add up the codes of each row, and their squares.

    Raises
    ------
    ValueError
        When the rows are not of this encoding, or hold a code above 2 copies that is not the missing one.

    Notes
    -----
    **Cost**: one pass over the rows. The sums are exact up to 2·10⁹ samples.

    Examples
    --------
    >>> counts = count_dosages(np.array([[127, 254, 255]], np.uint8), Encoding.DOSAGE8)
    >>> counts.called.tolist(), counts.dosage_sum.tolist(), counts.dosage_squares.tolist()
    ([2], [3.0], [5.0])
    """
    if not encoding.is_dosage or rows.ndim != 2 or rows.dtype != encoding.dtype:
        raise ValueError(f"rows of {encoding.value} cannot be {rows.dtype} {rows.shape}")
    called, code_sum, squares = (np.zeros(len(rows), np.int64) for _ in range(3))
    n_invalid = _add_codes(np.ascontiguousarray(rows), encoding.missing, 2 * encoding.steps, called, code_sum, squares)
    if n_invalid:
        raise ValueError(f"{n_invalid} codes of {encoding.value} are above {2 * encoding.steps}, which is two copies")
    return DosageCounts(encoding, called.astype(np.int32), code_sum, squares)


@numba.njit(nogil=True, cache=True)
def _add_codes(rows, missing, top, called, code_sum, squares):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fill the three sums of each row; return how many codes are neither missing nor at most `top`."""
    n_invalid = np.int64(0)
    for i in range(rows.shape[0]):
        n, total, total_of_squares, n_above = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
        for j in range(rows.shape[1]):
            code = np.int64(rows[i, j])
            has = np.int64(code != missing)
            code *= has
            n += has
            total += code
            total_of_squares += code * code
            n_above += np.int64(code > top)
        called[i], code_sum[i], squares[i] = n, total, total_of_squares
        n_invalid += n_above
    return n_invalid
