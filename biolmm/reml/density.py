"""The density of the eigenvalues that the leading pairs leave over, as random probes see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from biolmm.linalg.krylov import Eigenpairs
from biolmm.linalg.lanczos import gauss
from biolmm.linalg.operators import Restriction
from biolmm.reml.likelihood import ProbeMoments, TraceMeasure

MIN_PROBES, MAX_PROBES = 6, 96
"""Probes with a Lanczos recursion of their own, doubled where the Monte-Carlo error of a trait asks for more."""
N_MOMENTS = 32
"""Probes of one product beside the first `MIN_PROBES`; doubled with them."""


class ProbeCounts(NamedTuple):
    """How many probes a measure is made of.

    Attributes
    ----------
    probes
        Those with a quadrature.
    moments
        Those with moments, the former among them.
    whole
        Those with moments under the whole cohort.
    """

    probes: int
    moments: int
    whole: int


def probe_counts(share: float, n_doubled: int) -> ProbeCounts:
    """Return how many probes a restriction needs after some doublings.

    A probe under a restriction says little beyond what it says under the whole cohort where `share`, the expected
    correlation of the two, is high: then few are paired with the many of the cohort.

    Examples
    --------
    >>> probe_counts(share_of_whole(1.0), 0), probe_counts(share_of_whole(0.95), 1)
    (ProbeCounts(probes=6, moments=32, whole=32), ProbeCounts(probes=12, moments=12, whole=64))
    """
    factor = 2**n_doubled
    paired = N_MOMENTS if share == 1 else max(MIN_PROBES, int(np.ceil(N_MOMENTS * (1 - share))))
    return ProbeCounts(MIN_PROBES * factor, paired * factor, N_MOMENTS * factor)


def share_of_whole(observed: float) -> float:
    """Return what share of the Monte-Carlo deviation of `zᵀK²z` a restriction has in common with the whole cohort.

    With independent genotypes `Σ_k K_ik K_jk z_i z_j` loses a pair (i, j) with probability 1 − s² and each of its
    terms with 1 − s: s³ in all, s the share of people who are observed.
    """
    return observed**3


@dataclass(frozen=True)
class Density:
    """Lanczos coefficients of probes under one restriction, deflated by its leading pairs.

    Attributes
    ----------
    alpha, beta
        (p, s) diagonals and off-diagonals, zero beyond each probe's steps.
    norms
        (p,) of the start columns.
    steps
        (p,) steps taken.
    moments
        (q, 3) `zᵀAᵏz` of these and further probes, k = 0, 1, 2.
    """

    alpha: NDArray[np.float64]
    beta: NDArray[np.float64]
    norms: NDArray[np.float64]
    steps: NDArray[np.int64]
    moments: NDArray[np.float64]

    @classmethod
    def empty(cls) -> Density:
        """Return a density that no probe has seen."""
        nothing = np.zeros((0, 0))
        return cls(nothing, nothing, np.zeros(0), np.zeros(0, np.int64), np.zeros((0, 3)))

    @property
    def n_probes(self) -> int:
        """Probes with a quadrature."""
        return len(self.norms)

    def measure(
        self,
        restriction: Restriction,
        pairs: Eigenpairs,
        trace: float,
        whole: Density | None = None,
        counts: ProbeCounts | None = None,
        n_steps: int | None = None,
    ) -> TraceMeasure:
        """Return the trace measure that some probes make after some steps; all that there are by default.

        Parameters
        ----------
        restriction, pairs
            What the probes are of.
        trace
            tr(PKP).
        whole
            The density of the whole cohort, where the restriction lacks some of its samples.
        counts, n_steps
            The first probes and their first steps.
        """
        n_probes = self.n_probes if counts is None else counts.probes
        taken = self.steps[:n_probes] if n_steps is None else np.minimum(self.steps[:n_probes], n_steps)
        most = int(taken.max(initial=0))
        dimension = restriction.rank - len(pairs.values)
        remainder = float(trace - pairs.values.sum())
        if most == 0:
            nothing = np.zeros((0, 0))
            return TraceMeasure(pairs.values, nothing, nothing, dimension, remainder)
        alpha, beta = self.alpha[:n_probes, :most].copy(), self.beta[:n_probes, :most].copy()
        step = np.arange(most)
        alpha[step >= taken[:, None]] = 0.0
        beta[step >= taken[:, None] - 1] = 0.0
        found = gauss(alpha, beta, self.norms[:n_probes])
        moments = self._moments(restriction, whole, counts) if most > 1 else None
        return TraceMeasure(pairs.values, found.nodes, found.weights, dimension, remainder, moments)

    def _moments(
        self, restriction: Restriction, whole: Density | None, counts: ProbeCounts | None
    ) -> ProbeMoments | None:
        own = self.moments if counts is None else self.moments[: counts.moments]
        if whole is None or len(whole.moments) < len(own):
            return ProbeMoments(own)
        of_whole = whole.moments if counts is None else whole.moments[: counts.whole]
        return ProbeMoments(own, of_whole, share_of_whole(float(restriction.observed.mean())))
