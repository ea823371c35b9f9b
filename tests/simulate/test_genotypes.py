"""Simulated genotypes: frequencies, drift, linkage disequilibrium, relatedness, missing calls."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.simulate import SimulateConfig, generate_calls
from biolmm.simulate.people import People, make_people, sample_table
from biolmm.simulate.variants import blocks_of, variant_table
from biolmm.store.layout import row_bytes

N, M = 1200, 3000
COHORT = SimulateConfig(n_samples=N, n_variants=M, n_contigs=3, missing_genotypes=0.0, seed=3)


def unpack(packed: NDArray[np.uint8], n_samples: int) -> NDArray[np.uint8]:
    calls = np.stack([packed >> shift & 3 for shift in (0, 2, 4, 6)], axis=-1)
    return calls.reshape(len(packed), -1)[:, :n_samples]


@lru_cache
def genotypes(config: SimulateConfig) -> NDArray[np.float64]:
    return unpack(generate_calls(config, 0, config.n_variants), config.n_samples).astype(np.float64)


def frequencies(config: SimulateConfig) -> NDArray[np.float64]:
    return np.concatenate([block.frequency for contig in config.contigs for block in blocks_of(config, contig)])


def relatedness(config: SimulateConfig) -> NDArray[np.float64]:
    G = genotypes(config)
    p = G.mean(axis=1, keepdims=True) / 2
    Z = (G - 2 * p) / np.sqrt(2 * p * (1 - p))
    return np.asarray(Z.T @ Z / len(G))


def parents_and_children(people: People) -> list[tuple[int, int]]:
    pairs = [(i, parent[i]) for parent in (people.father_index, people.mother_index) for i in range(people.n)]
    return [(child, parent) for child, parent in pairs if parent >= 0]


def siblings(people: People) -> list[tuple[int, int]]:
    families: dict[int, list[int]] = {}
    for i in np.flatnonzero(people.pedigree.is_child):
        families.setdefault(people.family[i], []).append(i)
    return [pair for members in families.values() for pair in combinations(members, 2)]


def test_calls_are_counts_and_padding_is_missing() -> None:
    packed = generate_calls(COHORT, 0, 70)
    assert packed.shape == (70, row_bytes(N))
    calls = unpack(packed, 4 * packed.shape[1])
    assert set(np.unique(calls[:, :N])) == {0, 1, 2}
    assert (calls[:, N:] == 3).all()


def test_frequencies_follow_their_targets_in_every_population() -> None:
    target, ancestry = frequencies(COHORT), make_people(COHORT).ancestry
    for population in range(COHORT.n_populations):
        members = ancestry[:, population] == 1
        found, p = genotypes(COHORT)[:, members].mean(axis=1) / 2, target[:, population]
        # Alleles of 512 founders, copied to 2 n haplotypes (fewer, where they are relatives).
        variance = p * (1 - p) * (1 / COHORT.n_founders + 1 / members.sum())
        z = (found - p)[p * (1 - p) > 0.01] / np.sqrt(variance[p * (1 - p) > 0.01])
        assert abs(z.mean()) < 0.2
        assert 0.8 < z.std() < 1.2


def test_minor_allele_frequencies_keep_their_floor_and_many_are_low() -> None:
    mean = frequencies(COHORT) @ COHORT.weights
    maf = np.minimum(mean, 1 - mean)
    assert maf.min() >= COHORT.maf_min
    assert 0.2 < (maf < 0.05).mean() < 0.6
    assert maf.max() > 0.45


def test_populations_differ_by_fst() -> None:
    """Hudson's ratio of averages, (p₁ − p₂)² less its sampling variance over p₁ q₂ + p₂ q₁."""
    ancestry = make_people(COHORT).ancestry
    first, second = (genotypes(COHORT)[:, ancestry[:, k] == 1].mean(axis=1) / 2 for k in (0, 1))
    sampling = sum(p * (1 - p) / COHORT.n_founders for p in (first, second))
    fst = ((first - second) ** 2 - sampling).sum() / (first * (1 - second) + second * (1 - first)).sum()
    assert fst == pytest.approx(COHORT.fst, rel=0.15)


@pytest.mark.parametrize("ld_bp", [None, 3e6])
def test_linkage_disequilibrium_decays(ld_bp: float | None) -> None:
    config = SimulateConfig(
        n_samples=500, n_variants=1000, n_contigs=1, n_populations=1, family_fraction=0.0,
        missing_genotypes=0.0, ld_bp=ld_bp,
    )  # fmt: skip
    G = genotypes(config)
    frequency = G.mean(axis=1) / 2
    r2 = np.corrcoef(G[(frequency > 0.05) & (frequency < 0.95)]) ** 2
    near, middle, far = (np.diag(r2, lag).mean() for lag in (1, 30, 200))
    assert near > 2 * middle
    assert near > 0.05
    assert far < 3 / config.n_samples
    assert np.quantile(np.diag(r2, 1), 0.99) > 0.6


