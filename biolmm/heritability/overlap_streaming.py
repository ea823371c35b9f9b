"""Average-information REML of a pair of traits whose samples differ, by products with K alone.

    V = [[ P_1 (g_11 K + e_11) P_1,  P_1 (g_12 K + e_12) P_2 ],  [ ·,  P_2 (g_22 K + e_22) P_2 ]]

Linear systems are solved by preconditioned conjugate gradients, y, ∂V/∂θ_k V⁻¹y and random probes side by side. The
preconditioner M is the two traits' own spectra. Traces are estimated on fixed probes, with M as a control variate whose
traces are known exactly:

    tr V⁻¹D_k ≈ tr M⁻¹D_k + mean zᵀ (V⁻¹ − M⁻¹) D_k z

There is no log-determinant, so tests of r_g are Wald's.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from biolmm.genotypes.operator import GenotypeOperator
from biolmm.heritability.bivariate import N_PARAMETERS, PairEstimate, correlation_gradient
from biolmm.linalg.operators import column_dots
from biolmm.linalg.pcg import solve_pcg
from biolmm.linalg.probes import rademacher
from biolmm.reml.spectrum import Spectrum

log = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Relative residual of the systems."""
SETTLED = 1e-3
"""The search ends when a step gains less than this in the log-likelihood: θ is then within a twentieth of its error."""
MAX_ITERATIONS = 30


