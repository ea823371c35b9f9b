"""Alleles as numbers, and the key by which records of one variant find each other whatever strand and order they use.

An allele of one base is its code, 0–3 for A, C, G, T; any other is 4, with its text in a heap of bytes. The key of two
alleles does not depend on their order; that of two single bases not on the strand either: there are four such keys at a
position, {A,C} = {G,T}, {A,G} = {C,T}, {A,T}, {C,G}. Other keys are a 62-bit hash of both texts, so that an allele of a
million bases takes eight bytes in every comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.sumstats.ingest.tokens import Spans

LONG = 4
"""Code of an allele that is not one base."""

INVALID = 5
"""Code of what is no allele."""

PALINDROMIC_KEYS = (2, 3)
"""Keys of A/T and C/G."""

BASES = b"ACGT"

_CODES = np.full(256, INVALID, np.int8)
for _code, _letters in enumerate((b"Aa1", b"Cc2", b"Gg3", b"Tt4")):
    for _letter in _letters:
        _CODES[_letter] = _code
"""Codes of single characters; digits as PLINK and METAL use them."""

_CLASSES = np.array([[9, 0, 1, 2], [0, 9, 3, 1], [1, 3, 9, 0], [2, 1, 0, 9]], np.uint64)
"""Key of two single bases."""


@dataclass(frozen=True, eq=False)
class Alleles:
    """Two alleles of each of n records.

    Attributes
    ----------
    codes
        (n, 2) int8: base, `LONG` or `INVALID`; effect allele first in a study's records, REF first in a catalogue.
    spans
        (n, 2, 2): where the text of long ones is in `heap`.
    heap
        Bytes of long alleles, in capitals.
    """

    codes: NDArray[np.int8]
    spans: NDArray[np.int64]
    heap: NDArray[np.uint8]

    def __len__(self) -> int:
        """Count the records."""
        return len(self.codes)

    def text(self, row: int, which: int) -> str:
        """Spell one allele.

        Examples
        --------
        >>> read_alleles(np.frombuffer(b"a GTT", np.uint8), np.array([[0, 1]]), np.array([[2, 5]])).text(0, 1)
        'GTT'
        """
        code = int(self.codes[row, which])
        if code < LONG:
            return chr(BASES[code])
        start, stop = self.spans[row, which]
        return self.heap[start:stop].tobytes().decode("ascii", "replace")

    def take(self, rows: NDArray[np.int64]) -> Alleles:
        """Choose records; the heap holds their texts only."""
        codes, spans = self.codes[rows], self.spans[rows]
        heap = np.empty(int((spans[:, :, 1] - spans[:, :, 0]).sum()), np.uint8)
        moved = np.empty_like(spans)
        copy_texts(self.heap, spans.reshape(-1, 2), heap, moved.reshape(-1, 2))
        return Alleles(codes, moved, heap)


def join_alleles(parts: list[Alleles]) -> Alleles:
    """Put records one behind the other."""
    starts = np.cumsum([0, *(len(part.heap) for part in parts[:-1])])
    spans = [part.spans + start for part, start in zip(parts, starts, strict=True)]
    return Alleles(np.concatenate([part.codes for part in parts]), np.concatenate(spans),
                   np.concatenate([part.heap for part in parts]))  # fmt: skip


def read_alleles(data: NDArray[np.uint8], first: Spans, second: Spans) -> Alleles:
    """Read two columns of alleles; 1–4 mean A, C, G, T, and symbolic alleles (`<DEL>`) are texts like any other.

    Examples
    --------
    >>> text = np.frombuffer(b"a G GT 0 <DEL>", np.uint8)
    >>> read_alleles(text, np.array([[0, 1], [4, 6]]), np.array([[2, 3], [9, 14]])).codes.tolist()
    [[0, 2], [4, 4]]
    """
    codes = np.empty((len(first), 2), np.int8)
    n_bytes = 0
    for side, spans in enumerate((first, second)):
        n_bytes += code_alleles(data, spans, codes[:, side], _CODES)
    heap, spans = np.empty(n_bytes, np.uint8), np.zeros((len(first), 2, 2), np.int64)
    _store_long(data, first, second, codes, heap, spans)
    return Alleles(codes, spans, heap)


def are_valid(alleles: Alleles) -> NDArray[np.bool_]:
    """Tell which records have two different alleles."""
    codes = alleles.codes
    good = (codes < INVALID).all(axis=1)
    good &= ~((codes[:, 0] == codes[:, 1]) & (codes[:, 0] < LONG))
    return np.asarray(good & ~_same_text(codes, alleles.spans, alleles.heap))


def allele_keys(alleles: Alleles) -> tuple[NDArray[np.uint64], NDArray[np.int8]]:
    """Give each record's key, and which way round its alleles are: 1 or 2, and 0 for pairs of single bases.

    Examples
    --------
    >>> text = np.frombuffer(b"A G T C G A GT G", np.uint8)
    >>> first, second = np.array([[0, 1], [4, 5], [8, 9], [12, 14]]), np.array([[2, 3], [6, 7], [10, 11], [15, 16]])
    >>> allele_keys(read_alleles(text, first, second))[0][:3].tolist()
    [1, 1, 1]
    """
    keys, ways = np.empty(len(alleles), np.uint64), np.empty(len(alleles), np.int8)
    _make_keys(alleles.codes, alleles.spans, alleles.heap, _CLASSES, keys, ways)
    return keys, ways


@numba.njit(nogil=True, cache=True)
def code_alleles(data, spans, out, codes):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Code a column of alleles; returns how many bytes the long ones take."""
    n_bytes = 0
    for i in range(len(spans)):
        start, stop = spans[i, 0], spans[i, 1]
        if stop - start == 1:
            out[i] = codes[data[start]]
            continue
        good = stop > start
        if good and data[start] == 60:  # <DEL>
            good = data[stop - 1] == 62 and stop - start > 2
        elif good:
            for at in range(start, stop):
                letter = data[at] & 223
                if letter != 65 and letter != 67 and letter != 71 and letter != 84:
                    good = False
                    break
        out[i] = LONG if good else INVALID
        if good:
            n_bytes += stop - start
    return n_bytes


