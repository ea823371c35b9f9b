"""Climb the restricted likelihood of one task: average-information steps, halved where they go too far, EM where that fails.

Gilmour, Thompson & Cullis 1995 (doi 10.2307/2533274); Lee & van der Werf 2006 (doi 10.1186/1297-9686-38-1-25). Bounds are
handled as an active set: a component that a step would take below its bound is put there, the step of the others is
solved again with it, and it comes back when its score turns positive. So a component at zero is a maximum in itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from biolmm.components.problem import Evaluation

MAX_HALVINGS = 8
CLOSE = 1e-6
"""With a Newton decrement below this the maximum is within a thousandth of a standard error, and rounding decides ℓ."""

ENOUGH = 1e-4
"""A step must gain this share of what the slope promises (Armijo 1966)."""


class Ascent:
    """The state of one maximisation; the caller evaluates `candidate` and hands the result to `take`.

    Parameters
    ----------
    start
        (q,) θ to begin with.
    lower
        (q,) bounds.
    active
        (q,) terms that may move; the others stay at 0.
    tolerance
        Stop when the Newton decrement `sᵀ I⁻¹ s`, the squared distance to the maximum in standard errors, is below.
    max_iterations
        Stop after so many steps.
    """

    def __init__(
        self,
        start: NDArray[np.float64],
        lower: NDArray[np.float64],
        active: NDArray[np.bool_],
        *,
        tolerance: float,
        max_iterations: int,
    ) -> None:
        self.lower, self.active = lower, active
        self.tolerance, self.max_iterations = tolerance, max_iterations
        self.theta = np.where(active, np.maximum(start, lower), 0.0)
        self.candidate = self.theta
        self.evaluation: Evaluation | None = None
        self.decrement = np.inf
        self.iterations = self.n_halved = self.n_em = 0
        self.converged = self.finished = False
        self._halvings = 0

    def restart(self) -> None:
        """Go on from here with another evaluation, as when probes were added."""
        self.candidate, self.evaluation = self.theta, None
        self.converged = self.finished = False
        self.iterations = 0

    def take(self, evaluation: Evaluation) -> None:
        """Judge the candidate by its evaluation, and propose the next one unless it is the last."""
        if self.evaluation is not None and not self._better(evaluation):
            self._retreat()
            return
        if self.evaluation is None and not np.isfinite(evaluation.score).all():
            self.finished = True  # not even the start is a covariance matrix
            return
        self.theta, self.evaluation = self.candidate, evaluation
        self._halvings = 0
        self.iterations += 1
        step, self.decrement = self._step(evaluation)
        if self.decrement < self.tolerance:
            self.converged = self.finished = True
        elif self.iterations > self.max_iterations:
            self.finished = True
        else:
            self.candidate = self._inside(self.theta + step)

    @property
    def free(self) -> NDArray[np.bool_]:
        """(q,) active components that are not held at their bound."""
        if self.evaluation is None:
            return self.active
        return self.active & ((self.theta > self.lower) | (self.evaluation.score > 0))

    def _better(self, evaluation: Evaluation) -> bool:
        """Whether ℓ has not fallen; where it is not known, whether the slope along the step has not turned too far."""
        before = self.evaluation
        if before is None or not np.isfinite(evaluation.score).all():
            return before is None
        if self.decrement < CLOSE:
            return True
        moved = self.candidate - self.theta
        if np.isfinite(before.log_likelihood):
            gained = evaluation.log_likelihood - before.log_likelihood
            return bool(gained >= ENOUGH * (before.score @ moved) - 1e-10 * abs(before.log_likelihood))
        return bool(evaluation.score @ moved >= -0.9 * abs(before.score @ moved))

    def _retreat(self) -> None:
        """Halve the step; when that does not help, take one of expectation-maximisation, which never goes down."""
        self._halvings += 1
        if self._halvings <= MAX_HALVINGS:
            self.n_halved += 1
            self.candidate = self._inside(0.5 * (self.theta + self.candidate))
        elif self._halvings == MAX_HALVINGS + 1 and self.evaluation is not None:
            self.n_em += 1
            # θ ← θ + θ² (yᵀP K P y − tr P K) / n: with n the number of samples for every component a step is cautious.
            n = float(self.theta @ self.evaluation.traces)
            self.candidate = self._inside(self.theta + 2 * self.theta**2 * self.evaluation.score / max(n, 1.0))
        else:
            self.finished = True

    def _inside(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(self.active, np.maximum(theta, self.lower), 0.0)

    def _step(self, at: Evaluation) -> tuple[NDArray[np.float64], float]:
        """Return the step `I⁻¹ s` within the bounds, and the Newton decrement of the free components."""
        step = np.zeros(len(self.theta))
        free = np.flatnonzero(self.free)
        if not len(free):
            return step, 0.0
        direct = _solve(at.information[np.ix_(free, free)], at.score[free])
        decrement = float(at.score[free] @ direct)
        step[free] = direct
        while len(free):
            beyond = free[self.theta[free] + step[free] < self.lower[free]]
            if not len(beyond):
                break
            step[beyond] = self.lower[beyond] - self.theta[beyond]
            free = np.setdiff1d(free, beyond)
            held = np.setdiff1d(np.flatnonzero(step), free)
            if len(free):
                right = at.score[free] - at.information[np.ix_(free, held)] @ step[held]
                step[free] = _solve(at.information[np.ix_(free, free)], right)
        # Held components whose score is positive only because others are far off do not count as progress to make.
        return step, decrement if np.any(step) else 0.0


def _solve(information: NDArray[np.float64], score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `I⁻¹ s` by eigenvalues; directions that two terms share exactly are left alone."""
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    values, vectors = np.linalg.eigh(information / np.outer(scale, scale))
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=values > 1e-10 * values[-1])
    return np.asarray(vectors @ (inverse * (vectors.T @ (score / scale))) / scale)
