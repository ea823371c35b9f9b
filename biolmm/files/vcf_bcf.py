"""Records of a BCF: where their parts are, their alleles, and the genotypes of all samples.

A record is two lengths and two parts: what is shared (contig, position, ID, alleles, INFO), and for every field of
FORMAT a typed vector of all samples (VCF 4.3, section 6.3). Every length is checked against the record's end before it is
followed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.files.vcf_values import MISSING_ALLELE, NO_ALLELE, Cell, RecordValues, Trouble, VcfRun

__all__ = ["BcfRun"]

_INT8, _INT16, _INT32, _FLOAT, _CHAR = 1, 2, 3, 5, 7
_SHARED = 32
"""Bytes before the ID: two lengths, contig, position, length on the reference, quality, and the four counts."""

_KINDS = (Trouble.DS, Trouble.HDS, Trouble.GP)

_END = np.int64(-1_000_000_000_000)
"""What stands for the end of a sample's vector that is shorter than others; one less stands for a missing value."""


class BcfRun(VcfRun):
    """Consecutive records of a BCF."""

    def __init__(
        self, data: NDArray[np.uint8], n_samples: int, contigs: Mapping[int, str], keys: Sequence[int]
    ) -> None:
        """Find the parts of every record; `keys` are the numbers of `FIELDS` in the header, −1 where it lacks one."""
        self.data, self.n_samples, self.contigs = data, n_samples, contigs
        n = _count_records(data)
        self.starts = np.zeros(n, np.int64)
        self.contig, self.position, self.n_alts = np.zeros((3, n), np.int64)
        self.fields = np.zeros((n, 4, 3), np.int64)
        known = np.zeros(max(contigs, default=-1) + 1, np.bool_)
        known[list(contigs)] = True
        record, trouble = _find_parts(
            data, n_samples, np.array(keys), known, self.starts, self.contig, self.position, self.n_alts, self.fields
        )
        self.trouble = (int(record), Trouble(trouble)) if trouble else None

    @property
    def has_field(self) -> NDArray[np.bool_]:
        """(records, 4) whether a record has each of `FIELDS`."""
        return self.fields[:, :, 0] > 0

    def contig_changes(self) -> NDArray[np.bool_]:
        """Tell of each record whether its contig is another than that of the record before; true for the first."""
        return np.asarray(np.diff(self.contig, prepend=-1) != 0)

    def contig_name(self, record: int) -> str:
        """Return the contig of a record."""
        return self.contigs.get(int(self.contig[record]), f"contig {self.contig[record]}")

    def row_bounds(self) -> NDArray[np.int64]:
        """Where ID, REF and ALT of each row begin and end in `data`, (rows, 3, 2)."""
        bounds = np.empty((int(self.n_alts.sum()), 3, 2), np.int64)
        _split_alleles(self.data, self.starts, self.n_alts, bounds)
        return bounds

    def read_calls(self, first: int, last: int, calls: NDArray[np.int8]) -> Cell:
        """Read hard calls of records `first` to `last` into (rows, samples), −1 = missing; return what is wrong."""
        part = slice(first, last)
        record, sample, trouble = _read_calls(self.data, self.fields[part, 0], self.n_alts[part], calls)
        return Cell(first + record, sample, trouble)

    def read_values(self, record: int, values: RecordValues) -> Cell:
        """Read all values of a record; return what is wrong."""
        fields = self.fields[record]
        if fields[0, 0]:
            sample, trouble = _read_alleles(self.data, fields[0], self.n_alts[record], values.alleles)
            if trouble:
                return Cell(record, sample, trouble)
        column = 0
        for field, width, kind in zip(fields[1:], values.widths.tolist(), _KINDS, strict=True):
            sample = _read_numbers(self.data, field, values.numbers, column, width) if width else -1
            if sample >= 0:
                return Cell(record, sample, kind.value)
            column += width
        return Cell(record, 0, 0)


@numba.njit(nogil=True, cache=True)
def _uint(data, p, n_bytes):  # type: ignore[no-untyped-def]  # pragma: no cover
    value = np.int64(0)
    for k in range(n_bytes):
        value |= np.int64(data[p + k]) << (8 * k)
    return value


@numba.njit(nogil=True, cache=True)
def _int(data, p, n_bytes):  # type: ignore[no-untyped-def]  # pragma: no cover
    value = _uint(data, p, n_bytes)
    return value - (np.int64(1) << (8 * n_bytes)) if value >> (8 * n_bytes - 1) else value