def test_relatives_share_what_they_should() -> None:
    people, K = make_people(COHORT), relatedness(COHORT)
    ancestry = people.ancestry
    for pairs in (parents_and_children(people), siblings(people)):
        assert len(pairs) > 50
        # Within one population, above what its members share by ancestry.
        excess = []
        for k in range(COHORT.n_populations):
            members = np.flatnonzero(ancestry[:, k] == 1)
            chosen = [(i, j) for i, j in pairs if ancestry[i, k] == ancestry[j, k] == 1]
            among = np.median(K[np.ix_(members, members)])
            own = K[members, members].mean()
            excess += [(K[i, j] - among) / (own - among) for i, j in chosen]
        assert np.mean(excess) == pytest.approx(0.5, abs=4 * np.std(excess) / np.sqrt(len(excess)))
        assert np.mean(excess) == pytest.approx(0.5, abs=0.05)


def test_children_share_an_allele_with_each_parent_everywhere() -> None:
    G = genotypes(COHORT)
    for child, parent in parents_and_children(make_people(COHORT)):
        assert (np.abs(G[:, child] - G[:, parent]) < 2).all()
    apart = [(np.abs(G[:, i] - G[:, j]) == 2).mean() for i, j in siblings(make_people(COHORT))]
    assert 0.01 < np.mean(apart) < 0.1


def test_siblings_cross_over_about_once_a_morgan() -> None:
    """The spread of siblings' sharing says how often identity by descent changes along the contigs."""
    people, K = make_people(COHORT), relatedness(COHORT)
    sharing = np.array([K[i, j] for i, j in siblings(people)])
    # Three contigs of 7.4 Morgans together: s.d. of sharing near 0.1; without crossovers 0.2, with free ones near 0.
    assert 0.05 < sharing.std() < 0.2


def test_family_fraction_ids_and_order() -> None:
    people = make_people(COHORT)
    table = sample_table(people)
    assert len(np.unique(table.sample_id)) == N
    assert (people.family >= 0).mean() == pytest.approx(COHORT.family_fraction, abs=0.01)
    sizes = np.unique(table.family_id, return_counts=True)[1]
    assert sizes[sizes > 1].sum() == (people.family >= 0).sum()
    members = np.flatnonzero(people.family >= 0)
    adjacent = people.family[members[1:]] == people.family[members[:-1]]
    assert adjacent.mean() < 0.05
    assert (people.sex[people.father_index[people.father_index >= 0]] == 1).all()
    assert (people.sex[people.mother_index[people.mother_index >= 0]] == 2).all()


def test_admixed_individuals_lie_between_their_populations() -> None:
    config = SimulateConfig(
        n_samples=300, n_variants=1500, n_contigs=2, n_populations=2, fst=0.2, admixed_fraction=0.5,
        family_fraction=0.0, missing_genotypes=0.0,
    )  # fmt: skip
    target, ancestry = frequencies(config), make_people(config).ancestry[:, 1]
    contrast = target[:, 1] - target[:, 0]
    estimate = contrast @ (genotypes(config) / 2 - target[:, :1]) / (contrast @ contrast)
    mixed = (ancestry > 0) & (ancestry < 1)
    assert 0.35 < mixed.mean() < 0.65
    assert np.corrcoef(estimate[mixed], ancestry[mixed])[0, 1] > 0.7


def test_missing_calls_have_their_rates_and_change_nothing_else() -> None:
    config = SimulateConfig(n_samples=N, n_variants=M, n_contigs=3, missing_genotypes=0.02, seed=3)
    calls = genotypes(config)
    rates = (calls == 3).mean(axis=1)
    ideal = np.concatenate([block.missing_rate for contig in config.contigs for block in blocks_of(config, contig)])
    z = (rates - ideal) / np.sqrt(ideal * (1 - ideal) / N)
    assert abs(z.mean()) < 4 / np.sqrt(M)
    assert 0.9 < z.std() < 1.1
    assert rates.mean() == pytest.approx(0.02, rel=0.1)
    np.testing.assert_array_equal(calls[calls < 3], genotypes(COHORT)[calls < 3])


@pytest.mark.parametrize("config", [COHORT, SimulateConfig(n_samples=40, n_variants=100, seed=5)])
def test_any_run_of_variants_can_be_made_alone(config: SimulateConfig) -> None:
    whole = generate_calls(config, 0, config.n_variants)
    rng = np.random.default_rng(1)
    for start in rng.integers(config.n_variants - 1, size=5).tolist():
        stop = int(rng.integers(start + 1, min(config.n_variants, start + 300) + 1))
        np.testing.assert_array_equal(generate_calls(config, start, stop), whole[start:stop])


def test_seeds_give_different_cohorts() -> None:
    other = SimulateConfig(n_samples=N, n_variants=M, n_contigs=3, missing_genotypes=0.0, seed=4)
    assert (generate_calls(other, 0, 64) != generate_calls(COHORT, 0, 64)).mean() > 0.2


@pytest.mark.parametrize("n_variants", [22, 100, 50_000])
def test_variants_are_ordered_and_unique(n_variants: int) -> None:
    table = variant_table(SimulateConfig(n_samples=2, n_variants=n_variants))
    assert table.n == n_variants
    assert len(np.unique(table.variant_id)) == n_variants
    assert np.unique(table.contig).tolist() == list(range(22))
    assert (np.diff(table.position)[np.diff(table.contig) == 0] > 0).all()
    assert (table.ref != table.alt).all()
    if n_variants == 50_000:  # whole words per contig, so that chunks and words meet
        assert (np.bincount(table.contig)[:-1] % 64 == 0).all()
