"""Score statistics of one partition: every trait from one product a tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.association.panel import COLLINEAR, ScanPanel, group_of, maf_class_of
from biolmm.genotypes.kernels import count_masked
from biolmm.genotypes.standardised import PartitionTask, new_tile, product, row_blocks, sums_of_squares, unpacked
from biolmm.results.diagnostics import neg_log10_p_chisq, neg_log10_p_t


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


def score_partition(task: PartitionTask, panel: ScanPanel, contig: str) -> dict[str, Statistics]:
    """Return the statistics of a partition's variants: `associations`, `linear`, or both.

    Notes
    -----
    Cost: one decode and 2·N·r flop a variant, r = T (twice with the plain regression) and k + C for each set of
    observed samples. Exact solver: n² flop more for each variant and trait.
    """
    packed = panel.reader.rows(task.partition)
    X = panel.columns
    if panel.predictors is not None:
        X = np.concatenate([panel.predictors[group_of(panel, contig)].T, X], axis=1)
    X = np.ascontiguousarray(X, np.float32)
    tile = new_tile(panel.reader.n_samples)
    parts: dict[str, list[Statistics]] = {}
    for rows, tables in row_blocks(packed, task.tables, tile):
        W = product(rows, tables, X, tile).astype(np.float64)
        for kind, statistics in _block(panel, rows, tables, W, contig, tile).items():
            parts.setdefault(kind, []).append(statistics)
    return {kind: _joined(blocks) for kind, blocks in parts.items()}


def _block(
    panel: ScanPanel, packed: NDArray[np.uint8], tables: NDArray[np.float32], W: NDArray[np.float64], contig: str,
    tile: NDArray[np.float32],
) -> dict[str, Statistics]:  # fmt: skip
    """Turn the product of one block of variants into statistics."""
    n_traits = len(panel.traits)
    num = W[:, :n_traits]
    rest = W[:, n_traits:] if panel.mixed else W
    counts = count_masked(packed, panel.masks)
    standard = tables.astype(np.float64)
    squares = sums_of_squares(counts, panel.n_observed, standard)
    left = np.stack([squares[:, s] - (rest[:, c.basis] ** 2).sum(axis=1) for s, c in enumerate(panel.systems)], axis=1)
    varies = (left > COLLINEAR * np.maximum(squares, 1e-300)) & _has_two_kinds(counts, panel.n_observed)
    system = panel.system_of_trait
    norm2 = np.where(varies, left, np.nan)[:, system]
    frequency = _frequencies(counts, panel.n_observed)[:, system]
    per_copy = (standard[:, 1] - standard[:, 0])[:, None]  # what one copy of ALT adds to z
    found = {}
    if panel.mixed:
        if panel.projections is None:
            den = _spectral_denominator(panel, rest, norm2, frequency, group_of(panel, contig))
        else:
            den = np.where(np.isnan(norm2), np.nan, _exact_denominator(panel, packed, tables, tile))
        den /= panel.total_variance[group_of(panel, contig)]
        chisq = num**2 / den
        found["associations"] = Statistics(
            num / den * per_copy, np.abs(per_copy) / np.sqrt(den), chisq, neg_log10_p_chisq(chisq), frequency
        )
    if panel.linear:
        found["linear"] = _linear(panel, rest[:, :n_traits], norm2, per_copy, frequency)
    return found


def _spectral_denominator(
    panel: ScanPanel, rest: NDArray[np.float64], norm2: NDArray[np.float64], frequency: NDArray[np.float64], group: int
) -> NDArray[np.float64]:
    """Return `Σₖ (uₖᵀz̃)² / (h²θₖ + 1−h²) + γ (‖z̃‖² − Σₖ (uₖᵀz̃)²)`, (b, T)."""
    den = np.empty_like(norm2)
    for t, s in enumerate(panel.system_of_trait):
        along = rest[:, panel.systems[s].eigen] ** 2
        values = panel.values[group][t][: along.shape[1]]
        weights = 1 / (panel.h2[t] * values + 1 - panel.h2[t])
        remainder = np.maximum(norm2[:, t] - along.sum(axis=1), 0.0)
        gamma = panel.gamma[t][maf_class_of(frequency[:, t])]
        den[:, t] = along @ weights + gamma * remainder
    return den


def _exact_denominator(
    panel: ScanPanel, packed: NDArray[np.uint8], tables: NDArray[np.float32], tile: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return `z̃ᵀ H₋c⁻¹ z̃` by triangular solves, (b, T)."""
    if panel.projections is None:
        raise ValueError("the panel holds no factors")
    N = panel.reader.n_samples
    Z = np.empty((N, len(packed)))
    for left in range(0, N, tile.shape[1]):
        right = min(left + tile.shape[1], N)
        Z[left:right] = unpacked(packed, tables, tile, left, right).T
    return np.stack([projection.forms(Z) for projection in panel.projections], axis=1)


def _linear(
    panel: ScanPanel, num: NDArray[np.float64], norm2: NDArray[np.float64], per_copy: NDArray[np.float64],
    frequency: NDArray[np.float64],
) -> Statistics:  # fmt: skip
    """Return the plain regression: t-test with n − C − 1 degrees of freedom; `chisq` is t²."""
    system = panel.system_of_trait
    df = panel.n_observed[system] - panel.n_covariates - 1
    beta = num / norm2
    variance = np.maximum(panel.residual_squares - num * beta, 0.0) / df / norm2
    t = beta / np.sqrt(variance)
    # z is the genotype times `per_copy`: per copy of ALT the effect is β times it.
    return Statistics(beta * per_copy, np.sqrt(variance) * np.abs(per_copy), t**2, neg_log10_p_t(t, df), frequency)


def _frequencies(counts: NDArray[np.int32], n_observed: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the ALT frequency under each mask, (b, S); NaN without a call."""
    het, hom, missing = (counts[:, :, i].astype(np.float64) for i in range(3))
    called = n_observed - missing
    return np.asarray(np.divide(het + 2 * hom, 2 * called, out=np.full(called.shape, np.nan), where=called > 0))


def _has_two_kinds(counts: NDArray[np.int32], n_observed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return where two kinds of calls occur under a mask, (b, S): a missing call at the mean is no variation."""
    ref = n_observed - counts.sum(axis=2)
    return np.asarray((counts[:, :, :2] > 0).sum(axis=2) + (ref > 0) > 1)


def _joined(blocks: list[Statistics]) -> Statistics:
    fields = Statistics.__dataclass_fields__
    return Statistics(**{name: np.concatenate([getattr(block, name) for block in blocks]) for name in fields})
