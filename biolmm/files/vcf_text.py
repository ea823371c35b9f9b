"""Records of a VCF as text: where their columns are, their alleles, and the genotypes of all samples.

A record is a line of tab-separated columns, CHROM POS ID REF ALT QUAL FILTER INFO FORMAT and one a sample, whose fields
are separated by `:` in the order of FORMAT (VCF 4.3, section 1.6).
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.files.vcf_values import MISSING_ALLELE, NO_ALLELE, Cell, RecordValues, Trouble, VcfRun, is_key

__all__ = ["TextRun"]

TAB, NEWLINE, RETURN, COLON, COMMA, DOT, SLASH, BAR = 9, 10, 13, 58, 44, 46, 47, 124
_N_FIELDS = 10
_POWERS = 10.0 ** np.arange(23)
"""Those that double precision holds exactly."""


class TextRun(VcfRun):
    """Consecutive lines of a VCF; empty lines are no records."""

    def __init__(self, data: NDArray[np.uint8], n_samples: int) -> None:
        """Find the columns of every line; `data` end in a line break."""
        stops = np.flatnonzero(data == NEWLINE)
        starts = np.concatenate([[0], stops[:-1] + 1]).astype(np.int64)
        stops = stops - ((stops > starts) & (data[np.maximum(stops - 1, 0)] == RETURN))
        kept = stops > starts
        self.data, self.n_samples = data, n_samples
        self.starts, self.stops = starts[kept], stops[kept]
        self.columns = np.empty((len(self.stops), _N_FIELDS), np.int64)
        self.n_alts = np.zeros(len(self.stops), np.int64)
        self.position = np.zeros(len(self.stops), np.int64)
        self.keys = np.full((len(self.stops), 4), -1, np.int64)
        record, trouble = _find_columns(
            data, self.starts, self.stops, self.columns, self.position, self.n_alts, self.keys
        )
        self.trouble = (int(record), Trouble(trouble)) if trouble else None

    @property
    def has_field(self) -> NDArray[np.bool_]:
        """(records, 4) whether a record has each of `FIELDS`."""
        return self.keys >= 0

    def contig_changes(self) -> NDArray[np.bool_]:
        """Tell of each record whether its contig is another than that of the record before; true for the first."""
        changes = np.ones(self.n, np.bool_)
        _compare_contigs(self.data, self.columns, changes)
        return changes

    def contig_name(self, record: int) -> str:
        """Return the contig of a record."""
        start, after = self.columns[record, :2]
        return self.data[start : after - 1].tobytes().decode(errors="replace")

    def row_bounds(self) -> NDArray[np.int64]:
        """Where ID, REF and ALT of each row begin and end in `data`, (rows, 3, 2)."""
        bounds = np.empty((int(self.n_alts.sum()), 3, 2), np.int64)
        _split_alleles(self.data, self.columns, self.n_alts, bounds)
        return bounds

    def read_calls(self, first: int, last: int, calls: NDArray[np.int8]) -> Cell:
        """Read hard calls of records `first` to `last` into (rows, samples), −1 = missing; return what is wrong."""
        part = slice(first, last)
        record, sample, trouble = _read_calls(
            self.data, self.columns[part, 9], self.stops[part], self.n_alts[part], self.keys[part, 0], calls
        )
        return Cell(first + record, sample, trouble)

    def read_values(self, record: int, values: RecordValues) -> Cell:
        """Read all values of a record; return what is wrong."""
        keys = np.where(np.concatenate([[1], values.widths]) > 0, self.keys[record], -1)
        sample, trouble = _read_values(
            self.data, self.columns[record, 9], self.stops[record], self.n_alts[record], keys, values.widths,
            values.alleles, values.numbers,
        )  # fmt: skip
        return Cell(record, sample, trouble)


@numba.njit(nogil=True, cache=True)
def _find_columns(data, starts, stops, columns, position, n_alts, keys):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fill the tables of records; return the first bad record and what is wrong, or 0, 0."""
    for i in range(len(starts)):
        p, stop = starts[i], stops[i]
        columns[i, 0] = p
        column = 1
        while p < stop and column < _N_FIELDS:
            if data[p] == TAB:
                columns[i, column] = p + 1
                column += 1
            p += 1
        if column < _N_FIELDS:
            return i, 1
        for column in (0, 3, 4):
            if columns[i, column + 1] - 1 == columns[i, column]:
                return i, 2
        value, p, end = np.int64(0), columns[i, 1], columns[i, 2] - 1
        if p == end or end - p > 10:
            return i, 3
        while p < end:
            if data[p] < 48 or data[p] > 57:
                return i, 3
            value = value * 10 + (np.int64(data[p]) - 48)
            p += 1
        position[i] = value
        p, end = columns[i, 4], columns[i, 5] - 1
        if end - p == 1 and data[p] == DOT:
            n_alts[i] = 0
        else:
            n_alts[i] = 1
            if data[p] == COMMA or data[end - 1] == COMMA:
                return i, 2
            while p < end:
                if data[p] == COMMA:
                    n_alts[i] += 1
                    if data[p + 1] == COMMA:
                        return i, 2
                p += 1
        p, end, field = columns[i, 8], columns[i, 9] - 1, 0
        while p < end:
            q = p
            while q < end and data[q] != COLON:
                q += 1
            key = is_key(data, p, q)
            if key >= 0:
                keys[i, key] = field
            field += 1
            p = q + 1
    return 0, 0


