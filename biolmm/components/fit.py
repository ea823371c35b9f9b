"""Fit every trait's variance components, test them, and say how sure the answer is."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import threads
from biolmm.components.ascent import Ascent
from biolmm.components.dense import DenseEngine
from biolmm.components.iterative import IterativeEngine
from biolmm.components.likelihood_ratio import cone_p
from biolmm.components.problem import Engine, Evaluation, FixedEffects, LogLikelihood, Problem, Task
from biolmm.components.results import Component, ComponentFit, ComponentResults
from biolmm.covariance import Term
from biolmm.errors import ParameterError

log = logging.getLogger(__name__)

Solver = Literal["auto", "exact", "stochastic"]

EXACT_FLOP = 5e12
"""`auto` takes the exact solver up to about this much work (a minute or two on two cores)."""
STEPS = 10
"""Steps that plans and the choice of solver reckon with."""
NOISE_FLOOR = 1e-4
"""Lower bound of a noise component, as a share of the trait's variance: without noise V may be singular."""
MC_SHARE = 0.1
"""Probes are added until the Monte-Carlo error is below this share of the standard error."""
TOLERANCE = {"exact": 1e-14, "stochastic": 1e-4}
"""Newton decrement (squared distance in standard errors) at which a maximisation stops."""
ALIKE = 0.99
"""Estimates that are correlated by less than minus this can hardly be told apart."""
SMALL = 1000
"""Samples below which products of matrices are too small to be worth several threads."""


@dataclass(frozen=True)
class ComponentConfig:
    """How components are fitted.

    Attributes
    ----------
    solver
        `exact`: explicit matrices; `stochastic`: passes with random probes; `auto`: by cost.
    seed
        Of probes and of the draws for p-values.
    test
        Fit the models without each component and without each group as well.
    max_iterations
        Steps of one maximisation.
    blup
        Predict every effect of every person as well.
    """

    solver: Solver = "auto"
    seed: int = 1
    test: bool = True
    max_iterations: int = 60
    blup: bool = False

    def __post_init__(self) -> None:
        if self.solver not in ("auto", "exact", "stochastic"):
            raise ParameterError(f"There is no solver '{self.solver}': use auto, exact or stochastic.")
        if self.max_iterations < 1:
            raise ParameterError(f"max_iterations is {self.max_iterations}: it must be at least 1.")


def choose_solver(config: ComponentConfig, n_samples: int, n_terms: int, n_traits: int) -> Solver:
    """Decide between explicit matrices and passes by counting operations.

    Examples
    --------
    >>> choose_solver(ComponentConfig(), 2_000, 3, 1), choose_solver(ComponentConfig(), 50_000, 3, 1)
    ('exact', 'stochastic')
    """
    if config.solver != "auto":
        return config.solver
    models = n_traits * (1 + (n_terms if config.test else 0))
    return "exact" if models * STEPS * float(n_samples) ** 3 < EXACT_FLOP else "stochastic"


def fit_components(
    problem: Problem, config: ComponentConfig | None = None, known: dict[Term, NDArray[np.float64]] | None = None
) -> ComponentResults:
    """Maximise the restricted likelihood of every trait over its variance components, all of them at least 0.

    Parameters
    ----------
    problem
        Terms and cohort.
    config
        How.
    known
        Explicit matrices of terms that were made for another model; those of this one are added.

    Returns
    -------
    ComponentResults
        A component at zero is a result: it is reported so, and with a likelihood ratio of 0.

    Notes
    -----
    **Cost**: exact, about 10·n³ flop a model; stochastic, about 10 times two solutions by conjugate gradients, all traits and
    models in the same passes. With `test` there is a model for every component above zero and for every group.

    **Randomness**: the stochastic solver's probes; `share_mc_se` says how far a share moves between seeds.
    """
    config = config or ComponentConfig()
    cohort = problem.cohort
    solver = choose_solver(config, cohort.n_samples, problem.n_terms, cohort.n_traits)
    log.info("components: %d terms, %s solver", problem.n_terms, solver)
    engine: Engine
    engine = DenseEngine(problem, known) if solver == "exact" else IterativeEngine(problem, seed=config.seed)
    fitting = _Fitting(problem, engine, config, solver)
    return ComponentResults(fitting.run())


