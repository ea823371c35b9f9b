"""PLINK 1 binary genotypes: `.bed` rows, their `.bim` variants and `.fam` samples.

ALT, the effect allele, is A1, column 5 of the `.bim` (as PLINK 2 reads a `.bed`); REF is column 6. A `.bed` call is
two bits, high then low: 00 two copies of A1, 10 one, 11 none, 01 missing. Ours is the number of copies, 3 = missing,
so that the high bit is the complement of the high bit and the low bit is the exclusive or of the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError, OutputError
from biolmm.files.bed_tables import read_bim, read_fam, reading
from biolmm.files.encoding import Encoding, recode_rows, row_bytes
from biolmm.files.genotypes import Block, SampleTable, Source, VariantTable
from biolmm.places import is_remote, place, read_at

__all__ = [
    "BedDecoder",
    "BedFiles",
    "bed_files",
    "check_bed",
    "open_bed",
    "read_bim",
    "read_fam",
    "read_packed_rows",
    "write_bed",
]

MAGIC = b"\x6c\x1b"
HEADER_BYTES = 3


@dataclass(frozen=True)
class BedFiles:
    """The three files of one set."""

    bed: Path
    bim: Path
    fam: Path


@dataclass(frozen=True)
class BedDecoder:
    """Reads rows of one `.bed`."""

    bed: Path
    n_samples: int
    n_variants: int

    def read(self, start: int, stop: int, encoding: Encoding) -> Block:
        """Read variants `start` to `stop`; dosages of hard calls are whole numbers.

        Raises
        ------
        InputFileError
            As `read_packed_rows`.
        """
        if not 0 <= start <= stop <= self.n_variants:
            raise IndexError(f"variants {start} to {stop} of {self.n_variants}")
        rows = read_packed_rows(self.bed, self.n_samples, start, stop)
        return Block(recode_rows(rows, self.n_samples, Encoding.CALLS, encoding))


def open_bed(path: Path | str) -> Source:
    """Open a PLINK 1 file set by its `.bed`, or by its name without the suffix.

    Raises
    ------
    InputFileError
        As `bed_files`, `read_fam`, `read_bim` and `check_bed`.

    Notes
    -----
    **Cost**: reads the `.fam` and the `.bim`, and up to 1,000 bytes of the `.bed`.
    """
    files = bed_files(path)
    samples, variants = read_fam(files.fam), read_bim(files.bim)
    check_bed(files, samples.n, variants)
    return Source(
        path=files.bed,
        samples=samples,
        variants=variants,
        has_dosages=False,
        decoder=BedDecoder(files.bed, samples.n, variants.n),
        files=(files.bed, files.bim, files.fam),
        notes={"kind": "bed"},
    )


def bed_files(path: Path | str) -> BedFiles:
    """Find the file set of a `.bed` path, or of its name without the suffix.

    Raises
    ------
    InputFileError
        When one of the three files is missing, or the path names something else.
    """
    path = place(path)
    bed = path if path.suffix == ".bed" else path.with_name(path.name + ".bed")
    if path != bed and path.exists():
        raise InputFileError(f"{path} is not a .bed file: give the .bed, with its .bim and .fam beside it.")
    if not bed.is_file():
        raise InputFileError(f"{bed}: no such file." if not bed.exists() else f"{bed} is not a file.")
    files = BedFiles(bed, bed.with_suffix(".bim"), bed.with_suffix(".fam"))
    for sibling in (files.bim, files.fam):
        if not sibling.is_file():
            raise InputFileError(f"{sibling} is missing: {bed.name} is read with the .bim and .fam of the same name.")
    return files


def bed_row_bytes(n_samples: int) -> int:
    """Bytes of one variant in a `.bed`.

    Examples
    --------
    >>> bed_row_bytes(5)
    2
    """
    return -(-n_samples // 4)


def check_bed(files: BedFiles, n_samples: int, variants: VariantTable) -> None:
    """Check the magic number and the size of a `.bed` against its samples and variants.

    Raises
    ------
    InputFileError
        When the file is something else, is stored sample by sample, is truncated, or does not fit the counts.
    """
    with reading(files.bed), files.bed.open("rb") as file:
        header = file.read(HEADER_BYTES)
        found = files.bed.stat().st_size
    _check_header(files, header)
    per_row = bed_row_bytes(n_samples)
    expected = HEADER_BYTES + per_row * variants.n
    sizes = f"{found:,} bytes where {n_samples:,} samples × {variants.n:,} variants take {expected:,}"
    if found < expected:
        row = (found - HEADER_BYTES) // per_row
        raise InputFileError(
            f"{files.bed} is truncated: {sizes}; the data end at variant {row + 1:,} ({variants.variant_id[row]}). "
            f"Copy the file again, or give the {files.fam.name} and {files.bim.name} that belong to it."
        )
    if found > expected:
        raise InputFileError(
            f"{files.bed} is too long: {sizes}. Give the {files.fam.name} and {files.bim.name} that belong to it."
        )
    _check_padding(files, n_samples, variants.n)


def _check_padding(files: BedFiles, n_samples: int, n_variants: int) -> None:
    """Look for calls behind the last sample in up to 1,000 rows: where the size is right, the .fam may still be short.

    The bits that fill the last byte of a row are zero by definition of the format.
    """
    used = n_samples % 4
    if not used or not n_variants:
        return
    with reading(files.bed):
        last = _last_bytes(files.bed, n_variants, bed_row_bytes(n_samples))
    if (last >> (2 * used)).any():
        raise InputFileError(
            f"{files.bed} holds calls of more than the {n_samples:,} samples of {files.fam.name}: lines are missing "
            "there. Give the .fam that belongs to it."
        )


def _last_bytes(bed: Path, n_variants: int, row_bytes: int) -> NDArray[np.uint8]:
    """Read the last byte of up to 1,000 rows; of an object, where each is a request, of up to 32."""
    if not is_remote(bed):
        calls = np.memmap(bed, np.uint8, "r", HEADER_BYTES, (n_variants, row_bytes))
        return np.array(calls[:: max(1, n_variants // 1000), -1])
    ends = HEADER_BYTES + row_bytes * np.unique(np.linspace(1, n_variants, 32).astype(np.int64))
    with ThreadPoolExecutor(len(ends)) as threads:
        return np.frombuffer(b"".join(threads.map(lambda end: read_at(bed, end - 1, 1), ends.tolist())), np.uint8)


def _check_header(files: BedFiles, header: bytes) -> None:
    path, stem = files.bed, files.bed.with_suffix("")
    if not header:
        raise InputFileError(f"{path} is empty.")
    if header[:2] != MAGIC:
        packers = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}
        hint = f" It is compressed with {packers[header[:2]]}: unpack it first." if header[:2] in packers else ""
        raise InputFileError(f"{path} is not a PLINK .bed: it begins with {header.hex(' ')} instead of 6c 1b 01.{hint}")
    if header[2:] == b"\x00":
        raise InputFileError(
            f"{path} is stored sample by sample (mode 00); biolmm reads variant by variant (mode 01). "
            f"Rewrite it: plink --bfile {stem} --make-bed --out {stem}_by_variant"
        )
    if header[2:] != b"\x01":
        mode = header[2:].hex() or "nothing"
        raise InputFileError(
            f"{path} is not a PLINK 1 .bed: mode {mode} instead of 01. If it is a .pgen, rewrite it: "
            f"plink2 --pfile {stem} --make-bed --out {stem}_bed"
        )


def read_packed_rows(
    bed: Path, n_samples: int, start: int, stop: int, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Read variants `start` to `stop` of a `.bed` as packed rows of ALT counts.

    Parameters
    ----------
    bed
        The file; its header and size are taken as checked.
    n_samples
        Samples in the file.
    start, stop
        Half-open range of variants.
    out
        Where to put the rows; by default a new array.

    Returns
    -------
    Packed rows (stop − start, row_bytes), padded with missing calls.

    Raises
    ------
    InputFileError
        When the file cannot be read or ends before `stop`.

    Notes
    -----
    **Cost**: one read of the rows; about 10¹¹ calls per second and core to recode them.
    """
    raw = np.empty((stop - start, bed_row_bytes(n_samples)), np.uint8)
    with reading(bed), bed.open("rb", buffering=0) as file:
        file.seek(HEADER_BYTES + start * raw.shape[1])
        n_read = _read_into(file, raw)
    if n_read < raw.nbytes:
        raise InputFileError(
            f"{bed} is truncated: variants {start + 1:,} to {stop:,} take {raw.nbytes:,} bytes and {n_read:,} are "
            "there. Was the file changed while it was read?"
        )
    packed = np.empty((stop - start, row_bytes(n_samples)), np.uint8) if out is None else out
    _recode_rows(raw, n_samples, packed)
    return packed


