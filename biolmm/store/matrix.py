"""A symmetric matrix over samples on disk, in square tiles: reading it, trusting nothing that its checksums do not confirm.

A Zarr v3 group. `relatedness` is (layers, samples, samples); only the tiles on and above the diagonal are there, others
open as NaN. Layer 0 is the whole; further layers are contigs. `pair_weight`, where there is one, is what the sum over
variants of each pair was divided by. `sample_id sample_family_id layer_id layer_m layer_n_variants` are small arrays, and
`relatedness_crc32c pair_weight_crc32c` the checksums of the tiles, (layers, bands, bands). The attributes hold settings,
provenance, a fingerprint and the CRC-32C of every other file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from biolmm.errors import DamagedStoreError, InputFileError, StoreFormatError
from biolmm.store.identity import ATTRIBUTES_CRC32C, attributes_crc32c
from biolmm.store.in_memory import decode_array

MATRIX_FORMAT = 1
FORMAT_ATTRIBUTE = "biolmm_matrix_format"
"""Attribute that tells a matrix, and the version of its layout."""

RELATEDNESS = "relatedness"
PAIR_WEIGHT = "pair_weight"
COMPRESSED = (PAIR_WEIGHT,)
"""Arrays whose tiles are compressed; the digits of relatedness are noise."""
WHOLE = "*"
"""Name of the layer of all variants."""

_NEEDED = ("checksums", "fingerprint", "n_samples", "tile_samples", "arrays", "dtype", ATTRIBUTES_CRC32C)
_RESTORE = "Restore it from a backup, or compute it again with --overwrite."


def tile_path(array: str, layer: int, row: int, column: int) -> str:
    """Name the file of a tile within the group.

    Examples
    --------
    >>> tile_path("relatedness", 0, 1, 3)
    'relatedness/c/0/1/3'
    """
    return f"{array}/c/{layer}/{row}/{column}"


@dataclass(frozen=True)
class TileGrid:
    """How samples are cut into bands, and pairs of samples into tiles.

    Attributes
    ----------
    n_samples
        N.
    tile_samples
        Samples of every band but the last.
    """

    n_samples: int
    tile_samples: int

    @property
    def n_bands(self) -> int:
        """Number of bands.

        Examples
        --------
        >>> TileGrid(130, 64).n_bands
        3
        """
        return -(-self.n_samples // self.tile_samples)

    def band(self, index: int) -> slice:
        """Give the samples of a band.

        Examples
        --------
        >>> TileGrid(130, 64).band(2)
        slice(128, 130, None)
        """
        return slice(index * self.tile_samples, min((index + 1) * self.tile_samples, self.n_samples))

    def shape(self, row: int, column: int) -> tuple[int, int]:
        """Give the rows and columns of a tile."""
        rows, columns = self.band(row), self.band(column)
        return rows.stop - rows.start, columns.stop - columns.start

    def tiles(self) -> list[tuple[int, int]]:
        """List the tiles on and above the diagonal, row by row.

        Examples
        --------
        >>> TileGrid(130, 64).tiles()
        [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
        """
        return [(i, j) for i in range(self.n_bands) for j in range(i, self.n_bands)]


@dataclass(frozen=True, eq=False)
class MatrixStore:
    """A finished matrix: its small arrays, read when first asked for, and its tiles. Cheap to send to other processes."""

    path: Path
    attributes: Mapping[str, Any] = field(repr=False)

    @classmethod
    def open(cls, path: Path | str) -> MatrixStore:
        """Open a matrix.

        Raises
        ------
        InputFileError
            When there is nothing at `path`, or it cannot be read.
        StoreFormatError
            When it is something else, or of a version that this biolmm does not know.
        DamagedStoreError
            When its metadata are damaged.
        """
        path = Path(path).absolute()
        return cls(path, read_matrix_attributes(path))

    def __dask_tokenize__(self) -> tuple[str, str, str]:
        return "MatrixStore", str(self.path), self.fingerprint

    @property
    def grid(self) -> TileGrid:
        """How it is cut."""
        return TileGrid(int(self.attributes["n_samples"]), int(self.attributes["tile_samples"]))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its numbers."""
        return np.dtype(str(self.attributes["dtype"]))

    @property
    def fingerprint(self) -> str:
        """Hash of samples, layers and tiles."""
        return str(self.attributes["fingerprint"])

    @property
    def has_pair_weights(self) -> bool:
        """Whether each pair was divided by a weight of its own."""
        return PAIR_WEIGHT in self.attributes["arrays"]

    @cached_property
    def sample_id(self) -> NDArray[np.str_]:
        """(N,) identifiers."""
        return np.array(self.table("sample_id").tolist(), np.str_)

    @cached_property
    def family_id(self) -> NDArray[np.str_]:
        """(N,) families."""
        return np.array(self.table("sample_family_id").tolist(), np.str_)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers: `*`, then contigs."""
        return tuple(self.table("layer_id").tolist())

    @cached_property
    def layer_m(self) -> NDArray[np.float64]:
        """(n_layers,) sum of the variants' weights, the m of `K = ZᵀZ / m`."""
        return np.asarray(self.table("layer_m"), np.float64)

    @cached_property
    def layer_n_variants(self) -> NDArray[np.int64]:
        """(n_layers,) variants that vary."""
        return np.asarray(self.table("layer_n_variants"), np.int64)

    @cached_property
    def _crc32c(self) -> dict[str, NDArray[np.uint32]]:
        bands = self.grid.n_bands
        found = {name: self.table(f"{name}_crc32c") for name in self.attributes["arrays"]}
        for name, sums in found.items():
            if sums.shape != (len(self.layers), bands, bands):
                raise DamagedStoreError(
                    f"{self.path} is damaged: {name}_crc32c has shape {sums.shape} for {len(self.layers)} layers of "
                    f"{bands} × {bands} tiles. {_RESTORE}"
                )
        return found

    def table(self, name: str) -> NDArray[Any]:
        """Read one of the small arrays, checked against its checksums.

        Raises
        ------
        DamagedStoreError
            When a file of it is missing or has changed.
        """

        def read(file: str) -> bytes:
            full = f"{name}/{file}"
            if full not in self.attributes["checksums"]:
                raise DamagedStoreError(f"{self.path} is damaged: it has no checksum of {full}. {_RESTORE}")
            return _read_checked(self.path, full, self.attributes["checksums"][full], full)

        return decode_array(read)

    def read_tile(self, array: str, layer: int, row: int, column: int) -> NDArray[Any]:
        """Read a tile on or above the diagonal, (rows of band `row`, columns of band `column`).

        Raises
        ------
        DamagedStoreError
            When it is missing or changed; names its file.
        InputFileError
            When the file cannot be read.

        Notes
        -----
        **Cost**: one read and one checksum of `tile_samples²` numbers; what is returned cannot be written to.
        """
        side = self.grid.tile_samples
        file = tile_path(array, layer, row, column)
        content = _read_checked(self.path, file, int(self._crc32c[array][layer, row, column]), f"tile {row}, {column}")
        try:
            decoded = Zstd().decode(content) if array in COMPRESSED else content
            tile = np.frombuffer(decoded, self.dtype).reshape(side, side)
        except (ValueError, RuntimeError) as error:
            raise DamagedStoreError(f"{self.path} is damaged: {file} cannot be decoded. {_RESTORE}") from error
        n_rows, n_columns = self.grid.shape(row, column)
        return tile[:n_rows, :n_columns]


def is_matrix(path: Path) -> bool:
    """Whether a folder holds a matrix of this or another version of biolmm, damaged or not."""
    try:
        return FORMAT_ATTRIBUTE in json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_matrix_attributes(path: Path) -> dict[str, Any]:
    """Read the attributes of the group, checked against their CRC-32C; raises as `MatrixStore.open`."""
    if not path.exists():
        partial = path.with_name(path.name + ".partial")
        hint = f" ({partial.name} is unfinished: run the command that writes it again)" if partial.exists() else ""
        raise InputFileError(f"{path}: no such relatedness matrix{hint}.")
    try:
        attributes = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
    except (FileNotFoundError, NotADirectoryError):
        raise StoreFormatError(
            f"{path} is not a relatedness matrix: it has no zarr.json. Make one with biolmm grm."
        ) from None
    except OSError as error:
        raise InputFileError(f"{path / 'zarr.json'} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError):
        raise DamagedStoreError(f"{path} is damaged: zarr.json is not a Zarr group's metadata. {_RESTORE}") from None
    if not isinstance(attributes, dict) or FORMAT_ATTRIBUTE not in attributes:
        raise StoreFormatError(f"{path} is a Zarr group but not a relatedness matrix. Make one with biolmm grm.")
    if attributes[FORMAT_ATTRIBUTE] != MATRIX_FORMAT:
        raise StoreFormatError(
            f"{path} has matrix format {attributes[FORMAT_ATTRIBUTE]}; this biolmm reads format {MATRIX_FORMAT}. "
            "Use the biolmm that wrote it, or compute it again."
        )
    absent = [name for name in _NEEDED if name not in attributes]
    if absent:
        raise DamagedStoreError(f"{path} is damaged: its attribute {absent[0]!r} is missing. {_RESTORE}")
    found = attributes_crc32c(attributes)
    if found != attributes[ATTRIBUTES_CRC32C]:
        raise DamagedStoreError(
            f"{path} is damaged: the attributes in its zarr.json have CRC-32C {found:08x}, not what was written. {_RESTORE}"
        )
    return attributes


def _read_checked(path: Path, file: str, expected: int, what: str) -> bytes:
    try:
        content = (path / file).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise DamagedStoreError(f"{path} is damaged: {what} is missing ({file}). {_RESTORE}") from None
    except OSError as error:
        raise InputFileError(f"{path / file} cannot be read: {error.strerror}.") from error
    found = google_crc32c.value(content)
    if found != expected:
        raise DamagedStoreError(
            f"{path} is damaged: {what} has CRC-32C {found:08x} in {len(content):,} bytes where {expected:08x} was "
            f"written ({file}). {_RESTORE}"
        )
    return content
