"""METAL's rule for pairs of alleles: in the order of the alphabet, complemented unless the pair begins with a or is c/g.

1 to 4 stand for a, c, g, t. Of two alleles the one first in the alphabet comes first, which negates the effect where they
are swapped. A pair that begins with another letter than a and is not c/g is read on the other strand, and sorted again. So
a single-base pair is always one of a/c a/g a/t c/g. A/T and C/G stay on their strand, whichever it was. Alleles of several
letters are sorted, and have no complement.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_COMPLEMENT = {"a": "t", "c": "g", "g": "c", "t": "a"}
_NUMBERS = {"1": "a", "2": "c", "3": "g", "4": "t"}
_BASES = "acgt"


@dataclass(frozen=True)
class Pair:
    """A pair of alleles by METAL's rule, whether the effect changes its sign, and whether it was complemented."""

    first: str
    second: str
    negated: bool
    complemented: bool


def complement(allele: str) -> str:
    """Complement a single base; others are as they are."""
    return _COMPLEMENT.get(allele, allele)


@lru_cache(maxsize=4096)
def metal_pair(first: str, second: str, reverse: bool = False) -> Pair:
    """Apply METAL's rule; `reverse` for alleles that are on the reverse strand.

    Examples
    --------
    >>> metal_pair("T", "C")
    Pair(first='a', second='g', negated=False, complemented=True)
    >>> metal_pair("AT", "A")
    Pair(first='a', second='at', negated=True, complemented=False)
    """
    one, two = (_NUMBERS.get(each, each.lower()) for each in (first, second))
    if reverse:
        one, two = complement(one), complement(two)
    negated = one > two
    if negated:
        one, two = two, one
    if one == "a" or (one == "c" and two == "g"):
        return Pair(one, two, negated, False)
    one, two = complement(one), complement(two)
    if one > two:
        return Pair(two, one, not negated, True)
    return Pair(one, two, negated, True)


@dataclass
class PairTable:
    """Numbers of the pairs that were met; those of single bases are known beforehand.

    Attributes
    ----------
    known
        Pairs by number.
    of_bases
        For each of 16 codes 4 × first + second of bases: the number of its pair, whether negated, whether complemented.
    """

    known: list[tuple[str, str]] = field(default_factory=list)
    _number: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Number the pairs of bases."""
        self.of_bases = np.array([self.coded(a, b, False) for a in _BASES for b in _BASES], np.int32)

    def coded(self, first: str, second: str, reverse: bool) -> tuple[int, bool, bool]:
        """Give a pair's number, and whether it is negated and complemented."""
        pair = metal_pair(first, second, reverse)
        key = (pair.first, pair.second)
        if key not in self._number:
            self._number[key] = len(self.known)
            self.known.append(key)
        return self._number[key], pair.negated, pair.complemented

    def printed(self) -> NDArray[np.object_]:
        """Give what METAL prints of each pair, (pairs, 2): as it is, and complemented; and last of no pair."""
        out = np.empty((len(self.known) + 1, 2), object)
        for i, pair in enumerate(self.known):
            out[i, 0] = "\t".join(pair)
            out[i, 1] = "\t".join(complement(each) for each in pair)
        out[-1] = "\t"
        return out
