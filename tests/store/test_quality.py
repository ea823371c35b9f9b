"""INFO and R² against their definitions, from genotype probabilities and haplotypes of every person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.files.encoding import Encoding, rows_from_dosages
from biolmm.files.genotypes import Block
from biolmm.files.vcf import open_vcf
from biolmm.store.quality import DosageSums, block_quality, impute_info, minimac_r2
from oracles.vcf_text import Record, vcf_text


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


def dosage_sums(sums: dict[str, Any], n_samples: int) -> DosageSums:
    return DosageSums(np.full(len(sums["dosage_sum"]), n_samples), sums["dosage_sum"], sums["dosage_squares"])


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
    found = minimac_r2(dosage_sums(sums, 50))
    theta = d.mean(axis=1) / 2
    # Σ(d − 2θ)² of 50 terms up to 4 against a variance above 0.01: cancellation costs 10⁴ roundings at most.
    np.testing.assert_allclose(found, d.var(axis=1) / (2 * theta * (1 - theta)), rtol=1e-11)


def test_certain_genotypes_are_perfect_and_guesses_worthless() -> None:
    """INFO is 1 for certain genotypes, and 0 where everybody has the binomial of the frequency."""
    certain = haplotypes(9, 40, 1.0)
    has = np.ones((9, 40), bool)
    sums = moments(certain, has)
    info = impute_info(dosage_sums(sums, 40), sums["expected_squares"])
    np.testing.assert_allclose(info, 1, rtol=1e-12)
    guesses = moments(np.full((9, 40, 2), 0.3), has)
    info = impute_info(dosage_sums(guesses, 40), guesses["expected_squares"])
    np.testing.assert_allclose(info, 0, atol=1e-12)
    r2 = minimac_r2(dosage_sums(guesses, 40), guesses["haplotype_squares"])
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
    squares = sums["haplotype_squares"].copy()
    squares[0] = np.nan
    dosages = dosage_sums(sums, 50)
    mixed = minimac_r2(dosages, squares)
    assert mixed[0] == minimac_r2(dosages)[0]
    assert mixed[1] == minimac_r2(dosages, sums["haplotype_squares"])[1]


def test_the_sums_of_the_file_count_where_codes_round_to_nothing() -> None:
    """A rare variant of which nobody is sure: each dosage is 0.003, less than half a step of 8 bits."""
    h = np.full((1, 1000, 2), 0.0015)
    has = np.ones((1, 1000), bool)
    rows = rows_from_dosages(h.sum(axis=2), Encoding.DOSAGE8)
    assert not rows.any()
    quality = block_quality(Block(rows, **moments(h, has)), Encoding.DOSAGE8)
    assert quality.info[0] == pytest.approx(0, abs=1e-6)
    assert quality.r2[0] == pytest.approx(0, abs=1e-6)


def haploid_block(h: NDArray[np.float64], has: NDArray[np.bool_], male: NDArray[np.bool_], phased: bool) -> Block:
    """What a reader gives of haplotypes (M, N, 2), of which men have the first only; their genotypes are 0 or 2 copies."""
    d = np.where(male, 2 * h[..., 0], h.sum(axis=2))
    squares = np.where(male, 4 * h[..., 0], probabilities(h) @ [0, 1, 4])
    each = np.where(male, 2 * h[..., 0] ** 2, (h**2).sum(axis=2))
    rows = rows_from_dosages(np.where(has, d, np.nan), Encoding.DOSAGE16)
    sums = [np.where(has, values, 0).sum(axis=1) for values in (squares, each, d, d**2)]
    return Block(
        rows, sums[0], sums[1] if phased else None, *sums[2:],
        haploid_count=(has & male).sum(axis=1), haploid_dosage_sum=np.where(has & male, d, 0).sum(axis=1),
    )  # fmt: skip


def quality_by_alleles(
    h: NDArray[np.float64], has: NDArray[np.bool_], male: NDArray[np.bool_]
) -> tuple[list[float], list[float], list[float]]:
    """INFO, R² of dosages and of haplotypes from copies c of ALT among a person's Z alleles, weighted (2/Z)² as in rows.

    INFO is 1 − Σw Var(c | data) / Σw Zθ(1−θ), R² of dosages Σw (c − Zθ)² / Σw Zθ(1−θ); a haplotype weighs 2/Z.
    """
    info, r2, phased = [], [], []
    for each, called in zip(h, has, strict=True):
        people = [alleles[:1] if man else alleles for alleles, man in zip(each[called], male[called], strict=True)]
        theta = np.concatenate(people).mean()
        binomial = sum((2 / len(p)) ** 2 * len(p) * theta * (1 - theta) for p in people)
        info.append(1 - sum((2 / len(p)) ** 2 * np.sum(p * (1 - p)) for p in people) / binomial)
        r2.append(sum((2 / len(p)) ** 2 * (p.sum() - len(p) * theta) ** 2 for p in people) / binomial)
        spread = sum(2 / len(p) * np.sum((p - theta) ** 2) for p in people)
        phased.append(spread / (2 * len(people) * theta * (1 - theta)))
    return info, r2, phased


MEN = {"women": 0.0, "men": 1.0, "both": 0.4}


@pytest.mark.parametrize("men", MEN)
@pytest.mark.parametrize("certainty", [0.0, 0.7, 1.0])
def test_haploid_samples_count_as_their_alleles_do(men: str, certainty: float) -> None:
    h = haplotypes(20, 50, certainty)
    rng = np.random.default_rng(2)
    has, male = rng.random(h.shape[:2]) < 0.9, rng.random(50) < MEN[men]
    expected = quality_by_alleles(h, has, male)
    with_phase = block_quality(haploid_block(h, has, male, phased=True), Encoding.DOSAGE16)
    without = block_quality(haploid_block(h, has, male, phased=False), Encoding.DOSAGE16)
    for found, wanted in zip((with_phase.info, without.r2, with_phase.r2), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)  # single precision


@pytest.mark.parametrize("men", MEN)
def test_both_are_the_r2_of_the_imputation_whatever_the_ploidy(men: str) -> None:
    """An allele a is seen for certain with probability ρ = 0.8, else h = θ: Var(h) / Var(a) = ρ.

    With N people, INFO and both R² are means over people or alleles of terms whose variance is at most that of a fourth
    moment: (c − Zθ)² / Zθ(1−θ) has a variance below 1/θ(1−θ) + 2, and it and θ̂ shift them by O(1/N). With M independent
    variants the mean has a standard error below √((1/θ(1−θ) + 2) / MN) times √(Σw² N) / Σw ≤ 2.
    """
    n_variants, n_samples, rho, theta = 200, 2000, 0.8, 0.3
    rng = np.random.default_rng(len(men))
    shape = (n_variants, n_samples, 2)
    h = np.where(rng.random(shape) < rho, rng.random(shape) < theta, theta)
    has, male = np.ones(shape[:2], bool), rng.random(n_samples) < MEN[men]
    limit = 4 * 2 * np.sqrt((1 / (theta * (1 - theta)) + 2) / (n_variants * n_samples)) + 2 / n_samples
    for phased in (True, False):
        found = block_quality(haploid_block(h, has, male, phased), Encoding.DOSAGE16)
        assert np.mean(found.info) == pytest.approx(rho, abs=limit)
        assert np.mean(found.r2) == pytest.approx(rho, abs=limit)


def test_a_vcf_of_men_and_women_has_the_quality_of_its_alleles(tmp_path: Path) -> None:
    """GT of one allele, and DS, GP and HDS to match."""
    rng = np.random.default_rng(3)
    h, male = np.round(rng.random((5, 30, 2)), 2), rng.random(30) < 0.5
    records = []
    for i, variant in enumerate(h):
        samples = []
        for (a, b), p, man in zip(variant, probabilities(variant), male, strict=True):
            if man:
                samples.append(f"{a:.0f}:{a:.2f}:{1 - a:.2f},{a:.2f}:{a:.2f}")
            else:
                gp = ",".join(f"{each:.4f}" for each in p)
                samples.append(f"{a:.0f}|{b:.0f}:{a + b:.2f}:{gp}:{a:.2f},{b:.2f}")
        records.append(Record("X", i + 1, f"v{i}", "A", "G", "GT:DS:GP:HDS", samples))
    (tmp_path / "x.vcf").write_text(vcf_text(records))
    block = open_vcf(tmp_path / "x.vcf").decoder.read(0, 5, Encoding.DOSAGE8)
    found = block_quality(block, Encoding.DOSAGE8, has_haploid=np.ones(5, bool))
    info, r2, phased = quality_by_alleles(h, np.ones((5, 30), bool), male)
    np.testing.assert_allclose(found.info, info, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.r2, phased, rtol=1e-6, atol=1e-6)
    without = block_quality(replace(block, haplotype_squares=None), Encoding.DOSAGE8)
    np.testing.assert_allclose(without.r2, r2, rtol=1e-6, atol=1e-6)


def test_quality_is_not_known_where_the_file_does_not_name_the_haploid() -> None:
    """Asked where men are haploid: not by a format without ploidy, not by one that writes them diploid; elsewhere it is."""
    dosages = np.array([[0.0, 1, 2, 0.5]] * 4)
    rows, on_x = rows_from_dosages(dosages, Encoding.DOSAGE16), np.array([True, True, True, False])
    squares, part = (dosages**2).sum(axis=1), np.array([0.0, 0, 2, 0])
    given = Block(rows, squares, haploid_count=np.array([-1, 0, 1, -1]), haploid_dosage_sum=part)
    found = block_quality(given, Encoding.DOSAGE16, has_haploid=on_x)
    for each in (found.info, found.r2):
        assert np.isnan(each).tolist() == [True, True, False, False]
    unknown = block_quality(Block(rows, squares), Encoding.DOSAGE16, has_haploid=on_x)
    assert np.isnan(unknown.r2).tolist() == [True, True, True, False]
    believed = block_quality(given, Encoding.DOSAGE16)
    assert not np.isnan(believed.r2).any()
    assert believed.r2[0] == believed.r2[1] == found.r2[3]
