"""Walking a BGEN file from variant to variant: what each is and where its genotypes lie, without reading these.

A window of the file is parsed by a compiled loop into a table of offsets, one row a variant (`Field` names its columns);
text stays in the window until someone asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.files.bgen_header import BgenHeader, read_range, shown

Table = NDArray[np.int64]

_WINDOW_BYTES = 4 << 20
_SMALL_WINDOW_BYTES = 16 << 10
_DENSE = 128 << 10
"""Variants that take fewer bytes than this are read in passing, which storage serves faster than a seek a variant."""
_MAX_HEADER_BYTES = 64 << 20
_ROWS = 8192
_FEW = 64
_N_MERGED = 256
"""Windows of fewer than `_FEW` variants are handed on this many together."""


class Field(IntEnum):
    """Columns of a table of variants: texts by their place in the window's bytes, the others by that in the file."""

    START = 0
    """Where the variant begins in the file."""
    OTHER_ID = 1
    OTHER_ID_LENGTH = 2
    ID = 3
    ID_LENGTH = 4
    CONTIG = 5
    CONTIG_LENGTH = 6
    POSITION = 7
    N_ALLELES = 8
    ALLELES = 9
    DATA = 10
    """Where its genotypes begin in the file."""
    DATA_LENGTH = 11
    UNPACKED_LENGTH = 12
    """Bytes of the genotypes when they are decompressed, as the file says."""
    END = 13
    """Where it ends in the file."""


class _Status(IntEnum):
    FINE = 0
    MORE = 1
    WRONG_SAMPLES = 2
    WRONG_ALLELES = 3
    WRONG_LENGTH = 4


# The compiled loop takes these as constants.
_FINE, _MORE, _WRONG_SAMPLES, _WRONG_ALLELES, _WRONG_LENGTH = (int(status) for status in _Status)
_START, _DATA, _END = int(Field.START), int(Field.DATA), int(Field.END)
_DATA_LENGTH, _UNPACKED_LENGTH = int(Field.DATA_LENGTH), int(Field.UNPACKED_LENGTH)
_POSITION, _N_ALLELES, _ALLELES = int(Field.POSITION), int(Field.N_ALLELES), int(Field.ALLELES)
_TEXTS = [int(field) for field in (Field.OTHER_ID, Field.ID, Field.CONTIG, Field.ALLELES)]


@dataclass(frozen=True, eq=False)
class Window:
    """Consecutive variants parsed from bytes of the file.

    Attributes
    ----------
    first
        Number of the first variant, from 0.
    data
        The bytes that hold their texts.
    table
        (n, columns of `Field`).
    """

    first: int
    data: bytes
    table: Table


def walk_variants(header: BgenHeader) -> Iterator[Window]:
    """Parse all variants of a file, a window at a time.

    Raises
    ------
    InputFileError
        When a variant does not fit the file or its header, or the variants do not end where the file ends.

    Notes
    -----
    **Cost**: one read of the file where its variants take fewer than 128 KiB, else 16 KiB a variant.
    """
    few: list[Window] = []
    for window in _walk(header):
        if len(window.table) >= _FEW:
            yield from (_merged(few), window)
            few = []
        else:
            few.append(window)
        if len(few) == _N_MERGED:
            yield _merged(few)
            few = []
    yield _merged(few)


def _walk(header: BgenHeader) -> Iterator[Window]:
    """Do what `walk_variants` does, in windows of one variant where these are far apart."""
    first, at, n_bytes = 0, header.first_variant, _WINDOW_BYTES
    while first < header.n_variants:
        data, begin, status = read_range(header.path, at, min(n_bytes, header.size - at)), at, _FINE
        while first < header.n_variants and status == _FINE:
            table = np.empty((min(_ROWS, header.n_variants - first), len(Field)), np.int64)
            n, status, needed = _parse(data, begin, at, header, table)
            window = Window(first, data, table[:n])
            at = int(table[n - 1, Field.END]) if n else at
            needed -= at
            if status not in (_FINE, _MORE) or at + needed > header.size or needed > _MAX_HEADER_BYTES:
                raise _misfit(header, window, at, data[at - begin :][:4], status)
            yield window
            first += n
        if at == begin:  # the head of this one variant is longer than the window
            n_bytes = max(needed, 2 * n_bytes)
        else:
            n_bytes = _WINDOW_BYTES if (at - header.first_variant) / first < _DENSE else _SMALL_WINDOW_BYTES
    if at != header.size:
        raise InputFileError(
            f"{header.path} is damaged: its {header.n_variants:,} variants end at byte {at:,} and the file at byte "
            f"{header.size:,}. Copy or make the file again."
        )


