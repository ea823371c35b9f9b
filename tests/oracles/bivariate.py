"""Bivariate REML by definition: the density of all error contrasts, maximised without derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from oracles.dense import complement

Array = NDArray[np.float64]


def contrasts(y: Sequence[Array], X: Array) -> tuple[Array, Array]:
    """Return A (2N, r), block diagonal, and Aᵀ(y_1, y_2); y are NaN where unobserved."""
    parts = [complement(~np.isnan(t), X) for t in y]
    N, sizes = len(X), [p.shape[1] for p in parts]
    A = np.zeros((2 * N, sum(sizes)))
    A[:N, : sizes[0]], A[N:, sizes[0] :] = parts
    return A, A.T @ np.concatenate([np.nan_to_num(t) for t in y])


def minus_log_likelihood(theta: Array, K: Array, A: Array, u: Array) -> float:
    """Return −ℓ of u = Aᵀy ~ N(0, Aᵀ(G⊗K + E⊗I)A); infinite where that is not positive definite."""
    G = np.array([[theta[0], theta[1]], [theta[1], theta[2]]])
    E = np.array([[theta[3], theta[4]], [theta[4], theta[5]]])
    V = A.T @ (np.kron(G, K) + np.kron(E, np.eye(len(K)))) @ A
    try:
        L = np.linalg.cholesky(V)
    except np.linalg.LinAlgError:
        return np.inf
    white = np.linalg.solve(L, u)
    return float(np.log(np.diag(L)).sum() + white @ white / 2 + len(u) * np.log(2 * np.pi) / 2)


def descend(value: Callable[[Array], float], start: Array) -> tuple[Array, float]:
    """Return where a function is least, by Nelder–Mead and then by BFGS with numerical derivatives, from near there."""
    options = {"xatol": 1e-7, "fatol": 1e-9, "maxiter": 2000, "maxfev": 2000}
    psi = minimize(value, start, method="Nelder-Mead", options=options).x
    for _ in range(3):
        psi = minimize(value, psi, method="BFGS", jac="3-point", options={"gtol": 1e-8}).x
    return psi, value(psi)


def reml(K: Array, y: Sequence[Array], X: Array, start: Array, free: Sequence[int] = range(6)) -> tuple[Array, float]:
    """Return the θ that minimises −ℓ over some parameters, the others 0, and −ℓ there."""
    A, u = contrasts(y, X)
    at = list(free)

    def value(psi: Array) -> float:
        theta = np.zeros(6)
        theta[at] = psi
        return minus_log_likelihood(theta, K, A, u)

    psi, least = descend(value, np.asarray(start)[at])
    theta = np.zeros(6)
    theta[at] = psi
    return theta, least