@numba.njit(nogil=True, cache=True)
def _store_long(data, first, second, codes, heap, spans):  # type: ignore[no-untyped-def]  # pragma: no cover
    to = 0
    for i in range(len(codes)):
        for side in range(2):
            if codes[i, side] != LONG:
                continue
            start, stop = (first[i, 0], first[i, 1]) if side == 0 else (second[i, 0], second[i, 1])
            spans[i, side, 0] = to
            for at in range(start, stop):
                byte = data[at]
                heap[to] = byte & 223 if 97 <= byte <= 122 else byte
                to += 1
            spans[i, side, 1] = to


@numba.njit(nogil=True, cache=True)
def copy_texts(heap, spans, out, moved):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Copy texts one behind the other, and say where they are now."""
    to = 0
    for i in range(len(spans)):
        moved[i, 0] = to
        for at in range(spans[i, 0], spans[i, 1]):
            out[to] = heap[at]
            to += 1
        moved[i, 1] = to


@numba.njit(nogil=True, cache=True)
def _same_text(codes, spans, heap):  # type: ignore[no-untyped-def]  # pragma: no cover
    same = np.zeros(len(codes), np.bool_)
    for i in range(len(codes)):
        if codes[i, 0] != LONG or codes[i, 1] != LONG:
            continue
        length = spans[i, 0, 1] - spans[i, 0, 0]
        if spans[i, 1, 1] - spans[i, 1, 0] != length:
            continue
        same[i] = True
        for j in range(length):
            if heap[spans[i, 0, 0] + j] != heap[spans[i, 1, 0] + j]:
                same[i] = False
                break
    return same


@numba.njit(nogil=True, cache=True)
def _mixed(value):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Stir 64 bits (the finaliser of SplitMix64, Steele and others 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@numba.njit(nogil=True, cache=True)
def _text_hash(code, span, heap):  # type: ignore[no-untyped-def]  # pragma: no cover
    bases = (65, 67, 71, 84)
    value = np.uint64(0x9E3779B97F4A7C15)
    if code < LONG:
        return _mixed(value ^ np.uint64(bases[code]))
    for at in range(span[0], span[1]):
        value = _mixed(value ^ np.uint64(heap[at])) + np.uint64(0x9E3779B97F4A7C15)
    return value if span[1] - span[0] > 1 else _mixed(np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(heap[span[0]]))


@numba.njit(nogil=True, cache=True)
def _make_keys(codes, spans, heap, classes, keys, ways):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(len(codes)):
        a, b = codes[i, 0], codes[i, 1]
        if a < LONG and b < LONG:
            keys[i], ways[i] = classes[a, b], 0
            continue
        one, other = _text_hash(a, spans[i, 0], heap), _text_hash(b, spans[i, 1], heap)
        ways[i] = 1 if one < other else 2
        low, high = min(one, other), max(one, other)
        keys[i] = (_mixed(low + _mixed(high)) >> np.uint64(2)) | np.uint64(1 << 62)
