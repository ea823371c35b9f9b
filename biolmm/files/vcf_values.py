"""What VCF and BCF have in common: the values of a record, and the dosages they mean.

A value of a sample is taken from the first of these fields that has one: DS (dosages of the ALT alleles), GP
(probabilities of the genotypes), HDS (dosages of the two haplotypes), GT (alleles). A haploid sample counts twice, as in
PLINK: alleles 0 and 1 are 0 and 2 copies, a DS of 0.3 is a dosage of 0.6. It is one whose GT is a single allele; where GT
is absent or missing, one with as many GP as there are alleles, or with a single HDS. A DS alone, without any of these,
cannot say it, and is taken as that of a diploid sample.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

FIELDS = ("GT", "DS", "HDS", "GP")
"""Fields of FORMAT that are read, in the order of every table of them here."""

GT, DS, HDS, GP = range(4)

MISSING_ALLELE = -1
NO_ALLELE = -2
"""What stands for the second allele of a haploid call."""

SLACK = 0.01
"""How far a rounded dosage or probability may lie outside its range."""


class Trouble(Enum):
    """What is wrong with a record; kernels return these numbers, and 0 for nothing."""

    TOO_FEW_COLUMNS = 1
    EMPTY_ALLELE = 2
    POSITION = 3
    SAMPLES = 4
    GENOTYPE = 5
    PLOIDY = 6
    DS = 7
    HDS = 8
    GP = 9
    DS_RANGE = 10
    HDS_RANGE = 11
    GP_SUM = 12
    RECORD = 13
    CONTIG = 14


class Cell(NamedTuple):
    """A sample of a record and what is wrong there; `trouble` is 0 when nothing is."""

    record: int
    sample: int
    trouble: int


@dataclass(frozen=True, eq=False)
class RecordValues:
    """All values of one record.

    Attributes
    ----------
    alleles
        (N, 2) allele numbers, `MISSING_ALLELE`, or `NO_ALLELE`.
    numbers
        (N, sum of widths) DS, HDS and GP, one after another; NaN where there is none.
    widths
        (3,) columns of DS, HDS and GP; 0 where a field is not read.
    """

    alleles: NDArray[np.int64]
    numbers: NDArray[np.float64]
    widths: NDArray[np.int64]

    @classmethod
    def empty(cls, n_samples: int, n_alt: int, has_field: NDArray[np.bool_]) -> RecordValues:
        """Make room for the fields of a record; haplotype dosages are defined for one ALT allele only."""
        n_genotypes = (n_alt + 1) * (n_alt + 2) // 2
        widths = np.array([n_alt, 2 * (n_alt == 1), n_genotypes]) * has_field[[DS, HDS, GP]]
        alleles = np.empty((n_samples, 2), np.int64)
        alleles[:] = MISSING_ALLELE, NO_ALLELE
        return cls(alleles, np.full((n_samples, int(widths.sum())), np.nan), widths)


class VcfRun(ABC):
    """Consecutive records in memory, their columns found.

    Attributes
    ----------
    data
        The bytes of the records.
    n_samples
        Samples of the file.
    starts
        Where each record begins in `data`.
    position, n_alts
        POS and number of ALT alleles of each record.
    trouble
        The first record that cannot be understood, with the reason; the tables are not filled from there on.
    """

    data: NDArray[np.uint8]
    n_samples: int
    starts: NDArray[np.int64]
    position: NDArray[np.int64]
    n_alts: NDArray[np.int64]
    trouble: tuple[int, Trouble] | None

    @property
    @abstractmethod
    def has_field(self) -> NDArray[np.bool_]:
        """(records, 4) whether a record has each of `FIELDS`."""

    @abstractmethod
    def contig_changes(self) -> NDArray[np.bool_]:
        """Tell of each record whether its contig is another than that of the record before; true for the first."""

    @abstractmethod
    def contig_name(self, record: int) -> str:
        """Return the contig of a record."""

    @abstractmethod
    def row_bounds(self) -> NDArray[np.int64]:
        """Where ID, REF and ALT of each row begin and end in `data`, (rows, 3, 2)."""

    @abstractmethod
    def read_calls(self, first: int, last: int, calls: NDArray[np.int8]) -> Cell:
        """Read hard calls of records `first` to `last` into (rows, samples), −1 = missing; return what is wrong."""

    @abstractmethod
    def read_values(self, record: int, values: RecordValues) -> Cell:
        """Read all values of a record; return what is wrong."""

    @property
    def n(self) -> int:
        """Number of records."""
        return len(self.position)


@numba.njit(nogil=True, cache=True)
def is_key(data, p, end):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Tell which of `FIELDS` is at `p`; −1 when none is."""
    if end - p == 2:
        if data[p] == 71:
            return 0 if data[p + 1] == 84 else 3 if data[p + 1] == 80 else -1
        return 1 if data[p] == 68 and data[p + 1] == 83 else -1
    return 2 if end - p == 3 and data[p] == 72 and data[p + 1] == 68 and data[p + 2] == 83 else -1


