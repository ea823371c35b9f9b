"""The likelihood from products alone: conjugate gradients for P_V, random probes for traces and determinants.

All columns of all tasks share the passes over the genotypes, each with variance components of its own. Probes and their
products K_i u do not depend on θ: they are made once, and the same for every θ and every model, so that estimates move
smoothly and two models are compared on the same draws.

Legend: q terms, N samples, S systems, s probes; P the projection of a system; u = P r, r random signs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from biolmm.components.preconditioner import LowRankPreconditioner
from biolmm.components.problem import Evaluation, FixedEffects, LogLikelihood, Problem, Task
from biolmm.linalg.lanczos import Lanczos
from biolmm.linalg.operators import Restriction, column_dots
from biolmm.linalg.pcg import solve_pcg
from biolmm.linalg.probes import rademacher, row_keys

log = logging.getLogger(__name__)

MIN_PROBES, MAX_PROBES = 16, 256
TOLERANCE = 1e-4
"""Relative residual of the solutions: traces and forms are then off by about its size relative to themselves."""
MAX_ITERATIONS = 300
LANCZOS_STEPS = 40
LANCZOS_SETTLED = 1e-5
"""The recursion for a determinant stops when it moves by less than this share of the degrees of freedom."""

Vector = NDArray[np.float64]
Block = NDArray[np.float32]


@dataclass
class _System:
    """Probes of one set of samples and covariates, and everything about them that does not depend on θ."""

    restriction: Restriction
    probes: Block
    """(N, s) u."""
    products: Block
    """(q, N, s) P K_i u."""
    controls: Vector
    """(q, s) uᵀ K_i u − tr P K_i, whose mean is 0."""
    traces: Vector
    """(q,) tr P K_i, exact."""


class IterativeEngine:
    """Evaluates the likelihood by passes.

    Parameters
    ----------
    problem
        What is fitted.
    seed
        Of the probes.
    n_probes
        To begin with.

    Notes
    -----
    **Cost**: one pass of q outputs a probe at the start; an evaluation is two solutions, of s + 1 and of q columns a task, with
    a pass an iteration; memory (q + 8)·N·s floats a task.

    **Randomness**: probes are drawn from the seed and the sample ids.
    """

    def __init__(self, problem: Problem, *, seed: int = 1, n_probes: int = MIN_PROBES) -> None:
        self.problem = problem
        self.seed = seed
        self.keys = row_keys(problem.cohort.sample_id.tolist())
        self.diagonals = problem.covariance.diagonals()
        self.systems = self._first_systems()
        self.unconverged = 0
        self._warm: dict[Task, tuple[Vector, Block, Block]] = {}
        self._draw(n_probes)

    @property
    def n_probes(self) -> int:
        """Probes in use."""
        return int(self.systems[0].probes.shape[1])

    def add_probes(self) -> bool:
        """Double the probes, up to `MAX_PROBES`; solutions of the old ones stay as starts."""
        if self.n_probes >= MAX_PROBES:
            return False
        self._draw(min(2 * self.n_probes, MAX_PROBES))
        log.info("components: %d probes", self.n_probes)
        return True

    def evaluate(self, tasks: Sequence[Task], thetas: Sequence[Vector]) -> list[Evaluation]:
        """Return score and information of every task at its θ, without the log-likelihood."""
        systems = [self._system(task) for task in tasks]
        rights = [
            np.column_stack([self.problem.projected(task.trait), system.probes]).astype(np.float32)
            for task, system in zip(tasks, systems, strict=True)
        ]
        starts = [self._start(task, theta, right) for task, theta, right in zip(tasks, thetas, rights, strict=True)]
        solved = self._solve(systems, thetas, rights, starts)
        for task, theta, solution in zip(tasks, thetas, solved, strict=True):
            previous = self._warm.get(task)
            self._warm[task] = (theta, solution, previous[2] if previous else np.zeros((0, 0), np.float32))
        # K_i P_V y of all tasks: one pass of q outputs a task.
        together = self.problem.covariance.products(np.column_stack([solution[:, 0] for solution in solved]))
        images = [
            system.restriction.project(together[:, :, t].T).astype(np.float32) for t, system in enumerate(systems)
        ]
        again = self._solve(
            systems, thetas, images, [self._image_start(task, one) for task, one in zip(tasks, images, strict=True)]
        )
        found = []
        for t, (task, system) in enumerate(zip(tasks, systems, strict=True)):
            theta, solution, _ = self._warm[task]
            self._warm[task] = (theta, solution, again[t])
            forms = column_dots(images[t], np.repeat(solution[:, :1], len(theta), axis=1))
            information = 0.5 * images[t].T.astype(np.float64) @ again[t].astype(np.float64)
            traces, covariance = _traces(system, thetas[t], solution[:, 1:])
            found.append(
                Evaluation(
                    0.5 * (forms - traces), 0.5 * (information + information.T), traces, forms, covariance, np.nan
                )
            )
        return found

    def log_likelihoods(self, tasks: Sequence[Task], thetas: Sequence[Vector]) -> list[LogLikelihood]:
        """Return the log-likelihoods, determinants by Lanczos quadrature from the probes (Ubaru, Chen & Saad 2017)."""
        systems = [self._system(task) for task in tasks]
        forms = [float(column_dots(y, solution)[0]) for y, solution in self._trait_solutions(tasks, thetas)]
        s = self.n_probes
        recursion = Lanczos(np.concatenate([system.probes for system in systems], axis=1))
        columns = np.arange(len(tasks) * s)
        owner = np.repeat(np.arange(len(tasks)), s)
        values = np.full(len(columns), np.inf)
        degrees = min(system.restriction.rank for system in systems)
        for step in range(1, min(LANCZOS_STEPS, degrees) + 1):
            recursion.advance(lambda X: self._product(systems, thetas, owner, X))
            if step % 4 and step < LANCZOS_STEPS:
                continue
            quadrature = recursion.quadrature(columns)
            before, values = values, (quadrature.weights * np.log(np.maximum(quadrature.nodes, 1e-300))).sum(axis=1)
            if np.abs(values - before).max() < LANCZOS_SETTLED * degrees:
                break
        return [
            _log_likelihood(system, theta, form, values[t * s : (t + 1) * s])
            for t, (system, theta, form) in enumerate(zip(systems, thetas, forms, strict=True))
        ]

    def fixed_effects(self, tasks: Sequence[Task], thetas: Sequence[Vector]) -> list[FixedEffects]:
        """Return `γ = Qᵀ (y − V P_V y)` and `(Qᵀ V⁻¹ Q)⁻¹ = QᵀVQ − QᵀV P_V VQ`."""
        systems = [self._system(task) for task in tasks]
        columns, theta_columns = [], []
        for task, theta, system in zip(tasks, thetas, systems, strict=True):
            known = np.column_stack([system.restriction.basis, self._warm[task][1][:, 0]]).astype(np.float32)
            columns.append(known)
            theta_columns.append(np.repeat(theta[:, None], known.shape[1], axis=1))
        products = self.problem.covariance.weighted(
            np.concatenate(theta_columns, axis=1), np.concatenate(columns, axis=1)
        )
        edges = np.concatenate([[0], np.cumsum([known.shape[1] for known in columns])])
        parts = [products[:, a:b].astype(np.float64) for a, b in pairwise(edges)]
        rights = [
            system.restriction.project(part[:, :-1]).astype(np.float32)
            for system, part in zip(systems, parts, strict=True)
        ]
        solved = self._solve(systems, thetas, rights, [np.zeros_like(right) for right in rights])
        found = []
        for task, system, part, right, solution in zip(tasks, systems, parts, rights, solved, strict=True):
            Q = system.restriction.basis
            y = np.nan_to_num(self.problem.cohort.y[:, task.trait])
            covariance = Q.T @ part[:, :-1] - right.T.astype(np.float64) @ solution
            found.append(FixedEffects(Q.T @ (y - part[:, -1]), 0.5 * (covariance + covariance.T)))
        return found

    def effects(self, tasks: Sequence[Task], thetas: Sequence[Vector]) -> list[Vector]:
        """Return `θ_i K_i P_V y` of every task, (q, N): two passes more than those of the evaluation at this θ."""
        solutions = [solution for _, solution in self._trait_solutions(tasks, thetas)]
        products = self.problem.covariance.products(np.concatenate(solutions, axis=1))
        return [theta[:, None] * products[:, :, t].astype(np.float64) for t, theta in enumerate(thetas)]

    def _trait_solutions(self, tasks: Sequence[Task], thetas: Sequence[Vector]) -> list[tuple[Block, Block]]:
        """Return `P y` and `P_V y` of every task, (N, 1) each, from where its last evaluation left them."""
        y = [self.problem.projected(task.trait)[:, None].astype(np.float32) for task in tasks]
        starts = [
            self._warm[task][1][:, :1] if task in self._warm else np.zeros_like(right)
            for task, right in zip(tasks, y, strict=True)
        ]
        return list(zip(y, self._solve([self._system(task) for task in tasks], thetas, y, starts), strict=True))

    def _system(self, task: Task) -> _System:
        return self.systems[self.problem.system(task.trait)]

    def _first_systems(self) -> list[_System]:
        """Compute the exact traces `tr P K_i = Σ over observed diag − tr Qᵀ K_i Q`: one pass over all bases."""
        restrictions = self.problem.restrictions
        bases = np.concatenate([restriction.basis for restriction in restrictions], axis=1).astype(np.float32)
        products = self.problem.covariance.products(bases)
        q, N = self.problem.n_terms, len(self.keys)
        systems, stop = [], 0
        for restriction in restrictions:
            start, stop = stop, stop + restriction.basis.shape[1]
            of_covariates = [column_dots(bases[:, start:stop], products[i][:, start:stop]).sum() for i in range(q)]
            traces = self.diagonals[:, restriction.observed].sum(axis=1) - np.array(of_covariates)
            nothing = np.zeros((N, 0), np.float32)
            systems.append(_System(restriction, nothing, np.zeros((q, N, 0), np.float32), np.zeros((q, 0)), traces))
        return systems

    def _draw(self, n_probes: int) -> None:
        """Add probes up to `n_probes` to every system: one pass."""
        known = self.n_probes
        signs = rademacher(self.keys, "components", range(known, n_probes), self.seed)
        fresh = [system.restriction.project(signs).astype(np.float32) for system in self.systems]
        products = self.problem.covariance.products(np.concatenate(fresh, axis=1))
        added = n_probes - known
        for index, (system, U) in enumerate(zip(self.systems, fresh, strict=True)):
            mine = products[:, :, index * added : (index + 1) * added]
            projected = np.stack([system.restriction.project(each).astype(np.float32) for each in mine])
            forms = np.stack([column_dots(U, each) for each in projected])
            system.probes = np.concatenate([system.probes, U], axis=1)
            system.products = np.concatenate([system.products, projected], axis=2)
            system.controls = np.concatenate([system.controls, forms - system.traces[:, None]], axis=1)

    def _start(self, task: Task, theta: Vector, right: Block) -> Block:
        """Start from the solution at the last θ, or from the full model's, scaled as the whole variance has changed.

        New probes start from zero.
        """
        start = np.zeros_like(right)
        known = self._warm.get(task) or self._warm.get(Task(task.trait, (True,) * len(theta)))
        if known is not None:
            before, solution, _ = known
            start[:, : solution.shape[1]] = solution * np.float32(before.sum() / max(theta.sum(), 1e-300))
        return start

    def _image_start(self, task: Task, images: Block) -> Block:
        previous = self._warm[task][2]
        return previous.copy() if previous.shape == images.shape else np.zeros_like(images)

    def _product(
        self, systems: Sequence[_System], thetas: Sequence[Vector], owner: NDArray[np.intp], X: Block
    ) -> Block:
        """Return `P V x` column by column, each with the θ and P of its owner."""
        Y = self.problem.covariance.weighted(np.column_stack([thetas[t] for t in owner]), X)
        for t in np.unique(owner):
            mine = owner == t
            Y[:, mine] = systems[t].restriction.project(Y[:, mine])
        return Y

    def _solve(
        self, systems: Sequence[_System], thetas: Sequence[Vector], rights: Sequence[Block], starts: Sequence[Block]
    ) -> list[Block]:
        """Return `P_V b` of the right-hand sides of every task."""
        owner = np.repeat(np.arange(len(rights)), [right.shape[1] for right in rights])
        b = np.concatenate(rights, axis=1)
        x = np.concatenate(starts, axis=1)
        residual = b.copy()
        begun = np.flatnonzero(x.any(axis=0))
        if len(begun):
            residual[:, begun] -= self._product(systems, thetas, owner[begun], np.ascontiguousarray(x[:, begun]))
        norms = np.sqrt(column_dots(b, b))
        worse = np.sqrt(column_dots(residual, residual)) > norms  # a start that is worse than none
        x[:, worse], residual[:, worse] = 0.0, b[:, worse]
        noise = self.problem.residual
        inverses = [
            LowRankPreconditioner(
                theta @ self.diagonals,
                system.probes,
                np.tensordot(np.where(noise, 0, theta), system.products, axes=1),
                np.where(noise, theta, 0) @ self.diagonals,
            )
            for theta, system in zip(thetas, systems, strict=True)
        ]

        def precondition(R: Block, columns: NDArray[np.intp]) -> Block:
            Z = np.empty_like(R)
            for t in np.unique(owner[columns]):
                mine = owner[columns] == t
                Z[:, mine] = systems[t].restriction.project(inverses[t](R[:, mine]))
            return Z

        solution = solve_pcg(
            lambda X, columns: self._product(systems, thetas, owner[columns], X), x, residual, precondition,
            right_norms=norms, tolerance=TOLERANCE, max_iterations=MAX_ITERATIONS,
        )  # fmt: skip
        self.unconverged += int((~solution.converged).sum())
        return [solution.x[:, owner == t] for t in range(len(rights))]


def _traces(system: _System, theta: Vector, solutions: Block) -> tuple[Vector, Vector]:
    """Return `tr P_V K_i` and its Monte-Carlo covariance from uᵀ P_V K_i u of every probe.

    Each is regressed on what the same probe says of `tr P K_i` and `tr P V`, which are known exactly.
    """
    raw = np.stack([column_dots(each, solutions) for each in system.products])
    s = raw.shape[1]
    left = np.empty_like(raw)
    means = np.empty(len(raw))
    whole = theta @ system.controls
    for i, values in enumerate(raw):
        design = np.column_stack([np.ones(s), system.controls[i], whole])
        coefficients = np.linalg.lstsq(design, values, rcond=1e-8)[0]
        left[i] = values - design @ coefficients
        means[i] = coefficients[0]
    return means, left @ left.T / (s * max(s - 3, 1))


def _log_likelihood(system: _System, theta: Vector, form: float, values: Vector) -> LogLikelihood:
    """Put a log-likelihood together from `uᵀ log(PVP) u` of every probe, regressed on `uᵀ V u`."""
    degrees = system.restriction.rank
    controls = theta @ system.controls
    constant = -0.5 * (degrees * np.log(2 * np.pi) + form)
    design = np.column_stack([np.ones(len(values)), controls])
    mean = float(np.linalg.lstsq(design, values, rcond=1e-8)[0][0])
    return LogLikelihood(constant - 0.5 * mean, -0.5 * values + constant, controls)
