"""Bytes of text tables: where fields are, and what numbers they spell. Numba kernels over a block of whole lines."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

Spans = NDArray[np.int64]
"""(rows, 2): where a field begins and ends in the block's bytes."""

WHITESPACE = 0
"""Stands for a delimiter that is any run of blanks and tabs."""

_POWERS = np.array([float(10**k) for k in range(23)])
"""Powers of ten that double precision holds exactly."""

_SPLITTER = 134217729.0
"""2²⁷ + 1, which cuts a double in halves whose products are exact (Dekker 1971)."""

NOT_A_NUMBER = 1
NEEDS_PYTHON = 2


@numba.njit(nogil=True, cache=True)
def tokenise(data, delimiter, roles, spans):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Find the wanted fields of each line that is not blank: spans[role, line] = start, stop.

    `roles` gives each column's role or -1. Blanks and one pair of quotes around a field are left out. Returns
    (lines found, lines seen, columns of the line that does not fit); the last is -1 when all fit.
    """
    n_columns, size = len(roles), len(data)
    found = seen = at = 0
    while at < size:
        stop = at
        while stop < size and data[stop] != 10:
            stop += 1
        seen += 1
        end = stop
        while end > at and (data[end - 1] == 13 or data[end - 1] == 32):
            end -= 1
        begin = at
        at = stop + 1
        if delimiter == 0:
            while end > begin and data[end - 1] == 9:
                end -= 1
        if end == begin:
            continue
        column, field = 0, begin
        while field <= end:
            if delimiter == 0:
                while field < end and (data[field] == 32 or data[field] == 9):
                    field += 1
                if field >= end:
                    break
                last = field
                while last < end and data[last] != 32 and data[last] != 9:
                    last += 1
            else:
                last = field
                while last < end and data[last] != delimiter:
                    last += 1
            if column < n_columns:
                role = roles[column]
                if role >= 0:
                    first, final = field, last
                    while first < final and data[first] == 32:
                        first += 1
                    while final > first and data[final - 1] == 32:
                        final -= 1
                    if final - first >= 2 and data[first] == 34 and data[final - 1] == 34:
                        first += 1
                        final -= 1
                    spans[role, found, 0], spans[role, found, 1] = first, final
            elif last > field or column > n_columns:  # one delimiter too many at the end of a line is forgiven
                column += 1
                break
            column += 1
            field = last + 1
        if column < n_columns or column > n_columns + 1 or (column == n_columns + 1 and data[end - 1] != delimiter):
            return found, seen, column
        found += 1
    return found, seen, -1


@numba.njit(nogil=True, cache=True)
def _is_missing(data, start, stop):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether a field is empty, `.`, `-`, NA, #NA, N/A, nan, null or None, in any case."""
    length = stop - start
    if length == 0:
        return True
    if length == 1:
        return data[start] == 46 or data[start] == 45
    first = data[start]
    if first == 35 or first == 43 or first == 45:  # '#', '+', '-'
        start += 1
        length -= 1
        if length == 0:
            return True
    a = data[start] | 32
    b = data[start + 1] | 32 if length > 1 else 0
    c = data[start + 2] | 32 if length > 2 else 0
    if a == 110:  # n
        if length == 2:
            return b == 97
        if length == 3:
            return (b == 97 and c == 110) or (data[start + 1] == 47 and c == 97)
        if length == 4:
            d = data[start + 3] | 32
            return (b == 117 and c == 108 and d == 108) or (b == 111 and c == 110 and d == 101)
    return False


