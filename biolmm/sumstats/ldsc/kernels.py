"""Kernels of LD score regression: sums over the variants of each jackknife block, for many fits in one pass.

Legend: a **fit** p regresses y = z_i z_j on x = √(N_i N_j) ℓ / M, over variants that traits i, j and k all have. k keeps a
heritability (i = j) to the variants of a pair. Z, N are (traits, variants), missing z are NaN; blocks are [edge b, edge b+1).
A tile of variants stays in the processor's cache while all fits use it.
"""

from __future__ import annotations

import numba
import numpy as np

LEAST_VARIANCE = 0.01
"""The modelled variance of z is at least this: a fit far off its model gets no infinite or negative weights."""


@numba.njit(nogil=True, cache=True)
def count_and_mean(Z, N, ld, fits, limit, m, counts, means):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write, for each fit, how many variants it has in all and below the limit, and the means of y and x.

    Parameters: limit, of χ² of both traits; counts (P, 2); means (P, 2).
    """
    for p in range(len(fits)):
        i, j, k = fits[p, 0], fits[p, 1], fits[p, 2]
        n, below, y, x = 0, 0, 0.0, 0.0
        for s in range(len(ld)):
            a, b, c = Z[i, s], Z[j, s], Z[k, s]
            if np.isnan(a) or np.isnan(b) or np.isnan(c):
                continue
            n += 1
            if a * a < limit[p] and b * b < limit[p]:
                below += 1
            y += a * b
            x += np.sqrt(N[i, s] * N[j, s]) * ld[s]
        counts[p, 0], counts[p, 1] = n, below
        means[p, 0], means[p, 1] = y / max(n, 1), x / max(n, 1) / m


@numba.njit(nogil=True, cache=True)
def find_edges(Z, fits, limit, targets, edges):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write the variants at which blocks begin: block b at the `targets[p, b]`-th of those below the limit.

    Parameters: targets (P, B + 1) ascending; edges (P, B + 1): the first is 0 and the last the number of variants.
    """
    n_variants = Z.shape[1]
    for p in range(len(fits)):
        i, j, k = fits[p, 0], fits[p, 1], fits[p, 2]
        last = targets.shape[1] - 1
        edges[p, 0] = 0
        block, seen = 1, 0
        for s in range(n_variants):
            a, b = Z[i, s], Z[j, s]
            if a * a < limit[p] and b * b < limit[p] and not np.isnan(Z[k, s]):
                while block < last and targets[p, block] == seen:
                    edges[p, block] = s
                    block += 1
                seen += 1
        for rest in range(block, last + 1):
            edges[p, rest] = n_variants


@numba.njit(nogil=True, cache=True, error_model="numpy")
def add_up(Z, N, ld, w_ld, m, fits, limit, edges, model, first, last, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write Σ w (1, x, x², y, xy) of blocks `first` to `last` of every fit into sums (P, B, 5).

    w = 1 / (max(ℓ^w, 1) (v₁ v₂ + c²)), v = N h max(ℓ, 1) / M + a of each trait, c = √(N₁N₂) ρ max(ℓ, 1) / M + a₁₂;
    model (P, 6) holds h₁, a₁, h₂, a₂, ρ, a₁₂.
    """
    for b in range(first, last):
        for p in range(len(fits)):
            i, j, k = fits[p, 0], fits[p, 1], fits[p, 2]
            h1, a1, h2, a2, rho, a12 = model[p]
            top = limit[p]
            s0, sx, sxx, sy, sxy = 0.0, 0.0, 0.0, 0.0, 0.0
            for s in range(edges[p, b], edges[p, b + 1]):
                z1, z2 = Z[i, s], Z[j, s]
                if not (z1 * z1 < top and z2 * z2 < top) or np.isnan(Z[k, s]):
                    continue
                n1, n2 = N[i, s] / m, N[j, s] / m
                n12 = np.sqrt(n1 * n2)
                ell = max(ld[s], 1.0)
                v1 = max(n1 * h1 * ell + a1, LEAST_VARIANCE)
                v2 = max(n2 * h2 * ell + a2, LEAST_VARIANCE)
                c = n12 * rho * ell + a12
                w = 1.0 / (max(w_ld[s], 1.0) * (v1 * v2 + c * c))
                x, y = n12 * ld[s], z1 * z2
                wx = w * x
                s0 += w
                sx += wx
                sxx += wx * x
                sy += w * y
                sxy += wx * y
            sums[p, b, 0], sums[p, b, 1], sums[p, b, 2], sums[p, b, 3], sums[p, b, 4] = s0, sx, sxx, sy, sxy