class _Fitting:
    """The full model of every trait, then the models without each component, then what is reported."""

    def __init__(self, problem: Problem, engine: Engine, config: ComponentConfig, solver: Solver) -> None:
        self.problem, self.engine, self.config, self.solver = problem, engine, config, solver
        q = problem.n_terms
        self.everything = tuple([True] * q)
        self.lower = {}
        self.variance = {}
        for trait in range(problem.cohort.n_traits):
            projected = problem.projected(trait)
            self.variance[trait] = float(projected @ projected) / problem.restrictions[problem.system(trait)].rank
            self.lower[trait] = np.where(problem.residual, NOISE_FLOOR * self.variance[trait], 0.0)

    def run(self) -> tuple[ComponentFit, ...]:
        """Fit and report every trait; small matrices with one thread, which is faster."""
        small = self.solver == "exact" and self.problem.cohort.n_samples < SMALL
        with threads(1) if small else nullcontext():
            return self._run()

    def _run(self) -> tuple[ComponentFit, ...]:
        traits = range(self.problem.cohort.n_traits)
        full = [Task(trait, self.everything) for trait in traits]
        ascents = {task: self._ascent(task, self._equal_parts(task)) for task in full}
        self._climb(ascents)
        for task, ascent in ascents.items():
            if ascent.evaluation is None:
                raise ParameterError(
                    f"'{self.problem.cohort.trait_names[task.trait]}': the terms add up to a matrix that is not positive definite. "
                    "Is a matrix that was given with --matrix a covariance matrix?"
                )
        while self._needs_probes(ascents) and self.engine.add_probes():
            for ascent in ascents.values():
                ascent.restart()
            self._climb(ascents)
        nulls = {}
        if self.config.test:
            for task in full:
                for null in self._nulls(task, ascents[task]):
                    nulls[null] = self._ascent(null, self._without(null, ascents[task]))
            self._climb(nulls)
        tasks = [*ascents, *nulls]
        thetas = [(ascents | nulls)[task].theta for task in tasks]
        likelihoods = dict(zip(tasks, self.engine.log_likelihoods(tasks, thetas), strict=True))
        best = [ascents[task].theta for task in full]
        fixed = self.engine.fixed_effects(full, best)
        random = self.engine.effects(full, best) if self.config.blup else [None] * len(full)
        return tuple(
            replace(self._report(task, ascents[task], nulls, likelihoods, effects), blup=blup)
            for task, effects, blup in zip(full, fixed, random, strict=True)
        )

    def _ascent(self, task: Task, start: NDArray[np.float64]) -> Ascent:
        return Ascent(
            start, self.lower[task.trait], np.array(task.active),
            tolerance=TOLERANCE[self.solver], max_iterations=self.config.max_iterations,
        )  # fmt: skip

    def _equal_parts(self, task: Task) -> NDArray[np.float64]:
        """Start with half of the variance as noise and half among the effects."""
        noise = self.problem.residual
        active = np.array(task.active)
        share = np.where(noise, 1 / max(noise.sum(), 1), 1 / max((active & ~noise).sum(), 1))
        return np.asarray(self.variance[task.trait] * share * (0.5 if (active & ~noise).any() else 1.0))

    def _without(self, task: Task, full: Ascent) -> NDArray[np.float64]:
        """Start a smaller model where the information of the larger one puts its maximum: θ + I⁻¹ I_left θ_left."""
        if full.evaluation is None:
            return self._equal_parts(task)
        information = full.evaluation.information
        active = np.array(task.active)
        kept = np.flatnonzero(active & full.free)
        left = np.flatnonzero(~active)
        start = np.where(active, full.theta, 0.0)
        moved = information[np.ix_(kept, left)] @ full.theta[left]
        start[kept] += _inverse(information[np.ix_(kept, kept)]) @ moved
        return np.maximum(start, 0.0)

    def _climb(self, ascents: dict[Task, Ascent]) -> None:
        """Bring all maximisations to their end, evaluating those that are not there together."""
        while going := [task for task, ascent in ascents.items() if not ascent.finished]:
            found = self.engine.evaluate(going, [ascents[task].candidate for task in going])
            for task, evaluation in zip(going, found, strict=True):
                ascents[task].take(evaluation)

    def _needs_probes(self, ascents: dict[Task, Ascent]) -> bool:
        """Whether the probes move a share by more than a tenth of its standard error."""
        for ascent in ascents.values():
            shares = _Shares(ascent, self.problem.n_terms)
            for i in np.flatnonzero(ascent.free & ~self.problem.residual):
                found = shares.of(np.arange(self.problem.n_terms) == i)
                if found.share_mc_se > MC_SHARE * found.share_se:
                    return True
        return False

    def _groups(self) -> dict[str, NDArray[np.bool_]]:
        """Return the groups of several components that are no noise, and everything but noise as `total`."""
        terms, noise = self.problem.terms, self.problem.residual
        groups: dict[str, NDArray[np.bool_]] = {}
        for name in dict.fromkeys(term.group for term in terms):
            members = np.array([term.group == name for term in terms]) & ~noise
            if members.sum() > 1:
                groups[name] = members
        if (~noise).sum() > 1:
            groups["total"] = ~noise
        return groups

    def _sets(self) -> list[tuple[str, str, NDArray[np.bool_]]]:
        """Return name, kind and members of every row of the results."""
        q = self.problem.n_terms
        rows = [
            (term.name, "residual" if term.is_residual else "component", np.arange(q) == i)
            for i, term in enumerate(self.problem.terms)
        ]
        return [*rows, *((n, "total" if n == "total" else "group", m) for n, m in self._groups().items())]

    def _nulls(self, task: Task, ascent: Ascent) -> list[Task]:
        """Return the models to compare with: without each set that is above zero."""
        sets = [members for _, kind, members in self._sets() if kind != "residual"]
        above = [members for members in sets if ascent.theta[members].sum() > 0]
        return list(dict.fromkeys(Task(task.trait, tuple((~members).tolist())) for members in above))

    def _report(
        self,
        task: Task,
        ascent: Ascent,
        nulls: dict[Task, Ascent],
        likelihoods: dict[Task, LogLikelihood],
        effects: FixedEffects,
    ) -> ComponentFit:
        at = ascent.evaluation
        if at is None:
            raise ValueError("the ascent was not evaluated")
        shares = _Shares(ascent, self.problem.n_terms)
        bound = ascent.theta <= self.lower[task.trait]
        rows = []
        for label, kind, members in self._sets():
            lrt, lrt_mc_se, lrt_p = self._test(task, members, kind, nulls, likelihoods)
            rows.append(
                Component(
                    name=label,
                    kind=kind,
                    **vars(shares.of(members)),
                    at_boundary=bool(bound[members].all()),
                    lrt=lrt,
                    lrt_mc_se=lrt_mc_se,
                    lrt_p=lrt_p,
                    effective_df=float(ascent.theta[members] @ at.traces[members]),
                )
            )
        return self._fit(task, ascent, at, rows, shares, likelihoods[task], effects)

    def _test(
        self,
        task: Task,
        members: NDArray[np.bool_],
        kind: str,
        nulls: dict[Task, Ascent],
        likelihoods: dict[Task, LogLikelihood],
    ) -> tuple[float, float, float]:
        """Return the likelihood ratio against the model without `members`, its Monte-Carlo error and p-value."""
        if kind == "residual" or not self.config.test:
            return np.nan, np.nan, np.nan
        null = Task(task.trait, tuple((~members).tolist()))
        if null not in nulls:
            return 0.0, 0.0, 1.0
        statistic, mc_error = _ratio(likelihoods[task], likelihoods[null])
        under = nulls[null]
        if under.evaluation is None:
            return np.nan, np.nan, np.nan
        at_bound = ~members & ~self.problem.residual & (under.theta <= 0)
        p = cone_p(statistic, under.evaluation.information, members, at_bound, self.config.seed)
        return statistic, mc_error, p

    def _fit(
        self,
        task: Task,
        ascent: Ascent,
        at: Evaluation,
        rows: list[Component],
        shares: _Shares,
        likelihood: LogLikelihood,
        effects: FixedEffects,
    ) -> ComponentFit:
        cohort, terms, noise = self.problem.cohort, self.problem.terms, self.problem.residual
        mask = cohort.classes[cohort.class_of_trait[task.trait]]
        # ŷ = y − R P_V y, so that its trace is n − tr R P_V.
        df = mask.n_observed - float(ascent.theta[noise] @ at.traces[noise])
        variances = sum(ascent.theta[i] * terms[i].diagonal()[mask.observed] for i in np.flatnonzero(noise))
        fitted = mask.n_observed * np.log(2 * np.pi) + np.log(variances).sum() + ascent.theta[noise] @ at.forms[noise]
        return ComponentFit(
            trait=cohort.trait_names[task.trait],
            n=mask.n_observed,
            components=tuple(rows),
            theta=ascent.theta,
            covariance=shares.covariance,
            fixed=self._fixed(task, effects),
            log_likelihood=likelihood.value,
            aic=-2 * likelihood.value + 2 * len(terms),
            conditional_aic=float(fitted + 2 * (df + noise.sum())),
            effective_df=df,
            iterations=ascent.iterations,
            converged=ascent.converged,
            n_probes=getattr(self.engine, "n_probes", 0),
            solver=self.solver,
            warnings=tuple(self._warnings(ascent, shares)),
            terms=tuple(term.name for term in terms),
        )

    def _fixed(self, task: Task, effects: FixedEffects) -> dict[str, tuple[float, float]]:
        """Return the effect of each covariate: those of the basis, turned back."""
        cohort = self.problem.cohort
        mask = cohort.classes[cohort.class_of_trait[task.trait]]
        kept = [i for i, name in enumerate(cohort.covariate_names) if name not in mask.dropped]
        X = np.column_stack([np.ones(cohort.n_samples), cohort.covariates[:, kept]])[mask.observed]
        turn = np.linalg.pinv(mask.basis[mask.observed].T @ X)
        values = turn @ effects.coefficients
        errors = np.sqrt(np.maximum(np.diag(turn @ effects.covariance @ turn.T), 0.0))
        names = ["intercept", *(cohort.covariate_names[i] for i in kept)]
        return {n: (float(v), float(e)) for n, v, e in zip(names, values, errors, strict=True)}

    def _warnings(self, ascent: Ascent, shares: _Shares) -> list[str]:
        found = []
        names = [term.name for term in self.problem.terms]
        if not ascent.converged:
            found.append(
                f"the likelihood did not settle in {ascent.iterations} steps (about "
                f"{np.sqrt(max(ascent.decrement, 0.0)):.2g} standard errors are left to go): the data may not tell all terms apart"
            )
        unconverged = getattr(self.engine, "unconverged", 0)
        if unconverged:
            found.append(f"{unconverged} solutions by conjugate gradients did not reach their tolerance")
        deviation = np.sqrt(np.maximum(np.diag(shares.covariance), 1e-300))
        correlation = shares.covariance / np.outer(deviation, deviation)
        for i, j in zip(*np.nonzero(np.triu(correlation < -ALIKE, 1)), strict=True):
            found.append(
                f"'{names[i]}' and '{names[j]}' can hardly be told apart (correlation {correlation[i, j]:.3f})"
            )
        return found


