from __future__ import annotations

from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from biolmm.results.diagnostics import (
    _neg_log10_p_t_by_beta,
    _neg_log10_p_t_near_normal,
    lambda_gc,
    neg_log10_p,
    neg_log10_p_chisq,
    neg_log10_p_t,
    qq_points,
)

getcontext().prec = 60


def normal_tail(z: int) -> float:
    """−log₁₀ 2Φ(−z) from the continued fraction of Mills' ratio, z/1 + 1/z + 2/z + …, in 60 digits."""
    fraction = Decimal(z)
    for k in range(2_000, 0, -1):
        fraction = Decimal(z) + Decimal(k) / fraction
    pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
    log_p = Decimal(2).ln() - Decimal(z) ** 2 / 2 - (2 * pi).ln() / 2 - fraction.ln()
    return float(-log_p / Decimal(10).ln())


def student_tail(t: float, df: int) -> float:
    """−log₁₀ of the two-sided tail for even ν: sin θ Σ_{k ≥ ν/2} C(2k, k) (cos θ / 2)²ᵏ with tan θ = t/√ν."""
    squared = Decimal(t) ** 2
    cosine = Decimal(df) / (Decimal(df) + squared)
    coefficient = Decimal(1)
    for k in range(1, df // 2 + 1):
        coefficient *= Decimal(2 * k - 1) / Decimal(2 * k)
    term, total, k = coefficient * cosine ** (df // 2), Decimal(0), df // 2
    while term > total * Decimal(10) ** -40:
        total += term
        k += 1
        term *= cosine * Decimal(2 * k - 1) / Decimal(2 * k)
    return float(-(total * (1 - cosine).sqrt()).log10())


def student_centre(t: float, df: int) -> float:
    """The same from what is left of it: p = 1 − sin θ Σ_{k < ν/2} C(2k, k) (cos θ / 2)²ᵏ."""
    squared = Decimal(t) ** 2
    cosine = Decimal(df) / (Decimal(df) + squared)
    term, total = Decimal(1), Decimal(0)
    for k in range(df // 2):
        total += term
        term *= cosine * Decimal(2 * k + 1) / Decimal(2 * k + 2)
    return float(-(1 - total * (1 - cosine).sqrt()).log10())


@pytest.mark.parametrize("z", [5, 10, 38, 39, 100, 1_000, 30_000])
def test_normal_p_values_are_right_to_any_z(z: int) -> None:
    assert float(neg_log10_p(z)) == pytest.approx(normal_tail(z), rel=1e-13)
    assert float(neg_log10_p(-z)) == float(neg_log10_p(z))


@given(st.floats(-6, 6))
def test_normal_p_values_agree_with_the_definition_near_zero(z: float) -> None:
    assert float(10 ** -neg_log10_p(z)) == pytest.approx(special.erfc(abs(z) / np.sqrt(2)), rel=1e-13)


def test_normal_p_value_is_continuous_where_the_formula_changes() -> None:
    below, above = neg_log10_p([np.nextafter(1.0, 0), 1.0])
    assert above == pytest.approx(below, rel=1e-14)


def test_special_values() -> None:
    np.testing.assert_array_equal(neg_log10_p([0.0, np.inf, -np.inf, np.nan]), [0.0, np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(neg_log10_p_t([0.0, np.inf, -np.inf, np.nan], 7), [0.0, np.inf, np.inf, np.nan])


def test_chisq_is_the_square_of_z() -> None:
    z = np.array([0.5, 3.0, 60.0])
    np.testing.assert_allclose(neg_log10_p_chisq(z**2), neg_log10_p(z), rtol=1e-14)


@pytest.mark.parametrize(
    ("t", "df"), [(t, df) for df in (2, 10, 40, 1_000, 20_000) for t in (3.0, 20.0, 38.0, 60.0, 200.0, 1e4)]
)
def test_student_p_values_are_right_far_out(t: float, df: int) -> None:
    assert float(neg_log10_p_t(t, df)) == pytest.approx(student_tail(t, df), rel=1e-12)


@pytest.mark.parametrize(
    ("t", "df"), [(t, df) for df in (200, 202, 3_000) for t in (1e-9, 0.3, 0.99, 1.0, 1.01, 3.0, 5.4, 5.5, 8.0)]
)
def test_student_p_values_are_right_near_the_normal(t: float, df: int) -> None:
    """On both sides of where the expansion ends, t² = 0.15 ν, and of where its two forms meet, near t = 1."""
    assert float(neg_log10_p_t(t, df)) == pytest.approx(student_centre(t, df), rel=1e-13)


def test_student_is_the_same_by_both_ways_where_they_meet() -> None:
    rng = np.random.default_rng(5)
    df = rng.uniform(200, 50_000, 2_000)
    t = np.sqrt(df) * rng.uniform(0, np.sqrt(0.15), 2_000)
    kept = t < 30  # the incomplete beta function is an ordinary number there
    np.testing.assert_allclose(
        _neg_log10_p_t_near_normal(t[kept], df[kept]), _neg_log10_p_t_by_beta(t[kept], df[kept]), rtol=1e-10
    )


@pytest.mark.parametrize("t", [1e3, 1e20, 1e100, 1e200, 1e300])
def test_student_with_one_degree_of_freedom_is_cauchy(t: float) -> None:
    # p = 2/π arctan(1/t) ≈ 2/(π t)
    assert float(neg_log10_p_t(t, 1)) == pytest.approx(-np.log10(2 / np.pi * np.arctan(1 / t)), rel=1e-12)


@pytest.mark.parametrize("t", [1e40, 1e200])
def test_student_with_two_degrees_of_freedom_has_a_power_tail(t: float) -> None:
    # p = 1 − t/√(2 + t²) ≈ 1/t²
    assert float(neg_log10_p_t(t, 2)) == pytest.approx(2 * np.log10(t), rel=1e-13)


@given(st.floats(0.01, 30), st.integers(1, 100_000))
def test_student_agrees_with_scipy_where_scipy_works(t: float, df: int) -> None:
    assert float(neg_log10_p_t(-t, df)) == pytest.approx(-np.log10(2 * stats.t.sf(t, df)), rel=1e-9)


@pytest.mark.parametrize("t", [1e-12, 1e-6])
def test_student_keeps_its_digits_near_zero(t: float) -> None:
    # p = 1 − 2/π arctan t for one degree of freedom
    assert float(neg_log10_p_t(t, 1)) == pytest.approx(-np.log1p(-2 / np.pi * np.arctan(t)) / np.log(10), rel=1e-12)


def test_student_is_continuous_where_the_formula_changes() -> None:
    t = np.linspace(30, 40, 20_001)
    values = neg_log10_p_t(t, 5_000)
    assert values.min() < 200 < 250 < values.max()
    assert np.all(np.diff(values) > 0)
    assert np.abs(np.diff(values, 3)).max() < 1e-9


def test_student_approaches_the_normal_and_keeps_the_shape() -> None:
    t = np.array([[0.1, 2.0], [8.0, 37.0]])
    values = neg_log10_p_t(t, 1e9)
    assert values.shape == t.shape
    # log p of t is smaller by about t⁴/4ν.
    np.testing.assert_allclose(values, neg_log10_p(t), rtol=37**2 / 1e9)


def test_lambda_of_the_null_is_one_and_scales() -> None:
    n = 100_001
    chisq = stats.chi2.ppf((np.arange(n) + 0.5) / n, 1)
    assert lambda_gc(chisq) == pytest.approx(1.0, abs=1e-4)
    assert lambda_gc(1.3 * chisq) == pytest.approx(1.3, abs=2e-4)
    assert lambda_gc(np.append(chisq, np.nan)) == lambda_gc(chisq)
    assert np.isnan(lambda_gc([]))


def test_qq_band_is_that_of_uniform_order_statistics() -> None:
    rng = np.random.default_rng(3)
    n, repeats = 50, 4_000
    smallest = np.sort(-np.log10(rng.uniform(size=(repeats, n))), axis=1)[:, ::-1]
    points = qq_points(smallest[0])
    inside = ((smallest >= points.lower) & (smallest <= points.upper)).mean(axis=0)
    # Five binomial standard errors around 95 %.
    assert np.all(np.abs(inside - 0.95) < 5 * np.sqrt(0.95 * 0.05 / repeats))
    assert np.all((points.lower <= points.expected) & (points.expected <= points.upper))


def test_qq_thinning_keeps_the_top_and_is_a_subset() -> None:
    values = np.random.default_rng(1).exponential(size=200_000)
    points = qq_points(values, max_points=1_000)
    assert points.n == 200_000
    assert points.observed.size <= 1_000
    np.testing.assert_array_equal(points.observed[:500], np.sort(values)[::-1][:500])
    ranks = np.round(10**-points.expected * (points.n + 1)).astype(int)
    np.testing.assert_array_equal(points.observed, np.sort(values)[::-1][ranks - 1])
    assert ranks[-1] == points.n


def test_qq_of_nothing_is_empty() -> None:
    assert qq_points([np.nan]).n == 0
    assert qq_points([]).observed.size == 0
