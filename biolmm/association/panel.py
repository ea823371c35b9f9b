"""What every part of the scan needs: one block of columns that all statistics are read from.

For variant g on contig c and trait t, with z the standardised genotypes, P the trait's projection and
H = h² P K₋c P + (1−h²) P:

    num = zᵀ x,  x = V₋c⁻¹ P y      den = z̃ᵀ V₋c⁻¹ z̃,  z̃ = P z      β̂ = num / den      χ² = num² / den

One product gives num (a column a trait), Uᵀz̃ and Qᵀz (columns a set of observed samples).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.kernels import pack_masks
from biolmm.genotypes.source import RowReader
from biolmm.linalg.dense import DenseProjection
from biolmm.linalg.operators import column_dots
from biolmm.loco import ALL_CONTIGS
from biolmm.reml.model import NullModel

COLLINEAR = 1e-5
"""A variant whose variance falls below this share once covariates are taken out has no statistics."""
MAF_EDGES = (0.01, 0.05)
"""Minor allele frequencies that separate the classes for which γ is reported."""
MAF_CLASSES = ("<1%", "1-5%", ">=5%")


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


@dataclass(frozen=True)
class ScanPanel:
    """Everything that the parts of a scan share.

    Attributes
    ----------
    reader
        Packed rows of the cohort's samples from the store that is scanned.
    traits
        Names.
    system_of_trait
        (T,) index into `systems` and into the masks.
    systems
        Columns of each set of observed samples.
    columns
        (N, …) residuals of the plain regression (T columns, if wanted), then U and Q of every system.
    masks
        (S, words) packed masks.
    n_observed
        (S,) observed samples.
    predictors
        (G, T, N) left-out predictors.
    group_of_contig
        Which predictor a contig uses.
    values
        (G) of (T, k): eigenvalues `uᵀ K₋c u` of each trait's system, zero-padded.
    h2
        (T,) heritability.
    total_variance
        (G, T) σ²_g + σ²_e under each left-out matrix.
    gamma
        (T, classes of allele frequency) mean exact ratio of the remainder.
    linear
        Whether the plain regression runs beside.
    """

    reader: RowReader
    traits: tuple[str, ...]
    system_of_trait: NDArray[np.int64]
    systems: tuple[SystemColumns, ...]
    columns: NDArray[np.float32]
    masks: NDArray[np.uint64]
    n_observed: NDArray[np.int64]
    predictors: NDArray[np.float32] | None
    group_of_contig: dict[str, int]
    values: tuple[NDArray[np.float64], ...]
    h2: NDArray[np.float64]
    total_variance: NDArray[np.float64]
    gamma: NDArray[np.float64]
    linear: bool
    projections: tuple[DenseProjection, ...] | None = None

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
        (T, classes of allele frequency) ratio of the remainder.
    contig_index
        Position of the model's contigs in `left_values`.
    linear, mixed
        Which statistics are wanted.
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
    components = [model.components(t) for t in range(len(system_of_trait))]
    return ScanPanel(
        reader=reader,
        traits=tuple(model.trait_names),
        system_of_trait=system_of_trait,
        systems=tuple(systems),
        columns=np.ascontiguousarray(np.concatenate(blocks, axis=1), dtype=np.float32),
        masks=pack_masks(np.array([s.restriction.observed for s in spectra])),
        n_observed=np.array([s.restriction.observed.sum() for s in spectra], dtype=np.int64),
        predictors=model.loco["predictor"].values if mixed and model.loco is not None else None,
        group_of_contig={contig: i for i, contig in enumerate(contigs)},
        values=tuple(
            np.stack([_padded(left_values[s][contig_index.get(c, -1)], left_values) for s in system_of_trait])
            for c in contigs
        ),
        h2=np.array([c.h2 for c in components]),
        total_variance=model.loco["total_variance"].values if mixed and model.loco is not None else np.zeros((0, 0)),
        gamma=gamma,
        linear=linear,
    )


def maf_class_of(frequency: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the class of allele frequency, an index into `MAF_CLASSES`.

    Examples
    --------
    >>> maf_class_of(np.array([0.004, 0.97, 0.5])).tolist()
    [0, 1, 2]
    """
    return np.asarray(np.searchsorted(MAF_EDGES, np.minimum(frequency, 1 - frequency), side="right"))


def group_of(panel: ScanPanel, contig: str) -> int:
    """Return which predictor a contig uses: its own, or the one that leaves nothing out."""
    return panel.group_of_contig.get(contig, panel.group_of_contig.get(ALL_CONTIGS, 0))


def _padded(values: NDArray[np.float64], like: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    width = max((v.shape[1] for v in like), default=0)
    return np.pad(values, (0, width - len(values)))
