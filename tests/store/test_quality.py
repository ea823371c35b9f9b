"""INFO and R² against their definitions, from genotype probabilities and haplotypes of every person."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.files.encoding import Encoding, rows_from_dosages
from biolmm.files.genotypes import Block
from biolmm.store.quality import block_quality, impute_info, minimac_r2


def haplotypes(n_variants: int, n_samples: int, certainty: float, seed: int = 0) -> NDArray[np.float64]:
    """Draw probabilities (M, N, 2) that each haplotype carries ALT."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n_variants, n_samples, 2)) < rng.uniform(0.02, 0.98, (n_variants, 1, 1))
    return np.clip(certainty * truth + (1 - certainty) * rng.random(truth.shape), 0, 1)


def probabilities(h: NDArray[np.float64]) -> NDArray[np.float64]:
    """Genotype probabilities (M, N, 3) of independent haplotypes."""
    a, b = h[..., 0], h[..., 1]
    return np.stack([(1 - a) * (1 - b), a * (1 - b) + b * (1 - a), a * b], axis=-1)


def info_by_definition(p: NDArray[np.float64], has: NDArray[np.bool_]) -> NDArray[np.float64]:
    """One minus the mean over people of Var(g) by their probabilities, over that of a binomial of the frequency."""
    found = []
    for variant in range(len(p)):
        people = p[variant][has[variant]]
        mean = people @ [0, 1, 2]
        variance = people @ [0, 1, 4] - mean**2
        theta = mean.sum() / (2 * len(people))
        found.append(1 - variance.sum() / (2 * len(people) * theta * (1 - theta)))
    return np.array(found)


def r2_by_definition(h: NDArray[np.float64], has: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The variance of haplotype dosages over that of a Bernoulli of the frequency."""
    found = []
    for variant in range(len(h)):
        each = h[variant][has[variant]].ravel()
        found.append(each.var() / (each.mean() * (1 - each.mean())))
    return np.array(found)


def moments(h: NDArray[np.float64], has: NDArray[np.bool_]) -> dict[str, Any]:
    p = probabilities(h)
    d = h.sum(axis=2)
    return {
        "expected_squares": np.where(has, p @ [0, 1, 4], 0).sum(axis=1),
        "haplotype_squares": np.where(has, (h**2).sum(axis=2), 0).sum(axis=1),
        "dosage_sum": np.where(has, d, 0).sum(axis=1),
        "dosage_squares": np.where(has, d**2, 0).sum(axis=1),
    }


@pytest.mark.parametrize("certainty", [0.0, 0.5, 0.99, 1.0])
def test_both_equal_their_definitions(certainty: float) -> None:
    h = haplotypes(20, 50, certainty)
    has = np.random.default_rng(1).random(h.shape[:2]) < 0.9
    rows = rows_from_dosages(np.where(has, h.sum(axis=2), np.nan), Encoding.DOSAGE16)
    quality = block_quality(Block(rows, **moments(h, has)), Encoding.DOSAGE16)
    np.testing.assert_allclose(quality.info, info_by_definition(probabilities(h), has), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(quality.r2, r2_by_definition(h, has), rtol=1e-6, atol=1e-6)


def test_without_haplotypes_r2_is_the_variance_of_dosages() -> None:
    h = haplotypes(20, 50, 0.8)
    has = np.ones(h.shape[:2], bool)
    d = h.sum(axis=2)
    sums = moments(h, has)
    found = minimac_r2(np.full(20, 50), sums["dosage_sum"], sums["dosage_squares"])
    theta = d.mean(axis=1) / 2
    np.testing.assert_allclose(found, d.var(axis=1) / (2 * theta * (1 - theta)), rtol=1e-12)


def test_certain_genotypes_are_perfect_and_guesses_worthless() -> None:
    """INFO is 1 for certain genotypes, and 0 where everybody has the binomial of the frequency."""
    certain = haplotypes(9, 40, 1.0)
    has = np.ones((9, 40), bool)
    sums = moments(certain, has)
    called = np.full(9, 40)
    info = impute_info(called, sums["dosage_sum"], sums["dosage_squares"], sums["expected_squares"])
    np.testing.assert_allclose(info, 1, rtol=1e-12)
    guesses = moments(np.full((9, 40, 2), 0.3), has)
    info = impute_info(called, guesses["dosage_sum"], guesses["dosage_squares"], guesses["expected_squares"])
    np.testing.assert_allclose(info, 0, atol=1e-12)
    r2 = minimac_r2(called, guesses["dosage_sum"], guesses["dosage_squares"], guesses["haplotype_squares"])
    np.testing.assert_allclose(r2, 0, atol=1e-12)


def test_what_is_not_defined_is_nan() -> None:
    """Variants that nobody or everybody carries, one without any genotype, and one without probabilities."""
    dosages = np.array([[0.0, 0, 0], [2, 2, 2], [np.nan] * 3, [0, 1, 1]])
    rows = rows_from_dosages(dosages, Encoding.DOSAGE8)
    quality = block_quality(Block(rows, np.array([0.0, 12, 0, np.nan])), Encoding.DOSAGE8)
    assert quality.info[:2].tolist() == [1, 1]
    assert np.isnan(quality.info[2:]).all()
    assert np.isnan(quality.r2[:3]).all()
    assert quality.r2[3] == pytest.approx((2 / 3 - 4 / 9) / (2 * 1 / 3 * 2 / 3))
    assert np.isnan(block_quality(Block(rows), Encoding.DOSAGE8).info).all()


def test_a_variant_without_phase_falls_back_to_its_dosages() -> None:
    h = haplotypes(2, 50, 0.7)
    sums = moments(h, np.ones(h.shape[:2], bool))
    called, squares = np.full(2, 50), sums["haplotype_squares"].copy()
    squares[0] = np.nan
    mixed = minimac_r2(called, sums["dosage_sum"], sums["dosage_squares"], squares)
    assert mixed[0] == minimac_r2(called, sums["dosage_sum"], sums["dosage_squares"])[0]
    assert mixed[1] == minimac_r2(called, sums["dosage_sum"], sums["dosage_squares"], sums["haplotype_squares"])[1]


def test_the_sums_of_the_file_count_where_codes_round_to_nothing() -> None:
    """A rare variant of which nobody is sure: each dosage is 0.003, less than half a step of 8 bits."""
    h = np.full((1, 1000, 2), 0.0015)
    has = np.ones((1, 1000), bool)
    rows = rows_from_dosages(h.sum(axis=2), Encoding.DOSAGE8)
    assert not rows.any()
    quality = block_quality(Block(rows, **moments(h, has)), Encoding.DOSAGE8)
    assert quality.info[0] == pytest.approx(0, abs=1e-6)
    assert quality.r2[0] == pytest.approx(0, abs=1e-6)
