"""How well variants were imputed: IMPUTE's INFO and Minimac's R².

With n samples that have a genotype, dosages d, E[g²] from the genotype probabilities, haplotype dosages h, and the
frequency θ = Σd / 2n of ALT:

    INFO = 1 − Σ(E[g²] − d²) / 2nθ(1−θ)                     1 where θ is 0 or 1
    R²   = (Σh² / 2n − θ²) / θ(1−θ)                         from haplotypes
    R²   = (Σd² / n − 4θ²) / 2θ(1−θ)                        without them: the variance of d over that of a binomial

References
----------
Marchini J & Howie B (2010), Genotype imputation for genome-wide association studies, Nature Reviews Genetics 11:499.
Das S et al. (2016), Next-generation genotype imputation service and methods, Nature Genetics 48:1284.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from biolmm.files.encoding import Encoding
from biolmm.files.genotypes import Block
from biolmm.store.count import count_dosages
from biolmm.store.data import Quality

Sums = NDArray[np.float64]
"""(b,) A sum over the samples with a genotype, for each variant."""


def impute_info(called: NDArray[np.integer], dosage_sum: Sums, dosage_squares: Sums, expected_squares: Sums) -> Sums:
    """Compute IMPUTE's INFO; NaN for variants without any genotype, and where `expected_squares` is.

    Examples
    --------
    Two people, dosages 0.5 and 1.5, from probabilities (½, ½, 0) and (0, ½, ½): E[g²] is 0.5 and 2.5.

    >>> impute_info(np.array([2]), np.array([2.0]), np.array([2.5]), np.array([3.0])).tolist()
    [0.5]
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        theta = dosage_sum / (2.0 * called)
        info = 1.0 - (expected_squares - dosage_squares) / (2.0 * called * theta * (1.0 - theta))
    fixed = ((theta == 0) | (theta == 1)) & ~np.isnan(expected_squares)
    return np.where(fixed, 1.0, info)


def minimac_r2(
    called: NDArray[np.integer], dosage_sum: Sums, dosage_squares: Sums, haplotype_squares: Sums | None = None
) -> Sums:
    """Compute Minimac's R², from haplotypes where they are not NaN; NaN for variants that do not vary.

    Examples
    --------
    >>> two, half = np.array([2]), np.array([2.0])
    >>> minimac_r2(two, half, np.array([2.5])).tolist()
    [0.5]
    >>> minimac_r2(two, half, np.array([2.5]), haplotype_squares=np.array([1.5])).tolist()
    [0.5]
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        theta = dosage_sum / (2.0 * called)
        variance = theta * (1.0 - theta)
        r2 = (dosage_squares / called - 4.0 * theta**2) / (2.0 * variance)
        if haplotype_squares is not None:
            phased = (haplotype_squares / (2.0 * called) - theta**2) / variance
            r2 = np.where(np.isnan(haplotype_squares), r2, phased)
    return np.where(variance > 0, r2, np.nan)


def block_quality(block: Block, encoding: Encoding) -> Quality:
    """Measure the quality of the variants of a block of dosages, over all samples of its file.

    The sums of dosages are those of the file where the reader gives them, else of the encoded rows, which hold a dosage
    to half a step.
    """
    counts = count_dosages(block.rows, encoding)
    total = counts.dosage_sum if block.dosage_sum is None else block.dosage_sum
    squares = counts.dosage_squares if block.dosage_squares is None else block.dosage_squares
    if block.expected_squares is None:
        info = np.full(len(total), np.nan)
    else:
        info = impute_info(counts.called, total, squares, block.expected_squares)
    r2 = minimac_r2(counts.called, total, squares, block.haplotype_squares)
    return Quality(info=info.astype(np.float32), r2=r2.astype(np.float32))
