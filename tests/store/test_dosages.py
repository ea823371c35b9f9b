"""Stores of dosages: what is written comes back, to us, to Zarr and to xarray, with its sums and its quality."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from zarr.codecs import ZstdCodec

from biolmm import schema
from biolmm.files.encoding import Encoding, dosages_from_rows
from biolmm.store.collection import Collection
from biolmm.store.convert import convert_sources
from biolmm.store.count import count_dosages
from biolmm.store.data import Quality
from biolmm.store.info import describe
from biolmm.store.open import open_store
from biolmm.store.read import GenotypeStore
from biolmm.store.write import StoreWriter

DOSAGES = [Encoding.DOSAGE8, Encoding.DOSAGE16]


def draw(n_variants: int, n_samples: int, seed: int = 0) -> Any:
    """Draw dosages with a tenth missing; the first variant does not vary, the last is never called."""
    rng = np.random.default_rng([seed, n_variants, n_samples])
    values = rng.uniform(0, 2, (n_variants, n_samples))
    values[rng.random(values.shape) < 0.1] = np.nan
    values[0], values[-1] = 0, np.nan
    return values


@st.composite
def encoded(draw: st.DrawFn) -> Any:
    encoding = draw(st.sampled_from(DOSAGES))
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 70)))
    codes = st.one_of(st.integers(0, 2 * encoding.steps), st.just(encoding.missing))
    return encoding, draw(arrays(encoding.dtype, shape, elements=codes))


@settings(deadline=None)
@given(encoded())
def test_sums_are_exact(given: Any) -> None:
    encoding, rows = given
    counts = count_dosages(rows, encoding)
    codes = [[int(code) for code in row if code != encoding.missing] for row in rows]
    assert counts.called.tolist() == [len(row) for row in codes]
    assert counts.code_sum.tolist() == [sum(row) for row in codes]
    assert counts.code_squares.tolist() == [sum(code**2 for code in row) for row in codes]


def test_rows_that_are_no_dosages_are_refused() -> None:
    with pytest.raises(ValueError, match="2 codes of dosage16 are above 65280"):
        count_dosages(np.array([[65_281, 65_280, 65_535, 65_534]], np.uint16), Encoding.DOSAGE16)
    with pytest.raises(ValueError, match="rows of dosage16 cannot be uint8"):
        count_dosages(np.zeros((1, 2), np.uint8), Encoding.DOSAGE16)
    with pytest.raises(ValueError, match="rows of calls cannot be"):
        count_dosages(np.zeros((1, 2), np.uint8), Encoding.CALLS)


@settings(deadline=None, max_examples=10)
@given(n_variants=st.integers(1, 150), n_samples=st.integers(1, 70), encoding=st.sampled_from(DOSAGES))
def test_any_shape_reads_back_through_every_door(
    make_sources: Any, n_variants: int, n_samples: int, encoding: Encoding
) -> None:
    values = draw(n_variants, n_samples)
    with TemporaryDirectory() as folder:
        source = make_sources(Path(folder))(values)
        store = convert_sources([source], Path(folder) / "x.zarr", encoding=encoding.value, chunk_variants=64)
        rows = np.concatenate([store.read_rows(chunk) for chunk in range(store.n_chunks)])
        found = dosages_from_rows(rows, encoding, n_samples)
        np.testing.assert_allclose(found, values, atol=0.5 / encoding.steps + 1e-6)
        assert np.array_equal(np.isnan(found), np.isnan(values))
        array = zarr.open_group(store.path, mode="r")[schema.CALL_DOSAGE]
        assert isinstance(array, zarr.Array)
        np.testing.assert_array_equal(array[...], rows)
        assert array.compressors == (ZstdCodec(level=1, checksum=True),)
        with xr.open_zarr(store.path, consolidated=False) as dataset:
            np.testing.assert_allclose(dataset[schema.CALL_DOSAGE].values, found, rtol=1e-6)
        dataset = open_store(store.path)
        np.testing.assert_array_equal(dataset[schema.CALL_DOSAGE].values, found)
        assert dataset[schema.CALL_DOSAGE].dtype == np.float32
        exact = np.where(rows == encoding.missing, 0, rows.astype(float) / encoding.steps)
        np.testing.assert_allclose(store.dosage_sum, exact.sum(axis=1), rtol=1e-12)
        np.testing.assert_allclose(store.dosage_squares, (exact**2).sum(axis=1), rtol=1e-12)
        np.testing.assert_array_equal(store.missing_count, np.isnan(values).sum(axis=1))


def test_the_arrays_are_those_of_dosages(memory_source: Any, tmp_path: Path) -> None:
    store = convert_sources([memory_source(draw(70, 9))], tmp_path / "x.zarr")
    assert store.encoding is Encoding.DOSAGE8
    group = zarr.open_group(store.path, mode="r")
    assert {name for name, _ in group.arrays()} == set(schema.stored_variables(dosages=True))
    attributes = dict(group[schema.CALL_DOSAGE].attrs)
    assert (attributes["scale_factor"], attributes["_FillValue"]) == (1 / 127, 255)
    assert store.encoded_bytes == sum(file.stat().st_size for file in store.path.glob("call_dosage/c/*/0"))


def test_quality_is_kept_from_the_files(memory_source: Any, tmp_path: Path) -> None:
    values = draw(130, 20)
    squares = np.nansum(values**2, axis=1) + 1
    source = memory_source(values, expected_squares=squares)
    store = convert_sources([source], tmp_path / "x.zarr", chunk_variants=64)
    collection = Collection.of([source], chunk_variants=64)
    variants = np.array([0, 129, 64, 1])
    kept, given = store.read_quality(variants), collection.read_quality(variants)
    assert kept is not None
    np.testing.assert_array_equal(kept.info, given.info)
    np.testing.assert_array_equal(kept.r2, given.r2)
    theta = np.nanmean(values[64]) / 2
    n = np.sum(~np.isnan(values[64]))
    assert kept.info[2] == pytest.approx(1 - 1 / (2 * n * theta * (1 - theta)), rel=1e-6)
    calls = convert_sources([source], tmp_path / "calls.zarr", encoding="calls")
    assert calls.read_quality(variants) is None


def test_calls_and_their_dosages_have_the_same_moments(memory_source: Any, tmp_path: Path) -> None:
    values = np.random.default_rng(3).integers(0, 3, (70, 33)).astype(float)
    values[:, ::7] = np.nan
    source = memory_source(values)
    stores = [
        convert_sources([source], tmp_path / f"{each}.zarr", encoding=each) for each in ("calls", "dosage8", "dosage16")
    ]
    for store in stores[1:]:
        np.testing.assert_array_equal(store.dosage_sum, stores[0].dosage_sum)
        np.testing.assert_array_equal(store.dosage_squares, stores[0].dosage_squares)
        assert describe(store)["frequencies"] == describe(stores[0])["frequencies"]
    assert len({store.fingerprint for store in stores}) == 3


def test_description_has_the_distribution_of_quality(memory_source: Any, tmp_path: Path) -> None:
    values = np.rint(127 * draw(80, 20)) / 127  # as 8 bits hold them
    squares = np.nansum(values**2, axis=1)
    store = convert_sources([memory_source(values, expected_squares=squares)], tmp_path / "x.zarr")
    found = describe(store)
    assert found["encoding"] == "dosage8"
    assert found["info"]["n_undefined"] == 1
    assert found["info"]["mean"] == pytest.approx(1, abs=1e-6)
    assert sum(each["n_variants"] for each in found["info"]["classes"]) == 79
    assert found["r2"]["n_undefined"] == 2
    assert found["frequencies"]["n_never_called"] == 1
    theta = np.nanmean(values[1:-1], axis=1) / 2
    by_hand = int(np.sum(np.minimum(theta, 1 - theta) > 0.4))
    assert found["frequencies"]["maf_classes"][-1]["n_variants"] == by_hand


def test_a_writer_of_dosages_is_continued(memory_source: Any, tmp_path: Path) -> None:
    collection = Collection.of([memory_source(draw(150, 9))], chunk_variants=64)

    def begin(name: str) -> StoreWriter:
        return StoreWriter.begin(
            tmp_path / name, collection.samples, collection.variants, provenance={}, chunk_variants=64,
            encoding=collection.encoding,
        )  # fmt: skip

    def write(writer: StoreWriter, chunks: Any) -> GenotypeStore | None:
        for chunk in chunks:
            decoded = collection.read_range(*writer.chunk_range(chunk))
            writer.write_chunk(chunk, decoded.rows, decoded.quality)
        return GenotypeStore.open(writer.publish()) if writer.finished_chunks() == {0, 1, 2} else None

    assert write(begin("x.zarr"), [0, 2]) is None
    again = begin("x.zarr")
    assert again.finished_chunks() == {0, 2}
    store, whole = write(again, [1]), write(begin("y.zarr"), range(3))
    assert store is not None
    assert whole is not None
    assert store.fingerprint == whole.fingerprint
    np.testing.assert_array_equal(store.r2, whole.r2)


def test_without_quality_it_is_that_of_the_dosages(memory_source: Any, tmp_path: Path) -> None:
    collection = Collection.of([memory_source(draw(10, 9))])
    writer = StoreWriter.begin(
        tmp_path / "x.zarr", collection.samples, collection.variants, provenance={}, encoding=Encoding.DOSAGE16
    )
    sixteen = Collection.of([memory_source(draw(10, 9))], encoding="dosage16")
    writer.write_chunk(0, sixteen.read_rows(0))
    store = GenotypeStore.open(writer.publish())
    expected = sixteen.read_quality(np.arange(10))
    assert isinstance(expected, Quality)
    np.testing.assert_allclose(store.r2, expected.r2, rtol=1e-3)
    assert np.isnan(store.info).all()
    with pytest.raises(ValueError, match=r"chunk 0 is uint16 \(10, 9\), not uint8 \(10, 9\)"):
        StoreWriter.begin(
            tmp_path / "y.zarr", collection.samples, collection.variants, provenance={}, encoding=Encoding.DOSAGE16
        ).write_chunk(0, collection.read_rows(0))
