"""Every variant's own λ and its three tests, held to explicit matrices; bounds, degenerate variants, tails."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from biolmm.exact import Eigenbasis, TraitModel, decompose, exact_tests
from biolmm.exact.axis import (
    LAMBDA_MAX,
    LAMBDA_MIN,
    T_MAX,
    T_MIN,
    evaluate,
    inverse_coefficients,
    log_determinant_coefficients,
)
from biolmm.exact.tails import neg_log10_p_chisq_k, neg_log10_p_f
from biolmm.linalg.operators import Restriction
from oracles import exact as oracle
from oracles.scan import Array

N = 60


def cohort(seed: int, h2: float, n_covariates: int, missing: int = 0) -> tuple[Array, Array, Array, Array]:
    """Draw K, X, y (NaN where not observed) and dosages of eight variants."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((N, 90))
    K = Z @ Z.T / 90
    X = np.column_stack([np.ones(N), rng.standard_normal((N, n_covariates))])
    noise = rng.standard_normal((2, N))
    y = X.sum(axis=1) + np.sqrt(h2) * np.linalg.cholesky(K) @ noise[0] + np.sqrt(1 - h2) * noise[1]
    y[:missing] = np.nan
    G = rng.binomial(2, 0.4, (8, N)).astype(float)
    y += 0.7 * G[0]
    return K, X, y, G


def basis_of(K: Array, X: Array, y: Array) -> Eigenbasis:
    observed = ~np.isnan(y)
    Q = np.zeros_like(X)
    Q[observed] = np.linalg.qr(X[observed])[0]
    return decompose(K, Restriction(observed, Q))


@pytest.mark.parametrize(
    ("seed", "h2", "n_covariates", "missing"), [(1, 0.5, 0, 0), (2, 0.8, 2, 0), (3, 0.3, 1, 9), (4, 0.0, 3, 5)]
)
def test_tests_are_the_definition(seed: int, h2: float, n_covariates: int, missing: int) -> None:
    K, X, y, G = cohort(seed, h2, n_covariates, missing)
    basis = basis_of(K, X, y)
    model = TraitModel.fit(basis, y)
    found = exact_tests(model, basis.rotate(G - G.mean(axis=1)[:, None]))
    o = ~np.isnan(y)
    Kc, X, y, n, df = oracle.centred(K[np.ix_(o, o)]), X[o], y[o], int(o.sum()), int(o.sum()) - X.shape[1] - 1
    null_lambda, null = oracle.maximum(Kc, y, X, reml=False)
    assert model.null_log_likelihood == pytest.approx(null, abs=1e-9)
    for j, g in enumerate(G[:, o]):
        with_g = np.column_stack([g, X])
        _, restricted = oracle.maximum(Kc, y, with_g, reml=True)
        _, full = oracle.maximum(Kc, y, with_g, reml=False)
        # The top of a likelihood is flat: λ̂ by its height, which is what it maximises.
        assert oracle.log_likelihood(np.log(found.l_remle[j]), Kc, y, with_g, True) == pytest.approx(
            restricted, abs=1e-9
        )
        assert oracle.log_likelihood(np.log(found.l_mle[j]), Kc, y, with_g, False) == pytest.approx(full, abs=1e-9)
        assert found.log_likelihood[j] == pytest.approx(full, abs=1e-9)
        b, inverse, form = oracle.least_squares(found.l_remle[j] * Kc + np.eye(n), y, with_g)
        error = np.sqrt(inverse[0, 0] * form / df)
        np.testing.assert_allclose([found.beta[j], found.standard_error[j]], [b[0], error], rtol=1e-9, atol=1e-10)
        assert 10 ** -found.neg_log_10_p_value[j] == pytest.approx(stats.f.sf((b[0] / error) ** 2, 1, df), rel=1e-8)
        assert 10 ** -found.neg_log_10_p_lrt[j] == pytest.approx(
            stats.chi2.sf(2 * max(full - null, 0), 1), rel=1e-4, abs=1e-9
        )
        V = null_lambda * Kc + np.eye(n)
        b, inverse, _ = oracle.least_squares(V, y, with_g)
        without = oracle.least_squares(V, y, X)[2]
        score = n * b[0] ** 2 / inverse[0, 0] / without
        assert 10 ** -found.neg_log_10_p_score[j] == pytest.approx(stats.f.sf(score, 1, df), rel=1e-4)


@given(st.integers(0, 10_000), st.floats(T_MIN, T_MAX))
def test_the_axis_reproduces_its_functions(seed: int, t: float) -> None:
    rng = np.random.default_rng(seed)
    values = np.concatenate([[0.0], 10 ** rng.uniform(-8, 4, 30)])
    at = np.exp(t)
    np.testing.assert_allclose(evaluate(inverse_coefficients(values), t), 1 / (at * values + 1), atol=2e-13)
    expected = np.log1p(at * values).sum()
    np.testing.assert_allclose(evaluate(log_determinant_coefficients(values), t), expected, rtol=1e-12, atol=1e-12)


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_no_other_lambda_is_better(seed: int, h2: float) -> None:
    """Against 400 values of λ, for traits whose likelihood may be flat, at a bound or with two tops."""
    K, X, y, G = cohort(seed, h2, 1)
    basis = basis_of(K, X, y)
    model = TraitModel.fit(basis, y)
    rotated = basis.rotate(G - G.mean(axis=1)[:, None])
    found = exact_tests(model, rotated)
    lambdas = np.exp(np.linspace(T_MIN, T_MAX, 400))
    weights = 1 / (np.outer(lambdas, basis.values) + 1)
    for j, x in enumerate(rotated):
        rss = weights @ model.rotated**2 - (weights @ (x * model.rotated)) ** 2 / (weights @ x**2)
        determinant = np.log1p(np.outer(lambdas, basis.full_values)).sum(axis=1)
        heights = 0.5 * (N * (np.log(N / (2 * np.pi)) - 1) - N * np.log(rss) - determinant)
        assert found.log_likelihood[j] >= heights.max() - 1e-9


