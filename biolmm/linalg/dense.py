"""Generalised least squares with an explicit covariance matrix, by Cholesky factors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, solve_triangular

from biolmm.chunks import check_stop
from biolmm.linalg.operators import Restriction


class DenseProjection:
    """`P_V = V⁻¹ − V⁻¹Q (QᵀV⁻¹Q)⁻¹ QᵀV⁻¹`, the pseudo-inverse of PVP on the observed rows.

    Parameters
    ----------
    V
        (N, N) symmetric matrix, positive definite on the observed rows.
    restriction
        Observed rows and covariates Q.

    Notes
    -----
    Cost: n³/3 flop once; n² a column afterwards.
    """

    def __init__(self, V: NDArray[np.float64], restriction: Restriction) -> None:
        check_stop()
        self.rows = np.flatnonzero(restriction.observed)
        self._n = len(restriction.observed)
        self._factor, _ = cho_factor(V[np.ix_(self.rows, self.rows)], lower=True, overwrite_a=True)
        whitened = solve_triangular(self._factor, restriction.basis[self.rows], lower=True)
        self._span = np.linalg.qr(whitened)[0]

    def whiten(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `A` with `AᵀA = Xᵀ P_V X`, (n, r), for X (N, r)."""
        white = solve_triangular(self._factor, X[self.rows], lower=True)
        return np.asarray(white - self._span @ (self._span.T @ white))

    def solve(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `P_V X`, (N, r), zero on unobserved rows."""
        solution = np.zeros((self._n, X.shape[1]))
        solution[self.rows] = solve_triangular(self._factor, self.whiten(X), lower=True, trans="T")
        return solution

    def forms(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `diag(Xᵀ P_V X)`, (r,)."""
        white = self.whiten(X)
        return np.asarray(np.einsum("ij,ij->j", white, white))
