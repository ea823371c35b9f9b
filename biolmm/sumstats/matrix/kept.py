"""What the studies that stay in a store say of its variants, when others are replaced or removed.

Strands of palindromic variants are told by the first study's frequencies. When that study goes, so do they: the variants
are judged again, as though the store had been made of the studies that stay, in the order in which they were added. Every
palindromic cell that is there has been brought to one side of one half, so all cells of a variant turn, or none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.sumstats.matrix.layout import FREQUENCY, STATUS
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.status import Status

ADDED = "added"
"""Attribute of a study: its number in the order in which studies were added, which that of the columns need not be."""

STRAND_TURNED, ALLELES_TURNED = 1, 2
"""Bits of `Variants.turned`: cells go to the other strand, because of frequencies; REF and ALT change places."""

TURNING = ("beta", "eaf", STATUS)
"""Arrays over variants and studies that depend on which allele is ALT."""

_PRESENT, _SWAPPED, _BY_FREQUENCY = (
    np.uint16(bit.value) for bit in (Status.PRESENT, Status.SWAPPED, Status.STRAND_BY_FREQUENCY)
)
_BAD_STRAND, _REF_KNOWN = np.uint16(Status.BAD_STRAND.value), np.uint16(Status.REF_KNOWN.value)


@dataclass(frozen=True)
class KeptStudies:
    """The studies of a store that stay, in the order in which they were added."""

    store: SumstatsStore
    studies: Sequence[int]

    @classmethod
    def without(cls, store: SumstatsStore, gone: Collection[int]) -> KeptStudies:
        """Leave the columns `gone` out."""
        order = sorted(range(store.n_studies), key=lambda at: added_number(store, at))
        return cls(store, tuple(at for at in order if at not in gone))

    def judge(self, chunk: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Give the frequency of ALT of a chunk's variants, and which of them change their strand.

        Notes
        -----
        **Cost**: nothing where all studies stay; else status and frequencies of the chunk, of as many studies as it takes.
        """
        known: NDArray[np.float32] = self.store.read_column(FREQUENCY, chunk)
        turned = np.zeros(len(known), np.int8)
        if len(self.studies) == self.store.n_studies:
            return known, turned
        found = np.full(len(known), np.nan, np.float32)
        for study in self.studies:
            status, eaf = (self.store.read_cells(name, chunk, study) for name in (STATUS, "eaf"))
            first = np.isnan(found) & ((status & _PRESENT) > 0) & ~np.isnan(eaf)
            other_strand = first & ((status & _BY_FREQUENCY) > 0)
            found[first] = np.where(other_strand, 1 - eaf, eaf)[first]
            turned[other_strand] = STRAND_TURNED
            if not np.isnan(found).any():
                break
        return found, turned

    def know_ref(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say of variants, by their rows, ascending, whether a study that stays knows which allele is REF."""
        known = np.zeros(len(rows), np.bool_)
        chunks = rows // self.store.chunk_variants
        for chunk in np.unique(chunks).tolist():
            here = chunks == chunk
            inside = rows[here] - chunk * self.store.chunk_variants
            for study in self.studies:
                known[here] |= (self.store.read_cells(STATUS, chunk, study)[inside] & _REF_KNOWN) > 0
        return known


def added_number(store: SumstatsStore, study: int) -> int:
    """Give a study's number in the order of adding; in stores that do not say, that of its column."""
    return int(store.studies[study].get(ADDED, study))


def turn_cells(name: str, values: NDArray[Any], turned: NDArray[np.int8]) -> NDArray[Any]:
    """Turn cells of one of `TURNING`.

    Examples
    --------
    >>> turn_cells("eaf", np.array([0.25, 0.25]), np.array([0, 1], np.int8))
    array([0.25, 0.75])
    """
    if name == "beta":
        return np.where(turned != 0, -values, values)
    if name == "eaf":
        return np.where(turned != 0, 1 - values, values)
    strand = (turned == STRAND_TURNED) & (values != 0) & ((values & _BAD_STRAND) == 0)
    alleles = (turned == ALLELES_TURNED) & (values != 0)
    bits = np.where(strand, _SWAPPED | _BY_FREQUENCY, np.where(alleles, _SWAPPED, np.uint16(0))).astype(np.uint16)
    return values ^ bits
