"""Opening a store of summary statistics, and reading it block by block; nothing is believed that its checksums deny."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import DamagedStoreError, InputFileError, ParameterError, StoreFormatError, named
from biolmm.store.identity import ATTRIBUTES_CRC32C, attributes_crc32c
from biolmm.store.in_memory import decode_array
from biolmm.sumstats.ingest.alleles import Alleles
from biolmm.sumstats.ingest.options import Rules
from biolmm.sumstats.matrix.layout import (
    ALLELE,
    CATALOGUE,
    CATALOGUE_CRC32C,
    CELLS,
    CELLS_CRC32C,
    CONTIG,
    FORMAT,
    FORMAT_ATTRIBUTE,
    catalogue_path,
    cell_path,
    cell_type,
    decode_alleles,
    decode_numbers,
    fill_of,
    seal_is_intact,
)
from biolmm.sumstats.meta.block import StudyBlock
from biolmm.sumstats.places import Contigs

if TYPE_CHECKING:
    import xarray as xr

_RESTORE = "Restore it from a backup, or add the studies again to a new store."
_NEEDED = ("checksums", "fingerprint", "n_variants", "chunk_variants", "exact", "rules", "studies", "others")


@dataclass(frozen=True, eq=False)
class Block:
    """Variants of a store with the numbers of some studies, (variants, studies), NaN where missing.

    Attributes
    ----------
    start
        The store's number of the first variant.
    contig
        (b,) indices into the store's `contig_id`.
    position
        (b,) 1-based.
    cells
        The columns that were asked for, by name.
    """

    start: int
    contig: NDArray[np.int32]
    position: NDArray[np.int64]
    cells: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        """Count the variants."""
        return len(self.position)

    def study_block(self) -> StudyBlock:
        """Give the numbers to the statistics, in double precision.

        Raises
        ------
        ParameterError
            When beta was not read.
        """
        if "beta" not in self.cells:
            raise ParameterError("The block has no beta: ask for the column.")
        names = {"beta": "beta", "se": "se", "eaf": "eaf", "n": "n", "neg_log10_p": "neg_log10_p"}
        return StudyBlock(**{to: self.cells[name] for name, to in names.items() if name in self.cells})


@dataclass(frozen=True, eq=False)
class SumstatsStore:
    """A finished store. Cheap to send to other processes; safe to read from several threads."""

    path: Path
    attributes: Mapping[str, Any] = field(repr=False)

    @classmethod
    def open(cls, path: Path | str) -> SumstatsStore:
        """Open a store.

        Raises
        ------
        InputFileError
            When there is nothing at the path.
        StoreFormatError
            When it is something else, or of a version that this biolmm does not know.
        DamagedStoreError
            When its attributes are damaged.
        """
        path = Path(path).absolute()
        return cls(path, read_attributes(path))

    def __dask_tokenize__(self) -> tuple[str, str, str]:
        return "SumstatsStore", str(self.path), self.fingerprint

    @property
    def fingerprint(self) -> str:
        """Hash of the content."""
        return str(self.attributes["fingerprint"])

    @property
    def n_variants(self) -> int:
        """Variants of the catalogue."""
        return int(self.attributes["n_variants"])

    @property
    def n_studies(self) -> int:
        """Studies."""
        return len(self.attributes["studies"])

    @property
    def chunk_variants(self) -> int:
        """Variants of every chunk but the last."""
        return int(self.attributes["chunk_variants"])

    @property
    def n_chunks(self) -> int:
        """Chunks of variants."""
        return -(-self.n_variants // self.chunk_variants)

    @property
    def exact(self) -> bool:
        """Whether numbers are in double precision, and every −log₁₀ p is kept."""
        return bool(self.attributes["exact"])

    @property
    def build(self) -> str | None:
        """GRCh37, GRCh38, or None where nobody said."""
        return self.attributes["build"]  # type: ignore[no-any-return]

    @property
    def rules(self) -> Rules:
        """How records were harmonised; the path of the reference is not kept."""
        given = dict(self.attributes["rules"])
        return Rules(**{**given, "grey_zone": tuple(given["grey_zone"]), "reference": None})

    @property
    def studies(self) -> tuple[Mapping[str, Any], ...]:
        """What is known of each study: name, source, counts by reason, warnings."""
        return tuple(self.attributes["studies"])

    @property
    def study_id(self) -> tuple[str, ...]:
        """Names of the studies, in the order of the columns."""
        return tuple(str(study["name"]) for study in self.attributes["studies"])

    @cached_property
    def contig_id(self) -> tuple[str, ...]:
        """Names of contigs, in genome order."""
        contigs = Contigs(list(self.attributes["others"]))
        return tuple(contigs.name(int(rank)) for rank in self.contig_ranks)

    @property
    def contig_ranks(self) -> list[int]:
        """Rank of each contig, ascending."""
        return [int(rank) for rank in self.attributes["contig_ranks"]]

    @cached_property
    def first_places(self) -> NDArray[np.uint64]:
        """Place of each chunk's first variant."""
        return self.table("chunk_first_place")

    def chunk_range(self, chunk: int) -> tuple[int, int]:
        """Give the half-open range of variants of a chunk."""
        return chunk * self.chunk_variants, min((chunk + 1) * self.chunk_variants, self.n_variants)

    def table(self, name: str) -> NDArray[Any]:
        """Read one of the small arrays whole.

        Raises
        ------
        DamagedStoreError
            When a file is missing or has changed.
        """
        import google_crc32c

        sums = self.attributes["checksums"]

        def read(file: str) -> bytes:
            content = self._content(f"{name}/{file}")
            if google_crc32c.value(content) != sums.get(f"{name}/{file}"):
                raise self._damage(f"{name}/{file}", "has changed since it was written")
            return content

        return decode_array(read)

    @cached_property
    def _crc32c(self) -> dict[str, NDArray[np.uint32]]:
        return {name: self.table(name) for name in (CATALOGUE_CRC32C, CELLS_CRC32C)}

    def chunk_crc32c(self, name: str, chunk: int, study: int = 0) -> int:
        """Give the checksum that a chunk has to have; 0 where there is none because all is missing."""
        if name in CATALOGUE:
            return int(self._crc32c[CATALOGUE_CRC32C][CATALOGUE.index(name), chunk])
        return int(self._crc32c[CELLS_CRC32C][CELLS.index(name), chunk, study])

    def read_column(self, name: str, chunk: int) -> NDArray[Any]:
        """Read a chunk of a numeric array over variants.

        Raises
        ------
        DamagedStoreError
            When the file is missing or has changed.
        """
        start, stop = self.chunk_range(chunk)
        content = self._checked(catalogue_path(name, chunk), self.chunk_crc32c(name, chunk))
        return decode_numbers(content, cell_type(name, self.exact))[: stop - start]

    def read_alleles(self, chunk: int) -> Alleles:
        """Read REF and ALT of a chunk, REF first.

        Raises
        ------
        DamagedStoreError
            When the file is missing or has changed.
        """
        start, stop = self.chunk_range(chunk)
        content = self._checked(catalogue_path(ALLELE, chunk), self.chunk_crc32c(ALLELE, chunk))
        return decode_alleles(content, stop - start)

    def read_cells(self, name: str, chunk: int, study: int) -> NDArray[Any]:
        """Read a chunk of one study's numbers, of the store's type.

        Raises
        ------
        DamagedStoreError
            When the file is missing or has changed.
        """
        start, stop = self.chunk_range(chunk)
        kind, crc = cell_type(name, self.exact), self.chunk_crc32c(name, chunk, study)
        if not crc:
            return np.full(stop - start, fill_of(kind), kind)
        return decode_numbers(self._checked(cell_path(name, chunk, study), crc), kind)[: stop - start]

    def find_studies(self, names: Sequence[str | int] | None) -> list[int]:
        """Give the columns of studies, by name or number; all by default.

        Raises
        ------
        ParameterError
            When there is no such study.
        """
        if names is None:
            return list(range(self.n_studies))
        known = {name: at for at, name in enumerate(self.study_id)}
        wrong = [n for n in names if n not in known and not (isinstance(n, int) and 0 <= n < self.n_studies)]
        if wrong:
            raise ParameterError(f"{self.path} has no study {named(wrong)}; it has {named(self.study_id, 10)}.")
        return [n if isinstance(n, int) else known[n] for n in names]

    def blocks(self, studies: Sequence[str | int] | None = None, columns: Sequence[str] = ("beta", "se"),
               chunks: Sequence[int] | None = None) -> Iterator[Block]:  # fmt: skip
        """Read variants in genome order, chunk by chunk, with the numbers of some studies side by side.

        Parameters
        ----------
        studies
            Names or numbers, in the order wanted; all by default.
        columns
            Of `beta se eaf info n neg_log10_p status`.
        chunks
            Numbers of chunks; all by default. Give each worker its own.

        Raises
        ------
        ParameterError
            When there is no such study or column.
        DamagedStoreError
            When a chunk is damaged.

        Notes
        -----
        **Cost**: one read of the columns asked for; memory 4 bytes (8 if exact) × chunk × studies × columns.
        """
        unknown = [name for name in columns if name not in CELLS]
        if unknown:
            raise ParameterError(f"There is no column {named(unknown)}; there are {named(CELLS, 9)}.")
        chosen = self.find_studies(studies)
        for chunk in range(self.n_chunks) if chunks is None else chunks:
            yield self.read_block(chunk, chosen, columns)

    def read_block(self, chunk: int, studies: Sequence[int], columns: Sequence[str]) -> Block:
        """Read one chunk of some studies; see `blocks`."""
        start, stop = self.chunk_range(chunk)
        cells = {}
        for name in columns:
            values = np.empty((stop - start, len(studies)), cell_type(name, self.exact))
            for at, study in enumerate(studies):
                values[:, at] = self.read_cells(name, chunk, study)
            cells[name] = values
        return Block(start, self.read_column(CONTIG, chunk), self.read_column("variant_position", chunk), cells)

    def to_dataset(self) -> xr.Dataset:
        """Open as a lazy xarray Dataset; Zarr compares the checksum of every chunk that it reads."""
        import xarray as xr

        dataset = xr.open_zarr(self.path, consolidated=False, chunks=None)
        dropped = [name for name in ("chunk_first_place", CATALOGUE_CRC32C, CELLS_CRC32C) if name in dataset]
        dataset = dataset.drop_vars(dropped).set_coords(["study_id", *CATALOGUE, "contig_id"])
        dataset.attrs = {"biolmm_sumstats": str(self.path), "fingerprint": self.fingerprint, "build": self.build or ""}
        labelled: xr.Dataset = dataset.assign_coords(studies=list(self.study_id))
        return labelled

    def _checked(self, file: str, crc32c: int) -> bytes:
        content = self._content(file)
        if not seal_is_intact(content, crc32c):
            raise self._damage(file, "has changed since it was written")
        return content

    def _content(self, file: str) -> bytes:
        try:
            return (self.path / file).read_bytes()
        except OSError as error:
            what = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise self._damage(file, what) from None

    def _damage(self, file: str, what: str) -> DamagedStoreError:
        return DamagedStoreError(f"{self.path} is damaged: {file} {what}. {_RESTORE}")


