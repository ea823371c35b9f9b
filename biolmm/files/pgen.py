"""PLINK 2 binary genotypes: a `.pgen`, with its variants (`.pvar`, `.pvar.zst`, `.bim`) and samples (`.psam`, `.fam`).

Calls and dosages count copies of ALT; phase is dropped; a variant of several ALT alleles is a row for each of them, which
counts copies of that allele alone. Where a file holds calls and dosages, `Encoding.CALLS` gives the file's own calls,
which PLINK 2 made with the threshold it was told (0.1 unless told otherwise); a dosage encoding gives the dosage, and
the call where there is a call only. The bytes are read by our own decoder (`pgen_records.py`), which trusts nothing in
the file, so that damage is a message and not a crash; the tests hold it against pgenlib and plink2.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.files.bed_tables import reading
from biolmm.files.encoding import Encoding
from biolmm.files.genotypes import Block, Source
from biolmm.files.pgen_header import (
    ANCHOR_VARIANTS,
    ANY_DOSAGE,
    BLOCK_VARIANTS,
    PHASE,
    PHASED_DOSAGE,
    PLINK1,
    PgenHeader,
    Records,
    read_bytes,
    read_header,
)
from biolmm.files.pgen_records import DAMAGE, UNITS, decode_main, decode_rows
from biolmm.files.psam import read_psam
from biolmm.files.pvar import AlleleRows, read_pvar

__all__ = ["PgenDecoder", "PgenFiles", "open_pgen", "pgen_files"]

_VARIANT_SUFFIXES = (".pvar", ".pvar.zst", ".bim", ".bim.zst")
_SAMPLE_SUFFIXES = (".psam", ".fam")


@dataclass(frozen=True)
class PgenFiles:
    """The three files of one set."""

    pgen: Path
    variants: Path
    samples: Path


def pgen_files(path: Path | str) -> PgenFiles:
    """Find the file set of a `.pgen` path, or of its name without the suffix.

    Raises
    ------
    InputFileError
        When one of the three files is missing, or the path names something else.
    """
    path = Path(path)
    pgen = path if path.suffix == ".pgen" else path.with_name(path.name + ".pgen")
    if path != pgen and path.exists():
        raise InputFileError(f"{path} is not a .pgen file: give the .pgen, with its .pvar and .psam beside it.")
    if not pgen.is_file():
        raise InputFileError(f"{pgen}: no such file." if not pgen.exists() else f"{pgen} is not a file.")
    return PgenFiles(pgen, _beside(pgen, _VARIANT_SUFFIXES), _beside(pgen, _SAMPLE_SUFFIXES))


def _beside(pgen: Path, suffixes: tuple[str, ...]) -> Path:
    """Find the first file of the same name with one of the suffixes."""
    found = [pgen.with_suffix(suffix) for suffix in suffixes if pgen.with_suffix(suffix).is_file()]
    if not found:
        raise InputFileError(
            f"{pgen.with_suffix(suffixes[0])} is missing: {pgen.name} is read with the {' or '.join(suffixes)} of the "
            "same name."
        )
    return found[0]


def open_pgen(path: Path | str) -> Source:
    """Open a PLINK 2 fileset and check its sizes.

    Parameters
    ----------
    path
        The `.pgen`, or its name without the suffix. The variants may be `.pvar`, `.pvar.zst`, `.bim` or `.bim.zst`, the
        samples `.psam` or `.fam`; the first that is there is read.

    Raises
    ------
    InputFileError
        When a file is missing, unreadable or malformed, the files do not belong together, the `.pgen` is truncated or
        its header is damaged, or it is stored in a way that biolmm does not read: sample by sample, with its header in
        another file (`.pgen.pgi`), in a layout for single samples, or with dosages of several ALT alleles.

    Notes
    -----
    **Cost**: reads the tables and the header, not the genotypes: a second and 150 MB for a million variants.
    """
    files = pgen_files(path)
    samples, variants = read_psam(files.samples), read_pvar(files.variants)
    n_alts = variants.alleles.alts(0, variants.n_variants)
    header, used = read_header(files.pgen, samples.n, variants.n_variants, n_alts)
    notes = {
        "kind": "pgen",
        "storage_mode": f"{header.mode:02x}",
        "phased": bool(used & (PHASE | PHASED_DOSAGE)),
        "n_multiallelic_split": len(variants.alleles.variants),
    }
    return Source(
        path=files.pgen,
        samples=samples,
        variants=variants.rows,
        has_dosages=bool(used & ANY_DOSAGE),
        decoder=PgenDecoder(header, variants.alleles),
        files=(files.pgen, files.variants, files.samples),
        notes=notes,
    )


@dataclass(frozen=True, eq=False)
class PgenDecoder:
    """Reads rows of a `.pgen`; each read opens the file, so that threads and processes share nothing."""

    header: PgenHeader
    alleles: AlleleRows

    def read(self, start: int, stop: int, encoding: Encoding) -> Block:
        """Read rows `start` to `stop` in the encoding that is asked for.

        Raises
        ------
        InputFileError
            When the file cannot be read, is damaged there, or was changed meanwhile; names file and variant.

        Notes
        -----
        **Cost**: one read of the rows' bytes, of their part of the header's table, and of the variant that the first row
        is stored as differences from. 10⁹ to 10¹⁰ calls, or 10⁹ dosages, a second and core.
        """
        header = self.header
        out = np.empty((stop - start, encoding.width(header.n_samples)), encoding.dtype)
        if start == stop:
            return Block(out)
        variants, alleles = self.alleles.of(start, stop)
        first, end = int(variants[0]), int(variants[-1]) + 1
        with reading(header.path):
            descriptor = os.open(header.path, os.O_RDONLY)
        try:
            if os.fstat(descriptor).st_size != header.size:
                raise InputFileError(f"{header.path} was changed since it was opened: start again.")
            records = header.records(descriptor, first, end)
            base = self._base(descriptor, records, first)
            offset, last = int(records.starts[0]), int(records.stops[-1])
            data = read_bytes(descriptor, header.path, offset, last - offset)
        finally:
            os.close(descriptor)
        sums = np.zeros((2, stop - start), np.int64)
        failed, row = decode_rows(
            data, records.starts - offset, records.stops - offset, records.types, self.alleles.alts(first, end),
            variants - first, alleles, header.n_samples, encoding.steps * encoding.is_dosage, header.mode == PLINK1,
            base, out, sums,
        )  # fmt: skip
        if failed:
            self._refuse(failed, int(variants[row]))
        if not encoding.is_dosage:
            return Block(out)
        return Block(out, dosage_sum=sums[0] / UNITS, dosage_squares=sums[1] / UNITS**2)

    def _base(self, descriptor: int, records: Records, first: int) -> NDArray[np.uint8]:
        """Decode the variant before `first` that the first record is stored as differences from, if it is so stored."""
        geno = np.zeros(-(-self.header.n_samples // 4), np.uint8)
        if records.types[0] & 6 != 2:
            return geno
        stop = first
        block_starts = first - first % BLOCK_VARIANTS
        while stop > block_starts:
            start = max(block_starts, (stop - 1) // ANCHOR_VARIANTS * ANCHOR_VARIANTS)
            before = self.header.records(descriptor, start, stop)
            whole = np.flatnonzero(before.types & 6 != 2)
            if len(whole):
                k = int(whole[-1])
                at, end = int(before.starts[k]), int(before.stops[k])
                data = read_bytes(descriptor, self.header.path, at, end - at)
                failed = decode_main(data, int(before.types[k]) & 7, self.header.n_samples, geno)
                if failed:
                    self._refuse(failed, start + k)
                return geno
            stop = start
        raise InputFileError(f"{self.header.path} was changed since it was opened: start again.")

    def _refuse(self, failed: int, variant: int) -> NoReturn:
        raise InputFileError(
            f"{self.header.path} is damaged at variant {variant + 1:,}: {DAMAGE[failed]}. Copy or make it again."
        )
