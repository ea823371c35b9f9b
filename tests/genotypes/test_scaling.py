"""Standardisation from moments against standardisation of calls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from biolmm.genotypes.moments import Moments
from biolmm.genotypes.scaling import Scaling, scaling_from_moments
from biolmm.genotypes.standardised import sums_of_squares
from oracles import dense

CALLS = arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=st.integers(0, 3))


def moments_of(calls: NDArray[np.uint8]) -> Moments:
    """Add up calls (b, N), each (b,)."""
    values = np.where(calls < 3, calls, 0).astype(float)
    return Moments((calls < 3).sum(axis=1).astype(float), values.sum(axis=1), (values**2).sum(axis=1))


def scaling_of(calls: NDArray[np.uint8], alpha: float = -1.0, by: str = "hwe") -> Scaling:
    return scaling_from_moments(moments_of(calls), alpha, by)


@settings(deadline=None, max_examples=100)
@given(calls=CALLS, alpha=st.sampled_from([-1.0, -0.25, 0.0, 1.0]), by=st.sampled_from(["hwe", "sample"]))
def test_tables_hold_the_standardised_calls(calls: NDArray[np.uint8], alpha: float, by: str) -> None:
    scaling = scaling_of(calls, alpha, by)
    Z, weight = dense.standardised(calls, alpha, by)
    found = scaling.tables()[np.arange(len(calls))[:, None], calls]
    np.testing.assert_allclose(found, Z, atol=1e-12)
    np.testing.assert_allclose(scaling.weight, weight, atol=1e-12)


def test_what_does_not_vary_never_enters() -> None:
    """All reference, all ALT, all heterozygous, never called, one call only."""
    calls = np.array([[0] * 6, [2] * 6, [1] * 6, [3] * 6, [3, 3, 2, 3, 3, 3]], np.uint8)
    scaling = scaling_of(calls)
    assert not scaling.scale.any()
    assert not scaling.weight.any()
    assert not scaling.tables().any()


def test_the_rarest_variant_of_a_biobank_enters() -> None:
    scaling = scaling_from_moments(Moments(np.array([5e5]), np.ones(1), np.ones(1)))
    np.testing.assert_allclose(scaling.scale, (2 * 1e-6 * (1 - 1e-6)) ** -0.5)


@pytest.mark.parametrize("by", ["hwe", "sample"])
def test_swapping_alleles_turns_the_sign(by: str) -> None:
    calls = np.random.default_rng(0).integers(0, 4, (6, 50)).astype(np.uint8)
    swapped = np.array([2, 1, 0, 3], np.uint8)[calls]
    tables, mirrored = (scaling_of(c, -1.0, by).tables() for c in (calls, swapped))
    np.testing.assert_allclose(mirrored[:, [2, 1, 0, 3]], -tables, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(calls=CALLS, data=st.data())
def test_sums_of_squares_from_moments(calls: NDArray[np.uint8], data: st.DataObject) -> None:
    mask = data.draw(arrays(np.bool_, calls.shape[1]))
    scaling = scaling_of(calls)
    moments = moments_of(calls[:, mask])
    under_mask = Moments(moments.called[:, None], moments.total[:, None], moments.squares[:, None])
    found = sums_of_squares(under_mask, scaling)
    Z = scaling.tables()[np.arange(len(calls))[:, None], calls]
    np.testing.assert_allclose(found[:, 0], (Z[:, mask] ** 2).sum(axis=1), atol=1e-10)
