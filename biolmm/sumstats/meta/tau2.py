"""Between-study variance τ² of a variant: the estimators' equations, solved safely; kernels.

With w = 1/(v + τ²), μ̂ = Σwy/Σw, r = y − μ̂, A = Σw²r², B = Σw², W = Σw:

    DL     τ² = max(0, (Q − (k−1)) / (Σ1/v − Σv⁻²/Σv⁻¹))           DerSimonian & Laird 1986
    PM     Σ w r² = k − 1                                           Paule & Mandel 1982; falls with τ², convex
    ML     A − W = 0            of  −½ Σ log(v + τ²) − ½ Σ w r²     the likelihood profiled over μ
    REML   A − W + B / W = 0    of the same − ½ log W

PM's root is found by Newton's method from 0, which never passes it. The likelihoods may have more than one maximum: their
score is scanned at steps of at most ½ in log(min v + τ²), on which scale it changes slowly, up to a bound beyond which it
is negative; each maximum found is refined by Newton's method kept within its bracket, and the highest is taken, τ² = 0
included. Never negative; `converged` is false where the steps ran out.
"""

from __future__ import annotations

import math

import numba
import numpy as np

DL, PM, ML, REML = range(4)
METHODS = {"dl": DL, "pm": PM, "ml": ML, "reml": REML}
"""Names of the estimators."""

_MAX_STEPS = 200
_TOLERANCE = 1e-14
_SCAN_STEP = 0.5


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _sums(y, v, n, tau2, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fill Σw, μ̂, Σwr², Σw²r², Σw², Σw³r², Σw²r, Σw³ at a τ²."""
    total, weight = 0.0, 0.0
    for i in range(n):
        w = 1.0 / (v[i] + tau2)
        total += w * y[i]
        weight += w
    mean = total / weight
    q, a, b, c, d, e = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        w = 1.0 / (v[i] + tau2)
        r = y[i] - mean
        w2, wr2 = w * w, w * r * r
        q += wr2
        a += w * wr2
        b += w2
        c += w2 * wr2
        d += w2 * r
        e += w2 * w
    out[0], out[1], out[2], out[3], out[4], out[5], out[6], out[7] = weight, mean, q, a, b, c, d, e


@numba.njit(nogil=True, cache=True)
def _score(s, restricted):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Twice the derivative of the log-likelihood."""
    return s[3] - s[0] + (s[4] / s[0] if restricted else 0.0)


@numba.njit(nogil=True, cache=True)
def _score_slope(s, restricted):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Twice the second derivative; μ̂ moves with τ² by −Σw²r/Σw."""
    slope = -2.0 * s[5] + 2.0 * s[6] * s[6] / s[0] + s[4]
    if restricted:
        slope += -2.0 * s[7] / s[0] + (s[4] / s[0]) ** 2
    return slope


@numba.njit(nogil=True, cache=True)
def log_likelihood_gain(y, v, n, tau2, restricted, s):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Twice the log-likelihood at a τ², profiled over μ, less that at 0."""
    _sums(y, v, n, 0.0, s)
    gain, weight = s[2], s[0]
    _sums(y, v, n, tau2, s)
    gain -= s[2]
    for i in range(n):
        gain -= math.log1p(tau2 / v[i])
    if restricted:
        gain -= math.log(s[0] / weight)
    return gain


@numba.njit(nogil=True, cache=True)
def _refine(y, v, n, restricted, low, high, s):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Find the root of the score between `low` (score above 0) and `high` (not above 0)."""
    x = 0.5 * (low + high)
    for _ in range(_MAX_STEPS):
        _sums(y, v, n, x, s)
        value, slope = _score(s, restricted), _score_slope(s, restricted)
        if value > 0.0:
            low = x
        else:
            high = x
        step = x - value / slope if slope < 0.0 else math.nan
        if not low <= step <= high:
            step = 0.5 * (low + high)
        if abs(step - x) <= _TOLERANCE * (x + v[0]) or value == 0.0:
            return step, True
        x = step
    return x, False


@numba.njit(nogil=True, cache=True)
def _maximum(y, v, n, restricted, s):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Find the τ² ≥ 0 of the highest likelihood."""
    smallest, largest, bottom, top = v[0], v[0], y[0], y[0]
    for i in range(1, n):
        smallest, largest = min(smallest, v[i]), max(largest, v[i])
        bottom, top = min(bottom, y[i]), max(top, y[i])
    # Beyond, (v + τ²)(1 − leverage) exceeds every squared residual, and the score is negative.
    bound = max(largest, 3.0 * (top - bottom) ** 2)
    steps = max(4, math.ceil(math.log1p(bound / smallest) / _SCAN_STEP))
    width = math.log1p(bound / smallest) / steps
    _sums(y, v, n, 0.0, s)
    here, at = _score(s, restricted), 0.0
    best, best_gain, converged, found = 0.0, 0.0, True, 0 if here > 0.0 else 1
    for j in range(1, steps + 1):
        there = smallest * math.expm1(j * width)
        _sums(y, v, n, there, s)
        value = _score(s, restricted)
        if here > 0.0 and value <= 0.0:
            candidate, ended = _refine(y, v, n, restricted, at, there, s)
            gain = log_likelihood_gain(y, v, n, candidate, restricted, s)
            if found == 0 or gain > best_gain:
                best, best_gain, converged = candidate, gain, ended
            found += 1
        here, at = value, there
    return best, converged


@numba.njit(nogil=True, cache=True)
def _paule_mandel(y, v, n, s):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Solve Σwr² = k − 1 by Newton's method from 0: the left side is convex and falls, so steps never overshoot."""
    x = 0.0
    for _ in range(_MAX_STEPS):
        _sums(y, v, n, x, s)
        excess = s[2] - (n - 1.0)
        if excess <= 0.0:
            return x, True
        step = excess / s[3]
        if step <= _TOLERANCE * (x + v[0]):
            return x + step, True
        x += step
    return x, False


@numba.njit(nogil=True, cache=True)
def solve(y, v, n, method, s):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Estimate τ² of n ≥ 2 studies; return it and whether it converged, with the sums at it in `s`."""
    converged = True
    if method == 0:
        _sums(y, v, n, 0.0, s)
        tau2 = max(0.0, (s[2] - (n - 1.0)) / (s[0] - s[4] / s[0]))
    elif method == 1:
        tau2, converged = _paule_mandel(y, v, n, s)
    else:
        tau2, converged = _maximum(y, v, n, method == 3, s)
    _sums(y, v, n, tau2, s)
    return tau2, converged


@numba.njit(nogil=True, cache=True)
def pack(beta, se, row, y, v):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Gather the effects and variances of the studies that have a variant; return how many."""
    n = 0
    for j in range(beta.shape[1]):
        s = se[row, j]
        if not np.isnan(s):
            y[n], v[n] = beta[row, j], s * s
            n += 1
    return n
