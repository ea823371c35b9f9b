"""Batched Lanczos recursions: one recursion a column, run once, serves every shift.

Krylov spaces do not change when a multiple of the identity is added, so the tridiagonal matrix of one recursion gives
vᵀ f(A) v for every function f at once (Golub & Meurant 2010; for REML: Border & Becker 2019,
doi 10.1186/s12859-019-2978-z).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.linalg.operators import Matmat, column_dots


@dataclass(frozen=True)
class Quadrature:
    """Gauss nodes and weights: `vᵀ f(A) v ≈ Σᵢ weights[:, i] f(nodes[:, i])`, a row a column v.

    Attributes
    ----------
    nodes
        (r, s) Ritz values.
    weights
        (r, s), adding up to ‖v‖² in each row.
    """

    nodes: NDArray[np.float64]
    weights: NDArray[np.float64]


def gauss(alpha: NDArray[np.float64], beta: NDArray[np.float64], norms: NDArray[np.float64]) -> Quadrature:
    """Return the Gauss quadrature that belongs to recursions' coefficients.

    Parameters
    ----------
    alpha, beta
        (r, s) diagonals and off-diagonals; a recursion of fewer steps ends with an off-diagonal of 0 and goes on with
        zeros, which become nodes without weight.
    norms
        (r,) norms of the start columns.

    Examples
    --------
    One step of a vector of norm 2 on which the matrix has the mean 3:

    >>> gauss(np.array([[3.0]]), np.array([[0.5]]), np.array([2.0]))
    Quadrature(nodes=array([[3.]]), weights=array([[4.]]))
    """
    r, steps = alpha.shape
    T = np.zeros((r, steps, steps))
    i = np.arange(steps)
    T[:, i, i] = alpha
    T[:, i[:-1], i[1:]] = T[:, i[1:], i[:-1]] = beta[:, : max(steps - 1, 0)]
    nodes, vectors = np.linalg.eigh(T)
    return Quadrature(nodes, vectors[:, 0, :] ** 2 * norms[:, None] ** 2)


class Lanczos:
    """Lanczos recursions of several columns, advanced together one product at a time.

    `A V = V T + …` with T tridiagonal: diagonals `alpha`, off-diagonals `beta`. There is no reorthogonalisation:
    over the few dozen steps that are taken here, lost orthogonality repeats Ritz values but does not bias quadrature
    (Greenbaum 1989; Meurant & Strakoš 2006).

    Parameters
    ----------
    start
        (n, r) start columns, in the range of the operator.
    n_kept
        Leading columns whose Lanczos vectors are kept, so that `solve` can be called for them.
    """

    def __init__(self, start: NDArray[np.float32], n_kept: int = 0) -> None:
        self.norms = np.sqrt(column_dots(start, start))
        self.alpha: list[NDArray[np.float64]] = []
        self.beta: list[NDArray[np.float64]] = []
        self.kept: list[NDArray[np.float32]] = []
        self.active = np.arange(start.shape[1])
        self._n_kept = n_kept
        self._previous = np.zeros_like(start)
        self._current = _scaled(start, self.norms)

    @property
    def n_steps(self) -> int:
        """Products taken so far."""
        return len(self.alpha)

    @property
    def current(self) -> NDArray[np.float32]:
        """The active columns' latest vectors, whose product `take` wants; (n, active)."""
        return self._current

    def advance(self, matmat: Matmat) -> None:
        """Take one step for the active columns: one product."""
        self.take(matmat(self._current))

    def take(self, product: NDArray[np.float32]) -> None:
        """Take one step for the active columns with `A current`, which is overwritten."""
        current = self._current
        if self._n_kept:
            vectors = np.zeros((current.shape[0], self._n_kept), dtype=np.float32)
            inside = self.active < self._n_kept
            vectors[:, self.active[inside]] = current[:, inside]
            self.kept.append(vectors)
        alpha = column_dots(product, current)
        product -= current * alpha.astype(np.float32)
        if self.beta:
            product -= self._previous * self.beta[-1][self.active].astype(np.float32)
        size = np.sqrt(column_dots(product, product))
        scale = np.maximum(np.abs(alpha), 1e-30)
        size[size < 1e-5 * scale] = 0.0  # an invariant subspace is found: nothing is left to add
        self.alpha.append(self._spread(alpha))
        self.beta.append(self._spread(size))
        self._previous, self._current = current, _scaled(product, size)

    def retain(self, columns: NDArray[np.intp]) -> None:
        """Go on with these columns only; the others keep what they have."""
        inside = np.isin(self.active, columns)
        if self.beta:
            self.beta[-1][self.active[~inside]] = 0.0  # their matrices end here
        self.active = self.active[inside]
        self._previous = np.ascontiguousarray(self._previous[:, inside])
        self._current = np.ascontiguousarray(self._current[:, inside])

    def quadrature(self, columns: NDArray[np.intp], n_steps: int | None = None) -> Quadrature:
        """Return the Gauss quadrature of `columns` after `n_steps` steps (all by default)."""
        steps = n_steps or self.n_steps
        alpha, beta = (np.array(part[:steps])[:, columns].T for part in (self.alpha, self.beta))
        return gauss(alpha, beta, self.norms[columns])

    def solve(self, column: int, scale: float, shift: float, n_steps: int | None = None) -> NDArray[np.float32]:
        """Return `V (scale·T + shift)⁻¹ e₁ ‖v‖`, the Krylov solution of `(scale·A + shift) x = v`, (n,)."""
        steps = n_steps or self.n_steps
        T = self._tridiagonal(np.array([column]), steps)[0]
        right = np.zeros(steps)
        right[0] = self.norms[column]
        weights = np.linalg.solve(scale * T + shift * np.eye(steps), right)
        solution = np.zeros(self.kept[0].shape[0])
        for vectors, weight in zip(self.kept[:steps], weights, strict=True):
            solution += weight * vectors[:, column]
        return solution.astype(np.float32)

    def _tridiagonal(self, columns: NDArray[np.intp], steps: int) -> NDArray[np.float64]:
        T = np.zeros((len(columns), steps, steps))
        for i in range(steps):
            T[:, i, i] = self.alpha[i][columns]
            if i + 1 < steps:
                T[:, i, i + 1] = T[:, i + 1, i] = self.beta[i][columns]
        return T

    def _spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        full = np.zeros(len(self.norms))
        full[self.active] = values
        return full


def _scaled(X: NDArray[np.float32], norms: NDArray[np.float64]) -> NDArray[np.float32]:
    """Divide columns by their norms; a zero column stays zero."""
    inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    return np.asarray(X * inverse.astype(np.float32), dtype=np.float32)
