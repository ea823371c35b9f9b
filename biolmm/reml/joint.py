"""Probes and traits of all restrictions, advanced in the same passes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.operator import GenotypeOperator
from biolmm.linalg.krylov import Eigenpairs
from biolmm.linalg.lanczos import Lanczos
from biolmm.linalg.operators import Restriction
from biolmm.linalg.probes import rademacher, row_keys
from biolmm.reml.density import Density
from biolmm.reml.probing import ProbeSet
from biolmm.reml.spectrum import DeflatedOperator, Spectrum, SpectrumConfig, leading_pairs
from biolmm.reml.traits import TraitFit, TraitProgress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Foundation:
    """What the recursions under one restriction start from, and what is known of its density."""

    restriction: Restriction
    pairs: Eigenpairs
    trace: float
    density: Density


class JointEstimation:
    """The stochastic estimate: eigenpairs and traces of every restriction, then probes and traits together.

    Parameters
    ----------
    operator
        K.
    sample_id
        Names of its samples: a probe's sign is a function of the name.
    y
        (N, T) traits, NaN where unobserved.
    config
        Eigenpairs and seed.
    fixed_h2
        Do not estimate: evaluate at this h².
    """

    def __init__(
        self,
        operator: GenotypeOperator,
        sample_id: Sequence[str],
        y: NDArray[np.float64],
        config: SpectrumConfig,
        fixed_h2: float | None = None,
    ) -> None:
        self.operator = operator
        self.keys = row_keys(sample_id)
        self.y = y
        self.config = config
        self.fixed_h2 = fixed_h2

    def run(
        self, restrictions: Sequence[Restriction], system_of_trait: NDArray[np.int64], reusable: Sequence[Spectrum]
    ) -> tuple[list[Spectrum], list[TraitFit]]:
        """Return the spectra of all restrictions, of which the first is the whole cohort's, and the fits of all traits.

        Parameters
        ----------
        restrictions, system_of_trait
            Samples and covariates, and which of them each trait belongs to.
        reusable
            Spectra of earlier fits; used where their restriction is the same.
        """
        known: dict[int, Spectrum] = {}
        for i, restriction in enumerate(restrictions):
            same = [spectrum for spectrum in reusable if same_restriction(restriction, spectrum.restriction)]
            if same and (i == 0 or 0 in known):
                known[i] = same[0]
        foundations = self._foundations(restrictions, known)
        probes = [ProbeSet(f.restriction, f.pairs, f.trace, self._signs, f.density) for f in foundations]
        traits = [
            TraitProgress(probes[s], probes[0] if s else None, self.y[:, t], self.fixed_h2)
            for t, s in enumerate(system_of_trait)
        ]
        self._advance_together(probes, traits, system_of_trait)
        log.info("fit: spectral densities and traits after %d passes", self.operator.counter.passes)
        fits = [trait.fit() for trait in traits]
        whole = probes[0].density
        return [
            Spectrum(
                p.restriction,
                p.pairs,
                p.density.measure(p.restriction, p.pairs, p.trace, whole if s else None),
                p.density,
            )
            for s, p in enumerate(probes)
        ], fits

    def _foundations(self, restrictions: Sequence[Restriction], known: dict[int, Spectrum]) -> list[_Foundation]:
        """Return eigenpairs and traces, estimated where they are not known."""
        found = {
            i: _Foundation(s.restriction, s.pairs, s.whole_trace, s.density or Density.empty())
            for i, s in known.items()
        }
        new = [i for i in range(len(restrictions)) if i not in known]
        if not new:
            return [found[i] for i in range(len(restrictions))]
        pairs: list[Eigenpairs] = []
        if 0 in new:
            pairs += leading_pairs(self.operator, self.keys, restrictions[:1], self.config)
            log.info("fit: %d eigenpairs of the cohort after %d passes", len(pairs[0].values), self._passes())
        warm = pairs[0] if pairs else known[0].pairs
        masked = [restrictions[i] for i in new if i]
        if masked:
            pairs += leading_pairs(self.operator, self.keys, masked, self.config, warm=warm)
        traces = self.operator.traces([restrictions[i] for i in new])
        for i, of_system, trace in zip(new, pairs, traces, strict=True):
            found[i] = _Foundation(restrictions[i], of_system, float(trace), Density.empty())
        return [found[i] for i in range(len(restrictions))]

    def _advance_together(
        self, probes: Sequence[ProbeSet], traits: Sequence[TraitProgress], system_of_trait: NDArray[np.int64]
    ) -> None:
        """Take steps until every trait has its estimate: one pass a step, with the columns of all that go on."""
        while True:
            for trait in traits:
                trait.take_up()
            going: list[tuple[int, Lanczos]] = [
                (s, recursion) for s, probe_set in enumerate(probes) for recursion in probe_set.going()
            ]
            going += [
                (int(s), trait.recursion)
                for s, trait in zip(system_of_trait, traits, strict=True)
                if not trait.finished and trait.wants_product
            ]
            if not going:
                return
            self._step(probes, sorted(going, key=lambda each: each[0]))
            for probe_set in probes:
                probe_set.collect()

    def _step(self, probes: Sequence[ProbeSet], going: Sequence[tuple[int, Lanczos]]) -> None:
        """Take one step of some recursions, those of a restriction side by side."""
        blocks = [recursion.current for _, recursion in going]
        systems = sorted({s for s, _ in going})
        operator = DeflatedOperator(
            self.operator,
            [probes[s].restriction for s in systems],
            [probes[s].pairs for s in systems],
            [sum(block.shape[1] for (t, _), block in zip(going, blocks, strict=True) if t == s) for s in systems],
        )
        product = operator(np.concatenate(blocks, axis=1))
        stop = 0
        for (_, recursion), block in zip(going, blocks, strict=True):
            start, stop = stop, stop + block.shape[1]
            recursion.take(np.ascontiguousarray(product[:, start:stop]))

    def _signs(self, probes: Sequence[int]) -> NDArray[np.float32]:
        return rademacher(self.keys, "probes", probes, self.config.seed)

    def _passes(self) -> int:
        return self.operator.counter.passes


def same_restriction(one: Restriction, other: Restriction) -> bool:
    """Whether two restrictions have the same samples and span the same covariates, whatever the basis."""
    if one.basis.shape != other.basis.shape or not np.array_equal(one.observed, other.observed):
        return False
    outside = one.basis - other.basis @ (other.basis.T @ one.basis)
    return bool(np.linalg.norm(outside) < 1e-6)
