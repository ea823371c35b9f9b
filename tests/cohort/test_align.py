"""The cohort against a plain join; and what must not change it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from biolmm.cohort import Cohort, CohortConfig, align_cohort
from biolmm.errors import CovariateError, SampleMismatchError, TraitError
from biolmm.files.tables import read_table

STORE = [f"S{number:03d}" for number in range(40)]


def make_tables(seed: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Invent three traits (two share their missing values) and five covariates, in an order of their own."""
    rng = np.random.default_rng(seed)
    ids = [*STORE[2:], "X1", "X2"]
    n = len(ids)
    traits = pd.DataFrame(rng.standard_normal((n, 3)), index=ids, columns=["height", "weight", "ldl"])
    traits.loc[rng.random(n) < 0.2, ["height", "weight"]] = np.nan
    traits.loc[rng.random(n) < 0.3, "ldl"] = np.nan
    covariates = pd.DataFrame(
        {
            "age": rng.integers(40, 70, n).astype(float),
            "months": 0.0,
            "site": rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2]),
            "batch": rng.choice([1.0, 2.0, 10.0], n, p=[0.2, 0.6, 0.2]),
            "reader": 7.0,
        },
        index=ids,
    )
    covariates["months"] = 12 * covariates["age"]
    covariates.loc["S005", "age"] = np.nan
    covariates.loc["S006", "site"] = np.nan
    shuffled = rng.permutation(n)
    return traits.sample(frac=1, random_state=seed), covariates.iloc[shuffled].drop("S007")


CONFIG = CohortConfig(categorical=("batch",), remove=("S010", "nobody"))


def align(seed: int = 1, **changes: Any) -> Cohort:
    traits, covariates = make_tables(seed)
    return align_cohort(STORE, traits, covariates, replace(CONFIG, **changes))


def assert_same_cohort(one: Cohort, other: Cohort) -> None:
    """Hold two cohorts to each other bit for bit."""
    assert one.fingerprint() == other.fingerprint()
    np.testing.assert_array_equal(one.sample_id, other.sample_id)
    np.testing.assert_array_equal(one.y, other.y)
    np.testing.assert_array_equal(one.covariates, other.covariates)
    for left, right in zip(one.classes, other.classes, strict=True):
        np.testing.assert_array_equal(left.observed, right.observed)
        np.testing.assert_array_equal(left.basis, right.basis)


def test_samples_are_those_of_a_plain_join() -> None:
    cohort = align()
    expected = [text for text in STORE[2:] if text not in {"S005", "S006", "S007", "S010"}]
    assert cohort.sample_id.tolist() == expected
    assert cohort.sample_index.tolist() == [STORE.index(text) for text in expected]
    assert cohort.n_samples == 34
    assert (np.diff(cohort.sample_index) > 0).all()


def test_traits_are_those_of_the_table_by_id() -> None:
    traits, _ = make_tables()
    cohort = align()
    np.testing.assert_array_equal(cohort.y, traits.loc[cohort.sample_id.tolist()].to_numpy())


