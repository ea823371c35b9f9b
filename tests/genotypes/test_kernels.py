"""Kernels over packed rows against NumPy on unpacked calls."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from biolmm.files.encoding import row_bytes
from biolmm.genotypes.kernels import count_masked, gather_samples, pack_masks, unpack_into
from oracles.toy import pack_rows

# A sample more or less than whole bytes (4), whole words (32) and two of them.
SIZES = st.one_of(st.sampled_from([1, 3, 4, 5, 31, 32, 33, 63, 64, 65]), st.integers(1, 150))
SHAPES = st.tuples(st.integers(1, 5), SIZES)
CALLS = arrays(np.uint8, SHAPES, elements=st.integers(0, 3))
"""Hypothesis shrinks towards, and so tries, monomorphic rows and rows without any call."""

settings.register_profile("kernels", deadline=None, max_examples=60)
settings.load_profile("kernels")


@given(calls=CALLS)
def test_unpacking_looks_every_call_up(calls: NDArray[np.uint8]) -> None:
    n_variants = len(calls)
    tables = np.arange(4 * n_variants, dtype=np.float32).reshape(n_variants, 4) + 0.5
    tile = np.full(calls.shape, np.nan, np.float32)
    unpack_into(pack_rows(calls), tables, tile)
    np.testing.assert_array_equal(tile, tables[np.arange(n_variants)[:, None], calls])


@given(calls=CALLS, data=st.data())
def test_unpacking_a_window_of_whole_bytes(calls: NDArray[np.uint8], data: st.DataObject) -> None:
    n_variants, n_samples = calls.shape
    left = 4 * data.draw(st.integers(0, (n_samples - 1) // 4))
    right = data.draw(st.integers(left + 1, n_samples))
    tables = np.tile(np.array([0, 1, 2, -9], np.float32), (n_variants, 1))
    tile = np.full((n_variants, n_samples + 3), np.nan, np.float32)
    unpack_into(pack_rows(calls)[:, left // 4 : (right + 3) // 4], tables, tile[:, : right - left])
    np.testing.assert_array_equal(tile[:, : right - left], tables[0][calls[:, left:right]])
    assert np.isnan(tile[:, right - left :]).all()


@given(calls=CALLS, data=st.data())
def test_counting_under_masks(calls: NDArray[np.uint8], data: st.DataObject) -> None:
    n_samples = calls.shape[1]
    n_masks = data.draw(st.integers(1, 3))
    observed = data.draw(arrays(np.bool_, (n_masks, n_samples)))
    counts = count_masked(pack_rows(calls), pack_masks(observed))
    for k, mask in enumerate(observed):
        seen = calls[:, mask]
        np.testing.assert_array_equal(counts[:, k], np.stack([(seen == c).sum(axis=1) for c in (1, 2, 3)], axis=1))


@given(calls=CALLS, data=st.data())
def test_gathering_samples_in_any_order(calls: NDArray[np.uint8], data: st.DataObject) -> None:
    n_samples = calls.shape[1]
    index = np.array(data.draw(st.lists(st.integers(0, n_samples - 1), min_size=1, max_size=n_samples)))
    out = np.full((len(calls), row_bytes(len(index))), 255, np.uint8)
    gather_samples(pack_rows(calls), index, out)
    np.testing.assert_array_equal(out, pack_rows(calls[:, index]))
