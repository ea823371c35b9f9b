"""λ by an exact median: any chunks, any order, ties, infinities; METAL's upper median."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from biolmm.errors import ParameterError
from biolmm.results.diagnostics import lambda_gc, neg_log10_p
from biolmm.sumstats.meta.genomic_control import METAL_MEDIAN, chisq_medians, control_result, lambda_1000

VALUES = st.one_of(st.floats(0, 50), st.sampled_from([0.0, 0.5, 0.5, 1e-300, 5e-324, np.inf, np.nan]))


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 40), st.integers(1, 3)), elements=VALUES), st.integers(1, 5))
def test_medians_are_the_sorted_values(chisq: np.ndarray, n_chunks: int) -> None:
    found = chisq_medians(lambda: np.array_split(chisq, n_chunks))
    for study in range(chisq.shape[1]):
        values = np.sort(chisq[~np.isnan(chisq[:, study]), study])
        assert found.n[study] == len(values)
        if len(values):
            assert found.upper[study] == values[len(values) // 2]
            assert found.lower[study] == values[(len(values) - 1) // 2]
        else:
            assert np.isnan(found.upper[study])


def test_order_and_chunks_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    chisq = rng.chisquare(1, (30_001, 2))
    shuffled = rng.permutation(chisq)
    a = chisq_medians(lambda: [chisq])
    b = chisq_medians(lambda: np.array_split(shuffled, 13))
    np.testing.assert_array_equal(a.lambda_gc(), b.lambda_gc())
    np.testing.assert_array_equal(a.upper, np.sort(chisq, axis=0)[15_000])


def test_rules() -> None:
    chisq = np.array([[0.1], [0.4], [0.6], [3.0]])
    found = chisq_medians(lambda: [chisq])
    np.testing.assert_array_equal(found.lambda_gc("metal"), 0.6 / METAL_MEDIAN)
    np.testing.assert_allclose(found.lambda_gc("ordinary"), lambda_gc(chisq), rtol=1e-15)
    np.testing.assert_allclose(lambda_1000(1.1, 2000, 2000), 1.05)


def test_result_under_control() -> None:
    found = control_result([2.0, np.nan], 1.21)
    np.testing.assert_allclose(found.z, [2 / 1.1, np.nan])
    np.testing.assert_allclose(found.neg_log10_p[0], neg_log10_p(2 / 1.1))
    assert control_result([2.0], 0.9).z[0] == 2.0


def test_refusals() -> None:
    with pytest.raises(ParameterError, match="at least 0"):
        chisq_medians(lambda: [np.array([[-1.0]])])
    with pytest.raises(ParameterError, match="no chunk"):
        chisq_medians(list)
    with pytest.raises(ParameterError, match="above 0"):
        control_result([1.0], 0.0)