def naive_projector(cohort: Cohort, covariates: pd.DataFrame, observed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The projector on intercept and covariates over the observed samples, by the pseudo-inverse."""
    table = covariates.loc[cohort.sample_id.tolist()]
    dummies = pd.get_dummies(table[["site", "batch"]].astype(str), dtype=float).to_numpy()
    age = (table["age"].to_numpy(float) - 55) / 10
    design = np.column_stack([np.ones(len(table)), age, dummies]) * observed[:, None]
    return design @ np.linalg.pinv(design)


@pytest.mark.parametrize("seed", range(5))
def test_bases_span_the_covariates_of_the_observed_samples(seed: int) -> None:
    cohort = align(seed)
    _, covariates = make_tables(seed)
    assert len(cohort.classes) == 2
    assert cohort.class_of_trait.tolist() == [0, 0, 1]
    for trait, index in enumerate(cohort.class_of_trait):
        part = cohort.classes[index]
        np.testing.assert_array_equal(part.observed, ~np.isnan(cohort.y[:, trait]))
        assert not part.basis[~part.observed].any()
        np.testing.assert_allclose(part.basis.T @ part.basis, np.eye(part.n_covariates), atol=1e-12)
        expected = naive_projector(cohort, covariates, part.observed)
        np.testing.assert_allclose(part.basis @ part.basis.T, expected, atol=1e-12)


def test_categories_leave_out_the_most_frequent_one() -> None:
    cohort = align()
    assert cohort.covariate_names == ("age", "site=b", "site=c", "batch=1", "batch=10")
    assert cohort.counts["categories"]["batch"]["reference"] == "2"
    assert list(cohort.counts["categories"]["batch"]["n"]) == ["1", "2", "10"]
    np.testing.assert_allclose(cohort.covariates.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(cohort.covariates.std(axis=0), 1, atol=1e-14)


def test_counts_say_who_went_and_why() -> None:
    counts = align().counts
    assert counts == json.loads(json.dumps(counts))
    assert counts["samples"] == {
        "genotypes": 40, "remove": 2, "traits": 40, "traits_in_genotypes": 38, "covariates": 39,
        "covariates_in_genotypes": 37, "missing_covariate": 2, "analysed": 34,
    }  # fmt: skip
    assert counts["dropped"] == [
        {"what": "samples", "why": "in the remove list", "n": 1, "examples": ["S010"]},
        {"what": "ids of remove list", "why": "not in the genotypes", "n": 1, "examples": ["nobody"]},
        {"what": "samples", "why": "without a row in the trait table", "n": 2, "examples": ["S000", "S001"]},
        {"what": "ids of the trait table", "why": "not in the genotypes", "n": 2, "examples": ["X2", "X1"]},
        {"what": "samples", "why": "without a row in the covariate table", "n": 1, "examples": ["S007"]},
        {"what": "ids of the covariate table", "why": "not in the genotypes", "n": 2, "examples": ["X2", "X1"]},
        {"what": "samples", "why": "with a missing covariate", "n": 2, "examples": ["S005", "S006"]},
    ]
    assert counts["dropped_covariates"] == [
        {"name": "months", "why": "linear combination of age"},
        {"name": "reader", "why": "constant"},
    ]
    assert counts["missing_covariates"] == {"age": 1, "site": 1}
    assert counts["traits"]["height"] == counts["traits"]["weight"] < 34


def test_dropped_samples_and_analysed_ones_add_up() -> None:
    counts = align(keep=(*STORE[:30], "stranger")).counts
    gone = sum(step["n"] for step in counts["dropped"] if step["what"] == "samples")
    assert gone + counts["samples"]["analysed"] == counts["samples"]["genotypes"] == 40


def test_no_covariates_leave_the_intercept() -> None:
    traits, _ = make_tables()
    cohort = align_cohort(STORE, traits)
    part = cohort.classes[0]
    assert (part.n_covariates, cohort.covariates.shape) == (1, (38, 0))
    np.testing.assert_allclose(part.basis[part.observed, 0], 1 / np.sqrt(part.n_observed))


def test_a_sample_without_any_trait_stays_in() -> None:
    traits = pd.DataFrame({"height": [1.0, 2.0, np.nan, 4.0]}, index=["a", "b", "c", "d"])
    cohort = align_cohort(["d", "c", "b", "a"], traits)
    assert cohort.sample_id.tolist() == ["d", "c", "b", "a"]
    assert cohort.classes[0].observed.tolist() == [True, False, True, True]


def test_row_order_of_the_tables_does_not_matter() -> None:
    traits, covariates = make_tables()
    mixed = align_cohort(STORE, traits.iloc[::-1], covariates.sample(frac=1, random_state=9), CONFIG)
    assert_same_cohort(mixed, align())


def test_other_traits_do_not_matter() -> None:
    alone = align(trait_names=("ldl",))
    among = align()
    assert alone.sample_id.tolist() == among.sample_id.tolist()
    np.testing.assert_array_equal(alone.y[:, 0], among.y[:, 2])
    np.testing.assert_array_equal(alone.classes[0].basis, among.classes[1].basis)
    np.testing.assert_array_equal(
        align(trait_names=("ldl",), transform="rint-indirect").y[:, 0], align(transform="rint-indirect").y[:, 2]
    )


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(1e-3, 1e6), shift=st.floats(-1e3, 1e3))
def test_units_of_covariates_do_not_matter(factor: float, shift: float) -> None:
    traits, covariates = make_tables()
    changed = covariates.assign(age=covariates["age"] * factor + shift)
    cohort = align_cohort(STORE, traits, changed, replace(CONFIG, covariate_names=("age", "site", "batch")))
    for one, other in zip(cohort.classes, align().classes, strict=True):
        # rounding of the shifted covariate grows with |shift| against its spread, about 10 factor
        tolerance = 1e-12 + 100 * np.finfo(float).eps * (abs(shift) + 70 * factor) / factor
        np.testing.assert_allclose(one.basis, other.basis, atol=tolerance)


def test_sample_order_of_the_genotypes_permutes_the_cohort() -> None:
    traits, covariates = make_tables()
    backwards = align_cohort(STORE[::-1], traits, covariates, CONFIG)
    forwards = align()
    np.testing.assert_array_equal(backwards.y[::-1], forwards.y)
    for one, other in zip(backwards.classes, forwards.classes, strict=True):
        np.testing.assert_allclose(one.basis[::-1], other.basis, atol=1e-12)


def test_fingerprint_sees_every_part() -> None:
    traits, covariates = make_tables()
    whole = align()
    assert align().fingerprint() == whole.fingerprint()
    fingerprints = {
        whole.fingerprint(),
        align(transform="rint").fingerprint(),
        align(trait_names=("height", "ldl")).fingerprint(),
        align(covariate_names=("age", "batch")).fingerprint(),
        align(remove=("S011",)).fingerprint(),
        align_cohort(STORE, traits.rename(columns={"ldl": "hdl"}), covariates, CONFIG).fingerprint(),
        align_cohort(["first", *STORE], traits, covariates, CONFIG).fingerprint(),
    }
    assert len(fingerprints) == 7


def test_a_covariate_may_be_redundant_in_one_class_only() -> None:
    ids = [f"i{number}" for number in range(12)]
    sex = np.array([0.0, 1.0] * 6)
    y = np.random.default_rng(3).standard_normal((12, 2))
    y[sex == 1, 1] = np.nan
    traits = pd.DataFrame(y, index=ids, columns=["both", "women"])
    covariates = pd.DataFrame({"sex": sex, "age": np.arange(12.0) ** 2}, index=ids)
    cohort = align_cohort(ids, traits, covariates)
    assert [part.dropped for part in cohort.classes] == [(), ("sex",)]
    assert [part.n_covariates for part in cohort.classes] == [3, 2]


def test_minus_nine_is_pointed_out() -> None:
    traits = pd.DataFrame({"a": [1.0, 2, -9, 3], "b": [1.0, -1, -9, 3]}, index=list("wxyz"))
    warnings = align_cohort(list("wxyz"), traits).counts["warnings"]
    assert len(warnings) == 1
    assert warnings[0].startswith("Trait 'a' is -9 for 1 of 4 samples")


@pytest.mark.parametrize("transform", ["rint", "rint-indirect"])
def test_transforms_apply_to_the_observed_samples(transform: str) -> None:
    raw, changed = align(), align(transform=transform)
    np.testing.assert_array_equal(np.isnan(raw.y), np.isnan(changed.y))
    for column in changed.y.T:
        values = np.sort(column[~np.isnan(column)])
        np.testing.assert_allclose(values, -values[::-1], atol=1e-12)


def test_added_covariates_equal_those_of_the_table() -> None:
    traits, covariates = make_tables()
    whole = align()
    rng = np.random.default_rng(5)
    components = rng.standard_normal((whole.n_samples, 2))
    added = whole.with_covariates(["PC1", "PC2"], components.astype(np.float32))
    table = covariates.loc[whole.sample_id.tolist()].assign(PC1=components[:, 0], PC2=components[:, 1])
    expected = align_cohort(STORE, traits, table, CONFIG)
    assert set(added.covariate_names) == set(expected.covariate_names)
    np.testing.assert_array_equal(added.y, whole.y)
    for one, other in zip(added.classes, expected.classes, strict=True):
        np.testing.assert_allclose(one.basis @ one.basis.T, other.basis @ other.basis.T, atol=1e-5)  # float32 input
        np.testing.assert_allclose(one.basis.T @ one.basis, np.eye(one.n_covariates), atol=1e-12)
    assert whole.fingerprint() != added.fingerprint()


def test_added_covariates_that_add_nothing_are_dropped_and_named() -> None:
    whole = align()
    added = whole.with_covariates(["twice"], 2 * whole.covariates[:, :1])
    assert added.covariate_names == whole.covariate_names
    assert added.counts["dropped_covariates"][-1] == {"name": "twice", "why": "linear combination of age"}
    for one, other in zip(added.classes, whole.classes, strict=True):
        np.testing.assert_allclose(one.basis, other.basis, atol=1e-12)


def test_added_covariates_must_fit() -> None:
    whole = align()
    good = np.random.default_rng(6).standard_normal((whole.n_samples, 1))
    with pytest.raises(SampleMismatchError, match=r"Covariates of shape \(33, 1\) were given for 34 samples"):
        whole.with_covariates(["PC1"], good[1:])
    with pytest.raises(CovariateError, match="Covariates age exist already"):
        whole.with_covariates(["age"], good)
    with pytest.raises(CovariateError, match="Covariates PC1 hold NaN or infinite values"):
        whole.with_covariates(["PC1"], good * np.inf)
    with pytest.raises(TraitError, match="Nothing is left of 'full' after the covariates"):
        full = align_cohort(STORE, pd.DataFrame({"full": np.arange(40.0) ** 2}, index=STORE))
        full.with_covariates(["itself"], np.arange(40.0)[:, None] ** 2)


def test_mouse_cohort(shared_data: Path) -> None:
    folder = shared_data / "mouse_hs1940"
    ids = [line.split()[1] for line in (folder / "mouse_hs1940.fam").read_text().splitlines()]
    cohort = align_cohort(ids, read_table(folder / "traits.tsv"), config=CohortConfig(trait_names=("CD8", "MCH")))
    assert cohort.n_samples == 1940
    assert cohort.counts["traits"] == {"CD8": 1410, "MCH": 1580}
    assert [part.n_observed for part in cohort.classes] == [1410, 1580]
    assert cohort.sample_id.tolist() == ids
