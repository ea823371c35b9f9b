"""The restricted likelihood over a spectrum against the definition with explicit matrices."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from biolmm.linalg.operators import Restriction
from biolmm.reml.likelihood import QuadraticMeasure, RestrictedLikelihood, TraceMeasure
from biolmm.reml.spectrum import exact_eigenpairs
from oracles import dense
from oracles.toy import structured_calls

N = 90
K = dense.relatedness(structured_calls(250, N))
X = np.column_stack([np.ones(N), np.random.default_rng(5).standard_normal(N)])
NOTHING = np.zeros((0, 0))


def trait(h2: float, n_missing: int, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(h2 * K + (1 - h2) * np.eye(N))
    y = 5 + vectors @ (np.sqrt(np.maximum(values, 0)) * rng.standard_normal(N))
    y[rng.choice(N, n_missing, replace=False)] = np.nan
    return y


def likelihood(y: NDArray[np.float64]) -> RestrictedLikelihood:
    observed = ~np.isnan(y)
    basis = np.zeros(X.shape)
    basis[observed] = np.linalg.qr(X[observed])[0]
    values, vectors = exact_eigenpairs(K, Restriction(observed, basis))
    quadratic = QuadraticMeasure(values, (vectors.T @ y[observed]) ** 2)
    return RestrictedLikelihood(TraceMeasure(values, NOTHING, NOTHING, 0, 0.0), quadratic, len(values))


@pytest.mark.parametrize("n_missing", [0, 15])
@pytest.mark.parametrize("h2", [0.0, 0.05, 0.5, 0.95, 0.9999])
def test_deviance_is_minus_twice_the_restricted_log_likelihood(h2: float, n_missing: int) -> None:
    y = trait(0.5, n_missing)
    found = likelihood(y).deviance(np.array([h2]))[0]
    assert found == pytest.approx(dense.deviance(h2, K, y, X), abs=1e-7)


@pytest.mark.parametrize("h2", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("n_missing", [0, 15])
def test_standard_error_is_that_of_the_fisher_information_of_both_components(h2: float, n_missing: int) -> None:
    y = trait(0.5, n_missing)
    expected = dense.h2_standard_error(h2, K, ~np.isnan(y), X)
    assert likelihood(y).at(h2).h2_se == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("n_missing", [0, 15])
@pytest.mark.parametrize("seed", range(4))
def test_fit_maximises_the_definition(seed: int, n_missing: int) -> None:
    y = trait([0.2, 0.5, 0.8, 0.95][seed], n_missing, seed)
    h2, variance = dense.reml(K, y, X)
    found = likelihood(y).fit()
    assert found.h2 == pytest.approx(h2, abs=1e-6)
    assert found.sigma2_g + found.sigma2_e == pytest.approx(variance, rel=1e-5)
    assert found.sigma2_g == pytest.approx(found.h2 * (found.sigma2_g + found.sigma2_e))
    assert found.h2_mc_se == 0


def test_log_likelihood_and_ratio_follow_from_the_deviance() -> None:
    y = trait(0.6, 0)
    found = likelihood(y).fit()
    at, null = dense.deviance(found.h2, K, y, X), dense.deviance(0.0, K, y, X)
    degrees = N - X.shape[1]
    assert found.log_likelihood == pytest.approx(-0.5 * (at + degrees * (1 + np.log(2 * np.pi))), abs=1e-6)
    assert found.lrt == pytest.approx(null - at, abs=1e-6)
    assert found.lrt_p == pytest.approx(chi2.sf(found.lrt, 1) / 2, rel=1e-6)


def test_no_heritability_is_a_result_at_the_boundary() -> None:
    """A trait anticorrelated with relatedness: its likelihood falls from h² = 0 on."""
    values, vectors = np.linalg.eigh(K)
    y = vectors[:, values < np.median(values)] @ np.ones(int((values < np.median(values)).sum()))
    assert dense.deviance(0.02, K, y, X) > dense.deviance(0.0, K, y, X)
    found = likelihood(y).fit()
    assert found.h2 == 0
    assert found.sigma2_g == 0
    assert (found.lrt, found.lrt_p) == (0.0, 1.0)
    assert 0 < found.h2_se < np.inf


def test_a_scaled_trait_has_scaled_components_and_the_same_h2() -> None:
    y = trait(0.5, 10)
    one, thousand = likelihood(y).fit(), likelihood(1000 * y).fit()
    assert thousand.h2 == pytest.approx(one.h2, abs=1e-7)
    assert thousand.sigma2_g == pytest.approx(1e6 * one.sigma2_g, rel=1e-6)


def random_measure(seed: int, n_probes: int = 6) -> TraceMeasure:
    rng = np.random.default_rng(seed)
    nodes, weights = rng.uniform(0.1, 4, (n_probes, 5)), rng.uniform(0, 10, (n_probes, 5))
    return TraceMeasure(rng.uniform(5, 9, 3), nodes, weights, dimension=40, trace=51.0)


@pytest.mark.parametrize("seed", range(3))
def test_linear_functions_are_exact_whatever_the_probes(seed: int) -> None:
    """The control variate: dimension and trace are known, so 2 + 3λ has no Monte-Carlo error."""
    measure = random_measure(seed)
    f = [np.array([2 + 3 * values, np.ones_like(values)]) for values in (measure.values, measure.nodes)]
    mean, error = measure.estimate(*f)
    np.testing.assert_allclose(mean, [(2 + 3 * measure.values).sum() + 2 * 40 + 3 * 51, 3 + 40], rtol=1e-12)
    np.testing.assert_allclose(error, 0, atol=1e-10)


def test_adding_a_line_adds_its_exact_trace() -> None:
    measure = random_measure(1)
    f = [np.log(values)[None] for values in (measure.values, measure.nodes)]
    g = [np.log(values)[None] + 7 - values for values in (measure.values, measure.nodes)]
    (plain, error), (tilted, same_error) = measure.estimate(*f), measure.estimate(*g)
    assert tilted[0] - plain[0] == pytest.approx((7 - measure.values).sum() + 7 * 40 - 51, rel=1e-9)
    assert same_error[0] == pytest.approx(error[0], rel=1e-9)


def test_one_probe_has_an_unknown_error_and_none_at_all_has_none() -> None:
    measure = random_measure(0, n_probes=1)
    assert measure.estimate(np.log(measure.values)[None], np.log(measure.nodes)[None])[1] == np.inf
    everything = TraceMeasure(measure.values, NOTHING, NOTHING, 0, 0.0)
    mean, error = everything.estimate(np.log(measure.values)[None], np.zeros((1, 0, 0)))
    assert mean[0] == pytest.approx(np.log(measure.values).sum())
    assert error[0] == 0


def test_empty_nodes_do_not_count() -> None:
    """Probes of fewer steps are padded with nodes of weight 0."""
    measure = random_measure(2)
    nodes, weights = (np.pad(a, ((0, 0), (0, 4))) for a in (measure.nodes, measure.weights))
    padded = TraceMeasure(measure.values, nodes, weights, measure.dimension, measure.trace)
    for left, right in zip(
        measure.estimate(np.log1p(measure.values)[None], np.log1p(measure.nodes)[None]),
        padded.estimate(np.log1p(measure.values)[None], np.log1p(nodes)[None]),
        strict=True,
    ):
        np.testing.assert_allclose(left, right, rtol=1e-12)
