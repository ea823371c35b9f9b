"""Several records of a trait an individual: genetic, permanent-environment and residual variance.

    y = W b + Z (x β + u + p) + e,    u ~ N(0, σ²_g K),  p ~ N(0, σ²_p I),  e ~ N(0, σ²_e I)

Z (R, N) says whose record each is, D = ZᵀZ = diag(records an individual). Everything happens between individuals or within
them, so that no R × R matrix is needed: with γ = σ²_g/σ²_e, δ = σ²_p/σ²_e, S = γK + δI + D⁻¹ (N × N), ȳ and W̄ the means of
every individual's records and y_w, W_w what is left of the records,

    V⁻¹σ²_e = (I − ZD⁻¹Zᵀ) + ZD⁻¹ S⁻¹ D⁻¹Zᵀ        aᵀV⁻¹b σ²_e = a_wᵀb_w + āᵀS⁻¹b̄
    log det V/σ²_e = log det S + Σ log d_i          ZᵀV⁻¹Z σ²_e = S⁻¹

(Henderson 1984, *Applications of Linear Models in Animal Breeding*, ch. 5, written for means.) Variants differ between
individuals only: x enters as a mean.

Legend: R records of N individuals, C columns W (intercept included), b variants.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, eigh, solve_triangular
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from biolmm.chunks import check_stop
from biolmm.cohort import Cohort, align_cohort, orthonormal_basis
from biolmm.errors import SampleMismatchError, TraitError
from biolmm.exact.blocks import Dosages
from biolmm.exact.variant_tests import ExactStatistics
from biolmm.results.diagnostics import neg_log10_p_chisq

log = logging.getLogger(__name__)

MAX_RATIO = 1e4
"""Largest σ²_g/σ²_e and σ²_p/σ²_e that are searched."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Records:
    """One trait's records.

    Attributes
    ----------
    cohort
        The individuals; their trait is the mean of their records.
    individual
        (R,) whose record each is, as a position in the cohort.
    y
        (R,) the records.
    design
        (R, C) orthonormal basis of the intercept and the covariates of the records.
    """

    cohort: Cohort
    individual: NDArray[np.int64]
    y: Array
    design: Array

    @classmethod
    def align(
        cls,
        sample_id: Sequence[str] | NDArray[np.str_],
        table: pd.DataFrame,
        trait: str,
        covariates: Sequence[str] = (),
    ) -> Records:
        """Take a trait and covariates of numbers from a table with one row a record.

        Parameters
        ----------
        sample_id
            Of the genotypes, in their order.
        table
            Indexed by sample id, which may be there many times, or with a column `IID` or `sample_id`.
        trait, covariates
            Columns. Records without the trait or a covariate are left out, and individuals who are not genotyped.

        Raises
        ------
        TraitError
            When a column is not there, is no number, or too few records are left.
        SampleMismatchError
            When nobody of the table is genotyped.
        """
        wanted = [trait, *covariates]
        absent = [name for name in wanted if name not in table.columns]
        if absent:
            raise TraitError(
                f"The table of records has no column '{absent[0]}'; it has {', '.join(map(str, table.columns[:5]))}."
            )
        key = next((name for name in table.columns if str(name).lower() in ("iid", "sample_id")), None)
        ids = pd.Index(table.index if key is None else table[key]).astype(str)
        try:
            numbers = table[wanted].to_numpy(dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise TraitError(f"A column of the records is no number ({error}): give codes or indicators.") from None
        complete = np.isfinite(numbers).all(axis=1)
        genotyped = ids.isin(np.asarray(sample_id))
        if not (complete & genotyped).any():
            raise SampleMismatchError(
                f"No complete record of '{trait}' is of a genotyped individual: {int(complete.sum()):,} of {len(ids):,} records "
                f"are complete, {int(genotyped.sum()):,} are of somebody who is genotyped."
            )
        ids, numbers = ids[complete & genotyped], numbers[complete & genotyped]
        means = pd.DataFrame({trait: numbers[:, 0]}, index=ids).groupby(level=0).mean()
        cohort = align_cohort(np.asarray(sample_id), means)
        individual = pd.Index(cohort.sample_id).get_indexer(ids).astype(np.int64)
        basis = orthonormal_basis(numbers[:, 1:], tuple(covariates))
        if len(ids) < basis.Q.shape[1] + 3:
            raise TraitError(f"{len(ids):,} records of '{trait}' are too few for {basis.Q.shape[1]} covariates.")
        return cls(cohort, individual, numbers[:, 0], basis.Q)

    @property
    def counts(self) -> Array:
        """(N,) records of every individual."""
        return np.bincount(self.individual, minlength=self.cohort.n_samples).astype(np.float64)

    def means(self, X: Array) -> Array:
        """Return the mean of every individual's rows of X (R, k), (N, k)."""
        total = np.zeros((self.cohort.n_samples, X.shape[1]))
        np.add.at(total, self.individual, X)
        return total / self.counts[:, None]


@dataclass(frozen=True)
class RecordComponents:
    """The estimate.

    Attributes
    ----------
    sigma2_g, sigma2_p, sigma2_e
        Genetic, permanent-environment and residual variance.
    log_likelihood
        Restricted, with all constants of the density of R − C contrasts of an orthonormal design.
    n_evaluations
        Evaluations of the likelihood.
    """

    sigma2_g: float
    sigma2_p: float
    sigma2_e: float
    log_likelihood: float
    n_evaluations: int

    @property
    def ratios(self) -> Array:
        """(2,) σ²_g/σ²_e and σ²_p/σ²_e."""
        return np.array([self.sigma2_g, self.sigma2_p]) / self.sigma2_e

    @property
    def repeatability(self) -> float:
        """Return (σ²_g + σ²_p) over the whole."""
        between = self.sigma2_g + self.sigma2_p
        return between / (between + self.sigma2_e)


@dataclass(frozen=True, eq=False)
class RecordModel:
    """The model with its variances fixed: what tests of variants need.

    Attributes
    ----------
    components
        The variances.
    factor
        (N, N) lower Cholesky factor L of S.
    along
        (N, C) `L⁻¹ W̄ G^(−½)`, G = W_wᵀW_w + W̄ᵀS⁻¹W̄: what the covariates take.
    solution
        (N,) `ZᵀP_V y σ²_e = S⁻¹ (ȳ − W̄ b̂)`.
    """

    components: RecordComponents
    factor: Array
    along: Array
    solution: Array

    def tests(self, Z: Array, usable: NDArray[np.bool_]) -> ExactStatistics:
        """Test variants (b, N) by generalised least squares: χ²(1) with the variances of the null model.

        Notes
        -----
        **Cost**: N² flop a variant.
        """
        white = solve_triangular(self.factor, Z.T, lower=True, check_finite=False)
        along = self.along.T @ white
        den = np.einsum("ij,ij->j", white, white) - np.einsum("ij,ij->j", along, along)
        total = np.einsum("ij,ij->j", white, white)
        den = np.where(usable & (den > 1e-8 * total), den, np.nan) / self.components.sigma2_e
        num = Z @ self.solution / self.components.sigma2_e
        nothing = np.full(len(Z), np.nan)
        chisq = num**2 / den
        p = neg_log10_p_chisq(chisq)
        return ExactStatistics(num / den, den**-0.5, chisq, p, nothing, nothing, nothing, nothing, nothing)


@dataclass(frozen=True, eq=False)
class RecordSystem:
    """A trait of several records an individual, to be tested with variances that stay.

    Attributes
    ----------
    model
        The trait.
    traits
        Its number, 0.
    """

    model: RecordModel
    traits: tuple[int, ...] = (0,)

    def tests(self, block: Dosages, index: int) -> Iterator[tuple[int, ExactStatistics]]:
        """Test a block."""
        yield 0, self.model.tests(block.Z, block.counted.moments.vary[:, index + 1])


class _Likelihood:
    """`−2ℓ(γ, δ)` with σ²_e profiled, and its gradient."""

    def __init__(self, K: Array, records: Records) -> None:
        self.records, self.K = records, K
        self.inverse_counts = 1 / records.counts
        self.R, self.C = records.design.shape
        y = records.y[:, None] - records.design @ (records.design.T @ records.y[:, None])
        both = np.hstack([records.design, y])
        self.means = records.means(both)
        within = both - self.means[records.individual]
        self.within = within.T @ within
        self.n_evaluations = 0
        self.balanced = bool(np.ptp(records.counts) == 0)
        check_stop()
        if self.balanced:  # S is diagonal where K is
            self.values, vectors = eigh(K, check_finite=False, driver="evd")
            self.rotated = vectors.T @ self.means

    def evaluate(self, ratios: Array) -> tuple[float, Array]:
        """Return −2ℓ without its constant, and its slopes along γ and δ."""
        check_stop()
        self.n_evaluations += 1
        gamma, delta = ratios
        if self.balanced:
            S = gamma * self.values + delta + self.inverse_counts
            solved, determinant = self.rotated / S[:, None], float(np.log(S).sum())
            traces = np.array([(self.values / S).sum(), (1 / S).sum()])
            K_solved, means = self.values[:, None] * solved, self.rotated
        else:
            factor = self.factor(ratios)
            means = self.means
            solved, determinant = cho_solve((factor, True), means), 2 * float(np.log(np.diag(factor)).sum())
            inverse, _ = dpotri(factor, lower=1)
            low = np.tril(inverse, -1)
            traces = np.array([2 * np.vdot(low, self.K) + np.diag(inverse) @ np.diag(self.K), np.diag(inverse).sum()])
            K_solved = self.K @ solved
        gram = self.within + means.T @ solved
        C, degrees = self.C, self.R - self.C
        inner = np.linalg.inv(gram[:C, :C])
        effects = inner @ gram[:C, C]
        rss = float(gram[C, C] - gram[:C, C] @ effects)
        v = solved[:, C] - solved[:, :C] @ effects
        K_v = K_solved[:, C] - K_solved[:, :C] @ effects
        taken = [np.vdot(inner, solved[:, :C].T @ one[:, :C]) for one in (K_solved, solved)]
        forms = np.array([v @ K_v, v @ v])
        value = degrees * np.log(rss / degrees) + determinant + float(np.linalg.slogdet(gram[:C, :C])[1])
        return value, traces - np.array(taken) - degrees * forms / rss

    def factor(self, ratios: Array) -> Array:
        """Return the Cholesky factor of S."""
        S = ratios[0] * self.K
        S[np.diag_indices(len(S))] += ratios[1] + self.inverse_counts
        return np.asarray(cholesky(S, lower=True, overwrite_a=True, check_finite=False))


def fit_records(K: Array, records: Records) -> RecordModel:
    """Estimate the three variances by REML and set up the tests.

    Parameters
    ----------
    K
        (N, N) relatedness of the individuals of the records, in their order.
    records
        The trait.

    Notes
    -----
    **Cost**: where everybody has the same number of records one eigendecomposition, 9·N³ flop; else N³ for each of about 25
    evaluations of the likelihood.
    """
    likelihood = _Likelihood(K, records)
    starts = [np.array([0.5, 0.25]), np.array([0.05, 1.0])]
    found = min(
        (
            minimize(likelihood.evaluate, start, jac=True, method="L-BFGS-B", bounds=[(0, MAX_RATIO)] * 2,
                     options={"ftol": 1e-14, "gtol": 1e-7, "maxiter": 200})
            for start in starts
        ),
        key=lambda one: float(one.fun),
    )  # fmt: skip
    if np.max(found.x) >= MAX_RATIO:
        log.warning("a ratio of variances of '%s' is at its bound %g.", records.cohort.trait_names[0], MAX_RATIO)
    return fixed_records(K, records, found.x, likelihood)


def fixed_records(K: Array, records: Records, ratios: Array, likelihood: _Likelihood | None = None) -> RecordModel:
    """Set up the tests at given ratios σ²_g/σ²_e and σ²_p/σ²_e."""
    likelihood = likelihood or _Likelihood(K, records)
    deviance, _ = likelihood.evaluate(ratios)
    factor, C = likelihood.factor(ratios), likelihood.C
    white = solve_triangular(factor, likelihood.means, lower=True, check_finite=False)
    gram = likelihood.within + white.T @ white
    half = np.linalg.cholesky(gram[:C, :C])
    effects = np.linalg.solve(gram[:C, :C], gram[:C, C])
    solution = solve_triangular(factor, white[:, C] - white[:, :C] @ effects, lower=True, trans="T")
    degrees = likelihood.R - C
    sigma2_e = float(gram[C, C] - gram[:C, C] @ effects) / degrees
    counts = float(np.log(records.counts).sum())
    log_likelihood = -0.5 * (deviance + counts + degrees * (1 + np.log(2 * np.pi)))
    components = RecordComponents(
        sigma2_e * float(ratios[0]), sigma2_e * float(ratios[1]), sigma2_e, log_likelihood, likelihood.n_evaluations
    )
    return RecordModel(components, factor, solve_triangular(half, white[:, :C].T, lower=True).T, solution)
