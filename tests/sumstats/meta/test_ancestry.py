"""Meta-regression on ancestry against dense least squares; distances that add up; axes that give distances back."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from biolmm.errors import ParameterError
from biolmm.sumstats.meta.ancestry import (
    ancestry_axes,
    ancestry_regression,
    distance_sums,
    is_distance_marker,
    lambda_of,
    last_in_bins,
)
from biolmm.sumstats.meta.block import StudyBlock
from biolmm.sumstats.meta.fixed_effects import inverse_variance
from oracles.meta import meta_regression, random_block


def test_against_dense_least_squares() -> None:
    block, rng = random_block(120, 9, seed=1), np.random.default_rng(1)
    x = rng.standard_normal((9, 2))
    found = ancestry_regression(block, x)
    scaled = ancestry_regression(block, x, scale_errors=True)
    beta, se = block.effects()
    assert found.tested.any()
    assert not found.tested.all()
    for row in range(block.n_variants):
        there = ~np.isnan(se[row])
        k = int(there.sum())
        assert found.n_studies[row] == k
        assert found.tested[row] == (k >= 5)
        if k < 5:
            assert np.isnan([*found.beta[row], found.association.chisq[row], found.log_bayes_factor[row]]).all()
            continue
        design = np.column_stack([np.ones(k), x[there]])
        expected = meta_regression(beta[row, there], se[row, there] ** 2, design)
        np.testing.assert_allclose(found.beta[row], expected["beta"], rtol=1e-8, atol=1e-11)
        np.testing.assert_allclose(found.se[row], expected["se"], rtol=1e-9)
        residual = expected["residual"]
        np.testing.assert_allclose(scaled.se[row], expected["se"] * np.sqrt(residual / (k - 3)), rtol=1e-8)
        for name, df in (("association", 3), ("ancestry", 2), ("residual", k - 3)):
            test = getattr(found, name)
            np.testing.assert_allclose(test.chisq[row], expected[name], rtol=1e-8, atol=1e-9)
            assert test.df[row] == df
            np.testing.assert_allclose(10 ** -test.neg_log10_p[row], stats.chi2.sf(expected[name], df), rtol=1e-7)
        np.testing.assert_allclose(
            found.log_bayes_factor[row], (found.association.chisq[row] - 3 * np.log(k)) / 2, rtol=1e-12
        )


def test_without_axes_it_is_inverse_variance() -> None:
    block = random_block(60, 6, seed=2)
    found, fixed = ancestry_regression(block, np.empty((6, 0))), inverse_variance(block)
    tested = found.tested
    np.testing.assert_allclose(found.beta[tested, 0], fixed.beta[tested], rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(found.se[tested, 0], fixed.se[tested], rtol=1e-12)
    np.testing.assert_allclose(found.residual.chisq[tested], fixed.heterogeneity.q[tested], rtol=1e-9, atol=1e-11)


def test_invariance_to_origin_scale_order_and_alleles() -> None:
    block, x = random_block(60, 8, seed=3), np.random.default_rng(3).standard_normal((8, 2))
    found = ancestry_regression(block, x)
    order = np.random.default_rng(0).permutation(8)
    for other in (
        ancestry_regression(block, 7 * x + 100),
        ancestry_regression(block.studies(order), x[order]),
        ancestry_regression(StudyBlock(-block.beta, block.se), x),
    ):
        for name in ("association", "ancestry", "residual"):
            # Moving the origin by 100 costs the square of that of the precision.
            a, b = getattr(found, name).chisq, getattr(other, name).chisq
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


def test_axes_that_do_not_differ_among_the_studies_of_a_variant_are_not_tested() -> None:
    x = np.array([[0.0], [0.0], [0.0], [1.0], [1.0]])
    beta = np.array([[0.1, 0.2, 0.1, np.nan, np.nan], [0.1, 0.2, 0.1, 0.3, 0.2]])
    found = ancestry_regression(StudyBlock(beta, np.where(np.isnan(beta), np.nan, 0.1)), x)
    assert found.tested.tolist() == [False, True]
    three = ancestry_regression(StudyBlock([[0.1, 0.2, 0.1, 0.3]], se=[[0.1] * 4]), np.zeros((4, 1)))
    assert not three.tested[0], "a constant covariate is the intercept again"


def test_tails_where_mr_mega_prints_noise() -> None:
    x = np.arange(6.0)[:, None]
    found = ancestry_regression(StudyBlock(np.full((1, 6), 1.0), np.full((1, 6), 0.02)), x)
    assert found.association.neg_log10_p[0] > 3000
    assert np.isfinite(found.association.neg_log10_p[0])


def test_genomic_control_of_the_association_test() -> None:
    block, x = random_block(20, 7, seed=4), np.arange(7.0)[:, None]
    plain, controlled = ancestry_regression(block, x), ancestry_regression(block, x, association_lambda=1.5)
    np.testing.assert_allclose(controlled.association.chisq, plain.association.chisq / 1.5)
    np.testing.assert_array_equal(controlled.ancestry.chisq, plain.ancestry.chisq)
    assert round(lambda_of(stats.chi2.ppf([0.2, 0.5, 0.9], 4) * 1.1, 4), 10) == 1.1


def test_distances_add_up_and_axes_give_them_back() -> None:
    rng = np.random.default_rng(5)
    eaf = np.clip(rng.uniform(0.1, 0.9, (500, 1)) + rng.normal(0, 0.1, (500, 6)), 0, 1)
    chosen = eaf[is_distance_marker(eaf)]
    whole = distance_sums(chosen).mean()
    parts = distance_sums(chosen[:100]) + distance_sums(chosen[100:])
    np.testing.assert_allclose(parts.mean(), whole, rtol=1e-12)
    naive = np.mean((chosen[:, :, None] - chosen[:, None, :]) ** 2, axis=0)
    np.testing.assert_allclose(whole, naive, rtol=1e-11)
    axes = ancestry_axes(naive, 3)
    # D is of squared Euclidean distances of points in few dimensions: with three real ones, three axes are all.
    points = rng.standard_normal((8, 3))
    d = np.sum((points[:, None] - points[None]) ** 2, axis=2)
    again = ancestry_axes(d, 3).coordinates
    np.testing.assert_allclose(np.sum((again[:, None] - again[None]) ** 2, axis=2), d, atol=1e-12)
    assert (np.diff(axes.eigenvalues) <= 0).all()


def test_markers() -> None:
    eaf = np.array([[0.2, 0.3], [0.005, 0.3], [np.nan, 0.3], [0.5, 0.995]])
    assert is_distance_marker(eaf).tolist() == [True, False, False, False]
    contig = np.array([1, 1, 1, 2, 1])
    position = np.array([10, 999_999, 500, 20, 1_000_000])
    assert last_in_bins(contig, position, np.ones(5, bool)).tolist() == [1, 3, 4]
    assert last_in_bins(contig, position, np.array([True, False, True, True, False])).tolist() == [2, 3]
    assert last_in_bins(contig, position, np.zeros(5, bool)).tolist() == []


def test_refusals() -> None:
    with pytest.raises(ParameterError, match="choose 1 to 2"):
        ancestry_axes(np.zeros((5, 5)), 3)
    with pytest.raises(ParameterError, match="along 1 only"):
        ancestry_axes(np.subtract.outer(np.arange(6.0), np.arange(6.0)) ** 2, 2)
    with pytest.raises(ParameterError, match="lacks a frequency"):
        distance_sums(np.array([[np.nan, 0.1]]))
    with pytest.raises(ParameterError, match="needs some"):
        distance_sums(np.empty((0, 3))).mean()
    with pytest.raises(ParameterError, match="each of 5"):
        ancestry_regression(random_block(1, 5, 1), np.zeros((4, 1)))