def _read_into(file: FileIO, target: NDArray[np.uint8]) -> int:
    """Fill `target`; a single read may return less than asked for."""
    view, n_read = target.data.cast("B"), 0
    while n_read < len(view):
        n = file.readinto(view[n_read:])
        if not n:
            break
        n_read += n
    return n_read


def write_bed(
    prefix: Path, samples: SampleTable, variants: VariantTable, rows: Iterable[NDArray[np.uint8]]
) -> BedFiles:
    """Write packed rows as `.bed`, `.bim` and `.fam`.

    Parameters
    ----------
    prefix
        Path without suffix.
    samples, variants
        What the columns and rows are.
    rows
        Blocks of packed rows that follow one another, together `variants.n`; one block is held at a time.

    Raises
    ------
    OutputError
        When the files cannot be written; files already there under these names are then as they were.
    ValueError
        When `rows` are more or fewer than the variants.
    """
    files = BedFiles(*(prefix.with_name(f"{prefix.name}.{suffix}") for suffix in ("bed", "bim", "fam")))
    aside = {target: target.with_name(target.name + ".partial") for target in (files.bed, files.bim, files.fam)}
    n_written = 0
    try:
        with aside[files.bed].open("wb") as bed:
            bed.write(MAGIC + b"\x01")
            for block in rows:
                raw = np.empty((len(block), bed_row_bytes(samples.n)), np.uint8)
                _encode_rows(block, samples.n, raw)
                bed.write(raw.data)
                n_written += len(block)
        if n_written != variants.n:
            raise ValueError(f"{n_written} rows were given for {variants.n} variants")
        aside[files.bim].write_text("".join(_bim_lines(variants)), encoding="utf-8")
        aside[files.fam].write_text("".join(_fam_lines(samples)), encoding="utf-8")
        for target, temporary in aside.items():
            temporary.replace(target)
    except OSError as error:
        raise OutputError(
            f"{files.bed} cannot be written: {error.strerror}. Free space or choose another place, and run again."
        ) from error
    finally:
        for temporary in aside.values():
            with suppress(OSError):
                temporary.unlink()
    return files


