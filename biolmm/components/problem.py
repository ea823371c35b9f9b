"""What is fitted, and what a solver has to say about it at given variance components.

Legend: q terms, N samples, T traits, n observed samples, C covariates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biolmm.cohort import Cohort
from biolmm.covariance import Covariance, Term
from biolmm.errors import ParameterError, SampleMismatchError
from biolmm.linalg.operators import Restriction


@dataclass(frozen=True, eq=False)
class Problem:
    """`y = Xβ + Σ u_i + e`, `Var(y) = V = Σ θ_i K_i`, the residual noise among the terms, for every trait.

    Attributes
    ----------
    covariance
        `K_1 … K_q`.
    cohort
        Traits and covariates.
    restrictions
        Samples and covariates of each set of traits that are observed on the same samples.
    """

    covariance: Covariance
    cohort: Cohort
    restrictions: tuple[Restriction, ...]

    @classmethod
    def of(cls, terms: Sequence[Term], cohort: Cohort) -> Problem:
        """Put terms and a cohort together.

        Raises
        ------
        SampleMismatchError
            When the terms are about other samples.
        ParameterError
            When no term is residual noise, or two terms have the same name.
        """
        covariance = Covariance(terms)
        if covariance.n_samples != cohort.n_samples:
            raise SampleMismatchError(
                f"The terms are over {covariance.n_samples:,} samples, the cohort has {cohort.n_samples:,}."
            )
        if not any(term.is_residual for term in terms):
            raise ParameterError("The model has no residual noise: add `common_noise(n_samples)` to the terms.")
        if any(term.is_residual and not term.is_diagonal for term in terms):
            raise ParameterError("Residual noise must be independent between samples: make it of a `DiagonalKernel`.")
        names = [term.name for term in terms]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ParameterError(
                f"The term '{repeated[0]}' is in the model {names.count(repeated[0])} times: once will do."
            )
        return cls(covariance, cohort, tuple(Restriction(c.observed, c.basis) for c in cohort.classes))

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms."""
        return self.covariance.terms

    @property
    def n_terms(self) -> int:
        """q."""
        return self.covariance.n_terms

    @property
    def residual(self) -> NDArray[np.bool_]:
        """(q,) which terms are noise."""
        return np.array([term.is_residual for term in self.terms])

    def system(self, trait: int) -> int:
        """Return which restriction a trait has."""
        return int(self.cohort.class_of_trait[trait])

    def projected(self, trait: int) -> NDArray[np.float64]:
        """Return `P y`, (N,)."""
        restriction = self.restrictions[self.system(trait)]
        return restriction.project(np.nan_to_num(self.cohort.y[:, [trait]]))[:, 0]


@dataclass(frozen=True)
class Task:
    """One maximisation: a trait, and the terms that may be above zero.

    Attributes
    ----------
    trait
        Which.
    active
        Which of the q terms.
    """

    trait: int
    active: tuple[bool, ...]


@dataclass(frozen=True)
class Evaluation:
    """The restricted likelihood of one trait at one θ.

    Attributes
    ----------
    score
        (q,) `½ (yᵀP_V K_i P_V y − tr P_V K_i)`, of terms that are not active too.
    information
        (q, q) average information, `½ yᵀ P_V K_i P_V K_j P_V y`.
    traces
        (q,) `tr P_V K_i`.
    forms
        (q,) `yᵀ P_V K_i P_V y`.
    trace_covariance
        (q, q) Monte-Carlo covariance of the traces; zero where they are exact.
    log_likelihood
        NaN where it is not computed on the way; −∞ where V is not positive definite.
    """

    score: NDArray[np.float64]
    information: NDArray[np.float64]
    traces: NDArray[np.float64]
    forms: NDArray[np.float64]
    trace_covariance: NDArray[np.float64]
    log_likelihood: float


@dataclass(frozen=True)
class LogLikelihood:
    """`ℓ(θ) = −½ [ (n−C) log 2π + log det₊ PVP + yᵀ P_V y ]`, in parts that two models are compared by.

    Attributes
    ----------
    value
        The restricted log-likelihood.
    probe_values
        (s,) what each random probe says of it beside what is exact; empty where everything is.
    probe_controls
        (s,) of each probe, a quantity of known mean 0 that goes along with it.
    """

    value: float
    probe_values: NDArray[np.float64]
    probe_controls: NDArray[np.float64]


@dataclass(frozen=True)
class FixedEffects:
    """Generalised least squares in the basis Q of a restriction.

    Attributes
    ----------
    coefficients
        (C,) of Q.
    covariance
        (C, C).
    """

    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]


class Engine(Protocol):
    """Evaluates the likelihood; several tasks in the same passes where it makes passes."""

    def evaluate(self, tasks: Sequence[Task], thetas: Sequence[NDArray[np.float64]]) -> list[Evaluation]:
        """Return score and information of every task at its θ."""
        ...

    def log_likelihoods(self, tasks: Sequence[Task], thetas: Sequence[NDArray[np.float64]]) -> list[LogLikelihood]:
        """Return the log-likelihood of every task at its θ."""
        ...

    def fixed_effects(self, tasks: Sequence[Task], thetas: Sequence[NDArray[np.float64]]) -> list[FixedEffects]:
        """Return the covariates' effects of every task at its θ."""
        ...

    def effects(self, tasks: Sequence[Task], thetas: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
        """Return `θ_i K_i P_V y` of every task at its θ, (q, N): the best linear unbiased predictions of all effects."""
        ...

    def add_probes(self) -> bool:
        """Take more random probes, and say whether there are more now."""
        ...
