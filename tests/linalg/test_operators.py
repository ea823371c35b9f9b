"""Projections and restricted operators against P written out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.linalg.operators import RestrictedOperator, Restriction, column_dots
from contracts import EPS32, check_operator, draw
from oracles.spectra import single, with_spectrum

N = 60
K = with_spectrum(np.linspace(0.1, 5, N))


def restriction(n_missing: int = 0, seed: int = 0) -> Restriction:
    """Observe all rows but a few; three covariates."""
    rng = np.random.default_rng(seed)
    observed = np.ones(N, dtype=bool)
    observed[rng.choice(N, n_missing, replace=False)] = False
    basis = np.zeros((N, 3))
    basis[observed] = np.linalg.qr(rng.standard_normal((N - n_missing, 3)))[0]
    return Restriction(observed, basis)


def projection(of: Restriction) -> NDArray[np.float64]:
    """Write out P = D − QQᵀ."""
    return np.diag(of.observed.astype(float)) - of.basis @ of.basis.T


@pytest.mark.parametrize("n_missing", [0, 7])
def test_projection_is_the_matrix_p(n_missing: int) -> None:
    of, X = restriction(n_missing), draw((N, 4))
    P = projection(of)
    np.testing.assert_allclose(of.project(X), P @ X, atol=1e-13)
    np.testing.assert_allclose(of.project(of.project(X)), of.project(X), atol=1e-13)
    assert of.rank == np.linalg.matrix_rank(P)


def test_unobserved_rows_do_not_matter_whatever_they_hold() -> None:
    of, X = restriction(7), draw((N, 4))
    spoiled = X.copy()
    spoiled[~of.observed] = np.nan
    np.testing.assert_array_equal(of.project(spoiled), of.project(X))


def test_restricted_operator_is_a_well_behaved_pkp() -> None:
    of = restriction(5)
    X = of.project(draw((N, 6))).astype(np.float32)

    def matmat(block: NDArray[np.float32]) -> NDArray[np.float32]:
        return RestrictedOperator(single(K), [of], [block.shape[1]])(block)

    P = projection(of)
    np.testing.assert_allclose(matmat(X), P @ K @ P @ X, atol=8 * np.sqrt(N) * EPS32 * np.abs(X).max() * 5)
    check_operator(matmat, X)


def test_every_run_of_columns_has_its_own_restriction() -> None:
    systems = [restriction(0, 1), restriction(9, 2), restriction(3, 3)]
    X = draw((N, 6))
    together = RestrictedOperator(single(K), systems, [1, 3, 2]).project(X)
    expected = [s.project(X[:, columns]) for s, columns in zip(systems, ([0], [1, 2, 3], [4, 5]), strict=True)]
    np.testing.assert_array_equal(together, np.hstack(expected).astype(np.float32))


def test_columns_without_a_system_are_refused() -> None:
    with pytest.raises(ValueError, match="6 columns"):
        RestrictedOperator(single(K), [restriction()], [5]).project(draw((N, 6)))


def test_column_dots_add_up_in_double_precision() -> None:
    """10,000 terms of 1 and one of 2⁻²⁰: float32 would lose the small one."""
    X = np.ones((10_001, 2), np.float32)
    X[-1, 1] = 2.0**-10
    np.testing.assert_array_equal(column_dots(X, X), [10_001, 10_000 + 2.0**-20])
