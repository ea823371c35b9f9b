"""Generalised least squares against the explicit formula."""

from __future__ import annotations

import numpy as np
import pytest

from biolmm.linalg.dense import DenseProjection
from biolmm.linalg.operators import Restriction
from oracles.spectra import with_spectrum

N = 50


@pytest.mark.parametrize("n_missing", [0, 8])
def test_is_the_explicit_formula(n_missing: int) -> None:
    rng = np.random.default_rng(n_missing)
    V, X = with_spectrum(np.linspace(0.2, 4, N)), rng.standard_normal((N, 3))
    observed = np.arange(N) >= n_missing
    basis = np.zeros((N, 2))
    basis[observed] = np.linalg.qr(rng.standard_normal((N - n_missing, 2)))[0]
    inverse = np.zeros((N, N))
    inverse[np.ix_(observed, observed)] = np.linalg.inv(V[np.ix_(observed, observed)])
    P = inverse - inverse @ basis @ np.linalg.inv(basis.T @ inverse @ basis) @ basis.T @ inverse
    before = V.copy()
    projection = DenseProjection(V, Restriction(observed, basis))
    np.testing.assert_array_equal(V, before)
    np.testing.assert_allclose(projection.solve(X), P @ X, atol=1e-12)
    np.testing.assert_allclose(projection.forms(X), np.diag(X.T @ P @ X), rtol=1e-12)
    white = projection.whiten(X)
    np.testing.assert_allclose(white.T @ white, X.T @ P @ X, atol=1e-12)


def test_is_the_pseudo_inverse_of_the_projected_matrix() -> None:
    V, Q = with_spectrum(np.linspace(0.2, 4, N)), np.full((N, 1), N**-0.5)
    P = np.eye(N) - Q @ Q.T
    solved = DenseProjection(V, Restriction(np.ones(N, dtype=bool), Q)).solve(np.eye(N))
    np.testing.assert_allclose(solved, np.linalg.pinv(P @ V @ P), atol=1e-12)
