"""Reading a store, trusting nothing that its checksums do not confirm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from biolmm import schema
from biolmm.errors import DamagedStoreError, InputFileError, StoreFormatError
from biolmm.files.encoding import Encoding, Rows
from biolmm.files.genotypes import SampleTable, Strings, VariantTable
from biolmm.places import is_remote, place
from biolmm.store.data import Quality
from biolmm.store.identity import ATTRIBUTES_CRC32C, attributes_crc32c
from biolmm.store.in_memory import decode_array
from biolmm.store.layout import chunk_path, chunk_range, genotype_array

_RESTORE = "Restore it from a backup, or remove the store and write it again."


@dataclass(frozen=True, eq=False)
class GenotypeStore:
    """A finished store: its small arrays, read when first asked for, and its chunks of genotypes.

    Cheap to send to other processes: only the fields below travel.
    """

    path: Path
    n_samples: int
    n_variants: int
    chunk_variants: int
    encoding: Encoding
    """How rows are encoded."""
    attributes: Mapping[str, Any] = field(repr=False)
    """Attributes of the Zarr group."""
    chunk_crc32c: NDArray[np.uint32] = field(repr=False)

    @classmethod
    def open(cls, path: Path | str) -> GenotypeStore:
        """Open a store.

        Raises
        ------
        InputFileError
            When there is nothing at `path`, or it cannot be read.
        StoreFormatError
            When it is something else, or of a version that this biolmm does not know.
        DamagedStoreError
            When its metadata are damaged.
        """
        path = place(path).absolute()
        attributes = read_attributes(path)
        crcs = _read_checked(path, attributes["checksums"], schema.CHUNK_CRC32C)
        encoding = Encoding(attributes["encoding"])
        metadata = json.loads(
            _read_checked_bytes(path, attributes["checksums"], f"{genotype_array(encoding)}/zarr.json")
        )
        n_variants, n_samples = metadata["shape"]
        chunk_variants = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
        n_chunks = -(-n_variants // chunk_variants)
        if len(crcs) != n_chunks:
            raise DamagedStoreError(
                f"{path} is damaged: {schema.CHUNK_CRC32C} has {len(crcs):,} values for {n_chunks:,} chunks. {_RESTORE}"
            )
        return cls(
            path=path,
            n_samples=n_samples,
            n_variants=n_variants,
            chunk_variants=chunk_variants,
            encoding=encoding,
            attributes=attributes,
            chunk_crc32c=crcs,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return GenotypeStore, tuple(getattr(self, each.name) for each in fields(self))

    def __dask_tokenize__(self) -> tuple[str, str, str]:
        return "GenotypeStore", str(self.path), self.fingerprint

    @property
    def fingerprint(self) -> str:
        """Hash of the content: samples, variants and genotypes."""
        return str(self.attributes["fingerprint"])

    @property
    def encoded_bytes(self) -> int:
        """Bytes of all chunks of genotypes on disk."""
        return int(self.attributes["encoded_bytes"])

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.encoding.row_bytes(self.n_samples)

    @property
    def n_chunks(self) -> int:
        """Number of chunks of genotypes."""
        return len(self.chunk_crc32c)

    def chunk_range(self, chunk: int) -> tuple[int, int]:
        """Give the half-open range of variants of a chunk; IndexError when there is no such chunk."""
        return chunk_range(chunk, self.chunk_variants, self.n_variants)

    def read_encoded(self, chunk: int) -> bytes:
        """Read the bytes of a chunk as they are on disk, checked against their CRC-32C.

        Raises
        ------
        DamagedStoreError
            When they are missing or changed; names the chunk, its variants and its file.
        InputFileError
            When the file cannot be read.
        """
        start, stop = self.chunk_range(chunk)
        expected = int(self.chunk_crc32c[chunk])
        what = f"chunk {chunk} (variants {start + 1:,} to {stop:,})"
        return _read_file(self.path, chunk_path(self.encoding, chunk), expected, what)

    def decode(self, chunk: int, encoded: bytes) -> Rows:
        """Decompress the bytes of a chunk into rows (variants of the chunk, width)."""
        start, stop = self.chunk_range(chunk)
        rows = np.empty((self.chunk_variants, self.encoding.width(self.n_samples)), self.encoding.dtype)
        Zstd().decode(encoded, out=rows)
        return rows[: stop - start]

    def read_rows(self, chunk: int) -> Rows:
        """Read the encoded rows of a chunk.

        Raises
        ------
        DamagedStoreError
            When the chunk is missing or changed; names the chunk, its variants and its file.
        InputFileError
            When the file cannot be read.

        Notes
        -----
        **Cost**: one read, one checksum and one decompression; about 1.5·10⁹ bytes of rows per second and core.
        """
        return self.decode(chunk, self.read_encoded(chunk))

    def read_quality(self, variants: NDArray[np.int64]) -> Quality | None:
        """Return the imputation quality of variants; None for a store of hard calls."""
        if not self.encoding.is_dosage:
            return None
        return Quality(info=self.info[variants], r2=self.r2[variants])

    @cached_property
    def sample_id(self) -> NDArray[np.str_]:
        """Identifier of each sample, unique."""
        return np.array(self.read_table(schema.SAMPLE_ID).tolist(), dtype=np.str_)

    @cached_property
    def family_id(self) -> NDArray[np.str_]:
        """Family of each sample."""
        return np.array(self.read_table(schema.SAMPLE_FAMILY_ID).tolist(), dtype=np.str_)

    @cached_property
    def sex(self) -> NDArray[np.int8]:
        """Sex of each sample: 0 unknown, 1 male, 2 female."""
        return self.read_table(schema.SAMPLE_SEX)

    @cached_property
    def contig_id(self) -> tuple[str, ...]:
        """Contig names, normalised (`1`, not `chr1`), in natural order; those that were appended come last."""
        return tuple(self.read_table(schema.CONTIG_ID).tolist())

    @property
    def samples(self) -> SampleTable:
        """Who the samples are."""
        return SampleTable(self.sample_id, self.family_id, self.sex)

    @property
    def variants(self) -> VariantTable:
        """What the variants are, in order."""
        places = (self.variant_contig, self.contig_id, self.variant_position)
        return VariantTable(*places, self.variant_id, self.ref, self.alt)

    @cached_property
    def variant_contig(self) -> NDArray[np.int32]:
        """Index into `contig_id` of each variant."""
        return self.read_table(schema.VARIANT_CONTIG)

    @cached_property
    def variant_position(self) -> NDArray[np.int64]:
        """Position of each variant in base pairs, 1-based."""
        return self.read_table(schema.VARIANT_POSITION)

    @cached_property
    def variant_id(self) -> Strings:
        """Identifier of each variant as in the input."""
        return self.read_table(schema.VARIANT_ID)

    @property
    def ref(self) -> Strings:
        """Other allele of each variant."""
        return self._alleles[:, 0]

    @property
    def alt(self) -> Strings:
        """Effect allele of each variant, whose copies are counted."""
        return self._alleles[:, 1]

    @cached_property
    def alt_count(self) -> NDArray[np.int32]:
        """Copies of ALT among the calls of each variant; in stores of calls only."""
        return self.read_table(schema.VARIANT_ALT_COUNT)

    @cached_property
    def het_count(self) -> NDArray[np.int32]:
        """Samples with exactly one copy of ALT, for each variant; in stores of calls only."""
        return self.read_table(schema.VARIANT_HET_COUNT)

    @cached_property
    def missing_count(self) -> NDArray[np.int32]:
        """Samples without a genotype, for each variant."""
        return self.read_table(schema.VARIANT_MISSING_COUNT)

    @cached_property
    def dosage_sum(self) -> NDArray[np.float64]:
        """Sum of the dosages of each variant; copies of ALT in a store of calls."""
        if self.encoding.is_dosage:
            return self.read_table(schema.VARIANT_DOSAGE_SUM)
        return self.alt_count.astype(np.float64)

    @cached_property
    def dosage_squares(self) -> NDArray[np.float64]:
        """Sum of the squared dosages of each variant."""
        if self.encoding.is_dosage:
            return self.read_table(schema.VARIANT_DOSAGE_SQUARES)
        return np.float64(2) * self.alt_count - self.het_count  # het + 4 hom, where alt = het + 2 hom

    @cached_property
    def info(self) -> NDArray[np.float32]:
        """IMPUTE's INFO of each variant; in stores of dosages only."""
        return self.read_table(schema.VARIANT_INFO)

    @cached_property
    def r2(self) -> NDArray[np.float32]:
        """Minimac's R² of each variant; in stores of dosages only."""
        return self.read_table(schema.VARIANT_R2)

    @cached_property
    def _alleles(self) -> Strings:
        return self.read_table(schema.VARIANT_ALLELE)

    def read_table(self, name: str) -> NDArray[Any]:
        """Read one of the arrays of `schema.STORE_VARIABLES` other than the genotypes, checked against its checksums."""
        return _read_checked(self.path, self.attributes["checksums"], name)


