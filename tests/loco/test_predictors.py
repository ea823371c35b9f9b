"""Left-out predictors against V₋c written out."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.typing import NDArray

from biolmm.cohort import align_cohort
from biolmm.loco import ALL_CONTIGS, solve_predictors
from biolmm.loco import predictors as predictors_module
from biolmm.loco.predictors import left_out_systems, trait_projection
from biolmm.loco.systems import left_out_values
from biolmm.reml.fit import FitConfig, fit_null_model
from biolmm.reml.model import NullModel, open_model
from biolmm.reml.spectrum import SpectrumConfig
from contracts import draw
from oracles import dense
from oracles.toy import Toy, operator_of

TRAITS = ("half", "low", "none", "gaps", "holes")
EXACT = FitConfig(solver="exact", spectrum=SpectrumConfig(n_pairs=5))


@pytest.fixture(scope="module")
def exact(toy: Toy) -> NullModel:
    return fit_null_model(toy.operator(), toy.cohort(), EXACT)


@pytest.fixture(scope="module")
def stochastic(toy: Toy) -> NullModel:
    return fit_null_model(toy.operator(), toy.cohort(), replace(EXACT, solver="stochastic"))


def left_out_matrix(toy: Toy, contig: str) -> NDArray[np.float64]:
    return toy.left_out_K[contigs(toy).index(contig)]


def system(toy: Toy, model: NullModel, contig: str, trait: int) -> NDArray[np.float64]:
    """Write out H₋c at the whole genome's h²."""
    h2, K = model.components(trait).h2, left_out_matrix(toy, contig)
    return h2 * K + (1 - h2) * np.eye(len(K))


def total_variance(toy: Toy, model: NullModel, contig: str, trait: int) -> float:
    """Write out σ²_c = yᵀP_H y / (n − C) under H₋c."""
    y = toy.y(TRAITS[trait])
    x = dense.projected_solve(system(toy, model, contig, trait), y, toy.design)
    return float(np.nan_to_num(y) @ x / dense.complement(~np.isnan(y), toy.design).shape[1])


@pytest.mark.parametrize("trait", range(5), ids=TRAITS)
@pytest.mark.parametrize("contig", ["c0", "c1", "c2", "c3", ALL_CONTIGS])
def test_exact_predictor_is_the_definition(toy: Toy, exact: NullModel, contig: str, trait: int) -> None:
    place = contigs(toy).index(contig)
    found = solve(toy, exact).predictor.values[place, trait]
    total = total_variance(toy, exact, contig, trait)
    assert solve(toy, exact).total_variance.values[place, trait] == pytest.approx(total, rel=1e-7)  # calls to ε
    x = dense.projected_solve(total * system(toy, exact, contig, trait), toy.y(TRAITS[trait]), toy.design)
    np.testing.assert_allclose(found, x, atol=1e-5 * np.abs(x).max())
    assert not found[np.isnan(toy.y(TRAITS[trait]))].any()


_SOLVED: dict[tuple[int, float], xr.Dataset] = {}


def solve(toy: Toy, model: NullModel, tolerance: float = 5e-3) -> xr.Dataset:
    """Solve once for all tests of a model."""
    key = (id(model), tolerance)
    if key not in _SOLVED:
        _SOLVED[key] = solve_predictors(toy.operator(), model, tolerance=tolerance)
    return _SOLVED[key]


def contigs(toy: Toy) -> list[str]:
    return [*toy.store.contig_id, ALL_CONTIGS]


@pytest.mark.parametrize("tolerance", [5e-3, 1e-5])
@pytest.mark.parametrize("trait", range(5), ids=TRAITS)
def test_iterative_predictor_has_the_residual_it_reports(
    toy: Toy, stochastic: NullModel, trait: int, tolerance: float
) -> None:
    found = solve(toy, stochastic, tolerance)
    assert found.contig.values.tolist() == contigs(toy)
    assert found.converged.values.all()
    y = toy.y(TRAITS[trait])
    A = dense.complement(~np.isnan(y), toy.design)
    right = A.T @ np.nan_to_num(y)
    for position, contig in enumerate(contigs(toy)):
        H = system(toy, stochastic, contig, trait)
        total = found.total_variance.values[position, trait]
        x = found.predictor.values[position, trait] * total
        residual = np.linalg.norm(right - A.T @ H @ x) / np.linalg.norm(right)
        # Products are in single precision: what a residual is worth ends at about √(N+M)·ε·κ = 4e-6·κ, κ < 5.
        reported = found.relative_residual.values[position, trait]
        assert reported <= tolerance
        assert residual <= reported + 2e-5  # a step without a product may have left less than it was taken to
        assert reported <= 3 * residual + 2e-5
        truth = dense.projected_solve(H, y, toy.design)
        # H is at least 1 − h²: residuals turn into errors by no more than its inverse.
        smallest = 1 - stochastic.components(trait).h2
        assert np.linalg.norm(x - truth) <= (tolerance + 2e-5) * np.linalg.norm(right) / smallest
        assert not x[np.isnan(y)].any()
        # σ² lacks no more than the rᵀH⁻¹r of a residual, second order, and rounding of r.
        size = np.linalg.norm(right)
        missed = (reported * size) ** 2 / smallest + 2e-5 * size * np.linalg.norm(x)
        assert abs(total - total_variance(toy, stochastic, contig, trait)) <= missed / len(right)


