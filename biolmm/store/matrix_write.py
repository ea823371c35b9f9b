"""Writing a symmetric matrix tile by tile, so that it can be killed at any moment and continued.

Aside, in `<path>.partial`, as a store of genotypes (`biolmm.store.write`): `key.json`, `store/`, `scratch/`, and
`markers/<row>-<column>.json`, written after a tile of every layer and array is: their CRC-32C and sizes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from biolmm.atomic import saving, write_whole
from biolmm.errors import BiolmmError, OutputError, named
from biolmm.places import is_remote, remove_tree
from biolmm.store.identity import ATTRIBUTES_CRC32C, attributes_crc32c, biolmm_version
from biolmm.store.in_memory import GroupInMemory
from biolmm.store.layout import ZSTD_LEVEL
from biolmm.store.matrix import (
    COMPRESSED,
    FORMAT_ATTRIBUTE,
    MATRIX_FORMAT,
    TileGrid,
    is_matrix,
    read_matrix_attributes,
    tile_path,
)
from biolmm.store.write import clear_aside

_GROUP = "zarr.json"
_DIMENSIONS = {
    "sample_id": "samples_0", "sample_family_id": "samples_0", "layer_id": "layers", "layer_m": "layers",
    "layer_n_variants": "layers",
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One file of a tile: its place, its CRC-32C and its size."""

    array: str
    layer: int
    crc32c: int
    n_bytes: int


