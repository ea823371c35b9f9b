"""Probes of one spectrum while their recursions go on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.linalg.krylov import Eigenpairs
from biolmm.linalg.lanczos import Lanczos
from biolmm.linalg.operators import Restriction
from biolmm.reml.density import Density, ProbeCounts, share_of_whole
from biolmm.reml.likelihood import TraceMeasure

log = logging.getLogger(__name__)

MAX_STEPS = 30

Signs = Callable[[Sequence[int]], NDArray[np.float32]]
"""Indices of probes to their columns (N, r)."""


@dataclass
class _Batch:
    """Probes that started together."""

    recursion: Lanczos
    full: list[int]
    """Probes that go on; the others take one step, for their moments."""
    more: list[int]
    target: int


class ProbeSet:
    """The probes of one restriction: what is known of them, and the recursions that are under way.

    A probe's coefficients depend on the restriction, its pairs and the probe, never on when it was asked for.

    Parameters
    ----------
    restriction, pairs
        The operator, and what it is deflated by.
    trace
        tr(PKP).
    signs
        The probes.
    known
        What an earlier fit learnt of them.
    """

    def __init__(
        self, restriction: Restriction, pairs: Eigenpairs, trace: float, signs: Signs, known: Density | None = None
    ) -> None:
        self.restriction = restriction
        self.pairs = pairs
        self.trace = trace
        self.share = 1.0 if restriction.observed.all() else share_of_whole(float(restriction.observed.mean()))
        self.density = known or Density.empty()
        self._signs = signs
        self._batches: list[_Batch] = []

    @property
    def n_max(self) -> int:
        """Most steps that a recursion takes: as many as the remainder has dimensions, or `MAX_STEPS`."""
        return min(MAX_STEPS, self.restriction.rank - len(self.pairs.values))

    def deflated(self, X: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float32]:
        """Return `(I − UUᵀ) P X`."""
        projected = self.restriction.project(X)
        U = self.pairs.vectors.astype(np.float64)
        return np.asarray(projected - U @ (U.T @ projected), dtype=np.float32)

    def ready(self, n_probes: int, n_steps: int, n_moments: int) -> bool:
        """Whether so many probes have so many steps, and so many have moments; what lacks is set going."""
        n_steps = min(n_steps, self.n_max)
        if n_steps == 0:
            return True
        short = [i for i in range(n_probes) if i >= self.density.n_probes or self.density.steps[i] < n_steps]
        bare = range(len(self.density.moments), n_moments)
        if not short and not bare:
            return True
        under_way = {i for batch in self._batches for i in batch.full}
        counted = under_way | {i for batch in self._batches for i in batch.more}
        for batch in self._batches:
            if not set(batch.full).isdisjoint(short):
                batch.target = max(batch.target, n_steps)
        full = [i for i in short if i not in under_way]
        more = [i for i in bare if i not in counted and i not in full]
        if full or more:
            if any(i < self.density.n_probes for i in full):
                log.info("fit: the known density has too few steps for this trait: its probes are run again.")
            start = self.deflated(self._signs([*full, *more]))
            self._batches.append(_Batch(Lanczos(start), full, more, n_steps if full else 1))
        return False

    def going(self) -> list[Lanczos]:
        """Return the recursions that want a product."""
        return [b.recursion for b in self._batches if b.recursion.active.size and b.recursion.n_steps < b.target]

    def collect(self) -> None:
        """Take in what the recursions have found since; those of one step stop."""
        for batch in self._batches:
            if batch.recursion.n_steps == 1 and batch.recursion.active.size:
                self._take_moments(batch)
                batch.recursion.retain(np.arange(len(batch.full), dtype=np.intp))
            if batch.full:
                self._take_coefficients(batch)

    def measure(self, whole: Density | None, counts: ProbeCounts, n_steps: int) -> TraceMeasure:
        """Return the trace measure of the first probes after their first steps."""
        return self.density.measure(self.restriction, self.pairs, self.trace, whole, counts, max(n_steps, 1))

    def _take_moments(self, batch: _Batch) -> None:
        recursion = batch.recursion
        alpha, beta = recursion.alpha[0], recursion.beta[0]
        found = recursion.norms[:, None] ** 2 * np.column_stack([np.ones_like(alpha), alpha, alpha**2 + beta**2])
        known = self.density.moments
        indices = [*batch.full, *batch.more]
        moments = np.zeros((max(len(known), max(indices) + 1), 3))
        for i, row in zip(indices, found, strict=True):
            moments[i] = row
        moments[: len(known)] = known
        self.density = Density(self.density.alpha, self.density.beta, self.density.norms, self.density.steps, moments)

    def _take_coefficients(self, batch: _Batch) -> None:
        old, recursion, steps = self.density, batch.recursion, batch.recursion.n_steps
        n = max(old.n_probes, batch.full[-1] + 1)
        alpha, beta = np.zeros((2, n, max(old.alpha.shape[1], steps)))
        norms, taken = np.zeros(n), np.zeros(n, np.int64)
        alpha[: old.n_probes, : old.alpha.shape[1]] = old.alpha
        beta[: old.n_probes, : old.beta.shape[1]] = old.beta
        norms[: old.n_probes], taken[: old.n_probes] = old.norms, old.steps
        for column, i in enumerate(batch.full):
            if steps > taken[i]:
                new = slice(int(taken[i]), steps)
                alpha[i, new] = [each[column] for each in recursion.alpha[new]]
                beta[i, new] = [each[column] for each in recursion.beta[new]]
                norms[i], taken[i] = recursion.norms[column], steps
        self.density = Density(alpha, beta, norms, taken, old.moments)
