"""How well variants were imputed: IMPUTE's INFO and Minimac's R², both estimates of the squared correlation with the truth.

With n samples that have a genotype, dosages d on the scale 0 to 2, E[g²] from the genotype probabilities, haplotype dosages h,
and the frequency θ of ALT:

    INFO = 1 − Σ(E[g²] − d²) / Vθ(1−θ)                      1 where θ is 0 or 1
    R²   = Σw(h − θ)² / Σwθ(1−θ)                            from haplotypes, each counted w times
    R²   = Σ(d − 2θ)² / Vθ(1−θ)                             without them: the variance of d over that of a binomial

Rows hold a haploid genotype as 0 or 2 copies, whose variance is 4θ(1−θ), where that of two alleles is 2θ(1−θ): of n samples
of which n₁ are haploid, V = 2n + 2n₁. Their one haplotype counts w = 2 times. An allele counts once in the frequency,
θ = (Σd − ½ Σ₁d) / (2n − n₁), where Σ₁ is over the haploid. A ploidy above two counts as two.

References
----------
Marchini J & Howie B (2010), Genotype imputation for genome-wide association studies, Nature Reviews Genetics 11:499.
Das S et al. (2016), Next-generation genotype imputation service and methods, Nature Genetics 48:1284.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.files.encoding import Encoding
from biolmm.files.genotypes import Block
from biolmm.store.count import count_dosages
from biolmm.store.data import Quality

Sums = NDArray[np.float64]
"""(b,) A sum over the samples with a genotype, for each variant."""


@dataclass(frozen=True, eq=False)
class DosageSums:
    """What both measures need of the dosages of b variants.

    Attributes
    ----------
    called
        (b,) Samples with a genotype.
    total, squares
        (b,) Σd and Σd².
    haploid_count, haploid_total
        (b,) How many of the samples are haploid, and their part of Σd; 0 where none is.
    """

    called: NDArray[np.integer]
    total: Sums
    squares: Sums
    haploid_count: NDArray[np.integer] | int = 0
    haploid_total: Sums | float = 0.0

    @property
    def theta(self) -> Sums:
        """Frequency of ALT, by alleles."""
        return np.asarray((self.total - self.haploid_total / 2.0) / (2.0 * self.called - self.haploid_count))

    @property
    def weight(self) -> Sums:
        """V: what θ(1−θ) is multiplied by in the sum of the variances of all genotypes."""
        return np.asarray(2.0 * self.called + 2.0 * self.haploid_count)


def impute_info(sums: DosageSums, expected_squares: Sums) -> Sums:
    """Compute IMPUTE's INFO; NaN for variants without any genotype, and where `expected_squares` is.

    Examples
    --------
    Two people, dosages 0.5 and 1.5, from probabilities (½, ½, 0) and (0, ½, ½): E[g²] is 0.5 and 2.5.

    >>> impute_info(DosageSums(np.array([2]), np.array([2.0]), np.array([2.5])), np.array([3.0])).tolist()
    [0.5]

    Two haploid ones who carry ALT with probability ¼ and ¾: dosages 0.5 and 1.5, and E[g²] 1 and 3.

    >>> two = DosageSums(np.array([2]), np.array([2.0]), np.array([2.5]), np.array([2]), np.array([2.0]))
    >>> impute_info(two, np.array([4.0])).tolist()
    [0.25]
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        theta = sums.theta
        info = 1.0 - (expected_squares - sums.squares) / (sums.weight * theta * (1.0 - theta))
    fixed = ((theta == 0) | (theta == 1)) & ~np.isnan(expected_squares)
    return np.where(fixed, 1.0, info)


def minimac_r2(sums: DosageSums, haplotype_squares: Sums | None = None) -> Sums:
    """Compute Minimac's R², from haplotypes where they are not NaN; NaN for variants that do not vary.

    Examples
    --------
    >>> two = DosageSums(np.array([2]), np.array([2.0]), np.array([2.5]))
    >>> minimac_r2(two).tolist()
    [0.5]
    >>> minimac_r2(two, haplotype_squares=np.array([1.5])).tolist()
    [0.5]
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        theta, n = sums.theta, sums.called
        variance = theta * (1.0 - theta)
        r2 = (sums.squares - 4.0 * theta * sums.total + 4.0 * n * theta**2) / (sums.weight * variance)
        if haplotype_squares is not None:  # Σwh = Σd and Σw = 2n
            phased = (haplotype_squares - 2.0 * theta * sums.total + 2.0 * n * theta**2) / (2.0 * n * variance)
            r2 = np.where(np.isnan(haplotype_squares), r2, phased)
    return np.where(variance > 0, r2, np.nan)


def block_quality(block: Block, encoding: Encoding, has_haploid: NDArray[np.bool_] | None = None) -> Quality:
    """Measure the quality of the variants of a block of dosages, over all samples of its file.

    The sums of dosages are those of the file where the reader gives them, else of the encoded rows, which hold a dosage
    to half a step.

    Parameters
    ----------
    block, encoding
        The rows with their sums.
    has_haploid
        (b,) Variants at which some of the samples have to be haploid: men on X outside its pseudo-autosomal regions and on Y,
        everybody on MT. Their quality is NaN where the file names nobody as haploid, because its format cannot, or because
        it writes them as diploid, so that what to expect is not known. By default the file is believed.
    """
    counts = count_dosages(block.rows, encoding)
    none = np.zeros(len(counts.called), np.int64)
    count = none if block.haploid_count is None else np.maximum(block.haploid_count, 0)
    part = none if block.haploid_dosage_sum is None else block.haploid_dosage_sum
    sums = DosageSums(
        called=counts.called,
        total=counts.dosage_sum if block.dosage_sum is None else block.dosage_sum,
        squares=counts.dosage_squares if block.dosage_squares is None else block.dosage_squares,
        haploid_count=count,
        haploid_total=np.where(count > 0, part, 0.0),
    )
    info = np.full(len(none), np.nan) if block.expected_squares is None else impute_info(sums, block.expected_squares)
    measures = [info, minimac_r2(sums, block.haplotype_squares)]
    if has_haploid is not None:
        measures = [np.where(has_haploid & (count == 0), np.nan, each) for each in measures]
    return Quality(info=measures[0].astype(np.float32), r2=measures[1].astype(np.float32))
