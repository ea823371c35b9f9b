"""Score statistics against generalised least squares written out, trait by trait and contig by contig."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from biolmm.association import ScanConfig, prepare_scan
from biolmm.association.score import Statistics
from biolmm.cohort import align_cohort
from biolmm.reml.fit import FitConfig, fit_null_model
from biolmm.results.diagnostics import neg_log10_p_chisq
from oracles import dense
from oracles.scan import (
    Effects,
    as_exact,
    imputed,
    scan_everything,
    score_everything,
    score_tests,
    vary,
    with_predictors,
)
from oracles.toy import Toy, operator_of, structured_calls, toy_traits, write_store

TRAITS = ("half", "low", "none", "gaps", "holes")
Z_TOLERANCE = 2e-5
"""Sums of N products in single precision are off by √N·ε = 1e-6 of ‖z‖‖x‖ ≈ √N, in units of z."""


def check_tests(found: Statistics, trait: int, truth: Effects, rows: NDArray[np.intp] | slice = slice(None)) -> None:
    """Compare one trait's statistics with the definition: the same nulls, s.e. to 1e-5, z to rounding of sums."""
    beta, se, chisq = (getattr(found, name)[rows, trait] for name in ("beta", "standard_error", "chisq"))
    np.testing.assert_array_equal(np.isnan(chisq), np.isnan(truth.chisq))
    np.testing.assert_allclose(se, truth.standard_error, rtol=1e-5)
    np.testing.assert_allclose(beta / se, truth.beta / truth.standard_error, rtol=1e-5, atol=Z_TOLERANCE)
    np.testing.assert_allclose(chisq, (beta / se) ** 2, rtol=1e-10)
    np.testing.assert_allclose(found.neg_log_10_p_value[rows, trait], neg_log10_p_chisq(chisq), rtol=1e-12)


@pytest.fixture(scope="module")
def scanned(exact) -> Statistics:
    return scan_everything(exact.operator, exact.model)


@pytest.mark.parametrize("name", TRAITS)
def test_exact_solver_is_the_definition(exact, scanned: Statistics, name: str) -> None:
    toy, trait = exact.toy, TRAITS.index(name)
    for contig in range(len(toy.store.contig_id)):
        rows = np.flatnonzero(toy.contigs == contig)
        truth = score_tests(toy.calls[rows], exact.left_out_V(trait, contig), toy.y(name), toy.design)
        check_tests(scanned, trait, truth, rows)


def test_frequencies_are_those_of_each_traits_samples(exact, scanned: Statistics) -> None:
    toy = exact.toy
    for trait, name in enumerate(TRAITS):
        observed = ~np.isnan(toy.y(name))
        expected = [row[row < 3].mean() / 2 if (row < 3).any() else np.nan for row in toy.calls[:, observed]]
        np.testing.assert_allclose(scanned.frequency[:, trait], expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["half", "holes"])
def test_without_loco_nothing_is_left_out(exact, name: str) -> None:
    toy, trait = exact.toy, TRAITS.index(name)
    model = with_predictors(exact.operator, exact.model, loco=False)
    truth = score_tests(toy.calls, exact.left_out_V(trait, -1), toy.y(name), toy.design)
    check_tests(scan_everything(exact.operator, model), trait, truth)


@pytest.mark.parametrize("solver", ["exact", "stochastic"])
def test_contigs_outside_the_model_are_tested_against_all_of_it(toy: Toy, solver: str) -> None:
    inside, outside = np.flatnonzero(toy.contigs < 3), np.flatnonzero(toy.contigs == 3)
    operator = operator_of(toy.store, variants=inside)
    model = fit_null_model(operator, toy.cohort("low", "holes"), FitConfig(solver=solver))  # type: ignore[arg-type]
    model = with_predictors(operator, model, tolerance=1e-6)
    assert "c3" not in model.loco["contig"].values
    setup = prepare_scan(toy.operator().source, model, operator, ScanConfig())
    found = score_everything(setup)["associations"]
    K = operator.dense() / operator.m
    for trait, name in enumerate(("low", "holes")):
        V = dense.covariance(model.components(trait).h2, K, toy.y(name), toy.design)
        truth = score_tests(toy.calls[outside], V, toy.y(name), toy.design)
        if solver == "exact":
            check_tests(found, trait, truth, outside)
        else:
            ratio = found.standard_error[outside, trait] / truth.standard_error
            assert np.nanstd(ratio) < 0.02
            assert np.nanmean(ratio) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", TRAITS)
