"""Bivariate likelihoods of all pairs of traits on the same samples, from one spectrum and one block recursion.

With one K the contrasts of a pair rotate into independent 2-vectors u_i ~ N(0, λ_i G + E):

    −2ℓ = Σ_i log det(λ_i G + E) + Σ_i u_iᵀ (λ_i G + E)⁻¹ u_i

The first sum is a trace over the density of PKP, the second `Σ_st y_sᵀ f_st(PKP) y_t`. With all eigenpairs both are exact. Else
the trace comes from the spectrum's quadrature, and block Lanczos started at all traits at once gives a matrix quadrature
(Golub & Meurant 2010, chapter 4): nodes θ_i and coefficients c_it with `y_sᵀ f(PKP) y_t ≈ Σ_i c_is f(θ_i) c_it` for all pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.operator import GenotypeOperator
from biolmm.heritability.bivariate import (
    SAME,
    Evaluation,
    PairEstimate,
    fit_pair,
    same_traits,
)
from biolmm.linalg.operators import Matmat
from biolmm.reml.likelihood import QuadraticMeasure, RestrictedLikelihood, TraceMeasure
from biolmm.reml.spectrum import CHECKED_H2, MAX_STEPS, DeflatedOperator, Spectrum, exact_eigenpairs

FORM_TOLERANCE = 0.01
"""Steps go on while a form yᵀf(PKP)y moves by more than this share of its sampling standard deviation, f√(2n)."""

_D = np.zeros((3, 2, 2))
_D[0, 0, 0] = _D[1, 0, 1] = _D[1, 1, 0] = _D[2, 1, 1] = 1.0
"""dG/dg_11, dG/dg_12, dG/dg_22; the same for E."""


@dataclass(frozen=True)
class TraitMeasures:
    """Coefficients of traits on nodes: `y_sᵀ f(PKP) y_t = Σ_i c_is f(θ_i) c_it`.

    Attributes
    ----------
    nodes
        (q,).
    coefficients
        (q, T).
    n_steps
        Products spent; 0 where all eigenpairs are known.
    """

    nodes: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    n_steps: int = 0


def exact_measures(
    K: NDArray[np.float64], y: NDArray[np.float64], spectrum: Spectrum
) -> tuple[TraceMeasure, TraitMeasures]:
    """Return trace measure and coefficients from all eigenpairs of PKP, traits (N, T) on the restriction's samples."""
    values, vectors = exact_eigenpairs(K, spectrum.restriction)
    projected = spectrum.restriction.project(np.nan_to_num(y))[spectrum.restriction.observed]
    nothing = np.zeros((0, 0))
    return TraceMeasure(values, nothing, nothing, 0, 0.0), TraitMeasures(values, vectors.T @ projected)


def block_measures(operator: GenotypeOperator, y: NDArray[np.float64], spectrum: Spectrum) -> TraitMeasures:
    """Return the coefficients of traits on the same samples by one block Lanczos recursion.

    Parameters
    ----------
    operator
        K.
    y
        (N, T) traits, observed where the spectrum's restriction is.
    spectrum
        Its pairs are taken out first; they are nodes of their own.

    Notes
    -----
    **Cost**: one pass a step with T columns; 5 to 30 steps. Memory: 4·N·T bytes a step, fully reorthogonalised.
    """
    pairs = spectrum.pairs
    right = spectrum.restriction.project(np.nan_to_num(y))
    U = pairs.vectors.astype(np.float64)
    known = U.T @ right
    rest = right - U @ known
    deflated = DeflatedOperator(operator, [spectrum.restriction], [pairs], [0])

    def matmat(X: NDArray[np.float32]) -> NDArray[np.float32]:
        return DeflatedOperator(deflated.operator, deflated.restrictions, deflated.pairs, [X.shape[1]])(X)

    found = block_lanczos(matmat, rest, np.sqrt((right**2).sum(axis=0)), spectrum.restriction.rank)
    return TraitMeasures(
        np.concatenate([pairs.values, found.nodes]), np.concatenate([known, found.coefficients]), found.n_steps
    )


