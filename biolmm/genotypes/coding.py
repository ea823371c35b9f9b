"""How much a genotype counts for whom: sex chromosomes and haploid contigs.

Rows hold dosages from 0 to 2 for everybody, haploid genotypes as 0 or 2 (as PLINK stores them). The statistics use
w · d with a weight w for each sex and kind of contig:

    kind of contig                      females and unknown     males
    autosomes, pseudo-autosomal         1                       1
    X, males 0/2 (full inactivation)    1                       1
    X, males 0/1 (no inactivation)      1                       ½
    Y                                   not counted             ½
    haploid (mitochondria)              ½                       ½

These are PLINK 2's (`--xchr-model 2` and `1`). Frequencies count alleles: two of a female and one of a male on X.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from biolmm.contigs import Ploidy
from biolmm.files.encoding import Encoding, Rows
from biolmm.genotypes.moments import Moments, SampleMasks, row_moments

MALE = 1

MaleX = Literal["0/2", "0/1"]
"""How males count on X outside the pseudo-autosomal regions."""


@dataclass(frozen=True)
class Coding:
    """Weights of the cohort's samples.

    Attributes
    ----------
    male
        (N,) who is male.
    male_x
        How males count on X.
    """

    male: NDArray[np.bool_]
    male_x: MaleX = "0/2"

    @classmethod
    def diploid(cls, n_samples: int) -> Coding:
        """Count everybody alike, as females."""
        return cls(np.zeros(n_samples, dtype=bool))

    def weights(self, ploidy: int) -> tuple[float, float]:
        """Return the weights of females (and unknown) and of males; 0 does not count at all."""
        if ploidy == Ploidy.X:
            return 1.0, 0.5 if self.male_x == "0/1" else 1.0
        if ploidy == Ploidy.Y:
            return 0.0, 0.5
        return (0.5, 0.5) if ploidy == Ploidy.HAPLOID else (1.0, 1.0)

    def splits(self, ploidy: int) -> bool:
        """Whether males count otherwise than the others."""
        female, male = self.weights(ploidy)
        return female != male and bool(self.male.any())

    def count(self, rows: Rows, encoding: Encoding, masks: SampleMasks, ploidy: int) -> Counted:
        """Add up w · d and count alleles under sets of samples, each (b, k)."""
        female, male = self.weights(ploidy)
        if ploidy != Ploidy.X and female == male:
            moments = row_moments(rows, encoding, masks).scaled(female)
            return Counted(moments, moments.total, (2.0 if ploidy == Ploidy.DIPLOID else 1.0) * moments.called)
        males = row_moments(rows, encoding, masks.within(self.male))
        alt, n = males.total / 2, males.called
        moments = males.scaled(male)
        if female > 0:
            others = row_moments(rows, encoding, masks.within(~self.male))
            alt, n, moments = alt + others.total, n + 2 * others.called, moments + others.scaled(female)
        return Counted(moments, alt, n)


@dataclass(frozen=True)
class Counted:
    """What the genotypes of some variants add up to under sets of samples, each (b, k).

    Attributes
    ----------
    moments
        Of w · d, which the statistics use.
    alt_alleles, n_alleles
        ALT alleles and all alleles, which frequencies are made of.
    """

    moments: Moments
    alt_alleles: NDArray[np.float64]
    n_alleles: NDArray[np.float64]

    def __getitem__(self, variants: NDArray[np.bool_] | slice) -> Counted:
        return Counted(self.moments[variants], self.alt_alleles[variants], self.n_alleles[variants])

    @property
    def frequency(self) -> NDArray[np.float64]:
        """Frequency of ALT; NaN where there is no allele."""
        unknown = np.full(self.n_alleles.shape, np.nan)
        return np.asarray(np.divide(self.alt_alleles, self.n_alleles, out=unknown, where=self.n_alleles > 0))
