"""Variants of a PLINK 2 fileset: `.pvar`, `.pvar.zst`, or the `.bim` of PLINK 1.

The columns are those of the PLINK 2 file format specification (github.com/chrchang/plink-ng, pgen_spec): lines `##…`,
then a header `#CHROM POS ID REF ALT …`; without a header, the file is a `.bim`. A variant of several ALT alleles becomes
a row for each of them. The text is cut into fields by a compiled loop, a block of lines at a time, since biobanks have
tens of millions of lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.files.bed_tables import reading
from biolmm.files.genotypes import Strings, VariantTable, as_strings

_BLOCK_BYTES = 1 << 23
_MAX_LINE_BYTES = 1 << 28
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_WANTED = ("#CHROM", "POS", "ID", "REF", "ALT")
_BIM = ("#CHROM", "ID", "CM", "POS", "ALT", "REF")
_BIM_WITHOUT_CM = ("#CHROM", "ID", "POS", "ALT", "REF")
_N_COLUMNS, _POSITION, _ALLELE, _ZERO_BYTE = range(1, 5)


@dataclass(frozen=True, eq=False)
class AlleleRows:
    """Which row is which ALT allele of which variant; only variants of several ALT alleles are held.

    Attributes
    ----------
    variants
        Indices of the variants with several ALT alleles, increasing.
    n_alts
        How many each of them has.

    Examples
    --------
    >>> rows = AlleleRows(np.array([1]), np.array([3]))
    >>> [index.tolist() for index in rows.of(0, 6)]
    [[0, 1, 1, 1, 2, 3], [1, 1, 2, 3, 1, 1]]
    """

    variants: NDArray[np.int64]
    n_alts: NDArray[np.int64]

    def of(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give variant and ALT allele (1, 2, …) of rows `start` to `stop`."""
        row = np.arange(start, stop)
        if not len(self.variants):
            return row, np.ones(len(row), np.int64)
        extra = np.cumsum(self.n_alts - 1)
        first = self.variants + extra - (self.n_alts - 1)
        before = np.searchsorted(first, row, side="right") - 1
        inside = (before >= 0) & (row < (first + self.n_alts)[before])
        variant = np.where(inside, self.variants[before], row - np.where(before < 0, 0, extra[before]))
        return variant, np.where(inside, row - first[before] + 1, 1)

    def alts(self, start: int, stop: int) -> NDArray[np.int64]:
        """Count the ALT alleles of variants `start` to `stop`."""
        counts = np.ones(stop - start, np.int64)
        low, high = np.searchsorted(self.variants, (start, stop))
        counts[self.variants[low:high] - start] = self.n_alts[low:high]
        return counts


@dataclass(frozen=True, eq=False)
class PvarTable:
    """The variants of a file.

    Attributes
    ----------
    rows
        A row for each ALT allele; contigs as the file spells them.
    n_variants
        Variants, lines of the file.
    alleles
        Which row is which allele of which variant.
    """

    rows: VariantTable
    n_variants: int
    alleles: AlleleRows


def read_pvar(path: Path) -> PvarTable:
    """Read the variants of a `.pvar` or `.bim`, compressed with zstd or not.

    Returns
    -------
    Variants in the file's order. An ALT of `.` (none was seen) is kept as an allele of this name, with a row of its own;
    the identifier `.` (none) too. Quality, filter and INFO are not read.

    Raises
    ------
    InputFileError
        When the file is unreadable, is not text, its zstd is damaged, it names no variants, its header lacks a column,
        a line has more or fewer columns than the header, a position that is not an integer, or an empty allele.

    Notes
    -----
    **Cost**: about a second and 150 MB for a million variants; the text itself passes through in blocks of 8 MiB.
    """
    layout = _find_layout(path)
    contigs: dict[str, int] = {}
    parts = [_read_block(path, text, line, layout, contigs) for line, text in _blocks(path, layout.n_header)]
    if not sum(len(part.position) for part in parts):
        raise InputFileError(f"{path} names no variants.")
    contig = np.concatenate([part.contig for part in parts])
    ref, alt, variant_id = (np.concatenate([getattr(p, name) for p in parts]) for name in ("ref", "alt", "variant_id"))
    position = np.concatenate([part.position for part in parts])
    whole = VariantTable(contig, tuple(contigs), position, variant_id, ref, alt)
    return _split(whole)


@dataclass(frozen=True)
class _Layout:
    """Where the columns are."""

    roles: tuple[int, ...]
    """For each column, which of `_WANTED` it is; −1 where it is none of them."""
    n_header: int
    """Lines before the first variant."""
    more_may_follow: bool
    """Whether a line may have more columns, which do not count."""