@numba.njit(nogil=True, cache=True)
def _size(kind):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Bytes of one value of a type; −1 when there is no such type."""
    if kind in (_INT8, _CHAR):
        return 1
    if kind == _INT16:
        return 2
    if kind in (_INT32, _FLOAT):
        return 4
    return 0 if kind == 0 else -1


@numba.njit(nogil=True, cache=True)
def _descriptor(data, p, stop):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read type and length of a vector; return them and where its values begin, type −1 when they make no sense."""
    if p >= stop:
        return -1, 0, p
    kind, n = np.int64(data[p]) & 15, np.int64(data[p]) >> 4
    p += 1
    if n == 15:
        if p >= stop:
            return -1, 0, p
        size = _size(np.int64(data[p]) & 15)
        if data[p] >> 4 != 1 or (data[p] & 15) > _INT32 or size < 1 or p + 1 + size > stop:
            return -1, 0, p
        n = _int(data, p + 1, size)
        p += 1 + size
    if _size(kind) < 0 or n < 0 or (kind == 0 and n > 0):
        return -1, 0, p
    return kind, n, p


@numba.njit(nogil=True, cache=True)
def _string_end(data, p, stop):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Find where a string begins and ends; −1, −1 when there is none."""
    kind, n, p = _descriptor(data, p, stop)
    if kind == 0 and n == 0:
        return p, p
    if kind != _CHAR or p + n > stop:
        return -1, -1
    return p, p + n


@numba.njit(nogil=True, cache=True)
def _count_records(data):  # type: ignore[no-untyped-def]  # pragma: no cover
    n, p = 0, 0
    while p + 8 <= len(data):
        p += 8 + _uint(data, p, 4) + _uint(data, p + 4, 4)
        n += 1
    return n


@numba.njit(nogil=True, cache=True)
def _find_parts(data, n_samples, keys, known, starts, contig, position, n_alts, fields):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fill the tables of records; return the first bad record and what is wrong, or 0, 0."""
    p = 0
    for i in range(len(starts)):
        starts[i] = p
        shared = p + 8 + _uint(data, p, 4)
        stop = shared + _uint(data, p + 4, 4)
        if stop > len(data) or shared < p + _SHARED:
            return i, 13
        contig[i], position[i] = _int(data, p + 8, 4), _int(data, p + 12, 4) + 1
        n_alleles, n_fields = _uint(data, p + 26, 2), np.int64(data[p + 31])
        if not 0 <= contig[i] < len(known) or not known[contig[i]]:
            return i, 14
        if position[i] < 0:
            return i, 3
        if _uint(data, p + 28, 3) != n_samples:
            return i, 4
        if n_alleles < 1:
            return i, 2
        start, q = _string_end(data, p + _SHARED, shared)
        if start < 0:
            return i, 13
        for _ in range(n_alleles):
            start, q = _string_end(data, q, shared)
            if start < 0:
                return i, 13
            if start == q:
                return i, 2
        n_alts[i] = n_alleles - 1
        q = shared
        for _ in range(n_fields):
            kind, n, q = _descriptor(data, q, stop)
            size = _size(kind)
            if n != 1 or not _INT8 <= kind <= _INT32 or q + size > stop:
                return i, 13
            key = _int(data, q, size)
            kind, n, q = _descriptor(data, q + size, stop)
            if kind < 0 or n > stop or q + n * _size(kind) * n_samples > stop:
                return i, 13
            for j in range(4):
                if key == keys[j] and key >= 0:
                    fields[i, j, 0], fields[i, j, 1], fields[i, j, 2] = q, n, kind
            q += n * _size(kind) * n_samples
        if q != stop:
            return i, 13
        p = stop
    return 0, 0


@numba.njit(nogil=True, cache=True)
def _split_alleles(data, starts, n_alts, bounds):  # type: ignore[no-untyped-def]  # pragma: no cover
    row = 0
    for i in range(len(starts)):
        name, p = _string_end(data, starts[i] + _SHARED, len(data))
        name_end = p
        while name_end > name and data[name_end - 1] == 0:
            name_end -= 1
        ref, p = _string_end(data, p, len(data))
        ref_end = p
        for _ in range(n_alts[i]):
            bounds[row, 0, 0], bounds[row, 0, 1] = name, name_end
            bounds[row, 1, 0], bounds[row, 1, 1] = ref, ref_end
            bounds[row, 2, 0], p = _string_end(data, p, len(data))
            bounds[row, 2, 1] = p
            row += 1


