"""Arrays of a foreign Zarr group, of format 2 or 3, whose files are read here and only decoded by Zarr.

Zarr takes a chunk whose file is missing for fill values. Of genotypes these are homozygous reference as a rule, so that a
file lost while copying would pass for data. Here a missing file is an error, unless the caller says that fill values are
fine. Writers that leave out chunks of fill values alone (Zarr's `write_empty_chunks=False`) leave out no chunk of
genotypes where anyone differs from the reference; one that is left out all the same is refused too, with advice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import get_codec
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from biolmm.errors import InputFileError

MAX_CHUNK_BYTES = 2**31
"""Of a chunk unpacked, as Blosc has it; more is a damaged number."""

_PACKERS = ("blosc", "zstd", "gzip", "zlib", "lz4")
_METADATA = {3: "zarr.json", 2: ".zarray"}


@dataclass(frozen=True, eq=False)
class ForeignArray:
    """One array of a group on disk or in an object store; can be sent to other processes."""

    path: Path
    """The group."""
    name: str
    metadata: bytes = field(repr=False)
    zarr_format: int
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    """Of one file: a shard where there are shards."""

    @classmethod
    def open(cls, path: Path, name: str) -> ForeignArray:
        """Read the metadata of an array.

        Raises
        ------
        InputFileError
            When it is missing, unreadable or damaged.
        """
        zarr_format = next((each for each, file in _METADATA.items() if (path / name / file).is_file()), None)
        if zarr_format is None:
            raise InputFileError(f"{path} has no array {name}: it is incomplete, or not VCF Zarr.")
        file = _METADATA[zarr_format]
        try:
            metadata = (path / name / file).read_bytes()
        except OSError as error:
            raise InputFileError(f"{path / name / file} cannot be read: {error.strerror}.") from error
        try:
            array = _open(metadata, zarr_format, {})
            chunks = tuple(array.shards or array.chunks)
            size = int(np.prod(chunks, dtype=float)) * max(array.dtype.itemsize, 1)
        except Exception as error:  # whatever a damaged description makes of Zarr
            raise InputFileError(f"{path / name / file} is damaged: {_reason(error)}. Copy it again.") from error
        if size > MAX_CHUNK_BYTES or min(chunks, default=1) < 1:
            raise InputFileError(f"{path / name / file} is damaged: chunks of {chunks} values. Copy it again.")
        return cls(path, name, metadata, zarr_format, tuple(array.shape), chunks)

    @property
    def metadata_file(self) -> Path:
        """Where its metadata are."""
        return self.path / self.name / _METADATA[self.zarr_format]

    def check_files(self) -> None:
        """Raise `InputFileError` for the first chunk whose file is missing."""
        array = _open(self.metadata, self.zarr_format, {})
        for index in self._indices(tuple(slice(0, n) for n in self.shape)):
            if not (self.path / self.name / array.metadata.encode_chunk_key(index)).is_file():
                raise self._missing(array, index)

    def read(self, *part: slice, fill_missing: bool = False) -> NDArray[Any]:
        """Read a part: slices of the first dimensions, all of the others.

        Parameters
        ----------
        part
            Slices with a start and a stop.
        fill_missing
            Whether a chunk whose file is missing is fill values.

        Raises
        ------
        InputFileError
            When a file is missing, cannot be read, or cannot be decoded.

        Notes
        -----
        **Cost**: whole chunks are read and decoded.
        """
        part = (*part, *(slice(0, n) for n in self.shape[len(part) :]))
        files: dict[str, Any] = {}
        array = _open(self.metadata, self.zarr_format, files)
        from_bytes = default_buffer_prototype().buffer.from_bytes
        for index in self._indices(part):
            key = array.metadata.encode_chunk_key(index)
            try:
                files[key] = from_bytes((self.path / self.name / key).read_bytes())
            except FileNotFoundError:
                if not fill_missing:
                    raise self._missing(array, index) from None
            except OSError as error:
                raise InputFileError(f"{self.path / self.name / key} cannot be read: {error.strerror}.") from error
        try:
            if array.dtype.kind in "TO":
                self._check_counts(list(files.values())[1:])
            return np.asarray(array[part])
        except Exception as error:  # every codec has its own
            raise InputFileError(
                f"{self.path} is damaged: {self.name}, chunks {', '.join(files)}: {_reason(error)}. Copy it again."
            ) from error

    def _check_counts(self, chunks: list[Any]) -> None:
        """Check that chunks of texts hold as many as they should: their reader makes room for whatever they claim."""
        description = json.loads(self.metadata)
        codecs = description.get("codecs") or [{"name": "vlen-utf8"}, description.get("compressor")]
        packers = [each.get("name", each.get("id")) for each in codecs[1:] if each]
        if not all(name in _PACKERS for name in packers):
            return
        for chunk in chunks:
            content = chunk.to_bytes()
            for name in reversed(packers):
                content = bytes(get_codec({"id": name}).decode(content))
            found, expected = int.from_bytes(content[:4], "little"), int(np.prod(self.chunks))
            if found != expected:
                raise ValueError(f"{found:,} texts in a chunk of {expected:,}")

    def _indices(self, part: tuple[slice, ...]) -> Iterator[tuple[int, ...]]:
        """Give the chunks that a part touches."""
        return product(*(range(each.start // n, -(-each.stop // n)) for each, n in zip(part, self.chunks, strict=True)))

    def _missing(self, array: zarr.Array[Any], index: tuple[int, ...]) -> InputFileError:
        file = self.path / self.name / array.metadata.encode_chunk_key(index)
        return InputFileError(
            f"{file} is missing: a chunk of {self.name} was lost. Copy the store again. If the chunk was left out because "
            f"all its values are {array.fill_value}, write the store again with write_empty_chunks."
        )


def read_attributes(path: Path) -> dict[str, Any] | None:
    """Read the attributes of a Zarr group; None where there is no group, or what there is cannot be read."""
    for file, is_v3 in (("zarr.json", True), (".zattrs", False), (".zgroup", False)):
        try:
            content = json.loads((path / file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if not isinstance(content, dict) or (is_v3 and content.get("node_type") != "group"):
            return None
        attributes = content.get("attributes", {}) if is_v3 else content if file == ".zattrs" else {}
        return attributes if isinstance(attributes, dict) else {}
    return None


def array_names(path: Path, wanted: set[str]) -> set[str]:
    """Tell which of some arrays a group has."""
    return {name for name in wanted if any((path / name / file).is_file() for file in _METADATA.values())}


def _open(metadata: bytes, zarr_format: int, files: dict[str, Any]) -> zarr.Array[Any]:
    """Open an array in memory, unless one of its codecs would run what a file says."""
    description = json.loads(metadata)
    codecs = [description.get("compressor"), *(description.get("filters") or ()), *(description.get("codecs") or ())]
    if any("pickle" in str(codec) for codec in codecs):
        raise ValueError("its values are pickled objects, which are programs and are not read")
    files[_METADATA[zarr_format]] = default_buffer_prototype().buffer.from_bytes(metadata)
    array: zarr.Array[Any] = zarr.open_array(MemoryStore(files), mode="r", zarr_format=zarr_format)  # type: ignore[arg-type]
    return array


def _reason(error: Exception) -> str:
    """Say in one line what a library said."""
    return " ".join(str(error).split())[:200] or type(error).__name__
