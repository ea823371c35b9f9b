"""Solve `V₋c x = P y` for every trait and contig, all columns in the same passes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from biolmm.genotypes.dense import DenseRelatedness
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.linalg.dense import DenseProjection
from biolmm.linalg.operators import column_dots
from biolmm.linalg.pcg import Solution, solve_pcg
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
        `predictor` (contigs, traits, samples) in units of one over the trait; `relative_residual`, `iterations`,
        `converged` (contigs, traits). Contigs without model variants are not among them: they use `ALL_CONTIGS`.

    Notes
    -----
    Cost: one pass with a column a trait, which also gives the residual of every left-out system; then 2 to 4 passes
    with a column for each unfinished (trait, contig). Exact solver: n³/3 flop for each (trait, contig).
    """
    contig_m = operator.contig_m
    contigs = [int(c) for c in np.flatnonzero(contig_m > 0)] if loco else []
    groups = [*contigs, -1]
    if len(contigs) == 1:
        log.warning("the model has variants on one contig only: leaving it out leaves nothing. Consider --no-loco.")
    if model.settings["solver"] == "exact":
        relatedness = DenseRelatedness(operator)
        solutions = [_solve_exactly(relatedness.left_out(group), model) for group in groups]
        predictor = np.stack(solutions)
        shape = predictor.shape[:2]
        residual, iterations, converged = np.zeros(shape), np.zeros(shape, np.int64), np.ones(shape, bool)
    else:
        column_bytes = _BLOCKS_HELD * len(groups) * operator.n_samples * 4
        batch = max(1, int(memory_bytes // column_bytes))
        parts = [
            _solve_batch(operator, model, groups, range(start, min(start + batch, len(model.trait_names))), tolerance)
            for start in range(0, len(model.trait_names), batch)
        ]
        predictor, residual, iterations, converged = (np.concatenate(each, axis=1) for each in zip(*parts, strict=True))
        _report(converged, residual, iterations)
    names = [operator.source.store.contig_id[c] for c in contigs]
    return xr.Dataset(
        {
            "predictor": (("contigs", "traits", "samples"), predictor),
            "relative_residual": (("contigs", "traits"), residual),
            "iterations": (("contigs", "traits"), iterations),
            "converged": (("contigs", "traits"), converged),
        },
        coords={"contig": ("contigs", np.array([*names, ALL_CONTIGS], dtype=str))},
        attrs={"tolerance": tolerance, "loco": int(loco)},
    )


def _solve_exactly(K: NDArray[np.float64], model: NullModel) -> NDArray[np.float32]:
    """Solve every trait of one left-out contig by a Cholesky factor, (T, N)."""
    solutions = []
    for trait in range(len(model.trait_names)):
        projection = trait_projection(K, model, trait)
        y = np.nan_to_num(model.dataset["y"].values[trait])[:, None]
        solutions.append(projection.solve(y)[:, 0].astype(np.float32))
    return np.stack(solutions)


def trait_projection(K: NDArray[np.float64], model: NullModel, trait: int) -> DenseProjection:
    """Return the projection of one trait with `V = σ²_g K + σ²_e I`."""
    components = model.components(trait)
    V = components.sigma2_g * K
    V[np.diag_indices_from(V)] += components.sigma2_e
    return DenseProjection(V, model.restriction(int(model.system_of_trait[trait])))


def _solve_batch(
    operator: GenotypeOperator, model: NullModel, groups: Sequence[int], traits: range, tolerance: float
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Solve some traits: predictor (groups, traits, N) and the diagnosis of each (groups, traits)."""
    n_groups, n_traits = len(groups), len(traits)
    systems = left_out_systems(operator, model, groups, traits)
    start = np.stack([model.dataset["solution"].values[t] for t in traits], axis=1)
    right = np.stack(
        [systems.spectra[i].restriction.project(_observed(model, t))[:, 0] for i, t in enumerate(traits)], axis=1
    ).astype(np.float32)
    residual = _first_residuals(systems, start, right, groups)
    norms = np.repeat(np.sqrt(column_dots(right, right)), n_groups)
    x = np.repeat(start, n_groups, axis=1)
    solution = solve_pcg(systems.products, x, residual, systems.precondition, right_norms=norms, tolerance=tolerance)
    total = np.repeat([_total_variance(model, t) for t in traits], n_groups)
    shape = (n_traits, n_groups)
    predictor = (solution.x / total.astype(np.float32)).T.reshape(*shape, -1).transpose(1, 0, 2)
    return (
        np.ascontiguousarray(predictor),
        solution.relative_residual.reshape(shape).T,
        solution.iterations.reshape(shape).T,
        solution.converged.reshape(shape).T,
    )


def left_out_systems(
    operator: GenotypeOperator, model: NullModel, groups: Sequence[int], traits: Sequence[int]
) -> LeftOutSystems:
    """Set up the systems of every (trait, group), traits in runs."""
    used = sorted({int(model.system_of_trait[t]) for t in traits})
    by_system = {system: model.spectrum(system) for system in used}
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


def refine(systems: LeftOutSystems, x: NDArray[np.float32], right: NDArray[np.float32], tolerance: float) -> Solution:
    """Improve solutions (N, r) of `H_j x_j = right_j` to a smaller residual: one pass more than iterations."""
    columns = np.arange(x.shape[1])
    residual = right - systems.products(x, columns)
    norms = np.sqrt(column_dots(right, right))
    return solve_pcg(systems.products, x, residual, systems.precondition, right_norms=norms, tolerance=tolerance)


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
    contig_m = operator.contig_m
    for position, contig in enumerate(groups):
        left_in = total if contig < 0 else total - parts[contig]
        # In single precision as the products are, so that nothing left in is 0 / tiny and not 0 / 0.
        remaining = max(operator.m - (contig_m[contig] if contig >= 0 else 0.0), float(np.finfo(np.float32).tiny))
        for t in range(x.shape[1]):
            product = systems.spectra[t].restriction.project(left_in[:, [t]] / remaining)[:, 0]
            h2 = systems.h2[t]
            residual[:, t * n_groups + position] = right[:, t] - h2 * product - (1 - h2) * x[:, t]
    return residual


def _observed(model: NullModel, trait: int) -> NDArray[np.float64]:
    return np.asarray(np.nan_to_num(model.dataset["y"].values[trait])[:, None], dtype=np.float64)


def _total_variance(model: NullModel, trait: int) -> float:
    components = model.components(trait)
    return components.sigma2_g + components.sigma2_e


def _report(converged: NDArray[np.bool_], residual: NDArray[np.float64], iterations: NDArray[np.int64]) -> None:
    log.info("loco: at most %d iterations, worst relative residual %.1e", iterations.max(), residual.max())
    if not converged.all():
        log.warning(
            "%d of %d left-out predictors did not converge; the worst has relative residual %.1e. "
            "Their contigs' statistics are approximate: see loco.tsv.",
            int((~converged).sum()), converged.size, residual.max(),
        )  # fmt: skip
