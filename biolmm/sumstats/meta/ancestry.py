"""Meta-regression on axes of genetic variation, as MR-MEGA (Mägi et al. 2017, 10.1093/hmg/ddx280).

    distances      D_ij = mean over markers of (f_i − f_j)², used as the squared distance
    axes           B = −½ (D − row means − column means + mean) = V Λ V',   PC = V √Λ, the largest first
    regression     β_i = X_i b + e,  X = [1, PC₁ … PC_T],  w = 1/se²

With the weighted Gram–Schmidt basis q₀ … q_T of X (q₀ from the intercept) and c_j = q_j'√W β, the three tests are sums of
squares, and none is a difference:

    association          c₀² + … + c_T²     χ² with T + 1 degrees of freedom    TSS₀ − RSS
    ancestry             c₁² + … + c_T²     T                                   TSS − RSS
    residual             |√W β − Σ c q|²    k − T − 1                           RSS

log Bayes factor of association: (χ² − (T + 1) log k) / 2. A variant needs k ≥ T + 3 studies. p-values are in log space;
MR-MEGA's own are noise below 1e-15, and its standard errors are scaled by RSS/(k − T − 1), which `scale_errors` repeats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from biolmm.errors import ParameterError
from biolmm.sumstats.meta.block import Matrix, StudyBlock, Vector
from biolmm.sumstats.meta.tails import neg_log10_p_chisq_df


@dataclass(frozen=True, eq=False)
class DistanceSums:
    """Σ (f_i − f_j)² over markers, (k, k), and their number; those of other chunks add to it."""

    total: Matrix
    n_markers: int

    def __add__(self, other: DistanceSums) -> DistanceSums:
        """Add the sums of another chunk."""
        return DistanceSums(self.total + other.total, self.n_markers + other.n_markers)

    def mean(self) -> Matrix:
        """Give the distances D.

        Raises
        ------
        ParameterError
            When there was no marker.
        """
        if self.n_markers == 0:
            raise ParameterError("No variant is in every study with a frequency of 0.01 to 0.99; ancestry needs some.")
        return self.total / self.n_markers


@dataclass(frozen=True, eq=False)
class AncestryAxes:
    """Coordinates of studies (k, T) and all k eigenvalues of B, the largest first."""

    coordinates: Matrix
    eigenvalues: Vector


@dataclass(frozen=True, eq=False)
class ChisqTest:
    """A statistic of each variant, its degrees of freedom and −log₁₀ p."""

    chisq: Vector
    df: Vector
    neg_log10_p: Vector


@dataclass(frozen=True, eq=False)
class AncestryRegression:
    """Meta-regression of each variant on axes; NaN where it has too few studies, or axes that depend on each other.

    Attributes
    ----------
    beta, se
        Coefficients (b, T + 1), the intercept first: the effect where all axes are 0.
    association, ancestry, residual
        The three tests.
    log_bayes_factor
        Natural logarithm.
    n_studies
        Studies with the variant.
    tested
        Whether there were T + 3 studies, and axes that differ among them.
    """

    beta: Matrix
    se: Matrix
    association: ChisqTest
    ancestry: ChisqTest
    residual: ChisqTest
    log_bayes_factor: Vector
    n_studies: NDArray[np.int64]
    tested: NDArray[np.bool_]


def is_distance_marker(eaf: Matrix) -> NDArray[np.bool_]:
    """Tell which variants may tell ancestries apart: in every study, frequencies of 0.01 to 0.99."""
    return np.asarray(np.all((eaf >= 0.01) & (eaf <= 0.99), axis=1))


def last_in_bins(
    contig: NDArray[np.int64], position: NDArray[np.int64], eligible: NDArray[np.bool_], bin_bp: int = 1_000_000
) -> NDArray[np.int64]:
    """Choose the last eligible variant of each bin of a contig, as MR-MEGA does; numbers of variants, in order.

    Examples
    --------
    >>> where, contig = np.array([10, 20, 1_000_005]), np.array([1, 1, 1])
    >>> last_in_bins(contig, where, np.array([True, True, True])).tolist()
    [1, 2]
    """
    rows = np.flatnonzero(eligible)
    rows = rows[np.lexsort((rows, position[rows], contig[rows]))]
    where = np.stack([contig[rows], position[rows] // bin_bp])
    last = np.ones(len(rows), bool)
    last[:-1] = np.any(where[:, 1:] != where[:, :-1], axis=0)
    return np.sort(rows[last])


def distance_sums(eaf: Matrix) -> DistanceSums:
    """Sum squared differences of frequencies between studies over a chunk's chosen markers (b, k).

    Raises
    ------
    ParameterError
        When a frequency is missing.
    """
    values = np.asarray(eaf, dtype=np.float64)
    if np.isnan(values).any():
        raise ParameterError("A marker of ancestry lacks a frequency in a study; choose those in every study.")
    # Centred on the mean over studies the products do not cancel.
    centred = values - values.mean(axis=1, keepdims=True)
    cross = centred.T @ centred
    square = np.diag(cross)
    total = np.maximum(square[:, None] + square[None, :] - 2 * cross, 0.0)
    np.fill_diagonal(total, 0.0)
    return DistanceSums(total, len(values))


def ancestry_axes(distances: Matrix, n_axes: int) -> AncestryAxes:
    """Find axes of genetic variation by classical scaling.

    Parameters
    ----------
    distances
        (k, k) mean squared differences of frequencies.
    n_axes
        T, at most k − 3.

    Returns
    -------
    AncestryAxes
        Signs such that the coordinate of greatest size on each axis is positive.

    Raises
    ------
    ParameterError
        When there are too many axes for the studies, or fewer of them have any length.
    """
    k = len(distances)
    if not 1 <= n_axes <= k - 3:
        raise ParameterError(f"{n_axes} axes of ancestry for {k} studies; choose 1 to {k - 3} (studies less three).")
    mean = distances.mean(axis=0)
    b = -0.5 * (distances - mean[:, None] - mean[None, :] + distances.mean())
    values, vectors = np.linalg.eigh(b)
    values, vectors = values[::-1], vectors[:, ::-1]
    if values[n_axes - 1] <= 1e-12 * values[0]:
        n_real = int(np.sum(values > 1e-12 * values[0]))
        raise ParameterError(f"{n_axes} axes of ancestry were asked for but studies differ along {n_real} only.")
    chosen = vectors[:, :n_axes]
    sign = np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(n_axes)])
    return AncestryAxes(chosen * sign * np.sqrt(values[:n_axes]), values)


def ancestry_regression(
    block: StudyBlock,
    covariates: Matrix,
    *,
    lambda_gc: ArrayLike | None = None,
    association_lambda: float = 1.0,
    scale_errors: bool = False,
) -> AncestryRegression:
    """Regress effects on axes of ancestry, or on any covariates of studies.

    Parameters
    ----------
    block
        Studies with `beta` and `se`.
    covariates
        (k, T): `AncestryAxes.coordinates`, or what else differs between studies.
    lambda_gc
        Genomic control, a factor a study.
    association_lambda
        Genomic control of the association test (MR-MEGA's `--gco`): median χ² over the median of χ²_{T+1}; see
        `lambda_of`.
    scale_errors
        Scale standard errors by the residual variance, as MR-MEGA prints them.

    Raises
    ------
    ParameterError
        When covariates do not fit the studies or λ is not above 0.

    Notes
    -----
    **Cost** k (T + 2)² multiplications a variant, about 2 µs for 100 studies and three axes.
    """
    x = np.ascontiguousarray(np.asarray(covariates, dtype=np.float64))
    if x.ndim != 2 or len(x) != block.n_studies or not np.all(np.isfinite(x)):
        raise ParameterError(
            f"Covariates of studies have shape {x.shape}; give a number for each of {block.n_studies}."
        )
    if not association_lambda > 0:
        raise ParameterError(f"λ of the association test is {association_lambda} but must be above 0.")
    beta, se = block.effects(lambda_gc)
    terms = x.shape[1] + 1
    coefficients, errors, sums = np.empty((len(beta), terms)), np.empty((len(beta), terms)), np.empty((4, len(beta)))
    _regress(beta, se, np.ascontiguousarray(np.column_stack([np.ones(len(x)), x])), coefficients, errors, sums)
    intercept, axes, residual, n = sums
    tested = ~np.isnan(residual)
    residual_df = np.where(tested, n - terms, np.nan)
    if scale_errors:
        errors = errors * np.sqrt(residual / residual_df)[:, None]
    raw = intercept + axes
    association = raw / max(1.0, association_lambda)
    return AncestryRegression(
        coefficients,
        errors,
        _chisq_test(association, np.where(tested, float(terms), np.nan)),
        _chisq_test(axes, np.where(tested, terms - 1.0, np.nan)),
        _chisq_test(residual, residual_df),
        np.where(tested, 0.5 * (association - terms * np.log(np.maximum(n, 1.0))), np.nan),
        n.astype(np.int64),
        tested,
    )


def lambda_of(chisq: ArrayLike, df: int) -> float:
    """Give λ of a test: the median of its statistics over that of χ² with its degrees of freedom; NaN is left out.

    Examples
    --------
    >>> round(lambda_of([1.386294, 1.386294], 2), 6)
    1.0
    """
    values = np.asarray(chisq, dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(np.median(values) / special.chdtri(df, 0.5)) if values.size else float("nan")


def _chisq_test(chisq: Vector, df: Vector) -> ChisqTest:
    """Look up p-values."""
    return ChisqTest(chisq, df, neg_log10_p_chisq_df(chisq, df))


@numba.njit(nogil=True, cache=True)
def _regress(beta, se, x, coefficients, errors, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    n_variants, n_studies = beta.shape
    terms = x.shape[1]
    q, y = np.empty((terms, n_studies)), np.empty(n_studies)
    r, c = np.zeros((terms, terms)), np.empty(terms)
    for i in range(n_variants):
        n = 0
        for j in range(n_studies):
            if not np.isnan(se[i, j]):
                y[n] = beta[i, j] / se[i, j]
                for t in range(terms):
                    q[t, n] = x[j, t] / se[i, j]
                n += 1
        sums[3, i] = n
        good = n >= terms + 2
        if good:
            good = _orthogonalise(q, y, n, r, c)
        if not good:
            sums[0, i] = sums[1, i] = sums[2, i] = np.nan
            coefficients[i, :] = np.nan
            errors[i, :] = np.nan
            continue
        sums[0, i] = c[0] * c[0]
        sums[1, i] = 0.0
        for t in range(1, terms):
            sums[1, i] += c[t] * c[t]
        sums[2, i] = 0.0
        for j in range(n):
            sums[2, i] += y[j] * y[j]
        _solve_triangle(r, c, coefficients[i], errors[i])


@numba.njit(nogil=True, cache=True)
def _orthogonalise(q, y, n, r, c):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Gram–Schmidt in place, twice for each term; leaves the residual in y, projections in c, the triangle in r."""
    terms = len(c)
    for t in range(terms):
        length = 0.0
        for j in range(n):
            length += q[t, j] * q[t, j]
        for u in range(terms):
            r[u, t] = 0.0
        for _ in range(2):
            for u in range(t):
                dot = 0.0
                for j in range(n):
                    dot += q[u, j] * q[t, j]
                for j in range(n):
                    q[t, j] -= dot * q[u, j]
                r[u, t] += dot
        left = 0.0
        for j in range(n):
            left += q[t, j] * q[t, j]
        if not left > 1e-20 * length:
            return False
        r[t, t] = np.sqrt(left)
        dot = 0.0
        for j in range(n):
            q[t, j] /= r[t, t]
            dot += q[t, j] * y[j]
        for j in range(n):
            y[j] -= dot * q[t, j]
        c[t] = dot
    return True


@numba.njit(nogil=True, cache=True)
def _solve_triangle(r, c, coefficient, error):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Coefficients R⁻¹ c and their standard errors, the lengths of the rows of R⁻¹."""
    terms = len(c)
    inverse = np.zeros((terms, terms))
    for t in range(terms):
        inverse[t, t] = 1.0 / r[t, t]
        for u in range(t - 1, -1, -1):
            dot = 0.0
            for m in range(u + 1, t + 1):
                dot += r[u, m] * inverse[m, t]
            inverse[u, t] = -dot / r[u, u]
    for t in range(terms):
        coefficient[t], square = 0.0, 0.0
        for m in range(t, terms):
            coefficient[t] += inverse[t, m] * c[m]
            square += inverse[t, m] * inverse[t, m]
        error[t] = np.sqrt(square)
