"""Every trait's own estimate: by all eigenpairs, or by a recursion that goes on until the estimate has settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import check_stop
from biolmm.linalg.krylov import Eigenpairs
from biolmm.linalg.lanczos import Lanczos
from biolmm.linalg.operators import Restriction
from biolmm.reml.density import MAX_PROBES, ProbeCounts, probe_counts
from biolmm.reml.likelihood import (
    MAX_H2,
    QuadraticMeasure,
    RestrictedLikelihood,
    TraceMeasure,
    VarianceComponents,
)
from biolmm.reml.probing import ProbeSet
from biolmm.reml.spectrum import Spectrum, exact_eigenpairs, expanded

SETTLED = 0.01
"""A trait's recursion stops when ĥ² is expected to move by less than this share of its standard error from then on."""
MC_SHARE = 0.1
"""Probes are added until the Monte-Carlo error is below this share of the standard error."""
FIRST_STEP = 2
"""The first step after which ĥ² is estimated."""
FORESEEN = 4
"""From this step on, an estimate that will need more probes sets them going."""


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
        Lanczos steps, of the trait and of the probes it is evaluated with; 0 with the exact solver.
    n_probes
        Probes that it is evaluated with; 0 with the exact solver.
    """

    components: VarianceComponents
    measure: QuadraticMeasure
    solution: NDArray[np.float32]
    n_steps: int
    n_probes: int = 0


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
        check_stop()
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


class TraitProgress:
    """One trait's estimate as its recursion and its probes go on.

    The recursion stops when what is left of its steps is foreseen to move the estimate by less than `SETTLED`: errors of
    Gauss quadrature fall by about the same factor with every step. What the trait gets depends on its own values and on
    the first steps of the first probes, not on what other traits ask of them.

    Parameters
    ----------
    probes
        Those of the trait's restriction.
    whole
        Those of the whole cohort, which the former are paired with; None where they are the same.
    y
        (N,) the trait, NaN where unobserved.
    fixed_h2
        Do not estimate: evaluate at this h².
    """

    def __init__(
        self, probes: ProbeSet, whole: ProbeSet | None, y: NDArray[np.float64], fixed_h2: float | None
    ) -> None:
        self.probes = probes
        self.whole = whole
        self.fixed_h2 = fixed_h2
        right = probes.restriction.project(np.nan_to_num(y)[:, None])
        U = probes.pairs.vectors.astype(np.float64)
        coefficients = U.T @ right
        self.known = coefficients[:, 0]
        self.recursion = Lanczos((right - U @ coefficients).astype(np.float32), n_kept=1)
        self.n_steps = 0
        self.settled = self.finished = False
        self.components: VarianceComponents | None = None
        self._measure: QuadraticMeasure | None = None
        self._moved: float | None = None
        self._fall = 0.0
        self._n_doubled = 0

    @property
    def counts(self) -> ProbeCounts:
        """Probes that the estimate is made with."""
        return probe_counts(self.probes.share, self._n_doubled)

    @property
    def wants_product(self) -> bool:
        """Whether the next estimate waits for a step of the trait's own."""
        return not self.settled and self.recursion.n_steps <= self.n_steps

    def take_up(self) -> None:
        """Estimate as far as recursion and probes go, and say what is lacking then."""
        while not self.finished:
            step = self.n_steps if self.settled else self.n_steps + 1
            if not self._probes_ready(self.counts, step) or (not self.settled and self.recursion.n_steps < step):
                return
            self._estimate(step)

    def fit(self) -> TraitFit:
        """Return the final estimate with its solution."""
        if self.components is None or self._measure is None:
            raise ValueError("the recursion has not been advanced")
        h2, pairs = self.components.h2, self.probes.pairs
        inner = self.recursion.solve(0, h2, 1 - h2, self.n_steps)
        outer = pairs.vectors @ (self.known / (h2 * pairs.values + 1 - h2))
        solution = (inner + outer).astype(np.float32)
        return TraitFit(self.components, self._measure, solution, self.n_steps, self.counts.probes)

    def _probes_ready(self, counts: ProbeCounts, step: int) -> bool:
        ready = self.probes.ready(counts.probes, step, counts.moments)
        return (self.whole is None or self.whole.ready(0, 1, counts.whole)) and ready

    def _estimate(self, step: int) -> None:
        """Estimate after so many steps, and decide how to go on."""
        last = step >= max(self.probes.n_max, 1)
        fresh, self.n_steps = step > self.n_steps, step
        if step < FIRST_STEP and not last:
            return
        before = self.components
        self.components = self._likelihood(step)
        if fresh:
            self.settled = self._has_settled(before) or last
        share = self.components.h2_mc_se / self.components.h2_se
        wanting = share > MC_SHARE and self.counts.probes < MAX_PROBES and self.fixed_h2 is None
        if self.settled:
            self._n_doubled += int(wanting)
            self.finished = not wanting
        elif wanting and step >= FORESEEN and share > 1.1 * MC_SHARE:
            self._probes_ready(probe_counts(self.probes.share, self._n_doubled + 1), step)

    def _likelihood(self, step: int) -> VarianceComponents:
        whole = None if self.whole is None else self.whole.density
        trace = self.probes.measure(whole, self.counts, step)
        rest = self.recursion.quadrature(np.array([0]), step)
        self._measure = QuadraticMeasure(
            np.concatenate([self.probes.pairs.values, rest.nodes[0]]),
            np.concatenate([self.known**2, rest.weights[0]]),
        )
        likelihood = RestrictedLikelihood(trace, self._measure, self.probes.restriction.rank)
        return likelihood.fit() if self.fixed_h2 is None else likelihood.at(self.fixed_h2)

    def _has_settled(self, before: VarianceComponents | None) -> bool:
        """Whether the moves of the estimate, continued as they fell last, add up to little."""
        now, last = self.components, self._moved
        if now is None or before is None:
            return False
        moved = (abs(now.h2 - before.h2) + abs(np.log(_total(now) / _total(before)))) / now.h2_se
        self._moved = moved
        if last is None or (self.fixed_h2 is None and now.h2 >= MAX_H2):
            return False  # at the upper bound the estimate cannot move, whatever its error
        # A move is small by chance where the estimate turns round: then the fall before it says more.
        before_last, self._fall = self._fall, moved / last if last > 0 else float(moved > 0)
        fall = max(self._fall, before_last, 0.05)
        return bool(moved == 0 or (fall < 1 and moved * fall / (1 - fall) < SETTLED))


def _total(components: VarianceComponents) -> float:
    return components.sigma2_g + components.sigma2_e
