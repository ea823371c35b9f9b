"""LD scores and LD score regression by their definitions: pairs in loops, least squares, and refits without a block."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


def dense_ld_scores(dosages: Matrix, place: Vector, contig: Vector, size: float, annotations: Matrix) -> Matrix:
    """Sum adjusted r² A over all pairs of variants (m, n) with NaN for missing, which is put at the mean."""
    filled = np.where(np.isnan(dosages), np.nanmean(dosages, axis=1, keepdims=True), dosages)
    r2 = np.corrcoef(filled) ** 2
    n = dosages.shape[1]
    adjusted = r2 - (1 - r2) / (n - 2)
    near = (np.abs(place[:, None] - place) <= size) & (contig[:, None] == contig)
    return np.where(near, adjusted, 0) @ annotations


def weights(ld: Vector, w_ld: Vector, n: tuple[Vector, Vector], m: float, h: tuple[float, float, float],
            a: tuple[float, float, float]) -> Vector:  # fmt: skip
    """Weigh by 1 / (ℓ^w [(N₁h₁²ℓ/M + a₁)(N₂h₂²ℓ/M + a₂) + (√(N₁N₂)ρℓ/M + a₁₂)²]); one trait's are those with itself."""
    h1, h2 = np.clip(h[0], 0, 1), np.clip(h[1], 0, 1)
    rho, ell = np.clip(h[2], -1, 1), np.maximum(ld, 1)
    one, two = n[0] * h1 * ell / m + a[0], n[1] * h2 * ell / m + a[1]
    both = np.sqrt(n[0] * n[1]) * rho * ell / m + a[2]
    return 1 / (np.maximum(w_ld, 1) * (one * two + both**2))


def least_squares(X: Matrix, y: Vector, w: Vector) -> Vector:
    """Solve weighted least squares."""
    return np.linalg.lstsq(X * np.sqrt(w)[:, None], y * np.sqrt(w))[0]


def regress(y, ld, w_ld, n, m, weigh, null, limit_ok, n_blocks):  # type: ignore[no-untyped-def]
    """Two steps of IRWLS with a jackknife that refits without each block; returns (2,) and (blocks, 2): slope, intercept.

    `weigh(slope, intercept)` gives the weights of all variants, `limit_ok` says which are in step one.
    """
    x = np.sqrt(n[0] * n[1]) * ld / m
    first = weigh(np.mean(y - null) / np.mean(x), null)
    X, at = np.column_stack([x, np.ones_like(x)])[limit_ok], np.flatnonzero(limit_ok)
    w = first[at]
    for _ in range(2):
        w = weigh(*least_squares(X, y[at], w))[at]
    intercept = least_squares(X, y[at], w)[1]
    edges = np.floor(np.linspace(0, len(at), n_blocks + 1)).astype(int)
    blocks = np.zeros(len(y), int)
    for b in range(n_blocks):
        start = 0 if b == 0 else at[edges[b]]
        blocks[start:] = b
    intercepts = [
        least_squares(X[blocks[at] != b], y[at][blocks[at] != b], w[blocks[at] != b])[1] for b in range(n_blocks)
    ]
    c, w = (first * x).sum() / (first * x**2).sum(), first
    for _ in range(2):
        w = weigh(least_squares(x[:, None], y - intercept, w)[0], intercept)
    slope = least_squares(x[:, None], y - intercept, w)[0]
    slopes = []
    for b in range(n_blocks):
        out = blocks != b
        slopes.append(least_squares(x[out, None], (y - intercept)[out], w[out])[0] - c * (intercepts[b] - intercept))
    return np.array([slope, intercept]), np.column_stack([slopes, intercepts])


def jackknife_se(estimate: float, deleted: Vector) -> float:
    """Take the standard error from estimates without each block."""
    B = len(deleted)
    pseudo = [B * estimate - (B - 1) * each for each in deleted]
    return float(np.sqrt(np.var(pseudo, ddof=1) / B))