@numba.njit(nogil=True, cache=True)
def _scan_decimal(data, start, stop):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read a decimal number: (is one, negative, first 19 digits, power of ten, digits were cut off)."""
    at = start
    negative = False
    if at < stop and (data[at] == 45 or data[at] == 43):
        negative = data[at] == 45
        at += 1
    mantissa = np.uint64(0)
    n_digits = power = 0
    any_digit = point = cut = False
    while at < stop:
        byte = data[at]
        if 48 <= byte <= 57:
            any_digit = True
            if n_digits < 19:
                mantissa = mantissa * np.uint64(10) + np.uint64(byte - 48)
                n_digits += int(mantissa > 0)
                power -= int(point)
            else:
                cut = cut or byte != 48
                power += int(not point)
        elif byte == 46 and not point:
            point = True
        else:
            break
        at += 1
    if not any_digit:
        return False, negative, mantissa, 0, cut
    if at < stop:
        if data[at] != 101 and data[at] != 69:
            return False, negative, mantissa, 0, cut
        at += 1
        down = False
        if at < stop and (data[at] == 45 or data[at] == 43):
            down = data[at] == 45
            at += 1
        if at >= stop or stop - at > 9:
            return False, negative, mantissa, 0, cut
        exponent = 0
        while at < stop:
            if not 48 <= data[at] <= 57:
                return False, negative, mantissa, 0, cut
            exponent = exponent * 10 + int(data[at]) - 48
            at += 1
        power += -exponent if down else exponent
    return True, negative, mantissa, power, cut


@numba.njit(nogil=True, cache=True)
def _times(a, b):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Multiply exactly: the rounded product and what rounding lost."""
    product = a * b
    c, d = _SPLITTER * a, _SPLITTER * b
    a_high, b_high = c - (c - a), d - (d - b)
    a_low, b_low = a - a_high, b - b_high
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


@numba.njit(nogil=True, cache=True)
def _to_double(mantissa, power):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Give mantissa × 10^power, |power| ≤ 22, in twice double precision, rounded once."""
    high = np.float64(mantissa >> np.uint64(11)) * 2048.0
    low = np.float64(mantissa & np.uint64(2047))
    total = high + low
    rest = low - (total - high)
    if power >= 0:
        product, error = _times(total, _POWERS[power])
        return product + (error + rest * _POWERS[power])
    divisor = _POWERS[-power]
    quotient = total / divisor
    product, error = _times(quotient, divisor)
    return quotient + (((total - product) - error) + rest) / divisor


@numba.njit(nogil=True, cache=True)
def parse_numbers(data, spans, out, problem):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read numbers into `out`, NaN where missing; `problem` tells fields that are none, or that Python must read."""
    n_problems = 0
    for i in range(len(spans)):
        start, stop = spans[i, 0], spans[i, 1]
        problem[i] = 0
        good, negative, mantissa, power, cut = _scan_decimal(data, start, stop)
        if not good:
            out[i] = math.nan
            if not _is_missing(data, start, stop):
                problem[i] = NOT_A_NUMBER
                n_problems += 1
            continue
        if mantissa == 0:
            out[i] = -0.0 if negative else 0.0
            continue
        if cut or power > 22 or power < -22:
            problem[i] = NEEDS_PYTHON
            n_problems += 1
            continue
        value = _to_double(mantissa, power)
        out[i] = -value if negative else value
    return n_problems


@numba.njit(nogil=True, cache=True)
def parse_tails(data, spans, out, problem):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read p-values of any size as −log₁₀ p: +inf for 0, NaN where missing, negative for p > 1; -inf for p < 0."""
    for i in range(len(spans)):
        start, stop = spans[i, 0], spans[i, 1]
        problem[i] = 0
        good, negative, mantissa, power, _ = _scan_decimal(data, start, stop)
        if not good:
            out[i] = math.nan
            problem[i] = 0 if _is_missing(data, start, stop) else NOT_A_NUMBER
        elif mantissa == 0:
            out[i] = math.inf
        elif negative:
            out[i] = -math.inf
        elif -22 <= power <= 22:
            out[i] = 0.0 - math.log10(_to_double(mantissa, power))
        else:
            out[i] = 0.0 - (math.log10(np.float64(mantissa)) + power)


@numba.njit(nogil=True, cache=True)
def parse_rs_numbers(data, spans, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read identifiers such as rs123 as 123; 0 for any other."""
    for i in range(len(spans)):
        start, stop = spans[i, 0], spans[i, 1]
        out[i] = 0
        if stop - start < 3 or stop - start > 20 or data[start] | 32 != 114 or data[start + 1] | 32 != 115:
            continue
        value = 0
        for at in range(start + 2, stop):
            if not 48 <= data[at] <= 57:
                value = 0
                break
            value = value * 10 + (int(data[at]) - 48)
        out[i] = value


