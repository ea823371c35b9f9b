"""Score statistics of one partition: every trait from one product a tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from biolmm.association.classes import class_of
from biolmm.association.kernels import add_norms, spectral_denominators
from biolmm.association.panel import COLLINEAR, ScanPanel, group_of
from biolmm.contigs import Ploidy
from biolmm.files.encoding import Rows
from biolmm.genotypes.coding import Counted
from biolmm.genotypes.filters import add_counts, information
from biolmm.genotypes.source import Partition
from biolmm.genotypes.standardised import CodedRows, coded_rows, partition_task, sums_of_squares
from biolmm.results.diagnostics import neg_log10_p_chisq, neg_log10_p_t

TILE_VARIANTS, TILE_SAMPLES = 512, 1024
"""What is unpacked at a time: 2 MiB, which are still in cache for the one product they are made for."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of b variants for T traits, each (b, T); NaN where a variant does not vary in a trait's samples.

    Attributes
    ----------
    beta, standard_error
        Per copy of ALT, in units of the trait.
    chisq, neg_log_10_p_value
        Test of β = 0.
    frequency
        ALT frequency among the trait's samples.
    """

    beta: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    chisq: NDArray[np.float64]
    neg_log_10_p_value: NDArray[np.float64]
    frequency: NDArray[np.float64]


@dataclass(frozen=True)
class ScoredPart:
    """What came of one partition.

    Attributes
    ----------
    variants
        (b,) store indices of the variants that passed the filters.
    statistics
        `associations`, `linear`, or both.
    info
        (b,) imputation quality; None for hard calls.
    n_monomorphic
        Variants that do not vary in the cohort.
    removed
        Variants that each filter took out.
    """

    variants: NDArray[np.int64]
    statistics: dict[str, Statistics]
    info: NDArray[np.float64] | None
    n_monomorphic: int
    removed: dict[str, int]


@dataclass(frozen=True)
class _Kept:
    """Rows of one partition that pass the filters."""

    variants: NDArray[np.int64]
    rows: Rows
    counted: Counted
    removed: dict[str, int]


def score_partition(partition: Partition, panel: ScanPanel, contig: str) -> ScoredPart:
    """Test a partition's variants.

    Notes
    -----
    Cost: one decode and 2·N·r flop a variant, r = T (twice with the plain regression) and k + C for each set of
    observed samples. Exact solver: n² flop more for each variant and trait.
    """
    X = panel.multiplied(contig)
    tile = np.empty((TILE_VARIANTS, min(TILE_SAMPLES, panel.reader.n_samples)), np.float32)
    scored = [_score(kept, partition, panel, contig, X, tile) for kept in _passing(partition, panel)]
    infos = [part.info for part in scored if part.info is not None]
    kinds = ["associations"] * panel.mixed + ["linear"] * panel.linear
    return ScoredPart(
        variants=np.concatenate([part.variants for part in scored]),
        statistics={kind: _joined([part.statistics[kind] for part in scored]) for kind in kinds},
        info=np.concatenate(infos) if infos else None,
        n_monomorphic=sum(part.n_monomorphic for part in scored),
        removed=add_counts(part.removed for part in scored),
    )


def kept_variants(partition: Partition, panel: ScanPanel) -> NDArray[np.int64]:
    """Return the store indices of a partition's variants that pass the filters: the rows that its files have."""
    if not panel.filters.active:
        return partition.variants
    return np.concatenate([kept.variants for kept in _passing(partition, panel)])


def _passing(partition: Partition, panel: ScanPanel) -> Iterator[_Kept]:
    """Read a partition chunk by chunk, count, and filter."""
    reader = panel.reader
    for where, rows in reader.blocks(partition):
        variants = partition.variants[where]
        counted = reader.coding.count(rows, reader.encoding, panel.masks, partition.ploidy)
        found = panel.filters.passing(rows, reader, variants, counted, partition.ploidy)
        if not found.kept.all():
            variants, rows, counted = variants[found.kept], rows[found.kept], counted[found.kept]
        yield _Kept(variants, rows, counted, found.removed)


def _score(
    kept: _Kept, partition: Partition, panel: ScanPanel, contig: str, X: NDArray[np.float32], tile: NDArray[np.float32]
) -> ScoredPart:
    """Test the variants of one chunk."""
    reader = panel.reader
    scaling = panel.standardiser.scaling(kept.counted.moments.of(0), partition.ploidy)
    task = partition_task(replace(partition, variants=kept.variants), scaling, reader.coding)
    coded = coded_rows(kept.rows, reader, task)
    empty = np.zeros((0, len(panel.traits)))
    none = Statistics(empty, empty, empty, empty, empty)
    parts: dict[str, list[Statistics]] = {"associations": [none], "linear": [none]}
    for start in range(0, len(coded), len(tile)):
        where = slice(start, start + len(tile))
        block = coded[where]
        W = block.product(X, tile)
        for kind, statistics in _block(panel, block, kept.counted[where], W, contig, tile).items():
            parts[kind].append(statistics)
    return ScoredPart(
        kept.variants,
        {kind: _joined(blocks) for kind, blocks in parts.items()},
        information(reader, kept.variants),
        int(np.count_nonzero(scaling.scale == 0)),
        kept.removed,
    )