@dataclass(frozen=True, eq=False)
class MatrixTables:
    """Whom a matrix is about, and what its layers are made of.

    Attributes
    ----------
    sample_id, family_id
        (N,).
    layers
        `*`, then contigs.
    layer_m, layer_n_variants
        (n_layers,) weights and number of their variants.
    """

    sample_id: NDArray[np.str_]
    family_id: NDArray[np.str_]
    layers: tuple[str, ...]
    layer_m: NDArray[np.float64]
    layer_n_variants: NDArray[np.int64]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return them as they are stored."""
        text = np.dtypes.StringDType()
        return {
            "sample_id": np.array(self.sample_id.tolist(), text),
            "sample_family_id": np.array(self.family_id.tolist(), text),
            "layer_id": np.array(self.layers, text),
            "layer_m": np.asarray(self.layer_m, np.float64),
            "layer_n_variants": np.asarray(self.layer_n_variants, np.int64),
        }

    def digest(self) -> str:
        """Hash all of them."""
        digest = hashlib.sha256()
        for values in self.arrays().values():
            content = "\n".join(map(str, values.tolist())).encode()
            digest.update(b"%d\n" % len(content) + content)
        return digest.hexdigest()


@dataclass(frozen=True)
class MatrixWriter:
    """Writes one matrix; cheap to send to threads and processes, which may write different tiles at the same time."""

    path: Path
    grid: TileGrid
    arrays: tuple[str, ...]
    n_layers: int
    dtype: str = "float32"
    key: str = ""

    @classmethod
    def begin(
        cls,
        path: Path | str,
        tables: MatrixTables,
        *,
        tile_samples: int,
        arrays: Sequence[str],
        key: str,
        attributes: Mapping[str, Any],
        dtype: str = "float32",
    ) -> MatrixWriter:
        """Start a matrix aside, or continue one that was begun with the same `key`.

        One that is finished at `path`, of the same key, stays: all its tiles are there, and `publish` does nothing.

        Parameters
        ----------
        path
            Where it will be after `publish`.
        tables
            Samples and layers.
        tile_samples
            Side of a tile.
        arrays
            Names of the arrays that every tile has.
        key
            Hash of everything that decides the content; this adds the layout.
        attributes
            Settings and provenance, as JSON.

        Raises
        ------
        OutputError
            When there is something else at `path`, it is on an object store, or nothing can be written there.
        """
        if is_remote(Path(path)):
            raise OutputError(
                f"{path}: a relatedness matrix is written to a local folder; copy it when it is finished."
            )
        path = Path(path).absolute()
        layout = json.dumps([MATRIX_FORMAT, tile_samples, list(arrays), dtype])
        full = hashlib.sha256((layout + key + tables.digest()).encode()).hexdigest()
        grid = TileGrid(len(tables.sample_id), tile_samples)
        writer = cls(path, grid, tuple(arrays), len(tables.layers), dtype, full)
        if writer.is_published:
            return writer
        if is_matrix(path):
            raise OutputError(
                f"{path} exists already and is of other inputs or options, or damaged: choose another name, or pass "
                "--overwrite to replace it."
            )
        if path.exists():
            raise OutputError(f"{path} exists and is not a relatedness matrix: choose another name or move it.")
        with saving(path):
            if writer._begun_with(full):
                return writer
            clear_aside(path)
            writer._lay_out(tables, {"key": full, "tables": tables.digest(), "attributes": dict(attributes)})
        return writer

    @property
    def aside(self) -> Path:
        """Folder in which it is built."""
        return self.path.with_name(self.path.name + ".partial")

    @property
    def is_published(self) -> bool:
        """Whether the finished matrix is in its place already."""
        try:
            return bool(read_matrix_attributes(self.path)["biolmm_key"] == self.key)
        except (BiolmmError, KeyError):
            return False

    def finished_tiles(self) -> set[tuple[int, int]]:
        """Find the tiles whose marker is whole and whose files have the sizes in it; all of a finished matrix."""
        if self.is_published:
            return set(self.grid.tiles())
        return {tile for tile in self.grid.tiles() if self._read_marker(*tile) is not None}

    def write_part(self, array: str, layer: int, row: int, column: int, values: NDArray[Any]) -> Part:
        """Compress and write one layer of one array of a tile.

        Raises
        ------
        OutputError
            When the file cannot be written.
        ValueError
            When `values` have another shape.
        """
        if values.shape != self.grid.shape(row, column):
            raise ValueError(f"tile {row}, {column} is {self.grid.shape(row, column)}, not {values.shape}")
        side = self.grid.tile_samples
        whole = np.ascontiguousarray(values, self.dtype)
        if whole.shape != (side, side):
            whole = np.full((side, side), np.nan, np.dtype(self.dtype))
            whole[: values.shape[0], : values.shape[1]] = values
        encoded = Zstd(level=ZSTD_LEVEL, checksum=True).encode(whole) if array in COMPRESSED else whole.tobytes()
        target = self.aside / "store" / tile_path(array, layer, row, column)
        with saving(self.path):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._write(target, encoded)
        return Part(array, layer, google_crc32c.value(encoded), len(encoded))

    def mark(self, row: int, column: int, parts: Iterable[Part]) -> None:
        """Say that a tile is finished."""
        record = [[part.array, part.layer, part.crc32c, part.n_bytes] for part in parts]
        with saving(self.path):
            self._write(self._marker_path(row, column), json.dumps(record).encode())

    def publish(self) -> Path:
        """Write checksums and put the finished matrix in its place.

        Raises
        ------
        BiolmmError
            When tiles are missing.
        OutputError
            When it cannot be written, or something else has appeared in its place.
        """
        if self.is_published:
            return self.path
        markers = {tile: self._read_marker(*tile) for tile in self.grid.tiles()}
        missing = [f"({i}, {j})" for (i, j), parts in markers.items() if parts is None]
        if missing:
            raise BiolmmError(
                f"{self.path} is not finished: tiles {named(missing)} of {len(markers):,} are not written. "
                "Run the same command again: it continues."
            )
        if self.path.exists():
            raise OutputError(f"{self.path} has appeared while it was being written. Remove it and run again.")
        bands = self.grid.n_bands
        sums = {name: np.zeros((self.n_layers, bands, bands), np.uint32) for name in self.arrays}
        for (i, j), parts in markers.items():
            for part in parts or ():
                sums[part.array][part.layer, i, j] = part.crc32c
        with saving(self.path):
            written = {f"{name}_crc32c": values for name, values in sums.items()}
            self._write_arrays(written)
            self._write_attributes(sums)
            (self.aside / "store").rename(self.path)
            remove_tree(self.aside)
        return self.path

    def _begun_with(self, key: str) -> bool:
        try:
            begun = json.loads((self.aside / "key.json").read_text(encoding="utf-8"))
            return bool(begun["key"] == key) and all((self.aside / "store" / file).is_file() for file in begun["files"])
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _lay_out(self, tables: MatrixTables, begun: dict[str, Any]) -> None:
        for folder in ("markers", "scratch", "store"):
            (self.aside / folder).mkdir(parents=True)
        begun["files"] = self._write_arrays(tables.arrays()) + self._write_tiled()
        self._write(self.aside / "key.json", json.dumps(begun).encode())

    def _write_tiled(self) -> list[str]:
        """Write the metadata of the tiled arrays."""
        group = GroupInMemory()
        n, side = self.grid.n_samples, self.grid.tile_samples
        for name in self.arrays:
            group.group.create_array(
                name, shape=(self.n_layers, n, n), chunks=(1, side, side), dtype=self.dtype, fill_value=np.nan,
                compressors=[ZstdCodec(level=ZSTD_LEVEL, checksum=True)] if name in COMPRESSED else None,
                dimension_names=["layers", "samples_0", "samples_1"],
            )  # fmt: skip
        return self._take(group)

    def _write_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> list[str]:
        group = GroupInMemory()
        for name, values in arrays.items():
            dims = [_DIMENSIONS[name]] if name in _DIMENSIONS else ["layers", "bands_0", "bands_1"]
            array = group.group.create_array(
                name, shape=values.shape, chunks=values.shape, dtype=values.dtype, dimension_names=dims,
                compressors=[ZstdCodec(level=ZSTD_LEVEL, checksum=True)], config={"write_empty_chunks": True},
            )  # fmt: skip
            array[...] = values
        return self._take(group)

    def _take(self, group: GroupInMemory) -> list[str]:
        """Write the files of a group in memory to disk, but that of the group itself; name them."""
        written = []
        for file, content in group.take():
            if file == _GROUP:
                continue
            target = self.aside / "store" / file
            target.parent.mkdir(parents=True, exist_ok=True)
            self._write(target, content)
            written.append(file)
        return written

    def _write_attributes(self, sums: Mapping[str, NDArray[np.uint32]]) -> None:
        begun = json.loads((self.aside / "key.json").read_text(encoding="utf-8"))
        root = self.aside / "store"
        digest = hashlib.sha256(begun["tables"].encode())
        for name in self.arrays:
            digest.update(sums[name].astype("<u4").tobytes())
        files = [file for file in begun["files"] if (root / file).is_file()]
        files += [
            str(file.relative_to(root))
            for name in sums
            for file in (root / f"{name}_crc32c").rglob("*")
            if file.is_file()
        ]
        attributes: dict[str, Any] = {
            **begun["attributes"],
            FORMAT_ATTRIBUTE: MATRIX_FORMAT,
            "source": f"biolmm {biolmm_version()}",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "n_samples": self.grid.n_samples,
            "tile_samples": self.grid.tile_samples,
            "arrays": list(self.arrays),
            "dtype": self.dtype,
            "biolmm_key": begun["key"],
            "fingerprint": digest.hexdigest(),
            "checksums": {file: google_crc32c.value((root / file).read_bytes()) for file in sorted(files)},
        }
        attributes[ATTRIBUTES_CRC32C] = attributes_crc32c(attributes)
        metadata = json.loads(dict(GroupInMemory().take())[_GROUP])
        metadata["attributes"] = attributes
        self._write(root / _GROUP, json.dumps(metadata, indent=1).encode())

    def _marker_path(self, row: int, column: int) -> Path:
        return self.aside / "markers" / f"{row}-{column}.json"

    def _read_marker(self, row: int, column: int) -> list[Part] | None:
        try:
            parts = [Part(*fields) for fields in json.loads(self._marker_path(row, column).read_bytes())]
            sizes = [
                (self.aside / "store" / tile_path(part.array, part.layer, row, column)).stat().st_size for part in parts
            ]
        except (OSError, ValueError, TypeError):
            return None
        there = {(part.array, part.layer) for part in parts}
        whole = there == {(array, layer) for array in self.arrays for layer in range(self.n_layers)}
        return parts if whole and sizes == [part.n_bytes for part in parts] else None

    def _write(self, target: Path, content: bytes) -> None:
        write_whole(target, content, self.aside / "scratch")


def remove_matrix(path: Path) -> None:
    """Remove a matrix, damaged or not, but nothing that is not one; nothing happens where nothing is.

    Raises
    ------
    OutputError
        When something else is there, or it cannot be removed.
    """
    if not path.exists():
        return
    if not is_matrix(path):
        raise OutputError(f"{path} exists and is not a relatedness matrix: choose another name or move it.")
    with saving(path):
        for entry in path.iterdir():
            if entry.is_dir():
                remove_tree(entry)
        remove_tree(path)