def open_sumstats(path: Path | str) -> xr.Dataset:
    """Open a store of summary statistics as a lazy xarray Dataset, variants × studies; nothing is read before it is used.

    Raises
    ------
    InputFileError, StoreFormatError, DamagedStoreError
        As `SumstatsStore.open`.
    """
    return SumstatsStore.open(path).to_dataset()


def read_attributes(path: Path) -> dict[str, Any]:
    """Read the attributes of a store and check them.

    Raises
    ------
    InputFileError, StoreFormatError, DamagedStoreError
        As `SumstatsStore.open`.
    """
    try:
        metadata = json.loads((path / "zarr.json").read_bytes())
        attributes: dict[str, Any] = metadata["attributes"]
    except (FileNotFoundError, NotADirectoryError):
        if path.exists():
            raise StoreFormatError(
                f"{path} is no store of summary statistics: make one with `biolmm sumstats add`."
            ) from None
        raise InputFileError(f"{path} does not exist: make it with `biolmm sumstats add`.") from None
    except OSError as error:
        raise InputFileError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, KeyError, TypeError):
        raise DamagedStoreError(f"{path} is damaged: zarr.json cannot be parsed. {_RESTORE}") from None
    version = attributes.get(FORMAT_ATTRIBUTE) if isinstance(attributes, dict) else None
    if version is None:
        raise StoreFormatError(f"{path} is a Zarr group, but no store of summary statistics.")
    if version != FORMAT:
        raise StoreFormatError(f"{path} has format {version}; this biolmm reads {FORMAT}. Update biolmm.")
    if attributes.get(ATTRIBUTES_CRC32C) != attributes_crc32c(attributes) or any(n not in attributes for n in _NEEDED):
        raise DamagedStoreError(f"{path} is damaged: its attributes have changed since they were written. {_RESTORE}")
    return attributes