def _find_layout(path: Path) -> _Layout:
    """Read the lines at the head of the file: `##…`, `#CHROM …`, or the first variant of a `.bim`."""
    n_header, has_header = 0, False
    for n_header, block in _blocks(path, 0):
        for line in block.split(b"\n"):
            fields = line.decode("utf-8", "replace").split()
            has_header = has_header or line.startswith(b"#")
            if line.startswith(b"#CHROM"):
                return _named_columns(path, fields, n_header)
            if fields and not line.startswith(b"#"):
                if has_header:
                    raise InputFileError(f"{path}, line {n_header:,}: a header #CHROM POS ID REF ALT must come first.")
                return _bim_columns(path, fields)
            n_header += 1
    raise InputFileError(f"{path} names no variants.")


def _named_columns(path: Path, names: list[str], n_header: int) -> _Layout:
    missing = [name for name in _WANTED if names.count(name) != 1]
    if missing:
        raise InputFileError(
            f"{path}, line {n_header:,}: the header has {names.count(missing[0])} columns {missing[0]}; "
            "it needs #CHROM POS ID REF ALT, once each."
        )
    return _Layout(tuple(_WANTED.index(n) if n in _WANTED else -1 for n in names), n_header, "FORMAT" in names)


def _bim_columns(path: Path, fields: list[str]) -> _Layout:
    if len(fields) < 5:
        raise InputFileError(
            f"{path}, line 1: {len(fields)} columns instead of a header #CHROM POS ID REF ALT, or of the six of a .bim."
        )
    names = _BIM_WITHOUT_CM if len(fields) == 5 else _BIM
    return _Layout(tuple(_WANTED.index(n) if n in _WANTED else -1 for n in names), 0, False)


@contextmanager
def _open_text(path: Path) -> Iterator[pa.NativeFile]:
    """Open text, unpacking zstd, which is recognised by its content."""
    with reading(path):
        with path.open("rb") as file:
            packed = file.read(4) == _ZSTD_MAGIC
        raw = pa.OSFile(str(path))
    with raw, pa.CompressedInputStream(raw, "zstd") if packed else raw as stream:
        yield stream


def _blocks(path: Path, n_header: int) -> Iterator[tuple[int, bytes]]:
    """Give whole lines behind the header, about 8 MiB at a time, with the number of the first; a newline ends each."""
    number, rest = 1, b""
    with _open_text(path) as stream:
        while True:
            try:
                read = stream.read(_BLOCK_BYTES)
            except OSError as error:  # pyarrow's errors derive from it
                reason = str(error).splitlines()[0]
                raise InputFileError(
                    f"{path} cannot be read, or its zstd is damaged: {reason}. Copy it again."
                ) from None
            text = rest + read if read else rest + b"\n"
            cut = text.rfind(b"\n") + 1
            text, rest = text[:cut], text[cut:]
            while number <= n_header and text:
                text = text[text.find(b"\n") + 1 :]
                number += 1
            if text:
                yield number, text
            number += text.count(b"\n")
            if not read:
                return
            if len(rest) > _MAX_LINE_BYTES:
                raise InputFileError(
                    f"{path} has a line of over {_MAX_LINE_BYTES >> 20} MiB: is it a list of variants?"
                )


@dataclass(frozen=True, eq=False)
class _Part:
    """The variants of a block of lines, alleles not yet split."""

    contig: NDArray[np.int32]
    position: NDArray[np.int64]
    variant_id: Strings
    ref: Strings
    alt: Strings


def _read_block(path: Path, text: bytes, line: int, layout: _Layout, contigs: dict[str, int]) -> _Part:
    """Read lines of which the first has the number `line`; `contigs` learns their contigs."""
    data = np.frombuffer(text, np.uint8)
    n_lines = text.count(b"\n")
    spans, position = np.empty((len(_WANTED), n_lines, 2), np.int32), np.empty(n_lines, np.int64)
    problem, at, n_fields, n = _scan(data, np.array(layout.roles), layout.more_may_follow, spans, position)
    if problem:
        _refuse(path, line + at, problem, n_fields, text.split(b"\n")[at], layout)
    try:
        names, ids, ref, alt = (_strings(data, spans[_WANTED.index(c), :n]) for c in ("#CHROM", "ID", "REF", "ALT"))
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path} is not a text file: {error.reason} behind line {line:,}.") from None
    for name in dict.fromkeys(names):
        contigs.setdefault(name, len(contigs))
    contig = np.fromiter((contigs[name] for name in names), np.int32, n)
    return _Part(contig, position[:n], as_strings(ids), as_strings(ref), as_strings(alt))


