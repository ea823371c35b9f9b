"""Lines of a file as METAL cuts them, and its filters; kernels over a block of whole lines."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.sumstats.ingest.tokens import Spans, read_numbers
from biolmm.sumstats.metal.settings import Filter

LETTERS = np.array([4] * 256, np.uint8)
"""Code of each byte as an allele: a c g t, in either case or as 1 2 3 4, are 0 to 3; anything else is 4."""

for _code, _bytes in enumerate((b"aA1", b"cC2", b"gG3", b"tT4")):
    LETTERS[list(_bytes)] = _code


@numba.njit(nogil=True, cache=True)
def cut_lines(data, is_separator, single, slots, strict, least, spans):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Find the wanted fields of each line: spans[slot, line] = start, stop. Returns lines kept, wrong and short ones.

    With one separator every occurrence ends a column; with several any run of them does. Blank lines and those that begin
    with # are skipped; so are those with another number of columns than the header, or fewer than `least` if not strict.
    """
    n_columns, size = len(slots), len(data)
    kept = wrong = short = at = 0
    while at < size:
        stop = at
        while stop < size and data[stop] != 10:
            stop += 1
        field, end = at, stop
        at = stop + 1
        while end > field and (data[end - 1] == 13 or (not single and is_separator[data[end - 1]])):
            end -= 1
        while not single and field < end and is_separator[data[field]]:
            field += 1
        if field == end or data[field] == 35:
            continue
        column = 0
        while True:
            last = field
            while last < end and not is_separator[data[last]]:
                last += 1
            if column < n_columns and slots[column] >= 0:
                first, final = field, last
                while first < final and data[first] == 32:
                    first += 1
                while final > first and data[final - 1] == 32:
                    final -= 1
                spans[slots[column], kept, 0], spans[slots[column], kept, 1] = first, final
            column += 1
            if last >= end:
                break
            field = last + 1
            while not single and is_separator[data[field]]:
                field += 1
        if column != n_columns:
            wrong += 1
            if strict:
                continue
            if column < least:
                short += 1
                continue
        kept += 1
    return kept, wrong, short


def passes(data: NDArray[np.uint8], spans: Spans, condition: Filter) -> NDArray[np.bool_]:
    """Tell which fields satisfy a filter.

    Examples
    --------
    >>> text = np.frombuffer(b"5 12 NA", np.uint8)
    >>> spans = np.array([[0, 1], [2, 4], [5, 7]])
    >>> passes(text, spans, Filter("N", ">", 10.0)).tolist()
    [False, True, False]
    >>> passes(text, spans, Filter("N", "in", words=("na", "5"))).tolist()
    [True, False, True]
    """
    if condition.operator == "in":
        out = np.zeros(len(spans), np.bool_)
        for word in condition.words:
            _is_word(data, spans, np.frombuffer(word.encode(), np.uint8), out)
        return out
    values, _ = read_numbers(data, spans)
    compared: dict[str, NDArray[np.bool_]] = {
        "<": values < condition.value, "<=": values <= condition.value, "==": values == condition.value,
        ">=": values >= condition.value, ">": values > condition.value, "!=": values != condition.value,
    }  # fmt: skip
    return compared[condition.operator] & ~np.isnan(values)


@numba.njit(nogil=True, cache=True)
def lower(byte):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Give the lower-case letter of a letter of ASCII, other bytes as they are."""
    return byte | 32 if 65 <= byte <= 90 else byte


@numba.njit(nogil=True, cache=True)
def _is_word(data, spans, word, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Mark the fields that are a word, in any case."""
    for i in range(len(spans)):
        start = spans[i, 0]
        if spans[i, 1] - start != len(word):
            continue
        same = True
        for j in range(len(word)):
            if lower(data[start + j]) != lower(word[j]):
                same = False
                break
        out[i] = out[i] or same


@numba.njit(nogil=True, cache=True)
def starts_negative(data, spans, negative, missing):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Tell which fields begin with a minus, which is how METAL knows a direction, and which are empty, `.` or NA."""
    for i in range(len(spans)):
        start, length = spans[i, 0], spans[i, 1] - spans[i, 0]
        first = lower(data[start]) if length else 0
        negative[i] = length > 0 and first == 45
        missing[i] = (
            length == 0 or (length == 1 and first == 46) or (length <= 4 and first == 110)
        )  # n: NA, nan, null, none


@numba.njit(nogil=True, cache=True)
def allele_codes(data, first, second, strand, use_strand, letters, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Code pairs of single bases as 4 × first + second, those of the reverse strand complemented; -1 for other alleles."""
    for i in range(len(first)):
        out[i] = -1
        if first[i, 1] - first[i, 0] == 1 and second[i, 1] - second[i, 0] == 1:
            a, b = letters[data[first[i, 0]]], letters[data[second[i, 0]]]
            if a < 4 and b < 4:
                if use_strand and strand[i, 1] - strand[i, 0] == 1 and data[strand[i, 0]] == 45:
                    a, b = 3 - a, 3 - b
                out[i] = 4 * a + b
