"""The Python interface: Datasets and tables in, a model and a lazy Dataset out."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import biolmm
from biolmm.errors import ParameterError
from running import Disk, statistics


@pytest.fixture
def tables(disk: Disk) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read traits and covariates, indexed by sample."""
    traits, covariates = (
        pd.read_csv(disk.folder / f"toy.{name}.tsv", sep="\t").set_index("IID").drop(columns="FID")
        for name in ("traits", "covariates")
    )
    return traits, covariates


def test_the_example_of_the_documentation(disk: Disk, results: Path, tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    traits, covariates = tables
    store = biolmm.open_store(disk.store)
    assert store.sizes["variants"] == 384
    model = biolmm.fit(store, traits=traits[["trait1", "trait2"]], covariates=covariates)
    assert model.h2["trait"].tolist() == ["trait1", "trait2"]
    hits = biolmm.scan(store, model)
    assert dict(hits.sizes) == {"variants": 384, "traits": 2}
    assert all(variable.chunks for variable in hits.data_vars.values()), "the Dataset is lazy"
    expected = statistics(results)
    np.testing.assert_allclose(hits["chisq"].sel(traits="trait1").values, expected["chisq"], rtol=1e-4)
    assert hits["rsid"].values.tolist() == expected["rsid"].tolist()
    table = hits.biolmm.table("trait1")
    assert table["neg_log_10_p_value"].size == 384
    for figure in (hits.biolmm.manhattan("trait1"), hits.biolmm.qq("trait1")):
        assert figure.axes
        plt.close(figure)
    assert hits.biolmm.lambda_gc("trait1") > 0
    with pytest.raises(ParameterError, match=r"there is no trait 'weight': the Dataset has trait1, trait2\."):
        hits.biolmm.table("weight")


def test_a_saved_model_scans_as_the_one_in_memory(
    disk: Disk, results: Path, tables: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    model = biolmm.open_model(results)
    hits = biolmm.scan(disk.store, model, linear=True)
    np.testing.assert_allclose(
        hits["beta"].sel(traits="trait2").values, statistics(results, "trait2")["beta"], rtol=1e-4
    )
    assert {"linear_beta", "linear_chisq"} <= set(hits.data_vars)


def test_files_are_scanned_as_they_are(disk: Disk, results: Path) -> None:
    model = biolmm.open_model(results)
    for given in (disk.bed, [str(disk.bed)], str(disk.bed)):
        hits = biolmm.scan(given, model)
        found = hits["chisq"].sel(traits="trait1").values
        np.testing.assert_allclose(found, statistics(results)["chisq"], rtol=2e-4, atol=2e-4)


def test_results_open_as_a_dataset(results: Path) -> None:
    data = biolmm.open_results(results)
    assert dict(data.sizes) == {"variants": 384, "traits": 2}
    np.testing.assert_array_equal(data["chisq"].sel(traits="trait2").values, statistics(results, "trait2")["chisq"])


def test_spectra_are_reused_for_new_traits(disk: Disk, tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    traits, covariates = tables
    complete = traits.fillna(traits.mean())
    options = {"solver": "stochastic"}
    first = biolmm.fit(disk.store, complete[["trait1"]], covariates, **options)
    reused = biolmm.fit(disk.store, complete[["trait2"]], covariates, known=first, **options)
    fresh = biolmm.fit(disk.store, complete[["trait2"]], covariates, **options)
    # Blocks of another width: BLAS rounds otherwise.
    np.testing.assert_allclose(reused.h2["h2"], fresh.h2["h2"], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slover": "exact"}, "unknown options slover: choose from"),
        ({"fixed_h2": 1.5}, "h2 is fixed at 1.5 but must be"),
        ({"trait_names": ["trait1", "trait1"]}, "The list of traits names trait1 more than once"),
    ],
)
def test_wrong_options_are_named(
    disk: Disk, tables: tuple[pd.DataFrame, pd.DataFrame], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        biolmm.fit(disk.store, tables[0], **options)


def test_the_front_door_lists_what_it_has() -> None:
    assert set(biolmm.__all__) <= set(dir(biolmm))
    assert biolmm.__version__
    for name in biolmm.__all__:
        assert getattr(biolmm, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'gwas'"):
        _ = biolmm.gwas