@numba.njit(nogil=True, cache=True)
def number_words(data, spans, out, words):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Number the different words of a column in the order of their appearance; `words` gets the span of each.

    Returns how many there are, or -1 when there are more than `words` has room for.
    """
    n_words = previous = 0
    for i in range(len(spans)):
        start, length = spans[i, 0], spans[i, 1] - spans[i, 0]
        code = -1
        for step in range(n_words):
            k = previous if step == 0 else (step - 1 if step - 1 < previous else step)
            if words[k, 1] - words[k, 0] != length:
                continue
            same = True
            for j in range(length):
                if data[words[k, 0] + j] != data[start + j]:
                    same = False
                    break
            if same:
                code = k
                break
        if code < 0:
            if n_words == len(words):
                return -1
            code = n_words
            words[code, 0], words[code, 1] = start, start + length
            n_words += 1
        out[i] = previous = code
    return n_words


@numba.njit(nogil=True, cache=True)
def split_marker(data, spans, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Cut markers such as chr1:123:A:G or 1_123 into out[0..3]: contig, position, third and fourth part; else empty."""
    for i in range(len(spans)):
        start, stop = spans[i, 0], spans[i, 1]
        part, first = 0, start
        for k in range(4):
            out[k, i, 0] = out[k, i, 1] = start
        for at in range(start, stop + 1):
            if at == stop or data[at] == 58 or data[at] == 95 or data[at] == 47:
                if part < 4:
                    out[part, i, 0], out[part, i, 1] = first, at
                part += 1
                first = at + 1
        if part < 2:
            out[0, i, 1] = start


@numba.njit(nogil=True, cache=True)
def pick_subfields(data, formats, cells, key, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Find the value of a FORMAT key in each VCF cell; empty where the line's FORMAT has none."""
    for i in range(len(formats)):
        out[i, 0] = out[i, 1] = cells[i, 0]
        index, found, first = 0, -1, formats[i, 0]
        for at in range(formats[i, 0], formats[i, 1] + 1):
            if at == formats[i, 1] or data[at] == 58:
                if at - first == len(key):
                    same = True
                    for j in range(len(key)):
                        if data[first + j] != key[j]:
                            same = False
                            break
                    if same:
                        found = index
                        break
                index += 1
                first = at + 1
        if found < 0:
            continue
        index, first = 0, cells[i, 0]
        for at in range(cells[i, 0], cells[i, 1] + 1):
            if at == cells[i, 1] or data[at] == 58:
                if index == found:
                    out[i, 0], out[i, 1] = first, at
                    break
                index += 1
                first = at + 1


def read_numbers(data: NDArray[np.uint8], spans: Spans) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Read a column of numbers: values with NaN where missing, and which fields hold something that is no number.

    Examples
    --------
    >>> text = np.frombuffer(b"0.1 NA x -2e-30", np.uint8)
    >>> values, wrong = read_numbers(text, np.array([[0, 3], [4, 6], [7, 8], [9, 15]]))
    >>> values.tolist(), wrong.tolist()
    ([0.1, nan, nan, -2e-30], [False, False, True, False])
    """
    out, problem = np.empty(len(spans)), np.zeros(len(spans), np.uint8)
    if parse_numbers(data, spans, out, problem):
        for i in np.flatnonzero(problem == NEEDS_PYTHON):
            out[i] = float(data[spans[i, 0] : spans[i, 1]].tobytes())
    infinite = np.isinf(out)
    out[infinite] = np.nan
    return out, (problem == NOT_A_NUMBER) | infinite


def read_tails(data: NDArray[np.uint8], spans: Spans) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Read a column of p-values as −log₁₀ p, exact beyond the range of double precision.

    Examples
    --------
    >>> text = np.frombuffer(b"1e-5000 1 0", np.uint8)
    >>> read_tails(text, np.array([[0, 7], [8, 9], [10, 11]]))[0].tolist()
    [5000.0, 0.0, inf]
    """
    out, problem = np.empty(len(spans)), np.zeros(len(spans), np.uint8)
    parse_tails(data, spans, out, problem)
    return out, problem == NOT_A_NUMBER


@numba.njit(nogil=True, cache=True)
def same_words(data, spans, other, others, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Compare two columns of words, without regard to case."""
    for i in range(len(spans)):
        length = spans[i, 1] - spans[i, 0]
        out[i] = others[i, 1] - others[i, 0] == length
        for j in range(length):
            if not out[i] or data[spans[i, 0] + j] & 223 != other[others[i, 0] + j] & 223:
                out[i] = False
                break
