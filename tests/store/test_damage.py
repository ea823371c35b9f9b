"""Whatever happens to a file of a store, reading names it, and never gives other numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biolmm import schema
from biolmm.errors import DamagedStoreError, StoreFormatError
from biolmm.files.encoding import Encoding
from biolmm.store.identity import ATTRIBUTES_CRC32C, attributes_crc32c
from biolmm.store.layout import chunk_path, table_files
from biolmm.store.open import open_store
from biolmm.store.read import GenotypeStore


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def remove(file: Path) -> None:
    file.unlink()


def swap(file: Path) -> None:
    other = file.parents[1] / "0" / "0"
    mine, yours = file.read_bytes(), other.read_bytes()
    file.write_bytes(yours)
    other.write_bytes(mine)


DAMAGES = [flip, cut, empty, remove]


@pytest.mark.parametrize("damage", [*DAMAGES, swap])
def test_a_damaged_chunk_of_calls_is_named(small_stores: Any, damage: Callable[[Path], None]) -> None:
    store = small_stores.finished()
    damage(store.path / chunk_path(Encoding.CALLS, 1))
    again = GenotypeStore.open(store.path)
    what = (
        r"is damaged: chunk 1 \(variants 65 to 128\) (is missing|has CRC-32C \w{8} in [\d,]+ bytes where \w{8} was wri)"
    )
    with pytest.raises(DamagedStoreError, match=what):
        again.read_rows(1)
    if damage is swap:
        with pytest.raises(DamagedStoreError, match=r"chunk 0 \(variants 1 to 64\)"):
            again.read_rows(0)
    else:
        assert again.read_rows(0).tobytes() == store.read_rows(0).tobytes()


@pytest.mark.parametrize("damage", [*DAMAGES, swap])
def test_the_dataset_notices_as_well(small_stores: Any, damage: Callable[[Path], None]) -> None:
    store = small_stores.finished()
    damage(store.path / chunk_path(Encoding.CALLS, 2))
    dataset = open_store(store.path)
    either = "0|" * (damage is swap)  # of two that are damaged, either may be read first
    with pytest.raises(DamagedStoreError, match=rf"chunk ({either}2) \(variants (1 to 64|129 to 150)\)"):
        dataset[schema.CALL_ALT_COUNT].load()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_any_other_file_is_named(small_stores: Any, damage: Callable[[Path], None]) -> None:
    store = small_stores.finished()
    files = table_files(store.path)
    assert len(files) == 2 * (len(schema.stored_variables(dosages=False)) - 1) + 1
    for file in files:
        shutil.copytree(store.path, store.path.with_name("copy.zarr"))
        damage(store.path.with_name("copy.zarr") / file)
        with pytest.raises(DamagedStoreError, match=rf"copy\.zarr is damaged: {file} (is missing|has CRC-32C)"):
            read_everything(store.path.with_name("copy.zarr"))
        shutil.rmtree(store.path.with_name("copy.zarr"))


def read_everything(path: Path) -> None:
    store = GenotypeStore.open(path)
    for name in set(schema.stored_variables(dosages=False)) - {schema.CALL_ALT_COUNT}:
        store.read_table(name)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"attributes": 3}'])
def test_broken_group_metadata_are_refused(small_stores: Any, content: str) -> None:
    store = small_stores.finished()
    (store.path / "zarr.json").write_text(content)
    with pytest.raises((DamagedStoreError, StoreFormatError), match=r"x\.zarr is "):
        GenotypeStore.open(store.path)


@pytest.mark.parametrize("name", ["checksums", "fingerprint", "encoded_bytes", "encoding", ATTRIBUTES_CRC32C])
def test_lost_attributes_are_named(small_stores: Any, name: str) -> None:
    store = small_stores.finished()
    metadata = json.loads((store.path / "zarr.json").read_text())
    del metadata["attributes"][name]
    (store.path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(DamagedStoreError, match=f"its attribute '{name}' is missing"):
        GenotypeStore.open(store.path)


def change_attributes(path: Path, change: Callable[[dict[str, Any]], None], sum_up: bool = True) -> None:
    """Change the attributes of a store, and their checksum with them."""
    metadata = json.loads((path / "zarr.json").read_text())
    change(metadata["attributes"])
    if sum_up:
        metadata["attributes"][ATTRIBUTES_CRC32C] = attributes_crc32c(metadata["attributes"])
    (path / "zarr.json").write_text(json.dumps(metadata))


def test_a_checksum_that_is_not_listed_is_damage(small_stores: Any) -> None:
    def forget(attributes: dict[str, Any]) -> None:
        sums = attributes["checksums"]
        attributes["checksums"] = {name: sums[name] for name in sums if not name.startswith("variant_id/")}

    store = small_stores.finished()
    change_attributes(store.path, forget)
    with pytest.raises(DamagedStoreError, match="it has no checksum of variant_id"):
        GenotypeStore.open(store.path).variant_id  # noqa: B018


def test_changed_attributes_are_damage(small_stores: Any) -> None:
    store = small_stores.finished()
    change_attributes(store.path, lambda attributes: attributes.update(source="another"), sum_up=False)
    with pytest.raises(DamagedStoreError, match=r"the attributes in its zarr\.json have CRC-32C"):
        GenotypeStore.open(store.path)
