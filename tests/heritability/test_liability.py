"""The liability scale: against the published formula and a simulated threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from biolmm.errors import ParameterError, TraitError
from biolmm.heritability.liability import Liability, liabilities, parse_prevalences


@given(st.floats(0.001, 0.999), st.floats(0.01, 0.99))
def test_the_factor_of_lee(prevalence: float, share: float) -> None:
    threshold = norm.ppf(1 - prevalence)
    z = np.exp(-(threshold**2) / 2) / np.sqrt(2 * np.pi)
    expected = (prevalence * (1 - prevalence)) ** 2 / (z**2 * share * (1 - share))
    assert Liability(prevalence, share).factor == pytest.approx(expected, rel=1e-9)


def test_without_ascertainment_a_threshold_gives_back_the_liability() -> None:
    """Cov of two relatives' 0/1 traits over K(1−K) is h²_o · r to first order; times the factor it is h²_l · r."""
    K, r, h2 = 0.2, 0.05, 0.6
    threshold = norm.ppf(1 - K)
    from scipy.stats import multivariate_normal

    both = multivariate_normal(cov=[[1, r * h2], [r * h2, 1]]).cdf([-threshold, -threshold])
    observed = (both - K * K) / (K * (1 - K)) / r
    assert observed * Liability(K, K).factor == pytest.approx(h2, rel=0.02)


def test_traits_are_matched_with_prevalences() -> None:
    y = np.array([[0, 1.5], [1, 2.5], [1, 3.5], [np.nan, 4.5]])
    found = liabilities(["case", "height"], y, {"case": 0.1})
    assert found == [Liability(0.1, 2 / 3), None]
    with pytest.raises(ParameterError, match="'cas'"):
        liabilities(["case", "height"], y, {"cas": 0.1})
    with pytest.raises(TraitError, match="takes 4 values instead of 2"):
        liabilities(["case", "height"], y, {"height": 0.1})


@pytest.mark.parametrize("text", ["case", "=0.1", "case=", "case=1", "case=0", "case=nan", "case=0,1"])
def test_prevalences_are_spelled_with_a_number(text: str) -> None:
    with pytest.raises(ParameterError, match="TRAIT=K"):
        parse_prevalences([text])


def test_a_trait_has_one_prevalence() -> None:
    with pytest.raises(ParameterError, match="more than once"):
        parse_prevalences(["a=0.1", "a=0.2"])
