"""Counters of the samples against loops over calls; Fisher's test against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from biolmm.files.encoding import Encoding, dosages_from_rows, recode_rows, rows_from_calls, rows_from_dosages
from biolmm.qc.fisher import missing_p
from biolmm.qc.kernels import count_sample_hets, count_sample_missing, count_singletons, split_dosages


@settings(deadline=None)
@given(st.integers(1, 600), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_counts_of_samples(n_variants: int, n_samples: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    calls = rng.integers(0, 4, (n_variants, n_samples)).astype(np.int8)
    words = rows_from_calls(calls, Encoding.CALLS).view(np.uint64)
    weights = rng.integers(0, 2**40, n_variants)
    hets, missing = np.zeros((2, 32 * words.shape[1]), np.int32)
    sums = np.zeros(32 * words.shape[1], np.int64)
    for _ in range(2):  # it adds to what is there
        count_sample_hets(words, hets)
        count_sample_missing(words, weights, missing, sums)
    np.testing.assert_array_equal(hets[:n_samples], 2 * (calls == 1).sum(axis=0))
    assert not hets[n_samples:].any()
    np.testing.assert_array_equal(missing[:n_samples], 2 * (calls == 3).sum(axis=0))
    np.testing.assert_array_equal(sums[:n_samples], 2 * weights @ (calls == 3))


def test_more_words_than_a_tile() -> None:
    """Tiles are of 256 words, 8,192 samples; all heterozygous is the most that lanes must hold."""
    calls = np.ones((300, 8_250), np.int8)
    words = rows_from_calls(calls, Encoding.CALLS).view(np.uint64)
    hets = np.zeros(32 * words.shape[1], np.int32)
    count_sample_hets(words, hets)
    assert (hets[:8_250] == 300).all()
    assert not hets[8_250:].any()


def test_singletons_under_a_mask() -> None:
    calls = np.zeros((3, 70), np.int8)
    calls[0, 66], calls[1, [3, 40]], calls[2, 5] = 1, 1, 1
    words = rows_from_calls(calls, Encoding.CALLS).view(np.uint64)
    mask = np.full(words.shape[1], 2**64 - 1, np.uint64)
    mask[0] = 0
    counts = np.zeros(96, np.int32)
    count_singletons(words, mask, np.array([True, True, False]), counts)
    assert np.flatnonzero(counts).tolist() == [40, 66]


@settings(deadline=None, max_examples=40)
@given(st.sampled_from([Encoding.DOSAGE8, Encoding.DOSAGE16]), st.integers(1, 1100), st.integers(0, 2**32 - 1))
def test_dosages_split(encoding: Encoding, n_samples: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dosages = np.where(
        rng.random((5, n_samples)) < 0.5, rng.integers(0, 3, (5, n_samples)), rng.uniform(0, 2, (5, n_samples))
    )
    dosages[rng.random((5, n_samples)) < 0.1] = np.nan
    rows = rows_from_dosages(dosages, encoding)
    which = rng.integers(0, 3, n_samples).astype(np.uint8)
    calls, presence, sums = split_dosages(rows, encoding, which)
    np.testing.assert_array_equal(calls, recode_rows(rows, n_samples, encoding, Encoding.CALLS))
    np.testing.assert_array_equal(
        dosages_from_rows(presence, Encoding.CALLS, n_samples), np.where(np.isnan(dosages), np.nan, 0)
    )
    codes = np.where(rows == encoding.missing, 0, rows).astype(np.int64)
    for group in (0, 1):
        np.testing.assert_array_equal(sums[:, group], codes[:, which == group].sum(axis=1) / encoding.steps)


@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_fisher(n_first: int, n_second: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n_first)), data.draw(st.integers(0, n_second))
    expected = fisher_exact([[a, n_first - a], [b, n_second - b]])[1]
    # SciPy's probabilities round by about 10⁻¹², by log-gamma.
    assert missing_p(np.array([[a, b]]), (n_first, n_second))[0] == pytest.approx(expected, rel=1e-10)


def test_fisher_at_its_ends() -> None:
    assert np.isnan(missing_p(np.array([[0, 3]]), (0, 5))).all()
    assert missing_p(np.array([[250_000, 0], [0, 0], [500, 500]]), (250_000, 250_000)).tolist() == [0, 1, 1]
