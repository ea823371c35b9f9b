"""The spectrum of PKP under each restriction: leading eigenpairs, exact trace, and the density of the rest.

A spectrum does not depend on the traits. It is what a new trait on the same samples needs to be fitted with one
Lanczos recursion of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.operator import GenotypeOperator
from biolmm.linalg.krylov import OVERSAMPLING, Eigenpairs, block_krylov_eigenpairs, leading_components
from biolmm.linalg.operators import RestrictedOperator, Restriction
from biolmm.linalg.probes import rademacher
from biolmm.reml.density import MIN_PROBES as MIN_PROBES
from biolmm.reml.density import Density
from biolmm.reml.likelihood import TraceMeasure
from biolmm.reml.probing import MAX_STEPS as MAX_STEPS

START_COLUMNS = 12
"""Random signs that the eigenpairs of the cohort start from, or half of the pairs wanted where that is more."""
MASKED_PRODUCTS = 3
"""At most so many products for the pairs of a mask class, which start from the cohort's."""
RANDOM_STARTS = 0
"""Random columns beside those: none. A principal submatrix has no larger eigenvalue than the whole."""
CHECKED_H2 = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
"""Where forms of traits are checked that serve every h²."""


@dataclass(frozen=True)
class SpectrumConfig:
    """How the spectrum is estimated.

    Attributes
    ----------
    n_pairs
        Leading eigenpairs wanted: principal components, deflation and the scan's denominator.
    tolerance
        Relative residual below which a pair counts as converged; others are not used.
    max_products
        Products spent on the eigenpairs of the cohort.
    seed
        Seed of every random column.
    """

    n_pairs: int = 20
    tolerance: float = 0.02
    max_products: int = 6
    seed: int = 1


@dataclass(frozen=True)
class Spectrum:
    """What is known of PKP under one restriction.

    Attributes
    ----------
    restriction
        Which samples and covariates.
    pairs
        Converged leading eigenpairs; with the exact solver too (there they only serve as components).
    measure
        Trace measure: all eigenvalues exactly, or the leading ones and quadrature for the rest.
    density
        The probes that quadrature is made of; None with the exact solver.
    """

    restriction: Restriction
    pairs: Eigenpairs
    measure: TraceMeasure
    density: Density | None = None

    @property
    def whole_trace(self) -> float:
        """tr(PKP): the sum of all eigenvalues."""
        return float(self.measure.trace + self.measure.values.sum())

    @property
    def tail_mean(self) -> float:
        """Mean of the eigenvalues that are not among the pairs."""
        total = self.measure.values.sum() + self.measure.trace
        rest = self.restriction.rank - len(self.pairs.values)
        return float(max(total - self.pairs.values.sum(), 0.0) / rest) if rest > 0 else 1.0


def exact_eigenpairs(
    K: NDArray[np.float64], restriction: Restriction
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the n − C eigenpairs of `P K P` on the observed rows, largest first: (n−C,) and (n, n−C)."""
    rows = np.flatnonzero(restriction.observed)
    Q = restriction.basis[rows]
    inner = K[np.ix_(rows, rows)]
    inner -= Q @ (Q.T @ inner)
    inner -= (inner @ Q) @ Q.T
    # K is positive semi-definite: with −1 on the span of Q, its C eigenvectors come first and the others are P's.
    inner -= Q @ Q.T
    values, vectors = np.linalg.eigh((inner + inner.T) / 2)
    n_covariates = Q.shape[1]
    return np.maximum(values[n_covariates:][::-1], 0.0), vectors[:, n_covariates:][:, ::-1]


def expanded(vectors: NDArray[np.float64], restriction: Restriction) -> NDArray[np.float32]:
    """Return columns over the observed rows as columns over all rows, zero elsewhere."""
    full = np.zeros((len(restriction.observed), vectors.shape[1]), np.float32)
    full[restriction.observed] = vectors
    return full


def leading_pairs(
    operator: GenotypeOperator,
    keys: NDArray[np.uint64],
    restrictions: Sequence[Restriction],
    config: SpectrumConfig,
    warm: Eigenpairs | None = None,
) -> list[Eigenpairs]:
    """Find the converged leading eigenpairs under each restriction, as far as they stand out from the bulk.

    Parameters
    ----------
    operator
        K.
    keys
        (N,) row keys, see `probes.row_keys`.
    restrictions
        Samples and covariates.
    config
        How many and how well.
    warm
        Eigenpairs of the whole cohort to start from, where the restrictions only mask some samples.

    Returns
    -------
    list[Eigenpairs]
        Converged pairs, largest first; possibly fewer than wanted.
    """
    wanted = config.n_pairs if warm is None else len(warm.values)
    if wanted == 0:
        empty = Eigenpairs(np.zeros(0), np.zeros((operator.n_samples, 0), np.float32), np.zeros(0))
        return [empty for _ in restrictions]
    if warm is None:
        n_columns = min(max(START_COLUMNS, wanted // 2 + 2), wanted + OVERSAMPLING)
        start = rademacher(keys, "eigenpairs", range(n_columns), config.seed)
    else:
        start = warm.vectors
    found = block_krylov_eigenpairs(
        operator.matmat,
        restrictions,
        [start] * len(restrictions),
        [min(wanted, restriction.rank) for restriction in restrictions],
        tolerance=config.tolerance,
        max_products=config.max_products if warm is None else min(config.max_products, MASKED_PRODUCTS),
        give_up=True,
    )
    return [pairs.leading(pairs.residuals < config.tolerance) for pairs in found]


def principal_components(
    operator: GenotypeOperator, keys: NDArray[np.uint64], restriction: Restriction, n_components: int, seed: int
) -> Eigenpairs:
    """Return exactly `n_components` leading eigenpairs of PKP, with their residuals, converged or not.

    Notes
    -----
    Cost: at most 10 passes with n_components + 10 columns.
    """
    return leading_components(operator.matmat, keys, restriction, n_components, seed)


@dataclass(frozen=True)
class DeflatedOperator:
    """`(I − UUᵀ) P K P (I − UUᵀ)` for runs of columns, each with its own restriction and eigenvectors."""

    operator: GenotypeOperator
    restrictions: Sequence[Restriction]
    pairs: Sequence[Eigenpairs]
    columns: Sequence[int]

    def __call__(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the product with columns that are deflated already."""
        product = RestrictedOperator(self.operator.matmat, self.restrictions, self.columns)(X)
        stop = 0
        for pairs, count in zip(self.pairs, self.columns, strict=True):
            start, stop = stop, stop + count
            product[:, start:stop] -= pairs.vectors @ (pairs.vectors.T @ product[:, start:stop])
        return product
