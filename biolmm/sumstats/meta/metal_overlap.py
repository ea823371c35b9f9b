"""METAL's sequential correction for shared samples (`OVERLAP ON`), for comparison with METAL's files.

Studies are taken in order. For each, variants that it and the earlier ones have are put into bins of int(N + n)/1000 and in
every bin ρ̂ is the truncated maximum likelihood estimate of the correlation between the earlier Z = S/√W and the new z,
0 where it is negative:

    n₁₂ = ρ̂ √(W n),   S += √n z,   W += n + 2 n₁₂,   N += n − n₁₂,   Z = S / √W

The variance is right and the weights are not the best: the result depends on the order of the studies. The analysis to use
is `biolmm/sumstats/meta/overlap.py`. It needs all variants at once, as bins run over the genome.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biolmm.errors import ParameterError
from biolmm.results.diagnostics import neg_log10_p
from biolmm.sumstats.meta.block import StudyBlock, Vector, check_lambdas
from biolmm.sumstats.meta.overlap import truncated_correlation

_BIN = 1000


@dataclass(frozen=True)
class OverlapStep:
    """The correlation that was found in a bin when a study was added."""

    study: int
    bin_start: int
    n_variants: int
    correlation: float


@dataclass(frozen=True, eq=False)
class MetalOverlap:
    """METAL's columns Weight, Zscore, N and P-value with `OVERLAP ON`, and what was found on the way."""

    weight: Vector
    z: Vector
    n: Vector
    neg_log10_p: Vector
    steps: tuple[OverlapStep, ...]


def metal_overlap(block: StudyBlock, cutoff: float = 1.0, lambda_gc: ArrayLike | None = None) -> MetalOverlap:
    """Combine signed statistics study by study as METAL does with `SCHEME SAMPLESIZE` and `OVERLAP ON`.

    Parameters
    ----------
    block
        All variants of the analysis.
    cutoff
        METAL's ZCUTOFF.
    lambda_gc
        Genomic control, a factor a study.

    Raises
    ------
    ParameterError
        When the block has no `n` or the cutoff is not above 0.
    """
    if block.n is None:
        raise ParameterError("The block has no sample sizes, which this analysis weighs by; give n.")
    if not cutoff > 0:
        raise ParameterError(f"The cutoff of |z| is {cutoff} but must be above 0.")
    statistics = block.z_scores() / np.sqrt(check_lambdas(lambda_gc, block.n_studies))
    total, weight, size = np.zeros((3, block.n_variants))
    steps: list[OverlapStep] = []
    for study in range(block.n_studies):
        z, n = statistics[:, study], block.n[:, study]
        new = ~np.isnan(z) & ~np.isnan(n)
        shared = np.zeros(block.n_variants)
        rows = np.flatnonzero(new & (weight > 0))
        earlier = total[rows] / np.sqrt(weight[rows])
        bins = (size[rows] + n[rows]).astype(np.int64) // _BIN
        for each in np.unique(bins):
            inside = rows[bins == each]
            step = _step(study, int(each), earlier[bins == each], z[inside], cutoff)
            shared[inside] = step.correlation * np.sqrt(weight[inside] * n[inside])
            steps.append(step)
        total[new] += np.sqrt(n[new]) * z[new]
        weight[new] += n[new] + 2 * shared[new]
        size[new] += n[new] - shared[new]
    with np.errstate(invalid="ignore"):
        z_all = total / np.sqrt(weight)
    return MetalOverlap(weight, z_all, size, neg_log10_p(z_all), tuple(steps))


def _step(study: int, bin_number: int, earlier: Vector, new: NDArray[np.float64], cutoff: float) -> OverlapStep:
    """Estimate the correlation within a bin."""
    small = (np.abs(earlier) < cutoff) & (np.abs(new) < cutoff)
    x, y = earlier[small], new[small]
    rho = 0.0
    if x.size:
        rho = max(0.0, truncated_correlation(float(x.size), float(x @ x + y @ y), float(x @ y), cutoff)[0])
    return OverlapStep(study, bin_number * _BIN, int(x.size), rho)
