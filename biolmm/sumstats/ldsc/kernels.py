"""Kernels of LD score regression: sums over the variants of each jackknife block, for many fits in one pass.

Legend: a **fit** p regresses y = z_i z_j on x = r_i r_j ℓ, r = √(N / M), over variants that traits i, j and k all have. k
keeps a heritability (i = j) to the variants of a pair. Z and R are (traits, variants), missing z are NaN and their r is 0;
`edges` (P, B + 1) are the variants at which blocks begin. While a block of variants is in the processor's cache all fits use
it. Loops have no branches and may add in any order, so that they become vector instructions; the order is that of the
machine's, never of workers.
"""

from __future__ import annotations

import numba

LEAST_VARIANCE = 0.01
"""The modelled variance of z is at least this: a fit far off its model gets no infinite or negative weights."""

_ANY_ORDER = {"reassoc", "nsz", "contract"}


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_ANY_ORDER)
def count_and_mean(Z, R, ld, fits, limit, counts, means):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write how many variants fits have in all and below the limit of χ² of both traits, (P, 2), and mean y and x, (P, 2)."""
    for p in range(len(fits)):
        zi, zj, zk = Z[fits[p, 0]], Z[fits[p, 1]], Z[fits[p, 2]]
        ri, rj = R[fits[p, 0]], R[fits[p, 1]]
        top = limit[p]
        n, below, y, x = 0, 0, 0.0, 0.0
        for s in range(len(ld)):
            product = zi[s] * zj[s]
            there = (product == product) & (zk[s] == zk[s])
            n += there
            below += there & (zi[s] * zi[s] < top) & (zj[s] * zj[s] < top)
            y += product if there else 0.0
            x += ri[s] * rj[s] * ld[s] if there else 0.0
        counts[p, 0], counts[p, 1] = n, below
        means[p, 0], means[p, 1] = y / max(n, 1), x / max(n, 1)


@numba.njit(nogil=True, cache=True)
def find_edges(Z, fits, limit, targets, edges):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write the variants at which blocks begin: block b at the `targets[p, b]`-th of those below the limit.

    Parameters: targets (P, B + 1) ascending; edges (P, B + 1): the first is 0 and the last the number of variants.
    """
    last = targets.shape[1] - 1
    for p in range(len(fits)):
        zi, zj, zk = Z[fits[p, 0]], Z[fits[p, 1]], Z[fits[p, 2]]
        top = limit[p]
        edges[p, 0] = 0
        block, seen = 1, 0
        for s in range(Z.shape[1]):
            if (zi[s] * zi[s] < top) & (zj[s] * zj[s] < top) & (zk[s] == zk[s]):
                while block < last and targets[p, block] == seen:
                    edges[p, block] = s
                    block += 1
                seen += 1
        for rest in range(block, last + 1):
            edges[p, rest] = Z.shape[1]


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_ANY_ORDER)
def add_up(Z, R, ld, floored, inverse, fits, limit, edges, model, first, last, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write Σ w (1, x, x², y, xy) of blocks `first` to `last` of every fit into sums (P, last − first, 5).

    w = 1 / (max(ℓ^w, 1) (v₁ v₂ + c²)), v = r² h max(ℓ, 1) + a of each trait, c = r₁ r₂ ρ max(ℓ, 1) + a₁₂.

    Parameters: ld ℓ, floored max(ℓ, 1), inverse 1 / max(ℓ^w, 1), each (n,); model (P, 6): h₁, a₁, h₂, a₂, ρ, a₁₂.
    """
    for b in range(first, last):
        for p in range(len(fits)):
            start, stop = edges[p, b], edges[p, b + 1]
            zi, zj, zk = Z[fits[p, 0], start:stop], Z[fits[p, 1], start:stop], Z[fits[p, 2], start:stop]
            ri, rj = R[fits[p, 0], start:stop], R[fits[p, 1], start:stop]
            ell, top_ell, inv = ld[start:stop], floored[start:stop], inverse[start:stop]
            h1, a1, h2, a2, rho, a12 = model[p, 0], model[p, 1], model[p, 2], model[p, 3], model[p, 4], model[p, 5]
            top = limit[p]
            s0, sx, sxx, sy, sxy = 0.0, 0.0, 0.0, 0.0, 0.0
            for s in range(stop - start):
                z1, z2 = zi[s], zj[s]
                there = (z1 * z1 < top) & (z2 * z2 < top) & (zk[s] == zk[s])  # false where one is NaN
                r1, r2 = ri[s], rj[s]
                r12 = r1 * r2
                v1 = max(r1 * r1 * h1 * top_ell[s] + a1, LEAST_VARIANCE)
                v2 = max(r2 * r2 * h2 * top_ell[s] + a2, LEAST_VARIANCE)
                c = r12 * rho * top_ell[s] + a12
                w = inv[s] / (v1 * v2 + c * c) if there else 0.0
                y = z1 * z2 if there else 0.0
                x = r12 * ell[s]
                wx = w * x
                s0 += w
                sx += wx
                sxx += wx * x
                sy += w * y
                sxy += wx * y
            out = sums[p, b - first]
            out[0], out[1], out[2], out[3], out[4] = s0, sx, sxx, sy, sxy
