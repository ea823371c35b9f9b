"""Standardisation from counts against standardisation of calls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from biolmm.genotypes.scaling import scaling_from_counts
from biolmm.genotypes.standardised import sums_of_squares
from oracles import dense

CALLS = arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=st.integers(0, 3))


def counts_of(calls: NDArray[np.uint8]) -> NDArray[np.int32]:
    return np.stack([(calls == c).sum(axis=1) for c in (1, 2, 3)], axis=1).astype(np.int32)


@settings(deadline=None, max_examples=100)
@given(calls=CALLS, alpha=st.sampled_from([-1.0, -0.25, 0.0, 1.0]), by=st.sampled_from(["hwe", "sample"]))
def test_tables_hold_the_standardised_calls(calls: NDArray[np.uint8], alpha: float, by: str) -> None:
    scaling = scaling_from_counts(counts_of(calls), calls.shape[1], alpha, by)
    Z, weight = dense.standardised(calls, alpha, by)
    found = scaling.tables[np.arange(len(calls))[:, None], calls]
    np.testing.assert_allclose(found, Z, atol=1e-12)
    np.testing.assert_allclose(scaling.weight, weight, atol=1e-12)


def test_what_does_not_vary_never_enters() -> None:
    """All reference, all ALT, all heterozygous, never called, one call only."""
    calls = np.array([[0] * 6, [2] * 6, [1] * 6, [3] * 6, [3, 3, 2, 3, 3, 3]], np.uint8)
    scaling = scaling_from_counts(counts_of(calls), 6)
    assert not scaling.scale.any()
    assert not scaling.weight.any()
    assert not scaling.tables.any()


def test_the_rarest_variant_of_a_biobank_enters() -> None:
    scaling = scaling_from_counts(np.array([[1, 0, 0]], np.int32), 500_000)
    np.testing.assert_allclose(scaling.scale, (2 * 1e-6 * (1 - 1e-6)) ** -0.5)


@pytest.mark.parametrize("by", ["hwe", "sample"])
def test_swapping_alleles_turns_the_sign(by: str) -> None:
    calls = np.random.default_rng(0).integers(0, 4, (6, 50)).astype(np.uint8)
    swapped = np.array([2, 1, 0, 3], np.uint8)[calls]
    tables, mirrored = (scaling_from_counts(counts_of(c), 50, -1.0, by).tables for c in (calls, swapped))
    np.testing.assert_allclose(mirrored[:, [2, 1, 0, 3]], -tables, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(calls=CALLS, data=st.data())
def test_sums_of_squares_from_counts(calls: NDArray[np.uint8], data: st.DataObject) -> None:
    mask = data.draw(arrays(np.bool_, calls.shape[1]))
    tables = scaling_from_counts(counts_of(calls), calls.shape[1]).tables
    found = sums_of_squares(counts_of(calls[:, mask])[:, None, :], np.array([mask.sum()]), tables)
    Z = tables[np.arange(len(calls))[:, None], calls]
    np.testing.assert_allclose(found[:, 0], (Z[:, mask] ** 2).sum(axis=1), atol=1e-10)
