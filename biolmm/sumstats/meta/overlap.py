"""Studies that share samples: generalised least squares with the correlation R of their statistics under the null.

    sample size        h = R⁻¹ √n         n_eff = √n'h,  z = z'h / √n_eff
    inverse variance   h = R⁻¹ (1/se)     var = 1 / ((1/se)'h),  β̂ = var (β/se)'h

(Lin & Sullivan 2009, 10.1016/j.ajhg.2009.11.001.) Of the studies that have a variant: R's rows and columns of the others are
left out, and R⁻¹ is made once for each pattern of missing studies.

R is given (from cross-trait LD score regression, say), or estimated for each pair from the variants in both whose |z| are
below a cutoff, where associations do not reach: the maximum of the likelihood of a bivariate normal truncated to that square,

    l(ρ) = −(n/2) log(1 − ρ²) − (Σz₁² + Σz₂² − 2ρ Σz₁z₂) / (2 (1 − ρ²)) − n log P(|z₁| < c, |z₂| < c; ρ)

which needs only n and three sums, so chunks add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from biolmm.errors import ParameterError
from biolmm.results.diagnostics import neg_log10_p
from biolmm.sumstats.meta.block import Matrix, StudyBlock, Vector, check_lambdas, missingness_patterns

_MOST = 0.9999
_GRID = 81
_SMALLEST_EIGENVALUE = 1e-6


@dataclass(frozen=True, eq=False)
class OverlapSums:
    """Of each pair of studies, over variants with both |z| below the cutoff: n, Σz_i², Σz_j² and Σz_i z_j, (k, k) each.

    `square[i, j]` is Σz_i² over the variants of the pair i, j. Those of other chunks add to it.
    """

    cutoff: float
    n: Matrix
    square: Matrix
    product: Matrix

    def __add__(self, other: OverlapSums) -> OverlapSums:
        """Add the sums of another chunk of the same cutoff."""
        if other.cutoff != self.cutoff:
            raise ParameterError(f"Sums of overlap with cutoffs {self.cutoff} and {other.cutoff} cannot be added.")
        return OverlapSums(self.cutoff, self.n + other.n, self.square + other.square, self.product + other.product)


@dataclass(frozen=True, eq=False)
class OverlapCorrelation:
    """Correlations (k, k) and their standard errors; NaN error where a pair shares no variant, and 0 is assumed.

    `raised` tells that R was not positive definite and its smallest eigenvalues were raised.
    """

    correlation: Matrix
    standard_error: Matrix
    raised: bool


@dataclass(frozen=True, eq=False)
class OverlapSampleSize:
    """Sample-size scheme with overlap: z, two-sided −log₁₀ p, effective sample size, studies of each variant."""

    z: Vector
    neg_log10_p: Vector
    n_effective: Vector
    n_studies: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class OverlapInverseVariance:
    """Inverse variance with overlap: the best linear unbiased estimate of each variant, and Q = r'R⁻¹r, χ²_{k−1}."""

    beta: Vector
    se: Vector
    z: Vector
    neg_log10_p: Vector
    q: Vector
    n_studies: NDArray[np.int64]


def overlap_sums(z: Matrix, cutoff: float = 1.0) -> OverlapSums:
    """Sum what the estimate of R needs over a chunk of signed statistics (b, k), NaN where missing.

    Raises
    ------
    ParameterError
        When the cutoff is not above 0.
    """
    if not cutoff > 0:
        raise ParameterError(f"The cutoff of |z| is {cutoff} but must be above 0.")
    values = np.asarray(z, dtype=np.float64)
    small = np.abs(values) < cutoff
    there, kept = small.astype(np.float64), np.where(small, values, 0.0)
    return OverlapSums(cutoff, there.T @ there, (kept**2).T @ there, kept.T @ kept)


def estimate_overlap(sums: OverlapSums, *, allow_negative: bool = False) -> OverlapCorrelation:
    """Estimate the correlation of each pair of studies by truncated maximum likelihood.

    Parameters
    ----------
    sums
        Over all variants.
    allow_negative
        Keep negative correlations; shared samples make positive ones, so METAL, and this by default, set them to 0.

    Notes
    -----
    **Cost** about a millisecond a pair. The standard error is from the curvature of l.
    """
    k = len(sums.n)
    found, error = np.eye(k), np.zeros((k, k))
    for i in range(k):
        for j in range(i):
            n, cross = sums.n[i, j], sums.product[i, j]
            squares = sums.square[i, j] + sums.square[j, i]
            rho, se = truncated_correlation(n, squares, cross, sums.cutoff) if n > 0 else (0.0, float("nan"))
            found[i, j] = found[j, i] = rho if allow_negative else max(rho, 0.0)
            error[i, j] = error[j, i] = se
    values, vectors = np.linalg.eigh(found)
    raised = bool(values[0] < _SMALLEST_EIGENVALUE)
    if raised:
        found = (vectors * np.maximum(values, _SMALLEST_EIGENVALUE)) @ vectors.T
        scale = np.sqrt(np.diag(found))
        found = found / scale[:, None] / scale[None, :]
    return OverlapCorrelation(found, error, raised)


