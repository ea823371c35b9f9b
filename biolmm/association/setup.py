"""Everything that has to be known before the first part of a scan runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from biolmm.association.classes import CLASSES, left_out_contigs, relations
from biolmm.association.gamma import GammaEstimate, estimate_gamma
from biolmm.association.panel import ScanPanel, build_panel
from biolmm.errors import ParameterError
from biolmm.genotypes.dense import DenseRelatedness
from biolmm.genotypes.filters import VariantFilters
from biolmm.genotypes.operator import NO_CONTIG, GenotypeOperator
from biolmm.genotypes.source import ChosenGenotypes, Partition
from biolmm.loco.predictors import trait_projection
from biolmm.loco.systems import left_out_values
from biolmm.reml.model import NullModel


@dataclass(frozen=True)
class ScanConfig:
    """What a scan computes.

    Attributes
    ----------
    mixed
        The mixed model, written to `associations`.
    linear
        The plain regression, written to `linear` (to `associations` when it runs alone).
    exact_leads
        Recompute the best variant of every locus exactly (the exact solver needs no such thing).
    lead_neg_log10_p, lead_window_bp
        What a locus is.
    seed
        Chooses the variants on which γ is measured.
    filters
        Variants that fail are not tested.
    """

    mixed: bool = True
    linear: bool = False
    exact_leads: bool = True
    lead_neg_log10_p: float = field(default=float(-np.log10(5e-8)))
    lead_window_bp: int = 500_000
    seed: int = 1
    filters: VariantFilters = field(default_factory=VariantFilters)

    def __post_init__(self) -> None:
        if not (self.mixed or self.linear):
            raise ParameterError("neither the mixed model nor the plain regression was asked for: choose one.")


@dataclass(frozen=True)
class ScanSetup:
    """A scan that is ready to run, in any order of its parts.

    Attributes
    ----------
    source
        The variants to scan, on the model's samples.
    panel
        What all parts share.
    gamma
        How the remainder's ratio was estimated; None for the exact solver and the plain regression alone.
    model, operator, config
        What it was made from; the operator is None for the plain regression alone.
    left_values
        For each system, eigenvalues under each left-out contig, see `left_out_values`; empty where none are used.
    """

    source: ChosenGenotypes
    panel: ScanPanel
    gamma: GammaEstimate | None
    model: NullModel
    operator: GenotypeOperator | None
    config: ScanConfig
    left_values: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether every denominator is exact."""
        return self.config.mixed and self.model.settings["solver"] == "exact"

    def contig_of(self, partition: Partition) -> str:
        """Return the name of a part's contig."""
        return str(self.source.store.contig_id[partition.contig])

    @cached_property
    def relatedness(self) -> DenseRelatedness | None:
        """K written out for the exact solver, computed when it is first needed and kept; else None."""
        return DenseRelatedness(self.operator) if self.exact and self.operator is not None else None

    def panel_without(self, contig: int, relatedness: DenseRelatedness | None) -> ScanPanel:
        """Return the panel of the parts for which a contig is left out: with the exact solver it holds their factors."""
        if relatedness is None:
            return self.panel
        K = relatedness.left_out(contig)
        factors = tuple(trait_projection(K, self.model, t) for t in range(len(self.panel.traits)))
        return replace(self.panel, projections=factors)

    def by_contig(self, parts: Sequence[Partition]) -> list[tuple[int, list[Partition]]]:
        """Return the parts by the contig left out for them (−1: none); in one group where all share a panel."""
        if not self.exact or self.operator is None:
            return [(NO_CONTIG, list(parts))]
        left_out = left_out_contigs(self.operator, self.model, [self.contig_of(part) for part in parts])
        pairs = list(zip(left_out.tolist(), parts, strict=True))
        return [
            (contig, [part for out, part in pairs if out == contig]) for contig in sorted({out for out, _ in pairs})
        ]

    def groups(self, parts: Sequence[Partition]) -> Iterator[tuple[ScanPanel, list[Partition]]]:
        """Yield the parts with their panel: all at once, or with the exact solver contig by contig."""
        for contig, chosen in self.by_contig(parts):
            yield self.panel_without(contig, self.relatedness), chosen


def prepare_scan(
    source: ChosenGenotypes,
    model: NullModel,
    operator: GenotypeOperator | None,
    config: ScanConfig,
    gamma: GammaEstimate | None = None,
) -> ScanSetup:
    """Estimate γ (unless it is given) and lay out the columns of a scan.

    Notes
    -----
    Cost: one pass for the eigenvalues under each left-out contig and 2 to 10 for γ; none with the exact solver or for
    the plain regression alone.
    """
    n_traits = len(model.trait_names)
    used = sorted({0, *(int(s) for s in model.system_of_trait)})
    values: dict[int, NDArray[np.float64]] = {}
    contig_index: dict[str, int] = {}
    relation: NDArray[np.int8] | None = None
    if config.mixed and operator is not None and model.settings["solver"] != "exact":
        contig_index = {name: i for i, name in enumerate(operator.source.store.contig_id)}
        values = dict(zip(used, left_out_values(operator, [model.spectrum(s) for s in used]), strict=True))
        relation = relations(operator, model, source)
        if gamma is None:
            gamma = estimate_gamma(operator, model, source, values, config.seed, config.filters)
    panel = build_panel(
        source.reader,
        model,
        left_values=[values.get(s, np.zeros((1, 0))) for s in used if s in set(model.system_of_trait.tolist())],
        gamma=gamma.gamma if gamma is not None else np.ones((n_traits, len(CLASSES))),
        contig_index=contig_index,
        linear=config.linear,
        mixed=config.mixed,
        filters=config.filters,
        relation=relation,
    )
    return ScanSetup(source, panel, gamma, model, operator, config, values)
