"""Counts by words against counts by definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from biolmm.files.encoding import padded_samples
from biolmm.store.count import count_calls
from biolmm.store.packbits import pack_calls


def packed_rows(calls: NDArray[np.uint8]) -> NDArray[np.uint8]:
    padded = np.full((len(calls), padded_samples(calls.shape[1])), 3, np.uint8)
    padded[:, : calls.shape[1]] = calls
    return pack_calls(padded).reshape(len(calls), -1)


@settings(deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 100)), elements=st.integers(0, 3)))
def test_counts_equal_their_definition(calls: NDArray[np.uint8]) -> None:
    counts = count_calls(packed_rows(calls), calls.shape[1])
    np.testing.assert_array_equal(counts.alt, np.where(calls == 3, 0, calls).sum(axis=1))
    np.testing.assert_array_equal(counts.het, (calls == 1).sum(axis=1))
    np.testing.assert_array_equal(counts.missing, (calls == 3).sum(axis=1))
    assert counts.alt.dtype == counts.het.dtype == counts.missing.dtype == np.int32


@pytest.mark.parametrize("n_samples", [1, 31, 33, 63])
def test_padding_that_is_not_missing_is_refused(n_samples: int) -> None:
    rows = packed_rows(np.zeros((2, n_samples), np.uint8))
    rows[1, n_samples // 4] &= ~np.uint8(1 << 2 * (n_samples % 4))
    with pytest.raises(ValueError, match="padding calls of each packed row must be 3"):
        count_calls(rows, n_samples)


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"packed rows of 33 samples have 16 bytes; given: \(2, 8\)"):
        count_calls(np.zeros((2, 8), np.uint8), 33)