def _bim_lines(variants: VariantTable) -> Iterator[str]:
    columns = (variants.contig, variants.variant_id, variants.position, variants.alt, variants.ref)
    for contig, name, position, alt, ref in zip(*(column.tolist() for column in columns), strict=True):
        yield f"{variants.contig_id[contig]}\t{name}\t0\t{position}\t{alt}\t{ref}\n"


def _fam_lines(samples: SampleTable) -> Iterator[str]:
    columns = (samples.family_id, samples.sample_id, samples.sex)
    for family, sample, sex in zip(*(column.tolist() for column in columns), strict=True):
        yield f"{family}\t{sample}\t0\t0\t{sex}\t-9\n"


@numba.njit(nogil=True, cache=True)
def _recode_rows(raw, n_samples, packed):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Turn `.bed` rows into packed rows of ALT counts, padded with missing calls."""
    n_bytes = raw.shape[1]
    n_left = n_samples % 4
    for i in range(raw.shape[0]):
        for b in range(n_bytes):
            x = raw[i, b]
            packed[i, b] = (~x & np.uint8(0xAA)) | ((x ^ (x >> np.uint8(1))) & np.uint8(0x55))
        if n_left:
            packed[i, n_bytes - 1] |= np.uint8((0xFF << (2 * n_left)) & 0xFF)
        for b in range(n_bytes, packed.shape[1]):
            packed[i, b] = 0xFF


@numba.njit(nogil=True, cache=True)
def _encode_rows(packed, n_samples, raw):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Undo `_recode_rows`; the unused bits of the last byte are zero, as PLINK writes them."""
    n_bytes = raw.shape[1]
    n_left = n_samples % 4
    for i in range(packed.shape[0]):
        for b in range(n_bytes):
            high = ~packed[i, b] & np.uint8(0xAA)
            raw[i, b] = high | ((packed[i, b] ^ (high >> np.uint8(1))) & np.uint8(0x55))
        if n_left:
            raw[i, n_bytes - 1] &= np.uint8((1 << (2 * n_left)) - 1)
