"""The Dataset of a store: lazy, indexed by sample id, equal to the store."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from biolmm.store.info import describe
from biolmm.store.open import genotype_store, open_store


def test_the_dataset_equals_the_store(small_stores: Any) -> None:
    store, calls = small_stores.finished(), small_stores.calls()
    dataset = open_store(store.path)
    np.testing.assert_array_equal(dataset.call_alt_count.values, calls)
    assert dataset.call_alt_count.chunks == ((64, 64, 22), (45,))
    np.testing.assert_array_equal(dataset.variant_alt_count.values, store.alt_count)
    assert dataset.variant_allele.values[2].tolist() == ["A2", "GGG"]
    assert dataset.contig_id.values.tolist() == ["3", "X"]
    assert dataset.attrs["fingerprint"] == store.fingerprint


@pytest.mark.parametrize(
    "key",
    [
        np.s_[3:70], np.s_[5], np.s_[::-7, 4], np.s_[60:130, ::2], np.s_[[149, 0, 64], :], np.s_[7, [44, 3]],
        np.s_[0:0, 1], np.s_[-1, -1],
    ],
)  # fmt: skip
def test_any_selection_equals_that_of_the_whole(small_stores: Any, key: Any) -> None:
    calls = small_stores.calls()
    np.testing.assert_array_equal(open_store(small_stores.finished().path).call_alt_count[key].values, calls[key])


def test_samples_are_selected_by_id(small_stores: Any) -> None:
    dataset = open_store(small_stores.finished().path).sel(sample_id=["S7", "S2"])
    np.testing.assert_array_equal(dataset.call_alt_count.values, small_stores.calls()[:, [7, 2]])
    assert dataset.sample_family_id.values.tolist() == ["F3", "F1"]


def test_the_text_of_a_dataset_shows_what_it_holds_without_reading_it(small_stores: Any) -> None:
    store = small_stores.finished()
    for file in store.path.glob("call_alt_count/c/*/0"):
        file.unlink()
    dataset = open_store(store.path)
    for text in (repr(dataset), dataset._repr_html_()):
        for word in ("call_alt_count", "variant_position", "sample_id", "S44", "fingerprint", "ALT"):
            assert word in text


def test_the_store_of_a_dataset_is_found_again(small_stores: Any) -> None:
    store = small_stores.finished()
    dataset = open_store(store.path)
    for given in (dataset, store, store.path, str(store.path)):
        assert genotype_store(given).fingerprint == store.fingerprint
    for part in (dataset.isel(variants=slice(5)), dataset.isel(samples=[1, 0])):
        with pytest.raises(ValueError, match="is a selection of its store"):
            genotype_store(part)
    with pytest.raises(ValueError, match="was not opened by open_store"):
        genotype_store(xr.Dataset())


def test_description_counts_what_is_there(small_stores: Any) -> None:
    store, calls = small_stores.finished(n_variants=130), small_stores.calls(n_variants=130)
    found = describe(store)
    assert (found["n_samples"], found["n_variants"], found["chunks"]["n"]) == (45, 130, 3)
    assert found["sexes"] == {"unknown": 15, "male": 15, "female": 15}
    assert found["contigs"] == [
        {"name": "3", "n_variants": 65, "first_bp": 1, "last_bp": 6401},
        {"name": "X", "n_variants": 65, "first_bp": 6501, "last_bp": 12901},
    ]
    classes = found["frequencies"]["maf_classes"]
    assert found["frequencies"]["n_monomorphic"] == found["frequencies"]["n_never_called"] == 1
    assert sum(each["n_variants"] for each in classes) == 128
    assert found["missingness"]["mean"] == pytest.approx((calls == 3).mean())
    assert found["missingness"]["max"] == 1.0
    assert found["provenance"] == {"source": "a"}
    assert found["sizes"]["bits_per_genotype"] == pytest.approx(8 * store.encoded_bytes / calls.size)
