"""From tables to a cohort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.cohort.config import CohortConfig
from biolmm.cohort.covariates import Design, build_design, complete_samples, select_covariates
from biolmm.cohort.model import Cohort, build_classes, check_traits_left, independent_covariates
from biolmm.cohort.samples import Selection, all_samples, apply_lists, apply_table
from biolmm.cohort.traits import select_traits, suspect_codes, trait_matrix
from biolmm.cohort.transforms import transform_trait
from biolmm.errors import CovariateError
from biolmm.files.tables import index_by_sample, source_name


def align_cohort(
    store_sample_id: Sequence[str] | NDArray[Any],
    traits: pd.DataFrame,
    covariates: pd.DataFrame | None = None,
    config: CohortConfig | None = None,
    available: NDArray[np.bool_] | None = None,
) -> Cohort:
    """Align traits and covariates with the genotypes by sample id.

    The cohort is everyone in the genotypes with a row in the trait table, every covariate, and leave of the keep and
    remove lists. It does not depend on which traits are analysed or observed, so neither does any trait's result.

    Parameters
    ----------
    store_sample_id
        Ids in the order of the genotypes.
    traits, covariates
        One row a sample: as `read_table` gives them, indexed by id, or with a column `IID` or `sample_id`.
    config
        What to use of them, and how.
    available
        Which samples of the genotypes are in every other set of genotypes that is used; all by default.

    Returns
    -------
    Cohort
        In the order of the genotypes.

    Raises
    ------
    TraitError, CovariateError
        When a column is unknown, not numeric, infinite, all missing, constant, has too many categories, or leaves no
        variation: see `trait_matrix`, `build_design`, `check_traits_left`.
    SampleMismatchError
        When two inputs have no sample in common.
    InputFileError
        When a table repeats an id or has none.

    Notes
    -----
    **Cost**: no pass over genotypes; holds one basis for each distinct set of observed samples.

    Examples
    --------
    >>> traits = pd.DataFrame({"height": [1.7, 1.6, 1.8, 1.75]}, index=["d", "a", "c", "b"])
    >>> cohort = align_cohort(["a", "b", "c", "d", "e"], traits)
    >>> cohort
    Cohort(n_samples=4, n_traits=1, n_classes=1, covariates=[])
    >>> cohort.y[:, 0].tolist()
    [1.6, 1.75, 1.8, 1.7]
    """
    config = config or CohortConfig()
    trait_source = source_name(traits, "the trait table")
    traits = index_by_sample(traits, trait_source)
    trait_names = select_traits(traits, config, trait_source)
    selection = all_samples(store_sample_id)
    if available is not None:
        selection = selection.restrict(available, "not in the genotypes to be scanned")
    selection = apply_lists(selection, config.keep, config.remove)
    selection = apply_table(selection, list(traits.index), trait_source, "traits")
    selection, design, missing = _design(selection, covariates, config)
    names, columns, reasons = independent_covariates(design.names, design.columns)
    raw = trait_matrix(traits.loc[selection.kept_ids, list(trait_names)], trait_names, trait_source)
    classes, class_of_trait = build_classes(raw, names, columns)
    check_traits_left(trait_names, raw, classes, class_of_trait)
    y = raw.copy()
    for trait, index in enumerate(class_of_trait):
        observed = classes[index].observed
        y[observed, trait] = transform_trait(raw[observed, trait], classes[index].basis[observed], config.transform)
    counts = {
        "samples": {**selection.counts, "analysed": len(raw)},
        "dropped": selection.dropped,
        "dropped_covariates": [{"name": name, "why": why} for name, why in reasons.items()],
        "missing_covariates": missing,
        "categories": design.levels,
        "traits": {name: int(n) for name, n in zip(trait_names, (~np.isnan(raw)).sum(axis=0), strict=True)},
        "transform": config.transform,
        "warnings": suspect_codes(trait_names, raw),
    }
    return Cohort(
        sample_index=np.flatnonzero(selection.kept).astype(np.int64),
        sample_id=np.array(selection.kept_ids, dtype=np.str_),
        trait_names=trait_names,
        y=y,
        classes=classes,
        class_of_trait=class_of_trait,
        covariate_names=names,
        covariates=columns,
        counts=counts,
    )


def _design(
    selection: Selection, covariates: pd.DataFrame | None, config: CohortConfig
) -> tuple[Selection, Design, dict[str, int]]:
    """Restrict to samples with every covariate, and expand those; how many samples lacked each one."""
    if covariates is None:
        wanted = (*(config.covariate_names or ()), *config.categorical)
        if wanted:
            raise CovariateError(f"Covariates {', '.join(wanted)} are named but there is no table of covariates.")
        return selection, Design((), np.empty((int(selection.kept.sum()), 0)), {}), {}
    source = source_name(covariates, "the covariate table")
    covariates = index_by_sample(covariates, source)
    kinds = select_covariates(covariates, config, source)
    if not kinds:
        return selection, Design((), np.empty((int(selection.kept.sum()), 0)), {}), {}
    selection = apply_table(selection, list(covariates.index), source, "covariates")
    here = covariates.loc[selection.kept_ids, list(kinds)]
    complete = complete_samples(here, list(kinds), source)
    missing = {name: int(here[name].isna().sum()) for name in kinds if here[name].isna().any()}
    stays = selection.kept.copy()
    stays[selection.kept] = complete
    selection = selection.restrict(stays, "with a missing covariate").count(missing_covariate=int((~complete).sum()))
    return selection, build_design(here[complete], kinds, config, source), missing