def block_lanczos(
    matmat: Matmat, start: NDArray[np.float64], norms: NDArray[np.float64], rank: int, max_steps: int = MAX_STEPS
) -> TraitMeasures:
    """Return the matrix Gauss quadrature of `startᵀ f(A) start`.

    Parameters
    ----------
    matmat
        X to A X, A positive semidefinite.
    start
        (n, T) in the range of A's projection; dependent columns do no harm.
    norms
        (T,) what the columns are measured against.
    rank
        Dimension of the space: with the norms it says what a form's sampling error is.
    max_steps
        At most so many products.
    """
    scale = np.where(norms > 0, norms, 1.0)
    block, first = _orthonormal(start / scale, 1e-6)
    basis: list[NDArray[np.float32]] = [block]
    alphas: list[NDArray[np.float64]] = []
    betas: list[NDArray[np.float64]] = []
    before: NDArray[np.float64] | None = None
    settled = 0
    limit = FORM_TOLERANCE * np.sqrt(2 / max(rank, 1))
    while block.shape[1] and len(alphas) < max_steps:
        product = matmat(block).astype(np.float64)
        alphas.append(block.T.astype(np.float64) @ product)
        for _ in range(2):
            for vectors in basis:
                product -= vectors @ (vectors.T.astype(np.float64) @ product)
        block, beta = _orthonormal(product, 1e-5 * max(float(np.abs(alphas[-1]).max()), 1e-30))
        betas.append(beta)
        forms = _forms(*_ritz(alphas, betas, first))
        moved = np.inf if before is None else np.abs(forms - before).max()
        settled, before = settled + 1 if moved < limit else 0, forms
        if settled >= 2 or sum(len(a) for a in alphas) >= rank:
            break
        basis.append(block)
    if not alphas:
        return TraitMeasures(np.zeros(0), np.zeros((0, start.shape[1])))
    nodes, coefficients = _ritz(alphas, betas, first)
    return TraitMeasures(np.maximum(nodes, 0.0), coefficients * scale, len(alphas))


def _orthonormal(X: NDArray[np.float64], floor: float) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return Q (n, r) and R (r, T) with X = QR but for directions smaller than `floor`."""
    Q, R = np.linalg.qr(X)
    left, sizes, right = np.linalg.svd(R)
    keep = sizes > floor
    return (Q @ left[:, : len(sizes)][:, keep]).astype(np.float32), sizes[keep, None] * right[: len(sizes)][keep]


def _ritz(
    alphas: list[NDArray[np.float64]], betas: list[NDArray[np.float64]], first: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return nodes and coefficients of the block tridiagonal matrix so far."""
    edges = np.concatenate([[0], np.cumsum([len(a) for a in alphas])])
    H = np.zeros((edges[-1], edges[-1]))
    for i, alpha in enumerate(alphas):
        here = slice(edges[i], edges[i + 1])
        H[here, here] = (alpha + alpha.T) / 2
        if i + 1 < len(alphas):
            below = slice(edges[i + 1], edges[i + 2])
            H[below, here], H[here, below] = betas[i], betas[i].T
    values, vectors = np.linalg.eigh(H)
    return values, vectors[: len(first)].T @ first


