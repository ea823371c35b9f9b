"""Labelled arrays of our own on disk: an xarray Dataset as Zarr, checksummed file by file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from biolmm.errors import DamagedStoreError

CHECKSUMS = "checksums"
_CHUNK_BYTES = 64 * 1024**2


def save_dataset(dataset: xr.Dataset, path: Path) -> None:
    """Write every variable with its dimension names, then the CRC-32C of every file into the attributes.

    Attributes must fit in JSON. An existing folder is not touched: the caller builds aside.
    """
    group = zarr.open_group(path, mode="w-", zarr_format=3)
    for name, variable in dataset.variables.items():
        _write(group, str(name), variable)
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.parent != path)
    sums = {str(file.relative_to(path)): google_crc32c.value(file.read_bytes()) for file in files}
    coordinates = [str(name) for name in dataset.coords]
    group.attrs.update({**dataset.attrs, "coordinates": coordinates, CHECKSUMS: json.dumps(sums)})


def open_dataset(path: Path) -> xr.Dataset:
    """Open what `save_dataset` wrote; arrays are read when they are used.

    Raises
    ------
    DamagedStoreError
        When a file is missing or has changed since it was written.
    """
    try:
        sums = json.loads(json.loads((path / "zarr.json").read_text())["attributes"][CHECKSUMS])
    except (OSError, ValueError, KeyError) as error:
        raise DamagedStoreError(
            f"'{path}' has no readable list of checksums: it is incomplete. Fit it again (with --overwrite)."
        ) from error
    for name, expected in sums.items():
        try:
            intact = google_crc32c.value((path / name).read_bytes()) == expected
        except OSError:
            intact = False
        if not intact:
            raise DamagedStoreError(
                f"'{path / name}' is missing or has changed since it was written: fit it again (with --overwrite)."
            )
    dataset = xr.open_zarr(path, consolidated=False, chunks=None)
    coordinates = dataset.attrs.pop("coordinates", [])
    dataset.attrs.pop(CHECKSUMS)
    labelled: xr.Dataset = dataset.set_coords(coordinates)
    return labelled


def _write(group: zarr.Group, name: str, variable: xr.Variable) -> None:
    values: NDArray[Any] = np.asarray(variable.values)
    if values.dtype.kind in "UO":
        values = values.astype(np.dtypes.StringDType())
    row_bytes = max(int(values[:1].nbytes), 1)
    rows = max(1, min(_CHUNK_BYTES // row_bytes, values.shape[0])) if values.ndim else 1
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=tuple(max(size, 1) for size in (rows, *values.shape[1:])) if values.ndim else (),
        dtype=values.dtype,
        compressors=[ZstdCodec(level=1, checksum=True)],
        dimension_names=[str(dim) for dim in variable.dims],
        attributes=dict(variable.attrs),
        config={"write_empty_chunks": True},
    )
    array[...] = values
