"""VCF Zarr: the stores that bio2zarr and sgkit write, of Zarr format 2 or 3.

Values mean what they mean in a VCF, see `biolmm.files.vcf`. VCF Zarr has no checksums: a damaged chunk that still unpacks
and holds allele numbers that exist passes for data.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError, named
from biolmm.files.encoding import Encoding
from biolmm.files.genotypes import BLOCK_SUMS, Block, SampleTable, Source, Strings, VariantTable, as_strings
from biolmm.places import is_remote
from biolmm.store.vcz_arrays import ForeignArray, array_names, read_attributes
from biolmm.store.vcz_rows import AlleleTable, CallFields, read_rows

MAX_KEPT_BYTES = 256 << 20
"""Of rows that a process keeps: a chunk of VCF Zarr may hold the variants of many blocks that are asked for."""

_CALLS = {"call_genotype", "call_DS", "call_dosage", "call_GP", "call_genotype_probability", "call_HDS"}
_TABLES = {"variant_contig", "variant_position", "variant_allele", "sample_id"}
_OPTIONAL = {"variant_id", "contig_id", "sample_family_id", "sample_sex"}


def is_vcz(path: Path) -> bool:
    """Whether a path is VCF Zarr: a Zarr group with an array of calls that is not a store of biolmm."""
    attributes = read_attributes(path)
    return attributes is not None and "biolmm_format" not in attributes and bool(array_names(path, _CALLS))


def open_vcz(path: Path) -> Source:
    """Open a VCF Zarr store.

    Parameters
    ----------
    path
        Folder of the group.

    Returns
    -------
    Source
        A row for each ALT allele; variants without one make none. Sex and family come from `sample_sex` and
        `sample_family_id`, which `export_vcz` writes, else they are unknown and `0`.

    Raises
    ------
    InputFileError
        When arrays or chunks are missing, do not fit together, or cannot be decoded.

    Notes
    -----
    **Cost**: reads the small arrays, and looks at the name of every chunk of calls in a local store. Rows cost a read
    of the whole chunks that hold them; rows of the chunks read last are kept, up to 256 MiB.
    """
    names = array_names(path, _CALLS | _TABLES | _OPTIONAL)
    arrays = {name: ForeignArray.open(path, name) for name in sorted(names | _TABLES)}
    fields = CallFields.among(names)
    if not fields.used:
        raise InputFileError(f"{path} has no genotypes: no call_genotype, call_DS, call_GP or call_HDS.")
    samples, n_variants = _read_samples(arrays), arrays["variant_position"].shape[0]
    calls = {name: arrays[name] for name in fields.used}
    for name, array in calls.items():
        if array.shape[:2] != (n_variants, samples.n) or len(array.shape) > 3:
            raise InputFileError(
                f"{path}: {name} has shape {array.shape} where there are {n_variants:,} variants and {samples.n:,} "
                "samples. It is incomplete or damaged: copy it again."
            )
        if not is_remote(path):
            array.check_files()
    variants, n_alts = _read_variants(path, arrays)
    first_row = np.concatenate([[0], np.cumsum(n_alts)])
    attributes = read_attributes(path) or {}
    return Source(
        path=path,
        samples=samples,
        variants=variants,
        has_dosages=fields.has_dosages,
        decoder=VczDecoder(path, fields, calls, samples.n, n_alts, first_row),
        files=tuple(array.metadata_file for array in arrays.values()),
        notes={
            "kind": "vcz",
            "fields": list(fields.used),
            "vcf_zarr_version": str(attributes.get("vcf_zarr_version", "")),
            "source": str(attributes.get("source", "")),
            "n_records": n_variants,
            "n_records_split": int(np.sum(n_alts > 1)),
            "n_records_without_alt": int(np.sum(n_alts == 0)),
        },
    )


@dataclass(frozen=True, eq=False)
class VczDecoder:
    """Reads rows of one store; keeps those of the last chunks that it decoded."""

    path: Path
    fields: CallFields
    arrays: dict[str, ForeignArray]
    n_samples: int
    n_alts: NDArray[np.int64] = field(repr=False)
    first_row: NDArray[np.int64] = field(repr=False)
    _kept: OrderedDict[tuple[int, Encoding], _Kept] = field(default_factory=OrderedDict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return VczDecoder, (self.path, self.fields, self.arrays, self.n_samples, self.n_alts, self.first_row)

    def read(self, start: int, stop: int, encoding: Encoding) -> Block:
        """Read rows `start` to `stop` (half-open) in the encoding that is asked for.

        Raises
        ------
        InputFileError
            When a chunk is missing or damaged.
        """
        if not 0 <= start <= stop <= self.first_row[-1]:
            raise IndexError(f"rows {start} to {stop} of {self.first_row[-1]}")
        if start == stop:
            return Block(encoding.missing_rows(0, self.n_samples))
        size = max(array.chunks[0] for array in self.arrays.values())
        first = int(np.searchsorted(self.first_row, start, side="right")) - 1
        last = int(np.searchsorted(self.first_row, stop, side="left"))
        blocks = []
        for chunk in range(first // size, -(-last // size)):
            row = int(self.first_row[chunk * size])
            block = self._chunk(chunk, size, encoding)
            blocks.append(_cut(block, max(start - row, 0), min(stop - row, len(block.rows))))
        return blocks[0] if len(blocks) == 1 else _join(blocks)

    def _chunk(self, chunk: int, size: int, encoding: Encoding) -> Block:
        """Give all rows of a chunk of variants; threads that want the same one wait for the first."""
        with self._lock:
            kept = self._kept.setdefault((chunk, encoding), _Kept())
            self._kept.move_to_end((chunk, encoding))
            while len(self._kept) > 1 and sum(each.n_bytes for each in self._kept.values()) > MAX_KEPT_BYTES:
                self._kept.popitem(last=False)
        with kept.lock:
            if kept.block is None:
                kept.block = self._read_chunk(chunk, size, encoding)
            return kept.block

    def _read_chunk(self, chunk: int, size: int, encoding: Encoding) -> Block:
        n_alts = self.n_alts[chunk * size : (chunk + 1) * size]
        width = max(array.chunks[1] for array in self.arrays.values())
        pieces = tuple(slice(at, min(at + width, self.n_samples)) for at in range(0, self.n_samples, width))

        def read(name: str, variants: slice, samples: slice) -> NDArray[Any]:
            return self.arrays[name].read(variants, samples)

        return read_rows(self.path, self.fields, read, chunk * size, n_alts, pieces, encoding)


@dataclass(eq=False)
class _Kept:
    """Rows of a chunk, once they were read."""

    block: Block | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def n_bytes(self) -> int:
        return 0 if self.block is None else self.block.rows.nbytes


def _cut(block: Block, start: int, stop: int) -> Block:
    sums = (getattr(block, name) for name in BLOCK_SUMS)
    return Block(block.rows[start:stop], *(None if each is None else each[start:stop] for each in sums))


def _join(blocks: list[Block]) -> Block:
    sums = [[getattr(block, name) for block in blocks] for name in BLOCK_SUMS]
    return Block(
        np.concatenate([block.rows for block in blocks]),
        *(None if each[0] is None else np.concatenate(each) for each in sums),
    )


def _whole(array: ForeignArray, fill_missing: bool = False) -> NDArray[Any]:
    return array.read(*(slice(0, n) for n in array.shape), fill_missing=fill_missing)


def _texts(array: ForeignArray) -> Strings:
    values = _whole(array)
    return as_strings(np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values)


def _read_samples(arrays: dict[str, ForeignArray]) -> SampleTable:
    ids = arrays["sample_id"]
    sample_id = np.array(_texts(ids).tolist(), np.str_)
    values, counts = np.unique(sample_id, return_counts=True)
    if len(values) < len(sample_id):
        raise InputFileError(
            f"{ids.path} names {np.sum(counts > 1):,} samples more than once: {named(values[counts > 1])}. Samples are "
            "matched by name."
        )
    n = len(sample_id)
    if not n:
        raise InputFileError(f"{ids.path} has no samples.")
    family, sex = np.full(n, "0"), np.zeros(n, np.int8)
    if arrays.get("sample_family_id", ids).shape == (n,) and "sample_family_id" in arrays:
        family = np.array(_texts(arrays["sample_family_id"]).tolist(), np.str_)
    if arrays.get("sample_sex", ids).shape == (n,) and "sample_sex" in arrays:
        codes = _whole(arrays["sample_sex"], fill_missing=True)
        sex = np.where((codes == 1) | (codes == 2), codes, 0).astype(np.int8)
    return SampleTable(sample_id, family, sex)


def _read_variants(path: Path, arrays: dict[str, ForeignArray]) -> tuple[VariantTable, NDArray[np.int64]]:
    n = arrays["variant_position"].shape[0]
    for name in ("variant_contig", "variant_allele", "variant_id"):
        if name in arrays and arrays[name].shape[:1] != (n,):
            raise InputFileError(
                f"{path}: {name} has {arrays[name].shape[0]:,} values for {n:,} variants. It is incomplete or damaged."
            )
    table = AlleleTable.of(_texts(arrays["variant_allele"]), path)
    if not len(table.alt):
        raise InputFileError(f"{path} has no variants with an ALT allele.")
    contigs = _contig_names(path, arrays)
    contig = _whole(arrays["variant_contig"], fill_missing=True).astype(
        np.int64
    )  # all 0 are left out, and mean contig 0
    if contig.min() < 0 or contig.max() >= len(contigs):
        raise InputFileError(
            f"{path}: variant_contig goes from {contig.min()} to {contig.max()} where there are {len(contigs)} contigs."
        )
    ids = _texts(arrays["variant_id"]) if "variant_id" in arrays else as_strings(["."] * n)
    ids[ids == ""] = "."
    position = _whole(arrays["variant_position"]).astype(np.int64)
    per_row = (np.repeat(each, table.n_alts) for each in (contig.astype(np.int32), position, ids))
    row_contig, row_position, row_id = per_row
    used, row_contig = np.unique(row_contig, return_inverse=True)
    return VariantTable(
        row_contig.astype(np.int32), tuple(contigs[i] for i in used), row_position, row_id, table.ref, table.alt
    ), table.n_alts


def _contig_names(path: Path, arrays: dict[str, ForeignArray]) -> list[str]:
    if "contig_id" in arrays:
        return [str(name) for name in _texts(arrays["contig_id"])]
    names = (read_attributes(path) or {}).get("contigs")  # as sgkit before 0.6 has it
    if not isinstance(names, list):
        raise InputFileError(f"{path} has no array contig_id: it is incomplete, or not VCF Zarr.")
    return [str(name) for name in names]
