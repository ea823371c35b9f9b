"""Haseman–Elston regression by its definition, on all pairs of few samples, as GCTA's `--HEreg`.

    HE-CP: y_i y_j on K_ij          HE-SD: −½ (y_i − y_j)² on K_ij          i < j, with an intercept

y has mean 0 and variance 1, so the slope is V(G)/Vp. Two standard errors: that of ordinary least squares, which takes pairs
as independent, and the jackknife that leaves out a sample at a time (Yang et al. 2017, doi 10.1038/ng.3941).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import ParameterError

HeKind = Literal["cross-product", "squared-difference"]
MIN_SAMPLES = 4


@dataclass(frozen=True)
class HeRegression:
    """Intercept and slope, (2,) each.

    Attributes
    ----------
    estimate
        Of everyone.
    se_ols, se_jackknife
        Standard errors.
    """

    estimate: NDArray[np.float64]
    se_ols: NDArray[np.float64]
    se_jackknife: NDArray[np.float64]

    @property
    def h2(self) -> float:
        """The slope."""
        return float(self.estimate[1])


def he_regression(K: NDArray[np.float64], y: NDArray[np.float64], kind: HeKind = "cross-product") -> HeRegression:
    """Regress products, or squared differences, of a trait on relatedness.

    Parameters
    ----------
    K
        (n, n) relatedness of the samples that have the trait; the diagonal is not used.
    y
        (n,) trait, covariates taken out.
    kind
        Which of the two.

    Raises
    ------
    ParameterError
        With fewer than four samples, or where relatedness does not vary.

    Notes
    -----
    **Cost**: O(n²), no product of matrices.
    """
    n = len(y)
    if n < MIN_SAMPLES:
        raise ParameterError(f"Haseman–Elston regression needs at least {MIN_SAMPLES} samples: there are {n}.")
    z = (y - y.mean()) / y.std(ddof=1)
    target = np.outer(z, z) if kind == "cross-product" else -0.5 * (z[:, None] - z[None]) ** 2
    x = np.array(K, dtype=np.float64)
    np.fill_diagonal(x, 0.0)
    np.fill_diagonal(target, 0.0)
    # Sums over the pairs of each sample; all pairs are half of their total.
    rows = np.stack([np.full(n, n - 1.0), x.sum(1), (x * x).sum(1), target.sum(1), (x * target).sum(1)])
    whole = rows.sum(axis=1) / 2
    if whole[2] - whole[1] ** 2 / whole[0] <= 1e-12 * whole[2]:
        raise ParameterError("relatedness does not vary among these samples: Haseman–Elston regression has no slope.")
    estimate = _line(whole[:, None])[:, 0]
    without = _line(whole[:, None] - rows)
    se_jackknife = np.sqrt((n - 1) * without.var(axis=1))
    power = (target**2).sum() / 2
    residual = power - estimate[0] * whole[3] - estimate[1] * whole[4]
    variance = residual / (whole[0] - 2)
    spread = whole[2] - whole[1] ** 2 / whole[0]
    se_ols = np.sqrt(variance * np.array([1 / whole[0] + (whole[1] / whole[0]) ** 2 / spread, 1 / spread]))
    return HeRegression(estimate, se_ols, se_jackknife)


def _line(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return intercept and slope from (count, Σx, Σx², Σt, Σxt), each (r,)."""
    count, x, xx, t, xt = sums
    slope = (xt - x * t / count) / (xx - x * x / count)
    return np.stack([(t - slope * x) / count, slope])