def test_stochastic_solver_is_near(stochastic, name: str) -> None:
    """The numerator within the predictors' residual, the denominator within a few per cent."""
    trait = TRAITS.index(name)
    found = scan_everything(stochastic.operator, stochastic.model)
    truth = scan_everything(stochastic.operator, as_exact(stochastic.operator, stochastic.model))
    np.testing.assert_array_equal(np.isnan(found.chisq), np.isnan(truth.chisq))
    ratio = found.standard_error[:, trait] / truth.standard_error[:, trait]
    assert np.nanmean(ratio) == pytest.approx(1, abs=0.01)
    assert np.nanstd(ratio) < 0.02
    num = found.beta[:, trait] / found.standard_error[:, trait] ** 2
    expected = truth.beta[:, trait] / truth.standard_error[:, trait] ** 2
    assert np.nanstd((num - expected) * truth.standard_error[:, trait]) < 0.02  # in units of z


def test_one_contig_alone_leaves_no_relatedness(tmp_path: Path) -> None:
    """With a single contig V₋c = σ² I: the score test with the residual variance of the trait."""
    calls = structured_calls(100, 60)
    store = write_store(tmp_path / "one.zarr", calls)
    traits, covariates = toy_traits(calls, store.sample_id.tolist())
    operator, cohort = operator_of(store), align_cohort(store.sample_id, traits[["half"]], covariates)
    model = with_predictors(operator, fit_null_model(operator, cohort, FitConfig(solver="exact", fixed_h2=0.5)))
    X = np.column_stack([np.ones(60), covariates])
    y = traits["half"].to_numpy()
    residual = y - X @ np.linalg.lstsq(X, y)[0]
    V = residual @ residual / 57 * np.eye(60)
    check_tests(scan_everything(operator, model), 0, score_tests(calls, V, y, X))


# Variants that have no statistics


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[NDArray[np.uint8], dict[str, int], Statistics, Statistics]:
    """Scan a cohort with degenerate variants; give calls, their places, and both statistics of `full` and `part`."""
    calls = structured_calls(200, 90, seed=5)
    rng = np.random.default_rng(2)
    sex = rng.integers(0, 2, 90)
    unobserved = np.arange(90) < 12  # of the trait `part`
    place = {name: 10 + i for i, name in enumerate(
        ("no ALT", "all ALT", "all het", "never called", "sex", "sex with gaps", "unobserved carriers",
         "unobserved carriers, gaps")
    )}  # fmt: skip
    calls[10], calls[11], calls[12], calls[13] = 0, 2, 1, 3
    calls[14] = sex
    calls[15] = np.where(np.arange(90) % 9 == 0, 3, sex)
    calls[16] = np.where(np.arange(90) < 3, 1, 0)
    calls[17] = np.where(np.arange(90) > 86, 3, calls[16])
    store = write_store(tmp_path_factory.mktemp("odd") / "odd.zarr", calls, ["1"] * 100 + ["2"] * 100)
    ids = store.sample_id.tolist()
    y = rng.standard_normal(90)
    traits = pd.DataFrame({"full": y, "part": np.where(unobserved, np.nan, y)}, index=ids)
    covariates = pd.DataFrame({"sex": sex}, index=ids)
    operator = operator_of(store)
    model = fit_null_model(operator, align_cohort(ids, traits, covariates), FitConfig(solver="stochastic"))
    model = with_predictors(operator, model)
    found = score_everything(prepare_scan(operator.source, model, operator, ScanConfig(linear=True)))
    exactly = as_exact(operator, model)
    exact = score_everything(prepare_scan(operator.source, exactly, operator, ScanConfig(linear=True)))
    assert np.array_equal(np.isnan(exact["associations"].chisq), np.isnan(found["associations"].chisq))
    return calls, place, found["associations"], found["linear"]


@pytest.mark.parametrize("kind", ["mixed", "linear"])
@pytest.mark.parametrize("name", ["no ALT", "all ALT", "all het", "never called", "sex"])
def test_variants_that_do_not_vary_have_no_statistics(odd, name: str, kind: str) -> None:
    _, place, mixed, linear = odd
    found = mixed if kind == "mixed" else linear
    for field in ("beta", "standard_error", "chisq", "neg_log_10_p_value"):
        assert np.isnan(getattr(found, field)[place[name]]).all()


@pytest.mark.parametrize("name", ["unobserved carriers", "unobserved carriers, gaps"])
def test_variants_that_do_not_vary_in_a_traits_samples_have_none_for_it(odd, name: str) -> None:
    """Missing calls are set to the mean of everybody: they must not count as variation."""
    _, place, mixed, linear = odd
    for found in (mixed, linear):
        assert np.isfinite(found.chisq[place[name], 0])
        assert np.isnan(found.chisq[place[name], 1])
    assert mixed.frequency[place[name], 1] == 0


def test_every_other_variant_has_statistics(odd) -> None:
    calls, place, mixed, linear = odd
    sex = imputed(calls[[place["sex"]]])[0]
    expected = vary(calls, np.ones(90, dtype=bool)) & (np.abs(imputed(calls) - sex).max(axis=1) > 0)
    for found in (mixed, linear):
        np.testing.assert_array_equal(np.isfinite(found.chisq[:, 0]), expected)
