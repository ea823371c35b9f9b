"""Stratified LD score regression: heritability by annotation, its enrichment, and tests of one annotation given the others.

    E[χ²_j] = N_j Σ_c τ_c ℓ(j, c) + a        h²(c) = Σ_d |c ∩ d| τ_d        enrichment = (h²(c) / h²) / (M_c / M)

(Finucane et al. 2015, doi 10.1038/ng.3404; tests of cell types: Finucane et al. 2018, doi 10.1038/s41588-018-0081-4.) One
weighted fit with weights from the mean χ² and the sum of all LD scores; variants of χ² ≥ max(0.001 N_max, 80) are left out.
h² = Σ_c M_c τ_c is the total whether annotations overlap or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from biolmm.chunks import map_tasks
from biolmm.errors import InputFileError, ParameterError, named
from biolmm.files.ldscore_files import LdScoreTable, Overlap, beside
from biolmm.sumstats.ldsc.jackknife import N_BLOCKS, covariance, standard_error
from biolmm.sumstats.ldsc.join import Joined, join
from biolmm.sumstats.ldsc.munge import TraitStatistics
from biolmm.sumstats.ldsc.regression import LEAST_VARIANTS

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

LEAST_CHISQ_LIMIT = 80.0
DEPENDENT = 1e-10
"""An eigenvalue of the scaled normal equations below this: annotations add up to each other."""


@dataclass(frozen=True)
class PartitionedConfig:
    """How to regress.

    Attributes
    ----------
    n_blocks
        Of the jackknife.
    chisq_max
        Variants of χ² from here on are left out; None: the larger of 0.001 N_max and 80.
    intercept
        Fix it; None: estimate it.
    """

    n_blocks: int = N_BLOCKS
    chisq_max: float | None = None
    intercept: float | None = None


@dataclass(frozen=True, eq=False)
class Partitioned:
    """A trait's coefficients.

    Attributes
    ----------
    trait, annotations, n_variants
        What was fitted, on how many variants.
    tau, tau_covariance
        (c,) coefficients, and (c, c) by the jackknife.
    tau_deleted
        (B, c) without each block.
    m
        (c,) variants of each annotation.
    intercept, intercept_se
        1 + confounding.
    flags
        What to doubt.
    """

    trait: str
    annotations: tuple[str, ...]
    n_variants: int
    tau: Vector
    tau_covariance: Matrix
    tau_deleted: Matrix
    m: Vector
    intercept: float
    intercept_se: float
    flags: tuple[str, ...]

    @property
    def h2(self) -> float:
        """Heritability of all annotations together."""
        return float(self.m @ self.tau)

    @property
    def h2_se(self) -> float:
        """Its standard error by the jackknife."""
        return standard_error(self.h2, self.tau_deleted @ self.m)


def fit_partitioned(joined: Joined, config: PartitionedConfig | None = None) -> Partitioned:
    """Fit the coefficients of every annotation, of the first trait.

    Raises
    ------
    ParameterError
        When too few variants are left for so many annotations.
    InputFileError
        When annotations add up to each other, so that their coefficients cannot be told apart.

    Notes
    -----
    **Cost**: one pass, 2 n c² operations, a block of variants at a time.
    """
    config = config or PartitionedConfig()
    chisq, n = joined.Z[0] ** 2, joined.N[0]
    limit = config.chisq_max or max(0.001 * float(n.max()), LEAST_CHISQ_LIMIT)
    kept = np.flatnonzero(chisq < limit)  # false where there is none
    c = len(joined.annotations)
    if len(kept) < max(LEAST_VARIANTS, 2 * c):
        raise ParameterError(f"{len(kept):,} variants of {joined.names[0]} are too few for {c:,} annotations.")
    B = min(config.n_blocks, len(kept))
    edges = np.floor(np.linspace(0, len(kept), B + 1)).astype(np.int64)
    free = config.intercept is None
    start = 1.0 if config.intercept is None else config.intercept
    weights = _weights(joined, kept, start)
    items = [kept[first:last] for first, last in pairwise(edges.tolist())]
    parts = map_tasks(_normal_equations, items, (joined, weights, start if not free else 0.0))
    XX, Xy = np.array([part[0] for part in parts]), np.array([part[1] for part in parts])
    size = c + free
    XX, Xy = XX[:, :size, :size], Xy[:, :size]
    total, right = XX.sum(axis=0), Xy.sum(axis=0)
    scale = np.sqrt(np.diag(total))
    _check_independent(total, scale, (*joined.annotations, "the intercept"))
    scaled = (total - XX) / np.outer(scale, scale)
    coefficients = np.linalg.solve(total / np.outer(scale, scale), right / scale) / scale
    deleted = np.linalg.solve(scaled, ((right - Xy) / scale)[..., None])[..., 0] / scale
    all_covariance = covariance(coefficients, deleted)
    tau = coefficients[:c]
    dropped = int(np.count_nonzero(chisq >= limit))
    flags = list(joined.flags[0]) + (
        [f"{dropped:,} variants with chi-squared of {limit:.4g} or more left out"] if dropped else []
    )
    h2 = float(joined.m @ tau)
    if not 0 <= h2 <= 1:
        flags.append(
            f"h2 is {h2:.4g}, out of range" + ("" if h2 > 0 else ": proportions and enrichments have no meaning")
        )
    return Partitioned(
        joined.names[0], joined.annotations, len(kept), tau, all_covariance[:c, :c], deleted[:, :c], joined.m,
        float(coefficients[c]) if free else start, float(np.sqrt(all_covariance[c, c])) if free else np.nan, tuple(flags),
    )  # fmt: skip


def _weights(joined: Joined, kept: NDArray[np.int64], intercept: float) -> Vector:
    """Weigh by the mean χ² and the sum of the LD scores, (n,)."""
    m = joined.m.sum()
    ld, n = joined.scores.sum(axis=1), joined.N[0]
    aggregate = m * (np.mean(joined.Z[0, kept] ** 2) - intercept) / np.mean(n[kept] * ld[kept])
    spread = intercept + np.clip(aggregate, 0, 1) * n / m * np.maximum(ld, 1)
    return np.asarray(1 / (np.maximum(joined.w_ld, 1) * 2 * spread**2))


def _normal_equations(rows: NDArray[np.int64], shared: tuple[Joined, Vector, float]) -> tuple[Matrix, Vector]:
    """Return XᵀWX and XᵀWy of a block; X has the scores times N, and ones."""
    joined, weights, intercept = shared
    root = np.sqrt(weights[rows])
    X = np.empty((len(rows), joined.scores.shape[1] + 1))
    np.multiply(joined.scores[rows], (root * joined.N[0, rows])[:, None], out=X[:, :-1])
    X[:, -1] = root
    return X.T @ X, X.T @ (root * (joined.Z[0, rows] ** 2 - intercept))


def _check_independent(total: Matrix, scale: Vector, names: Sequence[str]) -> None:
    empty = [name for name, size in zip(names, scale, strict=False) if not size > 0]
    if empty:
        raise InputFileError(f"LD scores are 0 throughout in {named(empty)}: leave these annotations out.")
    values, vectors = np.linalg.eigh(total / np.outer(scale, scale))
    if values[0] < DEPENDENT * values[-1]:
        share = np.abs(vectors[:, 0])
        culprits = [names[i] for i in np.argsort(-share) if share[i] > 0.1 * share.max()]
        raise InputFileError(
            "annotations add up to each other, so that their coefficients cannot be told apart: "
            f"{named(culprits)}. Leave one out."
        )


def partitioned_table(found: Partitioned, overlap: Overlap | None = None) -> pd.DataFrame:
    """Make a table, a row an annotation: share of h², enrichment, coefficient, and their tests.

    Parameters
    ----------
    found
        Coefficients.
    overlap
        The variants that annotations share, of the kind that M counts; without it annotations do not overlap.

    Raises
    ------
    InputFileError
        When the overlap is of other annotations.

    Notes
    -----
    `enrichment_p` tests, by Student's t with as many degrees of freedom as blocks, that a variant in the annotation has the
    same heritability as one outside; `coefficient_p` is one-sided, τ > 0.
    """
    m, tau = found.m, found.tau
    if overlap is None:
        shared, n_variants = np.diag(m), float(m.sum())
    else:
        if overlap.names != found.annotations:
            raise InputFileError(
                f"the overlap is of {named(overlap.names)}, but the LD scores are of {named(found.annotations)}."
            )
        shared, n_variants = overlap.shared, float(overlap.n_variants)
    B = len(found.tau_deleted)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = shared / m[:, None]
        outside = (m[None, :] - shared) / (n_variants - m)[:, None]
        # Per-variant heritability inside minus outside; of an annotation of everything there is no outside.
        contrast = np.where((m < n_variants)[:, None], inside - outside, 0.0)
        h2 = found.h2
        share = shared @ tau / h2
        deleted_share = (found.tau_deleted @ shared.T) / (found.tau_deleted @ m)[:, None]
        share_se = np.sqrt(np.diag(covariance(share, deleted_share)))
        of_variants = m / n_variants
        difference = contrast @ tau
        difference_se = np.sqrt(np.maximum(np.einsum("cd,de,ce->c", contrast, found.tau_covariance, contrast), 0))
        t = np.where(difference_se > 0, np.abs(difference) / difference_se, np.nan)
        se = np.sqrt(np.diag(found.tau_covariance))
        z = tau / se
        return pd.DataFrame(
            {
                "annotation": list(found.annotations),
                "share_of_variants": of_variants,
                "h2": shared @ tau,
                "share_of_h2": share,
                "share_of_h2_se": share_se,
                "enrichment": share / of_variants,
                "enrichment_se": share_se / of_variants,
                "enrichment_p": 2 * special.stdtr(B, -t),
                "coefficient": tau,
                "coefficient_se": se,
                "coefficient_z": z,
                "coefficient_p": special.ndtr(-z),
            }
        )


def rank_cell_types(
    trait: TraitStatistics,
    baseline: LdScoreTable,
    cell_types: Sequence[tuple[str, LdScoreTable]],
    weights: LdScoreTable | None = None,
    config: PartitionedConfig | None = None,
    *,
    common: bool = True,
) -> pd.DataFrame:
    """Test the annotations of each cell type given those of the baseline, one cell type at a time.

    Parameters
    ----------
    trait
        Munged.
    baseline
        LD scores of the annotations to be given.
    cell_types
        Names and LD scores; the first annotation of each is tested, others (controls) are fitted beside it.
    weights, common
        As `join`.

    Returns
    -------
    A row a cell type, the smallest p first: coefficient, its standard error, and the one-sided p of τ > 0.
    """
    rows = []
    for name, scores in cell_types:
        joined = join([trait], beside([scores, baseline]), weights, common=common)
        found = fit_partitioned(joined, config)
        se = float(np.sqrt(found.tau_covariance[0, 0]))
        rows.append({"cell_type": name, "coefficient": found.tau[0], "coefficient_se": se,
                     "coefficient_p": float(special.ndtr(-found.tau[0] / se))})  # fmt: skip
    return pd.DataFrame(rows).sort_values("coefficient_p", ignore_index=True)
