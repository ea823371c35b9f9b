"""Wald, likelihood-ratio and score test of variants, each with its own λ: GEMMA's `-lmm 4` (Zhou & Stephens 2012).

With a, b, c of `ascent` and ν = n − C − 1,

    β̂ = b/a     s.e.² = rss / (ν a)     at λ̂ of REML with the variant          Wald: (β̂/s.e.)² ~ F(1, ν)
    2 (ℓ_ML with − ℓ_ML without)        each at its own λ̂                       LRT: χ²(1)
    n b² / (a c)                        at λ̂ of ML without the variant          score: F(1, ν)

Legend: b variants, n observed samples, C covariates, W·D coefficients of a function of λ.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from biolmm.exact.ascent import best_with, best_without, values_at
from biolmm.exact.axis import evaluate
from biolmm.exact.eigenbasis import Eigenbasis
from biolmm.reml.likelihood import QuadraticMeasure, RestrictedLikelihood, TraceMeasure, VarianceComponents
from biolmm.results.diagnostics import neg_log10_p_chisq, neg_log10_p_t

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TraitModel:
    """One trait without variants, on one eigenbasis.

    Attributes
    ----------
    basis
        Its samples.
    rotated
        (n − C,) ỹ = Uᵀ y.
    coefficients
        (W·D,) of c(λ).
    null_lambda
        λ̂ of maximum likelihood.
    null_log_likelihood
        There.
    """

    basis: Eigenbasis
    rotated: Array
    coefficients: Array
    null_lambda: float
    null_log_likelihood: float

    @classmethod
    def fit(cls, basis: Eigenbasis, y: Array) -> TraitModel:
        """Fit a trait, (N,), NaN where it is not observed."""
        rotated = basis.vectors.T @ y[basis.rows]
        coefficients = (rotated**2) @ basis.inverse
        t, deviance = best_without(coefficients, basis.full, float(basis.n))
        return cls(
            basis, rotated, coefficients, float(np.exp(t)), float(_log_likelihood(np.float64(deviance), basis.n))
        )

    @property
    def degrees(self) -> int:
        """ν = n − C − 1."""
        return len(self.rotated) - 1

    @cached_property
    def null_h2(self) -> float:
        """h² of REML without variants."""
        return self.components().h2

    def components(self) -> VarianceComponents:
        """Return the restricted estimate without variants, as the null model of the other methods has it."""
        nothing = np.zeros((0, 0))
        trace = TraceMeasure(self.basis.values, nothing, nothing, 0, 0.0)
        quadratic = QuadraticMeasure(self.basis.values, self.rotated**2)
        return RestrictedLikelihood(trace, quadratic, len(self.rotated)).fit()


@dataclass(frozen=True, eq=False)
class ExactStatistics:
    """Tests of b variants on one trait, each (b,); NaN where a variant does not vary once covariates are taken out.

    Attributes
    ----------
    beta, standard_error
        Per unit of what was given, at λ̂ of REML.
    chisq, neg_log_10_p_value
        Wald: (β̂/s.e.)², and its p by F(1, ν).
    l_remle, l_mle
        λ̂ = σ²_g/σ²_e of REML and of ML with the variant.
    log_likelihood
        ML with the variant: GEMMA's `logl_H1`.
    neg_log_10_p_lrt, neg_log_10_p_score
        Of the other two tests.
    """

    beta: Array
    standard_error: Array
    chisq: Array
    neg_log_10_p_value: Array
    l_remle: Array
    l_mle: Array
    log_likelihood: Array
    neg_log_10_p_lrt: Array
    neg_log_10_p_score: Array


def exact_tests(
    model: TraitModel, rotated: Array, squares: Array | None = None, usable: NDArray[np.bool_] | None = None
) -> ExactStatistics:
    """Test every row of rotated variants on one trait.

    Parameters
    ----------
    model
        The trait.
    rotated
        (b, n − C) x̃ = rows of `basis.rotate`.
    squares
        (b, W·D) coefficients of a(λ), where they are known from another trait of the same samples.
    usable
        (b,) variants that have variance left; all by default.

    Notes
    -----
    **Cost**: two products of 2·W·D·n = 400 n flop a variant, one without `squares`; then nothing grows with n.
    """
    basis, n, degrees = model.basis, model.basis.n, model.degrees
    A = squares if squares is not None else squares_of(model, rotated)
    B = (rotated * model.rotated) @ basis.inverse
    keep = np.ones(len(A), dtype=bool) if usable is None else usable
    found = np.empty((4, len(A)))
    best_with(A, B, model.coefficients, basis.restricted, float(degrees), True, keep, found[0], found[1])
    best_with(A, B, model.coefficients, basis.full, float(n), False, keep, found[2], found[3])
    a, b, c = (_at(table, found[0]) for table in (A, B, np.broadcast_to(model.coefficients, A.shape)))
    with np.errstate(divide="ignore", invalid="ignore"):
        beta = b / a
        standard_error = np.sqrt(np.maximum(c - b * beta, 1e-14 * c) / (degrees * a))
        wald = (beta / standard_error) ** 2
        log_likelihood = _log_likelihood(found[3], n)
        ratio = np.maximum(2 * (log_likelihood - model.null_log_likelihood), 0.0)
        score = _score(model, A, B, keep)
    return ExactStatistics(
        beta=beta,
        standard_error=standard_error,
        chisq=wald,
        neg_log_10_p_value=neg_log10_p_t(np.sqrt(wald), degrees),
        l_remle=np.exp(found[0]),
        l_mle=np.exp(found[2]),
        log_likelihood=log_likelihood,
        neg_log_10_p_lrt=neg_log10_p_chisq(ratio),
        neg_log_10_p_score=neg_log10_p_t(np.sqrt(score), degrees),
    )


def squares_of(model: TraitModel, rotated: Array) -> Array:
    """Return the coefficients of a(λ), (b, W·D): the same for all traits of one eigenbasis."""
    return np.asarray((rotated * rotated) @ model.basis.inverse)


def fixed_ratio_test(model: TraitModel, h2: float, rotated: Array, usable: NDArray[np.bool_]) -> ExactStatistics:
    """Test variants at the variance components of the null model (EMMAX, P3D): χ²(1), as the scan of the mixed model.

    `χ² = b² / (a σ²)`, σ² the total variance at this h²; what needs another λ is NaN.
    """
    nothing = np.full(len(rotated), np.nan)
    weights = 1 / (h2 * model.basis.values + 1 - h2)
    variance = float(weights @ model.rotated**2) / len(model.rotated)
    den = (rotated * rotated) @ weights / variance
    num = rotated @ (weights * model.rotated) / variance
    den[~usable] = np.nan
    chisq = num**2 / den
    p = neg_log10_p_chisq(chisq)
    ratio = np.where(usable, h2 / (1 - h2), np.nan)
    return ExactStatistics(num / den, den**-0.5, chisq, p, ratio, nothing, nothing, nothing, nothing)


def _score(model: TraitModel, A: Array, B: Array, usable: NDArray[np.bool_]) -> Array:
    """Return the score statistic at λ̂ of ML without a variant, NaN where there is none."""
    t = float(np.log(model.null_lambda))
    a, b, c = evaluate(A, t), evaluate(B, t), float(evaluate(model.coefficients, t))
    return np.where(usable, model.basis.n * b**2 / (np.where(usable, a, 1.0) * c), np.nan)


def _at(coefficients: Array, t: Array) -> Array:
    values = np.empty(len(t))
    values_at(coefficients, t, values)
    return values


def _log_likelihood(deviance: Array | np.float64, n: int) -> Array:
    """Return ℓ of ML from the part of −2ℓ that depends on λ."""
    return np.asarray(0.5 * (n * (np.log(n / (2 * np.pi)) - 1) - deviance))
