"""The index of a BGZF text that is sorted by place (`.tbi`), for reading by region.

    bins    of 2²⁹, 2²⁶, …, 2¹⁴ bp; a record is in the smallest that holds it; of each bin the stretches of the file
    line    for every 16,384 bp the address of the first record that reaches into them

Li 2011, Bioinformatics 27:718; the format is `tabix.pdf` of the SAM/BAM specification. Positions reach 2²⁹.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from biolmm.atomic import atomic_path
from biolmm.errors import OutputError
from biolmm.sumstats.export.bgzf import BgzfWriter

LARGEST_POSITION = 1 << 29
_LINE = 14


class Preset(NamedTuple):
    """Which columns of a text hold contig, beginning and end (0: none), from 1; lines that begin with # are comments."""

    format: int
    contig: int
    begin: int
    end: int


VCF = Preset(2, 1, 2, 0)
TABLE = Preset(0, 1, 2, 2)


@dataclass
class _Contig:
    bins: list[NDArray[np.int64]] = field(default_factory=list)
    begins: list[NDArray[np.uint64]] = field(default_factory=list)
    ends: list[NDArray[np.uint64]] = field(default_factory=list)
    line: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    last: int = 0


class TabixIndex:
    """Collects where records are, as they are written."""

    def __init__(self, preset: Preset, skip_lines: int = 0) -> None:
        """Begin with nothing; `skip_lines` is the number of lines of a header without #."""
        self._preset = preset
        self._skip = skip_lines
        self._contigs: dict[str, _Contig] = {}
        self._current = ""

    def add(self, contig: str, position: NDArray[np.int64], length: NDArray[np.int64], text_starts: NDArray[np.uint64],
            text_end: int) -> None:  # fmt: skip
        """Take in records of one contig.

        Parameters
        ----------
        contig
            Its name as in the file.
        position, length
            1-based first base and number of bases.
        text_starts
            Place of each record in the text.
        text_end
            Place behind the last one.

        Raises
        ------
        OutputError
            When records are not sorted, contigs are not together, or a position is too large for the format.
        """
        if not len(position):
            return
        if contig != self._current and contig in self._contigs:
            raise OutputError(f"Records of contig {contig} are in two places: sort by contig before indexing.")
        self._current = contig
        here = self._contigs.setdefault(contig, _Contig())
        if position[0] < here.last or np.any(np.diff(position) < 0):
            raise OutputError(f"Records of contig {contig} are not sorted by position: sort them before indexing.")
        begin, end = position - 1, position - 1 + length
        if int(end.max()) > LARGEST_POSITION:
            raise OutputError(f"Position {int(position.max()):,} of contig {contig} is beyond {LARGEST_POSITION:,}, which a .tbi "
                              "cannot hold: write without --index.")  # fmt: skip
        here.last = int(position[-1])
        bins = smallest_bins(begin, end)
        first = np.flatnonzero(np.diff(bins, prepend=-1))
        stops = np.append(text_starts[1:], np.uint64(text_end))
        here.bins.append(bins[first])
        here.begins.append(text_starts[first])
        here.ends.append(stops[np.append(first[1:], len(bins)) - 1])
        self._line(here, begin, end, text_starts)

    @staticmethod
    def _line(here: _Contig, begin: NDArray[np.int64], end: NDArray[np.int64], text_starts: NDArray[np.uint64]) -> None:
        first, last = begin >> _LINE, (end - 1) >> _LINE
        size = int(last.max()) + 1
        none = np.uint64(2**64 - 1)
        if size > len(here.line):
            here.line = np.concatenate([here.line, np.full(size - len(here.line), none)])
        for offset in range(int((last - first).max()) + 1):
            reaches = first + offset <= last
            np.minimum.at(here.line, (first + offset)[reaches], text_starts[reaches])

    def write(self, path: Path, text: BgzfWriter) -> None:
        """Write the index, after the text was closed.

        Raises
        ------
        OutputError
            When the file cannot be written.
        """
        out = io.BytesIO()
        names = b"".join(name.encode() + b"\0" for name in self._contigs)
        out.write(
            b"TBI\1" + struct.pack("<8i", len(self._contigs), *self._preset, ord("#"), self._skip, len(names)) + names
        )
        for contig in self._contigs.values():
            self._write_contig(out, contig, text)
        with atomic_path(path) as aside, aside.open("wb") as file, BgzfWriter(file) as packed:
            packed.write(out.getvalue())

    @staticmethod
    def _write_contig(out: io.BytesIO, contig: _Contig, text: BgzfWriter) -> None:
        bins = np.concatenate(contig.bins)
        begins, ends = text.addresses(np.concatenate(contig.begins)), text.addresses(np.concatenate(contig.ends))
        order = np.argsort(bins, kind="stable")
        starts = np.flatnonzero(np.diff(bins[order], prepend=-1))
        out.write(struct.pack("<i", len(starts)))
        for start, stop in zip(starts, np.append(starts[1:], len(order)), strict=True):
            rows = order[start:stop]
            # Stretches that follow each other without a gap are one.
            apart = np.flatnonzero(np.append(True, begins[rows][1:] != ends[rows][:-1]))
            pieces = np.column_stack([begins[rows][apart], ends[rows][np.append(apart[1:], len(rows)) - 1]])
            out.write(struct.pack("<Ii", int(bins[rows[0]]), len(pieces)) + pieces.astype("<u8").tobytes())
        line = contig.line.copy()
        known = line != np.uint64(2**64 - 1)
        # Windows without a record take the one before: reading begins no later than needed.
        filled = np.maximum.accumulate(np.where(known, np.arange(len(line)), 0))
        first = int(np.argmax(known))
        filled = np.maximum(filled, first)
        out.write(struct.pack("<i", len(line)) + text.addresses(line[filled]).astype("<u8").tobytes())


def smallest_bins(begin: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the smallest bin that holds each half-open range, from 0.

    Examples
    --------
    >>> smallest_bins(np.array([0, 16383, 0]), np.array([1, 16385, 1 << 29])).tolist()
    [4681, 585, 0]
    """
    last = end - 1
    out = np.zeros(len(begin), np.int64)
    for level, shift in ((1, 26), (2, 23), (3, 20), (4, 17), (5, 14)):
        inside = (begin >> shift) == (last >> shift)
        out[inside] = ((1 << 3 * level) - 1) // 7 + (begin[inside] >> shift)
    return out