@numba.njit(nogil=True, cache=True)
def _value(data, p, size):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read an integer; the two lowest values of a type stand for missing and for the end of a vector."""
    value = _int(data, p, size)
    lowest = -(np.int64(1) << (8 * size - 1))
    if value == lowest:
        return _END - 1
    return _END if value == lowest + 1 else value


@numba.njit(nogil=True, cache=True)
def _genotype(data, p, n, size, n_alt):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read one sample's GT: (allele + 1) · 2, plus 1 where phased. Return two alleles and trouble."""
    a, b = MISSING_ALLELE, NO_ALLELE
    for k in range(n):
        value = _value(data, p + k * size, size)
        if value == _END:
            break
        if k == 2:
            return a, b, 6
        allele = MISSING_ALLELE if value == _END - 1 else (value >> 1) - 1
        if allele < MISSING_ALLELE or allele > n_alt:
            return a, b, 5
        if k == 0:
            a = allele
        else:
            b = allele
    return a, b, 0


@numba.njit(nogil=True, cache=True)
def _read_alleles(data, field, n_alt, alleles):  # type: ignore[no-untyped-def]  # pragma: no cover
    start, n, kind = field[0], field[1], field[2]
    size = _size(kind)
    if kind > _INT32:
        return 0, 5
    for s in range(len(alleles)):
        p = start + s * n * size
        a, b, trouble = np.int64(0), np.int64(0), 0
        if size == 1 and n == 2 and 2 <= data[p] < 128 and 2 <= data[p + 1] < 128:
            a, b = (np.int64(data[p]) >> 1) - 1, (np.int64(data[p + 1]) >> 1) - 1
            trouble = 5 if a > n_alt or b > n_alt else 0
        else:
            a, b, trouble = _genotype(data, p, n, size, n_alt)
        if trouble:
            return s, trouble
        alleles[s, 0], alleles[s, 1] = a, b
    return 0, 0


@numba.njit(nogil=True, cache=True)
def _read_calls(data, fields, n_alts, calls):  # type: ignore[no-untyped-def]  # pragma: no cover
    n_samples = calls.shape[1]
    row = 0
    for i in range(len(fields)):
        start, n, kind = fields[i, 0], fields[i, 1], fields[i, 2]
        n_alt, size = n_alts[i], _size(kind)
        if start == 0:
            calls[row : row + n_alt] = -1
        elif kind > _INT32:
            return i, 0, 5
        else:
            for s in range(n_samples):
                p = start + s * n * size
                # Nearly all are two small numbers; a call of a function that takes an array costs more than that.
                a, b, trouble = np.int64(0), np.int64(0), 0
                if size == 1 and n == 2 and 2 <= data[p] < 128 and 2 <= data[p + 1] < 128:
                    a, b = (np.int64(data[p]) >> 1) - 1, (np.int64(data[p + 1]) >> 1) - 1
                    trouble = 5 if a > n_alt or b > n_alt else 0
                else:
                    a, b, trouble = _genotype(data, p, n, size, n_alt)
                if trouble:
                    return i, s, trouble
                if b == NO_ALLELE:
                    b = a
                if n_alt == 1:
                    calls[row, s] = a + b if a >= 0 and b >= 0 else -1
                else:
                    for k in range(n_alt):
                        calls[row + k, s] = (a == k + 1) + (b == k + 1) if a >= 0 and b >= 0 else -1
        row += n_alt
    return 0, 0, 0


@numba.njit(nogil=True, cache=True)
def _read_numbers(data, field, numbers, column, width):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read the numbers of all samples into `width` columns; return the first sample with more, or −1.

    Of a float, the bits 7f800001 mean missing and 7f800002 the end of the vector: both are NaN.
    """
    start, n, kind = field[0], field[1], field[2]
    size = _size(kind)
    if kind == _CHAR:
        return 0
    bits = np.empty(1, np.uint32)
    floats = bits.view(np.float32)
    for s in range(len(numbers)):
        for k in range(n):
            p = start + (s * n + k) * size
            value = np.nan
            if kind == _FLOAT:
                low, high = (
                    np.int64(data[p]) | np.int64(data[p + 1]) << 8,
                    np.int64(data[p + 2]) | np.int64(data[p + 3]) << 8,
                )
                bits[0] = low | high << 16
                value = np.float64(floats[0])
            else:
                whole = _value(data, p, size)
                if whole > _END:
                    value = np.float64(whole)
            if k < width:
                numbers[s, column + k] = value
            elif value == value:
                return s
    return -1
