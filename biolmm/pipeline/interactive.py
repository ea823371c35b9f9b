"""`fit` and `scan` for notebooks: Datasets and tables in, a model and a lazy Dataset out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from biolmm.association.lazy import scan_lazily
from biolmm.association.setup import ScanConfig, prepare_scan
from biolmm.chunks import threads
from biolmm.cohort import CohortConfig, align_cohort
from biolmm.errors import ParameterError
from biolmm.genotypes.arithmetic import Arithmetic, arithmetic_of
from biolmm.genotypes.coding import MaleX
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.genotypes.standardised import standardise
from biolmm.loco import solve_predictors
from biolmm.memory import default_budget_bytes
from biolmm.pipeline.config import Inputs
from biolmm.pipeline.genotypes import open_data
from biolmm.pipeline.inputs import match_samples
from biolmm.pipeline.variants import on_autosomes
from biolmm.places import place
from biolmm.reml.fit import FitConfig, fit_null_model
from biolmm.reml.model import NullModel, open_model_store
from biolmm.reml.spectrum import SpectrumConfig
from biolmm.store.collection import Collection
from biolmm.store.data import GenotypeData
from biolmm.store.open import genotype_store
from biolmm.store.read import GenotypeStore

Genotypes = GenotypeStore | Collection | xr.Dataset | Path | str | Sequence[Path | str]
"""A store, what `open_store` returned, or genotype files of any format."""


def fit(
    store: Genotypes,
    traits: pd.DataFrame,
    covariates: pd.DataFrame | None = None,
    *,
    known: NullModel | None = None,
    precision: str = "auto",
    device: str | None = None,
    n_threads: int | None = None,
    **options: Any,
) -> NullModel:
    """Fit the null model of every trait and its left-out predictors.

    Parameters
    ----------
    store
        A store: a path, or what `open_store` returned; or genotype files, which are then read for every pass that does not
        fit in memory: convert what you analyse more than once.
    traits, covariates
        Tables indexed by sample id (or with a column `IID` or `sample_id`); samples are matched by id.
    known
        A model of the same samples and covariates: its spectra are reused for the new traits.
    precision, device
        Of products with the relatedness matrix: `float32`, `int8`, or by default what is fastest on this processor; and
        where PyTorch computes them.
    n_threads
        Threads; every available processor by default.
    **options
        Fields of `FitConfig` (`solver`, `loco`, `alpha`, `scale`, `loco_tolerance`, `fixed_h2`), of `SpectrumConfig`
        (`n_pairs`, `seed`) and of `CohortConfig` (`trait_names`, `covariate_names`, `categorical`, `keep`, `remove`,
        `transform`).

    Returns
    -------
    NullModel
        `model.h2` is the table of heritabilities; `model.dataset` holds everything.

    Raises
    ------
    UserError
        For every mistake in the inputs, before anything is computed.

    Notes
    -----
    Cost: see `fit_null_model` and `solve_predictors`. Up to half of the available memory holds packed genotypes.
    """
    cohort_config, fit_config = _split(options)
    opened = _opened(store)
    cohort = align_cohort(opened.sample_id, traits, covariates, cohort_config)
    with threads(n_threads):
        arithmetic = arithmetic_of(precision, device)
        autosomes = np.flatnonzero(on_autosomes(opened))
        operator = _operator(opened, cohort.sample_index, autosomes, fit_config.alpha, fit_config.scale, arithmetic)
        model = fit_null_model(operator, cohort, fit_config, known)
        predictors = solve_predictors(operator, model, loco=fit_config.loco, tolerance=fit_config.loco_tolerance)
    return replace(model, loco=predictors)


def scan(
    store: Genotypes,
    model: NullModel,
    *,
    linear: bool = False,
    male_x: MaleX = "0/2",
    build: str | None = None,
    precision: str = "auto",
    device: str | None = None,
    n_threads: int | None = None,
) -> xr.Dataset:
    """Test every variant of a store against every trait of a fitted model.

    Parameters
    ----------
    store
        Genotypes that hold every sample of the model, in any order: a store, or files of any format.
    model
        From `fit` or `open_model`.
    linear
        Run the plain regression beside the mixed model.
    male_x, build
        How males count on X, and the reference build, which says where X is pseudo-autosomal.
    precision, device
        As `fit`.
    n_threads
        Threads used to estimate γ; computing the Dataset uses Dask's own.

    Returns
    -------
    xr.Dataset
        (variants, traits), lazy: `beta`, `standard_error`, `chisq`, `neg_log_10_p_value`, `effect_allele_frequency`.
        Denominators carry the approximation of the scan (about 1.5 %); `biolmm gwas` recomputes lead variants
        exactly.

    Examples
    --------
    A whole analysis in Python::

        store = biolmm.open_store("cohort.zarr")
        model = biolmm.fit(store, traits=table[["height", "bmi"]], covariates=covariates)
        hits = biolmm.scan(store, model)
        hits.biolmm.manhattan("height")
    """
    if model.loco is None:
        raise ParameterError("the model has no predictors: fit it with biolmm.fit.")
    opened = _opened(store)
    own = open_model_store(model, opened)
    cohort = model.cohort()
    settings = model.settings
    with threads(n_threads):
        variants = model.dataset["model_variant_index"].values
        arithmetic = arithmetic_of(precision, device)
        operator = _operator(own, cohort.sample_index, variants, settings["alpha"], settings["scale"], arithmetic)
        source = operator.source
        if opened.fingerprint != own.fingerprint or len(variants) != own.n_variants:
            index = match_samples(opened.sample_id.tolist(), cohort, opened.path)
            source = ChosenGenotypes.choose(opened, index, male_x=male_x, build=build)
        setup = prepare_scan(source, model, operator, ScanConfig(linear=linear))
    return scan_lazily(setup)


def _opened(given: Genotypes) -> GenotypeData:
    """Open what was given."""
    if isinstance(given, GenotypeStore | Collection):
        return given
    if isinstance(given, xr.Dataset):
        return genotype_store(given)
    paths = [given] if isinstance(given, str | Path) else list(given)
    return open_data([place(path) for path in paths], Inputs(genotypes=()))


def _operator(
    store: GenotypeData,
    samples: np.ndarray[Any, Any],
    variants: np.ndarray[Any, Any],
    alpha: float,
    scale: Any,
    arithmetic: Arithmetic,
) -> GenotypeOperator:
    source = ChosenGenotypes.choose(store, samples, variants, cache_bytes=default_budget_bytes() * 2 // 3)
    return GenotypeOperator(standardise(source, alpha, scale), arithmetic=arithmetic)


def _split(options: dict[str, Any]) -> tuple[CohortConfig, FitConfig]:
    """Sort keyword options into the configurations that have them."""
    of_cohort, of_fit, of_spectrum = (
        set(config.__dataclass_fields__) for config in (CohortConfig, FitConfig, SpectrumConfig)
    )
    known = (of_cohort | of_fit | of_spectrum) - {"spectrum"}
    unknown = set(options) - known
    if unknown:
        raise ParameterError(f"unknown options {', '.join(sorted(unknown))}: choose from {', '.join(sorted(known))}.")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    spectrum = SpectrumConfig(**{k: v for k, v in values.items() if k in of_spectrum})
    return (
        CohortConfig(**{k: v for k, v in values.items() if k in of_cohort}),
        FitConfig(**{k: v for k, v in values.items() if k in of_fit}, spectrum=spectrum),
    )
