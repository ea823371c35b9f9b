"""The markers of an analysis by name, in the order in which they were met: a hash table over bytes, in any case."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.sumstats.ingest.tokens import Spans
from biolmm.sumstats.metal.lines import lower

_FIRST_SIZE = 1 << 16


@dataclass
class Markers:
    """Markers and what METAL remembers of each.

    Attributes
    ----------
    n
        How many there are.
    pair, complemented
        Number of each marker's pair of alleles, -1 where none is known; whether it was on the other strand when first met.
    chromosome, position
        Where it was first met, -1 where not known.

    Examples
    --------
    >>> markers = Markers()
    >>> text = np.frombuffer(b"rs1 rs2 RS1", np.uint8)
    >>> markers.find(text, np.array([[0, 3], [4, 7], [8, 11]])).tolist(), markers.names(0, 2)
    ([0, 1, 0], ['rs1', 'rs2'])
    """

    n: int = 0
    pair: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    complemented: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    chromosome: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    position: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _heap: NDArray[np.uint8] = field(default_factory=lambda: np.empty(1 << 20, np.uint8), repr=False)
    _ends: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_FIRST_SIZE + 1, np.int64), repr=False)
    _hashes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(_FIRST_SIZE, np.uint64), repr=False)
    _table: NDArray[np.int32] = field(default_factory=lambda: np.full(4 * _FIRST_SIZE, -1, np.int32), repr=False)

    def find(self, data: NDArray[np.uint8], spans: Spans) -> NDArray[np.int32]:
        """Give the number of the marker of each field; new names are entered."""
        self._make_room(len(spans), int((spans[:, 1] - spans[:, 0]).sum()))
        out = np.empty(len(spans), np.int32)
        self.n = _find(data, spans, self._heap, self._ends, self._hashes, self._table, self.n, out)
        self._widen()
        return out

    def look_up(self, names: list[str]) -> NDArray[np.bool_]:
        """Tell which markers are among some names."""
        out = np.zeros(self.n, np.bool_)
        if names and self.n:
            data = np.frombuffer(b"".join(name.encode() for name in names), np.uint8)
            stops = np.cumsum([len(name.encode()) for name in names])
            spans = np.stack([np.r_[0, stops[:-1]], stops], axis=1)
            found = np.empty(len(names), np.int32)
            _look_up(data, spans, self._heap, self._ends, self._hashes, self._table, found)
            out[found[found >= 0]] = True
        return out

    def names(self, start: int, stop: int) -> list[str]:
        """Give the names of markers start to stop, as they were first written."""
        low = int(self._ends[start])
        text = self._heap[low : int(self._ends[stop])].tobytes()
        ends = (self._ends[start : stop + 1] - low).tolist()
        return [text[a:b].decode("utf-8", "replace") for a, b in pairwise(ends)]

    def _make_room(self, n_new: int, n_bytes: int) -> None:
        """Let there be room for so many further names."""
        used = int(self._ends[self.n])
        if used + n_bytes > len(self._heap):
            self._heap = np.concatenate([self._heap[:used], np.empty(max(used, n_bytes) + n_bytes, np.uint8)])
        most = self.n + n_new
        if most > len(self._hashes):
            size = max(most, 2 * len(self._hashes))
            self._hashes = np.concatenate([self._hashes, np.zeros(size - len(self._hashes), np.uint64)])
            self._ends = np.concatenate([self._ends, np.zeros(size + 1 - len(self._ends), np.int64)])
        if 2 * most > len(self._table):
            self._table = np.full(1 << (4 * most - 1).bit_length(), -1, np.int32)
            _enter_again(self._hashes, self.n, self._table)

    def _widen(self) -> None:
        """Extend the arrays over markers."""
        grown = self.n - len(self.pair)
        if grown:
            self.pair = np.concatenate([self.pair, np.full(grown, -1, np.int32)])
            self.complemented = np.concatenate([self.complemented, np.zeros(grown, np.bool_)])
            self.chromosome = np.concatenate([self.chromosome, np.full(grown, -1, np.int32)])
            self.position = np.concatenate([self.position, np.full(grown, -1, np.int64)])


@numba.njit(nogil=True, cache=True)
def _hash(data, start, stop):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Hash a name, in any case (FNV-1a, then its bits are mixed)."""
    value = np.uint64(0xCBF29CE484222325)
    for at in range(start, stop):
        value = (value ^ np.uint64(lower(data[at]))) * np.uint64(0x100000001B3)
    value ^= value >> np.uint64(32)
    value *= np.uint64(0xD6E8FEB86659FD93)
    return value ^ (value >> np.uint64(29))


@numba.njit(nogil=True, cache=True)
def _same(data, start, stop, heap, ends, marker):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Compare a name with that of a marker."""
    first = ends[marker]
    if ends[marker + 1] - first != stop - start:
        return False
    for j in range(stop - start):
        one, other = data[start + j], heap[first + j]
        if one != other and lower(one) != lower(other):
            return False
    return True


@numba.njit(nogil=True, cache=True)
def _slot(data, start, stop, heap, ends, hashes, table, value):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Find the slot of a name, or the empty one where it belongs."""
    mask = np.int64(len(table) - 1)
    slot = np.int64(value & np.uint64(mask))
    while table[slot] >= 0:
        marker = table[slot]
        if hashes[marker] == value and _same(data, start, stop, heap, ends, marker):
            break
        slot = (slot + 1) & mask
    return slot


@numba.njit(nogil=True, cache=True)
def _find(data, spans, heap, ends, hashes, table, n, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Number names; files mostly have the same order, so the marker after the last one is tried first."""
    guess = n
    for i in range(len(spans)):
        start, stop = spans[i, 0], spans[i, 1]
        if guess < n and _same(data, start, stop, heap, ends, guess):
            out[i] = guess
            guess += 1
            continue
        value = _hash(data, start, stop)
        slot = _slot(data, start, stop, heap, ends, hashes, table, value)
        marker = table[slot]
        if marker < 0:
            marker = n
            n += 1
            table[slot], hashes[marker] = marker, value
            first = ends[marker]
            for j in range(stop - start):
                heap[first + j] = data[start + j]
            ends[marker + 1] = first + stop - start
        out[i] = marker
        guess = marker + 1
    return n


@numba.njit(nogil=True, cache=True)
def _look_up(data, spans, heap, ends, hashes, table, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(len(spans)):
        value = _hash(data, spans[i, 0], spans[i, 1])
        out[i] = table[_slot(data, spans[i, 0], spans[i, 1], heap, ends, hashes, table, value)]


@numba.njit(nogil=True, cache=True)
def _enter_again(hashes, n, table):  # type: ignore[no-untyped-def]  # pragma: no cover
    mask = np.int64(len(table) - 1)
    for marker in range(n):
        slot = np.int64(hashes[marker] & np.uint64(mask))
        while table[slot] >= 0:
            slot = (slot + 1) & mask
        table[slot] = marker
