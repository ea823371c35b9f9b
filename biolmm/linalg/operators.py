"""What an algorithm sees of a matrix: products with blocks of columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matmat = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A (n, r) block of columns to a (n, r) block: Y = A X."""

PROJECTED_COLUMNS = 16
"""Columns projected at once, in double precision: few, for the sake of memory."""


@dataclass(frozen=True)
class Restriction:
    """The projection `P = D − QQᵀ`: observed rows only, covariates taken out.

    Attributes
    ----------
    observed
        (n,) whether each row is observed: the diagonal of D.
    basis
        (n, C) orthonormal columns Q, zero on unobserved rows.
    """

    observed: NDArray[np.bool_]
    basis: NDArray[np.float64]

    @property
    def rank(self) -> int:
        """Dimension of the range of P: observed rows less covariates."""
        return int(np.count_nonzero(self.observed)) - int(self.basis.shape[1])

    def project(self, X: NDArray[np.float64] | NDArray[np.float32]) -> NDArray[np.float64]:
        """Return `P X`, (n, r), in double precision."""
        kept = np.where(self.observed[:, None], X, 0.0)
        return kept - self.basis @ (self.basis.T @ kept)


@dataclass(frozen=True)
class RestrictedOperator:
    """`P_s K P_s` column by column, each column under the restriction of its own system s.

    Columns are in runs: `columns[s]` of them belong to `restrictions[s]`.
    """

    matmat: Matmat
    restrictions: Sequence[Restriction]
    columns: Sequence[int]

    def __call__(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `P K P X`; the columns of X are taken to lie in the range of P already."""
        return self.project(self.matmat(X))

    def project(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `P_s X` for the columns of every system."""
        if sum(self.columns) != X.shape[1]:
            raise ValueError(f"{X.shape[1]} columns were given for systems with {list(self.columns)}")
        projected = np.empty(X.shape, dtype=np.float32)
        stop = 0
        for restriction, count in zip(self.restrictions, self.columns, strict=True):
            start, stop = stop, stop + count
            for left in range(start, stop, PROJECTED_COLUMNS):
                columns = slice(left, min(left + PROJECTED_COLUMNS, stop))
                projected[:, columns] = restriction.project(X[:, columns])
        return projected


def column_dots(A: NDArray[Any], B: NDArray[Any]) -> NDArray[np.float64]:
    """Return `diag(AᵀB)`, (r,), added up in double precision whatever the type of A and B."""
    total = np.zeros(A.shape[1])
    for start in range(0, A.shape[0], 4096):
        rows = slice(start, start + 4096)
        total += np.einsum("ij,ij->j", A[rows], B[rows], dtype=np.float64)
    return total
