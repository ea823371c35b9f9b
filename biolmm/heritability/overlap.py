"""The bivariate likelihood of traits whose samples differ, with explicit matrices.

In coordinates in which each trait's own P_s K P_s is diagonal (Λ_s), with S = A_1ᵀ K A_2 and O = A_1ᵀ A_2 between them,

    V = [[ g_11 Λ_1 + e_11 I,  g_12 S + e_12 O ],  [ ·,  g_22 Λ_2 + e_22 I ]]

is the covariance of all contrasts. Samples may be the same, overlap partly, or not at all (O = 0, e_12 cannot be told).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lapack

from biolmm.chunks import check_stop
from biolmm.heritability.bivariate import N_PARAMETERS, Evaluation, PairEstimate, fit_pair
from biolmm.heritability.spectral import start_values
from biolmm.linalg.operators import Restriction
from biolmm.reml.likelihood import QuadraticMeasure, RestrictedLikelihood, TraceMeasure
from biolmm.reml.spectrum import exact_eigenpairs

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Contrasts:
    """One trait's contrasts, rotated so that its own relatedness is diagonal.

    Attributes
    ----------
    A
        (N, r) orthonormal, zero on unobserved samples.
    values
        (r,) eigenvalues of PKP.
    y
        (r,) the trait in these coordinates.
    """

    A: Matrix
    values: Matrix
    y: Matrix

    @classmethod
    def of(cls, K: Matrix, y: Matrix, restriction: Restriction) -> Contrasts:
        """Rotate a trait (N,), NaN where unobserved."""
        values, vectors = exact_eigenpairs(K, restriction)
        A = np.zeros((len(y), vectors.shape[1]))
        A[restriction.observed] = vectors
        return cls(A, values, A.T @ np.nan_to_num(y))

    def scaled(self, factor: float) -> Contrasts:
        """Return the contrasts of `factor · y`."""
        return Contrasts(self.A, self.values, factor * self.y)

    @property
    def likelihood(self) -> RestrictedLikelihood:
        """The likelihood of the trait alone."""
        nothing = np.zeros((0, 0))
        trace = TraceMeasure(self.values, nothing, nothing, 0, 0.0)
        return RestrictedLikelihood(trace, QuadraticMeasure(self.values, self.y**2), len(self.values))


class DenseLikelihood:
    """The likelihood of a pair with explicit matrices: the first block is diagonal, the second by its Schur complement.

    Notes
    -----
    **Cost**: 2·r_1·r_2·(r_1 + r_2) flop an evaluation, about.
    """

    def __init__(self, one: Contrasts, other: Contrasts, K: Matrix) -> None:
        self.one, self.other = one, other
        self.S = one.A.T @ (K @ other.A)
        self.O = one.A.T @ other.A
        self.y = np.concatenate([one.y, other.y])
        self.shares_samples = bool(np.any((one.A != 0).any(axis=1) & (other.A != 0).any(axis=1)))

    def evaluate(self, theta: Matrix) -> Evaluation | None:
        """Return −ℓ, its gradient and the average information; None where V is not positive definite."""
        check_stop()
        first = theta[0] * self.one.values + theta[3]
        last = theta[2] * self.other.values + theta[5]
        if first.min() <= 0 or last.min() <= 0:
            return None
        between = theta[1] * self.S + theta[4] * self.O
        white = between / first[:, None]
        schur = -(between.T @ white)
        schur[np.diag_indices_from(schur)] += last
        try:
            factor = cho_factor(schur, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return None
        a = len(first)

        def solve(X: Matrix) -> Matrix:
            """Return V⁻¹ X."""
            below = cho_solve(factor, X[a:] - white.T @ X[:a], check_finite=False)
            return np.concatenate([(X[:a] / first[:, None]) - white @ below, below])

        q = solve(self.y[:, None])[:, 0]
        log_det = float(np.log(first).sum()) + 2 * float(np.log(np.diag(factor[0])).sum())
        pushed = np.stack([self._derivative(k, q) for k in range(N_PARAMETERS)], axis=1)
        information = pushed.T @ solve(pushed) / 2
        inverse, _ = lapack.dpotri(factor[0], lower=1)
        on_last = np.diag(inverse).copy()
        inverse = np.tril(inverse, -1)
        inverse += inverse.T
        inverse[np.diag_indices_from(inverse)] = on_last
        off = -(white @ inverse)
        on_first = 1 / first - np.einsum("ij,ij->i", off, white)
        traces = np.array([
            on_first @ self.one.values, 2 * np.vdot(off, self.S), on_last @ self.other.values,
            on_first.sum(), 2 * np.vdot(off, self.O), on_last.sum(),
        ])  # fmt: skip
        gradient = (traces - pushed.T @ q) / 2
        value = 0.5 * (log_det + float(self.y @ q) + len(self.y) * np.log(2 * np.pi))
        pivots = np.diag(factor[0]) ** 2 / last
        margin = min(float(pivots.min()), *(float(part.min() / part.mean()) for part in (first, last)))
        return Evaluation(value, gradient, (information + information.T) / 2, margin)

    def _derivative(self, k: int, q: Matrix) -> Matrix:
        """Return ∂V/∂θ_k q."""
        a = len(self.one.values)
        out = np.zeros_like(q)
        first, last = q[:a], q[a:]
        if k in (0, 3):
            out[:a] = self.one.values * first if k == 0 else first
        elif k in (2, 5):
            out[a:] = self.other.values * last if k == 2 else last
        else:
            between = self.S if k == 1 else self.O
            out[:a], out[a:] = between @ last, between.T @ first
        return out


def fit_dense(
    K: Matrix, y: Sequence[Matrix], restrictions: Sequence[Restriction], contrasts: Sequence[Contrasts] | None = None
) -> PairEstimate:
    """Estimate a pair of traits, whatever their samples.

    Parameters
    ----------
    K
        (N, N) relatedness of everyone.
    y, restrictions
        The two traits (N,) with their samples and covariates.
    contrasts
        Of the two, where they are known.
    """
    one, other = contrasts or [Contrasts.of(K, t, r) for t, r in zip(y, restrictions, strict=True)]
    scale = [float(np.sqrt(np.mean(part.y**2))) for part in (one, other)]
    one, other = one.scaled(1 / scale[0]), other.scaled(1 / scale[1])
    likelihood = DenseLikelihood(one, other, K)
    singles = [part.likelihood.fit() for part in (one, other)]
    lift = [part.A @ part.y for part in (one, other)]
    both = min(len(one.y), len(other.y))
    correlation = float(lift[0] @ lift[1]) / both if likelihood.shares_samples else 0.0
    start = start_values([s.sigma2_g for s in singles], [s.sigma2_e for s in singles], correlation)
    while likelihood.evaluate(start) is None:
        start[[1, 4]] /= 2
    return fit_pair(likelihood, start).scaled(scale[0], scale[1], (len(one.y), len(other.y)))
