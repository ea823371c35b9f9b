"""Best linear unbiased predictions: people's genetic values and the effects of variants, from a fitted model.

Legend: N samples, M variants, T traits; Z (M, N) standardised genotypes, K = ZᵀZ / m; x = V⁻¹ P y.

    ĝ = σ²_g K x,      effects on z: b̂ = σ²_g Z x / m,      ĝ = Zᵀ b̂                  (Henderson 1975; VanRaden 2008)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.errors import ParameterError
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.products import sample_products, variant_products
from biolmm.genotypes.scaling import Scaling
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.genotypes.standardised import StandardisedGenotypes, standardise
from biolmm.genotypes.weights import VariantWeights, table_of
from biolmm.loco.predictors import ALL_CONTIGS
from biolmm.reml.model import NullModel
from biolmm.store.data import GenotypeData

INTERCEPT = "intercept"


@dataclass(frozen=True, eq=False)
class Blup:
    """Predictions of every trait of a model.

    Attributes
    ----------
    weights
        Effects of one copy of ALT, (M, T), in units of the analysed traits; `extra["offset"]` is Σ 2f β̂, which is
        taken off the sum of β̂ times dosages.
    genetic_values
        (N, T) ĝ of everyone in the cohort, whether or not the trait is observed.
    fixed_effects
        (T, C) of the intercept and of each covariate as the model has it (mean 0 and variance 1 over the cohort).
    """

    weights: VariantWeights
    genetic_values: NDArray[np.float64]
    fixed_effects: pd.DataFrame


def model_genotypes(model: NullModel, data: GenotypeData, cache_bytes: int = 0) -> StandardisedGenotypes:
    """Return Z as the model was fitted on it, from its own genotypes.

    Notes
    -----
    **Cost**: one quick pass that counts.
    """
    variants = model.dataset["model_variant_index"].values.astype(np.int64)
    source = ChosenGenotypes.choose(data, model.cohort().sample_index, variants, cache_bytes)
    settings = model.settings
    return standardise(source, settings["alpha"], settings["scale"])


def blup(model: NullModel, genotypes: StandardisedGenotypes) -> Blup:
    """Predict genetic values and the effects of variants of all traits.

    Parameters
    ----------
    model
        With its predictors: the one that leaves nothing out is used, so that the model may be fitted with or without
        leaving contigs out.
    genotypes
        From `model_genotypes`.

    Raises
    ------
    ParameterError
        When the model has no predictors.

    Notes
    -----
    **Cost**: two passes of one product, 4·N·M·T flop. The predictors of the stochastic solver have a relative
    residual of `--loco-tolerance` (0.005), and so has everything here.
    """
    x = whole_genome_predictors(model)
    variances = variance_components(model)
    Zx = variant_products(genotypes, x).astype(np.float64)
    m = float(genotypes.scaling.weight.sum())
    effects = Zx * (variances.genetic / m)
    values = sample_products(genotypes, effects)
    return Blup(_weights(model, genotypes, effects), values, fixed_effects(model, values, x))


@dataclass(frozen=True)
class Variances:
    """Variance components of every trait, each (T,)."""

    genetic: NDArray[np.float64]
    residual: NDArray[np.float64]


def variance_components(model: NullModel) -> Variances:
    """Return σ²_g and σ²_e of every trait, in squared units of the trait: shares of the predictors' total variance."""
    if model.loco is None:
        raise ParameterError("the model has no predictors: run `biolmm fit` to its end.")
    h2 = model.dataset["h2"].values.astype(np.float64)
    total = model.loco["total_variance"].values[_last(model)]
    return Variances(h2 * total, (1 - h2) * total)


def whole_genome_predictors(model: NullModel) -> NDArray[np.float64]:
    """Return V⁻¹ P y of every trait with nothing left out, (N, T)."""
    if model.loco is None:
        raise ParameterError("the model has no predictors: run `biolmm fit` to its end.")
    return np.asarray(model.loco["predictor"].isel(contigs=_last(model)).values.T, dtype=np.float64)


def fixed_effects(model: NullModel, values: NDArray[np.float64], x: NDArray[np.float64]) -> pd.DataFrame:
    """Return β̂ of every trait: `X β̂ = y − ĝ − σ²_e x` where the trait is observed."""
    cohort, residual = model.cohort(), variance_components(model).residual
    design = np.column_stack([np.ones(cohort.n_samples), cohort.covariates])
    rows = []
    for t in range(cohort.n_traits):
        observed = ~np.isnan(cohort.y[:, t])
        fitted = cohort.y[observed, t] - values[observed, t] - residual[t] * x[observed, t]
        rows.append(np.linalg.lstsq(design[observed], fitted, rcond=None)[0])
    return pd.DataFrame(
        rows, columns=[INTERCEPT, *cohort.covariate_names], index=pd.Index(cohort.trait_names, name="trait")
    )


def _weights(model: NullModel, genotypes: StandardisedGenotypes, effects: NDArray[np.float64]) -> VariantWeights:
    """Return effects on z as effects of a copy of ALT, of the variants that vary."""
    varies = genotypes.scaling.scale != 0
    scaling: Scaling = genotypes.scaling[varies]
    beta = effects[varies] * scaling.scale[:, None]
    frequency = scaling.mean / 2
    extra = {
        "offset": (scaling.mean @ beta).tolist(),
        "h2": model.dataset["h2"].values.tolist(),
        "n": model.n_observed.tolist(),
    }
    table = table_of(genotypes.source.store, genotypes.source.variants[varies])
    return VariantWeights(table, frequency, np.ones(len(beta)), tuple(model.trait_names), beta, "effects", extra)


def _last(model: NullModel) -> int:
    """Find the predictor that leaves nothing out."""
    if model.loco is None:
        raise ParameterError("the model has no predictors: run `biolmm fit` to its end.")
    return [str(name) for name in model.loco["contig"].values].index(ALL_CONTIGS)


def relatedness_products(operator: GenotypeOperator, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `K x` in double precision, (N, r): one pass."""
    return np.asarray(operator.matmat(x.astype(np.float32)), dtype=np.float64)
