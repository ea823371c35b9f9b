"""What a block's product adds up to: norms and denominators of every variant and trait.

Legend: b variants, S sets of observed samples, T traits, k eigenvectors of a set; W (b, r) the block's product.
"""

from __future__ import annotations

import numba
import numpy as np

_SUMS = {"reassoc", "contract"}


@numba.njit(nogil=True, cache=True, fastmath=_SUMS)
def add_norms(W, squares, vary, basis, collinear, norms):  # type: ignore[no-untyped-def]
    """Write `‖z̃‖² = ‖z‖² − Σ (qᵀz)²` of every set and variant, NaN where next to nothing of ‖z‖² is left.

    Parameters: squares, vary (b, S) with ‖z‖² and whether z varies; basis (S, 2) first column of Q and the one after its
    last; norms (S, b) is written.
    """
    for s in range(norms.shape[0]):
        for i in range(norms.shape[1]):
            total = 0.0
            for j in range(basis[s, 0], basis[s, 1]):
                value = np.float64(W[i, j])
                total += value * value
            left = squares[i, s] - total
            kept = vary[i, s] and left > collinear * max(squares[i, s], 1e-300)
            norms[s, i] = left if kept else np.nan


@numba.njit(nogil=True, cache=True, fastmath=_SUMS)
def spectral_denominators(W, norms, classes, eigen, system, shares, weights, gamma, den):  # type: ignore[no-untyped-def]
    """Write `Σₖ weightₖ (uₖᵀz̃)² + γ max(‖z̃‖² − Σₖ shareₖ (uₖᵀz̃)², 0)` of every trait and variant.

    Parameters: norms (S, b) of `add_norms`; classes (S, b) of γ; eigen (S, 2) columns of U; system (T,) the set of every
    trait; shares (S, ≥ k); weights (T, ≥ k); gamma (T, classes); den (T, b) is written.
    """
    along = np.empty(weights.shape[1])
    for i in range(den.shape[1]):
        last = -1
        total = 0.0
        for t in range(den.shape[0]):
            s = system[t]
            first, n = eigen[s, 0], eigen[s, 1] - eigen[s, 0]
            if s != last:
                total = 0.0
                for j in range(n):
                    value = np.float64(W[i, first + j])
                    along[j] = value * value
                    total += shares[s, j] * along[j]
                last = s
            weighted = 0.0
            for j in range(n):
                weighted += weights[t, j] * along[j]
            rest = norms[s, i] - total
            # Not max(): that of NaN and zero is zero to some compilers.
            den[t, i] = weighted + gamma[t, classes[s, i]] * (0.0 if rest < 0.0 else rest)