@numba.njit(nogil=True, cache=True)
def settle_dosages(alleles, numbers, widths, dosages, total):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Turn a record's values into dosages of each ALT allele, and the sums of squares that qualities are made of.

    Parameters are those of `RecordValues`; `dosages` (n_alt, N) is filled, and `total` (6, n_alt) with the sums over the
    samples with a dosage of E[g²], h₁² + h₂², d, d², d of the haploid ones, and their number, NaN where one of them lacks
    what is summed. Returns the sample and what is wrong, or 0, 0.
    """
    n_alt, has_ds, has_hds = len(dosages), widths[0] > 0, widths[1] > 0
    total[:] = 0.0
    sums = np.zeros((2, n_alt))
    for s in range(len(alleles)):
        a, b = alleles[s, 0], alleles[s, 1]
        n_given = 0
        for k in range(widths[0]):
            n_given += numbers[s, k] == numbers[s, k]
        if n_given and n_given < n_alt:
            return s, 7
        trouble, n_genotypes = _sum_probabilities(numbers, widths[0] + widths[1], s, n_alt, sums)
        if trouble:
            return s, trouble
        h1 = h2 = np.nan
        if has_hds:
            h1, h2 = numbers[s, widths[0]], numbers[s, widths[0] + 1]
        ploidy = _ploidy(a, b, n_genotypes, n_alt, h1, h2)
        haploid = ploidy == 1
        if h1 == h1 and h2 != h2:
            h2 = h1
        if h1 == h1 and not (-SLACK <= h1 <= 1 + SLACK and -SLACK <= h2 <= 1 + SLACK):
            return s, 11
        for k in range(n_alt):
            value = np.nan
            if has_ds and numbers[s, k] == numbers[s, k]:
                value = numbers[s, k] * (2 if haploid else 1)
                if not -SLACK <= value <= 2 + SLACK:
                    return s, 10
            if value != value:
                value = sums[0, k]
            if value != value:
                value = h1 + h2
            if value != value and a >= 0 and b != MISSING_ALLELE:
                value = float((a == k + 1) + ((a if b == NO_ALLELE else b) == k + 1))
            dosages[k, s] = value
            if value == value:
                total[0, k] += sums[1, k]
                total[1, k] += h1 * h1 + h2 * h2
                total[2, k] += value
                total[3, k] += value * value
                if ploidy != 2:
                    total[4, k] += value if haploid else 0.0
                    total[5, k] += 1.0 if haploid else np.nan
    return 0, 0


@numba.njit(nogil=True, cache=True)
def _ploidy(a, b, n_genotypes, n_alt, h1, h2):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Tell the ploidy of a sample by its GT, where that is missing by how many GP or HDS it has; 0 when nothing says it."""
    if a >= 0:
        return 1 if b == NO_ALLELE else 2
    if n_genotypes:
        return 1 if n_genotypes == n_alt + 1 else 2
    if h1 == h1:
        return 2 if h2 == h2 else 1
    return 0 if b == NO_ALLELE else 2


@numba.njit(nogil=True, cache=True)
def _sum_probabilities(numbers, first, s, n_alt, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sum copies and squared copies of each ALT allele over the genotypes of one sample, NaN where there are none.

    Genotypes j/k of j ≤ k come in the order of k(k+1)/2 + j, those of a haploid sample in the order of alleles. Returns
    what is wrong, or 0, and how many probabilities there are.
    """
    for k in range(n_alt):
        sums[0, k] = sums[1, k] = np.nan
    n, n_given, total = 0, 0, 0.0
    n_genotypes = numbers.shape[1] - first
    for g in range(n_genotypes):
        p = numbers[s, first + g]
        if p == p:
            n = g + 1
            n_given += 1
            total += p
            if p < -SLACK or p > 1 + SLACK:
                return 12, 0
    if not n or total == 0:  # IMPUTE writes 0,0,0 for a missing genotype
        return 0, 0
    haploid = n == n_alt + 1
    if n_given < n or (n != n_genotypes and not haploid):
        return 9, 0
    if abs(total - 1) > SLACK * (n + 2):
        return 12, 0
    for k in range(n_alt):
        sums[0, k] = sums[1, k] = 0.0
    for k in range(n_alt + 1):
        for j in range(k, k + 1) if haploid else range(k + 1):
            p = numbers[s, first + k] if haploid else numbers[s, first + k * (k + 1) // 2 + j]
            if j == k and k:
                sums[0, k - 1] += 2 * p
                sums[1, k - 1] += 4 * p
            elif j != k:
                sums[0, k - 1] += p
                sums[1, k - 1] += p
                if j:
                    sums[0, j - 1] += p
                    sums[1, j - 1] += p
    return 0, n
