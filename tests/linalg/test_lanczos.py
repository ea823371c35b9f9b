"""Batched Lanczos: exact limits, bounds, and columns that do not know of each other."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.linalg.lanczos import Lanczos, gauss
from contracts import EPS32, draw
from oracles.spectra import single, with_spectrum

N = 120
VALUES = np.linspace(0.2, 3, N)
A = with_spectrum(VALUES)


def recursion(start: NDArray[np.float32], n_steps: int, matrix: NDArray[np.float64] = A, n_kept: int = 0) -> Lanczos:
    lanczos = Lanczos(start, n_kept)
    for _ in range(n_steps):
        lanczos.advance(single(matrix))
    return lanczos


def columns(*which: int) -> NDArray[np.intp]:
    return np.array(which, dtype=np.intp)


def exact_form(v: NDArray[np.float32], f: NDArray[np.float64], matrix: NDArray[np.float64] = A) -> NDArray[np.float64]:
    """Return vᵀ f(A) v of every column for f given on the ascending eigenvalues."""
    coefficients = np.linalg.eigh(matrix)[1].T @ v
    return np.asarray(f @ coefficients**2)


@pytest.mark.parametrize("n_steps", [1, 2, 4, 7])
def test_gauss_quadrature_is_exact_for_polynomials_of_degree_2s_minus_1(n_steps: int) -> None:
    start = draw((N, 3))
    quadrature = recursion(start, n_steps).quadrature(columns(0, 1, 2))
    values = np.linalg.eigvalsh(A)
    for degree in range(2 * n_steps):
        f = (quadrature.weights * quadrature.nodes**degree).sum(axis=1)
        # Each of the `degree` products that a moment is made of is rounded to √N·ε.
        allowed = 4 * (degree + 1) * np.sqrt(N) * EPS32
        np.testing.assert_allclose(f, exact_form(start, values**degree), rtol=allowed)


def test_it_is_not_exact_for_the_next_degree() -> None:
    start = draw((N, 1))
    quadrature = recursion(start, 2).quadrature(columns(0))
    next_moment = (quadrature.weights * quadrature.nodes**4).sum()
    assert abs(next_moment / exact_form(start, np.linalg.eigvalsh(A) ** 4)[0] - 1) > 1e-3


@pytest.mark.parametrize("h2", [0.1, 0.5, 0.95])
def test_gauss_bounds_a_resolvent_from_below(h2: float) -> None:
    start = draw((N, 5))
    exact = exact_form(start, 1 / (h2 * np.linalg.eigvalsh(A) + 1 - h2))
    lanczos, gap, rounding = Lanczos(start), np.full(5, np.inf), np.sqrt(N) * EPS32
    for _ in range(8):
        lanczos.advance(single(A))
        gauss = lanczos.quadrature(np.arange(5))
        lower = (gauss.weights / (h2 * gauss.nodes + 1 - h2)).sum(axis=1)
        assert np.all(lower <= exact * (1 + rounding))
        assert np.all(1 - lower / exact <= gap + rounding), "the bound does not tighten"
        gap = 1 - lower / exact
    # κ ≤ 30 at worst: eight steps leave (√κ−1)/(√κ+1) to the power of 16.
    assert gap.max() < 2 * ((np.sqrt(30) - 1) / (np.sqrt(30) + 1)) ** 16


def test_solution_obeys_the_bound_of_conjugate_gradients() -> None:
    """Krylov solutions err by at most 2((√κ−1)/(√κ+1))ˢ in the norm of the matrix."""
    h2, n_steps = 0.5, 12
    start = draw((N, 2))
    lanczos = recursion(start, n_steps, n_kept=2)
    H = h2 * A + (1 - h2) * np.eye(N)
    root = np.sqrt(np.linalg.cond(H))
    for column in range(2):
        x = lanczos.solve(column, h2, 1 - h2)
        exact = np.linalg.solve(H, start[:, column])
        error = np.sqrt((x - exact) @ H @ (x - exact)) / np.sqrt(exact @ H @ exact)
        assert error < 2 * ((root - 1) / (root + 1)) ** n_steps + np.sqrt(N) * EPS32


def test_solution_after_fewer_steps_is_the_one_it_was_then() -> None:
    start = draw((N, 2))
    early = recursion(start, 4, n_kept=2).solve(1, 0.3, 0.7)
    np.testing.assert_array_equal(recursion(start, 9, n_kept=2).solve(1, 0.3, 0.7, n_steps=4), early)


def test_an_invariant_subspace_ends_a_recursion_with_the_exact_answer() -> None:
    """Start in a space of three eigenvectors, and of one: later steps add nodes without weight, and no NaN."""
    vectors = np.linalg.eigh(A)[1]
    start = np.column_stack([vectors[:, [5, 60, 110]].sum(axis=1), 2 * vectors[:, 30]]).astype(np.float32)
    lanczos = recursion(start, 8, n_kept=2)
    quadrature = lanczos.quadrature(columns(0, 1))
    f = (quadrature.weights / (1 + quadrature.nodes)).sum(axis=1)
    values = np.linalg.eigvalsh(A)
    expected = [(1 / (1 + values[[5, 60, 110]])).sum(), 4 / (1 + values[30])]
    # What rounding adds to the space is of relative size ε·N at each step.
    np.testing.assert_allclose(f, expected, rtol=N * EPS32)
    np.testing.assert_allclose(lanczos.solve(1, 1.0, 1.0), start[:, 1] / (1 + values[30]), atol=N * EPS32)


def test_a_zero_column_stays_zero_and_leaves_the_others_alone() -> None:
    start = draw((N, 3))
    start[:, 1] = 0
    lanczos = recursion(start, 5, n_kept=3)
    quadrature = lanczos.quadrature(np.arange(3))
    assert not quadrature.weights[1].any()
    assert not lanczos.solve(1, 0.5, 0.5).any()
    others = recursion(start[:, [0, 2]], 5).quadrature(columns(0, 1))
    np.testing.assert_allclose(quadrature.nodes[[0, 2]], others.nodes, rtol=N * EPS32)


def test_columns_retained_go_on_as_if_alone_and_the_others_keep_what_they_have() -> None:
    start = draw((N, 4))
    lanczos = recursion(start, 3, n_kept=4)
    early = lanczos.quadrature(np.arange(4))
    lanczos.retain(columns(1, 3))
    for _ in range(3):
        lanczos.advance(single(A))
    alone = recursion(start[:, [1, 3]], 6).quadrature(columns(0, 1))
    kept = lanczos.quadrature(columns(1, 3))
    # Ritz values are as exact as the products; weights of neighbouring nodes may trade more, so compare forms.
    np.testing.assert_allclose(kept.nodes[:, [0, -1]], alone.nodes[:, [0, -1]], rtol=N * EPS32)
    for power in (1, 3):
        moments = [(q.weights * q.nodes**power).sum(axis=1) for q in (kept, alone)]
        np.testing.assert_allclose(*moments, rtol=N * EPS32)
    then = lanczos.quadrature(columns(0, 2), n_steps=3)
    np.testing.assert_array_equal(then.nodes, early.nodes[[0, 2]])
    now = lanczos.quadrature(columns(0, 2))
    for f in (np.log1p, np.square):
        np.testing.assert_allclose((now.weights * f(now.nodes)).sum(axis=1), (then.weights * f(then.nodes)).sum(axis=1))


def test_recursions_of_different_lengths_share_an_array() -> None:
    """The shorter one ends with an off-diagonal of 0: its padding gets no weight."""
    lanczos = recursion(draw((N, 2)), 5)
    alpha, beta = np.array(lanczos.alpha).T, np.array(lanczos.beta).T
    alpha[1, 3:], beta[1, 2:] = 0, 0
    padded = gauss(alpha, beta, lanczos.norms)
    for column, n_steps in ((0, 5), (1, 3)):
        alone = lanczos.quadrature(columns(column), n_steps)
        for f in (np.log1p, np.square):
            found = (padded.weights[column] * f(padded.nodes[column])).sum()
            assert found == pytest.approx((alone.weights * f(alone.nodes)).sum(), rel=1e-12)


def test_steps_taken_with_a_product_from_elsewhere_are_the_same() -> None:
    start = draw((N, 2))
    one, other = Lanczos(start), recursion(start, 4)
    for _ in range(4):
        one.take(single(A)(one.current))
    np.testing.assert_array_equal(one.quadrature(columns(0, 1)).nodes, other.quadrature(columns(0, 1)).nodes)
