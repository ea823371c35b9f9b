"""The restricted likelihood of one trait as a function of h², over a discrete spectral density.

    −2ℓ(h²) = (n−C) log( yᵀ H⁻¹ y / (n−C) ) + log det₊ H,     H = h² PKP + (1−h²) P

Everything it needs is two measures on the eigenvalues λ of PKP: one that turns f into `tr f` (for the determinant) and
one that turns f into `yᵀ f y`. Both are exact when all eigenpairs are known; otherwise the leading ones are exact
and the remainder comes from Lanczos quadrature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_ndtr

MAX_H2 = 0.9999
"""Upper end of the search: at h² = 1 the likelihood of a singular K is degenerate."""


@dataclass(frozen=True)
class ProbeMoments:
    """What one product a probe says of Σλ²: `zᵀAᵏz` for k = 0, 1, 2, of more probes than have a quadrature.

    Attributes
    ----------
    own
        (q, 3) under the restriction itself; the first of these probes are those of the quadrature.
    whole
        (n, 3) under the whole cohort, the same probes first: a control variate. None for the whole cohort itself.
    share
        How much of the deviation of `whole` is expected in `own`.
    """

    own: NDArray[np.float64]
    whole: NDArray[np.float64] | None = None
    share: float = 0.0

    def estimate(self, polynomial: NDArray[np.float64]) -> tuple[float, float]:
        """Estimate `tr p(A)` for a polynomial c₀ + c₁λ + c₂λ², and the variance of that."""
        own = self.own @ polynomial
        if self.whole is None:
            return float(own.mean()), float(own.var(ddof=1) / len(own))
        whole = self.share * (self.whole @ polynomial)
        apart = own - whole[: len(own)]
        variance = apart.var(ddof=1) / len(apart) + whole.var(ddof=1) / len(whole)
        return float(apart.mean() + whole.mean()), float(variance)


@dataclass(frozen=True)
class TraceMeasure:
    """Turns a function f of the eigenvalues of PKP into `tr f(PKP)` over the range of P.

    Attributes
    ----------
    values
        (k,) eigenvalues known exactly.
    nodes, weights
        (n_probes, s) quadrature of each probe on what remains; each probe alone is an unbiased estimate.
    dimension
        Dimension of the remainder, n − C − k.
    trace
        Exact sum of the remaining eigenvalues.
    moments
        What more probes say of the sum of their squares; None when there are no more.
    """

    values: NDArray[np.float64]
    nodes: NDArray[np.float64]
    weights: NDArray[np.float64]
    dimension: int
    trace: float
    moments: ProbeMoments | None = None

    @property
    def n_probes(self) -> int:
        """Number of probes; 0 where every eigenvalue is known."""
        return int(self.nodes.shape[0])

    def estimate(
        self, on_values: NDArray[np.float64], on_nodes: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Estimate `tr f`, and its Monte-Carlo standard error, for g functions at once.

        f is fitted by a parabola under the estimated density, and only what that leaves over is averaged over the
        probes. Of the parabola's three parts, orthogonal under the density, the remainder's dimension and trace give
        two exactly and the moments of more probes the third (control variates; the three errors are uncorrelated up
        to the diagonals of the matrices). Without moments it is a line instead.

        Parameters
        ----------
        on_values, on_nodes
            (g, k) and (g, n_probes, s) values of the functions.

        Returns
        -------
        mean, standard_error
            (g,) each; the error is 0 without probes.
        """
        exact = on_values.sum(axis=-1)
        if self.n_probes == 0 or self.dimension == 0:
            return exact, np.zeros_like(exact)
        density = self.weights / self.weights.sum()
        polynomials = self._orthogonal(density)
        basis = np.array([np.polynomial.polynomial.polyval(self.nodes, p) for p in polynomials])
        coefficients = np.einsum("gps,ps,kps->gk", on_nodes, density, basis, optimize=True)
        left_over = ((on_nodes - np.tensordot(coefficients, basis, 1)) * self.weights).sum(axis=2)
        sums = [float(p[0] * self.dimension + p[1] * self.trace) for p in polynomials]
        variance = 0.0
        if self.moments is not None and len(polynomials) == 3:
            sums[2], variance = self.moments.estimate(polynomials[2])
        mean = exact + coefficients @ np.array(sums) + left_over.mean(axis=1)
        if self.n_probes == 1:
            return mean, np.full_like(exact, np.inf)
        spread = left_over.var(axis=1, ddof=1) / self.n_probes
        return mean, np.sqrt(spread + coefficients[:, -1] ** 2 * variance)

    def _orthogonal(self, density: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return polynomials of degree 0, 1 and, with moments, 2 that are orthonormal under a density: (2 or 3, 3)."""
        nodes = self.nodes
        centre = float((density * nodes).sum())
        x = nodes - centre
        spread = float((density * x**2).sum())
        first = np.array([-centre, 1.0, 0.0]) / max(spread, 1e-300) ** 0.5
        if self.moments is None:
            return np.array([[1.0, 0.0, 0.0], first])
        skew = float((density * x**3).sum()) / max(spread, 1e-300)
        size = float((density * (x**2 - skew * x - spread) ** 2).sum())
        if size <= 1e-12 * spread**2:  # the nodes are two values: a line is all there is to fit
            return np.array([[1.0, 0.0, 0.0], first])
        second = np.array([centre**2 + skew * centre - spread, -2 * centre - skew, 1.0]) / size**0.5
        return np.array([[1.0, 0.0, 0.0], first, second])


@dataclass(frozen=True)
class QuadraticMeasure:
    """Turns a function f into `yᵀ f(PKP) y`: weights on nodes, adding up to ‖Py‖²."""

    nodes: NDArray[np.float64]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class VarianceComponents:
    """The restricted maximum-likelihood estimate for one trait.

    Attributes
    ----------
    h2
        σ²_g / (σ²_g + σ²_e).
    h2_se
        Standard error from the expected information.
    h2_mc_se
        Standard error of h2 from the random probes alone; 0 where there are none.
    sigma2_g, sigma2_e
        Variance components, in squared units of the trait.
    lrt
        Likelihood-ratio statistic of h² = 0, at least 0.
    lrt_p
        Its p-value against ½χ²₀ + ½χ²₁.
    log_likelihood
        Restricted log-likelihood at h2, with the constant −(n−C)(1 + log 2π)/2.
    """

    h2: float
    h2_se: float
    h2_mc_se: float
    sigma2_g: float
    sigma2_e: float
    lrt: float
    lrt_p: float
    log_likelihood: float


class RestrictedLikelihood:
    """`−2ℓ(h²)` of one trait.

    Parameters
    ----------
    trace
        Measure of the class's spectrum.
    quadratic
        Measure of the trait.
    degrees
        n − C.
    """

    def __init__(self, trace: TraceMeasure, quadratic: QuadraticMeasure, degrees: int) -> None:
        self.trace = trace
        self.quadratic = quadratic
        self.degrees = degrees

    def deviance(self, h2: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `−2ℓ` without its constant at every h², (g,)."""
        determinant, _ = self.trace.estimate(
            np.log(_h(h2, self.trace.values)), np.log(np.maximum(_h(h2, self.trace.nodes), 1e-12))
        )
        return np.asarray(self.degrees * np.log(self._quadratic(h2) / self.degrees) + determinant)

    def total_variance(self, h2: float) -> float:
        """Return σ² = yᵀH⁻¹y / (n−C), the profile estimate of σ²_g + σ²_e."""
        return float(self._quadratic(np.array([h2]))[0] / self.degrees)

    def information(self, h2: float) -> float:
        """Return the expected information on h² with the total variance profiled out.

        `½ [Σ d² − (Σ d)²/(n−C)]`, d = (λ−1)/(h²λ+1−h²), over the estimated spectrum.
        """
        at = np.array([h2])
        on_values, on_nodes = _slope(at, self.trace.values), _slope(at, self.trace.nodes)
        first, _ = self.trace.estimate(on_values, on_nodes)
        second, _ = self.trace.estimate(on_values**2, on_nodes**2)
        return float(max(second[0] - first[0] ** 2 / self.degrees, 0.0) / 2)

    def fit(self) -> VarianceComponents:
        """Maximise over 0 ≤ h² < 1; the boundary is a result, not a failure."""
        grid = np.linspace(0.0, MAX_H2, 129)
        values = self.deviance(grid)
        best = int(np.argmin(values))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]

        def deviance(at: float) -> float:
            return float(self.deviance(np.array([at]))[0])

        found = minimize_scalar(deviance, bounds=(low, high), method="bounded", options={"xatol": 1e-9})
        h2 = float(found.x) if found.fun < values[best] else float(grid[best])
        return self.at(h2)

    def at(self, h2: float) -> VarianceComponents:
        """Return the components and their errors at a given h²."""
        deviance, null = self.deviance(np.array([h2, 0.0]))
        statistic = max(float(null - deviance), 0.0)
        information = self.information(h2)
        _, mc_slope = self.trace.estimate(
            _slope(np.array([h2]), self.trace.values), _slope(np.array([h2]), self.trace.nodes)
        )
        total = self.total_variance(h2)
        return VarianceComponents(
            h2=h2,
            h2_se=float(information**-0.5) if information > 0 else float("inf"),
            h2_mc_se=float(mc_slope[0] / (2 * information)) if information > 0 else float("inf"),
            sigma2_g=h2 * total,
            sigma2_e=(1 - h2) * total,
            lrt=statistic,
            lrt_p=float(np.exp(log_ndtr(-np.sqrt(statistic)))) if statistic > 0 else 1.0,
            log_likelihood=-0.5 * float(deviance + self.degrees * (1 + np.log(2 * np.pi))),
        )

    def _quadratic(self, h2: NDArray[np.float64]) -> NDArray[np.float64]:
        weights = self.quadratic.weights / np.maximum(_h(h2, self.quadratic.nodes), 1e-12)
        return np.asarray(weights.sum(axis=-1))


def _h(h2: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return h²λ + 1 − h² with a leading axis over h²."""
    at = h2.reshape(-1, *[1] * values.ndim)
    return np.asarray(at * values + (1 - at))


def _slope(h2: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return d/dh² log(h²λ + 1 − h²) = (λ−1)/(h²λ+1−h²) with a leading axis over h²."""
    return np.asarray((values - 1) / np.maximum(_h(h2, values), 1e-12))
