"""Every trait's own recursion: quadratic forms for its likelihood and the start of its solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.operator import GenotypeOperator
from biolmm.linalg.krylov import Eigenpairs
from biolmm.linalg.lanczos import Lanczos
from biolmm.linalg.operators import Restriction
from biolmm.reml.likelihood import QuadraticMeasure, RestrictedLikelihood, TraceMeasure, VarianceComponents
from biolmm.reml.spectrum import MAX_STEPS, DeflatedOperator, Spectrum, exact_eigenpairs, expanded

SETTLED = 0.01
"""A trait's recursion stops when ĥ² moves by less than this share of its standard error, twice."""
MIN_STEPS = 5


@dataclass(frozen=True)
class TraitFit:
    """Variance components of one trait and the solution that goes with them.

    Attributes
    ----------
    components
        The estimate.
    measure
        The trait's quadratic measure, with which it can be evaluated again under other probes.
    solution
        (N,) x = H⁻¹ P y at the estimate, H = h² PKP + (1−h²) P; zero on unobserved samples.
    n_steps
        Lanczos steps; 0 with the exact solver.
    """

    components: VarianceComponents
    measure: QuadraticMeasure
    solution: NDArray[np.float32]
    n_steps: int


def fit_exactly(
    K: NDArray[np.float64],
    y: NDArray[np.float64],
    restrictions: Sequence[Restriction],
    system_of_trait: NDArray[np.int64],
    n_pairs: int,
    fixed_h2: float | None = None,
) -> tuple[list[Spectrum], list[TraitFit]]:
    """Fit every trait with all eigenpairs of PKP under its restriction.

    Parameters
    ----------
    K
        (N, N) relatedness matrix.
    y
        (N, T) traits, NaN where unobserved.
    restrictions, system_of_trait
        Samples and covariates, and which of them each trait belongs to.
    n_pairs
        Leading pairs whose vectors are kept in the spectra.
    fixed_h2
        Do not estimate: evaluate at this h².

    Notes
    -----
    Cost: about 10·n³ flop a restriction.
    """
    spectra: list[Spectrum] = []
    fits: dict[int, TraitFit] = {}
    nothing = np.zeros((0, 0))
    for index, restriction in enumerate(restrictions):
        values, vectors = exact_eigenpairs(K, restriction)
        kept = slice(0, min(n_pairs, len(values)))
        pairs = Eigenpairs(values[kept], expanded(vectors[:, kept], restriction), np.zeros(len(values[kept])))
        spectra.append(Spectrum(restriction, pairs, TraceMeasure(values, nothing, nothing, 0, 0.0)))
        traits = np.flatnonzero(system_of_trait == index)
        coefficients = vectors.T @ restriction.project(np.nan_to_num(y[:, traits]))[restriction.observed]
        for column, trait in enumerate(traits):
            weights = coefficients[:, column]
            measure = QuadraticMeasure(values, weights**2)
            likelihood = RestrictedLikelihood(spectra[-1].measure, measure, restriction.rank)
            components = likelihood.fit() if fixed_h2 is None else likelihood.at(fixed_h2)
            inner = vectors @ (weights / (components.h2 * values + 1 - components.h2))
            solution = expanded(inner[:, None], restriction)[:, 0]
            fits[int(trait)] = TraitFit(components, measure, solution, 0)
    return spectra, [fits[trait] for trait in range(y.shape[1])]


def fit_traits(
    operator: GenotypeOperator,
    y: NDArray[np.float64],
    spectra: Sequence[Spectrum],
    spectrum_of: NDArray[np.int64],
    fixed_h2: float | None = None,
) -> list[TraitFit]:
    """Fit every trait by Lanczos quadrature on its deflated spectrum, all of them in the same passes.

    Parameters
    ----------
    operator
        K.
    y
        (N, T) traits, NaN where unobserved.
    spectra, spectrum_of
        Spectra with probes, and which of them each trait belongs to.
    fixed_h2
        Do not estimate: evaluate at this h².

    Notes
    -----
    Cost: one pass a step with one column a trait that has not settled; 6 to 30 steps.
    """
    order = np.argsort(spectrum_of, kind="stable")
    starts, known = [], []
    for trait in order:
        spectrum = spectra[spectrum_of[trait]]
        right = spectrum.restriction.project(np.nan_to_num(y[:, [trait]]))
        U = spectrum.pairs.vectors.astype(np.float64)
        coefficients = U.T @ right
        known.append(coefficients[:, 0])
        starts.append((right - U @ coefficients).astype(np.float32))
    recursion = Lanczos(np.concatenate(starts, axis=1), n_kept=len(order))
    progress = [_Progress(spectra[spectrum_of[trait]], known[i], fixed_h2) for i, trait in enumerate(order)]
    owner = spectrum_of[order]
    while recursion.active.size:
        recursion.advance(_operator_of(operator, spectra, owner[recursion.active]))
        going = [i for i in recursion.active if not progress[i].take(recursion, int(i))]
        recursion.retain(np.array(going, dtype=np.intp))
    fits = [progress[i].fit(recursion, i) for i in range(len(order))]
    return [fits[i] for i in np.argsort(order, kind="stable")]


def _operator_of(operator: GenotypeOperator, spectra: Sequence[Spectrum], owner: NDArray[np.int64]) -> DeflatedOperator:
    used, counts = np.unique(owner, return_counts=True)
    return DeflatedOperator(
        operator, [spectra[i].restriction for i in used], [spectra[i].pairs for i in used], counts.tolist()
    )


class _Progress:
    """One trait's estimate as its recursion grows."""

    def __init__(self, spectrum: Spectrum, known: NDArray[np.float64], fixed_h2: float | None) -> None:
        self.spectrum = spectrum
        self.known = known
        self.fixed_h2 = fixed_h2
        self.n_steps = 0
        self.components: VarianceComponents | None = None
        self.measure: QuadraticMeasure | None = None
        self._n_settled = 0

    def take(self, recursion: Lanczos, column: int) -> bool:
        """Estimate after one more step; return whether the trait has settled."""
        self.n_steps = recursion.n_steps
        rank = self.spectrum.restriction.rank
        last = self.n_steps >= min(MAX_STEPS, max(rank - len(self.known), 1))
        if self.n_steps < MIN_STEPS and not last:
            return False
        rest = recursion.quadrature(np.array([column]))
        self.measure = QuadraticMeasure(
            np.concatenate([self.spectrum.pairs.values, rest.nodes[0]]),
            np.concatenate([self.known**2, rest.weights[0]]),
        )
        likelihood = RestrictedLikelihood(self.spectrum.measure, self.measure, rank)
        before = self.components
        self.components = likelihood.fit() if self.fixed_h2 is None else likelihood.at(self.fixed_h2)
        if before is not None:
            now = self.components
            moved = abs(now.h2 - before.h2) / now.h2_se + abs(np.log(_total(now) / _total(before))) / now.h2_se
            self._n_settled = self._n_settled + 1 if moved < SETTLED else 0
        return last or self._n_settled >= 2

    def fit(self, recursion: Lanczos, column: int) -> TraitFit:
        """Return the final estimate with its solution."""
        if self.components is None or self.measure is None:
            raise ValueError("the recursion has not been advanced")
        h2 = self.components.h2
        pairs = self.spectrum.pairs
        inner = recursion.solve(column, h2, 1 - h2, self.n_steps)
        outer = pairs.vectors @ (self.known / (h2 * pairs.values + 1 - h2))
        return TraitFit(self.components, self.measure, (inner + outer).astype(np.float32), self.n_steps)


def _total(components: VarianceComponents) -> float:
    return components.sigma2_g + components.sigma2_e
