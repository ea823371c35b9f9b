"""What every part of the scan needs: one block of columns that all statistics are read from.

For variant g on contig c and trait t, with z the standardised genotypes, P the trait's projection and
H = h² P K₋c P + (1−h²) P:

    num = zᵀ x,  x = V₋c⁻¹ P y      den = z̃ᵀ V₋c⁻¹ z̃,  z̃ = P z      β̂ = num / den      χ² = num² / den

One product gives num (a column a trait), Uᵀz̃ and Qᵀz (columns a set of observed samples).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from biolmm.association.shares import shares_left
from biolmm.genotypes.filters import VariantFilters
from biolmm.genotypes.moments import SampleMasks
from biolmm.genotypes.source import RowReader
from biolmm.genotypes.standardised import Standardiser
from biolmm.linalg.dense import DenseProjection
from biolmm.linalg.operators import column_dots
from biolmm.loco import ALL_CONTIGS
from biolmm.reml.model import NullModel

COLLINEAR = 1e-5
"""A variant whose variance falls below this share once covariates are taken out has no statistics."""


@dataclass(frozen=True)
class SystemColumns:
    """Where one set of observed samples has its columns in the panel.

    Attributes
    ----------
    eigen, basis
        Columns of U and of Q.
    """

    eigen: slice
    basis: slice


class _LastUsed:
    """Keeps the columns of the two groups used last: the parts of a contig follow one another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, NDArray[np.float32]] = {}

    def __reduce__(self) -> tuple[type[_LastUsed], tuple[()]]:
        return _LastUsed, ()

    def get(self, group: int, make: Callable[[int], NDArray[np.float32]]) -> NDArray[np.float32]:
        with self._lock:
            if group not in self._kept:
                while len(self._kept) > 1:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[group] = make(group)
            return self._kept[group]


@dataclass(frozen=True)
class ScanPanel:
    """Everything that the parts of a scan share.

    Attributes
    ----------
    reader
        Rows of the cohort's samples from the genotypes that are scanned.
    traits
        Names.
    system_of_trait
        (T,) index into `systems` and into the masks.
    systems
        Columns of each set of observed samples.
    columns
        (N, …) residuals of the plain regression (T columns, if wanted), then U and Q of every system.
    masks
        The whole cohort, then the observed samples of every system.
    n_observed
        (S,) observed samples.
    predictors
        (G, T, N) left-out predictors.
    group_of_contig
        Which predictor a contig uses.
    values
        (G) of (T, k): eigenvalues `uᵀ K₋c u` of each trait's system, zero-padded.
    shares
        (G) of (S, k): how much of each system's eigenvectors is left under K₋c, see `shares_left`, zero-padded.
    h2
        (T,) heritability.
    total_variance
        (G, T) σ²_g + σ²_e under each left-out matrix.
    gamma
        (T, classes) mean exact ratio of the remainder.
    linear
        Whether the plain regression runs beside.
    relation
        What every variant of the store is to its matrix, see `classes.relations`; None where all are apart.
    filters
        Variants that fail are not tested.
    """

    reader: RowReader
    traits: tuple[str, ...]
    system_of_trait: NDArray[np.int64]
    systems: tuple[SystemColumns, ...]
    columns: NDArray[np.float32]
    masks: SampleMasks
    n_observed: NDArray[np.int64]
    predictors: NDArray[np.float32] | None
    group_of_contig: dict[str, int]
    values: tuple[NDArray[np.float64], ...]
    shares: tuple[NDArray[np.float64], ...]
    h2: NDArray[np.float64]
    total_variance: NDArray[np.float64]
    gamma: NDArray[np.float64]
    linear: bool
    projections: tuple[DenseProjection, ...] | None = None
    relation: NDArray[np.int8] | None = None
    filters: VariantFilters = field(default_factory=VariantFilters)
    _joined: _LastUsed = field(default_factory=_LastUsed, compare=False, repr=False)

    @cached_property
    def standardiser(self) -> Standardiser:
        """How rows are standardised; statistics do not depend on it."""
        return Standardiser(self.reader)

    def multiplied(self, contig: str) -> NDArray[np.float32]:
        """Return what a contig's variants are multiplied with, (N, …): its predictors, if any, then `columns`."""
        if self.predictors is None:
            return self.columns
        return self._joined.get(group_of(self, contig), self._join)

    def _join(self, group: int) -> NDArray[np.float32]:
        predictors: NDArray[np.float32] = self.predictors[group].T  # type: ignore[index]
        return np.ascontiguousarray(np.concatenate([predictors, self.columns], axis=1), np.float32)

    @cached_property
    def residual_squares(self) -> NDArray[np.float64]:
        """(T,) sum of squares of each trait's residual of the plain regression."""
        residuals = self.columns[:, : len(self.traits)]
        return column_dots(residuals, residuals)

    @property
    def mixed(self) -> bool:
        """Whether the mixed model is scanned."""
        return self.predictors is not None

    @property
    def n_covariates(self) -> NDArray[np.int64]:
        """(T,) covariates of each trait, the intercept included."""
        widths = np.array([s.basis.stop - s.basis.start for s in self.systems], dtype=np.int64)
        return widths[self.system_of_trait]


