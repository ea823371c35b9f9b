"""Cross-validated accuracy: every fold's people predicted by a model of the others, all folds in the same passes.

The people of a fold are masked as a missing trait is: `V = h² P K P + (1 − h²) P` with P of the others. Its predictor x is
zero on them, and `σ²_g K x` is their predicted genetic value.

Legend: N samples, T traits, F folds; columns j = (trait, fold).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.cohort import Cohort, build_classes
from biolmm.cohort.model import check_traits_left
from biolmm.errors import TraitError
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.linalg.operators import RestrictedOperator, Restriction, column_dots
from biolmm.linalg.pcg import solve_pcg
from biolmm.loco import solve_predictors
from biolmm.prediction.blup import relatedness_products, variance_components, whole_genome_predictors
from biolmm.reml.fit import FitConfig, fit_null_model
from biolmm.reml.model import NullModel
from biolmm.reml.spectrum import Spectrum, SpectrumConfig

log = logging.getLogger(__name__)

_BLOCKS_HELD = 10


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """How well the model predicts people whom it was not fitted on.

    Attributes
    ----------
    accuracy
        A row a trait: `n`, `r` and `r2` (correlation, and its square, of the predicted genetic value with the trait less its
        covariates), `r2_se`, `slope` of the trait on the prediction (1 where predictions have the right spread),
        `slope_se`, `h2` (mean over folds) and `reliability` r²/h², which estimates the squared correlation with the
        true genetic value.
    folds
        The same for every fold.
    predicted
        (N, T) genetic values predicted without the person's fold.
    fold
        (N,) fold of each person.
    """

    accuracy: pd.DataFrame
    folds: pd.DataFrame
    predicted: NDArray[np.float64]
    fold: NDArray[np.int64]


@dataclass(frozen=True)
class _Trained:
    """Fits of some columns: predictors (N, r), heritabilities and total variances (r,)."""

    x: NDArray[np.float64]
    h2: NDArray[np.float64]
    total: NDArray[np.float64]


def cross_validate(
    model: NullModel,
    operator: GenotypeOperator,
    fold: NDArray[np.int64],
    *,
    refit: bool = False,
    tolerance: float = 5e-3,
    memory_bytes: int = 2**31,
) -> CrossValidation:
    """Predict every fold from the others and compare with what was observed.

    Parameters
    ----------
    model
        Fitted on everybody.
    operator
        K of the model's variants and samples.
    fold
        (N,) fold of each person of the model's cohort, see `assign_folds`.
    refit
        Estimate h² anew without each fold; otherwise that of everybody is used, a single number that the people of the
        fold have had a part in.
    tolerance
        Relative residual of the predictors.
    memory_bytes
        Traits are taken in batches that fit.

    Raises
    ------
    TraitError
        When a trait is observed in too few samples outside some fold.

    Notes
    -----
    **Cost**: with h² given, 5 to 15 passes with T·F columns, and one for the predictions; refitting costs a fit with
    T·F traits and F·(patterns of missing values) spectra. Frequencies of alleles are those of everybody.
    """
    cohort = model.cohort()
    n_folds = int(fold.max()) + 1
    batch = max(1, int(memory_bytes // (_BLOCKS_HELD * 4 * cohort.n_samples * n_folds)))
    predicted = np.full((cohort.n_samples, cohort.n_traits), np.nan)
    rows: list[dict[str, float | str | int]] = []
    pairs: list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]] = []
    for start in range(0, cohort.n_traits, batch):
        traits = range(start, min(start + batch, cohort.n_traits))
        masked = masked_cohort(cohort, traits, fold)
        trained = _refitted(model, operator, masked) if refit else _solved(model, operator, masked, traits, tolerance)
        genetic = relatedness_products(operator, trained.x) * (trained.h2 * trained.total)
        for position, t in enumerate(traits):
            columns = range(position * n_folds, (position + 1) * n_folds)
            rest = np.full(cohort.n_samples, np.nan)
            for f, j in enumerate(columns):
                inside = fold == f
                predicted[inside, t] = genetic[inside, j]
                fixed = _fixed(
                    cohort, masked.y[:, j], genetic[:, j] + (1 - trained.h2[j]) * trained.total[j] * trained.x[:, j]
                )
                rest[inside] = cohort.y[inside, t] - fixed[inside]
                score = _score([(predicted[inside, t], rest[inside])])
                rows.append({"trait": cohort.trait_names[t], "fold": f + 1, **score, "h2": float(trained.h2[j])})
            pairs.append((predicted[:, t], rest, fold))
    folds = pd.DataFrame(rows)
    accuracy = _pooled(cohort.trait_names, pairs, folds)
    return CrossValidation(accuracy, folds, predicted, fold)


def masked_cohort(cohort: Cohort, traits: Sequence[int], fold: NDArray[np.int64]) -> Cohort:
    """Return a cohort in which every trait occurs once a fold, missing there: columns (trait, fold), traits in runs.

    Raises
    ------
    TraitError
        When too few are left.
    """
    n_folds = int(fold.max()) + 1
    y = np.repeat(cohort.y[:, list(traits)], n_folds, axis=1)
    for j in range(y.shape[1]):
        y[fold == j % n_folds, j] = np.nan
    names = tuple(f"{cohort.trait_names[t]} without fold {f + 1}" for t in traits for f in range(n_folds))
    empty = [name for name, column in zip(names, y.T, strict=True) if np.isnan(column).all()]
    if empty:
        raise TraitError(f"Nobody has a value of {empty[0]}: use fewer folds or leave the trait out.")
    classes, class_of_trait = build_classes(y, cohort.covariate_names, cohort.covariates)
    check_traits_left(names, y, classes, class_of_trait)
    return replace(cohort, trait_names=names, y=y, classes=classes, class_of_trait=class_of_trait)


def _refitted(model: NullModel, operator: GenotypeOperator, masked: Cohort) -> _Trained:
    """Fit every column as a trait of its own."""
    settings = {**model.settings, "loco": False, "fixed_h2": None}
    config = FitConfig(**{**settings, "spectrum": SpectrumConfig(**settings["spectrum"])})
    fitted = fit_null_model(operator, masked, config)
    fitted = replace(fitted, loco=solve_predictors(operator, fitted, loco=False, tolerance=config.loco_tolerance))
    variances = variance_components(fitted)
    total = variances.genetic + variances.residual
    return _Trained(whole_genome_predictors(fitted), fitted.dataset["h2"].values.astype(np.float64), total)


@dataclass(frozen=True)
class _MaskedSystems:
    """`H_j = h²_j P_j K P_j + (1−h²_j) P_j` of the columns, which lie in runs of one restriction."""

    operator: GenotypeOperator
    restrictions: Sequence[Restriction]
    owner: NDArray[np.int64]
    h2: NDArray[np.float64]
    spectrum: Spectrum

    def products(self, X: NDArray[np.float32], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return `H_j x_j` for some of the columns: one pass."""
        product = self._restricted(columns)(X)
        h2 = self.h2[columns].astype(np.float32)
        return np.asarray(h2 * product + (1 - h2) * X, dtype=np.float32)

    def precondition(self, X: NDArray[np.float32], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return an approximate inverse: the whole cohort's eigenvectors, projected, and the mean of the tail."""
        h2, U = self.h2[columns], self.spectrum.pairs.vectors
        tail = h2 * self.spectrum.tail_mean + 1 - h2
        factor = 1 / (h2 * self.spectrum.pairs.values[:, None] + 1 - h2) - 1 / tail
        raw = X / tail.astype(np.float32) + U @ (factor * (U.T @ X)).astype(np.float32)
        return self._restricted(columns).project(np.asarray(raw, dtype=np.float32))

    def _restricted(self, columns: NDArray[np.intp]) -> RestrictedOperator:
        runs = [(owner, len(list(run))) for owner, run in groupby(self.owner[columns].tolist())]
        restrictions = [self.restrictions[owner] for owner, _ in runs]
        return RestrictedOperator(self.operator.matmat, restrictions, [count for _, count in runs])


def _solved(
    model: NullModel, operator: GenotypeOperator, masked: Cohort, traits: Sequence[int], tolerance: float
) -> _Trained:
    """Solve every column at the heritability of the whole cohort."""
    n_folds = masked.n_traits // len(traits)
    h2 = np.repeat(model.dataset["h2"].values[list(traits)].astype(np.float64), n_folds)
    order = np.argsort(masked.class_of_trait, kind="stable")  # columns of one restriction side by side
    restrictions = [Restriction(part.observed, part.basis) for part in masked.classes]
    systems = _MaskedSystems(operator, restrictions, masked.class_of_trait[order], h2[order], model.spectrum(0))
    right = np.empty((masked.n_samples, masked.n_traits), np.float32)
    ranks = np.empty(masked.n_traits)
    for column, j in enumerate(order):
        restriction = restrictions[masked.class_of_trait[j]]
        right[:, column] = restriction.project(np.nan_to_num(masked.y[:, [j]]))[:, 0]
        ranks[column] = restriction.rank
    norms = np.sqrt(column_dots(right, right))
    solution = solve_pcg(
        systems.products,
        np.zeros_like(right),
        right.copy(),
        systems.precondition,
        right_norms=norms,
        tolerance=tolerance,
    )
    if not solution.converged.all():
        log.warning(
            "%d of %d predictors of the cross-validation did not converge; the worst has relative residual %.1e.",
            int((~solution.converged).sum()), len(order), solution.relative_residual.max(),
        )  # fmt: skip
    total = column_dots(right, solution.x) / ranks
    back = np.argsort(order)
    return _Trained((solution.x / total)[:, back].astype(np.float64), h2, total[back])


def _fixed(cohort: Cohort, y: NDArray[np.float64], explained: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return X β̂ of everybody, β̂ from the people observed: `X β̂ = y − ĝ − σ²_e x`."""
    design = np.column_stack([np.ones(cohort.n_samples), cohort.covariates])
    observed = ~np.isnan(y)
    beta = np.linalg.lstsq(design[observed], (y - explained)[observed], rcond=None)[0]
    return np.asarray(design @ beta)


def _score(parts: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> dict[str, float]:
    """Compare predictions with observations, each part about its own means.

    SE of r² by the delta method, 2|r|(1 − r²)/√(n − F − 1); of the slope as least squares has it.
    """
    centred = []
    for predicted, rest in parts:
        seen = ~np.isnan(rest)
        p, y = predicted[seen], rest[seen]
        if len(p):
            centred.append((p - p.mean(), y - y.mean()))
    p = np.concatenate([np.zeros(0), *(a for a, _ in centred)])
    y = np.concatenate([np.zeros(0), *(b for _, b in centred)])
    pp, yy, py = float(p @ p), float(y @ y), float(p @ y)
    spare = len(p) - len(centred) - 1
    if spare < 1 or pp <= 0 or yy <= 0:
        nan = float("nan")
        return {"n": len(p), "r": nan, "r2": nan, "r2_se": nan, "slope": nan, "slope_se": nan}
    r = py / np.sqrt(pp * yy)
    slope = py / pp
    slope_se = np.sqrt(max(yy - slope * py, 0.0) / spare / pp)
    return {
        "n": len(p),
        "r": r,
        "r2": r * r,
        "r2_se": 2 * abs(r) * (1 - r * r) / np.sqrt(spare),
        "slope": slope,
        "slope_se": slope_se,
    }


def _pooled(
    names: Sequence[str], pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]],
    folds: pd.DataFrame,
) -> pd.DataFrame:  # fmt: skip
    rows = []
    for name, (predicted, rest, fold) in zip(names, pairs, strict=True):
        score = _score([(predicted[fold == f], rest[fold == f]) for f in range(int(fold.max()) + 1)])
        h2 = float(folds.loc[folds["trait"] == name, "h2"].mean())
        rows.append({"trait": name, **score, "h2": h2, "reliability": score["r2"] / h2 if h2 > 0 else float("nan")})
    return pd.DataFrame(rows)
