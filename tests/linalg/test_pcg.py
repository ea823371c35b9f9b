"""Preconditioned conjugate gradients, every column with its own matrix."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.linalg.pcg import ConjugateGradients, Solution, solve_pcg
from contracts import EPS32, draw
from oracles.spectra import with_spectrum

N = 150
OUTLIERS = np.concatenate([[300.0, 150, 80, 40], np.linspace(0.5, 2, N - 4)])
MATRICES = np.array([with_spectrum(OUTLIERS * size, seed) for seed, size in enumerate((1.0, 0.3, 5.0))])


def products(X: NDArray[np.float32], columns: NDArray[np.intp]) -> NDArray[np.float32]:
    """Multiply each column with its own matrix."""
    return np.column_stack([MATRICES[c] @ x for c, x in zip(columns, X.T, strict=True)]).astype(np.float32)


def identity(X: NDArray[np.float32], columns: NDArray[np.intp]) -> NDArray[np.float32]:
    return X.copy()


def deflated(X: NDArray[np.float32], columns: NDArray[np.intp]) -> NDArray[np.float32]:
    """Invert the four leading eigenvectors exactly and divide by the mean of the rest."""
    out = np.empty_like(X)
    for position, column in enumerate(columns):
        values, vectors = np.linalg.eigh(MATRICES[column])
        U, tail = vectors[:, -4:], values[:-4].mean()
        out[:, position] = X[:, position] / tail + U @ ((1 / values[-4:] - 1 / tail) * (U.T @ X[:, position]))
    return out


def solve(b: NDArray[np.float32], precondition=identity, which=(0, 1, 2), **options: float) -> Solution:
    chosen = np.array(which)
    return solve_pcg(
        lambda X, columns: products(X, chosen[columns]),
        np.zeros_like(b),
        b.copy(),
        lambda X, columns: precondition(X, chosen[columns]),
        right_norms=np.linalg.norm(b, axis=0).astype(np.float64),
        **{"tolerance": 1e-4, **options},
    )


@pytest.mark.parametrize("precondition", [identity, deflated])
def test_solves_each_column_with_its_matrix(precondition) -> None:
    b = draw((N, 3))
    solution = solve(b, precondition)
    assert solution.converged.all()
    for c in range(3):
        residual = np.linalg.norm(b[:, c] - MATRICES[c] @ solution.x[:, c]) / np.linalg.norm(b[:, c])
        # The residual is carried along in single precision; it drifts from the true one by about κ·ε.
        drift = np.linalg.cond(MATRICES[c]) * EPS32
        assert residual <= 1e-4 + drift
        assert abs(residual - solution.relative_residual[c]) <= drift


def test_deflation_saves_iterations() -> None:
    """κ falls from 600 to 4: iterations go with its square root."""
    b = draw((N, 3))
    assert np.all(solve(b, deflated).iterations < 0.7 * solve(b).iterations)
    assert np.all(solve(b, deflated).iterations <= np.ceil(np.log(2 / 1e-4 * np.sqrt(4)) / np.log(3)))


def test_a_zero_right_hand_side_has_the_solution_zero_at_no_cost() -> None:
    b = draw((N, 3))
    b[:, 1] = 0
    solution = solve(b)
    assert solution.iterations[1] == 0
    assert solution.converged.all()
    assert not solution.x[:, 1].any()


def test_nothing_but_zeros() -> None:
    solution = solve(np.zeros((N, 3), np.float32))
    assert solution.converged.all()
    assert not solution.iterations.any()


def test_a_column_does_not_depend_on_its_company() -> None:
    b = draw((N, 3))
    together = solve(b, deflated)
    for c in range(3):
        alone = solve(b[:, [c]], deflated, which=(c,))
        assert alone.iterations[0] == together.iterations[c]
        np.testing.assert_allclose(alone.x[:, 0], together.x[:, c], atol=N * EPS32 * np.abs(alone.x).max())


def test_a_good_start_is_used() -> None:
    b = draw((N, 3))
    x = np.column_stack([np.linalg.solve(MATRICES[c], b[:, c]) for c in range(3)]).astype(np.float32)
    residual = (b - products(x, np.arange(3))).astype(np.float32)
    norms = np.linalg.norm(b, axis=0).astype(np.float64)
    solution = solve_pcg(products, x, residual, identity, right_norms=norms, tolerance=1e-3)
    assert not solution.iterations.any()
    assert solution.converged.all()


def test_what_did_not_converge_says_so() -> None:
    solution = solve(draw((N, 3)), max_iterations=2)
    assert not solution.converged.any()
    assert np.all(solution.relative_residual > 1e-4)
    assert solution.iterations.tolist() == [2, 2, 2]


def truth(b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return `bᵀH⁻¹b` of every column."""
    return np.array([v @ np.linalg.solve(MATRICES[c], v) for c, v in enumerate(b.T.astype(np.float64))])


