"""Individuals: ancestry, families and order in the cohort."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from biolmm.simulate.config import SimulateConfig
from biolmm.simulate.streams import Stream, generator
from biolmm.store.layout import SampleTable

MALE, FEMALE = 1, 2

# Families by what of them is in the cohort: fathers, mothers, children and how often.
_FAMILIES = np.array([(0, 0, 2), (0, 0, 3), (1, 0, 1), (0, 1, 1), (1, 1, 1), (1, 1, 2), (0, 1, 2)])
_FAMILY_SHARES = (0.35, 0.10, 0.10, 0.15, 0.12, 0.12, 0.06)


class Pedigree(NamedTuple):
    """What the kernels need to know of everyone, with one entry per sample or per base individual.

    Base individuals have no parents in the model: their two haplotypes are mosaics of founder haplotypes. A sample is a
    base individual, or the child of two of them.
    """

    mother: NDArray[np.int32]
    """Base individual that a sample's first haplotype comes from (itself, when it is no child)."""
    father: NDArray[np.int32]
    """Base individual that a sample's second haplotype comes from."""
    is_child: NDArray[np.bool_]
    lineage: NDArray[np.uint64]
    """Ancestry of a base individual: population in byte 0, other population in byte 1, its share (in units of 2⁻³²;
    0 = not admixed) in bytes 4 to 7."""


@dataclass(frozen=True, eq=False)
class People:
    """Everyone in the cohort, in the order of the store.

    Attributes
    ----------
    family
        Number of the family; −1 = no relatives.
    father_index, mother_index
        Parents by their place in the cohort; −1 = not in it.
    ancestry
        Expected share of each population, samples × populations.
    """

    pedigree: Pedigree
    sex: NDArray[np.int8]
    family: NDArray[np.int64]
    father_index: NDArray[np.int64]
    mother_index: NDArray[np.int64]
    ancestry: NDArray[np.float64]

    @property
    def n(self) -> int:
        """Samples in the cohort."""
        return len(self.sex)

    @property
    def n_families(self) -> int:
        """Families with at least two members in the cohort."""
        return int(self.family.max()) + 1


@lru_cache(maxsize=2)
def make_people(config: SimulateConfig) -> People:
    """Draw ancestries and families; members of a family are scattered over the cohort."""
    rng = generator(config.seed, Stream.PEOPLE)
    kinds = _draw_families(config, rng)
    n_families = len(kinds)
    numbers = np.arange(n_families)
    fathers, mothers = numbers[kinds[:, 0] == 1], numbers[kinds[:, 1] == 1]
    children = np.repeat(numbers, kinds[:, 2])
    n_singles = config.n_samples - len(fathers) - len(mothers) - len(children)
    singles = 2 * n_families + np.arange(n_singles)

    mother = np.concatenate([2 * fathers, 2 * mothers + 1, 2 * children + 1, singles])
    father = np.concatenate([2 * fathers, 2 * mothers + 1, 2 * children, singles])
    family = np.concatenate([fathers, mothers, children, np.full(n_singles, -1)])
    drawn = rng.integers(MALE, FEMALE + 1, size=len(children) + n_singles)
    sex = np.concatenate([np.full(len(fathers), MALE), np.full(len(mothers), FEMALE), drawn])
    order = rng.permutation(config.n_samples)
    mother, father = mother[order], father[order]
    lineage = _draw_lineages(config, n_families, n_singles, rng)
    pedigree = Pedigree(mother.astype(np.int32), father.astype(np.int32), mother != father, lineage)
    sample_of_base = np.full(len(lineage), -1)
    is_base = ~pedigree.is_child
    sample_of_base[mother[is_base]] = np.flatnonzero(is_base)
    return People(
        pedigree=pedigree,
        sex=sex[order].astype(np.int8),
        family=family[order],
        father_index=np.where(is_base, -1, sample_of_base[father]),
        mother_index=np.where(is_base, -1, sample_of_base[mother]),
        ancestry=_ancestry(pedigree, config.n_populations),
    )


def sample_table(people: People) -> SampleTable:
    """Identity of every sample: `S000001`, family `F000001`, or its own id where it has no relatives."""
    width = max(6, len(str(people.n)))
    sample_id = np.array([f"S{i + 1:0{width}d}" for i in range(people.n)])
    family_id = np.array([f"F{i + 1:0{width}d}" for i in people.family.tolist()])
    return SampleTable(
        sample_id=sample_id,
        family_id=np.where(people.family < 0, sample_id, family_id),
        sex=people.sex,
    )


def _draw_families(config: SimulateConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """Families (fathers, mothers, children in the cohort) until `family_fraction` of the samples is used up."""
    wanted = round(config.family_fraction * config.n_samples)
    kinds = _FAMILIES[rng.choice(len(_FAMILIES), size=wanted // 2, p=_FAMILY_SHARES)]
    return kinds[np.cumsum(kinds.sum(axis=1)) <= wanted]


def _draw_lineages(
    config: SimulateConfig, n_families: int, n_singles: int, rng: np.random.Generator
) -> NDArray[np.uint64]:
    """Ancestry of base individuals, as in `Pedigree.lineage`; the parents of a family come from one population."""
    groups = rng.choice(config.n_populations, size=n_families + n_singles, p=config.weights)
    population = np.concatenate([np.repeat(groups[:n_families], 2), groups[n_families:]]).astype(np.uint64)
    if config.n_populations == 1:
        return population
    n = len(population)
    step = rng.integers(1, config.n_populations, size=n, dtype=np.uint64)
    other = (population + step) % np.uint64(config.n_populations)
    share = np.where(rng.random(n) < config.admixed_fraction, rng.beta(2, 2, size=n), 0.0)
    units = (share * 2**32).astype(np.uint64)
    return np.asarray(population | other << np.uint64(8) | units << np.uint64(32))


def _ancestry(pedigree: Pedigree, n_populations: int) -> NDArray[np.float64]:
    """Expected share of each population in each sample: the mean of its parents."""
    byte = np.uint64(0xFF)
    population = (pedigree.lineage & byte).astype(np.int64)
    other = (pedigree.lineage >> np.uint64(8) & byte).astype(np.int64)
    share = (pedigree.lineage >> np.uint64(32)).astype(np.float64) / 2**32
    ancestry = np.zeros((len(pedigree.mother), n_populations))
    rows = np.arange(len(ancestry))
    for parent in (pedigree.mother, pedigree.father):
        ancestry[rows, population[parent]] += (1 - share[parent]) / 2
        ancestry[rows, other[parent]] += share[parent] / 2
    return ancestry
