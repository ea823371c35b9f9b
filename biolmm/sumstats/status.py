"""What happened to a record on its way into the store: one bit mask a cell, and counts by reason a study."""

from __future__ import annotations

from enum import IntFlag

import numpy as np
from numpy.typing import NDArray


class Status(IntFlag):
    """Bits of a cell of the store. 0: the study has no record of the variant."""

    PRESENT = 1
    """The record is there and is used."""
    SWAPPED = 2
    """The effect allele was REF: beta changed its sign, eaf became 1 − eaf."""
    COMPLEMENTED = 4
    """Alleles were of the other strand."""
    PALINDROMIC = 8
    """A/T or C/G: the strand is not known from the alleles."""
    STRAND_BY_FREQUENCY = 16
    """The frequency said that a palindromic variant is of the other strand; SWAPPED tells what was done."""
    DUPLICATED = 32
    """The study had further records of this variant, which were left out."""
    NORMALISED = 64
    """Alleles were trimmed or shifted to the left, by the reference."""
    P_DISAGREES = 128
    """The p-value is not that of beta / se and is kept in neg_log10_p."""
    DIRECTION_ONLY = 256
    """There is no standard error: beta is the direction (−1, 1) or an effect without one; neg_log10_p has the evidence."""
    VALUE_REMOVED = 512
    """Frequency, INFO or N was impossible and is missing now."""
    P_ZERO = 1024
    """p was 0 in the file, too small for the program that wrote it; beta / se is used."""
    BAD_EFFECT = 2048
    """Left out: no usable effect, or no number."""
    BAD_ERROR = 4096
    """Left out: the standard error is not above 0."""
    BAD_P = 8192
    """Left out: p is not in (0, 1], or is missing where it is all there is."""
    BAD_STRAND = 16384
    """Left out: palindromic, and the frequencies do not tell the strand, or `drop` was asked for."""
    REF_KNOWN = 32768
    """An insertion or deletion of which the file, or the reference, says which allele is REF."""


LEFT_OUT = Status.BAD_EFFECT | Status.BAD_ERROR | Status.BAD_P | Status.BAD_STRAND
"""Bits of cells without numbers."""

WITHOUT_CELL = {
    "no_place": "contig or position is missing or is no position",
    "bad_alleles": "alleles are missing, equal, or no alleles (0, N, I/D, …)",
    "not_in_reference": "neither allele, on either strand, is what the reference has there",
    "ambiguous_indel": "an indel whose REF is not known, where the catalogue has it both ways round",
    "duplicate": "a further record of a variant that the study has already",
    "unknown_id": "the identifier is not in the catalogue, and the file has no positions",
    "other_test": "a line of another test than the additive one",
}
"""Reasons why a record has no cell in the store, so that it is in the counts only."""


def count_by_reason(status: NDArray[np.uint16]) -> dict[str, int]:
    """Count the cells with each bit.

    Examples
    --------
    >>> count_by_reason(np.array([1, 3, 0, 16384 + 8], np.uint16))
    {'present': 2, 'swapped': 1, 'palindromic': 1, 'bad_strand': 1}
    """
    counted = {bit.name.lower(): int(np.count_nonzero(status & bit.value)) for bit in Status if bit.name}
    return {name: n for name, n in counted.items() if n}
