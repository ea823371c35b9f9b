"""A store from elsewhere cannot run code: arrays of pickled objects are refused before anything is unpickled."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from biolmm.errors import DamagedStoreError, InputFileError
from biolmm.store.arrays import open_dataset, save_dataset
from biolmm.store.vcz_arrays import ForeignArray


class _Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def trapped_array(folder: Path, trap: Path, **changed: object) -> None:
    """Write a Zarr array of format 2 whose one chunk is a pickle."""
    metadata = {
        "chunks": [2],
        "compressor": None,
        "dtype": "|O",
        "fill_value": None,
        "filters": [{"id": "pickle", "protocol": 5}],
        "order": "C",
        "shape": [2],
        "zarr_format": 2,
        **changed,
    }
    folder.mkdir(parents=True)
    (folder / ".zarray").write_text(json.dumps(metadata))
    content = np.array([str(trap), _Trap(str(trap))], dtype=object)
    (folder / "0").write_bytes(pickle.dumps(content, protocol=5))


def test_the_trap_works(tmp_path: Path) -> None:
    trapped_array(tmp_path / "a", tmp_path / "sprung")
    pickle.loads((tmp_path / "a" / "0").read_bytes())
    assert (tmp_path / "sprung").is_dir()


HIDDEN = (
    {},
    {"filters": [{"id": "vlen-utf8"}, {"id": "pickle"}]},
    {"filters": [{"id": "vlen-utf8"}, {"id": "pickle"}], "compressor": {"id": "shuffle", "elementsize": 1}},
    {"filters": [{"id": "vlen-utf8"}], "compressor": {"id": "pickle"}},
    {"dtype": "<i4", "fill_value": 0},
)
"""Ways to have a reader unpickle: Zarr refuses some of them, others it follows."""


@pytest.mark.parametrize("changed", HIDDEN)
def test_a_foreign_array_of_objects_is_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    trapped_array(tmp_path / "variant_id", tmp_path / "sprung", **changed)
    with pytest.raises(InputFileError, match="pickled objects, which are programs"):
        ForeignArray.open(tmp_path, "variant_id").read(slice(0, 2))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.filterwarnings("ignore:Object at y")
def test_an_array_put_into_a_model_is_not_read(tmp_path: Path) -> None:
    save_dataset(xr.Dataset({"x": ("n", np.arange(3.0))}), tmp_path / "m.zarr")
    trapped_array(tmp_path / "m.zarr" / "y", tmp_path / "sprung")
    found = open_dataset(tmp_path / "m.zarr")
    assert list(found) == ["x"]
    found.load()
    assert not (tmp_path / "sprung").exists()


def test_an_array_of_ours_that_became_one_of_objects_is_damaged(tmp_path: Path) -> None:
    save_dataset(xr.Dataset({"x": ("n", np.arange(3.0))}), tmp_path / "m.zarr")
    file = tmp_path / "m.zarr" / "x" / "zarr.json"
    file.write_text(file.read_text().replace('"float64"', '"variable_length_bytes"'))
    with pytest.raises(DamagedStoreError, match="changed"):
        open_dataset(tmp_path / "m.zarr")