@dataclass(frozen=True)
class StreamingPair:
    """Two traits, their spectra and the matrix between them.

    Attributes
    ----------
    operator
        K.
    spectra
        Of each trait's samples.
    y
        (2N,) the two traits projected, of variance about 1, one below the other.
    probes
        (2N, B) random columns with E zzᵀ = I, see `pair_probes`.
    shares
        Whether some samples have both traits.
    """

    operator: GenotypeOperator
    spectra: tuple[Spectrum, Spectrum]
    y: NDArray[np.float32]
    probes: NDArray[np.float32]
    shares: bool

    def project(self, X: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return (P_1 X_1, P_2 X_2)."""
        halves = [s.restriction.project(part) for s, part in zip(self.spectra, np.split(X, 2), strict=True)]
        return np.concatenate(halves).astype(np.float32)

    def related(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (K X_1, K X_2), not projected: one pass."""
        r = X.shape[1]
        both = self.operator.matmat(np.concatenate(np.split(X, 2), axis=1))
        return np.concatenate([both[:, :r], both[:, r:]])

    def combine(
        self, theta: NDArray[np.float64], X: NDArray[np.float32], KX: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return V X from X and its product."""
        t = theta.astype(np.float32)
        (x, z), (kx, kz) = np.split(X, 2), np.split(KX, 2)
        top = t[0] * kx + t[1] * kz + t[3] * x + t[4] * z
        below = t[1] * kx + t[2] * kz + t[4] * x + t[5] * z
        return self.project(np.concatenate([top, below]))

    def precondition(self, theta: NDArray[np.float64], X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return M⁻¹ X."""
        parts = []
        for spectrum, part, g, e in zip(self.spectra, np.split(X, 2), theta[[0, 2]], theta[[3, 5]], strict=True):
            tail = g * spectrum.tail_mean + e
            U, values = spectrum.pairs.vectors, spectrum.pairs.values
            factor = (1 / (g * values + e) - 1 / tail)[:, None]
            parts.append(part / np.float32(tail) + U @ (factor * (U.T @ part)).astype(np.float32))
        return np.concatenate(parts)

    def known_traces(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return tr M⁻¹ D_k exactly, (6,)."""
        out = np.zeros(N_PARAMETERS)
        for spectrum, k in zip(self.spectra, (0, 2), strict=True):
            g, e, values = theta[k], theta[k + 3], spectrum.pairs.values
            tail = g * spectrum.tail_mean + e
            rest = spectrum.restriction.rank - len(values)
            out[k] = (values / (g * values + e)).sum() + rest * spectrum.tail_mean / tail
            out[k + 3] = (1 / (g * values + e)).sum() + rest / tail
        return out

    def solve(
        self, theta: NDArray[np.float64], right: NDArray[np.float32], x: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Solve V x = right from a start that is overwritten."""
        residual = right - self.combine(theta, x, self.related(x)) if np.any(x) else right.copy()
        found = solve_pcg(
            lambda X, _: self.combine(theta, X, self.related(X)), x, residual,
            lambda X, _: self.precondition(theta, X), right_norms=np.sqrt(column_dots(right, right)),
            tolerance=TOLERANCE,
        )  # fmt: skip
        if not found.converged.all():
            log.warning("a bivariate system did not converge: relative residual %.1e.", found.relative_residual.max())
        return found.x

    def positive(self, theta: NDArray[np.float64]) -> bool:
        """Whether λG + E is positive definite at λ = 0 and at the largest eigenvalue, and so everywhere between."""
        top = max([float(s.pairs.values[0]) for s in self.spectra if len(s.pairs.values)] + [4.0])
        for at in (0.0, top):
            a, b, c = at * theta[:3] + theta[3:]
            if a <= 0 or a * c - b * b <= 1e-4 * a * c:
                return False
        return True


def pair_probes(keys: NDArray[np.uint64], n_probes: int, seed: int) -> NDArray[np.float32]:
    """Return random signs for both halves, (2N, n_probes), a function of sample ids and seed."""
    return np.concatenate([rademacher(keys, f"pair-{part}", range(n_probes), seed) for part in ("one", "other")])


def _derivatives(X: NDArray[np.float32], KX: NDArray[np.float32], pair: StreamingPair) -> list[NDArray[np.float32]]:
    """Return D_k X for every k."""
    out = []
    for part in (KX, X):
        first, last = np.split(part, 2)
        nothing = np.zeros_like(first)
        for stacked in ((first, nothing), (last, first), (nothing, last)):
            out.append(pair.project(np.concatenate(stacked)))  # noqa: PERF401  it reads as the matrix does
    return out


def fit_streaming(pair: StreamingPair, start: NDArray[np.float64]) -> PairEstimate:
    """Estimate a pair by average information.

    Notes
    -----
    **Cost**: 5 to 10 iterations of some 30 passes with up to 2·(n_probes + 7) columns.
    Memory: some 12·N·(n_probes + 7) single-precision numbers.

    **Randomness**: probes are fixed, so the estimate is a function of the seed; `rg_mc_se` says how far it moves.
    """
    free = list(range(N_PARAMETERS)) if pair.shares else [0, 1, 2, 3, 5]
    z = pair.project(pair.probes)
    Dz = _derivatives(z, pair.related(z), pair)
    right = np.concatenate([pair.y[:, None], z], axis=1)
    x = np.zeros_like(right)
    pushed_x = np.zeros((len(pair.y), N_PARAMETERS), np.float32)
    theta = start.copy()
    if not pair.shares:
        theta[4] = 0.0
    converged = False
    for iteration in range(MAX_ITERATIONS):
        x = pair.solve(theta, right, x)
        q, solved = x[:, :1], x[:, 1:]
        Dq = np.concatenate(_derivatives(q, pair.related(q), pair), axis=1)
        pushed_x = pair.solve(theta, Dq, pushed_x)
        information = Dq.T.astype(np.float64) @ pushed_x / 2
        information = (information + information.T) / 2
        rough = pair.precondition(theta, z)
        by_probe = np.array([column_dots(solved - rough, D) for D in Dz])
        traces = pair.known_traces(theta) + by_probe.mean(axis=1)
        gradient = (traces - Dq.T.astype(np.float64) @ q[:, 0]) / 2
        at = np.ix_(free, free)
        step = np.zeros(N_PARAMETERS)
        step[free] = -np.linalg.lstsq(information[at], gradient[free], rcond=1e-12)[0]
        gain = -float(gradient @ step) / 2
        log.info(
            "pair: step %d, r_g %.4f, would gain %.2g", iteration + 1, theta[1] / np.sqrt(theta[0] * theta[2]), gain
        )
        if gain < SETTLED:
            converged = True
            break
        length = 1.0
        while not (pair.positive(theta + length * step) and np.all((theta + length * step)[[0, 2]] > 1e-3)):
            length /= 2
            if length < 1e-3:
                break
        if length < 1e-3:
            break
        theta += length * step
    return _estimate(theta, information, by_probe, free, converged)


def _estimate(
    theta: NDArray[np.float64],
    information: NDArray[np.float64],
    by_probe: NDArray[np.float64],
    free: list[int],
    converged: bool,
) -> PairEstimate:
    covariance = np.full((N_PARAMETERS, N_PARAMETERS), np.nan)
    covariance[np.ix_(free, free)] = np.linalg.pinv(information[np.ix_(free, free)], hermitian=True)
    flags = [] if converged else ["not converged: a variance may be at its bound"]
    gradient = correlation_gradient(*theta[:3])
    rg = float(theta[1] / np.sqrt(theta[0] * theta[2]))
    se = float(np.sqrt(gradient @ covariance[:3, :3] @ gradient))
    direction = np.nan_to_num(covariance[:, :3]) @ gradient
    moved = direction @ by_probe / 2
    if abs(rg) > 1:
        flags.append("the estimate is beyond ±1")
    nan = float("nan")
    shown = theta.copy()
    if len(free) < N_PARAMETERS:
        shown[4] = nan
    return PairEstimate(
        shown, covariance, rg, se, float(np.clip(rg, -1, 1)), float(moved.std(ddof=1) / np.sqrt(len(moved))), nan,
        float(2 * norm.sf(abs(theta[1]) / np.sqrt(covariance[1, 1]))), nan,
        float(norm.sf((1 - abs(rg)) / se)) if abs(rg) < 1 else 1.0, nan, "; ".join(flags),
    )  # fmt: skip
