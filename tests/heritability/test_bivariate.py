"""Bivariate REML: by a search without derivatives on explicit matrices, on the same samples, some, or none in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from biolmm.heritability.bivariate import PairEstimate
from biolmm.heritability.overlap import Contrasts, DenseLikelihood, fit_dense
from biolmm.heritability.spectral import (
    SpectralLikelihood,
    TraitMeasures,
    block_lanczos,
    exact_measures,
    fit_same_samples,
)
from biolmm.linalg.krylov import Eigenpairs
from biolmm.linalg.operators import Restriction
from biolmm.reml.likelihood import TraceMeasure
from biolmm.reml.spectrum import Spectrum
from oracles import bivariate as oracle

N = 90
Array = NDArray[np.float64]
NOTHING = np.zeros((0, 0))


@dataclass(frozen=True)
class Family:
    """Relatives in blocks with noise, so that pairs of variances are told apart by few people."""

    K: Array
    X: Array

    def draw(self, rg: float, seed: int, h2: tuple[float, float] = (0.6, 0.5), re: float = 0.3) -> tuple[Array, Array]:
        rng = np.random.default_rng(seed)
        L = np.linalg.cholesky(self.K + 1e-9 * np.eye(len(self.K)))
        g = rng.standard_normal((len(self.K), 2))
        e = rng.standard_normal((len(self.K), 2))
        g[:, 1] = rg * g[:, 0] + np.sqrt(1 - rg**2) * g[:, 1]
        e[:, 1] = re * e[:, 0] + np.sqrt(1 - re**2) * e[:, 1]
        y = L @ g * np.sqrt(h2) + e * np.sqrt(1 - np.array(h2))
        return y[:, 0] + self.X @ [1.0, 0.5], 3 * y[:, 1] - self.X @ [2.0, 0.0]

    def restriction(self, y: Array) -> Restriction:
        observed = ~np.isnan(y)
        basis = np.zeros(self.X.shape)
        basis[observed] = np.linalg.qr(self.X[observed])[0]
        return Restriction(observed, basis)


def family(n: int = N, size: int = 5, seed: int = 0) -> Family:
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, 4 * n))
    shared = np.repeat(rng.standard_normal((n // size, 4 * n)), size, axis=0)
    K = np.cov(0.7 * shared + np.sqrt(1 - 0.49) * Z)
    return Family(K, np.column_stack([np.ones(n), rng.standard_normal(n)]))


@pytest.fixture(scope="module")
def people() -> Family:
    return family()


def same_samples(people: Family, y: tuple[Array, Array]) -> PairEstimate:
    restriction = people.restriction(y[0])
    nothing = Eigenpairs(np.zeros(0), np.zeros((len(people.K), 0), np.float32), np.zeros(0))
    spectrum = Spectrum(restriction, nothing, TraceMeasure(np.zeros(0), NOTHING, NOTHING, restriction.rank, 0.0))
    trace, measures = exact_measures(people.K, np.stack(y, axis=1), spectrum)
    return fit_same_samples(trace, measures, 0, 1, restriction.rank)


def dense(people: Family, y: tuple[Array, Array]) -> PairEstimate:
    return fit_dense(people.K, y, [people.restriction(t) for t in y])


def hide(y: tuple[Array, Array], kind: str) -> tuple[Array, Array]:
    """Hide nothing, a third of either trait, or each half."""
    one, other = y[0].copy(), y[1].copy()
    n = len(one)
    if kind == "partial":
        one[np.arange(n) % 3 == 0], other[np.arange(n) % 4 == 1] = np.nan, np.nan
    elif kind == "none":
        one[::2], other[1::2] = np.nan, np.nan
    return one, other


@pytest.mark.parametrize("kind", ["same", "partial", "none"])
def test_the_estimate_is_the_maximum(people: Family, kind: str) -> None:
    y = hide(people.draw(0.5, seed=4), kind)
    found = dense(people, y)
    assert found.flag == ""
    free = [0, 1, 2, 3, 5] if kind == "none" else list(range(6))
    theta, value = oracle.reml(
        people.K, y, people.X, np.nan_to_num(found.theta) * [1.05, 0.9, 0.95, 1.02, 0.9, 1.1], free
    )
    # Nelder–Mead cannot beat it, and what it finds is the same: −ℓ is flat to 1e-10, θ to its root.
    A, u = oracle.contrasts(y, people.X)
    mine = oracle.minus_log_likelihood(np.nan_to_num(found.theta), people.K, A, u)
    assert mine <= value + 1e-8
    np.testing.assert_allclose(np.nan_to_num(found.theta), theta, rtol=1e-5, atol=1e-5 * np.abs(theta).max())
    assert found.rg == pytest.approx(theta[1] / np.sqrt(theta[0] * theta[2]), abs=1e-5)
    assert found.log_likelihood == pytest.approx(-mine, abs=1e-8)
    null = oracle.reml(people.K, y, people.X, np.nan_to_num(found.theta), [i for i in free if i != 1])[1]
    assert found.rg0_lrt == pytest.approx(2 * (null - value), abs=1e-6)
    if kind == "none":
        assert np.isnan(found.theta[4])
        assert np.isfinite(found.rg_se)


def test_rotated_pairs_are_the_same_likelihood(people: Family) -> None:
    y = people.draw(0.4, seed=2)
    one, other = same_samples(people, y), dense(people, y)
    np.testing.assert_allclose(one.theta, other.theta, rtol=1e-6)
    np.testing.assert_allclose(one.covariance, other.covariance, rtol=1e-4)
    for name in ("rg", "rg_se", "rg0_lrt", "rg1_lrt", "log_likelihood"):
        # Traits are scaled alike, so ℓ is too.
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-5, abs=1e-6), name
    assert one.rg_mc_se == 0


@pytest.mark.parametrize("which", ["spectral", "dense"])
def test_derivatives(people: Family, which: str) -> None:
    """The gradient by differences; AI is the mean of observed and expected information, so its trace part is too."""
    y = people.draw(0.2, seed=7)
    restriction = people.restriction(y[0])
    parts = [Contrasts.of(people.K, t, restriction) for t in y]
    if which == "dense":
        likelihood = DenseLikelihood(*parts, people.K)
    else:
        trace = TraceMeasure(parts[0].values, NOTHING, NOTHING, 0, 0.0)
        C = np.stack([parts[0].y, parts[1].y], axis=1)
        likelihood = SpectralLikelihood(trace, parts[0].values, C, restriction.rank)
    theta = np.array([0.6, 0.2, 4.0, 0.5, 0.1, 5.0])
    at = likelihood.evaluate(theta)
    steps = 1e-5 * np.eye(6)
    differences = [(likelihood.evaluate(theta + s).value - likelihood.evaluate(theta - s).value) / 2e-5 for s in steps]
    np.testing.assert_allclose(at.gradient, differences, rtol=1e-5, atol=1e-5)
    A, u = oracle.contrasts(y, people.X)
    G, E = (np.array([[t[0], t[1]], [t[1], t[2]]]) for t in (theta[:3], theta[3:]))
    V = A.T @ (np.kron(G, people.K) + np.kron(E, np.eye(N))) @ A
    patterns = [np.array(p, dtype=float) for p in ([[1, 0], [0, 0]], [[0, 1], [1, 0]], [[0, 0], [0, 1]])]
    D = [A.T @ np.kron(p, M) @ A for M in (people.K, np.eye(N)) for p in patterns]
    pushed = np.stack([d @ np.linalg.solve(V, u) for d in D], axis=1)
    np.testing.assert_allclose(at.information, pushed.T @ np.linalg.solve(V, pushed) / 2, rtol=1e-8)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_perfect_correlation_is_found_and_bounded(sign: float) -> None:
    people = family(200, seed=3)
    beyond = []
    for seed in range(12):
        y = people.draw(sign, seed=seed, h2=(0.8, 0.8), re=0.0)
        found = same_samples(people, y)
        assert abs(found.rg_bounded) <= 1
        assert np.sign(found.rg) == sign
        assert abs(found.rg - sign) < 4 * found.rg_se
        assert found.rg0_p < 1e-4
        beyond.append(abs(found.rg) > 1)
        assert (found.flag == "the estimate is beyond ±1") == beyond[-1]
        if beyond[-1]:
            assert found.rg_bounded == sign
            assert found.rg1_lrt == 0
            assert found.rg1_p == 1
    assert any(beyond)
    assert not all(beyond)


def test_at_the_bound_the_likelihood_is_that_of_one_genetic_factor() -> None:
    """G = aaᵀ, maximised without derivatives."""
    people = family(60, seed=8)
    y = people.draw(0.6, seed=1, h2=(0.7, 0.7))
    found = dense(people, y)
    A, u = oracle.contrasts(y, people.X)

    def value(psi: Array) -> float:
        theta = np.array([psi[0] ** 2, psi[0] * psi[1], psi[1] ** 2, *psi[2:]])
        return oracle.minus_log_likelihood(theta, people.K, A, u)

    lost = found.theta[1] - np.sqrt(found.theta[0] * found.theta[2])
    start = [np.sqrt(found.theta[0]), np.sqrt(found.theta[2]), found.theta[3], found.theta[4] + lost, found.theta[5]]
    least = oracle.descend(value, np.array(start))[1]
    assert found.rg1_lrt == pytest.approx(2 * (found.log_likelihood + least), abs=1e-6)
    assert found.rg1_p == pytest.approx(0.5 * chi2.sf(found.rg1_lrt, 1))


@pytest.mark.parametrize("seed", [17, 53, 101, 145])
def test_a_search_that_ends_where_v_is_singular_claims_no_precision(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond ±1 and no common samples −ℓ has spikes: shown is the maximum of one genetic factor, without errors."""
    rng = np.random.default_rng(seed)
    n, m = 40, 20
    Z = rng.standard_normal((n, m))
    effects = rng.standard_normal((m, 2))[:, :1] / np.sqrt(m)
    y = np.sqrt(0.3) * Z @ effects + np.sqrt(0.7) * rng.standard_normal((n, 2))
    few = Family(Z @ Z.T / m, np.ones((n, 1)))
    traits = hide((y[:, 0], y[:, 1]), "none")
    calls = []
    evaluate = DenseLikelihood.evaluate
    monkeypatch.setattr(DenseLikelihood, "evaluate", lambda self, theta: calls.append(1) or evaluate(self, theta))
    found = dense(few, traits)
    # Whether the search itself settles among spikes is a matter of rounding.
    assert found.flag.removeprefix("not converged; ") == "V is nearly singular; the estimate is beyond ±1"
    assert abs(found.rg) == abs(found.rg_bounded) == 1
    assert np.isnan([found.rg_se, found.rg_mc_se, found.h2(0)[1], found.h2(1)[1]]).all()
    assert np.isnan(found.covariance).all()
    n_calls = len(calls)
    monkeypatch.setattr("biolmm.heritability.bivariate.NEARLY_SINGULAR_BEYOND", 0.0)
    dense(few, traits)
    assert n_calls <= len(calls) - n_calls  # it was ended early, if anything
    assert found.theta[1] == pytest.approx(found.rg * np.sqrt(found.theta[0] * found.theta[2]))
    A, u = oracle.contrasts(traits, few.X)

    def value(psi: Array) -> float:
        theta = np.array([psi[0] ** 2, psi[0] * psi[1], psi[1] ** 2, psi[2], 0, psi[3]])
        return oracle.minus_log_likelihood(theta, few.K, A, u)

    a = np.sqrt(found.theta[0])
    start = np.array([a, found.theta[1] / a, found.theta[3], found.theta[5]])
    assert value(start) == pytest.approx(oracle.descend(value, start * [1.05, 0.95, 1.02, 0.98])[1], abs=1e-6)
    assert (found.rg1_lrt, found.rg1_p) == (0, 1)
    assert found.log_likelihood == pytest.approx(-value(start), abs=1e-6)