def _forms(nodes: NDArray[np.float64], coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Cᵀ (hθ + 1 − h)⁻¹ C (1 − h) at the checked h², (g, T, T): at most 1 for a column of norm 1."""
    weights = (1 - CHECKED_H2[:, None]) / (CHECKED_H2[:, None] * np.maximum(nodes, 0) + 1 - CHECKED_H2[:, None])
    return np.asarray(np.einsum("is,gi,it->gst", coefficients, weights, coefficients))


class SpectralLikelihood:
    """The likelihood of a pair on the same samples.

    Parameters
    ----------
    trace
        Density of PKP.
    nodes, coefficients
        (q,) and (q, 2).
    degrees
        n − C, of each trait.
    """

    shares_samples = True

    def __init__(
        self, trace: TraceMeasure, nodes: NDArray[np.float64], coefficients: NDArray[np.float64], degrees: int
    ) -> None:
        self.trace = trace
        self.values, self.probe_nodes = np.maximum(trace.values, 0.0), np.maximum(trace.nodes, 0.0)
        self.nodes = np.maximum(nodes, 0.0)
        self.W = coefficients[:, :, None] * coefficients[:, None, :]
        self.degrees = degrees

    def evaluate(self, theta: NDArray[np.float64]) -> Evaluation | None:
        """Return −ℓ, its gradient and the average information; None where λG + E is not positive definite somewhere."""
        at = [_inverse(theta, values) for values in (self.values, self.probe_nodes, self.nodes)]
        if any(part is None for part in at):
            return None
        on_values, on_nodes, on_traits = (part for part in at if part is not None)
        determinant, _ = self.trace.estimate(on_values.log_det[None], on_nodes.log_det[None])
        slopes, _ = self.trace.estimate(_slopes(on_values, self.values), _slopes(on_nodes, self.probe_nodes))
        F = on_traits.F
        FW = F @ self.W
        M = FW @ F
        quadratic = np.einsum("qii->", FW)
        DM = np.einsum("aij,qjk->qaik", _D, M)
        pull = np.einsum("qaii->qa", DM)
        DF = np.einsum("aij,qjk->qaik", _D, F)
        curves = np.einsum("qaij,qbji->qab", DF, DM)
        powers = [np.ones_like(self.nodes), self.nodes, self.nodes**2]
        gradient = slopes - np.concatenate([powers[1] @ pull, powers[0] @ pull])
        sums = [np.einsum("q,qab->ab", power, curves) for power in powers]
        information = np.block([[sums[2], sums[1]], [sums[1].T, sums[0]]])
        value = 0.5 * (float(determinant[0]) + float(quadratic) + 2 * self.degrees * np.log(2 * np.pi))
        return Evaluation(value, gradient / 2, (information + information.T) / 4)

    def probe_error(self, theta: NDArray[np.float64], direction: NDArray[np.float64]) -> float:
        """Return the Monte-Carlo error of the derivative of −ℓ in a direction."""
        on_values, on_nodes = _inverse(theta, self.values), _inverse(theta, self.probe_nodes)
        if on_values is None or on_nodes is None:
            return float("nan")
        along = [np.tensordot(direction, _slopes(part, at), 1)[None] for part, at in
                 ((on_values, self.values), (on_nodes, self.probe_nodes))]  # fmt: skip
        return float(self.trace.estimate(along[0], along[1])[1][0]) / 2


@dataclass(frozen=True)
class _Inverse:
    """(λG + E)⁻¹ and log det(λG + E) at every λ."""

    F: NDArray[np.float64]
    log_det: NDArray[np.float64]


def _inverse(theta: NDArray[np.float64], values: NDArray[np.float64]) -> _Inverse | None:
    a, b, c = (values * theta[i] + theta[i + 3] for i in range(3))
    det = a * c - b * b
    if values.size and (a.min() <= 0 or det.min() <= 1e-14 * float((a * c).max())):
        return None
    F = np.stack([np.stack([c, -b], axis=-1), np.stack([-b, a], axis=-1)], axis=-2) / det[..., None, None]
    return _Inverse(F, np.log(det))


def _slopes(at: _Inverse, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return d log det / dθ at every λ, (6, …)."""
    by_e = np.stack([at.F[..., 0, 0], 2 * at.F[..., 0, 1], at.F[..., 1, 1]])
    return np.concatenate([values * by_e, by_e])


def fit_same_samples(trace: TraceMeasure, measures: TraitMeasures, one: int, other: int, degrees: int) -> PairEstimate:
    """Estimate a pair of traits observed on the same samples.

    Parameters
    ----------
    trace, measures
        Of their samples.
    one, other
        Columns of the measures.
    degrees
        n − C.
    """
    C = measures.coefficients[:, [one, other]]
    scale = np.sqrt((C**2).sum(axis=0) / degrees)
    C = C / scale
    correlation = float(C[:, 0] @ C[:, 1] / degrees)
    singles = []
    for column in range(2):
        quadratic = QuadraticMeasure(np.maximum(measures.nodes, 0.0), C[:, column] ** 2)
        singles.append(RestrictedLikelihood(trace, quadratic, degrees).fit())
    if correlation**2 > 1 - SAME:
        total = np.array([s.sigma2_g + s.sigma2_e for s in singles])
        return same_traits(float(np.sign(correlation)), total, singles[0].h2).scaled(
            float(scale[0]), float(scale[1]), (degrees, degrees)
        )
    likelihood = SpectralLikelihood(trace, measures.nodes, C, degrees)
    start = start_values([s.sigma2_g for s in singles], [s.sigma2_e for s in singles], correlation)
    error = likelihood.probe_error if trace.n_probes else None
    return fit_pair(likelihood, start, error).scaled(float(scale[0]), float(scale[1]), (degrees, degrees))


def start_values(genetic: list[float], noise: list[float], correlation: float) -> NDArray[np.float64]:
    """Return θ from the two traits' own components, both covariances at the traits' correlation; inside the bounds."""
    g, e = (np.maximum(np.array(part), 0.02 * (np.array(genetic) + np.array(noise))) for part in (genetic, noise))
    r = float(np.clip(correlation, -0.95, 0.95))
    return np.array([g[0], r * np.sqrt(g[0] * g[1]), g[1], e[0], r * np.sqrt(e[0] * e[1]), e[1]])
