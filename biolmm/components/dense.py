"""The likelihood with explicit matrices: exact, for cohorts whose N × N matrices fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, lapack

from biolmm.chunks import check_stop
from biolmm.components.problem import Evaluation, FixedEffects, LogLikelihood, Problem, Task
from biolmm.covariance import Term

Matrix = NDArray[np.float64]
NONE = np.zeros(0)


class DenseEngine:
    """Evaluates by Cholesky factors of `PVP + QQᵀ`, whose inverse is `P_V + QQᵀ` and whose determinant is that of PVP on
    the range of P.

    Parameters
    ----------
    problem
        What is fitted.
    known
        Matrices of terms that are known already; those that are not are added.

    Notes
    -----
    **Cost**: every term's matrix once, 8·N² bytes each (noise: 8·N); n³ flop and q·n² an evaluation.
    """

    def __init__(self, problem: Problem, known: dict[Term, Matrix] | None = None) -> None:
        self.problem = problem
        matrices = {} if known is None else known
        for term in problem.terms:
            if term not in matrices:
                matrices[term] = term.diagonal() if term.is_diagonal else term.dense()
        self._matrices = [matrices[term] for term in problem.terms]
        self._of_system = lru_cache(maxsize=1)(self._restricted)

    def evaluate(self, tasks: Sequence[Task], thetas: Sequence[Matrix]) -> list[Evaluation]:
        """Return score, information and log-likelihood of every task at its θ."""
        return [self._evaluate(task.trait, theta) for task, theta in zip(tasks, thetas, strict=True)]

    def log_likelihoods(self, tasks: Sequence[Task], thetas: Sequence[Matrix]) -> list[LogLikelihood]:
        """Return the log-likelihood of every task at its θ."""
        return [LogLikelihood(found.log_likelihood, NONE, NONE) for found in self.evaluate(tasks, thetas)]

    def fixed_effects(self, tasks: Sequence[Task], thetas: Sequence[Matrix]) -> list[FixedEffects]:
        """Return `γ = Qᵀ (y − V P_V y)` and `(Qᵀ V⁻¹ Q)⁻¹ = QᵀVQ − QᵀV P_V VQ`."""
        found = []
        for task, theta in zip(tasks, thetas, strict=True):
            matrices, Q, rows = self._of_system(self.problem.system(task.trait))
            V = self._sum(matrices, theta)
            factor = _factor(V, Q)
            if factor is None:
                raise ValueError("V is not positive definite at the estimate")
            P_V = _inverse(factor) - Q @ Q.T
            y = self.problem.cohort.y[rows, task.trait]
            VQ = V @ Q
            found.append(FixedEffects(Q.T @ y - VQ.T @ (P_V @ y), Q.T @ VQ - VQ.T @ P_V @ VQ))
        return found

    def effects(self, tasks: Sequence[Task], thetas: Sequence[Matrix]) -> list[Matrix]:
        """Return `θ_i K_i P_V y` of every task, (q, N), of people without the trait too."""
        found = []
        for task, theta in zip(tasks, thetas, strict=True):
            matrices, Q, rows = self._of_system(self.problem.system(task.trait))
            factor = _factor(self._sum(matrices, theta), Q)
            if factor is None:
                raise ValueError("V is not positive definite at the estimate")
            solution = np.zeros(self.problem.cohort.n_samples)
            y = self.problem.projected(task.trait)[rows]
            solution[rows] = cho_solve((factor, True), y, check_finite=False) - Q @ (Q.T @ y)
            products = [M * solution if M.ndim == 1 else M @ solution for M in self._matrices]
            found.append(theta[:, None] * np.stack(products))
        return found

    def add_probes(self) -> bool:
        """Say that there are none."""
        return False

    def _restricted(self, system: int) -> tuple[list[Matrix], Matrix, NDArray[np.intp]]:
        """Return the matrices and the basis on the observed samples of a system, and which those are."""
        restriction = self.problem.restrictions[system]
        rows = np.flatnonzero(restriction.observed)
        if len(rows) == len(restriction.observed):
            return self._matrices, restriction.basis, rows
        part = [M[rows] if M.ndim == 1 else M[np.ix_(rows, rows)] for M in self._matrices]
        return part, restriction.basis[rows], rows

    @staticmethod
    def _sum(matrices: list[Matrix], theta: Matrix) -> Matrix:
        n = len(matrices[0])
        V = np.zeros((n, n))
        for matrix, value in zip(matrices, theta, strict=True):
            if value and matrix.ndim == 1:
                V[np.diag_indices(n)] += value * matrix
            elif value:
                V += value * matrix
        return V

    def _evaluate(self, trait: int, theta: Matrix) -> Evaluation:
        matrices, Q, rows = self._of_system(self.problem.system(trait))
        q, n = len(matrices), len(rows)
        factor = _factor(self._sum(matrices, theta), Q)
        if factor is None:
            nan, square = np.full(q, np.nan), np.full((q, q), np.nan)
            return Evaluation(nan, square, nan, nan, np.zeros((q, q)), -np.inf)
        log_determinant = 2 * float(np.log(np.diag(factor)).sum())
        P_V = _inverse(factor)
        P_V -= Q @ Q.T
        y = self.problem.projected(trait)[rows]
        solution = P_V @ y
        products = np.column_stack([M * solution if M.ndim == 1 else M @ solution for M in matrices])
        traces = np.array([np.diag(P_V) @ M if M.ndim == 1 else np.vdot(P_V, M) for M in matrices])
        forms = products.T @ solution
        information = 0.5 * products.T @ P_V @ products
        degrees = n - Q.shape[1]
        value = -0.5 * (degrees * np.log(2 * np.pi) + log_determinant + float(y @ solution))
        return Evaluation(0.5 * (forms - traces), information, traces, forms, np.zeros((q, q)), value)


def _factor(V: Matrix, Q: Matrix) -> Matrix | None:
    """Return the lower Cholesky factor of `PVP + QQᵀ`, or None when V is not positive definite on the range of P."""
    check_stop()
    VQ = V @ Q
    half = VQ - 0.5 * Q @ (Q.T @ VQ)
    H = V - half @ Q.T - Q @ half.T + Q @ Q.T
    factor, failed = lapack.dpotrf(H, lower=1, clean=1, overwrite_a=1)
    return None if failed else factor


def _inverse(factor: Matrix) -> Matrix:
    """Return the inverse of the matrix with this factor."""
    check_stop()
    inverse, _ = lapack.dpotri(factor, lower=1)
    return np.asarray(np.tril(inverse) + np.tril(inverse, -1).T)