def is_unfinished(path: Path) -> bool:
    """Whether a store is being written at `path` itself, as on object stores, where nothing can be renamed."""
    if not is_remote(path) or (path / "zarr.json").is_file():
        return False
    return path.with_name(path.name + ".partial").is_dir()


def is_store(path: Path) -> bool:
    """Whether there is a store at `path`, of any version, intact or not."""
    try:
        return '"biolmm_format"' in (path / "zarr.json").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


def read_attributes(path: Path) -> dict[str, Any]:
    """Read the attributes of the group, checked against their CRC-32C; raises as `GenotypeStore.open`."""
    partial, before = (path.with_name(path.name + suffix) for suffix in (".partial", ".before"))
    if not path.exists():
        hint = f" ({partial.name} is unfinished: run the command that writes it again)" if partial.exists() else ""
        hint = f" (it is at {before.name}: appending to it was stopped; append again)" if before.exists() else hint
        raise InputFileError(f"{path}: no such store{hint}.")
    try:
        attributes = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
    except (FileNotFoundError, NotADirectoryError):
        if is_unfinished(path):
            raise InputFileError(
                f"{path}: no such store (it is unfinished: run the command that writes it again)."
            ) from None
        raise StoreFormatError(f"{path} is not a store: it has no zarr.json. Make one with biolmm convert.") from None
    except OSError as error:
        raise InputFileError(f"{path / 'zarr.json'} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError):
        raise DamagedStoreError(f"{path} is damaged: zarr.json is not a Zarr group's metadata. {_RESTORE}") from None
    if not isinstance(attributes, dict) or "biolmm_format" not in attributes:
        raise StoreFormatError(f"{path} is a Zarr group but not a biolmm store. Make one with biolmm convert.")
    found = attributes["biolmm_format"]
    if found != schema.FORMAT_VERSION:
        raise StoreFormatError(
            f"{path} has store format {found}; this biolmm reads format {schema.FORMAT_VERSION}. "
            "Use the biolmm that wrote it, or convert the genotypes again."
        )
    for name in ("checksums", "fingerprint", "encoded_bytes", "encoding", ATTRIBUTES_CRC32C):
        if name not in attributes:
            raise DamagedStoreError(f"{path} is damaged: its attribute {name!r} is missing. {_RESTORE}")
    found, expected = attributes_crc32c(attributes), attributes[ATTRIBUTES_CRC32C]
    if found != expected:
        raise DamagedStoreError(
            f"{path} is damaged: the attributes in its zarr.json have CRC-32C {found:08x} where {expected} was written. "
            f"{_RESTORE}"
        )
    return attributes


def _read_checked(path: Path, checksums: Mapping[str, int], name: str) -> NDArray[Any]:
    return decode_array(lambda file: _read_checked_bytes(path, checksums, f"{name}/{file}"))


def _read_checked_bytes(path: Path, checksums: Mapping[str, int], file: str) -> bytes:
    if file not in checksums:
        raise DamagedStoreError(f"{path} is damaged: it has no checksum of {file}. {_RESTORE}")
    return _read_file(path, file, checksums[file], file)


def _read_file(path: Path, file: str, expected: int, what: str) -> bytes:
    try:
        content = (path / file).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise DamagedStoreError(f"{path} is damaged: {what} is missing. {_where(file, what)}{_RESTORE}") from None
    except OSError as error:
        raise InputFileError(f"{path / file} cannot be read: {error.strerror}.") from error
    found = google_crc32c.value(content)
    if found != expected:
        raise DamagedStoreError(
            f"{path} is damaged: {what} has CRC-32C {found:08x} in {len(content):,} bytes where {expected:08x} was "
            f"written. {_where(file, what)}{_RESTORE}"
        )
    return content


def _where(file: str, what: str) -> str:
    return "" if file == what else f"Its file is {file}. "