def test_a_trait_with_itself(people: Family) -> None:
    y = people.draw(0.0, seed=5)[0]
    found = same_samples(people, (y, -2 * y + 7))
    assert found.rg == found.rg_bounded == -1
    assert found.rg_se == 0
    assert "same up to scale" in found.flag
    assert found.theta[2] == pytest.approx(4 * found.theta[0])
    assert found.theta[1] == pytest.approx(-2 * found.theta[0])


def test_a_trait_with_itself_plus_a_little_noise(people: Family) -> None:
    y = people.draw(0.0, seed=5)[0]
    noisy = y + 0.05 * np.random.default_rng(0).standard_normal(N)
    assert same_samples(people, (y, noisy)).rg == pytest.approx(1, abs=0.05)


def test_without_genetic_variance_there_is_no_correlation(people: Family) -> None:
    flags = []
    for seed in range(8):
        found = same_samples(people, people.draw(0.0, seed=seed, h2=(0.0, 0.5)))
        flags.append(found.flag)
        if "genetic variance" in found.flag:
            assert np.isnan(found.rg)
            assert np.isnan(found.rg0_p)
    assert any("genetic variance" in flag for flag in flags)


def test_units_do_not_matter(people: Family) -> None:
    y = people.draw(0.5, seed=4)
    one, other = dense(people, y), dense(people, (1e4 * y[0], -1e-3 * y[1]))
    assert other.rg == pytest.approx(-one.rg, rel=1e-6)
    assert other.rg_se == pytest.approx(one.rg_se, rel=1e-5)
    np.testing.assert_allclose(other.theta, one.theta * np.array([1e8, -10, 1e-6] * 2), rtol=1e-5)
    assert other.h2(0) == pytest.approx(one.h2(0), rel=1e-5)


