"""The partition model against dense densities over all sets of centres."""

from __future__ import annotations

import numpy as np
import pytest

from biolmm.errors import ParameterError
from biolmm.sumstats.meta.block import StudyBlock
from biolmm.sumstats.meta.partition import PartitionPrior, partition_model, partitions_of
from oracles.meta import partition_factor, random_block, studies_of


def distances_of(k: int, seed: int) -> np.ndarray:
    points = np.random.default_rng(seed).standard_normal((k, 2))
    return np.sum((points[:, None] - points[None]) ** 2, axis=2)


def test_against_dense_densities() -> None:
    block, d = random_block(20, 5, seed=1), distances_of(5, 1)
    _, se = block.effects()
    prior = PartitionPrior(p=0.3, sigmas=(0.1, 0.3))
    found = partition_model(block, d, prior)
    for row in range(block.n_variants):
        y, v = studies_of(block, row)
        there = np.flatnonzero(~np.isnan(se[row]))
        if not len(y):
            assert np.isnan([found.log10_bayes_factor[row], found.posterior_heterogeneity[row]]).all()
            continue
        pairs = [partition_factor(y, v, d[np.ix_(there, there)], 0.3, sigma) for sigma in prior.sigmas]
        factors, single = np.array(pairs).T
        np.testing.assert_allclose(found.log10_bayes_factor[row], np.log10(factors.mean()), rtol=1e-9, atol=1e-11)
        together = np.sum(factors * single) / factors.sum()
        np.testing.assert_allclose(found.posterior_heterogeneity[row], 1 - together, atol=1e-9)
        if len(y) == 1:
            assert found.posterior_heterogeneity[row] == 0


@pytest.mark.parametrize("over_sets", [False, True])
def test_priors_are_probabilities(over_sets: bool) -> None:
    prior = PartitionPrior(p=0.5, over_sets=over_sets)
    found = partitions_of(distances_of(7, 2), prior)
    mass = np.exp(found.log_prior)
    np.testing.assert_allclose(mass.sum(), 1, rtol=1e-12)
    for i in range(len(mass)):
        covered = found.clusters[found.members[found.starts[i] : found.starts[i + 1]]].sum(axis=0)
        assert (covered == 1).all(), "clusters cover every study once"
    assert found.starts[1] == 1, "the first is one cluster"
    if over_sets:
        # k sets of one centre, of Σ C(k,m) p^{m−1} = ((1+p)^k − 1)/p
        np.testing.assert_allclose(mass[0], 7 * 0.5 / (1.5**7 - 1), rtol=1e-12)
    else:
        np.testing.assert_allclose(mass[0], 1 / np.sum(0.5 ** np.arange(7)), rtol=1e-12)


def test_it_sees_clusters() -> None:
    d = np.ones((6, 6)) - np.eye(6)
    d[:3, :3] = d[3:, 3:] = 0.1
    np.fill_diagonal(d, 0)
    se = np.full((3, 6), 0.03)
    beta = np.array([[0.3] * 3 + [0.0] * 3, [0.2] * 6, [0.0] * 6])
    found = partition_model(StudyBlock(beta, se), d)
    assert found.posterior_heterogeneity[0] > 0.99
    assert found.posterior_heterogeneity[1] < found.prior_heterogeneity[1] / 5
    assert found.log10_bayes_factor[1] > 6 > 0 > found.log10_bayes_factor[2]


def test_order_scale_of_distances_and_alleles() -> None:
    block, d = random_block(30, 6, seed=3), distances_of(6, 3)
    found = partition_model(block, d)
    order = np.random.default_rng(0).permutation(6)
    for other in (
        partition_model(block.studies(order), d[np.ix_(order, order)]),
        partition_model(block, d**2),
        partition_model(StudyBlock(-block.beta, block.se), d),
    ):
        np.testing.assert_allclose(other.log10_bayes_factor, found.log10_bayes_factor, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(other.posterior_heterogeneity, found.posterior_heterogeneity, rtol=1e-9)


def test_far_out() -> None:
    found = partition_model(StudyBlock(np.full((1, 12), 5.0), np.full((1, 12), 0.05)), distances_of(12, 4))
    assert 10_000 < found.log10_bayes_factor[0] < 60_000
    assert 0 <= found.posterior_heterogeneity[0] < 1e-3


def test_refusals() -> None:
    with pytest.raises(ParameterError, match="at most 12 studies, found 13"):
        partition_model(random_block(1, 13, 1), np.zeros((13, 13)))
    with pytest.raises(ParameterError, match="symmetric"):
        partition_model(random_block(1, 3, 1), np.triu(np.ones((3, 3))))
    with pytest.raises(ParameterError, match="above 0 and at most 1"):
        PartitionPrior(p=0)
