"""Functions of the ratio of variances λ, each as a polynomial in log λ on every decade.

All that the likelihood of a variant needs are sums `Σᵢ aᵢ / (λ sᵢ + 1)` over the eigenvalues s, at values of λ that are not
known before. As a function of t = log λ each term is a logistic curve, which has no singularity within π of the real axis:
on a decade its Chebyshev coefficients fall by 5.6 each, so that 20 of them give it to the last digit (Trefethen 2019,
*Approximation Theory and Approximation Practice*, ch. 8). The coefficients of a sum are the sum of the coefficients: one
matrix product with `inverse_coefficients` makes the sums of all variants at every λ.

Legend: n eigenvalues s, t = log λ, W windows, D coefficients of each.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

LAMBDA_MIN, LAMBDA_MAX = 1e-5, 1e5
"""Range of λ = σ²_g/σ²_e that is searched; GEMMA's."""
N_WINDOWS = 10
N_COEFFICIENTS = 20
N_FUNCTIONS = N_WINDOWS * N_COEFFICIENTS
"""Columns of a table of coefficients."""

T_MIN, T_MAX = float(np.log(LAMBDA_MIN)), float(np.log(LAMBDA_MAX))
WINDOW = (T_MAX - T_MIN) / N_WINDOWS

Array = NDArray[np.float64]


def _nodes() -> Array:
    """Return the Chebyshev points of one window, (D,) in −1 … 1."""
    return np.cos(np.pi * (np.arange(N_COEFFICIENTS) + 0.5) / N_COEFFICIENTS)


def _transform() -> Array:
    """Return the matrix that turns values at the points into coefficients, (D, D)."""
    angles = np.pi * (np.arange(N_COEFFICIENTS) + 0.5) / N_COEFFICIENTS
    cosines = np.cos(np.outer(np.arange(N_COEFFICIENTS), angles)) * 2 / N_COEFFICIENTS
    cosines[0] /= 2
    return np.asarray(cosines)


def lambdas() -> Array:
    """Return λ at the points of all windows, (W, D)."""
    centres = T_MIN + WINDOW * (np.arange(N_WINDOWS) + 0.5)
    return np.exp(centres[:, None] + WINDOW / 2 * _nodes())


def inverse_coefficients(values: Array) -> Array:
    """Return the coefficients of `t ↦ 1 / (eᵗ s + 1)` of every eigenvalue, (n, W·D).

    Notes
    -----
    **Cost**: 2·W·D² = 8,000 flop an eigenvalue; 1.6 kB each.
    """
    table = np.empty((len(values), N_WINDOWS, N_COEFFICIENTS))
    for window, at in enumerate(lambdas()):
        table[:, window] = (1 / (np.multiply.outer(values, at) + 1)) @ _transform().T
    return table.reshape(len(values), N_FUNCTIONS)


def log_determinant_coefficients(values: Array) -> Array:
    """Return the coefficients of `t ↦ Σᵢ log(eᵗ sᵢ + 1)`, (W·D,)."""
    at_points = np.array([[np.log1p(one * values).sum() for one in at] for at in lambdas()])
    return np.asarray(at_points @ _transform().T).reshape(N_FUNCTIONS)


@numba.njit(nogil=True, cache=True)
def fill_basis(u, basis):  # type: ignore[no-untyped-def]
    """Write T_k(u), T′_k(u) and T″_k(u) into the rows of `basis` (3, D), the derivatives with respect to t."""
    slope = 2.0 / WINDOW
    basis[0, 0], basis[0, 1] = 1.0, u
    basis[1, 0], basis[1, 1] = 0.0, 1.0
    basis[2, 0], basis[2, 1] = 0.0, 0.0
    for k in range(2, basis.shape[1]):
        basis[0, k] = 2 * u * basis[0, k - 1] - basis[0, k - 2]
        basis[1, k] = 2 * basis[0, k - 1] + 2 * u * basis[1, k - 1] - basis[1, k - 2]
        basis[2, k] = 4 * basis[1, k - 1] + 2 * u * basis[2, k - 1] - basis[2, k - 2]
    for k in range(basis.shape[1]):
        basis[1, k] *= slope
        basis[2, k] *= slope * slope


@numba.njit(nogil=True, cache=True)
def window_of(t):  # type: ignore[no-untyped-def]
    """Return the window of t and the place in it, −1 … 1."""
    window = min(max(int((t - T_MIN) / WINDOW), 0), N_WINDOWS - 1)
    return window, 2 * (t - T_MIN - window * WINDOW) / WINDOW - 1


def evaluate(coefficients: Array, t: float) -> Array:
    """Return functions given by their coefficients, (…, W·D), at one t."""
    window, u = window_of(t)
    basis = np.empty((3, N_COEFFICIENTS))
    fill_basis(u, basis)
    return np.asarray(coefficients[..., window * N_COEFFICIENTS : (window + 1) * N_COEFFICIENTS] @ basis[0])
