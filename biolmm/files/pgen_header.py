"""The header of a `.pgen`: how many variants and samples, and where each variant's record is.

Written from the PLINK 2 file format specification (github.com/chrchang/plink-ng, pgen_spec), section "Header". Storage
modes: 01 is a PLINK 1 `.bed`, 02 to 04 have records of one size, 10 has a table of the records' types and lengths.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.files.bed_tables import reading

MAGIC = b"\x6c\x1b"
PLINK1, CALLS, DOSAGES, PHASED_DOSAGES, VARIABLE = 0x01, 0x02, 0x03, 0x04, 0x10
FIXED_TYPES = {PLINK1: 0, CALLS: 0, DOSAGES: 0x40, PHASED_DOSAGES: 0xC0}
"""Type of every record, by storage mode."""

BLOCK_VARIANTS = 1 << 16
"""The table of types and lengths is divided into blocks of so many variants; differences do not reach across them."""

ANCHOR_VARIANTS = 1 << 10
"""The place of each such variant is remembered, so that a read needs little of the table."""

MULTIALLELIC, PHASE, ANY_DOSAGE, PHASED_DOSAGE = 8, 16, 0x60, 0x80
"""Bits of a record's type."""


@dataclass(frozen=True, eq=False)
class Records:
    """Where consecutive records are in the file, and their types."""

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    types: NDArray[np.uint8]

    def slice(self, start: int, stop: int) -> Records:
        """Take some of them."""
        return Records(self.starts[start:stop], self.stops[start:stop], self.types[start:stop])