def _strings(data: NDArray[np.uint8], spans: NDArray[np.int32]) -> list[str]:
    """Copy fields out of the text."""
    together = np.empty(int((spans[:, 1] - spans[:, 0] + 1).sum()), np.uint8)
    _gather(data, spans, together)
    return together.tobytes().decode("utf-8").split("\n")[:-1]


def _refuse(path: Path, number: int, problem: int, n_fields: int, line: bytes, layout: _Layout) -> NoReturn:
    fields = [*line.decode("utf-8", "replace").split(), *[""] * len(layout.roles)]
    position, ref, alt = (fields[layout.roles.index(_WANTED.index(name))] for name in ("POS", "REF", "ALT"))
    why = {
        _N_COLUMNS: f"{n_fields} columns instead of {len(layout.roles)}.",
        _POSITION: f"position {position!r} is not an integer.",
        _ALLELE: f"REF {ref!r} and ALT {alt!r} are not alleles: one REF, and ALT alleles with a comma between two.",
        _ZERO_BYTE: "holds a zero byte, so this is not a text file.",
    }[problem]
    raise InputFileError(f"{path}, line {number:,}: {why}")


def _split(whole: VariantTable) -> PvarTable:
    """Make a row for each ALT allele."""
    n_alts = np.strings.count(whole.alt, ",").astype(np.int64) + 1
    several = np.flatnonzero(n_alts > 1)
    alleles = AlleleRows(several, n_alts[several])
    if not len(several):
        return PvarTable(whole, whole.n, alleles)
    alt = np.repeat(whole.alt, n_alts)
    alt[np.repeat(n_alts, n_alts) > 1] = as_strings(",".join(whole.alt[several]).split(","))
    rows = VariantTable(
        contig=np.repeat(whole.contig, n_alts),
        contig_id=whole.contig_id,
        position=np.repeat(whole.position, n_alts),
        variant_id=np.repeat(whole.variant_id, n_alts),
        ref=np.repeat(whole.ref, n_alts),
        alt=alt,
    )
    return PvarTable(rows, whole.n, alleles)


@numba.njit(nogil=True, cache=True)
def _scan(data, roles, more_may_follow, spans, position):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Find the wanted fields of each line that is not blank.

    Returns (problem, line, columns there, variants); the problem is 0 when all is well.
    """
    n_columns, n, line, column, start = len(roles), 0, 0, 0, -1
    for at in range(len(data)):
        byte = data[at]
        if byte == 0:
            return _ZERO_BYTE, line, 0, n
        if byte > 32 or (byte != 10 and byte != 13 and byte != 32 and byte != 9):
            if start < 0:
                start = at
            continue
        if start >= 0:
            role = roles[column] if column < n_columns else -1
            if role >= 0:
                spans[role, n, 0], spans[role, n, 1] = start, at
            if role == 1:
                if not _parse_integer(data, start, at, position, n):
                    return _POSITION, line, 0, n
            elif role >= 3 and not _is_allele(data, start, at, role == 4):
                return _ALLELE, line, 0, n
            start = -1
            column += 1
        if byte == 10:
            if column and (column < n_columns or (column > n_columns and not more_may_follow)):
                return _N_COLUMNS, line, column, n
            n += column > 0
            column = 0
            line += 1
    return 0, line, 0, n


@numba.njit(nogil=True, cache=True)
def _parse_integer(data, start, stop, out, n):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read digits with or without a sign; False for anything else."""
    first = start + (data[start] == 43 or data[start] == 45)
    if first == stop or stop - first > 18:
        return False
    value = 0
    for at in range(first, stop):
        if data[at] < 48 or data[at] > 57:
            return False
        value = 10 * value + (data[at] - 48)
    out[n] = -value if data[start] == 45 else value
    return True


@numba.njit(nogil=True, cache=True)
def _is_allele(data, start, stop, several):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether no allele is empty, and there is one only where there may not be several."""
    comma = True
    for at in range(start, stop):
        if data[at] == 44:
            if comma or not several:
                return False
            comma = True
        else:
            comma = False
    return not comma


@numba.njit(nogil=True, cache=True)
def _gather(data, spans, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Copy fields one behind the other, a newline after each."""
    to = 0
    for i in range(len(spans)):
        for at in range(spans[i, 0], spans[i, 1]):
            out[to] = data[at]
            to += 1
        out[to] = 10
        to += 1
