"""Variants: positions, alleles and the frequencies they have in each population, in blocks that stand alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from biolmm.simulate.config import WORD, Contig, SimulateConfig
from biolmm.simulate.streams import Stream, generator
from biolmm.store.layout import VariantTable

BLOCK = 16 * WORD
"""Variants in a block: what is drawn together. The first block of a contig begins with its first variant."""

_BASES = np.array(["A", "C", "G", "T"])
_FIRST_RS = 1_000_001


@dataclass(frozen=True, eq=False)
class VariantBlock:
    """Up to `BLOCK` consecutive variants of a contig.

    Attributes
    ----------
    first
        Number of the first variant on its contig.
    frequency
        Ideal ALT frequency in each population, variants × populations.
    mean_frequency
        The same, averaged over the populations' shares of the cohort.
    angle
        Direction in which the variant cuts the founders' latent plane; near angles are in linkage disequilibrium.
    missing_rate
        Expected share of missing calls.
    """

    contig: Contig
    first: int
    position: NDArray[np.int64]
    ref: NDArray[np.int8]
    alt: NDArray[np.int8]
    frequency: NDArray[np.float64]
    mean_frequency: NDArray[np.float64]
    angle: NDArray[np.float64]
    missing_rate: NDArray[np.float64]

    @property
    def n(self) -> int:
        """Variants in the block."""
        return len(self.position)


@lru_cache(maxsize=128)
def variant_block(config: SimulateConfig, contig: Contig, index: int) -> VariantBlock:
    """Draw block `index` of a contig; it does not depend on any other block."""
    rng = generator(config.seed, Stream.VARIANTS, contig.index, index)
    first = index * BLOCK
    n = min(BLOCK, contig.n_variants - first)
    start, stop = (contig.length_bp * edge // contig.n_variants for edge in (first, first + n))
    frequency, mean = _frequencies(config, n, rng)
    ref = rng.integers(4, size=n)
    return VariantBlock(
        contig=contig,
        first=first,
        position=1 + start + _increasing(n, stop - start, rng),
        ref=ref.astype(np.int8),
        alt=((ref + rng.integers(1, 4, size=n)) % 4).astype(np.int8),
        frequency=frequency,
        mean_frequency=mean,
        angle=rng.uniform(0, 2 * np.pi, size=n),
        missing_rate=np.minimum(config.missing_genotypes * rng.standard_gamma(2.0, size=n) / 2, 0.9),
    )


def blocks_of(config: SimulateConfig, contig: Contig) -> Iterator[VariantBlock]:
    """All blocks of a contig in order."""
    for index in range(-(-contig.n_variants // BLOCK)):
        yield variant_block(config, contig, index)


def variant_table(config: SimulateConfig) -> VariantTable:
    """Identity of every variant of the cohort."""
    blocks = [block for contig in config.contigs for block in blocks_of(config, contig)]
    number = np.arange(_FIRST_RS, _FIRST_RS + config.n_variants)
    return VariantTable(
        contig=np.repeat([c.index for c in config.contigs], [c.n_variants for c in config.contigs]).astype(np.int32),
        contig_id=tuple(contig.name for contig in config.contigs),
        position=np.concatenate([block.position for block in blocks]),
        variant_id=np.array([f"rs{i}" for i in number.tolist()]),
        ref=_BASES[np.concatenate([block.ref for block in blocks])],
        alt=_BASES[np.concatenate([block.alt for block in blocks])],
    )


def effect_allele(block: VariantBlock) -> NDArray[np.str_]:
    """ALT letters of a block."""
    return _BASES[block.alt]


def variant_number(block: VariantBlock) -> NDArray[np.int64]:
    """Numbers of a block's variants in the cohort."""
    return block.contig.first + block.first + np.arange(block.n, dtype=np.int64)


def variant_id(number: NDArray[np.int64]) -> list[str]:
    """Identifiers of variants by their numbers in the cohort."""
    return [f"rs{i}" for i in (number + _FIRST_RS).tolist()]


def _increasing(n: int, span: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """n different integers of [0, span) in increasing order."""
    return np.floor(np.sort(rng.random(n)) * (span - n)).astype(np.int64) + np.arange(n)


def _frequencies(
    config: SimulateConfig, n: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies in each population and their mean, the mean's minor allele no rarer than `maf_min`.

    The ancestral frequency has the neutral density 1 / (p (1 − p)); a population's is drawn around it from
    Beta(p (1 − F)/F, (1 − p)(1 − F)/F), whose variance is F p (1 − p).
    """
    bound = np.log(1 / config.maf_min - 1)
    frequency = np.empty((n, config.n_populations))
    todo = np.arange(n)
    while len(todo):
        ancestral = 1 / (1 + np.exp(rng.uniform(-bound, bound, size=(len(todo), 1))))
        frequency[todo] = ancestral
        if config.fst > 0:
            size = (1 - config.fst) / config.fst
            shape = (len(todo), config.n_populations)
            frequency[todo] = rng.beta(ancestral * size, (1 - ancestral) * size, size=shape)
        mean = frequency[todo] @ config.weights
        todo = todo[np.minimum(mean, 1 - mean) < config.maf_min]
    return frequency, frequency @ config.weights
