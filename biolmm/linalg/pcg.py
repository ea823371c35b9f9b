"""Preconditioned conjugate gradients for many independent right-hand sides in shared products.

Hestenes & Stiefel 1952; preconditioning by deflation as in Frangella, Tropp & Udell 2021 (arXiv 2110.02820).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.linalg.operators import column_dots

ColumnMatmat = Callable[[NDArray[np.float32], NDArray[np.intp]], NDArray[np.float32]]
"""(n, r) block and the indices of its columns among all systems, to the block of products, each with its own matrix."""

STEP_MARGIN = 1.5
"""A step without a product is taken to reduce the residual by the larger of the last two reductions times this: 0.3 to
2.0 were measured, 0.95 in the median, more than this in one column of eight."""
MOST_REPEATED = 0.9
"""Cap of the ratio by which gains are taken to fall from one iteration to the next."""


@dataclass(frozen=True)
class Solution:
    """Solutions of many systems and how good they are.

    Attributes
    ----------
    x
        (n, r) solutions.
    relative_residual
        (r,) `‖b − H x‖ / ‖b‖`; where a column ended on a step without a product, an estimate that is rarely too small.
    iterations
        (r,) products spent on each column.
    converged
        (r,) whether the tolerance was reached, going by `relative_residual`.
    energy
        (r,) estimate of `r₀ᵀ H⁻¹ r₀`, r₀ the residual of the start: `bᵀH⁻¹b = (b + r₀)ᵀx₀ + r₀ᵀH⁻¹r₀`.
    """

    x: NDArray[np.float32]
    relative_residual: NDArray[np.float64]
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]
    energy: NDArray[np.float64]


class ConjugateGradients:
    """The iteration, column by column, advanced one product at a time.

    With r₀ the residual of the start, `r₀ᵀH⁻¹r₀ = Σⱼ αⱼρⱼ + rₖᵀH⁻¹rₖ` exactly (ρ = rᵀM⁻¹r; Hestenes & Stiefel 1952),
    so the form is known from the scalars of the iteration, with an error that is quadratic in the residual. What is
    left over is estimated as well: the next α as the last one, all further gains falling as the last did.

    Parameters
    ----------
    matmat
        Products with the matrices of the columns that are asked for.
    precondition
        An approximate inverse of the same matrices.
    x
        (n, r) start; overwritten with the solution.
    residual
        (n, r) `b − H x` at the start; overwritten, and at any time the residual of x.

    Attributes
    ----------
    active
        Columns that go on.
    iterations
        (r,) products spent on each column.
    norms
        (r,) `‖b − H x‖`.
    gained
        (r,) `Σ αⱼρⱼ`.
    """

    def __init__(
        self, matmat: ColumnMatmat, precondition: ColumnMatmat, x: NDArray[np.float32], residual: NDArray[np.float32]
    ) -> None:
        n_columns = x.shape[1]
        self.x, self.residual = x, residual
        self.active = np.arange(n_columns)
        self.iterations = np.zeros(n_columns, dtype=np.int64)
        self.norms = np.sqrt(column_dots(residual, residual))
        self.gained = np.zeros(n_columns)
        self._matmat, self._precondition = matmat, precondition
        self._direction = precondition(residual, self.active)
        self._rho = column_dots(residual, self._direction)
        self._alpha = np.ones(n_columns)
        self._ratio = np.zeros(n_columns)

    @property
    def remaining(self) -> NDArray[np.float64]:
        """(r,) estimate of `rᵀH⁻¹r`, what `gained` still lacks."""
        return np.asarray(self._alpha * self._rho / (1 - np.minimum(self._ratio, MOST_REPEATED)))

    @property
    def uncertainty(self) -> NDArray[np.float64]:
        """(r,) about the largest error of `gained + remaining`, from the second product on."""
        return np.asarray(np.where(self.iterations > 1, self._ratio, 1.0) * self.remaining)

    def retain(self, columns: NDArray[np.intp]) -> None:
        """Go on with these columns only; the others keep what they have."""
        inside = np.isin(self.active, columns)
        if not inside.all():
            self.active, self._direction = self.active[inside], self._direction[:, inside]

    def advance(self) -> None:
        """Take one iteration of the active columns: one product."""
        active, direction = self.active, self._direction
        product = self._matmat(direction, active)
        rho, curvature = self._rho[active], column_dots(direction, product)
        alpha = np.divide(rho, curvature, out=np.zeros_like(rho), where=curvature > 0)
        self.x[:, active] += alpha.astype(np.float32) * direction
        product *= alpha.astype(np.float32)
        residual = self.residual[:, active] - product
        self.residual[:, active] = residual
        self.iterations[active] += 1
        self.norms[active] = np.sqrt(column_dots(residual, residual))
        self.gained[active] += alpha * rho
        z = self._precondition(residual, active)
        new = column_dots(residual, z)
        ratio = np.divide(new, rho, out=np.zeros_like(rho), where=rho > 0)
        self._alpha[active], self._rho[active], self._ratio[active] = alpha, new, ratio
        direction *= ratio.astype(np.float32)
        direction += z

    def step_ahead(self, columns: NDArray[np.intp]) -> None:
        """Take the next step of some active columns at the length of the last, without a product and for the last time.

        `residual` stays that of x before the step.
        """
        inside = np.isin(self.active, columns)
        mine = self.active[inside]
        self.x[:, mine] += self._alpha[mine].astype(np.float32) * self._direction[:, inside]
        self.retain(self.active[~inside])


def solve_pcg(
    matmat: ColumnMatmat,
    x: NDArray[np.float32],
    residual: NDArray[np.float32],
    precondition: ColumnMatmat,
    *,
    right_norms: NDArray[np.float64],
    tolerance: float,
    max_iterations: int = 60,
    ahead: bool = False,
) -> Solution:
    """Solve `H_j x_j = b_j` for every column j, each with its own symmetric positive definite matrix.

    Parameters
    ----------
    matmat
        Products with the matrices of the columns that are asked for.
    x
        (n, r) start; overwritten with the solution.
    residual
        (n, r) `b − H x` at the start; overwritten.
    precondition
        An approximate inverse of the same matrices.
    right_norms
        (r,) `‖b‖`.
    tolerance
        A column is finished when `‖b − H x‖ ≤ tolerance · ‖b‖`.
    max_iterations
        After so many products a column is returned as not converged.
    ahead
        End a column on a step without a product where that should reach the tolerance: the direction is known, its
        length is taken from the last step. The residual is then reported as 1.5 times what the larger of the last two
        reductions would leave: one alone may be luck, for residuals fluctuate. Needs a preconditioner that leaves H a
        narrow spectrum.

    Returns
    -------
    Solution
        A right-hand side of zero gives the solution zero.

    Notes
    -----
    Cost: one product an iteration; columns leave the product as they converge. What one column gets does not depend
    on the others.
    """
    cg = ConjugateGradients(matmat, precondition, x, residual)
    safe = np.where(right_norms > 0, right_norms, 1.0)
    relative = cg.norms / safe
    last = np.zeros(len(relative))
    cg.retain(np.flatnonzero(relative > tolerance))
    for _ in range(max_iterations):
        active = cg.active
        if active.size == 0:
            break
        before = relative[active]
        cg.advance()
        now = relative[active] = cg.norms[active] / safe[active]
        unfinished = now > tolerance
        if ahead:
            reduction = now / before
            after = STEP_MARGIN * now * np.maximum(reduction, last[active])
            last[active] = reduction
            near = unfinished & (after <= tolerance)
            cg.step_ahead(active[near])
            relative[active[near]] = after[near]
            unfinished &= ~near
        cg.retain(active[unfinished])
    return Solution(x, relative, cg.iterations, relative <= tolerance, cg.gained + cg.remaining)