@dataclass(frozen=True, eq=False)
class PgenHeader:
    """What the header says, and the places of some records; `records` looks up the others.

    Attributes
    ----------
    control
        The twelfth byte: how types, lengths and counts of alleles are stored.
    anchors
        Offset of the record of every `ANCHOR_VARIANTS`-th variant; empty where records are of one size.
    """

    path: Path
    size: int
    mode: int
    n_samples: int
    n_variants: int
    control: int
    anchors: NDArray[np.int64]

    @property
    def has_table(self) -> bool:
        """Whether records have types and lengths of their own."""
        return self.mode == VARIABLE

    @property
    def type_bits(self) -> int:
        """Bits of a record's type in the table."""
        return 8 if self.control & 4 else 4

    @property
    def length_bytes(self) -> int:
        """Bytes of a record's length in the table."""
        return 1 + (self.control & 3)

    @property
    def n_blocks(self) -> int:
        """Blocks of the table."""
        return -(-self.n_variants // BLOCK_VARIANTS)

    @property
    def record_bytes(self) -> int:
        """Bytes of a record, where all are of one size."""
        per_sample = {DOSAGES: 2, PHASED_DOSAGES: 4}.get(self.mode, 0)
        return -(-self.n_samples // 4) + per_sample * self.n_samples

    def block_bytes(self, n_variants: int) -> int:
        """Bytes of the table for a block of so many variants."""
        flags = -(-n_variants // 8) if self.control >> 6 == 3 else 0
        per_variant = self.length_bytes + (self.control >> 4 & 3)
        return -(-n_variants * self.type_bits // 8) + per_variant * n_variants + flags

    @property
    def first_record(self) -> int:
        """Offset of what follows the header."""
        if self.mode == PLINK1:
            return 3
        if not self.has_table:
            return 12 + (-(-self.n_variants // 8) if self.control >> 6 == 3 else 0)
        full, last = divmod(self.n_variants, BLOCK_VARIANTS)
        return 12 + 8 * self.n_blocks + full * self.block_bytes(BLOCK_VARIANTS) + self.block_bytes(last)

    def records(self, descriptor: int, start: int, stop: int) -> Records:
        """Look up the records of variants `start` to `stop`.

        Raises
        ------
        InputFileError
            When the table cannot be read, or places a record beyond the end of the file.
        """
        if not self.has_table:
            starts = self.first_record + self.record_bytes * np.arange(start, stop)
            return Records(starts, starts + self.record_bytes, np.full(stop - start, FIXED_TYPES[self.mode], np.uint8))
        first = start // ANCHOR_VARIANTS
        parts = [self._span(descriptor, i) for i in range(first, -(-stop // ANCHOR_VARIANTS))]
        joined = Records(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("starts", "stops", "types")))
        found = joined.slice(start - first * ANCHOR_VARIANTS, stop - first * ANCHOR_VARIANTS)
        if (found.stops > self.size).any():
            raise InputFileError(f"{self.path} was changed since it was opened: start again.")
        return found

    def _span(self, descriptor: int, anchor: int) -> Records:
        """Look up the records from one anchor to the next."""
        start = anchor * ANCHOR_VARIANTS
        types, lengths = self.table(descriptor, start, min(start + ANCHOR_VARIANTS, self.n_variants))
        stops = self.anchors[anchor] + np.cumsum(lengths)
        return Records(stops - lengths, stops, types)

    def table(self, descriptor: int, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Read types and lengths of records of one block; `start` is even."""
        block = start // BLOCK_VARIANTS
        in_block = min(BLOCK_VARIANTS, self.n_variants - block * BLOCK_VARIANTS)
        types_at = 12 + 8 * self.n_blocks + block * self.block_bytes(BLOCK_VARIANTS)
        lengths_at = types_at + -(-in_block * self.type_bits // 8)
        skipped, n = start % BLOCK_VARIANTS, stop - start
        raw = read_bytes(descriptor, self.path, types_at + skipped * self.type_bits // 8, -(-n * self.type_bits // 8))
        types = raw if self.type_bits == 8 else np.stack([raw & 15, raw >> 4], axis=1).ravel()[:n]
        width = self.length_bytes
        lengths = np.zeros((n, 8), np.uint8)
        lengths[:, :width] = read_bytes(descriptor, self.path, lengths_at + skipped * width, n * width).reshape(
            n, width
        )
        return types, lengths.view("<i8")[:, 0]


def read_bytes(descriptor: int, path: Path, offset: int, n: int) -> NDArray[np.uint8]:
    """Read `n` bytes at an offset.

    Raises
    ------
    InputFileError
        When the file cannot be read or ends before them.
    """
    data = np.empty(n, np.uint8)
    view, done = data.data, 0
    with reading(path):
        while done < n:
            got = os.preadv(descriptor, [view[done : done + (1 << 30)]], offset + done)
            if not got:
                raise InputFileError(f"{path} is truncated: it ends at byte {offset + done:,} of {offset + n:,}.")
            done += got
    return data


def read_header(path: Path, n_samples: int, n_variants: int, n_alts: NDArray[np.int64]) -> tuple[PgenHeader, int]:
    """Read and check the header of a `.pgen`, the sizes of all its records included.

    Parameters
    ----------
    n_samples, n_variants
        Counts of the files beside it.
    n_alts
        (n_variants,) ALT alleles of each variant.

    Returns
    -------
    The header, and the bits that are set in the type of any record.

    Raises
    ------
    InputFileError
        When the file is not a `.pgen`, has a storage mode or layout that biolmm does not read, does not fit the counts,
        is truncated or too long, or its table contradicts itself.
    """
    with reading(path):
        descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        header = _read_start(descriptor, path, size, n_samples, n_variants)
        if not header.has_table:
            _check_fixed_size(header)
            if header.mode != PLINK1 and header.control & 63:
                _damaged(header.path, f"byte 12 is {header.control:02x}, whose low six bits are unused in this mode")
            return header, _check_types(header, 0, np.full(n_variants, FIXED_TYPES[header.mode], np.uint8), n_alts)
        return _read_table(descriptor, header, n_alts)
    finally:
        os.close(descriptor)


def _read_start(descriptor: int, path: Path, size: int, n_samples: int, n_variants: int) -> PgenHeader:
    start = bytes(read_bytes(descriptor, path, 0, min(12, size)))
    if not start:
        raise InputFileError(f"{path} is empty.")
    if start[:2] != MAGIC:
        raise InputFileError(f"{path} is not a .pgen: it begins with {start[:3].hex(' ')} instead of 6c 1b.")
    mode = start[2] if len(start) > 2 else -1
    nothing = np.empty(0, np.int64)
    if mode == PLINK1:
        return PgenHeader(path, size, mode, n_samples, n_variants, 0, nothing)
    _check_mode(path, mode)
    if len(start) < 12:
        raise InputFileError(f"{path} is truncated: {size:,} bytes, and the header alone takes 12. Copy it again.")
    for what, at, expected in (("variants", 3, n_variants), ("samples", 7, n_samples)):
        found = int.from_bytes(start[at : at + 4], "little")
        if found != expected:
            other = "variant" if what == "variants" else "sample"
            raise InputFileError(
                f"{path} holds {found:,} {what}, but the {other} file beside it names {expected:,}. "
                "Give the files that belong together."
            )
    return PgenHeader(path, size, mode, n_samples, n_variants, start[11], nothing)


def _check_mode(path: Path, mode: int) -> None:
    if mode == 0:
        raise InputFileError(
            f"{path} is stored sample by sample (mode 00), as a .bed of PLINK 1 may be. Rewrite it: "
            f"plink2 --bfile {path.with_suffix('')} --make-pgen --out rewritten"
        )
    if mode in (0x20, 0x21, 0x30, 0x31):
        raise InputFileError(
            f"{path} has its table of variants in another file, a .pgen.pgi (mode {mode:02x}). Join them: "
            f"plink2 --pfile {path.with_suffix('')} --make-pgen --out joined"
        )
    if mode not in FIXED_TYPES and mode != VARIABLE:
        found = "nothing" if mode < 0 else f"{mode:02x}"
        raise InputFileError(
            f"{path} has storage mode {found}; biolmm reads 01, 02, 03, 04 and 10. Rewrite it: "
            f"plink2 --pfile {path.with_suffix('')} --make-pgen --out rewritten"
        )


def _check_fixed_size(header: PgenHeader) -> None:
    expected = header.first_record + header.n_variants * header.record_bytes
    if header.size != expected:
        _wrong_size(header, expected)


def _wrong_size(header: PgenHeader, expected: int) -> NoReturn:
    what = "truncated" if header.size < expected else "too long"
    raise InputFileError(
        f"{header.path} is {what}: {header.size:,} bytes where {header.n_samples:,} samples × "
        f"{header.n_variants:,} variants take {expected:,}. Copy it again, with the files that belong to it."
    )


def _damaged(path: Path, why: str) -> NoReturn:
    raise InputFileError(f"{path} is damaged: {why}. Copy or make it again.")


def _read_table(descriptor: int, header: PgenHeader, n_alts: NDArray[np.int64]) -> tuple[PgenHeader, int]:
    """Check types and lengths of all records, and add up their offsets."""
    if header.control & 8:
        raise InputFileError(
            f"{header.path} has a layout for single samples (byte 12 is {header.control:02x}) that biolmm does not read."
        )
    if header.size < header.first_record:
        raise InputFileError(
            f"{header.path} is truncated: {header.size:,} bytes, and the table of its {header.n_variants:,} variants "
            f"alone takes {header.first_record:,}. Copy it again."
        )
    starts = read_bytes(descriptor, header.path, 12, 8 * header.n_blocks).view("<u8")
    anchors, used, end = [], 0, header.first_record
    for block, (start, stop) in enumerate(_blocks(header.n_variants)):
        if not end <= int(starts[block]) <= header.size:
            _damaged(header.path, f"the records of variants {start + 1:,} to {stop:,} begin at byte {starts[block]:,}")
        types, lengths = header.table(descriptor, start, stop)
        used |= _check_types(header, start, types, n_alts[start:stop])
        ends = int(starts[block]) + np.cumsum(lengths)
        anchors.append((ends - lengths)[::ANCHOR_VARIANTS])
        end = int(ends[-1])
    if end != header.size:
        _wrong_size(header, end)
    places = np.concatenate(anchors)
    return PgenHeader(
        header.path, header.size, header.mode, header.n_samples, header.n_variants, header.control, places
    ), used


def _blocks(n_variants: int) -> Iterator[tuple[int, int]]:
    for start in range(0, n_variants, BLOCK_VARIANTS):
        yield start, min(start + BLOCK_VARIANTS, n_variants)


def _check_types(header: PgenHeader, start: int, types: NDArray[np.uint8], n_alts: NDArray[np.int64]) -> int:
    """Check the types of a block's records; returns the bits that any of them sets."""
    if types[0] & 6 == 2:
        _damaged(header.path, f"variant {start + 1:,} is stored as differences from one before it, which cannot be")
    has_dosage = types & ANY_DOSAGE != 0
    for wrong, why in (
        (~has_dosage & (types & PHASED_DOSAGE != 0), "has phased dosages but no dosages"),
        (
            (n_alts == 1) & (types & MULTIALLELIC != 0),
            "has calls of several ALT alleles, and the variant file names one",
        ),
    ):
        if wrong.any():
            _damaged(header.path, f"variant {start + int(np.argmax(wrong)) + 1:,} {why}")
    unread = has_dosage & (n_alts > 1)
    if unread.any():
        raise InputFileError(
            f"{header.path} has dosages for {int(unread.sum()):,} variants of several ALT alleles, the first of them "
            f"variant {start + int(np.argmax(unread)) + 1:,}; how they are stored is not yet defined. Keep their calls: "
            f"plink2 --pfile {header.path.with_suffix('')} --make-pgen erase-dosage --out calls"
        )
    return int(np.bitwise_or.reduce(types))
