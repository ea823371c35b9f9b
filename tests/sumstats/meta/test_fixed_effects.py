"""Fixed effects against dense least squares and published figures; invariances; blocks with nothing in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from biolmm.errors import ParameterError
from biolmm.sumstats.meta.block import StudyBlock
from biolmm.sumstats.meta.fixed_effects import (
    frequencies,
    inverse_variance,
    inverse_variance_weights,
    sample_size,
    summed,
)
from oracles.meta import GOLDEN, fixed, random_block, studies_of


def test_golden_figures() -> None:
    found = inverse_variance(GOLDEN)
    assert round(found.beta[0], 10) == 0.1210601336
    assert round(found.se[0], 10) == 0.0253263774
    assert round(found.z[0], 9) == 4.780001970
    assert f"{10 ** -found.neg_log10_p[0]:.7e}" == "1.7529348e-06"
    assert round(found.heterogeneity.q[0], 10) == 14.8110256125
    assert f"{10 ** -found.heterogeneity.neg_log10_p[0]:.7e}" == "5.1096466e-03"
    assert round(found.heterogeneity.i2[0], 6) == 72.993092
    by_size = sample_size(GOLDEN)
    assert round(by_size.z[0], 9) == 4.781752173
    assert round(by_size.heterogeneity.q[0], 9) == 14.794290598
    assert found.direction.tolist() == [b"++-++"]


def test_against_the_dense_definition() -> None:
    block = random_block(200, 9, seed=1)
    found = inverse_variance(block)
    for row in range(block.n_variants):
        y, v = studies_of(block, row)
        assert found.n_studies[row] == len(y)
        if not len(y):
            assert np.isnan([found.beta[row], found.se[row], found.neg_log10_p[row], found.heterogeneity.q[row]]).all()
            assert found.weight[row] == 0
            assert found.direction[row] == b"?" * 9
            continue
        mean, error, q = fixed(y, v)
        np.testing.assert_allclose([found.beta[row], found.se[row]], [mean, error], rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(found.heterogeneity.q[row], q, rtol=1e-11, atol=1e-12)
        assert found.heterogeneity.df[row] == len(y) - 1
        if len(y) > 1:
            np.testing.assert_allclose(
                10 ** -found.heterogeneity.neg_log10_p[row], stats.chi2.sf(q, len(y) - 1), rtol=1e-9
            )
        else:
            assert found.heterogeneity.neg_log10_p[row] == found.heterogeneity.i2[row] == 0
        np.testing.assert_allclose(10 ** -found.neg_log10_p[row], 2 * stats.norm.sf(abs(mean / error)), rtol=1e-9)


def test_sample_size_against_the_definition() -> None:
    block, lambdas = random_block(100, 6, seed=2), np.array([0.9, 1.0, 1.1, 1.2, 1.3, 1.4])
    found = sample_size(block, lambdas)
    assert block.n is not None
    z = block.z_scores() / np.sqrt(np.maximum(lambdas, 1))
    for row in range(block.n_variants):
        there = ~np.isnan(z[row])
        zi, n = z[row, there], block.n[row, there]
        if not there.any():
            assert np.isnan(found.z[row])
            continue
        combined = np.sqrt(n) @ zi
        np.testing.assert_allclose(found.z[row], combined / np.sqrt(n.sum()), rtol=1e-12, atol=1e-14)
        q = np.sum((zi - np.sqrt(n) * combined / n.sum()) ** 2) if len(n) > 1 else 0.0
        np.testing.assert_allclose(found.heterogeneity.q[row], q, rtol=1e-11, atol=1e-12)


def test_genomic_control_of_a_study_scales_its_error() -> None:
    block, lambdas = random_block(50, 4, seed=3), np.array([1.5, 0.7, 1.0, 1.1])
    assert block.se is not None
    widened = StudyBlock(block.beta, block.se * np.sqrt(np.maximum(lambdas, 1)))
    a, b = inverse_variance(block, lambdas), inverse_variance(widened)
    np.testing.assert_allclose(a.beta, b.beta, rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(a.heterogeneity.q, b.heterogeneity.q, rtol=1e-12, atol=1e-13)


def test_order_of_studies_does_not_matter() -> None:
    block = random_block(100, 7, seed=4)
    order = np.random.default_rng(0).permutation(7)
    a, b = inverse_variance(block), inverse_variance(block.studies(order))
    np.testing.assert_allclose(a.beta, b.beta, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(a.heterogeneity.q, b.heterogeneity.q, rtol=1e-11, atol=1e-12)
    swapped = [bytes(text.ljust(7, b"?")[i] for i in order) for text in a.direction.tolist()]
    assert b.direction.tolist() == swapped


def test_swapped_alleles_only_change_signs() -> None:
    block = random_block(100, 5, seed=5)
    assert block.eaf is not None
    other = StudyBlock(-block.beta, block.se, 1 - block.eaf, block.n)
    a, b = inverse_variance(block), inverse_variance(other)
    np.testing.assert_array_equal(a.beta, -b.beta)
    np.testing.assert_array_equal(a.heterogeneity.q, b.heterogeneity.q)
    np.testing.assert_array_equal(a.neg_log10_p, b.neg_log10_p)
    np.testing.assert_array_equal(sample_size(block).z, -sample_size(other).z)
    f, g = frequencies(block, inverse_variance_weights(block)), frequencies(other, inverse_variance_weights(other))
    np.testing.assert_allclose(f.mean, 1 - g.mean, rtol=1e-13)
    np.testing.assert_allclose(f.spread, g.spread, rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(f.minimum, 1 - g.maximum, rtol=1e-13)


@given(st.floats(-1, 1), st.floats(0.01, 1), st.floats(-1, 1), st.floats(0.01, 1))
def test_halves_of_a_study_make_the_study(b1: float, s1: float, b2: float, s2: float) -> None:
    """The estimate from two independent halves, combined, combines with others as their whole does."""
    halves = inverse_variance(StudyBlock([[b1, b2]], se=[[s1, s2]]))
    whole = inverse_variance(StudyBlock([[halves.beta[0], 0.3]], se=[[halves.se[0], 0.2]]))
    parts = inverse_variance(StudyBlock([[b1, b2, 0.3]], se=[[s1, s2, 0.2]]))
    np.testing.assert_allclose([parts.beta[0], parts.se[0]], [whole.beta[0], whole.se[0]], rtol=1e-11, atol=1e-13)
    # Q of the parts is Q of the whole and Q within it
    q = whole.heterogeneity.q[0] + halves.heterogeneity.q[0]
    np.testing.assert_allclose(parts.heterogeneity.q[0], q, rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(st.integers(1, 40))
def test_chunks_change_nothing(size: int) -> None:
    block = random_block(40, 5, seed=6)
    whole = inverse_variance(block)
    parts = [inverse_variance(block.rows(slice(start, start + size))) for start in range(0, 40, size)]
    np.testing.assert_array_equal(np.concatenate([part.beta for part in parts]), whole.beta)
    np.testing.assert_array_equal(np.concatenate([part.heterogeneity.q for part in parts]), whole.heterogeneity.q)


def test_frequencies_and_sums() -> None:
    block = random_block(60, 6, seed=7)
    assert block.eaf is not None
    weights = inverse_variance_weights(block, np.full(6, 1.3))
    found = frequencies(block, weights)
    for row in range(block.n_variants):
        there = ~np.isnan(weights[row]) & ~np.isnan(block.eaf[row])
        w, f = weights[row, there], block.eaf[row, there]
        if not there.any():
            assert np.isnan([found.mean[row], found.spread[row], found.minimum[row], found.maximum[row]]).all()
            continue
        mean = (w * f).sum() / w.sum()
        assert (found.minimum[row], found.maximum[row]) == (f.min(), f.max())
        np.testing.assert_allclose(found.mean[row], mean, rtol=1e-13)
        # METAL's own form cancels: its square keeps 1e-16 of f²
        np.testing.assert_allclose(found.spread[row] ** 2, (w * f**2).sum() / w.sum() - mean**2, atol=1e-15)
    assert summed(np.array([[1.0, np.nan, 4.0]]), np.array([[True, True, True]])).tolist() == [5.0]


def test_p_values_far_beyond_double_precision() -> None:
    found = inverse_variance(StudyBlock([[1.0, 1.0]], se=[[0.01, 0.01]]))
    assert 4344 < found.neg_log10_p[0] < 4350
    tiny = sample_size(StudyBlock([[1.0, -1.0]], n=[[1.0, 1.0]], neg_log10_p=[[5000.0, 4000.0]]))
    assert 0 < tiny.z[0] < 152


def test_metal_calls_tiny_q_no_heterogeneity() -> None:
    found = inverse_variance(StudyBlock([[0.1, 0.1 + 1e-6]], se=[[0.1, 0.1]])).heterogeneity
    assert found.neg_log10_p[0] > 0
    assert found.metal_neg_log10_p()[0] == 0


def test_without_variants_or_numbers() -> None:
    empty = inverse_variance(StudyBlock(np.empty((0, 3)), se=np.empty((0, 3))))
    assert empty.beta.shape == empty.direction.shape == (0,)
    with pytest.raises(ParameterError, match="no standard errors"):
        inverse_variance(StudyBlock([[1.0]]))
    with pytest.raises(ParameterError, match="no sample sizes"):
        sample_size(StudyBlock([[1.0]], se=[[1.0]]))
