"""Null calibration of meta-analysis: how often tests without anything to find fall below a level.

Design. Independent variants, studies of unequal precision, a fifth of the cells missing. A count of p < α among n tests is
binomial; with the four levels and some twenty tests here 4.5 standard errors are passed by chance once in a thousand runs.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.sumstats.meta.ancestry import ancestry_regression
from biolmm.sumstats.meta.binary_effects import binary_effects
from biolmm.sumstats.meta.block import StudyBlock
from biolmm.sumstats.meta.fixed_effects import inverse_variance
from biolmm.sumstats.meta.genomic_control import chisq_medians
from biolmm.sumstats.meta.groups import subgroups
from biolmm.sumstats.meta.han_eskin import han_eskin
from biolmm.sumstats.meta.overlap import (
    estimate_overlap,
    inverse_variance_with_overlap,
    overlap_sums,
    sample_size_with_overlap,
)
from biolmm.sumstats.meta.random_effects import random_effects
from biolmm.sumstats.meta.sexes import sex_tests

pytestmark = pytest.mark.slow

N = 400_000
LEVELS = np.array([0.05, 1e-2, 1e-3, 1e-4])


def null_block(
    k: int, seed: int, *, equal: bool = False, missing: float = 0.2, tau: float = 0.0, correlation: object = None
) -> StudyBlock:
    """Make N variants without mean effect."""
    rng = np.random.default_rng(seed)
    se = np.full((N, k), 0.05) if equal else rng.uniform(0.02, 0.1, (1, k)) * rng.uniform(0.8, 1.25, (N, k))
    z = rng.standard_normal((N, k)) if correlation is None else rng.multivariate_normal(np.zeros(k), correlation, N)
    beta = se * z + rng.normal(0, tau, (N, k)) * (tau > 0)
    n = np.round(500 / se**2)
    gone = rng.random((N, k)) < missing
    return StudyBlock(*(np.where(gone, np.nan, each) for each in (beta, se)), n=np.where(gone, np.nan, n))


def excess(neg_log10_p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give, for every level, how many standard errors the rate of p < α is above α."""
    tested = neg_log10_p[~np.isnan(neg_log10_p)]
    rate = np.array([np.mean(tested > -np.log10(level)) for level in LEVELS])
    return (rate - LEVELS) / np.sqrt(LEVELS * (1 - LEVELS) / tested.size)


def check(neg_log10_p: NDArray[np.float64]) -> None:
    """Hold the rates to their levels."""
    assert np.all(np.abs(excess(neg_log10_p)) < 4.5), excess(neg_log10_p)


def test_fixed_effects_groups_and_sexes() -> None:
    block = null_block(10, 1)
    found = inverse_variance(block)
    check(found.neg_log10_p)
    check(found.heterogeneity.neg_log10_p[found.n_studies > 1])
    groups = subgroups(block, ["a", "b", "c", "a", "b", "c", "a", "b", "c", "a"])
    check(groups.between_neg_log10_p[groups.between_df > 0])
    sexes = sex_tests(block, "MFMFMFMFMF")
    check(sexes.differentiated_neg_log10_p)
    check(sexes.heterogeneity_neg_log10_p)
    medians = chisq_medians(lambda: np.array_split((found.z**2)[:, None], 7))
    # The median of n χ²₁ has the standard error 1/(2 f √n), f = 0.4718 its density there: 0.37 % of λ at n = 400,000.
    assert abs(medians.lambda_gc()[0] - 1) < 4.5 * 1 / (2 * 0.4718 * np.sqrt(N)) / 0.4549


def test_han_eskin_at_equal_precision_is_exact() -> None:
    for k, seed in ((2, 2), (3, 3), (10, 4)):
        check(han_eskin(null_block(k, seed, equal=True, missing=0.0)).neg_log10_p)


def test_han_eskin_at_unequal_precision() -> None:
    """The null of equal precisions is an approximation here: within 15 % of the level, where ½χ²₁+½χ²₂ is a third below."""
    found = han_eskin(null_block(8, 5))
    rate = np.array([np.mean(found.neg_log10_p > -np.log10(level)) for level in LEVELS[:3]])
    asymptotic = np.array([np.mean(found.neg_log10_p_asymptotic > -np.log10(level)) for level in LEVELS[:3]])
    assert np.all(np.abs(rate / LEVELS[:3] - 1) < 0.15)
    assert np.all(asymptotic / LEVELS[:3] < 0.7)


def test_knapp_hartung_with_heterogeneity() -> None:
    """Of equal precisions the statistic is Student's t exactly, whatever τ² and its estimate."""
    check(random_effects(null_block(6, 6, equal=True, missing=0.0, tau=0.1), "reml", "on").neg_log10_p)


def test_ancestry_regression() -> None:
    block = null_block(9, 7)
    found = ancestry_regression(block, np.random.default_rng(7).standard_normal((9, 2)))
    for test in (found.association, found.ancestry, found.residual):
        check(test.neg_log10_p)


def test_overlap() -> None:
    """With R estimated from the data tests keep their level, and without correction they do not."""
    r = np.eye(5)
    r[0, 1] = r[1, 0] = 0.4
    r[2, 3] = r[3, 2] = 0.2
    block = null_block(5, 8, correlation=r)
    found = estimate_overlap(overlap_sums(block.z_scores()))
    assert np.all(
        np.abs(found.correlation - r)[np.triu_indices(5, 1)] < 4.5 * found.standard_error[np.triu_indices(5, 1)]
    )
    check(inverse_variance_with_overlap(block, found.correlation).neg_log10_p)
    check(sample_size_with_overlap(block, found.correlation).neg_log10_p)
    assert np.all(excess(inverse_variance(block).neg_log10_p) > 4.5)


def test_binary_effects() -> None:
    """The sampled p is uniform: 400 variants, Kolmogorov's distance at the level 0.001 is 1.95/√n."""
    block = null_block(4, 9, missing=0.0).rows(slice(0, 400))
    p = np.sort(10 ** -binary_effects(block, n_samples=4000).neg_log10_p)
    uniform = np.arange(1, 401) / 400
    assert np.max(np.abs(p - uniform)) < 1.95 / np.sqrt(400) + 0.03  # sampling error of p