def test_block_lanczos_is_the_form_of_every_pair() -> None:
    """y_sᵀ f(A) y_t by eigenvectors; duplicates among the columns do no harm."""
    rng = np.random.default_rng(2)
    n = 200
    Z = rng.standard_normal((n, 500))
    A = Z @ Z.T / 500
    Y = rng.standard_normal((n, 4)) * [1, 10, 0.1, 1]
    Y[:, 3] = 2 * Y[:, 0] - Y[:, 2]
    values, vectors = np.linalg.eigh(A)
    C = vectors.T @ Y
    A32 = A.astype(np.float32)
    found = block_lanczos(lambda X: A32 @ X, Y, np.linalg.norm(Y, axis=0), n)
    assert 3 <= found.n_steps <= 30
    scale = np.outer(np.linalg.norm(Y, axis=0), np.linalg.norm(Y, axis=0))
    for f in (lambda x: 1 / (0.5 * x + 0.5), lambda x: x / (0.3 * x + 0.7) ** 2, lambda x: np.ones_like(x)):
        expected = C.T @ (f(values)[:, None] * C)
        ours = found.coefficients.T @ (f(found.nodes)[:, None] * found.coefficients)
        np.testing.assert_allclose(ours / scale, expected / scale, atol=0.01 * np.sqrt(2 / n) * 2)
    whole = block_lanczos(lambda X: A32 @ X, Y, np.linalg.norm(Y, axis=0), 10**12, max_steps=n)
    forms = whole.coefficients.T @ (whole.coefficients / (0.5 * whole.nodes + 0.5)[:, None])
    np.testing.assert_allclose(forms / scale, C.T @ (C / (0.5 * values + 0.5)[:, None]) / scale, atol=2e-6)
    assert isinstance(whole, TraitMeasures)
