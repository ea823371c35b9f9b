"""Packed calls of any run of variants, on their own, and the genetic values that come from them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from biolmm.simulate.calls import add_genetic_values, lose_calls, pack_calls
from biolmm.simulate.config import CM_PER_BP, WORD, SimulateConfig
from biolmm.simulate.effects import block_effects
from biolmm.simulate.founders import founder_words
from biolmm.simulate.haplotypes import cohort_words, word_place
from biolmm.simulate.people import make_people
from biolmm.simulate.streams import Stream, hash_key
from biolmm.simulate.variants import BLOCK, VariantBlock, variant_block
from biolmm.store.layout import row_bytes


def generate_calls(
    config: SimulateConfig, start: int, stop: int, genetic: NDArray[np.float64] | None = None
) -> NDArray[np.uint8]:
    """Make the packed calls of variants `start … stop − 1`; the same whatever else is made.

    Parameters
    ----------
    genetic
        Samples × traits; the unscaled genetic values of these variants (before calls are lost) are added to it.

    Returns
    -------
    (stop − start) × row_bytes, two bits a call, 3 = missing.

    Notes
    -----
    **Cost**: memory for the result and 16 bytes per sample; time grows with their product.

    Examples
    --------
    >>> config = SimulateConfig(n_samples=4, n_variants=100, n_contigs=1)
    >>> generate_calls(config, 10, 20).shape
    (10, 8)
    """
    people = make_people(config)
    packed = np.empty((stop - start, row_bytes(config.n_samples)), dtype=np.uint8)
    words = np.empty((2, config.n_samples), dtype=np.uint64)
    for block, rows in _words(config, start, stop):
        first = block.contig.first + block.first + rows.start
        kept = slice(max(start, first), min(stop, block.contig.first + block.first + rows.stop))
        out = packed[kept.start - start : kept.stop - start]
        founders = founder_words(config, block, rows)
        place = word_place(config, block, rows)
        position_cm = np.asarray(block.position[rows] * CM_PER_BP, dtype=np.float64)
        cohort_words(place, position_cm, people.pedigree, founders, words)
        pack_calls(words, kept.start - first, out.view(np.uint64))
        if genetic is not None:
            _add_genetic(config, block, rows, slice(kept.start - first, kept.stop - first), words, genetic)
        lost = np.asarray(block.missing_rate[rows][kept.start - first : kept.stop - first])
        key = hash_key(config.seed, Stream.CALLS, block.contig.index)
        lose_calls(out, lost, key, kept.start - block.contig.first, config.n_samples)
    return packed


def _words(config: SimulateConfig, start: int, stop: int) -> Iterator[tuple[VariantBlock, slice]]:
    """Words that the variants `start … stop − 1` lie in, as rows of a block."""
    for contig in config.contigs:
        low, high = max(start, contig.first) - contig.first, min(stop, contig.stop) - contig.first
        for first in range(low // WORD * WORD, high, WORD) if low < high else ():
            block = variant_block(config, contig, first // BLOCK)
            row = first - block.first
            yield block, slice(row, min(row + WORD, block.n))


def _add_genetic(
    config: SimulateConfig,
    block: VariantBlock,
    rows: slice,
    kept: slice,
    words: NDArray[np.uint64],
    genetic: NDArray[np.float64],
) -> None:
    """Add what the kept variants of a word contribute, skipping traits without effects in it."""
    effects = np.zeros((WORD, config.n_traits))
    effects[kept] = block_effects(config, block)[rows][kept]
    traits = np.flatnonzero(effects.any(axis=0))
    if len(traits):
        add_genetic_values(words, np.ascontiguousarray(effects[:, traits]), traits, genetic)
