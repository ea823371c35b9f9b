"""From tables and lists to a cohort, and from a folder to a fitted model, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.cohort import Cohort, align_cohort
from biolmm.errors import (
    OutputError,
    ParameterError,
    SampleMismatchError,
    named,
)
from biolmm.files.lists import read_id_list
from biolmm.files.tables import read_table
from biolmm.pipeline.config import AnalysisConfig, Inputs
from biolmm.pipeline.genotypes import AnalysisGenotypes
from biolmm.pipeline.matrix import GivenMatrix
from biolmm.reml.fit import FitConfig
from biolmm.reml.model import MODEL_FOLDER, NullModel, open_model
from biolmm.reml.spectrum import SpectrumConfig


class Tables(NamedTuple):
    """Tables of traits and covariates as they were read, indexed by sample id."""

    traits: pd.DataFrame
    covariates: pd.DataFrame | None


def read_cohort(config: AnalysisConfig, genotypes: AnalysisGenotypes) -> Cohort:
    """Read the tables and lists and align them by sample id with the model's genotypes.

    Samples that are not in the genotypes to be scanned are left out.

    Raises
    ------
    UserError
        When they cannot be read or do not fit, or when more components are asked for than samples can have.
    """
    return align_tables(config, genotypes, read_tables(config.inputs))


def read_tables(inputs: Inputs) -> Tables:
    """Read the tables of traits and covariates.

    Raises
    ------
    UserError
        When there are no traits, or a table cannot be read.
    """
    if inputs.traits is None:
        raise ParameterError("no traits were given: pass --traits with a table of traits.")
    traits = read_table(inputs.traits, missing_value=inputs.missing_value)
    covariates = None
    if inputs.covariates is not None:
        covariates = read_table(inputs.covariates, missing_value=inputs.missing_value, default_name="COVAR")
    return Tables(traits, covariates)


def align_tables(config: AnalysisConfig, genotypes: AnalysisGenotypes, tables: Tables) -> Cohort:
    """Align tables that were read; see `read_cohort`."""
    inputs, (traits, covariates) = config.inputs, tables
    chosen = replace(
        config.cohort,
        keep=read_id_list(inputs.keep) if inputs.keep else config.cohort.keep,
        remove=read_id_list(inputs.remove, may_be_empty=True) if inputs.remove else config.cohort.remove,
    )
    available, why = genotypes.shared_samples(), "not in the genotypes to be scanned"
    if config.grm is not None:
        held = GivenMatrix.open(config.grm, loco=config.fit.loco).holds(genotypes.model.sample_id)
        available = available & held
    cohort = align_cohort(genotypes.model.sample_id, traits, covariates, chosen, available)
    for step in cohort.counts["dropped"] if config.grm is not None else ():
        step["why"] = f"{why}, or not in the matrix of --grm" if step["why"] == why else step["why"]
    spare = cohort.n_samples - 1 - len(cohort.covariate_names)
    if config.n_pcs >= spare:
        raise ParameterError(
            f"{config.n_pcs} principal components were asked for, but {cohort.n_samples:,} samples with "
            f"{len(cohort.covariate_names)} covariates allow at most {max(spare - 1, 0):,}: lower --pcs."
        )
    return cohort


def open_fitted(config: AnalysisConfig, folder: Path, loco: bool | None = None) -> tuple[AnalysisConfig, NullModel]:
    """Open a fitted model to scan with, and take over the settings that it was fitted with.

    Parameters
    ----------
    config
        What is scanned, and where to.
    folder
        The model's.
    loco
        False uses the predictor that leaves nothing out for every contig; None does as the model was fitted.

    Raises
    ------
    ParameterError
        When the model has no predictors, or none that leave contigs out where they are asked for.
    """
    model = open_model(folder)
    if model.loco is None:
        raise ParameterError(f"the model in '{folder}' has no predictors: run `biolmm fit` to its end.")
    if loco and not model.leaves_out:
        raise ParameterError(
            f"the model in '{folder}' was fitted with --no-loco, so no predictor leaves a contig out: scan with --no-loco, "
            "or fit it with --loco."
        )
    if loco is False:
        model = model.without_loco()
    settings = {**model.settings, "loco": model.leaves_out}
    fit = FitConfig(**{**settings, "spectrum": SpectrumConfig(**settings["spectrum"])})
    return replace(config, fit=fit), model


def refuse_inside(out: Path, model_folder: Path) -> None:
    """Refuse results in the folder of the model that they need.

    Raises
    ------
    OutputError
        When the folders are the same.
    """
    used = model_folder.resolve()
    if out.resolve() == (used.parent if used.name == MODEL_FOLDER else used):
        raise OutputError(f"'{out}' holds the model that is used: choose another --out.")


def match_samples(sample_id: Sequence[str], cohort: Cohort, source: Path) -> NDArray[np.int64]:
    """Return where each of the cohort's samples is in another store.

    Raises
    ------
    SampleMismatchError
        When some are not there.
    """
    place = {name: i for i, name in enumerate(sample_id)}
    absent = [name for name in cohort.sample_id.tolist() if name not in place]
    if absent:
        raise SampleMismatchError(
            f"{len(absent):,} of {cohort.n_samples:,} samples of the model are not in '{source}': {named(absent)}. "
            "Scan genotypes that hold every sample of the model, or fit again with --keep."
        )
    return np.array([place[name] for name in cohort.sample_id.tolist()], dtype=np.int64)
