"""How a row of genotypes is held in memory and on disk: 2-bit calls, or dosages of 8 or 16 bits.

A row is one variant over all samples. Values count copies of ALT, the effect allele:

    calls      2 bits a sample: 0, 1, 2, or 3 = missing; the first sample sits in the lowest bits of the first byte
               (PLINK's bit order); padded with missing calls to a multiple of 32 samples, whole 8-byte words
    dosage8    uint8: round(127 · dosage), 255 = missing
    dosage16   uint16: round(32,640 · dosage), 65,535 = missing; 32,640 = 128 · 255, so that every dosage of a BGEN file
               with 8 bits a probability is held exactly, and those of a PGEN file (1/16,384) to less than half a step
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

SAMPLES_PER_WORD = 32
"""Packed calls in one 8-byte word."""

HARD_CALL_THRESHOLD = 0.1
"""A dosage further than this from a whole number has no hard call (PLINK's default)."""

Rows = NDArray[Any]
"""Encoded rows (n_variants, width): uint8 or uint16."""


def padded_samples(n_samples: int) -> int:
    """Round up to whole 8-byte words of packed calls.

    Examples
    --------
    >>> padded_samples(1), padded_samples(32), padded_samples(33)
    (32, 32, 64)
    """
    return -(-n_samples // SAMPLES_PER_WORD) * SAMPLES_PER_WORD


def row_bytes(n_samples: int) -> int:
    """Bytes of one row of packed calls, padding included.

    Examples
    --------
    >>> row_bytes(33)
    16
    """
    return padded_samples(n_samples) // 4


class Encoding(Enum):
    """How rows are encoded."""

    CALLS = "calls"
    DOSAGE8 = "dosage8"
    DOSAGE16 = "dosage16"

    @property
    def is_dosage(self) -> bool:
        """Whether values between whole numbers can be held."""
        return self is not Encoding.CALLS

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements of a row."""
        return np.dtype(np.uint16 if self is Encoding.DOSAGE16 else np.uint8)

    @property
    def steps(self) -> int:
        """Codes per copy of ALT."""
        return {Encoding.CALLS: 1, Encoding.DOSAGE8: 127, Encoding.DOSAGE16: 32_640}[self]

    @property
    def missing(self) -> int:
        """Code of a missing genotype."""
        return {Encoding.CALLS: 3, Encoding.DOSAGE8: 255, Encoding.DOSAGE16: 65_535}[self]

    def width(self, n_samples: int) -> int:
        """Elements of one row.

        Examples
        --------
        >>> Encoding.CALLS.width(33), Encoding.DOSAGE16.width(33)
        (16, 33)
        """
        return n_samples if self.is_dosage else row_bytes(n_samples)

    def row_bytes(self, n_samples: int) -> int:
        """Bytes of one row.

        Examples
        --------
        >>> Encoding.CALLS.row_bytes(33), Encoding.DOSAGE16.row_bytes(33)
        (16, 66)
        """
        return self.width(n_samples) * self.dtype.itemsize

    def missing_rows(self, n_variants: int, n_samples: int) -> Rows:
        """Return rows in which every genotype is missing."""
        fill = self.missing if self.is_dosage else 255
        return np.full((n_variants, self.width(n_samples)), fill, self.dtype)


def rows_from_calls(calls: NDArray[np.int8], encoding: Encoding, out: Rows | None = None) -> Rows:
    """Encode hard calls (b, N) of 0, 1, 2; everything else is missing.

    Examples
    --------
    >>> rows_from_calls(np.array([[1, 2, -9, 0]], np.int8), Encoding.CALLS)[0, :2].tolist()
    [57, 255]
    """
    calls = np.ascontiguousarray(calls, np.int8)
    if out is None:
        out = np.empty((len(calls), encoding.width(calls.shape[1])), encoding.dtype)
    if encoding is Encoding.CALLS:
        _pack_calls(calls, out)
    else:
        table = np.full(256, encoding.missing, encoding.dtype)
        table[:3] = np.arange(3) * encoding.steps
        np.take(table, calls.view(np.uint8), out=out)
    return out


def rows_from_dosages(dosages: NDArray[np.floating], encoding: Encoding, out: Rows | None = None) -> Rows:
    """Encode dosages (b, N) from 0 to 2, NaN = missing; values outside are cut to the nearer end.

    As calls, a dosage further than 0.1 from a whole number is missing.

    Examples
    --------
    >>> rows_from_dosages(np.array([[0.5, np.nan, 2.0]]), Encoding.DOSAGE8).tolist()
    [[64, 255, 254]]
    """
    if encoding is Encoding.CALLS:
        nearest = np.rint(dosages)
        called = np.abs(dosages - nearest) <= HARD_CALL_THRESHOLD + 1e-6
        return rows_from_calls(np.where(called, nearest, -9).astype(np.int8), encoding, out)
    if out is None:
        out = np.empty(dosages.shape, encoding.dtype)
    _encode_dosages(np.ascontiguousarray(dosages), float(encoding.steps), encoding.missing, out)
    return out


def dosages_from_rows(rows: Rows, encoding: Encoding, n_samples: int) -> NDArray[np.float32]:
    """Decode rows to dosages (b, N), NaN = missing.

    Examples
    --------
    >>> dosages_from_rows(np.array([[57]], np.uint8), Encoding.CALLS, 3).tolist()
    [[1.0, 2.0, nan]]
    """
    if encoding is Encoding.CALLS:
        table = np.array([0, 1, 2, np.nan], np.float32)
        codes = (rows[:, :, None] >> np.array([0, 2, 4, 6], np.uint8)) & np.uint8(3)
        return np.asarray(table[codes.reshape(len(rows), -1)[:, :n_samples]])
    return np.where(rows == encoding.missing, np.float32(np.nan), rows.astype(np.float32) / np.float32(encoding.steps))


def recode_rows(rows: Rows, n_samples: int, given: Encoding, wanted: Encoding) -> Rows:
    """Encode rows another way; dosages become calls where they are within 0.1 of a whole number."""
    return rows if given is wanted else rows_from_dosages(dosages_from_rows(rows, given, n_samples), wanted)


@numba.njit(inline="always", cache=True)
def popcount(word):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Count the bits of an 8-byte word; LLVM recognises this and uses the processor's instruction."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@numba.njit(nogil=True, cache=True)
def _pack_calls(calls, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    n_samples = calls.shape[1]
    for i in range(calls.shape[0]):
        for b in range(out.shape[1]):
            byte = 255
            for k in range(min(4, n_samples - 4 * b)):
                call = calls[i, 4 * b + k]
                if call < 0 or call > 2:
                    call = 3
                byte &= ~(3 << (2 * k)) | (call << (2 * k))
            out[i, b] = byte


@numba.njit(nogil=True, cache=True)
def _encode_dosages(dosages, steps, missing, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    top = 2.0 * steps
    for i in range(dosages.shape[0]):
        for j in range(dosages.shape[1]):
            value = dosages[i, j]
            if value == value:  # not NaN
                out[i, j] = int(min(max(value * steps, 0.0), top) + 0.5)
            else:
                out[i, j] = missing
