"""Every quantity by its definition, with explicit matrices; slow and short.

Calls are (variants, samples) of 0, 1, 2 and 3 = missing; K is (N, N); X are the covariates, intercept included.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import null_space, solve_triangular
from scipy.optimize import minimize_scalar

Array = NDArray[Any]


def standardised(calls: Array, alpha: float = -1.0, scale: str = "hwe") -> tuple[Array, Array]:
    """Return Z (M, N), missing = 0 and monomorphic rows 0, and the weights (M,) that add up to m."""
    Z, weight = np.zeros(calls.shape), np.zeros(len(calls))
    for j, row in enumerate(calls):
        called = row < 3
        g = row[called].astype(float)
        if len(set(g.tolist())) < 2:
            continue
        p = g.mean() / 2
        variance = 2 * p * (1 - p) if scale == "hwe" else g.var()
        Z[j, called] = (g - 2 * p) * variance ** (alpha / 2)
        weight[j] = variance ** (1 + alpha)
    return Z, weight


def relatedness(calls: Array, alpha: float = -1.0, scale: str = "hwe") -> Array:
    """Return K = ZᵀZ / m."""
    Z, weight = standardised(calls, alpha, scale)
    return Z.T @ Z / weight.sum()


def complement(observed: Array, X: Array) -> Array:
    """Return A (N, n − C): an orthonormal basis of the observed samples' vectors that are orthogonal to X."""
    A = np.zeros((len(observed), 0))
    inner = null_space(X[observed].T)
    A = np.zeros((len(observed), inner.shape[1]))
    A[observed] = inner
    return A


def deviance(h2: float, K: Array, y: Array, X: Array) -> float:
    """Return −2ℓ(h²) of the error contrasts Aᵀy ~ N(0, σ² Aᵀ(h²K + (1−h²)I)A), σ² profiled, without constants."""
    observed = ~np.isnan(y)
    A = complement(observed, X)
    H = A.T @ (h2 * K + (1 - h2) * np.eye(len(K))) @ A
    u = A.T @ np.nan_to_num(y)
    return float(len(u) * np.log(u @ np.linalg.solve(H, u) / len(u)) + np.linalg.slogdet(H)[1])


def reml(K: Array, y: Array, X: Array) -> tuple[float, float]:
    """Return the h² that minimises `deviance` over 0 … 0.9999, and the variance σ² there."""
    observed = ~np.isnan(y)
    A = complement(observed, X)
    S, u = A.T @ K @ A, A.T @ np.nan_to_num(y)

    def parts(h2: float) -> tuple[float, float]:
        factor = np.linalg.cholesky(h2 * S + (1 - h2) * np.eye(len(u)))
        white = solve_triangular(factor, u, lower=True)
        return float(white @ white / len(u)), 2 * float(np.log(np.diag(factor)).sum())

    def at(h2: float) -> float:
        variance, log_determinant = parts(h2)
        return float(len(u) * np.log(variance) + log_determinant)

    grid = np.linspace(0, 0.9999, 25)
    best = int(np.argmin([at(h2) for h2 in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, 24)])
    found = minimize_scalar(at, bounds=bounds, method="bounded", options={"xatol": 1e-10})
    h2 = float(found.x) if found.fun < at(grid[best]) else float(grid[best])
    return h2, parts(h2)[0]


def h2_standard_error(h2: float, K: Array, observed: Array, X: Array) -> float:
    """Return the standard error of h² from the Fisher information of (σ²_g, σ²_e): I = ½ tr(P_V Vᵢ P_V Vⱼ)."""
    A = complement(observed, X)
    parts = [A.T @ K @ A, np.eye(A.shape[1])]
    V = h2 * parts[0] + (1 - h2) * parts[1]
    scaled = [np.linalg.solve(V, part) for part in parts]
    information = np.array([[np.trace(a @ b) / 2 for b in scaled] for a in scaled])
    gradient = np.array([1 - h2, -h2])  # of σ²_g / (σ²_g + σ²_e) where their sum is 1
    return float(np.sqrt(gradient @ np.linalg.solve(information, gradient)))


def projected_solve(V: Array, y: Array, X: Array) -> Array:
    """Return P_V y = A (AᵀVA)⁻¹ Aᵀ y, zero where y is unobserved."""
    A = complement(~np.isnan(y), X)
    return A @ np.linalg.solve(A.T @ V @ A, A.T @ np.nan_to_num(y))


def covariance(h2: float, K: Array, y: Array, X: Array) -> Array:
    """Return V = σ² H, H = h²K + (1−h²)I, with σ² = yᵀP_H y / (n − C), the likeliest total variance at this h²."""
    H = h2 * K + (1 - h2) * np.eye(len(K))
    rank = complement(~np.isnan(y), X).shape[1]
    return np.nan_to_num(y) @ projected_solve(H, y, X) / rank * H


def left_out_relatedness(calls: Array, contigs: Array, left_out: int) -> Array:
    """Return K₋c: the relatedness of all variants on other contigs, frequencies as ever."""
    return relatedness(calls[contigs != left_out])