def _block(
    panel: ScanPanel, block: CodedRows, counted: Counted, W: NDArray[np.float32], contig: str,
    tile: NDArray[np.float32],
) -> dict[str, Statistics]:  # fmt: skip
    """Turn the product of one block of variants into statistics; in here trait by trait, (T, b)."""
    n_traits, system = len(panel.traits), panel.system_of_trait
    start = n_traits if panel.mixed else 0
    norms = _norms(panel, block, counted, W, start)
    frequencies = np.ascontiguousarray(counted.frequency[:, 1:].T)
    frequency = frequencies[system].T
    num = W[:, :n_traits].T.astype(np.float64)
    per_copy = block.task.scaling.scale  # what one copy of ALT adds to z
    found = {}
    if panel.mixed:
        group = group_of(panel, contig)
        if panel.projections is None:
            relation = 0 if panel.relation is None else panel.relation[block.task.partition.variants]
            den = _spectral_denominator(panel, W, norms, class_of(frequencies, relation), group)
        else:
            den = np.where(np.isnan(norms[system]), np.nan, _exact_denominator(panel, block, tile).T)
        den /= panel.total_variance[group][:, None]
        chisq = num**2 / den
        found["associations"] = Statistics(
            (num / den * per_copy).T, (per_copy / np.sqrt(den)).T, chisq.T, neg_log10_p_chisq(chisq).T, frequency
        )
    if panel.linear:
        plain = W[:, start : start + n_traits].T.astype(np.float64)
        found["linear"] = _linear(panel, plain, norms[system], per_copy, frequency)
    return found


def _norms(
    panel: ScanPanel, block: CodedRows, counted: Counted, W: NDArray[np.float32], start: int
) -> NDArray[np.float64]:
    """Return `‖z̃‖²` for every set of observed samples, (S, b); NaN where z̃ does not vary."""
    squares = sums_of_squares(counted.moments, block.task.scaling)[:, 1:]
    vary = counted.moments.vary[:, 1:]
    norms = np.empty(squares.shape[::-1])
    add_norms(W, squares, vary, _columns([s.basis for s in panel.systems], start), COLLINEAR, norms)
    return norms


def _columns(slices: list[slice], start: int) -> NDArray[np.int64]:
    """Return first column and end of each slice of `panel.columns` in the product, where `start` columns come before."""
    return np.array([(start + s.start, start + s.stop) for s in slices], dtype=np.int64)


def _spectral_denominator(
    panel: ScanPanel, W: NDArray[np.float32], norms: NDArray[np.float64], classes: NDArray[np.int64], group: int
) -> NDArray[np.float64]:
    """Return `Σₖ sₖ(uₖᵀz̃)² / (h²θₖ + 1−h²) + γ (‖z̃‖² − Σₖ sₖ(uₖᵀz̃)²)`, (T, b), sₖ the share of uₖ that is left."""
    h2, shares = panel.h2[:, None], panel.shares[group]
    weights = shares[panel.system_of_trait] / (h2 * panel.values[group] + 1 - h2)
    eigen = _columns([s.eigen for s in panel.systems], len(panel.traits))
    den = np.empty((len(panel.traits), len(W)))
    spectral_denominators(W, norms, classes, eigen, panel.system_of_trait, shares, weights, panel.gamma, den)
    return den


def _exact_denominator(panel: ScanPanel, block: CodedRows, tile: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return `z̃ᵀ H₋c⁻¹ z̃` by triangular solves, (b, T)."""
    if panel.projections is None:
        raise ValueError("the panel holds no factors")
    N = panel.reader.n_samples
    Z = np.empty((N, len(block)))
    for left in range(0, N, tile.shape[1]):
        right = min(left + tile.shape[1], N)
        Z[left:right] = block.unpacked(tile, left, right).T
    return np.stack([projection.forms(Z) for projection in panel.projections], axis=1)


def _linear(
    panel: ScanPanel, num: NDArray[np.float64], norm2: NDArray[np.float64], per_copy: NDArray[np.float64],
    frequency: NDArray[np.float64],
) -> Statistics:  # fmt: skip
    """Return the plain regression: t-test with n − C − 1 degrees of freedom; `chisq` is t²."""
    df = (panel.n_observed[panel.system_of_trait] - panel.n_covariates - 1)[:, None]
    beta = num / norm2
    variance = np.maximum(panel.residual_squares[:, None] - num * beta, 0.0) / df / norm2
    error = np.sqrt(variance)
    t = beta / error
    # z is the genotype times `per_copy`: per copy of ALT the effect is β times it.
    return Statistics((beta * per_copy).T, (error * per_copy).T, (t**2).T, neg_log10_p_t(t, df).T, frequency)


def n_counted(panel: ScanPanel, partition: Partition) -> NDArray[np.int64]:
    """Return how many samples each trait's tests rest on, (T,): those observed, on Y the males among them."""
    n = panel.n_observed
    if partition.ploidy == Ploidy.Y:
        n = panel.masks.within(panel.reader.coding.male).n_observed[1:]
    return n[panel.system_of_trait]


def _joined(blocks: list[Statistics]) -> Statistics:
    fields = Statistics.__dataclass_fields__
    return Statistics(**{name: np.concatenate([getattr(block, name) for block in blocks]) for name in fields})