def build_panel(
    reader: RowReader,
    model: NullModel,
    *,
    left_values: Sequence[NDArray[np.float64]],
    gamma: NDArray[np.float64],
    contig_index: dict[str, int],
    linear: bool,
    mixed: bool,
    filters: VariantFilters,
    relation: NDArray[np.int8] | None = None,
) -> ScanPanel:
    """Lay out the columns of a scan.

    Parameters
    ----------
    reader
        Rows of the store that is scanned, for the model's samples.
    model
        Null model with predictors.
    left_values
        For each system in use, (n_contigs + 1, k) eigenvalues under each left-out contig, see `left_out_values`.
    gamma
        (T, classes) ratio of the remainder.
    contig_index
        Position of the model's contigs in `left_values`.
    linear, mixed
        Which statistics are wanted.
    filters
        Variants that fail are not tested.
    relation
        What every variant is to its matrix; None where all are apart.
    """
    used = sorted({int(s) for s in model.system_of_trait})
    spectra = [model.spectrum(system) for system in used]
    position = {system: i for i, system in enumerate(used)}
    system_of_trait = np.array([position[int(s)] for s in model.system_of_trait], dtype=np.int64)
    blocks: list[NDArray[np.float32]] = []
    if linear:
        residuals = [model.projected_trait(t) for t in range(len(system_of_trait))]
        blocks.append(np.stack(residuals, axis=1))
    start = sum(block.shape[1] for block in blocks)
    systems = []
    for spectrum in spectra:
        U = spectrum.pairs.vectors if mixed else spectrum.pairs.vectors[:, :0]
        Q = spectrum.restriction.basis.astype(np.float32)
        middle, stop = start + U.shape[1], start + U.shape[1] + Q.shape[1]
        systems.append(SystemColumns(slice(start, middle), slice(middle, stop)))
        blocks += [U, Q]
        start = stop
    contigs = [str(c) for c in model.loco["contig"].values] if mixed and model.loco is not None else []
    shares = (
        [shares_left(spectrum, values) for spectrum, values in zip(spectra, left_values, strict=True)] if mixed else []
    )
    components = [model.components(t) for t in range(len(system_of_trait))]
    return ScanPanel(
        reader=reader,
        traits=tuple(model.trait_names),
        system_of_trait=system_of_trait,
        systems=tuple(systems),
        columns=np.ascontiguousarray(np.concatenate(blocks, axis=1), dtype=np.float32),
        masks=SampleMasks(
            np.array([np.ones(reader.n_samples, dtype=bool), *(s.restriction.observed for s in spectra)])
        ),
        n_observed=np.array([s.restriction.observed.sum() for s in spectra], dtype=np.int64),
        predictors=model.loco["predictor"].values if mixed and model.loco is not None else None,
        group_of_contig={contig: i for i, contig in enumerate(contigs)},
        values=tuple(
            np.stack([_padded(left_values[s][contig_index.get(c, -1)], left_values) for s in system_of_trait])
            for c in contigs
        ),
        shares=tuple(np.stack([_padded(s[contig_index.get(c, -1)], shares) for s in shares]) for c in contigs),
        h2=np.array([c.h2 for c in components]),
        total_variance=model.loco["total_variance"].values if mixed and model.loco is not None else np.zeros((0, 0)),
        gamma=gamma,
        linear=linear,
        relation=relation,
        filters=filters,
    )


def group_of(panel: ScanPanel, contig: str) -> int:
    """Return which predictor a contig uses: its own, or the one that leaves nothing out."""
    return panel.group_of_contig.get(contig, panel.group_of_contig.get(ALL_CONTIGS, 0))


def _padded(values: NDArray[np.float64], like: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    width = max((v.shape[1] for v in like), default=0)
    return np.pad(values, (0, width - len(values)))
