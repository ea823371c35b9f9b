"""An approximate inverse of V from what the probes have already cost: diagonal plus low rank.

The products `G u` of the probes with the random effects' covariance G give its Nyström approximation `W Λ Wᵀ`, which holds
the few directions along which populations and families differ (Frangella, Tropp & Udell 2023, doi 10.1137/21M1466244); the
rest of V is taken for its diagonal, which may differ between samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular


class LowRankPreconditioner:
    """`(D + W Λ Wᵀ)⁻¹`, D the diagonal of V less that of the low-rank part.

    Parameters
    ----------
    diagonal
        (N,) diag(V).
    probes
        (N, s) U.
    products
        (N, s) G U.
    noise
        (N,) diag(V − G), below which D cannot be.

    Notes
    -----
    **Cost**: 4·N·s² flop at the start and 4·N·s a column.
    """

    def __init__(
        self,
        diagonal: NDArray[np.float64],
        probes: NDArray[np.float32],
        products: NDArray[np.float64],
        noise: NDArray[np.float64],
    ) -> None:
        self.W = np.zeros((len(diagonal), 0))
        rest = diagonal
        size = float(np.linalg.norm(products))
        if size > 0 and probes.shape[1]:
            # The shift keeps the small matrix positive definite in the face of single precision (ibid., algorithm 2.1).
            shift = 1e-6 * size
            U, Y = probes.astype(np.float64), products + shift * probes
            core = U.T @ Y
            try:
                factor = cholesky(0.5 * (core + core.T), lower=True)
            except np.linalg.LinAlgError:
                factor = None
            if factor is not None:
                B = solve_triangular(factor, Y.T, lower=True).T
                vectors, values, _ = np.linalg.svd(B, full_matrices=False)
                self.W = vectors * np.sqrt(np.maximum(values**2 - shift, 0.0))
                low = np.einsum("ij,ij->i", self.W, self.W)
                rest = np.maximum(diagonal - low, noise)
        self.inverse = 1.0 / np.maximum(rest, 1e-300)
        inner = np.eye(self.W.shape[1]) + self.W.T @ (self.inverse[:, None] * self.W)
        self._factor = cho_factor(inner, lower=True) if len(inner) else None

    def __call__(self, R: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the approximate inverse times a block (Woodbury)."""
        scaled = self.inverse[:, None] * R
        if self._factor is None:
            return np.asarray(scaled)
        inner = cho_solve(self._factor, self.W.T @ scaled)
        return np.asarray(scaled - self.inverse[:, None] * (self.W @ inner))
