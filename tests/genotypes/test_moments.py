"""Moments, counts and filters of encoded rows against the dosages written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from biolmm.contigs import Ploidy
from biolmm.errors import ParameterError
from biolmm.files.encoding import Encoding, dosages_from_rows, rows_from_dosages
from biolmm.genotypes.coding import Coding
from biolmm.genotypes.filters import VariantFilters
from biolmm.genotypes.moments import SampleMasks, genotype_counts, row_moments

ENCODINGS = list(Encoding)
CODES = arrays(np.int16, st.tuples(st.integers(1, 4), st.integers(1, 70)), elements=st.integers(0, 300))


def rows_of(codes: NDArray[np.int16], encoding: Encoding) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """Encode dosages of 1/127 (above 2: missing), whole ones for calls; return rows and what they hold, NaN = missing."""
    dosages = np.where(codes > 254, np.nan, np.minimum(codes, 254) / 127.0)
    if encoding is Encoding.CALLS:
        dosages = np.rint(dosages)
    rows = rows_from_dosages(dosages, encoding)
    return rows, dosages_from_rows(rows, encoding, codes.shape[1]).astype(float)


@settings(deadline=None, max_examples=60)
@given(codes=CODES, encoding=st.sampled_from(ENCODINGS), data=st.data())
def test_moments_are_sums_over_each_set(codes: NDArray[np.int16], encoding: Encoding, data: st.DataObject) -> None:
    rows, dosages = rows_of(codes, encoding)
    observed = data.draw(arrays(np.bool_, (3, codes.shape[1])))
    found = row_moments(rows, encoding, SampleMasks(observed))
    for k, mask in enumerate(observed):
        d = dosages[:, mask]
        np.testing.assert_array_equal(found.called[:, k], (~np.isnan(d)).sum(axis=1))
        np.testing.assert_allclose(found.total[:, k], np.nansum(d, axis=1), atol=1e-4)
        np.testing.assert_allclose(found.squares[:, k], np.nansum(d**2, axis=1), atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(codes=CODES, encoding=st.sampled_from(ENCODINGS), data=st.data())
def test_hard_calls_are_counted_within_a_tenth(
    codes: NDArray[np.int16], encoding: Encoding, data: st.DataObject
) -> None:
    rows, dosages = rows_of(codes, encoding)
    observed = data.draw(arrays(np.bool_, (2, codes.shape[1])))
    found = genotype_counts(rows, encoding, SampleMasks(observed))
    for k, mask in enumerate(observed):
        for call in range(3):
            near = np.abs(dosages[:, mask] - call) <= 0.1 + 1e-5
            np.testing.assert_array_equal(found[:, k, call], near.sum(axis=1))


def weighted(dosages: NDArray[np.float64], male: NDArray[np.bool_], ploidy: Ploidy, male_x: str) -> NDArray[np.float64]:
    """Write w·d out, NaN where a genotype does not count."""
    weight = np.ones(len(male))
    if ploidy == Ploidy.X and male_x == "0/1":
        weight[male] = 0.5
    if ploidy == Ploidy.Y:
        weight = np.where(male, 0.5, np.nan)
    if ploidy == Ploidy.HAPLOID:
        weight[:] = 0.5
    return dosages * weight


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("ploidy", list(Ploidy))
@pytest.mark.parametrize("male_x", ["0/2", "0/1"])
def test_what_counts_for_whom(encoding: Encoding, ploidy: Ploidy, male_x: str) -> None:
    rng = np.random.default_rng(5)
    rows, dosages = rows_of(rng.integers(0, 300, (20, 90)).astype(np.int16), encoding)
    male = rng.random(90) < 0.4
    observed = rng.random((2, 90)) < 0.8
    counted = Coding(male, male_x).count(rows, encoding, SampleMasks(observed), ploidy)  # type: ignore[arg-type]
    wd = weighted(dosages, male, ploidy, male_x)
    copies = {Ploidy.X: np.where(male, 1, 2), Ploidy.Y: np.where(male, 1, 0), Ploidy.HAPLOID: np.ones(90, int)}
    n_alleles = copies.get(ploidy, np.full(90, 2))
    for k, mask in enumerate(observed):
        np.testing.assert_array_equal(counted.moments.called[:, k], (~np.isnan(wd[:, mask])).sum(axis=1))
        np.testing.assert_allclose(counted.moments.total[:, k], np.nansum(wd[:, mask], axis=1), atol=1e-4)
        np.testing.assert_allclose(counted.moments.squares[:, k], np.nansum(wd[:, mask] ** 2, axis=1), atol=1e-4)
        called = ~np.isnan(dosages[:, mask])
        total = (called * n_alleles[mask]).sum(axis=1)
        alt = np.nansum(dosages[:, mask] * n_alleles[mask] / 2, axis=1)
        np.testing.assert_allclose(counted.n_alleles[:, k], total)
        np.testing.assert_allclose(counted.frequency[:, k], alt / total, atol=1e-6)


def test_a_set_without_genotypes_has_no_frequency_and_does_not_vary() -> None:
    rows = rows_from_dosages(np.array([[0.0, 1.0, np.nan]]), Encoding.DOSAGE8)
    masks = SampleMasks(np.array([[False, False, True], [True, True, True]]))
    counted = Coding.diploid(3).count(rows, Encoding.DOSAGE8, masks, Ploidy.DIPLOID)
    assert np.isnan(counted.frequency[0, 0])
    assert counted.frequency[0, 1] == 0.25
    assert counted.moments.vary[0].tolist() == [False, True]


@pytest.mark.parametrize(
    ("name", "value"),
    [("min_maf", 0.6), ("min_maf", -0.1), ("max_missing", 2.0), ("min_info", 1.5), ("min_hwe_p", -1.0)],
)
def test_thresholds_outside_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ParameterError, match="--" + name.replace("_", "-")):
        VariantFilters(**{name: value})
