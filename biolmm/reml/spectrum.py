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
from biolmm.linalg.lanczos import Lanczos, Quadrature
from biolmm.linalg.operators import RestrictedOperator, Restriction
from biolmm.linalg.probes import rademacher
from biolmm.reml.likelihood import TraceMeasure

MIN_PROBES, MAX_PROBES = 16, 128
MAX_STEPS = 30
RANDOM_STARTS = 4
"""Random columns beside the cohort's eigenvectors in the start block of a mask class."""
CHECKED_H2 = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
QUADRATURE_TOLERANCE = 0.02
"""Steps go on while the score of h² still moves by more than this share of its standard deviation."""


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
    """

    restriction: Restriction
    pairs: Eigenpairs
    measure: TraceMeasure

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
    """Find the converged leading eigenpairs under each restriction.

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
    n_random = config.n_pairs + OVERSAMPLING if warm is None else RANDOM_STARTS
    random = rademacher(keys, "eigenpairs", range(n_random), config.seed)
    start = random if warm is None else np.concatenate([warm.vectors, random], axis=1)
    wanted = config.n_pairs if warm is None else len(warm.values)
    if wanted == 0:
        empty = Eigenpairs(np.zeros(0), np.zeros((operator.n_samples, 0), np.float32), np.zeros(0))
        return [empty for _ in restrictions]
    counts = [min(wanted, restriction.rank) for restriction in restrictions]
    found = block_krylov_eigenpairs(
        operator.matmat,
        restrictions,
        [start] * len(restrictions),
        counts,
        tolerance=config.tolerance,
        max_products=config.max_products if warm is None else 3,
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


class DensityRecursion:
    """Lanczos recursions of probes under several restrictions, advanced in shared products.

    Columns are in runs, one run a restriction. Every run stops by its own criterion, so what one restriction gets
    never depends on the others.
    """

    def __init__(
        self,
        operator: GenotypeOperator,
        restrictions: Sequence[Restriction],
        pairs: Sequence[Eigenpairs],
        traces: NDArray[np.float64],
    ) -> None:
        self.operator = operator
        self.restrictions = restrictions
        self.pairs = pairs
        self.traces = traces

    def run_probes(self, keys: NDArray[np.uint64], which: Sequence[int], probes: range, seed: int) -> list[Quadrature]:
        """Return the quadratures of some probes under each of the restrictions `which`."""
        blocks = [self.deflated(i, rademacher(keys, "probes", probes, seed)) for i in which]
        recursion = Lanczos(np.concatenate(blocks, axis=1))
        owner = np.repeat(np.arange(len(which)), len(probes))
        steps = np.zeros(len(which), dtype=np.int64)
        previous: list[NDArray[np.float64] | None] = [None] * len(which)
        while recursion.active.size:
            recursion.advance(self._operator_of(recursion, owner, which))
            for run in np.unique(owner[recursion.active]):
                columns = np.flatnonzero(owner == run)
                measure = self.measure(which[run], recursion.quadrature(columns))
                score, spread = _score(measure)
                before, previous[run] = previous[run], score
                settled = before is not None and np.all(np.abs(score - before) < QUADRATURE_TOLERANCE * spread)
                if settled or recursion.n_steps >= min(MAX_STEPS, measure.dimension):
                    steps[run] = recursion.n_steps
            recursion.retain(recursion.active[steps[owner[recursion.active]] == 0])
        return [recursion.quadrature(np.flatnonzero(owner == run), int(steps[run])) for run in range(len(which))]

    def measure(self, index: int, probes: Quadrature) -> TraceMeasure:
        """Return the trace measure of a restriction from its pairs and probes."""
        values = self.pairs[index].values
        dimension = self.restrictions[index].rank - len(values)
        return TraceMeasure(values, probes.nodes, probes.weights, dimension, float(self.traces[index] - values.sum()))

    def deflated(self, index: int, X: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float32]:
        """Return `(I − UUᵀ) P X` under a restriction."""
        projected = self.restrictions[index].project(X)
        U = self.pairs[index].vectors.astype(np.float64)
        return np.asarray(projected - U @ (U.T @ projected), dtype=np.float32)

    def _operator_of(self, recursion: Lanczos, owner: NDArray[np.intp], which: Sequence[int]) -> DeflatedOperator:
        active = owner[recursion.active]
        runs = np.unique(active)
        chosen = [which[run] for run in runs]
        return DeflatedOperator(
            self.operator,
            [self.restrictions[i] for i in chosen],
            [self.pairs[i] for i in chosen],
            [int(np.sum(active == run)) for run in runs],
        )


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


def _score(measure: TraceMeasure) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return d log det H / dh² at the checked h², and the standard deviation that the score of h² has there."""
    at = CHECKED_H2
    on_values = (measure.values - 1) / (at[:, None] * measure.values + 1 - at[:, None])
    on_nodes = (measure.nodes - 1) / np.maximum(at[:, None, None] * measure.nodes + 1 - at[:, None, None], 1e-12)
    first, _ = measure.estimate(on_values, on_nodes)
    second, _ = measure.estimate(on_values**2, on_nodes**2)
    n = measure.dimension + len(measure.values)
    return first, np.sqrt(np.maximum(second - first**2 / n, 1e-12) * 2)
