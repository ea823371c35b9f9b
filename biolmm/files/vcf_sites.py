"""The first pass over a VCF or BCF: who and what is in it, and where its records are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.files.genotypes import Strings, VariantTable, as_strings
from biolmm.files.vcf_bcf import BcfRun
from biolmm.files.vcf_bytes import Packing
from biolmm.files.vcf_header import Header
from biolmm.files.vcf_stream import RecordStream
from biolmm.files.vcf_text import TextRun
from biolmm.files.vcf_values import FIELDS, Trouble, VcfRun

MAX_MARKS = 16_384
"""Places from which a decoder can begin to read; it travels to other processes, and must be small."""

_WRONG = {
    Trouble.TOO_FEW_COLUMNS: "it has fewer than the 9 columns CHROM to FORMAT and one a sample",
    Trouble.EMPTY_ALLELE: "its CHROM or one of its alleles is empty",
    Trouble.POSITION: "its POS is not a position",
    Trouble.SAMPLES: "it does not have one column for each of the {n_samples:,} samples",
    Trouble.GENOTYPE: "GT is not a genotype of its alleles",
    Trouble.PLOIDY: "GT has more than two alleles; biolmm reads haploid and diploid samples",
    Trouble.DS: "DS is not one number for each ALT allele. Split such records with bcftools norm --multiallelics -any",
    Trouble.HDS: "HDS is not one or two numbers",
    Trouble.GP: "GP is not one number for each genotype",
    Trouble.DS_RANGE: "DS is not a dosage from 0 to 2 (to 1 where GT, GP or HDS is haploid)",
    Trouble.HDS_RANGE: "HDS is not a dosage from 0 to 1",
    Trouble.GP_SUM: "GP are not probabilities with sum 1. If they are phred-scaled, drop them: "
    "bcftools annotate --remove FORMAT/GP",
    Trouble.RECORD: "its lengths contradict each other",
    Trouble.CONTIG: "the header does not declare its contig",
}


@dataclass(frozen=True, eq=False)
class Marks:
    """Places where reading can begin, in the file's order.

    Attributes
    ----------
    record, row
        Number of the record there, from 0, and of its first row.
    start, skip
        Where its block begins in the file, and the unpacked bytes from there to the record.
    """

    record: NDArray[np.int64]
    row: NDArray[np.int64]
    start: NDArray[np.int64]
    skip: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sites:
    """What the first pass found.

    Attributes
    ----------
    header, is_bcf
        The header, and what the file is.
    variants
        A row for each ALT allele.
    has_field
        Whether any record has each of `FIELDS`.
    marks
        Where to begin reading.
    n_records, n_split, n_without_alt
        Records; those with several ALT alleles; those with none, which make no row.
    """

    header: Header
    is_bcf: bool
    variants: VariantTable
    has_field: NDArray[np.bool_]
    marks: Marks
    n_records: int
    n_split: int
    n_without_alt: int

    @property
    def keys(self) -> tuple[int, ...]:
        """Number of each of `FIELDS` in a BCF, −1 where its header lacks it."""
        return field_keys(self.header)


def field_keys(header: Header) -> tuple[int, ...]:
    """Look up the number of each of `FIELDS` in a BCF, −1 where its header lacks it."""
    return tuple(header.strings.get(name, -1) for name in FIELDS)


def make_run(
    data: NDArray[np.uint8], n_samples: int, is_bcf: bool, contigs: dict[int, str], keys: tuple[int, ...]
) -> VcfRun:
    """Find the records in a run of bytes."""
    return BcfRun(data, n_samples, contigs, keys) if is_bcf else TextRun(data, n_samples)


def wrong_record(
    path: Path, number: int, run: VcfRun, record: int, trouble: Trouble, sample: int | None = None
) -> InputFileError:
    """Describe what is wrong with a record of a run, which is record `number` of the file, counted from 0."""
    place = f"record {number + 1:,}"
    if trouble not in (Trouble.TOO_FEW_COLUMNS, Trouble.EMPTY_ALLELE, Trouble.POSITION, Trouble.RECORD, Trouble.CONTIG):
        place += f" ({run.contig_name(record)}:{run.position[record]})"
        if sample is not None and trouble is not Trouble.SAMPLES:
            place += f", sample {sample + 1:,}"
    return InputFileError(f"{path}, {place}: {_WRONG[trouble].format(n_samples=run.n_samples)}.")


def read_sites(path: Path, packing: Packing) -> Sites:
    """Read everything but the genotypes.

    Raises
    ------
    InputFileError
        When the file is damaged, truncated or malformed, is not sorted, or has no genotypes or no variants.

    Notes
    -----
    **Cost**: one read and unpacking of the whole file; about 10⁹ unpacked bytes per second. Memory: about 100 bytes a
    variant, and two records.
    """
    stream = RecordStream(path, packing)
    header = stream.read_header()
    found = _Found(path)
    for offset, data in stream.runs():
        run = make_run(data, len(header.samples), stream.is_bcf, header.contigs, field_keys(header))
        if run.trouble is not None:
            record, trouble = run.trouble
            raise wrong_record(path, found.n_records + record, run, record, trouble)
        if run.n:
            found.add(offset, run)
    n_rows = sum(len(each) for each in found.position)
    if not n_rows:
        what = f"none of its {found.n_records:,} records has an ALT allele" if found.n_records else "no records"
        raise InputFileError(f"{path} has no variants: {what}.")
    if not found.has_field.any():
        raise InputFileError(f"{path} has no genotypes: no record has GT, DS, GP or HDS in its FORMAT.")
    n_alts = np.concatenate(found.n_alts)
    return Sites(
        header, stream.is_bcf, found.variants(), found.has_field,
        _make_marks(packing, np.concatenate(found.starts), n_alts, np.array(stream.marks, np.int64)),
        found.n_records, int(np.sum(n_alts > 1)), int(np.sum(n_alts == 0)),
    )  # fmt: skip


@dataclass
class _Found:
    """Tables of the runs so far."""

    path: Path
    n_records: int = 0
    contigs: dict[str, int] = field(default_factory=dict)
    has_field: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(4, np.bool_))
    last: tuple[str, int] = ("", 0)
    starts: list[NDArray[np.int64]] = field(default_factory=list)
    n_alts: list[NDArray[np.int64]] = field(default_factory=list)
    contig: list[NDArray[np.int32]] = field(default_factory=list)
    position: list[NDArray[np.int64]] = field(default_factory=list)
    texts: tuple[list[Strings], ...] = field(default_factory=lambda: ([], [], []))

    def add(self, offset: int, run: VcfRun) -> None:
        contig = self._contigs_of(run)
        bounds = run.row_bounds()
        self.starts.append(offset + run.starts)
        self.n_alts.append(run.n_alts)
        self.contig.append(np.repeat(contig, run.n_alts))
        self.position.append(np.repeat(run.position, run.n_alts))
        for texts, part in zip(self.texts, (0, 1, 2), strict=True):
            texts.append(_gather_strings(self.path, run.data, np.ascontiguousarray(bounds[:, part])))
        self.has_field |= run.has_field.any(axis=0)
        self.n_records += run.n

    def variants(self) -> VariantTable:
        ids, ref, alt = (np.concatenate(texts) for texts in self.texts)
        ids[ids == ""] = "."
        return VariantTable(
            np.concatenate(self.contig), tuple(self.contigs), np.concatenate(self.position), ids, ref, alt
        )

    def _contigs_of(self, run: VcfRun) -> NDArray[np.int32]:
        """Number the contigs of a run, and check that it is sorted."""
        changes = run.contig_changes()
        firsts = np.flatnonzero(changes)
        back = np.flatnonzero((np.diff(run.position) < 0) & ~changes[1:]) + 1
        codes = np.empty(len(firsts), np.int32)
        for i, first in enumerate(firsts.tolist()):
            name = run.contig_name(first)
            if "\ufffd" in name:
                raise _not_text(self.path)
            same = name == self.last[0]
            if (not same and name in self.contigs) or (same and run.position[first] < self.last[1]):
                raise self._unsorted(run, first, self.last)
            codes[i] = self.contigs.setdefault(name, len(self.contigs))
            after = firsts[i + 1] if i + 1 < len(firsts) else run.n
            inside = back[(back >= first) & (back < after)]
            if len(inside):
                raise self._unsorted(run, int(inside[0]), (name, int(run.position[inside[0] - 1])))
            self.last = (name, int(run.position[after - 1]))
        return np.asarray(codes[np.cumsum(changes) - 1])

    def _unsorted(self, run: VcfRun, record: int, before: tuple[str, int]) -> InputFileError:
        return InputFileError(
            f"{self.path} is not sorted: record {self.n_records + record + 1:,} "
            f"({run.contig_name(record)}:{run.position[record]}) comes after {before[0]}:{before[1]}. "
            f"Sort it: bcftools sort {self.path.name} --output-type z --output sorted.vcf.gz"
        )


def _not_text(path: Path) -> InputFileError:
    return InputFileError(f"{path} is not a text file: a CHROM, ID or allele is not UTF-8.")


def _gather_strings(path: Path, data: NDArray[np.uint8], bounds: NDArray[np.int64]) -> Strings:
    offsets = np.concatenate([[0], np.cumsum(bounds[:, 1] - bounds[:, 0])]).astype(np.int64)
    out = np.empty(int(offsets[-1]), np.uint8)
    _gather(data, bounds, offsets, out)
    strings = pa.LargeStringArray.from_buffers(len(bounds), pa.py_buffer(offsets), pa.py_buffer(out))
    try:
        strings.validate(full=True)
    except pa.ArrowInvalid:
        raise _not_text(path) from None
    return as_strings(strings.to_numpy(zero_copy_only=False))


@numba.njit(nogil=True, cache=True)
def _gather(data, bounds, offsets, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(len(bounds)):
        start, at = bounds[i, 0], offsets[i]
        for k in range(bounds[i, 1] - start):
            out[at + k] = data[start + k]


def _make_marks(
    packing: Packing, starts: NDArray[np.int64], n_alts: NDArray[np.int64], blocks: NDArray[np.int64]
) -> Marks:
    """Choose records, evenly, and find the blocks in which they begin."""
    step = 1 if packing is not Packing.GZIP else len(starts)
    step = max(step, -(-len(starts) // MAX_MARKS))
    record = np.arange(0, len(starts), step)
    block = np.searchsorted(blocks[:, 0], starts[record], side="right") - 1
    start, skip = blocks[block, 1], starts[record] - blocks[block, 0]
    if packing is Packing.PLAIN:
        start, skip = start + skip, np.zeros_like(skip)
    return Marks(record, (np.cumsum(n_alts) - n_alts)[record], start, skip)
