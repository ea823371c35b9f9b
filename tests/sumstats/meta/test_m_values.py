"""m-values by dense densities of all subsets, by enumeration and by quadrature; the binary-effects test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from biolmm.errors import ParameterError
from biolmm.sumstats.meta.binary_effects import binary_effects, binary_effects_statistic
from biolmm.sumstats.meta.block import StudyBlock
from biolmm.sumstats.meta.m_values import EffectPrior, m_values
from oracles.meta import GOLDEN, fixed, random_block, studies_of, subset_posterior


@pytest.mark.parametrize("enumerate_up_to", [15, 1])
def test_golden_figures(enumerate_up_to: int) -> None:
    found = m_values(GOLDEN, enumerate_up_to=enumerate_up_to)
    assert found.m_values.round(6).tolist() == [[0.835946, 0.996558, 0.041708, 0.939377, 0.998765]]


@pytest.mark.parametrize("prior", [EffectPrior(), EffectPrior(0.07, 2.0, 0.5)])
def test_against_dense_densities(prior: EffectPrior) -> None:
    block = random_block(25, 6, seed=1)
    by_sum, by_integral = m_values(block, prior), m_values(block, prior, enumerate_up_to=0)
    for row in range(block.n_variants):
        y, v = studies_of(block, row)
        there = ~np.isnan(by_sum.m_values[row])
        assert there.sum() == len(y)
        if len(y):
            expected, factor = subset_posterior(y, v, prior.sigma, prior.a, prior.b)
            for found in (by_sum, by_integral):
                np.testing.assert_allclose(found.m_values[row, there], expected, rtol=1e-9)
                np.testing.assert_allclose(found.log10_bayes_factor[row], np.log10(factor), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("k", "effect"), [(2, 0.1), (9, 0.0), (13, 0.3), (15, 3.0)])
def test_quadrature_is_the_sum(k: int, effect: float) -> None:
    """Effects of many standard errors too, and precisions that differ a hundredfold."""
    rng = np.random.default_rng(k)
    se = np.exp(rng.uniform(np.log(0.005), np.log(0.5), (4, k)))
    block = StudyBlock(rng.choice([0, effect], (4, k)) + se * rng.standard_normal((4, k)), se)
    a, b = m_values(block), m_values(block, enumerate_up_to=0)
    # Logarithms of Bayes factors up to 1e5 keep 1e-11 of what they are exponents of.
    np.testing.assert_allclose(a.m_values, b.m_values, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(a.log10_bayes_factor, b.log10_bayes_factor, rtol=1e-12, atol=1e-12)


def test_many_studies_need_no_sampling() -> None:
    rng = np.random.default_rng(3)
    se = rng.uniform(0.03, 0.05, (2, 40))
    on = np.arange(40) < 20
    found = m_values(StudyBlock(0.4 * on + se * rng.standard_normal((2, 40)), se))
    assert (found.m_values[:, on] > 0.99).all()
    assert (found.m_values[:, ~on] < 0.1).all()
    order = rng.permutation(40)
    block = StudyBlock(0.4 * on + se, se)
    np.testing.assert_allclose(m_values(block.studies(order)).m_values, m_values(block).m_values[:, order], rtol=1e-9)


def test_swapped_alleles() -> None:
    block = random_block(20, 5, seed=4)
    swapped = StudyBlock(-block.beta, block.se)
    np.testing.assert_allclose(m_values(swapped).m_values, m_values(block).m_values, rtol=1e-12)
    a, b = binary_effects(block, n_samples=100), binary_effects(swapped, n_samples=100)
    np.testing.assert_allclose(a.statistic, -b.statistic, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(a.neg_log10_p, b.neg_log10_p, rtol=1e-12)


@pytest.mark.parametrize("metasoft", [False, True])
def test_binary_effects_statistic_by_its_definition(metasoft: bool) -> None:
    block = random_block(60, 6, seed=5)
    statistic, h = binary_effects_statistic(*block.effects(), metasoft)
    for row in range(block.n_variants):
        y, v = studies_of(block, row)
        if len(y) < 2:
            continue
        expected = []
        for i in range(len(y)):
            mean, error, _ = fixed(np.delete(y, i), np.delete(v, i))
            with_effect = stats.norm(mean, np.sqrt(v[i] + error**2)).pdf(y[i])
            without = stats.norm(0, np.sqrt(v[i])).pdf(y[i])
            if metasoft:
                with_effect, without = with_effect * np.sqrt(v[i] + error**2), without * np.sqrt(v[i])
            expected.append(with_effect / (with_effect + without))
        weight = np.array(expected) / np.sqrt(v)
        np.testing.assert_allclose(h[row, ~np.isnan(h[row])], expected, rtol=1e-9)
        np.testing.assert_allclose(statistic[row], weight @ (y / np.sqrt(v)) / np.sqrt(weight @ weight), rtol=1e-9)


def test_binary_effects_p_by_plain_simulation() -> None:
    se = np.array([0.05, 0.08, 0.03])
    rng = np.random.default_rng(6)
    null, _ = binary_effects_statistic(rng.standard_normal((200_000, 3)) * se, np.broadcast_to(se, (200_000, 3)))
    for z in ([2.0, 0.1, 0.5], [1.0, 1.0, -2.0]):
        found = binary_effects(StudyBlock(np.array([z]) * se, se[None]), n_samples=40_000)
        plain = np.mean(np.abs(null) >= abs(found.statistic[0]))
        p = 10 ** -found.neg_log10_p[0]
        error = np.hypot(found.relative_error[0] * p, np.sqrt(plain * (1 - plain) / 200_000))
        assert abs(p - plain) < 4 * error


def test_binary_effects_far_out_and_alone() -> None:
    """One study that is all there is of S: P(|S| ≥ s) is at least P(|z| ≥ s) of it, about; and 10⁻¹⁰⁰⁰ is estimated."""
    far = binary_effects(StudyBlock([[4.0, 0.0, 0.0]], se=[[0.06, 0.06, 0.06]]))
    assert 500 < far.neg_log10_p[0] < 1000
    assert far.relative_error[0] < 0.1
    alone = binary_effects(StudyBlock([[0.2, np.nan]], se=[[0.1, np.nan]]))
    np.testing.assert_allclose(10**-alone.neg_log10_p, 2 * stats.norm.sf(2.0))
    assert alone.h_values[0, 0] == 1
    many = binary_effects(StudyBlock(np.full((1, 30), 0.1), se=np.full((1, 30), 0.05)), n_samples=2000)
    assert many.relative_error[0] < 0.5


def test_both_ways_to_draw_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing subsets and the symmetric polynomials estimate the same p."""
    block = StudyBlock([[0.12, 0.25, -0.02, 0.3]], se=[[0.05, 0.08, 0.06, 0.10]])
    listed = binary_effects(block)
    monkeypatch.setattr("biolmm.sumstats.meta.binary_effects._MOST_LISTED", 0)
    by_size = binary_effects(block)
    assert listed.neg_log10_p[0] > 3
    error = np.hypot(listed.relative_error[0], by_size.relative_error[0])
    assert abs(np.log(10) * (listed.neg_log10_p[0] - by_size.neg_log10_p[0])) < 4 * error
    assert listed.neg_log10_p[0] != by_size.neg_log10_p[0]


def test_neighbours_do_not_matter() -> None:
    block = random_block(8, 4, seed=7)
    whole = binary_effects(block, n_samples=500)
    part = binary_effects(block.rows(slice(5, 6)), n_samples=500)
    np.testing.assert_array_equal(part.neg_log10_p, whole.neg_log10_p[5:6])


def test_refusals() -> None:
    with pytest.raises(ParameterError, match="all above 0"):
        EffectPrior(sigma=0)
    with pytest.raises(ParameterError, match="20 is the most"):
        m_values(GOLDEN, enumerate_up_to=30)
    with pytest.raises(ParameterError, match="at least 100"):
        binary_effects(GOLDEN, n_samples=10)
