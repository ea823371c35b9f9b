"""Meta-analysis by its definitions, one variant at a time: sums written out, dense covariances, brute-force maxima."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from biolmm.sumstats.meta.block import StudyBlock

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

GOLDEN = StudyBlock(
    np.array([[0.10, 0.30, -0.05, 0.22, 0.15]]),
    se=np.array([[0.05, 0.08, 0.06, 0.10, 0.04]]),
    n=np.array([[4000.0, 1600.0, 2800.0, 1000.0, 6200.0]]),
)
"""The example whose figures statsmodels, PyMARE and METAL agree on."""


def random_block(n_variants: int, n_studies: int, seed: int, missing: float = 0.2, tau: float = 0.05) -> StudyBlock:
    """Make studies with and without heterogeneity, cells missing at random; the first rows have 0, 1 and 2 studies."""
    rng = np.random.default_rng(seed)
    shape = (n_variants, n_studies)
    se = rng.uniform(0.02, 0.1, shape)
    beta = rng.normal(0, 0.05, (n_variants, 1)) + rng.normal(0, tau, shape) * (rng.random((n_variants, 1)) < 0.5)
    beta = beta + se * rng.standard_normal(shape)
    eaf = np.clip(rng.uniform(0.05, 0.95, (n_variants, 1)) + rng.normal(0, 0.05, shape), 0.001, 0.999)
    n = rng.integers(500, 50_000, shape).astype(np.float64)
    gone = rng.random(shape) < missing
    for row in range(min(3, n_variants)):
        gone[row] = np.arange(n_studies) >= row
    arrays = [np.where(gone, np.nan, each) for each in (beta, se, eaf, n)]
    arrays[0][:, 0] = np.where(rng.random(n_variants) < 0.05, np.nan, arrays[0][:, 0])  # an se alone does not count
    return StudyBlock(*arrays)


def studies_of(block: StudyBlock, row: int) -> tuple[Vector, Vector]:
    """Give the effects and variances that one variant has."""
    assert block.se is not None
    there = ~np.isnan(block.beta[row]) & ~np.isnan(block.se[row])
    return block.beta[row, there], block.se[row, there] ** 2


def fixed(y: Vector, v: Vector) -> tuple[float, float, float]:
    """Give β̂, its standard error and Q by generalised least squares with a dense covariance."""
    x, inverse = np.ones((len(y), 1)), np.linalg.inv(np.diag(v))
    covariance = np.linalg.inv(x.T @ inverse @ x)
    mean = (covariance @ x.T @ inverse @ y).item()
    return mean, math.sqrt(covariance.item()), float((y - mean) @ inverse @ (y - mean))


def log_likelihood(tau2: float, y: Vector, v: Vector, restricted: bool) -> float:
    """Give the log-likelihood profiled over μ, or the restricted one, from dense matrices, up to a constant."""
    covariance, x = np.diag(v + tau2), np.ones((len(y), 1))
    inverse = np.linalg.inv(covariance)
    precision = x.T @ inverse @ x
    r = y - (np.linalg.solve(precision, x.T @ inverse @ y)).item()
    value = -0.5 * np.linalg.slogdet(covariance)[1] - 0.5 * r @ inverse @ r
    return float(value - 0.5 * np.linalg.slogdet(precision)[1] if restricted else value)


def best_tau2(y: Vector, v: Vector, restricted: bool) -> float:
    """Maximise the likelihood over τ² ≥ 0 on a fine grid, then around its best point."""
    top = 3 * float(np.ptp(y)) ** 2 + float(v.max())
    grid = np.r_[0.0, np.geomspace(1e-6 * v.min(), top, 2000)]
    best = int(np.argmax([log_likelihood(t, y, v, restricted) for t in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    loss: Callable[[float], float] = lambda t: -log_likelihood(t, y, v, restricted)
    found = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-14}).x
    return float(found) if loss(found) < loss(0.0) else 0.0


def subset_posterior(y: Vector, v: Vector, sigma: float, a: float, b: float) -> tuple[Vector, float]:
    """Give m-values and the Bayes factor from dense normal densities of every subset of studies."""
    k = len(y)
    none = stats.norm(0, np.sqrt(v)).logpdf(y).sum()
    total, each = 0.0, np.zeros(k)
    for bits in itertools.product([False, True], repeat=k):
        on = np.array(bits)
        value = special.betaln(on.sum() + a, k - on.sum() + b) - special.betaln(a, b) - none
        value += stats.norm(0, np.sqrt(v[~on])).logpdf(y[~on]).sum()
        if on.any():
            value += stats.multivariate_normal(np.zeros(on.sum()), np.diag(v[on]) + sigma**2).logpdf(y[on])
        total += math.exp(value)
        each += on * math.exp(value)
    return each / total, total


def partition_factor(y: Vector, v: Vector, distances: Matrix, p: float, sigma: float) -> tuple[float, float]:
    """Give the partition model's Bayes factor and its share of one cluster, over all sets of centres."""
    k, none = len(y), stats.norm(0, np.sqrt(v)).logpdf(y).sum()
    total = single = prior = 0.0
    for m in range(1, k + 1):
        for centres in itertools.combinations(range(k), m):
            weight = p ** (m - 1) / math.comb(k, m)
            prior += weight
            joined = [i if i in centres else min(centres, key=lambda c: distances[i, c]) for i in range(k)]
            value = -none
            for centre in centres:
                on = np.array([each == centre for each in joined])
                value += stats.multivariate_normal(np.zeros(on.sum()), np.diag(v[on]) + sigma**2).logpdf(y[on])
            total += weight * math.exp(value)
            single += weight * math.exp(value) * (m == 1)
    return total / prior, single / total


def meta_regression(y: Vector, v: Vector, x: Matrix) -> dict[str, NDArray[np.float64] | float]:
    """Give weighted least squares and its sums of squares as differences, from dense matrices."""
    w = np.diag(1 / v)
    covariance = np.linalg.inv(x.T @ w @ x)
    b = covariance @ x.T @ w @ y
    mean = np.sum(y / v) / np.sum(1 / v)
    rss = (y - x @ b) @ w @ (y - x @ b)
    return {
        "beta": b, "se": np.sqrt(np.diag(covariance)), "association": y @ w @ y - rss,
        "ancestry": (y - mean) @ w @ (y - mean) - rss, "residual": rss,
    }  # fmt: skip
