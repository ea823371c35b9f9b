"""VCF and BCF, as text or packed with gzip or BGZF.

The bytes are parsed here, by compiled kernels that check every length before they follow it, so that a damaged file
cannot bring the process down, and hard calls are read several times as fast as through a general VCF library. The first
pass notes where records are; no index is needed to read from anywhere in a BGZF or plain file.

Hard calls (GT) lose their phase. A half-missing call is missing. A haploid call counts 0 or 2, as in PLINK. A record of
several ALT alleles makes a row for each, whose value is the copies of that allele; a record without one (`.`) makes none.
Where dosages are asked for, a sample's value comes from DS, else GP, else HDS, else GT (see `vcf_values`); where calls
are asked for, from GT if the file has it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.files.bed_tables import reading
from biolmm.files.encoding import Encoding, Rows, rows_from_calls, rows_from_dosages
from biolmm.files.genotypes import Block, SampleTable, Source, as_counts
from biolmm.files.vcf_bytes import Packing, find_packing
from biolmm.files.vcf_sites import Marks, make_run, read_sites, wrong_record
from biolmm.files.vcf_stream import RecordStream
from biolmm.files.vcf_values import DS, FIELDS, GP, GT, HDS, RecordValues, Trouble, VcfRun, settle_dosages

__all__ = ["open_vcf"]

MAX_SCRATCH = 32 << 20
"""Hard calls that are held unpacked at a time, beyond which one record is."""


def open_vcf(path: Path) -> Source:
    """Open a VCF or BCF: plain, `.gz` (BGZF or gzip), by content and not by name.

    Parameters
    ----------
    path
        The file. An index beside it is not needed and not read.

    Returns
    -------
    Source
        Contigs as spelt, in the file's order; ids of `.` stay so; sex unknown, family `0`. It has dosages if any record
        has DS, GP or HDS. `random_access` is false for gzip that is not BGZF: rows are then best read in order.

    Raises
    ------
    InputFileError
        When the file cannot be read, is truncated, damaged or malformed, is not sorted by position within contigs, or
        has no samples, genotypes or variants.

    Notes
    -----
    **Cost**: one pass without genotypes, about 10⁹ unpacked bytes per second and core. Reading rows afterwards takes
    about 2·10⁸ calls per second and core from a VCF of GT alone and 2.5·10⁸ from BCF, 3·10⁷ dosages of GT:DS.
    """
    path = Path(path)
    packing, identity = find_packing(path), _identity(path)
    sites = read_sites(path, packing)
    n_samples = len(sites.header.samples)
    fields = [name for name, there in zip(FIELDS, sites.has_field.tolist(), strict=True) if there]
    has_dosages = bool(sites.has_field[[DS, HDS, GP]].any())
    decoder = VcfDecoder(
        path, identity, packing, sites.is_bcf, n_samples, sites.variants.n, sites.header.contigs if sites.is_bcf else {},
        sites.keys, tuple(sites.has_field.tolist()), sites.marks,
    )  # fmt: skip
    return Source(
        path=path,
        samples=SampleTable(np.array(sites.header.samples), np.full(n_samples, "0"), np.zeros(n_samples, np.int8)),
        variants=sites.variants,
        has_dosages=has_dosages,
        decoder=decoder,
        files=(path,),
        notes={
            "kind": "bcf" if sites.is_bcf else "vcf",
            "packing": packing.value,
            "fields": fields,
            "n_records": sites.n_records,
            "n_records_split": sites.n_split,
            "n_records_without_alt": sites.n_without_alt,
        },
        random_access=packing is not Packing.GZIP,
    )


@dataclass(frozen=True, eq=False)
class VcfDecoder:
    """Reads rows of one file; what is not in `__reduce__` stays in its process."""

    path: Path
    identity: tuple[int, int]
    packing: Packing
    is_bcf: bool
    n_samples: int
    n_rows: int
    contigs: dict[int, str]
    keys: tuple[int, ...]
    has_field: tuple[bool, ...]
    marks: Marks = field(repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _kept: list[_Cursor] = field(default_factory=list, init=False, repr=False)
    """Where a gzip file was read up to: its one place to begin is its start."""

    def __reduce__(self) -> tuple[Any, ...]:
        return VcfDecoder, (
            self.path, self.identity, self.packing, self.is_bcf, self.n_samples, self.n_rows, self.contigs, self.keys,
            self.has_field, self.marks,
        )  # fmt: skip

    def read(self, start: int, stop: int, encoding: Encoding) -> Block:
        """Read rows `start` to `stop` (half-open) in the encoding that is asked for.

        Raises
        ------
        InputFileError
            When the file cannot be read, is damaged or malformed there, or was changed meanwhile.
        """
        if not 0 <= start <= stop <= self.n_rows:
            raise IndexError(f"rows {start} to {stop} of {self.n_rows}")
        if _identity(self.path) != self.identity:
            raise InputFileError(f"{self.path} was changed since it was opened. Run again.")
        if self.packing is not Packing.GZIP:
            return self._read(_Cursor.at(self, start, stop), start, stop, encoding)
        with self._lock:
            cursor = self._kept.pop() if self._kept else None
            if cursor is None or cursor.row > start:
                cursor = _Cursor.at(self, start, None)
            block = self._read(cursor, start, stop, encoding)
            self._kept.append(cursor)
            return block

    def _read(self, cursor: _Cursor, start: int, stop: int, encoding: Encoding) -> Block:
        has_dosages = any(self.has_field[i] for i in (DS, HDS, GP))
        rows = np.empty((stop - start, encoding.width(self.n_samples)), encoding.dtype)
        sums = np.full((6, stop - start), np.nan)
        as_calls = not has_dosages or (encoding is Encoding.CALLS and self.has_field[GT])
        for part in cursor.take(start, stop, max(1, MAX_SCRATCH // self.n_samples)):
            if as_calls:
                self._read_calls(part, start, rows, encoding)
            else:
                self._read_dosages(part, start, rows, sums, encoding)
        if as_calls:
            return Block(rows)
        expected, haplotype, total, squares, haploid_sum, haploid = sums
        return Block(
            rows, expected if self.has_field[GP] else None, haplotype if self.has_field[HDS] else None, total, squares,
            as_counts(haploid), haploid_sum,
        )  # fmt: skip

    def _read_calls(self, part: _Part, start: int, rows: Rows, encoding: Encoding) -> None:
        n_rows = int(part.run.n_alts[part.first : part.last].sum())
        calls = np.empty((n_rows, self.n_samples), np.int8)
        cell = part.run.read_calls(part.first, part.last, calls)
        if cell.trouble:
            raise part.wrong(self.path, cell)
        inner, outer = _overlap(part.row, n_rows, start, len(rows))
        rows_from_calls(calls[inner], encoding, rows[outer])

    def _read_dosages(self, part: _Part, start: int, rows: Rows, sums: NDArray[np.float64], encoding: Encoding) -> None:
        row = part.row
        for record in range(part.first, part.last):
            n_alt = int(part.run.n_alts[record])
            if not n_alt:
                continue
            values = RecordValues.empty(self.n_samples, n_alt, part.run.has_field[record])
            cell = part.run.read_values(record, values)
            if cell.trouble:
                raise part.wrong(self.path, cell)
            dosages, total = np.empty((n_alt, self.n_samples)), np.empty((6, n_alt))
            sample, trouble = settle_dosages(values.alleles, values.numbers, values.widths, dosages, total)
            if trouble:
                raise part.wrong(self.path, cell._replace(sample=sample, trouble=trouble))
            inner, outer = _overlap(row, n_alt, start, len(rows))
            rows_from_dosages(dosages[inner], encoding, rows[outer])
            sums[:, outer] = total[:, inner]
            row += n_alt


@dataclass(frozen=True, eq=False)
class _Part:
    """Records `first` to `last` of a run; `row` and `record` are the numbers of the first in the file."""

    run: VcfRun
    first: int
    last: int
    row: int
    record: int

    def wrong(self, path: Path, cell: tuple[int, int, int]) -> InputFileError:
        record, sample, trouble = cell
        number = self.record + record - self.first
        return wrong_record(path, number, self.run, record, Trouble(trouble), sample)


@dataclass(eq=False)
class _Cursor:
    """A place in a file: the next record is number `line` of `run`, and its first row is `row`."""

    decoder: VcfDecoder
    runs: Iterator[tuple[int, NDArray[np.uint8]]]
    row: int
    record: int
    run: VcfRun | None = None
    line: int = 0

    @classmethod
    def at(cls, decoder: VcfDecoder, start: int, stop: int | None) -> _Cursor:
        """Begin at the last mark before row `start`; nothing is needed of the file after row `stop`."""
        marks = decoder.marks
        mark = int(np.searchsorted(marks.row, start, side="right")) - 1
        after = len(marks.row) if stop is None else int(np.searchsorted(marks.row, stop, side="left"))
        end = int(marks.start[after]) + 1 if after < len(marks.row) else None
        stream = RecordStream(
            decoder.path, decoder.packing, start=int(marks.start[mark]), skip=int(marks.skip[mark]), stop=end,
            is_bcf=decoder.is_bcf,
        )  # fmt: skip
        return cls(decoder, stream.runs(), int(marks.row[mark]), int(marks.record[mark]))

    def take(self, start: int, stop: int, max_rows: int) -> Iterator[_Part]:
        """Give the records that have rows from `start` to `stop`, about `max_rows` rows at a time; stay behind them.

        A record with rows on both sides of `stop` is given, and is the next one still.
        """
        self._skip_to(start)
        while self.row < stop:
            run, line = self._next()
            ends = self.row + np.cumsum(run.n_alts[line:])
            n = int(np.searchsorted(ends - run.n_alts[line:], min(stop, self.row + max_rows), side="left"))
            yield _Part(run, line, line + n, self.row, self.record)
            if ends[n - 1] > stop:
                self._advance(ends, n - 1)
                return
            self._advance(ends, n)

    def _skip_to(self, start: int) -> None:
        """Pass over the records whose rows all are before `start`."""
        while self.row < start:
            run, line = self._next()
            ends = self.row + np.cumsum(run.n_alts[line:])
            n = int(np.searchsorted(ends, start, side="right"))
            self._advance(ends, n)
            if not n:
                return

    def _advance(self, ends: NDArray[np.int64], n: int) -> None:
        self.row = int(ends[n - 1]) if n else self.row
        self.line += n
        self.record += n

    def _next(self) -> tuple[VcfRun, int]:
        """Give the run of the next record, reading on if needed."""
        decoder = self.decoder
        while self.run is None or self.line >= self.run.n:
            data = next(self.runs, None)
            if data is None:
                raise InputFileError(
                    f"{decoder.path} ends at record {self.record:,} where more were found before. "
                    "Was the file changed while it was read?"
                )
            self.run, self.line = make_run(data[1], decoder.n_samples, decoder.is_bcf, decoder.contigs, decoder.keys), 0
            if self.run.trouble is not None:
                record, trouble = self.run.trouble
                raise wrong_record(decoder.path, self.record + record, self.run, record, trouble)
        return self.run, self.line


def _overlap(row: int, n: int, start: int, n_wanted: int) -> tuple[slice, slice]:
    """Say which of the rows `row` to `row + n` are wanted, and where they go among `n_wanted` rows from `start`."""
    first, last = max(row, start), min(row + n, start + n_wanted)
    return slice(first - row, last - row), slice(first - start, last - start)


def _identity(path: Path) -> tuple[int, int]:
    with reading(path):
        status = path.stat()
    return status.st_size, status.st_mtime_ns
