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


@dataclass(frozen=True)
class Solution:
    """Solutions of many systems and how good they are.

    Attributes
    ----------
    x
        (n, r) solutions.
    relative_residual
        (r,) `‖b − H x‖ / ‖b‖`.
    iterations
        (r,) products spent on each column.
    converged
        (r,) whether the tolerance was reached.
    """

    x: NDArray[np.float32]
    relative_residual: NDArray[np.float64]
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]


def solve_pcg(
    matmat: ColumnMatmat,
    x: NDArray[np.float32],
    residual: NDArray[np.float32],
    precondition: ColumnMatmat,
    *,
    right_norms: NDArray[np.float64],
    tolerance: float,
    max_iterations: int = 60,
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

    Returns
    -------
    Solution
        A right-hand side of zero gives the solution zero.

    Notes
    -----
    Cost: one product an iteration; columns leave the product as they converge. What one column gets does not depend
    on the others.
    """
    n_columns = x.shape[1]
    safe = np.where(right_norms > 0, right_norms, 1.0)
    relative = np.sqrt(column_dots(residual, residual)) / safe
    iterations = np.zeros(n_columns, dtype=np.int64)
    active = np.flatnonzero(relative > tolerance)
    z = precondition(residual[:, active], active)
    direction = z.copy()
    rho = column_dots(residual[:, active], z)
    for _ in range(max_iterations):
        if active.size == 0:
            break
        product = matmat(direction, active)
        alpha = (rho / column_dots(direction, product)).astype(np.float32)
        x[:, active] += alpha * direction
        residual[:, active] -= alpha * product
        iterations[active] += 1
        relative[active] = np.sqrt(column_dots(residual[:, active], residual[:, active])) / safe[active]
        unfinished = relative[active] > tolerance
        active, direction, rho = active[unfinished], direction[:, unfinished], rho[unfinished]
        z = precondition(residual[:, active], active)
        new_rho = column_dots(residual[:, active], z)
        direction = z + direction * (new_rho / rho).astype(np.float32)
        rho = new_rho
    return Solution(x, relative, iterations, relative <= tolerance)
