"""Haplotypes of the cohort: mosaics of founder haplotypes, passed to children by meioses with crossovers.

A contig is cut into windows of whole words. In every window, every base haplotype changes founder once, at a place and
to a founder that a hash of (haplotype, window) tells: segments last one window on average and two at most, and the
state at any word is known without the words before it. A meiosis has at most one crossover in each 50 cM, with
probability one half: one per Morgan, spaced as interference spaces them.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.simulate.config import CM_PER_BP, WORD, SimulateConfig
from biolmm.simulate.hashing import draw, mix, unit
from biolmm.simulate.people import Pedigree
from biolmm.simulate.streams import Stream, hash_key
from biolmm.simulate.variants import VariantBlock

CROSSOVER_CM = 50.0
_TRACT_CM = 20.0
_ALL, _NONE = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0)
_LOW32, _BYTE, _ONE, _S8, _S32 = np.uint64(0xFFFFFFFF), np.uint64(0xFF), np.uint64(1), np.uint64(8), np.uint64(32)


class Word(NamedTuple):
    """Place of one word on its contig, for the kernels."""

    haplotype_key: np.uint64
    meiosis_key: np.uint64
    window: int
    """Window that the word lies in."""
    offset: int
    """Variants of the window before the word."""
    window_size: int
    """Variants in a window."""
    tract_windows: int
    """Windows over which an admixed haplotype keeps its ancestry."""
    n_founders: int
    """Founder haplotypes of one population."""


def word_place(config: SimulateConfig, block: VariantBlock, rows: slice) -> Word:
    """Place of the word that holds the given rows (within the block) on its contig."""
    contig = block.contig
    n_words = contig.segment_words(config.segment_cm)
    window, within = divmod((block.first + rows.start) // WORD, n_words)
    window_cm = contig.length_bp * CM_PER_BP * n_words * WORD / max(contig.n_variants, WORD)
    return Word(
        haplotype_key=hash_key(config.seed, Stream.HAPLOTYPES, contig.index),
        meiosis_key=hash_key(config.seed, Stream.MEIOSES, contig.index),
        window=window,
        offset=within * WORD,
        window_size=n_words * WORD,
        tract_windows=max(1, round(_TRACT_CM / window_cm)),
        n_founders=config.n_founders,
    )


@numba.njit(nogil=True, cache=True)
def cohort_words(
    word: Word,
    position_cm: NDArray[np.float64],
    pedigree: Pedigree,
    founders: NDArray[np.uint64],
    out: NDArray[np.uint64],
) -> None:  # pragma: no cover - compiled
    """Fill `out` (2 × samples) with the alleles of both haplotypes of every sample.

    `position_cm` are the genetic positions of the word's variants. The helpers below take scalars only where they can:
    an array within a tuple costs a reference count at every call.
    """
    mothers, fathers, is_child, lineage = pedigree.mother, pedigree.father, pedigree.is_child, pedigree.lineage
    for sample in range(out.shape[1]):
        mother, father = mothers[sample], fathers[sample]
        if is_child[sample]:
            key = mix(word.meiosis_key + np.uint64(sample + 1))
            phase = _phase(draw(key, 0), position_cm)
            out[0, sample] = _gamete(mother, phase, lineage[mother], word, founders)
            phase = _phase(draw(key, 1), position_cm)
            out[1, sample] = _gamete(father, phase, lineage[father], word, founders)
        else:
            out[0, sample] = _mosaic(mother, 0, lineage[mother], word, founders)
            out[1, sample] = _mosaic(father, 1, lineage[father], word, founders)


@numba.njit(nogil=True, cache=True)
def _gamete(
    parent: int, phase: np.uint64, lineage: np.uint64, word: Word, founders: NDArray[np.uint64]
) -> np.uint64:  # pragma: no cover - compiled
    """Alleles that a parent passes on: the second haplotype where `phase` has ones, else the first."""
    alleles = _NONE
    if phase != _ALL:
        alleles = _mosaic(parent, 0, lineage, word, founders) & ~phase
    if phase != _NONE:
        alleles |= _mosaic(parent, 1, lineage, word, founders) & phase
    return alleles


@numba.njit(nogil=True, cache=True)
def _phase(bits: np.uint64, position_cm: NDArray[np.float64]) -> np.uint64:  # pragma: no cover - compiled
    """Which haplotype a meiosis passes on at each variant of a word: bit 0 of `bits` is the phase at the contig's
    start, bit u + 1 says whether there is a crossover in [50 u, 50 (u + 1)) cM.
    """
    phase = _ALL if bits & _ONE else _NONE
    n = len(position_cm)
    for u in range(int(position_cm[n - 1] / CROSSOVER_CM) + 1):
        if (bits >> np.uint64(u + 1)) & _ONE:
            crossover = (u + unit(draw(bits, u))) * CROSSOVER_CM
            if crossover <= position_cm[0]:
                phase = ~phase
            elif crossover <= position_cm[n - 1]:
                phase ^= _ALL << np.uint64(np.searchsorted(position_cm, crossover))
    return phase


@numba.njit(nogil=True, cache=True)
def _mosaic(
    base: int, which: int, lineage: np.uint64, word: Word, founders: NDArray[np.uint64]
) -> np.uint64:  # pragma: no cover - compiled
    """Alleles of one haplotype of a base individual: the last window's founder, then this window's."""
    key = mix(word.haplotype_key + np.uint64(2 * base + which + 1))
    bits = draw(key, word.window + 1)
    change = np.int64(((bits & _LOW32) * np.uint64(word.window_size)) >> _S32) - word.offset
    alleles = _NONE
    if change < WORD:
        alleles = founders[_founder(bits, key, word.window + 1, lineage, word)]
    if change > 0:
        before = founders[_founder(draw(key, word.window), key, word.window, lineage, word)]
        kept = _ALL << np.uint64(change) if change < WORD else _NONE
        alleles = before ^ ((before ^ alleles) & kept)
    return alleles


@numba.njit(nogil=True, cache=True)
def _founder(
    bits: np.uint64, key: np.uint64, window: int, lineage: np.uint64, word: Word
) -> np.int64:  # pragma: no cover - compiled
    """Founder that a haplotype copies after its change in a window; bits 32 and up choose it."""
    population = lineage & _BYTE
    share = lineage >> _S32
    if share and (draw(~key, window // word.tract_windows) >> _S32) < share:
        population = (lineage >> _S8) & _BYTE
    return np.int64(population) * word.n_founders + np.int64(((bits >> _S32) * np.uint64(word.n_founders)) >> _S32)