@numba.njit(nogil=True, cache=True)
def _compare_contigs(data, columns, changes):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(1, len(columns)):
        p, end, q = columns[i, 0], columns[i, 1], columns[i - 1, 0]
        changes[i] = end - p != columns[i - 1, 1] - q
        while p < end and not changes[i]:
            changes[i] = data[p] != data[q]
            p += 1
            q += 1


@numba.njit(nogil=True, cache=True)
def _split_alleles(data, columns, n_alts, bounds):  # type: ignore[no-untyped-def]  # pragma: no cover
    row = 0
    for i in range(len(columns)):
        p = columns[i, 4]
        for _ in range(n_alts[i]):
            for j, column in enumerate((2, 3)):
                bounds[row, j, 0] = columns[i, column]
                bounds[row, j, 1] = columns[i, column + 1] - 1
            bounds[row, 2, 0] = p
            while data[p] != COMMA and data[p] != TAB:
                p += 1
            bounds[row, 2, 1] = p
            p += 1
            row += 1


@numba.njit(nogil=True, cache=True)
def _field_end(data, p, stop):  # type: ignore[no-untyped-def]  # pragma: no cover
    while p < stop and data[p] != TAB and data[p] != COLON:
        p += 1
    return p


@numba.njit(nogil=True, cache=True)
def _column_end(data, p, stop):  # type: ignore[no-untyped-def]  # pragma: no cover
    while p < stop and data[p] != TAB:
        p += 1
    return p


@numba.njit(nogil=True, cache=True)
def _is_field_end(data, p, stop):  # type: ignore[no-untyped-def]  # pragma: no cover
    return p >= stop or data[p] == TAB or data[p] == COLON


@numba.njit(nogil=True, cache=True)
def _read_allele(data, p):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read one allele number or `.`; return it and where it ends, −9 when it is neither.

    What stands at the end of a line is no digit, so that no reader of digits needs to look for the end.
    """
    if data[p] == DOT:
        return MISSING_ALLELE, p + 1
    value, q = np.int64(0), p
    while 48 <= data[q] <= 57 and q - p < 9:
        value = value * 10 + (np.int64(data[q]) - 48)
        q += 1
    return (value, q) if q > p else (-9, q)


@numba.njit(nogil=True, cache=True)
def _read_genotype(data, p, stop, n_alt):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read a GT of one or two alleles; VCF 4.4 may put a phasing mark in front.

    Returns the alleles, the end of the field, and what is wrong.
    """
    if data[p] == SLASH or data[p] == BAR:
        p += 1
    a, p = _read_allele(data, p)
    if a == -9 or a > n_alt:
        return a, NO_ALLELE, p, 5
    if _is_field_end(data, p, stop):
        return a, NO_ALLELE, p, 0
    if data[p] != SLASH and data[p] != BAR:
        return a, NO_ALLELE, p, 5
    b, p = _read_allele(data, p + 1)
    if b == -9 or b > n_alt:
        return a, b, p, 5
    if _is_field_end(data, p, stop):
        return a, b, p, 0
    return a, b, p, 6 if data[p] == SLASH or data[p] == BAR else 5


@numba.njit(nogil=True, cache=True)
def _read_calls(data, firsts, stops, n_alts, keys, calls):  # type: ignore[no-untyped-def]  # pragma: no cover
    n_samples = calls.shape[1]
    row = 0
    for i in range(len(firsts)):
        p, stop, n_alt, key = firsts[i], stops[i], n_alts[i], keys[i]
        for s in range(n_samples):
            if p > stop:
                return i, s, 4
            if key < 0:
                for k in range(n_alt):
                    calls[row + k, s] = -1
                p = _column_end(data, p, stop) + 1
                continue
            for _ in range(key):  # GT is first, says the specification; not every writer does
                p = _field_end(data, p, stop)
                if p < stop and data[p] == COLON:
                    p += 1
            # Nearly all are one digit, a mark, one digit; a call of a function that takes arrays costs more than that.
            quick = False
            if p + 3 <= stop and (data[p + 1] == SLASH or data[p + 1] == BAR):
                after = data[p + 3] if p + 3 < stop else TAB
                a, b = np.int64(data[p]) - 48, np.int64(data[p + 2]) - 48
                quick = after in (TAB, COLON) and 0 <= a <= min(n_alt, 9) and 0 <= b <= min(n_alt, 9)
                p += 3 if quick else 0
            if not quick:
                a, b, p, trouble = _read_genotype(data, p, stop, n_alt)
                if trouble:
                    return i, s, trouble
            if b == NO_ALLELE:
                b = a
            if n_alt == 1:
                calls[row, s] = a + b if a >= 0 and b >= 0 else -1
            else:
                for k in range(n_alt):
                    calls[row + k, s] = (a == k + 1) + (b == k + 1) if a >= 0 and b >= 0 else -1
            while p < stop and data[p] != TAB:
                p += 1
            p += 1
        if p <= stop:
            return i, n_samples, 4
        row += n_alt
    return 0, 0, 0


