"""A store on an object store: the same bytes as on a disk, whatever fails on the way, and a killed conversion continues."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biolmm import schema
from biolmm.errors import DamagedStoreError, InputFileError, OutputError, StoreFormatError
from biolmm.files.encoding import Encoding, rows_from_dosages
from biolmm.places import ObjectPath, place, remove_tree
from biolmm.store.append import append
from biolmm.store.convert import convert
from biolmm.store.open import open_store
from biolmm.store.read import GenotypeStore
from biolmm.store.swap import remove_store
from biolmm.store.tasks import call_one_by_one
from biolmm.store.verify import verify
from biolmm.store.write import StoreWriter
from object_stores.conftest import Flaky, keys_in

N_SAMPLES = 45


@pytest.fixture
def bed(write_plink: Any) -> Path:
    """Give a file set of 150 variants, three chunks of 64."""
    calls = np.random.default_rng(1).integers(0, 4, (150, N_SAMPLES), dtype=np.uint8)
    path: Path = write_plink(calls, contigs=["1"] * 80 + ["2"] * 70)
    return path


def convert_small(bed: Path, out: Any, **options: Any) -> GenotypeStore:
    return convert([bed], out, chunk_variants=64, **options)


def in_threads(function: Any, items: Any, *arguments: Any) -> list[Any]:
    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(lambda item: function(item, *arguments), items))


def content(store: GenotypeStore) -> dict[str, Any]:
    tables = [name for name in schema.stored_variables(store.encoding.is_dosage) if not name.startswith("call_")]
    found = {name: repr(store.read_table(name).tolist()) for name in tables}  # NaN is not equal to itself
    return found | {"chunks": [store.read_rows(i).tobytes() for i in range(store.n_chunks)], "is": store.fingerprint}


def test_a_store_is_the_same_as_on_a_disk(bed: Path, bucket: ObjectPath, tmp_path: Path, s3: Any) -> None:
    local = convert_small(bed, tmp_path / "x.zarr")
    remote = convert_small(bed, f"{bucket}/stores/x.zarr")
    assert content(remote) == content(local)
    files = {path.relative_to(local.path).as_posix(): path for path in local.path.rglob("*") if path.is_file()}
    assert set(keys_in(s3, bucket)) == {f"stores/x.zarr/{name}" for name in files}  # nothing is left beside it
    for name, path in files.items():
        if name != "zarr.json":  # which says when it was written
            assert (place(remote.path) / name).read_bytes() == path.read_bytes()
    assert verify(f"{bucket}/stores/x.zarr", map_tasks=in_threads).is_intact
    dataset = open_store(f"{bucket}/stores/x.zarr")
    with open_store(tmp_path / "x.zarr") as expected:
        assert dataset.drop_attrs().equals(expected.drop_attrs())
    with pytest.raises(InputFileError, match="must be local"):
        append(remote.path, [bed])


def test_dosages(bucket: ObjectPath, tmp_path: Path, small_store_tables: Any) -> None:
    samples, variants = small_store_tables(70, N_SAMPLES)
    rows = rows_from_dosages(np.random.default_rng(2).random((70, N_SAMPLES)) * 2, Encoding.DOSAGE8)
    stores = []
    for out in (tmp_path / "x.zarr", bucket / "x.zarr"):
        options = {"provenance": {}, "chunk_variants": 64, "encoding": Encoding.DOSAGE8}
        writer = StoreWriter.begin(out, samples, variants, **options)
        for chunk in range(writer.n_chunks):
            writer.write_chunk(chunk, rows[slice(*writer.chunk_range(chunk))])
        stores.append(GenotypeStore.open(writer.publish()))
    assert content(stores[0]) == content(stores[1])


def test_through_a_flaky_store(bed: Path, bucket: ObjectPath, tmp_path: Path, flaky: Flaky) -> None:
    expected = content(convert_small(bed, tmp_path / "x.zarr"))
    with flaky(seed=3) as proxy:
        store = convert_small(bed, bucket / "x.zarr", map_tasks=in_threads)
        assert content(store) == expected
        assert verify(bucket / "x.zarr", map_tasks=in_threads).is_intact
        assert sum(proxy.outcomes.values()) - proxy.outcomes["passed"] > 20


def test_the_same_again_changes_nothing_and_other_files_are_refused(
    bed: Path, bucket: ObjectPath, write_plink: Any, flaky: Flaky
) -> None:
    first = convert_small(bed, bucket / "x.zarr")
    with flaky(p_503=0, p_reset=0) as proxy:
        assert convert_small(bed, bucket / "x.zarr").attributes == first.attributes
        assert not proxy.changes
        other = write_plink(np.zeros((70, N_SAMPLES), np.uint8), name="other")
        with pytest.raises(OutputError, match=r"x\.zarr exists already"):
            convert_small(other, bucket / "x.zarr")
        assert not proxy.changes
    assert convert_small(other, bucket / "x.zarr", overwrite=True).n_variants == 70
    assert verify(bucket / "x.zarr").is_intact
    (bucket / "y.zarr" / "thesis.docx").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists and is not a store"):
        convert_small(bed, bucket / "y.zarr", overwrite=True)
    assert (bucket / "y.zarr" / "thesis.docx").read_bytes() == b"mine"


@pytest.mark.parametrize("n_changes", [0, 2, 7, 20, 29, 36, 38, 41])
def test_a_killed_conversion_is_no_store_and_continues(
    bed: Path, bucket: ObjectPath, tmp_path: Path, flaky: Flaky, n_changes: int
) -> None:
    out = bucket / "x.zarr"
    with flaky(p_503=0, p_reset=0) as proxy:
        proxy.allowed_changes = n_changes
        try:
            convert_small(bed, out)
        except OutputError:
            if (out / "zarr.json").exists():  # it was finished: only what is beside it was left
                assert verify(out).is_intact
            else:
                with pytest.raises(InputFileError, match="no such store"):
                    GenotypeStore.open(out)
        else:
            assert len(proxy.changes) <= n_changes
        n_marked = len([path for path in (bucket / "x.zarr.partial").files() if path.suffix == ".npz"])
    written: Counter[int] = Counter()

    def count(function: Any, items: Any, *arguments: Any) -> Any:
        written.update(items)
        return call_one_by_one(function, items, *arguments)

    store = convert_small(bed, out, map_tasks=count)
    assert content(store) == content(convert_small(bed, tmp_path / "x.zarr"))
    if not store.path.with_name("x.zarr.partial").exists():
        assert len(written) in (0, 3 - n_marked)
    assert verify(out).is_intact


def test_an_unfinished_store_of_other_files_is_replaced(
    bed: Path, bucket: ObjectPath, write_plink: Any, flaky: Flaky, tmp_path: Path
) -> None:
    with flaky(p_503=0, p_reset=0) as proxy, pytest.raises(OutputError, match="Killed"):
        proxy.allowed_changes = 25
        convert_small(bed, bucket / "x.zarr")
    assert len(list((bucket / "x.zarr").files())) > 10
    other = write_plink(np.zeros((70, N_SAMPLES), np.uint8), name="other")
    store = convert_small(other, bucket / "x.zarr")
    assert content(store) == content(convert_small(other, tmp_path / "x.zarr"))
    assert verify(bucket / "x.zarr").is_intact


def test_damage_is_named(bed: Path, bucket: ObjectPath) -> None:
    store = convert_small(bed, bucket / "x.zarr")
    chunk = bucket / "x.zarr" / "call_alt_count" / "c" / "1" / "0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-1])
    with pytest.raises(DamagedStoreError, match=r"s3://test\w+/x\.zarr is damaged: chunk 1 \(variants 65 to 128\)"):
        store.read_rows(1)
    chunk.unlink()
    with pytest.raises(DamagedStoreError, match=r"chunk 1 \(variants 65 to 128\) is missing"):
        store.read_rows(1)
    chunk.write_bytes(whole)
    (bucket / "x.zarr" / "variant_id" / "c" / "0").unlink()
    with pytest.raises(DamagedStoreError, match=r"variant_id/c/0 is missing"):
        GenotypeStore.open(bucket / "x.zarr").variant_id  # noqa: B018
    remove_store(store.path)
    assert not (bucket / "x.zarr").exists()


def test_what_is_no_store_is_told(bucket: ObjectPath) -> None:
    with pytest.raises(InputFileError, match=r"s3://test\w+/none\.zarr: no such store\."):
        GenotypeStore.open(bucket / "none.zarr")
    (bucket / "thing" / "x").write_bytes(b"")
    with pytest.raises(StoreFormatError, match="is not a store"):
        GenotypeStore.open(bucket / "thing")
    with pytest.raises(InputFileError, match="there is no bucket"):
        GenotypeStore.open("s3://no-such-bucket/x.zarr")


def test_every_file_is_read_once(bed: Path, bucket: ObjectPath, flaky: Flaky) -> None:
    convert_small(bed, bucket / "x.zarr")
    with flaky(p_503=0, p_reset=0) as proxy:
        store = GenotypeStore.open(bucket / "x.zarr")
        content(store)
        reads = {
            request: n
            for request, n in proxy.requests.items()
            if request.startswith("GET") and "list-type" not in request
        }
    assert len(reads) > 20
    twice = {request for request, n in reads.items() if n > 1}
    assert all(schema.CHUNK_CRC32C in request for request in twice)  # when it is opened, and by `content`
    remove_tree(store.path)


def test_a_store_that_was_removed_while_it_was_written_is_written_anew(
    bed: Path, bucket: ObjectPath, flaky: Flaky, tmp_path: Path
) -> None:
    with flaky(p_503=0, p_reset=0) as proxy, pytest.raises(OutputError, match="Killed"):
        proxy.allowed_changes = 25
        convert_small(bed, bucket / "x.zarr")
    remove_tree(bucket / "x.zarr")
    assert (bucket / "x.zarr.partial" / "key.json").is_file()
    assert content(convert_small(bed, bucket / "x.zarr")) == content(convert_small(bed, tmp_path / "x.zarr"))