def test_total_variance_of_the_whole_genome_is_that_of_the_fit(
    toy: Toy, exact: NullModel, stochastic: NullModel
) -> None:
    """Both profile it out at the same h²: by eigenvalues, and by Lanczos quadrature to a per mille of the variance."""
    for model, tolerance in ((exact, 1e-8), (stochastic, 1e-3)):
        fitted = model.dataset["sigma2_g"].values + model.dataset["sigma2_e"].values
        np.testing.assert_allclose(solve(toy, model).total_variance.values[-1], fitted, rtol=tolerance)


def test_total_variance_grows_where_the_contig_holds_the_effects(toy: Toy) -> None:
    """What the left-out contig explains is left to σ²_c: were it that of the whole genome, its tests would be inflated."""
    rng = np.random.default_rng(8)
    Z = dense.standardised(toy.calls)[0][toy.contigs == 1]
    y = Z.T @ rng.standard_normal(len(Z)) / np.sqrt(len(Z)) + rng.standard_normal(toy.store.n_samples)
    cohort = align_cohort(toy.store.sample_id, pd.DataFrame({"y": y}, index=toy.store.sample_id), None)
    model = fit_null_model(toy.operator(), cohort, EXACT)
    total = solve_predictors(toy.operator(), model).total_variance.values[:, 0]
    assert total.argmax() == 1
    assert total[1] > 1.05 * total[-1]


def test_few_iterations_suffice(toy: Toy, stochastic: NullModel) -> None:
    """Started from the whole genome's solution and preconditioned by its pairs."""
    found = solve(toy, stochastic)
    assert found.iterations.values.max() <= 6
    assert found.iterations.values[-1].max() <= 2  # nothing left out: the start nearly is the solution


def test_passes_are_one_more_for_the_residuals_and_one_for_the_preconditioner(
    toy: Toy, stochastic: NullModel, reads: Counter[int]
) -> None:
    operator = toy.operator()
    reads.clear()
    found = solve_predictors(operator, stochastic)
    assert reads[0] == operator.counter.passes == 2 + found.iterations.values.max()


def test_nothing_left_out_on_request(toy: Toy, exact: NullModel, stochastic: NullModel) -> None:
    for model in (exact, stochastic):
        found = solve_predictors(toy.operator(), model, loco=False)
        assert found.contig.values.tolist() == [ALL_CONTIGS]
        np.testing.assert_allclose(
            found.predictor.values[0], solve(toy, model).predictor.values[-1], rtol=1e-3, atol=1e-4
        )


def test_contigs_without_model_variants_use_the_whole_genome(toy: Toy) -> None:
    variants = np.flatnonzero(toy.contigs != 2)
    for solver in ("exact", "stochastic"):
        operator = operator_of(toy.store, variants=variants)
        model = fit_null_model(operator, toy.cohort("half"), replace(EXACT, solver=solver))
        found = solve_predictors(operator, model)
        assert found.contig.values.tolist() == ["c0", "c1", "c3", ALL_CONTIGS]


def test_the_only_contig_leaves_nothing_but_noise(toy: Toy) -> None:
    """K₋c = 0: the predictor is P y over the residual variance ‖P y‖² / (n − C), whatever h² is."""
    variants = np.flatnonzero(toy.contigs == 0)
    for solver in ("exact", "stochastic"):
        operator = operator_of(toy.store, variants=variants)
        model = fit_null_model(operator, toy.cohort("gaps"), replace(EXACT, solver=solver))
        found = solve_predictors(operator, model, tolerance=1e-5)
        y = toy.y("gaps")
        A = dense.complement(~np.isnan(y), toy.design)
        rotated = A.T @ np.nan_to_num(y)
        expected = A @ rotated / (rotated @ rotated / len(rotated))
        np.testing.assert_allclose(found.predictor.values[0, 0], expected, atol=1e-4 * np.abs(expected).max())


