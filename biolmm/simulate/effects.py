"""Effects of variants on traits, before they are scaled to the heritability asked for.

Effects are multiples of 2⁻²⁴ and genetic values are sums of few enough of them to be exact in float64: any order of
adding, any chunking, any number of workers gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from biolmm.simulate.config import SimulateConfig
from biolmm.simulate.streams import Stream, generator
from biolmm.simulate.variants import BLOCK, VariantBlock

_GRID = 2.0**24


@dataclass(frozen=True, eq=False)
class Chosen:
    """Causal variants of one trait that are chosen by name: their numbers in the cohort, increasing, and effects in
    standard deviations of an average small effect.
    """

    number: NDArray[np.int64]
    size: NDArray[np.float64]


@lru_cache(maxsize=8)
def block_effects(config: SimulateConfig, block: VariantBlock) -> NDArray[np.float64]:
    """Unscaled effects of one copy of ALT, variants × traits: z [2p(1 − p)]^(alpha/2)."""
    z = np.zeros((block.n, config.n_traits))
    if not config.may_be_causal(block.contig):
        return z
    if config.n_causal is None:
        rng = generator(config.seed, Stream.EFFECTS, block.contig.index, block.first // BLOCK)
        z += rng.standard_normal(z.shape)
    start = block.contig.first + block.first
    for t, chosen in enumerate(chosen_effects(config)):
        low, high = np.searchsorted(chosen.number, (start, start + block.n))
        np.add.at(z[:, t], chosen.number[low:high] - start, chosen.size[low:high])
    p = block.mean_frequency
    scaled = z * (2 * p * (1 - p))[:, None] ** (config.alpha / 2)
    return np.asarray(np.rint(scaled * _GRID) / _GRID)


@lru_cache(maxsize=2)
def chosen_effects(config: SimulateConfig) -> tuple[Chosen, ...]:
    """Causal variants of every trait that are few enough to be listed: sparse and large effects."""
    eligible = [contig for contig in config.contigs if config.may_be_causal(contig)]
    before = np.cumsum([0] + [contig.n_variants for contig in eligible])
    starts = np.array([contig.first for contig in eligible])
    n_eligible = int(before[-1])
    n_small = n_eligible if config.n_causal is None else config.n_causal
    chosen = []
    for t in range(config.n_traits):
        rng = generator(config.seed, Stream.CAUSAL, t)
        parts = []
        if config.n_causal is not None:
            picked = rng.choice(n_eligible, size=config.n_causal, replace=False, shuffle=False)
            parts.append((picked, rng.standard_normal(config.n_causal)))
        if config.n_large:
            picked = rng.choice(n_eligible, size=config.n_large, replace=False, shuffle=False)
            unit = np.sqrt(config.large_share / (1 - config.large_share) * n_small / config.n_large)
            sign = rng.choice([-1.0, 1.0], size=config.n_large)
            parts.append((picked, unit * sign * rng.uniform(0.75, 1.25, size=config.n_large)))
        place = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)])
        size = np.concatenate([np.zeros(0), *(part[1] for part in parts)])
        order = np.argsort(place, kind="stable")
        which = np.searchsorted(before, place[order], side="right") - 1
        chosen.append(Chosen(number=starts[which] + place[order] - before[which], size=size[order]))
    return tuple(chosen)
