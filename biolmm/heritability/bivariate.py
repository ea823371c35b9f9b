"""Bivariate REML of a pair of traits: genetic and residual covariance, r_g, its tests and its bounds.

    (y_1, y_2) ~ N( Xβ, G ⊗ K + E ⊗ I ),     r_g = g_12 / √(g_11 g_22)

A likelihood gives −ℓ, its gradient and the average-information matrix at θ = (g_11, g_12, g_22, e_11, e_12, e_22); the search
below is the same for all of them. AI_kl = ½ yᵀP V_k P V_l P y (Gilmour, Thompson & Cullis 1995, doi 10.2307/2533274; for
this model Lee et al. 2012, doi 10.1093/bioinformatics/bts474).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

N_PARAMETERS = 6
SETTLED = 1e-10
"""The search ends when a step would gain less than this in the log-likelihood."""
MAX_ITERATIONS = 200
SCORING_STEPS = 6
SAME = 1e-9
"""Traits whose squared correlation is within this of 1 are taken as the same up to scale."""
NEARLY_SINGULAR = 1e-4
"""Without common samples, V is as good as singular below this share of what a contrast varies by itself …"""
NEARLY_SINGULAR_BEYOND = 1e-2
"""… and below this one beyond |r_g| = 1, where only chance keeps V positive definite."""

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """−ℓ at one θ with its gradient (6,) and the average information (6, 6).

    `margin` is the least that any contrast varies given others, as a share of what it varies by itself: 0 where V is
    singular; 1 where that is not computed.
    """

    value: float
    gradient: Vector
    information: Vector
    margin: float = 1.0


class PairLikelihood(Protocol):
    """The restricted likelihood of two traits."""

    @property
    def shares_samples(self) -> bool:
        """Whether e_12 can be told: some samples have both traits."""
        ...

    def evaluate(self, theta: Vector) -> Evaluation | None:
        """Return −ℓ and its derivatives; None where V is not positive definite."""
        ...


@dataclass(frozen=True)
class _Form:
    """A family of θ: θ = make(ψ) with its Jacobian (6, p), and what its curvature adds to the Hessian (p, p)."""

    make: Callable[[Vector], Vector]
    jacobian: Callable[[Vector], Vector]
    bend: Callable[[Vector], Vector]


def _linear(free: list[int]) -> _Form:
    """Only these parameters are free, the others 0."""
    J = np.eye(N_PARAMETERS)[:, free]
    return _Form(lambda psi: J @ psi, lambda psi: J, lambda gradient: np.zeros((len(free), len(free))))


def _rank_one(shares: bool) -> _Form:
    """G = aaᵀ: r_g is 1 or −1."""
    tail = [3, 4, 5] if shares else [3, 5]

    def make(psi: Vector) -> Vector:
        theta = np.zeros(N_PARAMETERS)
        theta[:3] = psi[0] ** 2, psi[0] * psi[1], psi[1] ** 2
        theta[tail] = psi[2:]
        return theta

    def jacobian(psi: Vector) -> Vector:
        J = np.zeros((N_PARAMETERS, len(psi)))
        J[:3, :2] = [[2 * psi[0], 0], [psi[1], psi[0]], [0, 2 * psi[1]]]
        J[tail, np.arange(2, len(psi))] = 1
        return J

    def bend(gradient: Vector) -> Vector:
        H = np.zeros((len(tail) + 2, len(tail) + 2))
        H[:2, :2] = [[2 * gradient[0], gradient[1]], [gradient[1], 2 * gradient[2]]]
        return H

    return _Form(make, jacobian, bend)


@dataclass(frozen=True)
class Maximum:
    """Where a search ended."""

    theta: Vector
    evaluation: Evaluation
    converged: bool

    @property
    def log_likelihood(self) -> float:
        """ℓ."""
        return -self.evaluation.value

    @property
    def singular(self) -> bool:
        """Whether V is nearly singular there."""
        return self.evaluation.margin < NEARLY_SINGULAR


def maximise(
    likelihood: PairLikelihood,
    form: _Form,
    psi: Vector,
    lost: Callable[[Vector, Evaluation], bool] | None = None,
) -> Maximum:
    """Climb by damped scoring with the average information (Levenberg–Marquardt), never downhill.

    Far from the truth, as at a bound that does not hold, that information is a poor Hessian: after a few steps it is
    no longer computed anew but corrected by what the gradient did (BFGS). A climb that is `lost` at some θ ends there.
    """
    now = likelihood.evaluate(form.make(psi))
    if now is None:
        raise ValueError("the search must start where V is positive definite")
    gradient, matrix = _local(form, psi, now)
    damping, taken, gain = 1e-3, 0, np.inf
    for _ in range(MAX_ITERATIONS):
        scale = np.maximum(np.diag(matrix), 1e-12 * np.trace(matrix))
        step = np.asarray(np.linalg.lstsq(matrix + damping * np.diag(scale), -gradient, rcond=None)[0], np.float64)
        gain = -float(gradient @ step) / 2
        trial = likelihood.evaluate(form.make(psi + step))
        if trial is not None and trial.value <= now.value + 1e-13 * abs(now.value):
            psi, now, taken = psi + step, trial, taken + 1
            damping = max(damping / 10, 1e-12)
            before, (gradient, fresh) = gradient, _local(form, psi, now)
            matrix = _corrected(matrix, step, gradient - before) if taken >= SCORING_STEPS else fresh
            if lost is not None and lost(form.make(psi), now):
                return Maximum(form.make(psi), now, False)
            if gain < SETTLED:
                return Maximum(form.make(psi), now, True)
        elif damping > 1e8:
            break
        else:
            damping = max(damping * 10, 1e-6)
    return Maximum(form.make(psi), now, gain < 1e-6)


def _local(form: _Form, psi: Vector, at: Evaluation) -> tuple[Vector, Vector]:
    """Return the gradient and an approximate Hessian in ψ."""
    J = form.jacobian(psi)
    matrix = J.T @ at.information @ J
    bent = matrix + form.bend(at.gradient)
    return J.T @ at.gradient, bent if np.linalg.eigvalsh(bent)[0] > 0 else matrix


def _corrected(matrix: Vector, step: Vector, change: Vector) -> Vector:
    """Return the BFGS update of a Hessian; as it is where the curvature along the step is not positive."""
    along = float(step @ change)
    pushed = matrix @ step
    if along <= 1e-12 * float(step @ pushed):
        return matrix
    return np.asarray(matrix + np.outer(change, change) / along - np.outer(pushed, pushed) / (step @ pushed))


@dataclass(frozen=True)
class PairEstimate:
    """The bivariate estimate of one pair.

    Attributes
    ----------
    theta, covariance
        g_11, g_12, g_22, e_11, e_12, e_22 without bounds on r_g, and the inverse of the average information; e_12 and
        its covariances are NaN where no sample has both traits. Where the search without bounds does not converge or
        ends where V is nearly singular, there is no covariance, and beyond ±1 θ is the maximum with r_g = ±1.
    rg, rg_se
        Without bounds, or ±1 in that case; NaN where a genetic variance is not above 0.
    rg_bounded
        The maximum-likelihood estimate with |r_g| ≤ 1.
    rg_mc_se
        Error of rg from random probes alone.
    rg0_lrt, rg0_p
        Test of r_g = 0: χ² of one degree.
    rg1_lrt, rg1_p
        Test of |r_g| = 1 (of the estimate's sign) against less: ½χ²₀ + ½χ²₁.
    log_likelihood
        ℓ of the bounded estimate, with the constant of log 2π.
    flag
        Empty, or what is the matter.
    """

    theta: Vector
    covariance: Vector
    rg: float
    rg_se: float
    rg_bounded: float
    rg_mc_se: float
    rg0_lrt: float
    rg0_p: float
    rg1_lrt: float
    rg1_p: float
    log_likelihood: float
    flag: str

    def scaled(self, one: float, other: float, degrees: tuple[int, int]) -> PairEstimate:
        """Return the estimate in other units: traits of so many degrees of freedom times `one` and `other`."""
        factor = np.array([one**2, one * other, other**2] * 2)
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values |= {"theta": self.theta * factor, "covariance": self.covariance * np.outer(factor, factor)}
        values["log_likelihood"] -= degrees[0] * np.log(one) + degrees[1] * np.log(other)
        return PairEstimate(**values)

    def h2(self, which: int) -> tuple[float, float]:
        """Return h² of the first (0) or second (1) trait and its standard error."""
        g, e = (0, 3) if which == 0 else (2, 5)
        total = self.theta[g] + self.theta[e]
        gradient = np.zeros(N_PARAMETERS)
        gradient[g], gradient[e] = self.theta[e] / total**2, -self.theta[g] / total**2
        return float(self.theta[g] / total), _delta(gradient, self.covariance)

    def correlation(self, part: str) -> tuple[float, float]:
        """Return the genetic (`g`) or residual (`e`) correlation and its standard error, NaN where there is none."""
        at = 0 if part == "g" else 3
        a, b, c = self.theta[at : at + 3]
        if not (a > 0 and c > 0 and np.isfinite(b)):
            return float("nan"), float("nan")
        gradient = np.zeros(N_PARAMETERS)
        gradient[at : at + 3] = correlation_gradient(a, b, c)
        return float(b / np.sqrt(a * c)), _delta(gradient, self.covariance)


def correlation_gradient(a: float, b: float, c: float) -> Vector:
    """Return the gradient of b/√(ac) with respect to a, b and c."""
    root = np.sqrt(a * c)
    return np.array([-b / (2 * a * root), 1 / root, -b / (2 * c * root)])


def _delta(gradient: Vector, covariance: Vector) -> float:
    at = gradient != 0
    variance = float(gradient[at] @ covariance[np.ix_(at, at)] @ gradient[at])
    return float(np.sqrt(variance)) if variance >= 0 else float("nan")


ProbeError = Callable[[Vector, Vector], float]
"""(θ, v) to the Monte-Carlo error of v·∇(−ℓ)."""


def fit_pair(likelihood: PairLikelihood, start: Vector, probe_error: ProbeError | None = None) -> PairEstimate:
    """Estimate one pair, with the tests of r_g.

    Parameters
    ----------
    likelihood
        Of traits scaled to a variance of about 1.
    start
        (6,) a θ with V positive definite and genetic variances above 0.
    probe_error
        How far a derivative of −ℓ moves with the random probes; None where nothing is random.
    """
    shares = likelihood.shares_samples
    free = [0, 1, 2, 3, 4, 5] if shares else [0, 1, 2, 3, 5]
    apart = [i for i in free if i != 1]
    first = start.copy()
    if not shares:
        first[4] = 0.0
    full = maximise(likelihood, _linear(free), first[free], None if shares else _beyond_and_singular)
    theta = full.theta.copy()
    covariance = np.full((N_PARAMETERS, N_PARAMETERS), np.nan)
    flags = [] if full.converged else ["not converged"]
    if not shares and (full.singular or _beyond_and_singular(full.theta, full.evaluation)):
        flags.append("V is nearly singular")
    sound = not flags
    if sound:
        matrix = full.evaluation.information[np.ix_(free, free)]
        covariance[np.ix_(free, free)] = np.linalg.pinv(matrix, hermitian=True)
    nan = float("nan")
    none = PairEstimate(theta, covariance, nan, nan, nan, nan, nan, nan, nan, nan, full.log_likelihood, "")
    if not shares:
        theta[4] = np.nan
    if not (theta[0] > 1e-8 and theta[2] > 1e-8):
        return replace(none, flag="; ".join([*flags, "a genetic variance is not above 0"]))
    rg = _ratio(theta)
    bounded = float(np.clip(rg, -1, 1))
    sign = 1.0 if rg >= 0 else -1.0
    if abs(rg) > 1:
        flags.append("the estimate is beyond ±1")
    elif not sound:
        # No bound on r_g is what it ran into but one of a variance, as h² = 1: there is no other maximum to show.
        return replace(none, rg=rg, rg_bounded=bounded, flag="; ".join(flags))
    edge = maximise(likelihood, _rank_one(shares), _edge_start(likelihood, theta, sign, shares))
    best = edge if abs(rg) > 1 else full
    null = maximise(likelihood, _linear(apart), _apart_start(likelihood, theta, first)[apart])
    rg0 = max(2 * (best.log_likelihood - null.log_likelihood), 0.0)
    rg1 = max(2 * (best.log_likelihood - edge.log_likelihood), 0.0)
    tests = rg0, float(chi2.sf(rg0, 1)), rg1, float(chi2.sf(rg1, 1)) / 2 if rg1 > 0 else 1.0
    if not sound:
        theta = edge.theta.copy()
        if not shares:
            theta[4] = np.nan
        if not all(one.converged and (shares or not one.singular) for one in (edge, null)):
            tests = nan, nan, nan, nan
        return PairEstimate(theta, covariance, sign, nan, sign, nan, *tests, edge.log_likelihood, "; ".join(flags))
    gradient = np.zeros(N_PARAMETERS)
    gradient[:3] = correlation_gradient(*theta[:3])
    direction = np.zeros(N_PARAMETERS)
    direction[free] = covariance[np.ix_(free, free)] @ gradient[free]
    error = 0.0 if probe_error is None else probe_error(full.theta, direction)
    rg_se = _delta(gradient, covariance)
    return PairEstimate(theta, covariance, rg, rg_se, bounded, error, *tests, best.log_likelihood, "; ".join(flags))


def _ratio(theta: Vector) -> float:
    return float(theta[1] / np.sqrt(theta[0] * theta[2]))


def _beyond_and_singular(theta: Vector, at: Evaluation) -> bool:
    """Whether a search has left |r_g| ≤ 1 for where V is nearly singular: −ℓ has spikes there, not the estimate."""
    return at.margin < NEARLY_SINGULAR_BEYOND and theta[0] > 0 and theta[2] > 0 and abs(_ratio(theta)) > 1


def _edge_start(likelihood: PairLikelihood, theta: Vector, sign: float, shares: bool) -> Vector:
    """Start at r_g = ±1: the variances as they are, the covariance that is lost given to the residuals."""
    a = np.array([np.sqrt(theta[0]), sign * np.sqrt(theta[2])])
    lost = theta[1] - a[0] * a[1]
    form = _rank_one(shares)
    for e12 in ((theta[4] if shares else 0.0) + lost, theta[4] if shares else 0.0, 0.0):
        for shrink in (1.0, 0.5, 0.1):
            e = (
                [max(theta[3], 0.05), e12, max(theta[5], 0.05)]
                if shares
                else [max(theta[3], 0.05), max(theta[5], 0.05)]
            )
            psi = np.array([*(a * np.sqrt(shrink)), *e])
            if likelihood.evaluate(form.make(psi)) is not None:
                return psi
    return np.array([0.1, 0.1 * sign, 1.0, 0.0, 1.0]) if shares else np.array([0.1, 0.1 * sign, 1.0, 1.0])


def _apart_start(likelihood: PairLikelihood, theta: Vector, first: Vector) -> Vector:
    """Start at r_g = 0: the estimate without its genetic covariance, or with the residual one shrunk."""
    for e12 in (theta[4] + theta[1], theta[4], first[4], 0.0):
        trial = np.nan_to_num(theta)
        trial[1], trial[4] = 0.0, np.nan_to_num(e12)
        if likelihood.evaluate(trial) is not None:
            return trial
    trial = first.copy()
    trial[1] = trial[4] = 0.0
    return trial


def same_traits(sign: float, total: Vector, h2: float) -> PairEstimate:
    """Return the estimate of two traits that are the same up to scale: r_g is ±1 and nothing is left to test.

    Parameters
    ----------
    sign
        Of their correlation.
    total
        (2,) their total variances.
    h2
        Heritability of either.
    """
    root = float(np.sqrt(total[0] * total[1])) * sign
    theta = np.array([h2 * total[0], h2 * root, h2 * total[1], *((1 - h2) * np.array([total[0], root, total[1]]))])
    nan = float("nan")
    return PairEstimate(
        theta, np.full((6, 6), nan), sign, 0.0, sign, 0.0, nan, nan, 0.0, 1.0, nan,
        "the traits are the same up to scale",
    )  # fmt: skip