def test_batches_of_traits_give_the_same_answers(toy: Toy, stochastic: NullModel) -> None:
    found = solve_predictors(toy.operator(), stochastic, memory_bytes=1)
    together = solve(toy, stochastic)
    np.testing.assert_array_equal(found.iterations, together.iterations)
    size = np.abs(together.predictor.values).max()
    # The width of a block may change the order of sums: last bits of single precision, a few products long.
    np.testing.assert_allclose(found.predictor, together.predictor, atol=1e-5 * size)
    np.testing.assert_allclose(found.relative_residual, together.relative_residual, atol=1e-5)


@pytest.mark.parametrize("unit", [1e-24, 1e22])
def test_the_unit_of_a_trait_does_not_matter(toy: Toy, stochastic: NullModel, unit: float) -> None:
    """Variances may lie beyond what single precision holds."""
    data = stochastic.dataset
    scaled = replace(stochastic, dataset=data.assign(y=data["y"] * unit, solution=data["solution"] * np.float32(unit)))
    found, expected = solve_predictors(toy.operator(), scaled), solve(toy, stochastic)
    size = np.abs(expected.predictor.values).max()
    np.testing.assert_allclose(found.predictor.values.astype(float) * unit, expected.predictor.values, atol=1e-4 * size)
    np.testing.assert_allclose(found.total_variance.values / unit**2, expected.total_variance.values, rtol=1e-5)


@pytest.mark.parametrize("name", ["half", "holes"])
def test_other_traits_do_not_matter(toy: Toy, stochastic: NullModel, name: str) -> None:
    model = fit_null_model(toy.operator(), toy.cohort(name), replace(EXACT, solver="stochastic"))
    alone = solve_predictors(toy.operator(), model).predictor.values[:, 0]
    together = solve(toy, stochastic).predictor.values[:, TRAITS.index(name)]
    np.testing.assert_allclose(alone, together, atol=1e-4 * np.abs(together).max())


def test_what_did_not_converge_is_said(
    toy: Toy, stochastic: NullModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    solve_pcg = predictors_module.solve_pcg
    monkeypatch.setattr(predictors_module, "solve_pcg", lambda *a, **k: solve_pcg(*a, **k, max_iterations=1))
    with caplog.at_level(logging.WARNING):
        found = solve_predictors(toy.operator(), stochastic, tolerance=1e-6)
    assert not found.converged.values.all()
    assert "did not converge" in caplog.text


def test_preconditioner_is_a_positive_definite_guess_at_the_inverse(toy: Toy, stochastic: NullModel) -> None:
    systems = left_out_systems(toy.operator(), stochastic, [0, 3, -1], [0])
    columns = np.arange(3)
    X = systems.spectra[0].restriction.project(draw((toy.store.n_samples, 3))).astype(np.float32)
    z = systems.precondition(X, columns)
    assert np.all((X * z).sum(axis=0) > 0)
    back = systems.products(z, columns)
    # Identity where eigenvectors are known, and elsewhere the ratio of an eigenvalue to their mean.
    assert np.all(np.linalg.norm(back - X, axis=0) < np.linalg.norm(X - systems.products(X, columns), axis=0) + 1e-3)


def test_left_out_eigenvalues_are_quadratic_forms(toy: Toy, stochastic: NullModel) -> None:
    spectra = [stochastic.spectrum(0), stochastic.spectrum(1)]
    found = left_out_values(toy.operator(), spectra)
    for spectrum, values in zip(spectra, found, strict=True):
        U = spectrum.pairs.vectors.astype(np.float64)
        for position, contig in enumerate(contigs(toy)):
            expected = np.einsum("ik,ij,jk->k", U, left_out_matrix(toy, contig), U)
            np.testing.assert_allclose(values[position], expected, rtol=1e-5)


def test_the_projection_of_a_trait_is_dense_algebra(toy: Toy, exact: NullModel) -> None:
    trait = TRAITS.index("holes")
    projection = trait_projection(left_out_matrix(toy, "c1"), exact, trait)
    y = toy.y("holes")
    x = dense.projected_solve(system(toy, exact, "c1", trait), y, toy.design)
    np.testing.assert_allclose(projection.solve(np.nan_to_num(y)[:, None])[:, 0], x, atol=1e-9 * np.abs(x).max())


def test_predictors_are_saved_with_the_model(toy: Toy, exact: NullModel, tmp_path: Path) -> None:
    predictors = solve(toy, exact)
    replace(exact, loco=predictors).save(tmp_path)
    opened = open_model(tmp_path).loco
    assert opened is not None
    xr.testing.assert_equal(opened.load(), predictors)