def _merged(windows: list[Window]) -> Window:
    """Make one window of those that follow one another."""
    if not windows:
        return Window(0, b"", np.empty((0, len(Field)), np.int64))
    shifts = np.cumsum([0, *(len(window.data) for window in windows[:-1])])
    table = np.concatenate([window.table for window in windows])
    shift = np.repeat(shifts, [len(window.table) for window in windows])
    table[:, _TEXTS] += shift[:, None]
    return Window(windows[0].first, b"".join(window.data for window in windows), table)


def parse_range(header: BgenHeader, first: int, offsets: NDArray[np.int64], data: bytes) -> Window:
    """Parse variants that an index locates.

    Parameters
    ----------
    header
        The file's.
    first
        Number of the first variant, from 0.
    offsets
        (n + 1) where each variant begins and where the last one ends.
    data
        The bytes between.

    Raises
    ------
    InputFileError
        When the variants are not where the index says.
    """
    table = np.empty((len(offsets) - 1, len(Field)), np.int64)
    n, _, _ = _parse(data, int(offsets[0]), int(offsets[0]), header, table)
    window = Window(first, data, table[:n])
    wrong = np.flatnonzero(window.table[:, Field.END] != offsets[1 : n + 1])
    if len(wrong) or n < len(table):
        bad = int(wrong[0]) if len(wrong) else n
        raise InputFileError(
            f"{header.path}, {variant_name(window, bad)}: the genotypes are not where they were when the file was "
            f"opened, bytes {offsets[bad]:,} to {offsets[bad + 1]:,}. Was the file changed? Run again."
        )
    return window


def _parse(data: bytes, begin: int, at: int, header: BgenHeader, table: Table) -> tuple[int, int, int]:
    """Call the compiled loop for bytes that begin at `begin` of the file, from `at` on."""
    n, status, needed = _parse_variants(
        np.frombuffer(data, np.uint8), begin, at, header.size, header.layout, header.compression != "none",
        header.n_samples, table,
    )  # fmt: skip
    return int(n), int(status), int(needed)


def text_of(window: Window, row: int, field: Field) -> bytes:
    """Give the bytes of `OTHER_ID`, `ID` or `CONTIG` of a variant of a window."""
    begin, length = window.table[row, field], window.table[row, field + 1]
    return window.data[begin : begin + length]


def alleles_of(window: Window, row: int) -> list[bytes]:
    """Give the alleles of a variant of a window."""
    at, alleles = int(window.table[row, Field.ALLELES]), []
    for _ in range(window.table[row, Field.N_ALLELES]):
        begin = at + 4
        at = begin + int.from_bytes(window.data[at:begin], "little")
        alleles.append(window.data[begin:at])
    return alleles


def variant_name(window: Window, row: int) -> str:
    """Name a variant in a message by its number in the file and its id; one that was not parsed, by what is before it."""
    number = window.first + row + 1
    if row < len(window.table):
        name = text_of(window, row, Field.ID) or text_of(window, row, Field.OTHER_ID)
        return f"variant {number:,} ({shown(name)})"
    before = f" (after {shown(text_of(window, len(window.table) - 1, Field.ID))})" if len(window.table) else ""
    return f"variant {number:,}{before}"


