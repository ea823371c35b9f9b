"""The exact mixed model by its definition: explicit V, its determinant and its inverse, for every λ that is tried.

y ~ N(Xb, σ²(λK + I)), K centred on the observed samples; ML and REML as Lippert et al. 2011 (FaST-LMM) and Zhou & Stephens
2012 (GEMMA) define them, constants included.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

Array = NDArray[Any]


def centred(K: Array) -> Array:
    """Return (I − 11ᵀ/n) K (I − 11ᵀ/n)."""
    J = np.eye(len(K)) - 1 / len(K)
    return J @ K @ J


def log_likelihood(log_lambda: float, K: Array, y: Array, X: Array, reml: bool) -> float:
    """Return the maximum over b and σ² of the (restricted) log-likelihood at λ."""
    V = np.exp(log_lambda) * K + np.eye(len(y))
    Vi = np.linalg.inv(V)
    A = X.T @ Vi @ X
    residual = y - X @ np.linalg.solve(A, X.T @ Vi @ y)
    m = len(y) - X.shape[1] if reml else len(y)
    value = -m / 2 * np.log(2 * np.pi * (residual @ Vi @ residual) / m) - m / 2 - np.linalg.slogdet(V)[1] / 2
    if reml:
        value += (np.linalg.slogdet(X.T @ X)[1] - np.linalg.slogdet(A)[1]) / 2
    return float(value)


def maximum(K: Array, y: Array, X: Array, reml: bool) -> tuple[float, float]:
    """Return λ̂ over 1e-5 … 1e5, and the log-likelihood there."""
    grid = np.linspace(np.log(1e-5), np.log(1e5), 41)
    heights = [log_likelihood(t, K, y, X, reml) for t in grid]
    best = int(np.argmax(heights))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, 40)])
    found = minimize_scalar(
        lambda t: -log_likelihood(t, K, y, X, reml), bounds=bounds, method="bounded", options={"xatol": 1e-9}
    )
    if -found.fun > heights[best]:
        return float(np.exp(found.x)), float(-found.fun)
    return float(np.exp(grid[best])), heights[best]


def least_squares(V: Array, y: Array, X: Array) -> tuple[Array, Array, float]:
    """Return b̂ of generalised least squares, (XᵀV⁻¹X)⁻¹, and the residual form rᵀV⁻¹r."""
    Vi = np.linalg.inv(V)
    inverse = np.linalg.inv(X.T @ Vi @ X)
    b = inverse @ X.T @ Vi @ y
    return b, inverse, float((y - X @ b) @ Vi @ (y - X @ b))