def test_the_form_is_known_twice_as_well_as_the_solution() -> None:
    """Its error is rᵀH⁻¹r, of which a part is estimated, and what is estimated covers the error that is left."""
    b = draw((N, 3))
    cg = ConjugateGradients(products, deflated, np.zeros_like(b), b.copy())
    exact = truth(b)
    for step in range(1, 7):
        cg.advance()
        residual = cg.residual.astype(np.float64)
        missing = np.array([r @ np.linalg.solve(MATRICES[c], r) for c, r in enumerate(residual.T)])
        np.testing.assert_allclose(cg.gained + missing, exact, rtol=1e-5)
        if step > 1:
            assert np.all(np.abs(cg.gained + cg.remaining - exact) <= 1.5 * cg.uncertainty + 1e-5 * exact)
            assert np.all(cg.uncertainty < missing)
    assert np.all(np.abs(cg.gained + cg.remaining - exact) < 1e-4 * exact)


def test_the_form_of_a_good_start() -> None:
    """`bᵀH⁻¹b = (b + r₀)ᵀx₀ + r₀ᵀH⁻¹r₀`."""
    b = draw((N, 3))
    x = (0.9 * np.column_stack([np.linalg.solve(MATRICES[c], b[:, c]) for c in range(3)])).astype(np.float32)
    residual = (b - products(x, np.arange(3))).astype(np.float32)
    known = ((b + residual) * x).sum(axis=0)
    norms = np.linalg.norm(b, axis=0).astype(np.float64)
    solution = solve_pcg(products, x, residual, deflated, right_norms=norms, tolerance=3e-3)
    np.testing.assert_allclose(known + solution.energy, truth(b), rtol=1e-5)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-3])
def test_a_step_without_a_product_reaches_the_tolerance(tolerance: float) -> None:
    b = draw((N, 3))
    ahead, plain = (solve(b, deflated, tolerance=tolerance, ahead=way) for way in (True, False))
    assert ahead.converged.all()
    assert np.all(ahead.iterations <= plain.iterations)
    assert ahead.iterations.sum() < plain.iterations.sum()
    for c in range(3):
        residual = np.linalg.norm(b[:, c] - MATRICES[c] @ ahead.x[:, c]) / np.linalg.norm(b[:, c])
        assert residual <= ahead.relative_residual[c] * (1 + 1e-3) + np.linalg.cond(MATRICES[c]) * EPS32


def test_a_lucky_reduction_is_not_believed() -> None:
    """Three hundred systems of thirty eigenvalues: residuals fluctuate, and one small reduction says little of the next."""
    rng = np.random.default_rng(0)
    values = rng.uniform(0.01, 1, 30).repeat(13)[:, None]
    b = draw((len(values), 300)) * (values ** rng.uniform(-1, 1, 300)).astype(np.float32)
    norms = np.linalg.norm(b, axis=0).astype(np.float64)
    solution = solve_pcg(
        lambda X, columns: (values * X).astype(np.float32), np.zeros_like(b), b.copy(), identity,
        right_norms=norms, tolerance=5e-3, ahead=True,
    )  # fmt: skip
    residual = np.linalg.norm(b - values * solution.x, axis=0) / norms
    assert solution.converged.all()
    assert np.all(residual <= solution.relative_residual * (1 + 1e-3) + 100 * EPS32)


def test_a_column_that_ends_ahead_does_not_depend_on_its_company() -> None:
    b = draw((N, 3))
    together = solve(b, deflated, ahead=True)
    for c in range(3):
        alone = solve(b[:, [c]], deflated, which=(c,), ahead=True)
        assert alone.iterations[0] == together.iterations[c]
        np.testing.assert_allclose(alone.x[:, 0], together.x[:, c], atol=N * EPS32 * np.abs(alone.x).max())
