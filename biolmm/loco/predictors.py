"""Solve `V₋c x = P y` for every trait and contig, all columns in the same passes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from biolmm.genotypes.dense import DenseRelatedness
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.linalg.dense import DenseProjection
from biolmm.linalg.operators import column_dots
from biolmm.linalg.pcg import solve_pcg
from biolmm.loco.systems import LeftOutSystems, left_out_values
from biolmm.reml.model import NullModel

log = logging.getLogger(__name__)

ALL_CONTIGS = "*"
"""Name of the predictor that leaves nothing out: the one used without LOCO and for contigs outside the model."""

_BLOCKS_HELD = 9
"""Blocks of all columns that a solve holds: contig products, start, residual, direction, z, products, panels."""


def solve_predictors(
    operator: GenotypeOperator,
    model: NullModel,
    *,
    loco: bool = True,
    tolerance: float = 5e-3,
    memory_bytes: int = 2**31,
) -> xr.Dataset:
    """Solve the left-out predictor `V₋c⁻¹ P y` of every contig and trait.

    Parameters
    ----------
    operator
        K of the model's variants on the cohort's samples.
    model
        Variance components and spectra.
    loco
        Leave each contig out in turn; otherwise only the whole genome is solved.
    tolerance
        Relative residual at which a column is finished (stochastic solver; the exact one factorises).
    memory_bytes
        Traits are taken in batches that fit.

    Returns
    -------
    xr.Dataset
        `predictor` (contigs, traits, samples), V₋c⁻¹ P y in units of one over the trait; `total_variance` σ²_c =
        yᵀH₋c⁻¹y / (n−C), the profile estimate under each left-out matrix at the whole genome's h², in squared
        units of the trait; `relative_residual`, `iterations`, `converged` (contigs, traits). Contigs without model
        variants are not among them: they use `ALL_CONTIGS`.

    Notes
    -----
    Cost: one pass with a column a trait, which also gives the residual of every left-out system; then 1 or 2 passes
    with a column for each unfinished (trait, contig), more for h² near 1: a column ends on a step that costs no
    product, see `solve_pcg`. Exact solver: n³/3 flop for each (trait, contig).
    """
    contig_m = operator.contig_m
    contigs = [int(c) for c in np.flatnonzero(contig_m > 0)] if loco else []
    groups = [*contigs, -1]
    if len(contigs) == 1:
        log.warning("the model has variants on one contig only: leaving it out leaves nothing. Consider --no-loco.")
    if model.settings["solver"] == "exact":
        relatedness = DenseRelatedness(operator)
        parts = [_solve_exactly(relatedness.left_out(group), model) for group in groups]
        solved = _joined(parts, axis=0)
    else:
        column_bytes = _BLOCKS_HELD * len(groups) * operator.n_samples * 4
        batch = max(1, int(memory_bytes // column_bytes))
        n_traits = len(model.trait_names)
        batches = [range(start, min(start + batch, n_traits)) for start in range(0, n_traits, batch)]
        solved = _joined([_solve_batch(operator, model, groups, traits, tolerance) for traits in batches], axis=1)
        _report(solved)
    names = [operator.source.store.contig_id[c] for c in contigs]
    return xr.Dataset(
        {
            "predictor": (("contigs", "traits", "samples"), solved.predictor),
            "total_variance": (("contigs", "traits"), solved.total_variance),
            "relative_residual": (("contigs", "traits"), solved.relative_residual),
            "iterations": (("contigs", "traits"), solved.iterations),
            "converged": (("contigs", "traits"), solved.converged),
        },
        coords={"contig": ("contigs", np.array([*names, ALL_CONTIGS], dtype=str))},
        attrs={"tolerance": tolerance, "loco": int(loco)},
    )


@dataclass(frozen=True)
class _Solved:
    """Predictors of some groups and traits: (groups, traits, N) and (groups, traits) each."""

    predictor: NDArray[np.float32]
    total_variance: NDArray[np.float64]
    relative_residual: NDArray[np.float64]
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]


def _joined(parts: Sequence[_Solved], axis: int) -> _Solved:
    names = _Solved.__dataclass_fields__
    return _Solved(**{name: np.concatenate([getattr(part, name) for part in parts], axis=axis) for name in names})


def _solve_exactly(K: NDArray[np.float64], model: NullModel) -> _Solved:
    """Solve every trait of one left-out contig by a Cholesky factor; one group."""
    solutions, totals = [], []
    for trait in range(len(model.trait_names)):
        y = model.projected_trait(trait)[:, None]
        x = trait_projection(K, model, trait).solve(y)
        totals.append(float((y * x).sum()) / model.restriction(int(model.system_of_trait[trait])).rank)
        solutions.append((x[:, 0] / totals[-1]).astype(np.float32))
    shape = (1, len(totals))
    return _Solved(
        np.stack(solutions)[None],
        np.array(totals)[None],
        np.zeros(shape),
        np.zeros(shape, np.int64),
        np.ones(shape, np.bool_),
    )


def trait_projection(K: NDArray[np.float64], model: NullModel, trait: int) -> DenseProjection:
    """Return the projection of one trait with `H = h² K + (1−h²) I`."""
    h2 = model.components(trait).h2
    H = h2 * K
    H[np.diag_indices_from(H)] += 1 - h2
    return DenseProjection(H, model.restriction(int(model.system_of_trait[trait])))


def _solve_batch(
    operator: GenotypeOperator, model: NullModel, groups: Sequence[int], traits: range, tolerance: float
) -> _Solved:
    """Solve some traits for every group."""
    n_groups, n_traits = len(groups), len(traits)
    systems = left_out_systems(operator, model, groups, traits)
    start = np.stack([model.dataset["solution"].values[t] for t in traits], axis=1)
    restrictions = [spectrum.restriction for spectrum in systems.spectra]
    right = np.stack([model.projected_trait(t) for t in traits], axis=1).astype(np.float32)
    residual = _first_residuals(systems, start, right, groups)
    norms = np.repeat(np.sqrt(column_dots(right, right)), n_groups)
    x = np.repeat(start, n_groups, axis=1)
    # yᵀH⁻¹y = (y + r)ᵀx + rᵀH⁻¹r with x the start and r its residual; the solver knows the last term.
    known = column_dots(np.repeat(right, n_groups, axis=1) + residual, x)
    solution = solve_pcg(
        systems.products, x, residual, systems.precondition, right_norms=norms, tolerance=tolerance, ahead=True
    )
    total = (known + solution.energy) / np.repeat([r.rank for r in restrictions], n_groups)
    shape = (n_traits, n_groups)
    # Divided in double precision: σ² may lie beyond what single precision holds.
    scaled = np.divide(solution.x, total, out=solution.x, casting="same_kind")
    predictor = scaled.T.reshape(*shape, -1).transpose(1, 0, 2)
    return _Solved(
        np.ascontiguousarray(predictor),
        total.reshape(shape).T,
        solution.relative_residual.reshape(shape).T,
        solution.iterations.reshape(shape).T,
        solution.converged.reshape(shape).T,
    )


def left_out_systems(
    operator: GenotypeOperator,
    model: NullModel,
    groups: Sequence[int],
    traits: Sequence[int],
    values: Mapping[int, NDArray[np.float64]] | None = None,
) -> LeftOutSystems:
    """Set up the systems of every (trait, group), traits in runs; one pass unless `left_out_values` are given."""
    used = sorted({int(model.system_of_trait[t]) for t in traits})
    by_system = {system: model.spectrum(system) for system in used}
    if values is None:
        values = dict(zip(used, left_out_values(operator, list(by_system.values())), strict=True))
    owner = [int(model.system_of_trait[t]) for t in traits]
    return LeftOutSystems(
        operator=operator,
        spectra=[by_system[system] for system in owner],
        h2=np.array([model.components(t).h2 for t in traits]),
        left_out=np.tile(np.array(groups, dtype=np.int64), len(traits)),
        trait=np.repeat(np.arange(len(traits)), len(groups)),
        left_values=[values[system] for system in owner],
    )


def _first_residuals(
    systems: LeftOutSystems, x: NDArray[np.float32], right: NDArray[np.float32], groups: Sequence[int]
) -> NDArray[np.float32]:
    """Return `P y − H_j x` for every (trait, group), (N, T·groups), from one pass with T columns.

    `m K₋c x = Σ Z_cᵀZ_c x − (contig c's own part)`: the pass that computes K x yields every left-out product.
    """
    operator = systems.operator
    n_groups = len(groups)
    parts = operator.contig_products(x)
    total = parts.sum(axis=0)
    residual = np.empty((x.shape[0], x.shape[1] * n_groups), np.float32)
    for position, (contig, remaining) in enumerate(zip(groups, operator.m_without(groups), strict=True)):
        left_in = total if contig < 0 else total - parts[contig]
        for t in range(x.shape[1]):
            product = systems.spectra[t].restriction.project(left_in[:, [t]] / remaining)[:, 0]
            h2 = systems.h2[t]
            residual[:, t * n_groups + position] = right[:, t] - h2 * product - (1 - h2) * x[:, t]
    return residual


def _report(solved: _Solved) -> None:
    worst, converged = solved.relative_residual.max(), solved.converged
    log.info("loco: at most %d iterations, worst relative residual %.1e", solved.iterations.max(), worst)
    if not converged.all():
        log.warning(
            "%d of %d left-out predictors did not converge; the worst has relative residual %.1e. "
            "Their contigs' statistics are approximate: see loco.tsv.",
            int((~converged).sum()), converged.size, worst,
        )  # fmt: skip
