"""Tails in log space against their recurrence, SciPy where it works, and the normal distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from biolmm.results.diagnostics import neg_log10_p, neg_log10_p_chisq
from biolmm.sumstats.meta.tails import (
    log_chisq_tail,
    neg_log10_p_chisq_df,
    neg_log10_p_mixture,
    z_from_neg_log10_p,
)

X = np.array([1e-6, 0.01, 0.5, 1.0, 3.0, 10.0, 80.0, 500.0, 2000.0, 1e5, 1e8])


def test_two_degrees_of_freedom_are_an_exponential() -> None:
    np.testing.assert_allclose(log_chisq_tail(X, 2), -X / 2, rtol=4e-16, atol=2e-16)


def test_one_degree_of_freedom_is_the_normal() -> None:
    np.testing.assert_allclose(neg_log10_p_chisq_df(X, 1), neg_log10_p_chisq(X), rtol=1e-14)


@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 20, 99, 500])
def test_recurrence_in_df(df: int) -> None:
    """Q(x; ν+2) = Q(x; ν) + (x/2)^{ν/2} e^{−x/2} / Γ(ν/2 + 1): with ν = 1 and 2 it is all there is to know."""
    term = df / 2 * np.log(X / 2) - X / 2 - special.gammaln(df / 2 + 1)
    expected = np.minimum(np.logaddexp(log_chisq_tail(X, df), term), 0.0)
    # lgamma and powers of about ν/2 log x round at some 1e-16 of themselves
    np.testing.assert_allclose(log_chisq_tail(X, df + 2), expected, rtol=1e-13, atol=1e-13 * df)


@pytest.mark.parametrize("df", [1, 2, 3, 5, 30, 99])
def test_scipy_where_it_works(df: int) -> None:
    x = np.linspace(0.1, 600, 50)
    expected = stats.chi2.logsf(x, df)
    np.testing.assert_allclose(log_chisq_tail(x, df), expected, rtol=2e-11, atol=1e-13)


def test_reference_values_beyond_double_range() -> None:
    """Forty-digit values (mpmath) where SciPy gives −inf."""
    np.testing.assert_allclose(-neg_log10_p_chisq_df(2000.0, 4), -431.294047825772, rtol=1e-14)
    np.testing.assert_allclose(-neg_log10_p_chisq_df(1e5, 3), -21712.3221507582, rtol=1e-14)


def test_limits() -> None:
    found = log_chisq_tail([0.0, -1.0, np.inf, np.nan, 1.0], [3, 3, 3, 3, 0])
    assert found[:3].tolist() == [0.0, 0.0, -np.inf]
    assert np.isnan(found[3:]).all()
    assert log_chisq_tail(np.empty((0, 2)), 1).shape == (0, 2)


@given(st.floats(0, 1e5), st.integers(1, 200))
def test_falls_with_x_and_grows_with_df(x: float, df: int) -> None:
    here = log_chisq_tail(x, df).item()
    assert log_chisq_tail(x * 1.01 + 0.01, df).item() <= here + 1e-13 * max(1, abs(here))
    assert log_chisq_tail(x, df + 1).item() >= here - 1e-13 * max(1, abs(here))


def test_mixture() -> None:
    x = np.array([0.3, 4.0, 30.0])
    p = 0.5 * stats.chi2.sf(x, 1) + 0.5 * stats.chi2.sf(x, 2)
    np.testing.assert_allclose(neg_log10_p_mixture(x), -np.log10(p), rtol=1e-12)
    assert np.isfinite(neg_log10_p_mixture(30_000.0))


def test_z_of_a_p_value_and_back() -> None:
    size = np.array([0.0, 1e-3, 0.5, 1.0, 7.3, 100.0, 5000.0])
    # log ½p is all that Φ⁻¹ gets: an absolute 1e-16 of it near p = 1
    np.testing.assert_allclose(neg_log10_p(z_from_neg_log10_p(size)), size, rtol=1e-12, atol=1e-15)