@numba.njit(nogil=True, cache=True)
def _read_number(data, p):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read a decimal number; return it (NaN for `nan`) and where it ends, −1 when it is none."""
    if (data[p] | 32) == 110:
        return np.nan, p + 3 if (data[p + 1] | 32) == 97 and (data[p + 2] | 32) == 110 else -1
    negative = data[p] == 45
    if negative or data[p] == 43:
        p += 1
    digits, first, n_decimals = np.int64(0), p, 0
    while 48 <= data[p] <= 57 and p - first < 17:  # no dosage or probability has more before the point
        digits = digits * 10 + (np.int64(data[p]) - 48)
        p += 1
    n_digits = p - first
    if data[p] == DOT:
        p += 1
        while 48 <= data[p] <= 57:
            if n_digits < 17:  # further ones are beyond double precision
                digits = digits * 10 + (np.int64(data[p]) - 48)
                n_decimals += 1
            n_digits += 1
            p += 1
    if not n_digits:
        return np.nan, -1
    value, exponent = np.float64(digits), -n_decimals
    if (data[p] | 32) == 101:
        p += 1
        sign = -1 if data[p] == 45 else 1
        if data[p] == 45 or data[p] == 43:
            p += 1
        q, written = p, 0
        while 48 <= data[p] <= 57 and p - q < 4:
            written = written * 10 + int(np.int64(data[p]) - 48)
            p += 1
        if p == q:
            return np.nan, -1
        exponent += sign * written
    if -len(_POWERS) < exponent < 0:
        value /= _POWERS[-exponent]
    elif exponent:
        value *= 10.0**exponent
    return (-value if negative else value), p


@numba.njit(nogil=True, cache=True)
def _read_long_number(data, p, stop):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read any number, or `.`; return it and where it ends, −1 when it is none."""
    if data[p] == DOT and (data[p + 1] == COMMA or _is_field_end(data, p + 1, stop)):
        return np.nan, p + 1
    return _read_number(data, p)


@numba.njit(nogil=True, cache=True)
def _read_values(data, first, stop, n_alt, keys, widths, alleles, numbers):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read GT into `alleles`, and DS, HDS and GP into the columns of `numbers`, as many as `widths` says."""
    p, last_key = first, keys.max()
    for s in range(len(alleles)):
        if p > stop:
            return s, 4
        field = 0
        while field <= last_key:
            column, width = 0, -1
            for f in range(3):
                if field == keys[f + 1]:
                    width = widths[f]
                    break
                column += widths[f]
            if width >= 0:
                end = column + width
                while True:
                    if column == end:
                        return s, 7 + f
                    # Nearly all are one digit, or one digit, a point and up to six: read those without a branch a digit.
                    digits, n_decimals, q = np.int64(data[p]) - 48, 0, -1
                    if 0 <= digits <= 9 and p + 9 <= stop:
                        q = p + 1
                        if data[q] == DOT:
                            more = True
                            for j in range(2, 8):
                                digit = np.int64(data[p + j]) - 48
                                more &= bool(digit >= 0) & bool(digit <= 9)
                                digits = digits * 10 + digit if more else digits
                                n_decimals += more
                            q += 1 + n_decimals
                        if data[q] != COMMA and data[q] != COLON and data[q] != TAB:
                            q = -1
                    if q >= 0:
                        numbers[s, column] = digits / _POWERS[n_decimals]
                        p = q
                    else:
                        numbers[s, column], p = _read_long_number(data, p, stop)
                    column += 1
                    if p < 0 or (p < stop and data[p] != COMMA and data[p] != COLON and data[p] != TAB):
                        return s, 7 + f
                    if p >= stop or data[p] != COMMA:
                        break
                    p += 1
            elif field == keys[0]:
                quick = False
                if p + 3 <= stop and (data[p + 1] == SLASH or data[p + 1] == BAR):
                    after = data[p + 3] if p + 3 < stop else TAB
                    a, b = np.int64(data[p]) - 48, np.int64(data[p + 2]) - 48
                    quick = after in (TAB, COLON) and 0 <= a <= min(n_alt, 9) and 0 <= b <= min(n_alt, 9)
                    p += 3 if quick else 0
                if not quick:
                    a, b, p, trouble = _read_genotype(data, p, stop, n_alt)
                    if trouble:
                        return s, trouble
                alleles[s, 0], alleles[s, 1] = a, b
            else:
                while p < stop and data[p] != COLON and data[p] != TAB:
                    p += 1
            if p >= stop or data[p] == TAB:
                break
            p += 1
            field += 1
        while p < stop and data[p] != TAB:
            p += 1
        p += 1
    return (len(alleles), 4) if p <= stop else (0, 0)
