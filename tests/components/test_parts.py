"""A fit in parts: the same as at once, finished parts are taken as they are, and predictions by their definition."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biolmm.components import ComponentConfig, ComponentFit, Problem, fit_components, parts
from biolmm.components.parts import BLUP, FITS, TRAITS_AT_ONCE, FinishedParts, fit_in_parts
from biolmm.covariance import Term
from biolmm.covariance.genetic import GenotypePanel
from biolmm.covariance.groups import GroupKernel
from biolmm.covariance.noise import category_noise, common_noise
from oracles.toy import Toy

EXACT = ComponentConfig(solver="exact")


@pytest.fixture(scope="module")
def terms(toy: Toy) -> tuple[Term, ...]:
    rng = np.random.default_rng(1)
    n = toy.store.n_samples
    genetic = Term.normalised("genetic", GenotypePanel(toy.operator().genotypes).kernel())
    family = Term.normalised("family", GroupKernel(rng.integers(0, 60, n)))
    return genetic, family, common_noise(n)


def text(value: Any) -> str:
    """Write a value so that every digit shows."""
    return json.dumps(value, default=vars)


def same(one: ComponentFit, other: ComponentFit) -> bool:
    """Whether two fits are the same to the last bit."""
    for field in fields(ComponentFit):
        a, b = getattr(one, field.name), getattr(other, field.name)
        alike = np.array_equal(a, b, equal_nan=True) if isinstance(a, np.ndarray) else text(a) == text(b)
        if not alike:
            return False
    return True


def test_parts_are_the_whole(toy: Toy, terms: tuple[Term, ...]) -> None:
    cohort = toy.cohort("half", "gaps", "holes")
    whole = fit_components(Problem.of(terms, cohort), EXACT)
    found = fit_in_parts(terms, cohort, EXACT)
    assert all(same(one, other) for one, other in zip(found.fits, whole.fits, strict=True))


def test_a_stop_costs_the_part_at_work(
    toy: Toy, terms: tuple[Term, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, config = toy.cohort("half", "gaps", "holes"), replace(EXACT, blup=True)
    expected = fit_in_parts(terms, cohort, config).fits
    fitted: list[str] = []

    def stops(problem: Problem, *more: Any) -> Any:
        if "holes" in problem.cohort.trait_names and len(fitted) == 2:
            fitted.append("stop")
            raise KeyboardInterrupt
        fitted.extend(problem.cohort.trait_names)
        return fit_components(problem, *more)

    monkeypatch.setattr(parts, "fit_components", stops)
    with pytest.raises(KeyboardInterrupt):
        fit_in_parts(terms, cohort, config, None, FinishedParts(tmp_path, "key"))
    found = fit_in_parts(terms, cohort, config, None, FinishedParts(tmp_path, "key"))
    assert fitted == ["half", "gaps", "stop", "holes"]
    assert all(same(one, other) for one, other in zip(found.fits, expected, strict=True))
    # Another analysis, and another question about the same, find nothing that is theirs.
    fit_in_parts(terms, toy.cohort("half"), config, None, FinishedParts(tmp_path, "other"))
    fit_in_parts(terms, toy.cohort("half"), replace(config, test=False), None, FinishedParts(tmp_path, "key"))
    fit_in_parts(terms, toy.cohort("half"), config, None, FinishedParts(tmp_path, "key"), {"spatial": 3.0})
    assert fitted[4:] == ["half"] * 3


@pytest.mark.parametrize("damage", ["cut", "emptied", "lost", "predictions"])
def test_a_damaged_part_is_made_again(toy: Toy, terms: tuple[Term, ...], tmp_path: Path, damage: str) -> None:
    cohort, config = toy.cohort("half"), replace(EXACT, blup=True)
    finished = FinishedParts(tmp_path, "key")
    expected = fit_in_parts(terms, cohort, config, None, finished).fits[0]
    folder = next(path for path in tmp_path.iterdir() if path.is_dir())
    if damage == "cut":
        (folder / FITS).write_text((folder / FITS).read_text()[:-40])
    elif damage == "emptied":
        (folder / FITS).write_text(json.dumps([{}]))
    elif damage == "lost":
        (folder / FITS).unlink()
    else:
        (folder / BLUP).write_bytes(b"")
    assert same(fit_in_parts(terms, cohort, config, None, finished).fits[0], expected)
    assert same(fit_in_parts(terms, cohort, config, None, finished).fits[0], expected)


def test_the_stochastic_solver_takes_several_traits_at_once(
    toy: Toy, terms: tuple[Term, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def noted(problem: Problem, *more: Any) -> Any:
        seen.append(problem.cohort.trait_names)
        return fit_components(problem, *more)

    monkeypatch.setattr(parts, "fit_components", noted)
    monkeypatch.setitem(TRAITS_AT_ONCE, "stochastic", 2)
    cohort, config = toy.cohort("half", "low", "gaps"), ComponentConfig(solver="stochastic", test=False)
    found = fit_in_parts(terms, cohort, config)
    assert seen == [("half", "low"), ("gaps",)]
    exact = fit_in_parts(terms, cohort, EXACT)
    for one, other in zip(found.fits, exact.fits, strict=True):
        allowed = 4 * one.component("total").share_mc_se + 0.05 * one.component("total").share_se
        assert abs(one.component("total").share - other.component("total").share) < allowed


# Predictions


@pytest.mark.parametrize("solver", ["exact", "stochastic"])
def test_predictions_are_their_definition(toy: Toy, terms: tuple[Term, ...], solver: str) -> None:
    """ûᵢ = θᵢ Kᵢ P_V y with the θ that was found; people without the trait too."""
    n = toy.store.n_samples
    noise = category_noise("site", np.arange(n) % 2, ["a", "b"])
    used = (*terms[:2], *noise)
    cohort = toy.cohort("half", "gaps")
    found = fit_in_parts(used, cohort, ComponentConfig(solver=solver, test=False, blup=True))  # type: ignore[arg-type]
    table = found.predictions(cohort)
    assert table.columns.tolist() == ["trait", "sample_id", "observed", "genetic", "family", "total"]
    for fit in found.fits:
        y, X = toy.y(fit.trait), toy.design
        seen = ~np.isnan(y)
        matrices = [term.dense() for term in used]
        V = np.einsum("q,qij->ij", fit.theta, np.array(matrices))[np.ix_(seen, seen)]
        inverse, X = np.linalg.inv(V), X[seen]
        effects = np.linalg.solve(X.T @ inverse @ X, X.T @ inverse @ y[seen])
        solution = inverse @ (y[seen] - X @ effects)
        expected = [theta * K[:, seen] @ solution for theta, K in zip(fit.theta, matrices, strict=True)]
        assert fit.blup is not None
        # Conjugate gradients stop at a relative residual of 1e-4; V is conditioned within a hundred.
        tolerance = 1e-9 if solver == "exact" else 3e-3
        np.testing.assert_allclose(fit.blup, expected, atol=tolerance * np.std(y[seen]))
        mine = table[table["trait"] == fit.trait]
        assert mine["sample_id"].tolist() == cohort.sample_id.tolist()
        assert mine["observed"].tolist() == seen.tolist()
        np.testing.assert_array_equal(mine["family"], fit.blup[1])
        np.testing.assert_allclose(mine["total"], fit.blup[:2].sum(axis=0))
        # What was observed is covariates, effects and noise.
        np.testing.assert_allclose(X @ effects + fit.blup.sum(axis=0)[seen], y[seen], atol=tolerance * np.std(y[seen]))


def test_predictions_are_made_on_request(toy: Toy, terms: tuple[Term, ...]) -> None:
    found = fit_in_parts(terms, toy.cohort("half"), EXACT)
    assert found.fits[0].blup is None
    assert found.predictions(toy.cohort("half")).empty
