"""Association tests by their definition, and a scan run without files or threads."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from biolmm.association.score import Statistics, score_partition
from biolmm.association.setup import ScanConfig, ScanSetup, prepare_scan
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.loco import solve_predictors
from biolmm.reml.model import NullModel
from oracles import dense

Array = NDArray[Any]


@dataclass(frozen=True)
class Effects:
    """Effects per copy of ALT, (M,); NaN for variants that have none."""

    beta: Array
    standard_error: Array
    chisq: Array


def imputed(calls: Array) -> Array:
    """Return dosages (M, N), missing calls at the mean of everybody called."""
    G = calls.astype(float)
    for j, row in enumerate(calls):
        called = row < 3
        G[j, ~called] = row[called].mean() if called.any() else 0.0
    return G


def vary(calls: Array, observed: Array) -> Array:
    """Return which variants have two kinds of calls or more among the observed samples, (M,)."""
    return np.array([len(set(row[row < 3].tolist())) > 1 for row in calls[:, observed]])


def score_tests(calls: Array, V: Array, y: Array, X: Array) -> Effects:
    """Test every variant in y ~ N(Xb + gβ, V): β = g̃ᵀV⁻¹ỹ / g̃ᵀV⁻¹g̃ with error contrasts g̃ = Aᵀg, V → AᵀVA."""
    observed = ~np.isnan(y)
    A = dense.complement(observed, X)
    S = imputed(calls) @ A
    H = A.T @ V @ A
    num = S @ np.linalg.solve(H, A.T @ np.nan_to_num(y))
    den = np.einsum("ij,ji->i", S, np.linalg.solve(H, S.T))
    den[~vary(calls, observed)] = np.nan
    return Effects(num / den, den**-0.5, num**2 / den)


def least_squares(calls: Array, y: Array, X: Array) -> tuple[Effects, Array]:
    """Regress y on every variant and X; return the tests (`chisq` = t²) and the two-sided p of t, n − C − 1 df."""
    observed = ~np.isnan(y)
    G, target = imputed(calls)[:, observed], y[observed]
    found = np.full((4, len(G)), np.nan)
    for j in np.flatnonzero(vary(calls, observed)):
        design = np.column_stack([G[j], X[observed]])
        coefficients, _, rank, _ = np.linalg.lstsq(design, target, rcond=1e-10)
        if rank < design.shape[1]:
            continue
        residual = target - design @ coefficients
        df = len(target) - design.shape[1]
        se = np.sqrt(residual @ residual / df * np.linalg.inv(design.T @ design)[0, 0])
        t = coefficients[0] / se
        found[:, j] = coefficients[0], se, t**2, 2 * stats.t.sf(abs(t), df)
    return Effects(*found[:3]), found[3]


def with_predictors(operator: GenotypeOperator, model: NullModel, **options: Any) -> NullModel:
    """Return the model with its predictors solved."""
    return replace(model, loco=solve_predictors(operator, model, **options))


def as_exact(operator: GenotypeOperator, model: NullModel, loco: bool = True) -> NullModel:
    """Return a model of the same variance components whose predictors and denominators are exact."""
    attributes = model.dataset.attrs
    settings = attributes["settings"].replace('"stochastic"', '"exact"')
    exact = replace(model, dataset=model.dataset.assign_attrs({**attributes, "settings": settings}))
    return with_predictors(operator, exact, loco=loco)


def score_everything(setup: ScanSetup) -> dict[str, Statistics]:
    """Run every part here and now; statistics in the order of the variants."""
    parts: dict[int, dict[str, Statistics]] = {}
    for panel, partitions in setup.groups(setup.source.partitions):
        for partition in partitions:
            parts[partition.index] = score_partition(partition, panel, setup.contig_of(partition)).statistics
    kinds = parts[0].keys()
    names = [field.name for field in fields(Statistics)]
    return {
        kind: Statistics(**{n: np.concatenate([getattr(parts[i][kind], n) for i in sorted(parts)]) for n in names})
        for kind in kinds
    }


def scan_everything(operator: GenotypeOperator, model: NullModel, **options: Any) -> Statistics:
    """Scan the model's own variants with the mixed model."""
    setup = prepare_scan(operator.source, model, operator, ScanConfig(**options))
    return score_everything(setup)["associations"]
