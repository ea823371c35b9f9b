"""Founder haplotypes: alleles with linkage disequilibrium, one word of 64 variants at a time.

Every founder has a point in a plane that moves smoothly along the contig: each coordinate is a stationary Gaussian
process, interpolated between independent values at knots, x(t) = cos θ · x_k + sin θ · x_{k+1}, θ from 0 to π/2. The
second coordinate's knots lie four times as far apart. A variant cuts the plane by a line: the founders on one side
carry ALT, as many as its frequency in their population asks. Near variants with similar angles are in high linkage
disequilibrium, which fades with distance; any word can be made without the ones before it.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from biolmm.simulate.config import SimulateConfig
from biolmm.simulate.hashing import GOLDEN, mix
from biolmm.simulate.streams import Stream, hash_key
from biolmm.simulate.variants import VariantBlock

_SCALES = (1.0, 4.0)
# Population count of 64 random bits, spread by a uniform of width one: mean 32, variance 16 + 1/12.
_NORMAL_SCALE = np.float32(1 / np.sqrt(16 + 1 / 12))
_M1, _M2 = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
_M4, _ONES = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)
_NONE = np.uint64(0)
_S1, _S2, _S4, _S56, _S40 = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56), np.uint64(40)


def founder_words(config: SimulateConfig, block: VariantBlock, rows: slice) -> NDArray[np.uint64]:
    """Alleles of all founders at up to 64 variants of a block: bit j of a founder's word is variant j's ALT.

    Returns
    -------
    array of n_populations · n_founders words, population by population.
    """
    position, angle = block.position[rows].astype(np.float64), block.angle[rows]
    weights = np.empty((len(position), 4), dtype=np.float32)
    knots = []
    left = np.empty((len(position), 2), dtype=np.int64)
    for axis, (scale, amplitude) in enumerate(zip(_SCALES, (np.cos(angle), np.sin(angle)), strict=True)):
        place = position / (config.ld_length_bp * scale)
        knot = np.floor(place).astype(np.int64)
        theta = (place - knot) * (np.pi / 2)
        weights[:, 2 * axis] = amplitude * np.cos(theta)
        weights[:, 2 * axis + 1] = amplitude * np.sin(theta)
        left[:, axis] = knot - knot[0]
        key = hash_key(config.seed, Stream.FOUNDERS, block.contig.index, axis)
        n_knots = int(knot[-1] - knot[0]) + 2
        knots.append(_knot_values(key, int(knot[0]), n_knots, config.n_populations * config.n_founders))
    threshold = ndtri(block.frequency[rows]).astype(np.float32)
    return np.asarray(_cut(weights, left, threshold, knots[0], knots[1]))


@numba.njit(nogil=True, cache=True)
def _knot_values(
    key: np.uint64, first: int, n_knots: int, n_founders: int
) -> NDArray[np.float32]:  # pragma: no cover - compiled
    """Standard normal values (to within 3 % of kurtosis) of every founder at every knot."""
    values = np.empty((n_knots, n_founders), dtype=np.float32)
    for knot in range(n_knots):
        row_key = mix(key + np.uint64(first + knot + 1) * GOLDEN)
        for founder in range(n_founders):
            bits = mix(row_key + np.uint64(founder + 1) * GOLDEN)
            count = bits - ((bits >> _S1) & _M1)
            count = (count & _M2) + ((count >> _S2) & _M2)
            count = (((count + (count >> _S4)) & _M4) * _ONES) >> _S56
            spread = np.float32((bits * GOLDEN) >> _S40) * np.float32(2.0**-24)
            values[knot, founder] = (np.float32(count) + spread - np.float32(32.5)) * _NORMAL_SCALE
    return values


@numba.njit(nogil=True, cache=True, fastmath=True)
def _cut(
    weights: NDArray[np.float32],
    left: NDArray[np.int64],
    threshold: NDArray[np.float32],
    near: NDArray[np.float32],
    far: NDArray[np.float32],
) -> NDArray[np.uint64]:  # pragma: no cover - compiled
    """Set bit j where the founder's point, projected on variant j's direction, lies below its threshold."""
    n_variants, n_populations = threshold.shape
    n_founders = near.shape[1] // n_populations
    words = np.zeros(near.shape[1], dtype=np.uint64)
    for j in range(n_variants):
        bit = np.uint64(1) << np.uint64(j)
        a, b, c, d = weights[j, 0], weights[j, 1], weights[j, 2], weights[j, 3]
        near0, near1 = near[left[j, 0]], near[left[j, 0] + 1]
        far0, far1 = far[left[j, 1]], far[left[j, 1] + 1]
        for population in range(n_populations):
            limit = threshold[j, population]
            for f in range(population * n_founders, (population + 1) * n_founders):
                x = a * near0[f] + b * near1[f] + c * far0[f] + d * far1[f]
                words[f] |= bit if x < limit else _NONE
    return words
