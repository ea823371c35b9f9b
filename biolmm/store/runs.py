"""Where the variants of a collection are in its files, and how rows are gathered from there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.files.encoding import Encoding, Rows
from biolmm.files.genotypes import Block, Decoder

SEQUENTIAL_GAP = 64
"""Rows between two that are wanted which a file without random access reads too, rather than begin again."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs of consecutive variants of a collection that are consecutive rows of one file; few where files are sorted.

    Attributes
    ----------
    start
        First variant of each run, ascending from 0.
    part
        Which file it is in.
    row
        The row of its first variant there.
    """

    start: NDArray[np.int64]
    part: NDArray[np.int32]
    row: NDArray[np.int64]

    @classmethod
    def of(cls, part: NDArray[np.int32], row: NDArray[np.int64]) -> Runs:
        """Find the runs of variants, given the file and the row of each.

        Examples
        --------
        >>> Runs.of(np.array([0, 0, 1, 0]), np.array([4, 5, 6, 6])).start.tolist()
        [0, 2, 3]
        """
        breaks = (np.diff(part) != 0) | (np.diff(row) != 1)
        start = np.concatenate([np.zeros(min(len(part), 1), np.int64), np.flatnonzero(breaks) + 1])
        return cls(start, part[start].astype(np.int32), row[start].astype(np.int64))

    def pieces(self, start: int, stop: int) -> Iterator[Piece]:
        """Yield what variants `start` to `stop` are, a piece a file."""
        variant = np.arange(start, stop)
        run = np.searchsorted(self.start, variant, side="right") - 1
        row = self.row[run] + (variant - self.start[run])
        part = self.part[run]
        for each in np.unique(part).tolist():
            mine = part == each
            order = np.argsort(row[mine], kind="stable")
            yield Piece(each, row[mine][order], (variant[mine] - start)[order])


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of one file, ascending, and where each belongs among those that are asked for."""

    part: int
    row: NDArray[np.int64]
    place: NDArray[np.int64]

    def spans(self, gap: int, longest: int) -> Iterator[slice]:
        """Cut into slices to be read at once: rows at most `gap` apart, over at most `longest` rows of the file.

        Examples
        --------
        >>> list(Piece(0, np.array([3, 4, 7]), np.arange(3)).spans(0, 99))
        [slice(0, 2, None), slice(2, 3, None)]
        """
        start = 0
        for i in range(1, len(self.row) + 1):
            if (
                i < len(self.row)
                and self.row[i] - self.row[i - 1] <= gap + 1
                and self.row[i] - self.row[start] < longest
            ):
                continue
            yield slice(start, i)
            start = i


@dataclass(frozen=True, eq=False)
class Part:
    """One file as a worker needs it.

    Attributes
    ----------
    decoder
        Reads its rows.
    n_samples
        Samples of the file.
    columns
        Column of each sample of the collection in the file, −1 where it has none; None where they are the same.
    random_access
        Whether any run of rows can be read at the same cost.
    has_dosages
        Whether it holds values that hard calls cannot.
    """

    decoder: Decoder
    n_samples: int
    columns: NDArray[np.int64] | None
    random_access: bool
    has_dosages: bool = True

    def read(self, start: int, stop: int, encoding: Encoding) -> Block:
        """Read rows of all samples of the file.

        Raises
        ------
        InputFileError
            When the file cannot be read or is damaged there.
        """
        block = self.decoder.read(start, stop, encoding)
        expected = (stop - start, encoding.width(self.n_samples))
        if block.rows.shape != expected or block.rows.dtype != encoding.dtype:
            raise ValueError(
                f"{self.decoder} gave {block.rows.dtype} {block.rows.shape}, not {encoding.dtype} {expected}"
            )
        return block

    def choose(self, rows: Rows, encoding: Encoding) -> Rows:
        """Put the columns of the file's rows into the order of the collection."""
        if self.columns is None:
            return rows
        if encoding.is_dosage:
            chosen = np.take(rows, np.maximum(self.columns, 0), axis=1)
            chosen[:, self.columns < 0] = encoding.missing
            return chosen
        out = encoding.missing_rows(len(rows), len(self.columns))
        _choose_calls(rows, self.columns, out)
        return out


@numba.njit(nogil=True, cache=True)
def _choose_calls(rows, columns, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fill packed rows with the calls of some columns of others; `out` comes as missing calls, all bits set."""
    for i in range(rows.shape[0]):
        for k in range(columns.shape[0]):
            column = columns[k]
            if column >= 0:
                call = (rows[i, column >> 2] >> np.uint8(2 * (column & 3))) & 3
                out[i, k >> 2] &= np.uint8(~((3 ^ call) << (2 * (k & 3))) & 0xFF)