def truncated_correlation(n: float, squares: float, cross: float, cutoff: float) -> tuple[float, float]:
    """Maximise the likelihood of ρ from n pairs, Σ(z₁² + z₂²) and Σz₁z₂; give ρ and its standard error."""

    def loss(rho: float) -> float:
        rest = 1.0 - rho * rho
        inside = _log_probability_inside(rho, cutoff)
        return float(0.5 * np.log(rest) + (squares - 2 * rho * cross) / (2 * n * rest) + inside)

    grid = np.linspace(-_MOST, _MOST, _GRID)
    best = int(np.argmin([loss(rho) for rho in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    rho = float(optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-10}).x)
    step = min(1e-3, 0.1 * (1 - abs(rho)))
    curvature = (loss(rho + step) - 2 * loss(rho) + loss(rho - step)) / step**2
    return rho, float(1.0 / np.sqrt(n * curvature)) if curvature > 0 else float("nan")


def sample_size_with_overlap(
    block: StudyBlock, correlation: Matrix, lambda_gc: ArrayLike | None = None
) -> OverlapSampleSize:
    """Combine signed statistics of studies that share samples.

    Raises
    ------
    ParameterError
        When the block has no `n`, or R does not fit or is not positive definite.

    Notes
    -----
    **Cost** k² multiplications a variant, and k³ for each pattern of missing studies: at 100 studies 6 µs a variant with one
    pattern, 150 µs where all differ.

    Examples
    --------
    Two copies of one study count once:

    >>> block = StudyBlock([[1.0, 1.0]], n=[[100.0, 100.0]], z=[[2.0, 2.0]])
    >>> found = sample_size_with_overlap(block, np.array([[1.0, 0.999999], [0.999999, 1.0]]))
    >>> found.z.round(4).tolist(), found.n_effective.round(2).tolist()
    ([2.0], [100.0])
    """
    if block.n is None:
        raise ParameterError("The block has no sample sizes, which this analysis weighs by; give n.")
    r = _checked(correlation, block.n_studies)
    z = block.z_scores() / np.sqrt(check_lambdas(lambda_gc, block.n_studies))
    present = ~np.isnan(z) & ~np.isnan(block.n)
    out, effective = np.full(len(z), np.nan), np.full(len(z), np.nan)
    for studies, rows in missingness_patterns(present):
        root = np.sqrt(block.n[np.ix_(rows, studies)])
        h = root @ _inverse(r, studies)
        effective[rows] = (root * h).sum(axis=1)
        out[rows] = (z[np.ix_(rows, studies)] * h).sum(axis=1) / np.sqrt(effective[rows])
    return OverlapSampleSize(out, neg_log10_p(out), effective, present.sum(axis=1))


def inverse_variance_with_overlap(
    block: StudyBlock, correlation: Matrix, lambda_gc: ArrayLike | None = None
) -> OverlapInverseVariance:
    """Combine effects of studies that share samples; as `sample_size_with_overlap`."""
    r = _checked(correlation, block.n_studies)
    beta, se = block.effects(lambda_gc)
    present = ~np.isnan(se)
    mean, error, q = np.full((3, len(beta)), np.nan)
    for studies, rows in missingness_patterns(present):
        cells, inverse = np.ix_(rows, studies), _inverse(r, studies)
        y, s = beta[cells], se[cells]
        h = (1.0 / s) @ inverse
        error[rows] = np.sqrt(1.0 / (h / s).sum(axis=1))
        mean[rows] = error[rows] ** 2 * (y / s * h).sum(axis=1)
        residual = (y - mean[rows][:, None]) / s
        q[rows] = ((residual @ inverse) * residual).sum(axis=1) if studies.size > 1 else 0.0
    z = mean / error
    return OverlapInverseVariance(mean, error, z, neg_log10_p(z), q, present.sum(axis=1))


def _log_probability_inside(rho: float, cutoff: float) -> float:
    """Compute log P(|z₁| < c, |z₂| < c) = log ∫_{−c}^{c} φ(x) [Φ((c−ρx)/s) − Φ((−c−ρx)/s)] dx, s² = 1 − ρ²."""
    s = np.sqrt(1.0 - rho * rho)
    # The integrand turns within about s of where ρx = ±c: intervals end there, and nodes crowd at their ends.
    nodes, weights = np.polynomial.legendre.leggauss(48)
    edge = min(cutoff, cutoff / abs(rho) if rho else cutoff)
    inner = max(edge - 8 * s, -edge)
    cuts = np.unique([-cutoff, -edge, -inner, 0.0, inner, edge, cutoff])
    half, middle = np.diff(cuts) / 2, (cuts[1:] + cuts[:-1]) / 2
    x = (middle[:, None] + half[:, None] * nodes).ravel()
    w = (half[:, None] * weights).ravel()
    strip = special.ndtr((cutoff - rho * x) / s) - special.ndtr((-cutoff - rho * x) / s)
    return float(np.log(np.sum(w * np.exp(-0.5 * x * x) * strip) / np.sqrt(2 * np.pi)))


def _checked(correlation: Matrix, k: int) -> Matrix:
    """Check R."""
    r = np.asarray(correlation, dtype=np.float64)
    if r.shape != (k, k) or not np.allclose(r, r.T, rtol=0, atol=1e-12) or not np.allclose(np.diag(r), 1.0):
        raise ParameterError(
            f"The correlation of studies has shape {r.shape}; give {k} × {k}, symmetric, 1 on the diagonal."
        )
    smallest = float(np.linalg.eigvalsh(r)[0])
    if not smallest > 1e-10:
        raise ParameterError(
            f"The correlation of studies has the eigenvalue {smallest:.3g} but must be positive definite; "
            "leave out studies that hold the same samples twice."
        )
    return r


def _inverse(r: Matrix, studies: NDArray[np.int64]) -> Matrix:
    """Invert R of some studies."""
    return np.asarray(np.linalg.inv(r[np.ix_(studies, studies)]))