@dataclass(frozen=True)
class _Share:
    """A sum of components and its share of the total, see `Component`."""

    variance: float
    variance_se: float
    share: float
    share_se: float
    share_mc_se: float


class _Shares:
    """Sums of components, their share of the total, and errors by the delta method."""

    def __init__(self, ascent: Ascent, n_terms: int) -> None:
        self.theta = ascent.theta
        at = ascent.evaluation
        self.covariance = np.full((n_terms, n_terms), np.nan)
        self.monte_carlo = np.zeros((n_terms, n_terms))
        if at is None:
            return
        self.covariance = _inverse(at.information)
        # Components at zero whose score the probes might turn positive count as free.
        wavering = ascent.active & (at.score > -np.sqrt(np.diag(at.trace_covariance)))
        free = np.flatnonzero(ascent.free | wavering)
        inverse = np.zeros((n_terms, n_terms))
        inverse[np.ix_(free, free)] = _inverse(at.information[np.ix_(free, free)])
        self.monte_carlo = 0.25 * inverse @ at.trace_covariance @ inverse

    def of(self, members: NDArray[np.bool_]) -> _Share:
        """Return what some components add up to."""
        total = self.theta.sum()
        share = float(self.theta[members].sum() / total)
        gradient = (members - share) / total

        def spread(weights: NDArray[np.float64], covariance: NDArray[np.float64]) -> float:
            return float(np.sqrt(np.maximum(weights @ covariance @ weights, 0.0)))

        return _Share(
            variance=float(self.theta[members].sum()),
            variance_se=spread(members.astype(np.float64), self.covariance),
            share=share,
            share_se=spread(gradient, self.covariance),
            share_mc_se=spread(gradient, self.monte_carlo),
        )


def _inverse(information: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse; directions without information get a variance that is very large instead of infinite."""
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    values, vectors = np.linalg.eigh(information / np.outer(scale, scale))
    return np.asarray((vectors / np.maximum(values, 1e-10)) @ vectors.T / np.outer(scale, scale))


def _ratio(full: LogLikelihood, null: LogLikelihood) -> tuple[float, float]:
    """Return twice the difference of two log-likelihoods, at least 0, and its error from the probes that both used."""
    if not len(full.probe_values):
        return max(2 * (full.value - null.value), 0.0), 0.0
    difference = 2 * (full.probe_values - null.probe_values)
    s = len(difference)
    design = np.column_stack([np.ones(s), full.probe_controls, null.probe_controls])
    coefficients = np.linalg.lstsq(design, difference, rcond=1e-8)[0]
    left = difference - design @ coefficients
    return max(float(coefficients[0]), 0.0), float(np.sqrt(left @ left / (s * max(s - 3, 1))))
