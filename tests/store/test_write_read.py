"""A store gives back what was written, to us, to Zarr and to xarray; writing can stop anywhere and continue."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import ZstdCodec

from biolmm import schema
from biolmm.atomic import write_whole
from biolmm.errors import BiolmmError, OutputError, ParameterError
from biolmm.files.encoding import row_bytes
from biolmm.store.layout import default_chunk_variants
from biolmm.store.packbits import unpack_calls
from biolmm.store.read import GenotypeStore
from biolmm.store.write import StoreWriter


def all_calls(store: GenotypeStore) -> Any:
    rows = np.concatenate([store.read_rows(chunk) for chunk in range(store.n_chunks)])
    return unpack_calls(rows, rows.size * 4).reshape(len(rows), -1)[:, : store.n_samples]


def files_of(path: Path) -> dict[str, bytes]:
    """Read every file below `path` but the group's own metadata, which hold the time of writing."""
    files = (file for file in path.rglob("*") if file.is_file() and file != path / "zarr.json")
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@settings(deadline=None, max_examples=15)
@given(n_variants=st.integers(1, 200), n_samples=st.integers(1, 140))
def test_any_shape_reads_back_through_every_door(make_stores: Any, n_variants: int, n_samples: int) -> None:
    with TemporaryDirectory() as folder:
        maker = make_stores(Path(folder))
        store, calls = maker.finished(n_variants, n_samples), maker.calls(n_variants, n_samples)
        assert (store.n_variants, store.n_samples, store.row_bytes) == (n_variants, n_samples, row_bytes(n_samples))
        np.testing.assert_array_equal(all_calls(store), calls)
        array = zarr.open_group(store.path, mode="r")[schema.CALL_ALT_COUNT]
        assert isinstance(array, zarr.Array)
        np.testing.assert_array_equal(array[...], calls)
        with xr.open_zarr(store.path, consolidated=False) as dataset:
            np.testing.assert_array_equal(dataset[schema.CALL_ALT_COUNT].values, calls)
        np.testing.assert_array_equal(store.alt_count, np.where(calls == 3, 0, calls).sum(axis=1))
        np.testing.assert_array_equal(store.het_count, (calls == 1).sum(axis=1))
        np.testing.assert_array_equal(store.missing_count, (calls == 3).sum(axis=1))


def test_tables_read_back(small_stores: Any) -> None:
    store = small_stores.finished()
    assert store.sample_id[:3].tolist() == ["S0", "S1", "S2"]
    assert store.sample_id.dtype.kind == "U"
    assert store.family_id[:3].tolist() == ["F0", "F0", "F1"]
    assert store.sex[:4].tolist() == [0, 1, 2, 0]
    assert (store.contig_id, store.variant_contig[[0, -1]].tolist()) == (("3", "X"), [0, 1])
    assert store.variant_position[:3].tolist() == [1, 101, 201]
    assert store.variant_id[-1] == "rs149"
    assert (store.ref[2], store.alt[2]) == ("A2", "GGG")
    assert (store.n_chunks, store.chunk_range(2)) == (3, (128, 150))
    assert store.encoded_bytes == sum(file.stat().st_size for file in store.path.glob("call_alt_count/c/*/0"))


def test_every_array_has_its_checksum_in_the_codec(small_stores: Any) -> None:
    group = zarr.open_group(small_stores.finished().path, mode="r")
    names = {name for name, _ in group.arrays()}
    assert names == set(schema.stored_variables(dosages=False))
    for name, array in group.arrays():
        variable = schema.STORE_VARIABLES[name]
        assert array.metadata.to_dict()["dimension_names"] == variable.dims
        assert array.compressors == (ZstdCodec(level=1, checksum=True),)
        assert variable.dtype == "str" or array.dtype == np.dtype(variable.dtype)


def test_a_store_travels_without_its_arrays_and_stays_the_same(small_stores: Any) -> None:
    store = small_stores.finished()
    bare = len(pickle.dumps(store))
    assert store.variant_id.size == store.n_variants
    assert len(pickle.dumps(store)) == bare
    again = pickle.loads(pickle.dumps(store))
    assert again.fingerprint == store.fingerprint
    np.testing.assert_array_equal(again.read_rows(1), store.read_rows(1))


def test_fingerprint_follows_the_content_alone(small_stores: Any) -> None:
    store = small_stores.finished()
    assert small_stores.finished(name="again.zarr").fingerprint == store.fingerprint
    assert small_stores.finished(n_samples=44, name="other.zarr").fingerprint != store.fingerprint
    writer = small_stores.begin(name="changed.zarr")
    for chunk in range(writer.n_chunks):
        small_stores.write(writer, chunk)
    start, stop = writer.chunk_range(0)
    writer.write_chunk(0, np.full((stop - start, row_bytes(45)), 0xFF, np.uint8))
    assert GenotypeStore.open(writer.publish()).fingerprint != store.fingerprint


@pytest.mark.parametrize("n_before", [0, 1, 3])
def test_an_interrupted_store_continues_and_equals_an_uninterrupted_one(small_stores: Any, n_before: int) -> None:
    whole = small_stores.finished(name="whole.zarr")
    first = small_stores.begin()
    for chunk in range(n_before):
        small_stores.write(first, chunk)
    again = small_stores.begin()
    assert again == first
    assert again.finished_chunks() == set(range(n_before))
    for chunk in set(range(again.n_chunks)) - again.finished_chunks():
        small_stores.write(again, chunk)
    assert files_of(again.publish()) == files_of(whole.path)
    assert not again.aside.exists()