def test_bounds_of_lambda_are_gemmas() -> None:
    """A trait without relatedness ends at 1e-5, one that is nothing else at 1e5: least squares, and the limit of K."""
    rng = np.random.default_rng(5)
    Z = rng.standard_normal((N, 200))
    K, X, G = Z @ Z.T / 200, np.ones((N, 1)), rng.binomial(2, 0.5, (4, N)).astype(float)
    values, vectors = np.linalg.eigh(oracle.centred(K))
    low, high = vectors[:, 1:6].sum(axis=1), vectors[:, 1:] @ values[1:] ** 2
    for y, bound, V in ((low, LAMBDA_MIN, np.eye(N)), (high, LAMBDA_MAX, LAMBDA_MAX * oracle.centred(K) + np.eye(N))):
        basis = basis_of(K, X, y)
        found = exact_tests(TraitModel.fit(basis, y), basis.rotate(G))
        np.testing.assert_allclose(found.l_mle, bound, rtol=1e-9)
        np.testing.assert_allclose(found.l_remle, bound, rtol=1e-9)
        for j, g in enumerate(G):
            b, _, _ = oracle.least_squares(V, y, np.column_stack([g, X]))
            np.testing.assert_allclose(found.beta[j], b[0], rtol=1e-3, atol=1e-4 * found.standard_error[j])


def test_statistics_do_not_depend_on_coding_or_order() -> None:
    K, X, y, G = cohort(7, 0.5, 2)
    basis = basis_of(K, X, y)
    found = exact_tests(TraitModel.fit(basis, y), basis.rotate(G))
    swapped = exact_tests(TraitModel.fit(basis, y), basis.rotate(2 - G))
    np.testing.assert_allclose(swapped.beta, -found.beta, rtol=1e-8)
    order = np.random.default_rng(0).permutation(N)
    other = basis_of(K[np.ix_(order, order)], X[order], y[order])
    moved = exact_tests(TraitModel.fit(other, y[order]), other.rotate(G[:, order]))
    scaled = exact_tests(TraitModel.fit(basis, 1e6 * y + 3), basis.rotate(1e-3 * G))
    for name in ("chisq", "l_remle", "l_mle", "neg_log_10_p_lrt", "neg_log_10_p_score"):
        for one in (swapped, moved, scaled):
            np.testing.assert_allclose(getattr(one, name), getattr(found, name), rtol=2e-6, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(scaled.beta, 1e9 * found.beta, rtol=1e-6)


def test_covariates_are_told_from_null_vectors_of_K() -> None:
    """A matrix of rank 3: U must still be orthogonal to the covariates, and to nothing else."""
    rng = np.random.default_rng(8)
    L = rng.standard_normal((N, 3))
    X = np.column_stack([np.ones(N), rng.standard_normal((N, 2))])
    basis = basis_of(L @ L.T, X, np.zeros(N))
    assert basis.vectors.shape == (N, N - 3)
    np.testing.assert_allclose(X.T @ basis.vectors, 0, atol=1e-12)
    np.testing.assert_allclose(basis.vectors.T @ basis.vectors, np.eye(N - 3), atol=1e-12)
    assert np.count_nonzero(basis.values > 1e-9) == 3


def test_an_indefinite_matrix_is_used_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    K, X, y, G = cohort(9, 0.5, 0)
    basis_of(K, X, y)
    assert not caplog.records
    basis = basis_of(K - 0.3 * np.eye(N), X, y)
    assert "not positive semi-definite" in caplog.text
    assert basis.values.min() == 0
    assert np.isfinite(exact_tests(TraitModel.fit(basis, y), basis.rotate(G)).chisq).all()


@pytest.mark.parametrize("k", [1, 2, 3, 7, 30])
@pytest.mark.parametrize("x", [1e-3, 1.0, 25.0, 400.0, 3000.0, 1e5])
def test_tails_do_not_underflow(k: int, x: float) -> None:
    with mpmath.workdps(40):
        expected = -mpmath.log10(mpmath.gammainc(mpmath.mpf(k) / 2, mpmath.mpf(x) / 2, regularized=True))
        assert neg_log10_p_chisq_k(x, k) == pytest.approx(float(expected), rel=1e-12, abs=1e-15)
        for df in (5, 300, 3000):
            y = mpmath.mpf(df) / (df + k * mpmath.mpf(x))
            expected = -mpmath.log10(mpmath.betainc(mpmath.mpf(df) / 2, mpmath.mpf(k) / 2, 0, y, regularized=True))
            assert neg_log10_p_f(x, k, df) == pytest.approx(float(expected), rel=1e-10, abs=1e-15)
