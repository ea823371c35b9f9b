"""The likelihood of every variant of a block over λ: found, bracketed and climbed on polynomials, see `axis`.

With x̃, ỹ the rotated contrasts of a variant and a trait, s the eigenvalues,

    a(λ) = Σ x̃² / (λs+1)     b(λ) = Σ x̃ỹ / (λs+1)     c(λ) = Σ ỹ² / (λs+1)     rss = c − b²/a

    −2 ℓ_REML = ν log rss + Σ log(λs+1) + log a + constant,    ν = n − C − 1
    −2 ℓ_ML   = n log rss + Σ log(λd+1)         + constant,    d the eigenvalues of the centred K itself

(Zhou & Stephens 2012, eqs. 3 and 4, written in contrasts). Without a variant, rss = c.

Legend: b variants, W windows, D coefficients of each.
"""

from __future__ import annotations

import numba
import numpy as np

from biolmm.exact.axis import N_COEFFICIENTS, N_WINDOWS, T_MIN, WINDOW, fill_basis

TOLERANCE = 1e-9
"""log λ̂ is settled when a step is below this."""
MAX_STEPS = 60


@numba.njit(nogil=True, cache=True)
def _deviance(a, b, c, determinant, window, basis, degrees, restricted, out):  # type: ignore[no-untyped-def]
    """Write −2ℓ and its first two derivatives with respect to t into `out`; b empty means without a variant."""
    start = window * N_COEFFICIENTS
    c0 = c1 = c2 = d0 = d1 = d2 = 0.0
    for k in range(N_COEFFICIENTS):
        ck, dk = c[start + k], determinant[start + k]
        c0 += ck * basis[0, k]
        c1 += ck * basis[1, k]
        c2 += ck * basis[2, k]
        d0 += dk * basis[0, k]
        d1 += dk * basis[1, k]
        d2 += dk * basis[2, k]
    if a.shape[0] > 0:
        a0 = a1 = a2 = b0 = b1 = b2 = 0.0
        for k in range(N_COEFFICIENTS):
            ak, bk = a[start + k], b[start + k]
            a0 += ak * basis[0, k]
            a1 += ak * basis[1, k]
            a2 += ak * basis[2, k]
            b0 += bk * basis[0, k]
            b1 += bk * basis[1, k]
            b2 += bk * basis[2, k]
        beta = b0 / a0
        slope = (b1 - beta * a1) / a0
        c2 -= 2 * slope * (b1 - beta * a1) + beta * (2 * b2 - beta * a2)
        c1 -= beta * (2 * b1 - beta * a1)
        c0 = max(c0 - b0 * beta, 1e-14 * c0)
        if restricted:
            d0 += np.log(a0)
            d1 += a1 / a0
            d2 += a2 / a0 - (a1 / a0) ** 2
    out[0] = degrees * np.log(c0) + d0
    out[1] = degrees * c1 / c0 + d1
    out[2] = degrees * (c2 / c0 - (c1 / c0) ** 2) + d2


@numba.njit(nogil=True, cache=True)
def _at(a, b, c, determinant, t, window, degrees, restricted, basis, out):  # type: ignore[no-untyped-def]
    """Evaluate at t, seen from one window."""
    fill_basis(2 * (t - T_MIN - window * WINDOW) / WINDOW - 1, basis)
    _deviance(a, b, c, determinant, window, basis, degrees, restricted, out)


@numba.njit(nogil=True, cache=True)
def _descend(a, b, c, determinant, low, high, window, degrees, restricted, basis, out):  # type: ignore[no-untyped-def]
    """Find the minimum between low, where the slope is negative, and high, where it is not: Newton, or halving."""
    t = 0.5 * (low + high)
    for _ in range(MAX_STEPS):
        _at(a, b, c, determinant, t, window, degrees, restricted, basis, out)
        if out[1] < 0:
            low = t
        else:
            high = t
        step = -out[1] / out[2] if out[2] > 0 else np.inf
        if not low < t + step < high:
            step = 0.5 * (low + high) - t
        if abs(step) < TOLERANCE:
            break
        t += step
    return t


@numba.njit(nogil=True, cache=True)
def _best(a, b, c, determinant, degrees, restricted, basis, out):  # type: ignore[no-untyped-def]
    """Return the t of the lowest −2ℓ over the whole range, and −2ℓ there: every valley of half a decade is descended."""
    best_t, best, before = T_MIN, np.inf, 1.0
    for half in range(2 * N_WINDOWS):
        window = half // 2
        low, high = T_MIN + half * WINDOW / 2, T_MIN + (half + 1) * WINDOW / 2
        _at(a, b, c, determinant, low, window, degrees, restricted, basis, out)
        at_low, slope = out[0], out[1]
        # The first end, and a minimum that falls between two windows.
        if (half == 0 or (before < 0 and slope >= 0)) and at_low < best:
            best_t, best = low, at_low
        _at(a, b, c, determinant, high, window, degrees, restricted, basis, out)
        before = out[1]
        if half == 2 * N_WINDOWS - 1 and out[0] < best:
            best_t, best = high, out[0]
        if slope < 0 and before >= 0:
            t = _descend(a, b, c, determinant, low, high, window, degrees, restricted, basis, out)
            if out[0] < best:
                best_t, best = t, out[0]
    return best_t, best


@numba.njit(nogil=True, cache=True)
def best_without(c, determinant, degrees):  # type: ignore[no-untyped-def]
    """Return t and −2ℓ of a trait without a variant; c and determinant (W·D,)."""
    nothing = np.empty(0)
    return _best(nothing, nothing, c, determinant, degrees, False, np.empty((3, N_COEFFICIENTS)), np.empty(3))


@numba.njit(nogil=True, cache=True)
def best_with(A, B, c, determinant, degrees, restricted, usable, t, deviance):  # type: ignore[no-untyped-def]
    """Write t and −2ℓ of every usable variant, NaN of others; A and B (b, W·D), `t` and `deviance` (b,)."""
    basis, out = np.empty((3, N_COEFFICIENTS)), np.empty(3)
    for j in range(A.shape[0]):
        if usable[j]:
            t[j], deviance[j] = _best(A[j], B[j], c, determinant, degrees, restricted, basis, out)
        else:
            t[j] = deviance[j] = np.nan


@numba.njit(nogil=True, cache=True)
def values_at(coefficients, t, out):  # type: ignore[no-untyped-def]
    """Write the value of every row of coefficients (b, W·D) at its own t (b,) into `out` (b,)."""
    basis = np.empty((3, N_COEFFICIENTS))
    for j in range(len(t)):
        if np.isnan(t[j]):
            out[j] = np.nan
            continue
        window = min(max(int((t[j] - T_MIN) / WINDOW), 0), N_WINDOWS - 1)
        fill_basis(2 * (t[j] - T_MIN - window * WINDOW) / WINDOW - 1, basis)
        total = 0.0
        for k in range(N_COEFFICIENTS):
            total += coefficients[j, window * N_COEFFICIENTS + k] * basis[0, k]
        out[j] = total
