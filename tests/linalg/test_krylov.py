"""Randomised eigenpairs against invented spectra."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.linalg.krylov import block_krylov_eigenpairs
from biolmm.linalg.operators import Restriction
from contracts import EPS32, draw
from oracles.spectra import single, with_spectrum

N = 200
VALUES = np.concatenate([[60, 40, 25, 12, 11.5], np.linspace(2, 0.1, N - 5)])
"""Five pairs stand out, two of them close to each other; a bulk follows."""
EVERYTHING = Restriction(np.ones(N, dtype=bool), np.zeros((N, 0)))


def masked(n_missing: int, seed: int) -> Restriction:
    rng = np.random.default_rng(seed)
    observed = np.ones(N, dtype=bool)
    observed[rng.choice(N, n_missing, replace=False)] = False
    basis = np.zeros((N, 1))
    basis[observed] = (N - n_missing) ** -0.5
    return Restriction(observed, basis)


def leading(A: NDArray[np.float64], of: Restriction, k: int) -> NDArray[np.float64]:
    P = np.diag(of.observed.astype(float)) - of.basis @ of.basis.T
    return np.linalg.eigvalsh(P @ A @ P)[::-1][:k]


@pytest.mark.parametrize("of", [EVERYTHING, masked(30, 1)], ids=["everything", "masked"])
def test_converged_pairs_are_eigenpairs(of: Restriction) -> None:
    A = with_spectrum(VALUES)
    tolerance = 1e-3
    [pairs] = block_krylov_eigenpairs(single(A), [of], [draw((N, 12))], [5], tolerance=tolerance, max_products=8)
    assert np.all(pairs.residuals < tolerance)
    # A residual ρθ bounds the error of a Ritz value by ρθ, and by (ρθ)²/gap where others are further away.
    np.testing.assert_allclose(pairs.values, leading(A, of, 5), rtol=tolerance)
    vectors = pairs.vectors.astype(np.float64)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(5), atol=N * EPS32)
    np.testing.assert_allclose(of.project(vectors), vectors, atol=N * EPS32)


def test_the_residual_reported_is_the_residual() -> None:
    A = with_spectrum(VALUES)
    [pairs] = block_krylov_eigenpairs(single(A), [EVERYTHING], [draw((N, 8))], [5], tolerance=1e-9, max_products=2)
    U = pairs.vectors.astype(np.float64)
    actual = np.linalg.norm(A @ U - U * pairs.values, axis=0) / pairs.values
    np.testing.assert_allclose(pairs.residuals, actual, rtol=1e-2, atol=N * EPS32)


def test_ritz_values_approach_from_below_with_every_product() -> None:
    A = with_spectrum(VALUES)
    found = [
        block_krylov_eigenpairs(single(A), [EVERYTHING], [draw((N, 8))], [5], tolerance=1e-9, max_products=q)[0].values
        for q in (1, 2, 3, 4)
    ]
    rounding = N * EPS32 * VALUES[0]
    for before, after in pairwise(found):
        assert np.all(after >= before - rounding)
    assert np.all(found[-1] <= VALUES[:5] + rounding)


def test_a_system_gets_the_same_pairs_alone_and_in_company() -> None:
    A = with_spectrum(VALUES)
    systems = [EVERYTHING, masked(30, 1), masked(55, 2)]
    starts = [draw((N, 8), seed=1), draw((N, 10), seed=2), draw((N, 7), seed=3)]
    wanted = [5, 4, 3]
    together = block_krylov_eigenpairs(single(A), systems, starts, wanted, tolerance=1e-2)
    for of, start, k, pairs in zip(systems, starts, wanted, together, strict=True):
        [alone] = block_krylov_eigenpairs(single(A), [of], [start], [k], tolerance=1e-2)
        np.testing.assert_allclose(pairs.values, alone.values, rtol=N * EPS32)
        np.testing.assert_allclose(np.abs(np.sum(pairs.vectors * alone.vectors, axis=0)), 1, atol=1e-3)


def test_an_invariant_start_is_finished_after_one_product() -> None:
    A = with_spectrum(VALUES)
    vectors = np.linalg.eigh(A)[1][:, ::-1][:, :5].astype(np.float32)
    calls = []

    def counted(X: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(X.shape[1])
        return single(A)(X)

    [pairs] = block_krylov_eigenpairs(counted, [EVERYTHING], [vectors], [5])
    assert calls == [5]
    np.testing.assert_allclose(pairs.values, VALUES[:5], rtol=N * EPS32)


def test_low_rank_is_found_whole_and_nothing_is_made_up() -> None:
    A = with_spectrum(np.concatenate([[3.0, 2.0, 1.0], np.zeros(N - 3)]))
    [pairs] = block_krylov_eigenpairs(single(A), [EVERYTHING], [draw((N, 6))], [3], tolerance=1e-4)
    np.testing.assert_allclose(pairs.values, [3, 2, 1], rtol=N * EPS32)


def test_dependent_start_columns_are_dropped() -> None:
    start = draw((N, 8))
    start[:, 5], start[:, 6] = start[:, 0], 0
    [pairs] = block_krylov_eigenpairs(single(with_spectrum(VALUES)), [EVERYTHING], [start], [5], max_products=6)
    np.testing.assert_allclose(pairs.values, VALUES[:5], rtol=1e-2)


def test_leading_chooses_pairs_by_a_mask() -> None:
    [pairs] = block_krylov_eigenpairs(single(with_spectrum(VALUES)), [EVERYTHING], [draw((N, 8))], [3])
    some = pairs.leading(np.array([True, False, True]))
    np.testing.assert_array_equal(some.values, pairs.values[[0, 2]])
    np.testing.assert_array_equal(some.vectors, pairs.vectors[:, [0, 2]])


BULK = np.concatenate([[60, 40, 25], np.sqrt(np.linspace(0.04, 4, 897))])
"""Three pairs stand out of a bulk without gaps, in which a few products tell no pair from its neighbours."""


@pytest.mark.parametrize("noise", [0.0, 2e-4])
def test_giving_up_costs_no_pair_that_stands_out(noise: float) -> None:
    """The products end when those that are open are in the bulk, also where every product has an error of its own."""
    rng, n = np.random.default_rng(3), len(BULK)
    product = single(with_spectrum(BULK))
    everything = Restriction(np.ones(n, dtype=bool), np.zeros((n, 0)))
    columns = []

    def counted(X: NDArray[np.float32]) -> NDArray[np.float32]:
        columns.append(X.shape[1])
        Y = product(X)
        error = rng.standard_normal(Y.shape)
        return np.asarray(Y + noise * np.linalg.norm(Y, axis=0) * error / np.sqrt(n), np.float32)

    [pairs] = block_krylov_eigenpairs(
        counted, [everything], [draw((n, 10))], [10], tolerance=0.02, max_products=6, give_up=True
    )
    assert columns == [10, 10, 10]
    found = pairs.leading(pairs.residuals < 0.02)
    # A residual of 2 % leaves its square of the gap, 0.1 % at worst.
    np.testing.assert_allclose(found.values[:3], BULK[:3], rtol=1e-3)


def test_nothing_is_given_up_while_a_pair_converges() -> None:
    """All five that stand out are found, though the two close ones take more products than the others."""
    A = with_spectrum(VALUES)
    alike = [
        block_krylov_eigenpairs(single(A), [EVERYTHING], [draw((N, 6))], [5], max_products=12, give_up=give_up)[0]
        for give_up in (False, True)
    ]
    assert np.all(alike[1].residuals < 1e-2)
    np.testing.assert_array_equal(alike[1].values, alike[0].values)


def test_no_product_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one product"):
        block_krylov_eigenpairs(single(np.eye(N)), [EVERYTHING], [draw((N, 2))], [1], max_products=0)