def test_chunks_without_marker_or_data_are_not_finished(small_stores: Any) -> None:
    writer = small_stores.begin(n_variants=400)
    for chunk in range(writer.n_chunks):
        small_stores.write(writer, chunk)
    assert writer.finished_chunks() == set(range(7))
    calls, markers = writer.aside / "store" / "call_alt_count" / "c", writer.aside / "markers"
    (calls / "0" / "0").unlink()
    (calls / "1" / "0").write_bytes(b"")
    (markers / "2.npz").unlink()
    (markers / "3.npz").write_bytes((markers / "3.npz").read_bytes()[:-30])
    (markers / "4.npz").write_bytes(b"")
    (markers / "5.npz").write_bytes((markers / "6.npz").read_bytes())
    assert writer.finished_chunks() == {6}
    with pytest.raises(BiolmmError, match=r"x\.zarr is not finished: chunks 0, 1, 2, 3, 4 and 1 more of 7"):
        writer.publish()


@pytest.mark.parametrize("change", [{"source": "b"}, {"n_variants": 149}, {"n_samples": 44}])
def test_another_key_starts_over(small_stores: Any, change: dict[str, Any]) -> None:
    small_stores.write(small_stores.begin(), 0)
    assert small_stores.begin(**change).finished_chunks() == set()


def test_a_begin_that_was_killed_starts_over(small_stores: Any) -> None:
    writer = small_stores.begin()
    small_stores.write(writer, 0)
    (writer.aside / "key.json").unlink()
    assert small_stores.begin().finished_chunks() == set()


def test_a_publish_that_was_killed_is_repeated(small_stores: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = small_stores.begin()
    for chunk in range(writer.n_chunks):
        small_stores.write(writer, chunk)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "_write_attributes", killed)
        with pytest.raises(KeyboardInterrupt):
            writer.publish()
    assert not writer.path.exists()
    assert files_of(small_stores.begin().publish()) == files_of(small_stores.finished(name="whole.zarr").path)


def test_leftovers_of_a_publish_that_was_killed_after_renaming_do_no_harm(small_stores: Any) -> None:
    store = small_stores.finished()
    (small_stores.folder / "x.zarr.partial" / "markers").mkdir(parents=True)
    shutil.rmtree(store.path)
    assert small_stores.begin().finished_chunks() == set()


def test_a_chunk_written_again_is_unfinished_until_its_marker_is(
    small_stores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = small_stores.begin()
    small_stores.write(writer, 0)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("biolmm.store.write._encode_marker", killed)
    with pytest.raises(KeyboardInterrupt):
        small_stores.write(writer, 0)
    assert writer.finished_chunks() == set()


def test_a_full_disk_keeps_what_is_written(small_stores: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = small_stores.begin()
    small_stores.write(writer, 0)

    def full(target: Path, content: bytes, scratch: Path) -> None:
        if target.suffix == ".npz":
            raise OSError(28, "No space left on device")
        write_whole(target, content, scratch)

    with monkeypatch.context() as patch:
        patch.setattr("biolmm.store.write.write_whole", full)
        with pytest.raises(OutputError, match=r"cannot be written: No space left on device\. Free space there"):
            small_stores.write(writer, 1)
    assert small_stores.begin().finished_chunks() == {0}


def test_what_is_there_is_never_overwritten(small_stores: Any, tmp_path: Path) -> None:
    small_stores.finished()
    with pytest.raises(OutputError, match=r"x\.zarr exists already"):
        small_stores.begin()
    (tmp_path / "mine.zarr.partial").mkdir()
    (tmp_path / "mine.zarr.partial" / "thesis.tex").write_text("")
    with pytest.raises(OutputError, match="was not written by biolmm"):
        small_stores.begin(name="mine.zarr")


def test_chunks_of_another_shape_are_refused(small_stores: Any) -> None:
    writer = small_stores.begin()
    with pytest.raises(ValueError, match=r"chunk 2 is uint8 \(22, 16\), not uint8 \(64, 16\)"):
        writer.write_chunk(2, np.full((64, 16), 0xFF, np.uint8))
    with pytest.raises(IndexError, match="chunk 3 of 3"):
        writer.chunk_range(3)


@pytest.mark.parametrize("chunk_variants", [0, -64, 100])
def test_chunk_sizes_that_are_not_multiples_of_64_are_refused(small_stores: Any, chunk_variants: int) -> None:
    samples, variants = small_stores.tables(10, 3)
    with pytest.raises(ParameterError, match="give a positive multiple of 64"):
        StoreWriter.begin(small_stores.folder / "x", samples, variants, provenance={}, chunk_variants=chunk_variants)


@given(st.integers(1, 10**7))
def test_default_chunks_are_about_8_mib(n_samples: int) -> None:
    n_variants = default_chunk_variants(n_samples)
    assert n_variants % 64 == 0
    assert 64 <= n_variants <= 8192
    n_bytes = n_variants * row_bytes(n_samples)
    assert n_variants == 64 or n_bytes <= 8 * 2**20
    assert n_variants == 8192 or (n_variants + 64) * row_bytes(n_samples) > 8 * 2**20
