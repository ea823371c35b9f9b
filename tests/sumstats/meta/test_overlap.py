"""Shared samples: least squares with dense covariances, the estimate of R, METAL's sequential form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from biolmm.errors import ParameterError
from biolmm.sumstats.meta.block import StudyBlock
from biolmm.sumstats.meta.fixed_effects import inverse_variance, sample_size
from biolmm.sumstats.meta.metal_overlap import metal_overlap
from biolmm.sumstats.meta.overlap import (
    estimate_overlap,
    inverse_variance_with_overlap,
    overlap_sums,
    sample_size_with_overlap,
    truncated_correlation,
)
from oracles.meta import GOLDEN, random_block


def correlation(k: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((k, 3 * k))
    return np.corrcoef(x)


def test_golden_figures() -> None:
    r = np.eye(5)
    r[0, 1] = r[1, 0] = 0.2
    by_size, by_variance = sample_size_with_overlap(GOLDEN, r), inverse_variance_with_overlap(GOLDEN, r)
    assert round(by_size.n_effective[0], 4) == 14779.2408
    assert round(by_size.z[0], 9) == 4.463965662
    assert round(by_variance.beta[0], 10) == 0.1160474540
    assert round(by_variance.se[0], 10) == 0.0260110073


def test_against_dense_covariances() -> None:
    block, r = random_block(80, 6, seed=1), correlation(6, 1)
    lambdas = np.linspace(0.9, 1.3, 6)
    by_size, by_variance = sample_size_with_overlap(block, r, lambdas), inverse_variance_with_overlap(block, r, lambdas)
    beta, se = block.effects(lambdas)
    z = block.z_scores() / np.sqrt(np.maximum(lambdas, 1))
    assert block.n is not None
    for row in range(block.n_variants):
        there = ~np.isnan(se[row])
        assert by_variance.n_studies[row] == there.sum()
        if not there.any():
            assert np.isnan([by_size.z[row], by_variance.beta[row]]).all()
            continue
        covariance = np.diag(se[row, there]) @ r[np.ix_(there, there)] @ np.diag(se[row, there])
        inverse, one = np.linalg.inv(covariance), np.ones(there.sum())
        variance = 1 / (one @ inverse @ one)
        mean = variance * (one @ inverse @ beta[row, there])
        np.testing.assert_allclose([by_variance.beta[row], by_variance.se[row]], [mean, np.sqrt(variance)], rtol=1e-9)
        residual = beta[row, there] - mean
        np.testing.assert_allclose(by_variance.q[row], residual @ inverse @ residual, rtol=1e-8, atol=1e-10)
        root = np.sqrt(block.n[row, there])
        h = np.linalg.solve(r[np.ix_(there, there)], root)
        np.testing.assert_allclose(by_size.n_effective[row], root @ h, rtol=1e-10)
        np.testing.assert_allclose(by_size.z[row], z[row, there] @ h / np.sqrt(root @ h), rtol=1e-9, atol=1e-12)


def test_without_overlap_it_is_the_ordinary_analysis() -> None:
    block = random_block(50, 5, seed=2)
    found, plain = inverse_variance_with_overlap(block, np.eye(5)), inverse_variance(block)
    np.testing.assert_allclose(found.beta, plain.beta, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(found.q, plain.heterogeneity.q, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(
        sample_size_with_overlap(block, np.eye(5)).z, sample_size(block).z, rtol=1e-11, atol=1e-13
    )


def test_order_and_alleles() -> None:
    block, r = random_block(40, 5, seed=3), correlation(5, 3)
    found = inverse_variance_with_overlap(block, r)
    order = np.random.default_rng(0).permutation(5)
    other = inverse_variance_with_overlap(block.studies(order), r[np.ix_(order, order)])
    np.testing.assert_allclose(other.beta, found.beta, rtol=1e-10, atol=1e-13)
    swapped = inverse_variance_with_overlap(StudyBlock(-block.beta, block.se), r)
    np.testing.assert_allclose(swapped.beta, -found.beta, rtol=1e-12)


@pytest.mark.parametrize("rho", [-0.6, 0.0, 0.3, 0.9])
def test_truncated_likelihood_by_its_definition(rho: float) -> None:
    rng = np.random.default_rng(4)
    z = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], 3000)
    kept = z[(np.abs(z) < 1.0).all(axis=1)]

    def loss(at: float) -> float:
        normal = stats.multivariate_normal([0, 0], [[1, at], [at, 1]])
        inside = normal.cdf([1, 1], lower_limit=[-1, -1])
        return float(-np.sum(normal.logpdf(kept)) + len(kept) * np.log(inside))

    expected = optimize.minimize_scalar(loss, bounds=(-0.99, 0.99), method="bounded", options={"xatol": 1e-9}).x
    found, error = truncated_correlation(len(kept), float(np.sum(kept**2)), float(np.sum(kept.prod(axis=1))), 1.0)
    assert abs(found - expected) < 1e-5
    assert abs(found - rho) < 4 * error


def test_sums_add_up_and_missing_pairs_are_left_out() -> None:
    z = np.random.default_rng(5).multivariate_normal(np.zeros(3), correlation(3, 5), 2000)
    z[:500, 0] = np.nan
    z[:, 2] = np.nan
    whole, parts = overlap_sums(z), overlap_sums(z[:700]) + overlap_sums(z[700:])
    np.testing.assert_allclose(parts.product, whole.product, atol=1e-11)
    a, b = estimate_overlap(whole), estimate_overlap(parts)
    np.testing.assert_allclose(a.correlation, b.correlation, atol=1e-8)
    assert np.isnan(a.standard_error[0, 2])
    assert a.correlation[0, 2] == 0


def test_impossible_correlations_are_raised_to_possible_ones() -> None:
    rng = np.random.default_rng(6)
    x = rng.standard_normal(4000)
    z = np.column_stack([x, x + 1e-9, rng.standard_normal(4000)])
    found = estimate_overlap(overlap_sums(z))
    assert found.correlation[0, 1] > 0.999
    inverse_variance_with_overlap(StudyBlock([[0.1, 0.1, 0.1]], se=[[0.1, 0.1, 0.1]]), found.correlation)


def test_metal_form() -> None:
    """By its recurrence in a loop; without shared samples nearly the ordinary analysis; with all, one study's."""
    rng = np.random.default_rng(7)
    r = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
    z = rng.multivariate_normal(np.zeros(3), r, 5000)
    z[::7, 1] = np.nan
    n = np.where(np.isnan(z), np.nan, np.array([1500.0, 1800.0, 4000.0]))
    found = metal_overlap(StudyBlock(z, n=n, z=z))
    rho = {(step.study, step.bin_start): step.correlation for step in found.steps}
    assert abs(rho[1, 3000] - 0.5) < 0.1
    for row in range(0, 5000, 97):
        s = w = size = 0.0
        for study in range(3):
            if np.isnan(z[row, study]):
                continue
            here = n[row, study]
            shared = rho[study, int(size + here) // 1000 * 1000] * np.sqrt(w * here) if w else 0.0
            s, w, size = s + np.sqrt(here) * z[row, study], w + here + 2 * shared, size + here - shared
        np.testing.assert_allclose(
            [found.z[row], found.weight[row], found.n[row]], [s / np.sqrt(w), w, size], rtol=1e-12
        )
    assert abs(np.std(found.z) - 1) < 0.03


def test_refusals() -> None:
    with pytest.raises(ParameterError, match="5 × 5"):
        inverse_variance_with_overlap(GOLDEN, np.eye(4))
    with pytest.raises(ParameterError, match="positive definite"):
        inverse_variance_with_overlap(GOLDEN, np.ones((5, 5)))
    with pytest.raises(ParameterError, match="above 0"):
        overlap_sums(np.zeros((1, 2)), 0.0)
    with pytest.raises(ParameterError, match="cannot be added"):
        overlap_sums(np.zeros((1, 2)), 1.0) + overlap_sums(np.zeros((1, 2)), 2.0)
    with pytest.raises(ParameterError, match="no sample sizes"):
        sample_size_with_overlap(StudyBlock([[1.0]], se=[[1.0]]), np.eye(1))
    with pytest.raises(ParameterError, match="no sample sizes"):
        metal_overlap(StudyBlock([[1.0]], se=[[1.0]]))
