"""Genetic values and SNP effects against the dense formulas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from biolmm.errors import ParameterError
from biolmm.prediction.blup import Blup, blup, model_genotypes
from biolmm.reml.model import NullModel
from oracles import dense
from oracles.toy import Toy


@pytest.fixture
def found(model: NullModel, toy: Toy) -> Blup:
    return blup(model, model_genotypes(model, toy.store))


def test_genetic_values_are_henderson_s(model: NullModel, found: Blup, toy: Toy) -> None:
    for t, name in enumerate(model.trait_names):
        y, h2 = toy.y(name), model.components(t).h2
        V = dense.covariance(h2, toy.K, y, toy.design)
        sigma2_g = h2 * V[0, 0] / (h2 * toy.K[0, 0] + 1 - h2)
        expected = sigma2_g * toy.K @ dense.projected_solve(V, y, toy.design)
        assert len(expected) == toy.calls.shape[1]  # people without the trait as well
        np.testing.assert_allclose(found.genetic_values[:, t], expected, atol=1e-5 * np.abs(expected).max())


def test_effects_are_per_copy_of_alt(model: NullModel, found: Blup, toy: Toy) -> None:
    Z, weight = dense.standardised(toy.calls)
    table = found.weights.variants
    rows = table.position - 1
    assert rows.tolist() == np.flatnonzero(weight > 0).tolist()
    for t, name in enumerate(model.trait_names):
        y, h2 = toy.y(name), model.components(t).h2
        V = dense.covariance(h2, toy.K, y, toy.design)
        sigma2_g = h2 * V[0, 0] / (h2 * toy.K[0, 0] + 1 - h2)
        p = np.array([toy.calls[j][toy.calls[j] < 3].mean() / 2 for j in rows])
        z_effects = sigma2_g / weight.sum() * Z[rows] @ dense.projected_solve(V, y, toy.design)
        expected = z_effects / np.sqrt(2 * p * (1 - p))
        np.testing.assert_allclose(found.weights.W[:, t], expected, atol=1e-5 * np.abs(expected).max())


def test_effects_times_genotypes_are_the_genetic_values(found: Blup, toy: Toy) -> None:
    scores = found.weights.apply(toy.store).scores
    np.testing.assert_allclose(scores, found.genetic_values, atol=1e-5 * np.abs(scores).max())
    # The same by hand, from dosages and the offset, where nobody's call is missing: missing ones count as the mean.
    rows = found.weights.variants.position - 1
    dosages = np.where(toy.calls == 3, np.nan, toy.calls)[rows]
    dosages = np.where(np.isnan(dosages), 2 * found.weights.frequency[:, None], dosages)
    by_hand = dosages.T @ found.weights.W - found.weights.extra["offset"]
    np.testing.assert_allclose(by_hand, scores, atol=1e-5 * np.abs(scores).max())


def test_fixed_effects_are_generalised_least_squares(model: NullModel, found: Blup, toy: Toy) -> None:
    cohort = model.cohort()
    X = np.column_stack([np.ones(cohort.n_samples), cohort.covariates])
    for t, name in enumerate(model.trait_names):
        y = toy.y(name)
        seen = ~np.isnan(y)
        V = dense.covariance(model.components(t).h2, toy.K, y, toy.design)[np.ix_(seen, seen)]
        inverse = np.linalg.inv(V)
        expected = np.linalg.solve(X[seen].T @ inverse @ X[seen], X[seen].T @ inverse @ y[seen])
        np.testing.assert_allclose(found.fixed_effects.loc[name], expected, atol=1e-4 * np.abs(expected).max())


def test_leaving_contigs_out_changes_no_prediction(toy: Toy, fitted: Callable[[str, bool], NullModel]) -> None:
    models = [fitted("stochastic", loco) for loco in (True, False)]
    genotypes = model_genotypes(models[0], toy.store)
    one, other = (blup(each, genotypes) for each in models)
    # Both solve the whole genome to 1e-6 of the right-hand side; H's smallest eigenvalue is 1 − h² or more.
    np.testing.assert_allclose(one.weights.W, other.weights.W, atol=1e-5 * np.abs(one.weights.W).max())
    np.testing.assert_allclose(one.genetic_values, other.genetic_values, atol=1e-5 * np.abs(one.genetic_values).max())


def test_contigs_add_up_to_the_whole(model: NullModel, found: Blup, toy: Toy) -> None:
    weights = found.weights
    parts = np.zeros_like(found.genetic_values)
    for contig in range(len(toy.store.contig_id)):
        inside = weights.variants.contig == contig
        parts += replace(weights, W=np.where(inside[:, None], weights.W, 0.0)).apply(toy.store).scores
    np.testing.assert_allclose(parts, found.genetic_values, atol=1e-5 * np.abs(parts).max())


def test_a_model_without_predictors_is_refused(model: NullModel, toy: Toy) -> None:
    with pytest.raises(ParameterError, match="no predictors"):
        blup(replace(model, loco=None), model_genotypes(model, toy.store))