def _misfit(header: BgenHeader, window: Window, at: int, raw: bytes, status: int) -> InputFileError:
    """Say why the variant behind those of a window, which begins with `raw`, cannot be parsed."""
    where = f"{header.path}, {variant_name(window, len(window.table))}, from byte {at:,}: "
    if status == _WRONG_SAMPLES:
        return InputFileError(
            f"{where}it says {int.from_bytes(raw, 'little'):,} samples where the file has {header.n_samples:,}. The file "
            "is damaged: copy or make it again."
        )
    if status == _WRONG_ALLELES:
        return InputFileError(
            f"{where}it has fewer than two alleles. Either the file is damaged, or the variant has no ALT: leave it out."
        )
    if status == _WRONG_LENGTH:
        return InputFileError(
            f"{where}the length of its genotypes cannot be that of {header.n_samples:,} samples. The file is damaged: "
            "copy or make it again."
        )
    return InputFileError(
        f"{where}it does not fit into the {header.size:,} bytes of the file. The file is truncated or damaged: "
        f"copy it again ({header.n_variants:,} variants are expected)."
    )


@numba.njit(nogil=True, cache=True)
def _u16(data, at):  # type: ignore[no-untyped-def]  # pragma: no cover
    return np.int64(data[at]) | np.int64(data[at + 1]) << 8


@numba.njit(nogil=True, cache=True)
def _u32(data, at):  # type: ignore[no-untyped-def]  # pragma: no cover
    return _u16(data, at) | _u16(data, at + 2) << 16


@numba.njit(nogil=True, cache=True)
def _parse_variants(  # type: ignore[no-untyped-def]  # pragma: no cover
    data, begin, at, file_size, layout, compressed, n_samples, table
):
    """Fill rows of `table`; gives how many, why it ended, and up to which byte of the file it would have to be read.

    A row is complete when the head of the variant is in `data` and its genotypes are in the file.
    """
    for row in range(len(table)):
        status, needed = _parse_variant(data, at - begin, layout, compressed, n_samples, table[row])
        needed += begin
        if status == _FINE:
            for field in (_START, _DATA, _END):
                table[row, field] += begin
            if table[row, _END] > file_size:
                status, needed = _MORE, table[row, _END]
        if status != _FINE:
            return row, status, needed
        at = table[row, _END]
    return len(table), _FINE, at


@numba.njit(nogil=True, cache=True)
def _parse_variant(data, start, layout, compressed, n_samples, row):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Parse the head of one variant; no byte is read before it was checked to be there."""
    n, at = len(data), start
    if layout == 1:
        if at + 4 > n:
            return _MORE, at + 4
        if _u32(data, at) != n_samples:
            return _WRONG_SAMPLES, at
        at += 4
    row[_START] = start
    for field in range(3):
        if at + 2 > n:
            return _MORE, at + 2
        length = _u16(data, at)
        row[1 + 2 * field], row[2 + 2 * field] = at + 2, length
        at += 2 + length
    if at + 6 > n:
        return _MORE, at + 6
    row[_POSITION] = _u32(data, at)
    at += 4
    n_alleles = 2
    if layout == 2:
        n_alleles = _u16(data, at)
        at += 2
    if n_alleles < 2:
        return _WRONG_ALLELES, at
    row[_N_ALLELES], row[_ALLELES] = n_alleles, at
    for _ in range(n_alleles):
        if at + 4 > n:
            return _MORE, at + 4
        at += 4 + _u32(data, at)
    return _parse_lengths(data, at, layout, compressed, n_samples, row)


@numba.njit(nogil=True, cache=True)
def _parse_lengths(data, at, layout, compressed, n_samples, row):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Parse the lengths before the genotypes."""
    if at > len(data):
        return _MORE, at
    length = unpacked = 6 * n_samples
    if layout == 2 or compressed:
        if at + 4 > len(data):
            return _MORE, at + 4
        length = _u32(data, at)
        at += 4
    if layout == 2:
        unpacked = length
        if compressed:
            if at + 4 > len(data):
                return _MORE, at + 4
            if length < 4:
                return _WRONG_LENGTH, at
            unpacked = _u32(data, at)
            at += 4
            length -= 4
        if unpacked < 10 + n_samples:
            return _WRONG_LENGTH, at
    row[_DATA], row[_DATA_LENGTH], row[_UNPACKED_LENGTH], row[_END] = at, length, unpacked, at + length
    return _FINE, at
