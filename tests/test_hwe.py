"""The exact test of Hardy–Weinberg proportions against its definition in whole numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gammaln

from biolmm.errors import ParameterError
from biolmm.hwe import hwe_exact_neg_log_10_p, hwe_exact_p
from oracles.quality import hwe_definition


@pytest.mark.parametrize("midp", [True, False])
def test_is_the_definition(midp: bool) -> None:
    """Every table of up to 14 genotypes; 20 additions and divisions round."""
    tables = [(a, h, n - a - h) for n in range(1, 15) for a in range(n + 1) for h in range(n - a + 1)]
    found = hwe_exact_p(*np.array(tables).T, midp=midp)
    np.testing.assert_allclose(found, [hwe_definition(*table, midp) for table in tables], rtol=20 * 2**-52)
    np.testing.assert_allclose(10 ** -hwe_exact_neg_log_10_p(*np.array(tables).T, midp=midp), found, rtol=1e-14)


@given(st.integers(0, 150), st.integers(0, 150), st.integers(0, 150), st.booleans())
def test_is_the_definition_of_larger_tables(hom_ref: int, het: int, hom_alt: int, midp: bool) -> None:
    if hom_ref + het + hom_alt == 0:
        return
    found = hwe_exact_p([hom_ref], [het], [hom_alt], midp=midp)
    # At most 150 steps of the recurrence, three roundings each.
    np.testing.assert_allclose(found, hwe_definition(hom_ref, het, hom_alt, midp), rtol=450 * 2**-52)
    np.testing.assert_array_equal(found, hwe_exact_p([hom_alt], [het], [hom_ref], midp=midp))


def integer_neg_log_10(rare: int, n: int, het: int) -> float:
    """−log₁₀ mid-p by the recurrence in whole numbers, however small."""
    h = rare % 2
    a, c = (rare - h) // 2, n - h - (rare - h) // 2
    weight = math.factorial(n) // (math.factorial(a) * math.factorial(h) * math.factorial(c)) * 2**h
    weights = {h: weight}
    while a > 0:
        weight = weight * 4 * a * c // ((h + 1) * (h + 2))
        h, a, c = h + 2, a - 1, c - 1
        weights[h] = weight
    twice = sum(2 * w - (w == weights[het]) * w for w in weights.values() if w <= weights[het])
    return log_10(2 * sum(weights.values())) - log_10(twice)


def log_10(number: int) -> float:
    bits = max(number.bit_length() - 1000, 0)
    return math.log10(number >> bits) + bits * math.log10(2)


@pytest.mark.parametrize(("n", "rare"), [(1500, 1500), (1501, 1000), (2501, 1801), (1800, 1799)])
def test_tails_beyond_double_precision(n: int, rare: int) -> None:
    """From 0 heterozygotes to all of them, p as small as 10⁻⁷⁰⁰; the logarithm and the scale round by 10⁻¹²."""
    hets = np.arange(rare % 2, rare + 1, 2)[::25]
    hom = (rare - hets) // 2
    expected = [integer_neg_log_10(rare, n, h) for h in hets.tolist()]
    assert max(expected) > 320
    found = hwe_exact_neg_log_10_p(hom, hets, n - hets - hom)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    p = hwe_exact_p(hom, hets, n - hets - hom)
    told = np.array(expected) < 300
    np.testing.assert_allclose(p[told], 10.0 ** -np.array(expected)[told], rtol=1e-11)
    assert (p[np.array(expected) > 330] == 0).all()


def test_half_a_million_people() -> None:
    """Against a sum over all of the distribution by log-gamma, whose terms near 6·10⁶ round by 10⁻⁹."""
    n, frequencies = 500_000, np.array([2e-6, 1e-4, 0.01, 0.2, 0.5])
    rng = np.random.default_rng(5)
    shares = np.stack([(1 - frequencies) ** 2, 2 * frequencies * (1 - frequencies), frequencies**2], axis=1)
    tables = rng.multinomial(n, shares)
    tables[3] += 200, -400, 200
    found = hwe_exact_p(*tables.T, midp=False)
    for (hom_ref, het, hom_alt), p in zip(tables.tolist(), found, strict=True):
        rare = het + 2 * min(hom_ref, hom_alt)
        h = np.arange(rare % 2, rare + 1, 2)
        a = (rare - h) // 2
        logs = h * math.log(2) - gammaln(a + 1) - gammaln(h + 1) - gammaln(n - h - a + 1)
        at_het = logs[het // 2]
        below = logs <= at_het + 1e-8
        assert p == pytest.approx(np.exp(logs[below] - logs.max()).sum() / np.exp(logs - logs.max()).sum(), rel=1e-7)


def test_without_variation_and_without_genotypes() -> None:
    np.testing.assert_array_equal(hwe_exact_p([9, 0, 0], [0, 0, 0], [0, 4, 0]), [0.5, 0.5, np.nan])
    np.testing.assert_array_equal(hwe_exact_p([9, 0, 0], [0, 0, 0], [0, 4, 0], midp=False), [1, 1, np.nan])
    assert hwe_exact_neg_log_10_p([9], [0], [0], midp=False)[0] == 0
    assert hwe_exact_p([], [], []).shape == (0,)
    assert hwe_exact_p(np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3))).shape == (2, 3)


def test_level() -> None:
    """Under the null the mid-p value is below α about α of the time; the p-value never more often."""
    rng = np.random.default_rng(11)
    tables = rng.multinomial(5_000, [0.64, 0.32, 0.04], 20_000).T
    three_errors = 3 * math.sqrt(0.05 * 0.95 / 20_000)
    assert abs(np.mean(hwe_exact_p(*tables) < 0.05) - 0.05) < three_errors
    assert np.mean(hwe_exact_p(*tables, midp=False) < 0.05) < 0.05 + three_errors


def test_refuses_what_is_no_count() -> None:
    with pytest.raises(ParameterError, match=r"A count of genotypes is -1 but must be at least 0\."):
        hwe_exact_p([1], [-1], [0])
    with pytest.raises(ParameterError, match="must have the same one"):
        hwe_exact_p([1, 2], [1], [0])
