"""Covariate bases against a rank by singular values; transforms against their slow definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from biolmm.cohort.basis import Basis, orthonormal_basis, standardise
from biolmm.cohort.transforms import rank_inverse_normal, transform_trait

RNG_SEED = 20_260_101
EPS = np.finfo(np.float64).eps


def projector(basis: Basis) -> NDArray[np.float64]:
    return basis.Q @ basis.Q.T


def naive_kept(columns: NDArray[np.float64]) -> list[int]:
    """Keep a column when it raises the rank of [1, columns before it], by singular values of unit columns."""
    kept: list[int] = []
    design = np.ones((len(columns), 1))
    for index, column in enumerate(columns.T):
        unit = np.column_stack([design, column])
        unit = unit / np.where(unit.any(axis=0), np.linalg.norm(unit, axis=0), 1)
        if np.linalg.matrix_rank(unit, tol=1e-9) > design.shape[1]:
            design = np.column_stack([design, column])
            kept.append(index)
    return kept


def names(n_columns: int) -> tuple[str, ...]:
    return tuple(f"x{index}" for index in range(n_columns))


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), n_rows=st.integers(2, 40), kinds=st.lists(st.integers(0, 4), max_size=8))
def test_basis_keeps_what_raises_the_rank_and_spans_it(seed: int, n_rows: int, kinds: list[int]) -> None:
    rng = np.random.default_rng(seed)
    columns = np.empty((n_rows, 0))
    for kind in kinds:
        new = {
            0: rng.standard_normal(n_rows),
            1: np.full(n_rows, 3.0),
            2: columns @ rng.integers(-2, 3, columns.shape[1]) + 1.0,
            3: (rng.random(n_rows) < 0.3).astype(float),
            4: 1 + rng.standard_normal(n_rows),
        }[kind]
        columns = np.column_stack([columns, new])
    basis = orthonormal_basis(columns, names(len(kinds)))
    assert list(basis.kept) == naive_kept(columns)
    assert sorted([*basis.kept, *basis.dropped]) == list(range(len(kinds)))
    np.testing.assert_allclose(basis.Q.T @ basis.Q, np.eye(basis.Q.shape[1]), atol=1e-12)
    design = np.column_stack([np.ones(n_rows), columns])
    coefficients = np.linalg.lstsq(basis.Q, design, rcond=None)[0]
    scale = np.abs(design).max()
    np.testing.assert_allclose(basis.Q @ coefficients, design, atol=1e3 * EPS * n_rows * max(scale, 1))


def test_basis_is_orthonormal_for_nearly_collinear_columns() -> None:
    rng = np.random.default_rng(RNG_SEED)
    first = rng.standard_normal(500)
    columns = np.column_stack([first, *(first + 2e-6 * rng.standard_normal(500) for _ in range(6))])
    basis = orthonormal_basis(columns, names(7))
    assert basis.kept == tuple(range(7))
    np.testing.assert_allclose(basis.Q.T @ basis.Q, np.eye(8), atol=1e-12)


def test_without_covariates_the_basis_is_the_intercept() -> None:
    basis = orthonormal_basis(np.empty((4, 0)), ())
    np.testing.assert_array_equal(basis.Q, np.full((4, 1), 0.5))


def test_more_columns_than_rows_fill_the_space() -> None:
    columns = np.random.default_rng(RNG_SEED).standard_normal((4, 9))
    basis = orthonormal_basis(columns, names(9))
    assert basis.kept == (0, 1, 2)
    np.testing.assert_allclose(projector(basis), np.eye(4), atol=1e-12)


@pytest.mark.parametrize("scale", [1e-150, 1e-9, 0.25, 3.0, 1e9, 1e150])
def test_units_of_a_covariate_do_not_matter(scale: float) -> None:
    rng = np.random.default_rng(RNG_SEED)
    columns = rng.standard_normal((50, 4))
    columns[:, 2] = columns[:, 0] - columns[:, 1]
    scaled = columns * [1.0, scale, 1.0, 1.0]
    plain, other = orthonormal_basis(columns, names(4)), orthonormal_basis(scaled, names(4))
    assert plain.kept == other.kept == (0, 1, 3)
    np.testing.assert_allclose(other.Q, plain.Q, atol=1e-12)


def test_a_large_offset_does_not_hide_a_covariate() -> None:
    seconds = 1.7e9 + np.array([0.0, 1.0, 3.0, 4.0, 9.0])
    basis = orthonormal_basis(np.column_stack([seconds, seconds - 1.7e9]), ("since_1970", "since_2023"))
    assert basis.kept == (0,)
    assert basis.dropped == {1: "linear combination of since_1970"}


def test_a_column_that_varies_by_rounding_only_is_constant() -> None:
    x = np.random.default_rng(RNG_SEED).standard_normal(30)
    noise = 2 * x + (1 - 2 * x) + 1
    assert noise.min() < noise.max()
    basis = orthonormal_basis(np.column_stack([x, noise, 1e7 + 1e-6 * x]), ("x", "noise", "shifted"))
    assert basis.dropped == {1: "constant", 2: "linear combination of x"}


def test_reasons_name_the_columns_involved() -> None:
    rng = np.random.default_rng(RNG_SEED)
    a, b, c = rng.standard_normal((3, 30))
    columns = np.column_stack([a, b, c, a - 2 * c + 5, np.full(30, 7.0)])
    basis = orthonormal_basis(columns, ("a", "b", "c", "d", "e"))
    assert basis.dropped == {3: "linear combination of a, c", 4: "constant"}


def test_standardised_columns_have_mean_zero_and_variance_one() -> None:
    column = np.random.default_rng(RNG_SEED).gamma(2.0, 1e5, 100)
    standard, deviation = standardise(column)
    np.testing.assert_allclose([standard.mean(), standard.std()], [0, 1], atol=1e-14)
    np.testing.assert_allclose(deviation, column.std(), rtol=1e-14)


def naive_rank_inverse_normal(values: list[float]) -> list[float]:
    """Φ⁻¹((rank − 3/8)/(n + 1/4)), the rank counted one by one."""
    scores = []
    for value in values:
        below = sum(other < value for other in values)
        equal = sum(other == value for other in values)
        rank = below + (equal + 1) / 2
        scores.append(float(scipy.stats.norm.ppf((rank - 3 / 8) / (len(values) + 1 / 4))))
    return scores


@given(st.lists(st.sampled_from([-1e9, -1.5, 0.0, 1e-300, 2.0, 2.5, 7.0]) | st.floats(-1e6, 1e6), min_size=1))
def test_rank_inverse_normal_is_its_definition(values: list[float]) -> None:
    scores = rank_inverse_normal(np.array(values))
    np.testing.assert_allclose(scores, naive_rank_inverse_normal(values), atol=1e-12)


def test_rank_inverse_normal_against_scipy_ranks() -> None:
    values = np.random.default_rng(RNG_SEED).integers(0, 50, 200).astype(float)
    ranks = scipy.stats.rankdata(values, method="average")
    expected = scipy.stats.norm.ppf((ranks - 0.375) / 200.25)
    np.testing.assert_allclose(rank_inverse_normal(values), expected, rtol=1e-13)


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=30), st.integers(0, 10**6))
def test_rank_inverse_normal_ignores_monotone_maps_and_follows_order(values: list[int], seed: int) -> None:
    y = np.array(values, dtype=float)
    order = np.random.default_rng(seed).permutation(len(y))
    np.testing.assert_array_equal(rank_inverse_normal(y**3 * 0.25 + 7), rank_inverse_normal(y))
    np.testing.assert_array_equal(rank_inverse_normal(y[order]), rank_inverse_normal(y)[order])
    np.testing.assert_allclose(rank_inverse_normal(-y), -rank_inverse_normal(y), atol=1e-12)


def test_indirect_transform_ranks_the_residuals() -> None:
    rng = np.random.default_rng(RNG_SEED)
    covariate = rng.standard_normal(60)
    values = np.exp(rng.standard_normal(60)) + 3 * covariate
    design = np.column_stack([np.ones(60), covariate])
    rest = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    basis = orthonormal_basis(covariate[:, None], ("x",)).Q
    expected = naive_rank_inverse_normal(rest.tolist())
    np.testing.assert_allclose(transform_trait(values, basis, "rint-indirect"), expected, atol=1e-12)


def test_indirect_transform_keeps_ties_of_samples_that_are_alike() -> None:
    sex = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    values = np.array([0.1, 0.3, 0.1, 0.3, 0.7, 0.2, 0.9])
    scores = transform_trait(values, orthonormal_basis(sex[:, None], ("sex",)).Q, "rint-indirect")
    assert scores[0] == scores[2]
    assert scores[1] == scores[3]
