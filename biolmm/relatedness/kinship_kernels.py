"""Counting genotypes of pairs of samples, 64 variants at a time.

Legend: W words of 64 variants; planes (3, samples, W): bit v of word w is set where the sample has no copy of ALT (plane 0),
one (1) or two (2) at variant 64 w + v. A missing genotype has no bit.
"""

from __future__ import annotations

import numba
import numpy as np

from biolmm.files.encoding import popcount

BLOCK = 64
"""Samples on a side of a block of pairs: their planes stay in cache."""


@numba.njit(nogil=True, cache=True)
def fill_planes(packed, first, planes):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Set the bits of packed rows (b, bytes) in the planes, row i at variant `first + i`; the planes come with zeros there."""
    n = planes.shape[1]
    codes = np.empty(4 * packed.shape[1], np.uint8)
    words = np.zeros((3, n), np.uint64)
    for i in range(packed.shape[0]):
        row = packed[i]
        for j in range(packed.shape[1]):
            byte = row[j]
            codes[4 * j] = byte & 3
            codes[4 * j + 1] = (byte >> 2) & 3
            codes[4 * j + 2] = (byte >> 4) & 3
            codes[4 * j + 3] = byte >> 6
        shift = np.uint64((first + i) & 63)
        for k in range(3):
            for s in range(n):
                words[k, s] |= np.uint64(codes[s] == k) << shift
        if shift == 63 or i == packed.shape[0] - 1:
            w = (first + i) >> 6
            for k in range(3):
                for s in range(n):
                    planes[k, s, w] |= words[k, s]
                    words[k, s] = 0


@numba.njit(nogil=True, cache=True)
def _count_pair(a, b, i, j, n_words):  # type: ignore[no-untyped-def]  # pragma: no cover
    het_het, opposite, het_hom, hom_het, both = 0, 0, 0, 0, 0
    for w in range(n_words):
        a0, a1, a2 = a[0, i, w], a[1, i, w], a[2, i, w]
        b0, b1, b2 = b[0, j, w], b[1, j, w], b[2, j, w]
        het_het += popcount(a1 & b1)
        opposite += popcount((a0 & b2) | (a2 & b0))
        het_hom += popcount(a1 & (b0 | b2))
        hom_het += popcount((a0 | a2) & b1)
        both += popcount((a0 | a1 | a2) & (b0 | b1 | b2))
    return het_het, opposite, het_hom, hom_het, both


@numba.njit(nogil=True, cache=True)
def count_pairs(left, right, n_words, same, counts):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add the genotypes of every pair to `counts` (5, samples, samples): both heterozygous, opposite homozygotes,
    heterozygous and homozygous, homozygous and heterozygous, both called. Of the `same` band only pairs above the diagonal.
    """
    n, m = left.shape[1], right.shape[1]
    for i0 in range(0, n, BLOCK):
        for j0 in range(i0 if same else 0, m, BLOCK):
            for i in range(i0, min(i0 + BLOCK, n)):
                for j in range(max(j0, i + 1) if same else j0, min(j0 + BLOCK, m)):
                    found = _count_pair(left, right, i, j, n_words)
                    counts[0, i, j] += found[0]
                    counts[1, i, j] += found[1]
                    counts[2, i, j] += found[2]
                    counts[3, i, j] += found[3]
                    counts[4, i, j] += found[4]
