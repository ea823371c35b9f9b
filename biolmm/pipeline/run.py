"""Whole analyses, stage by stage into a folder; the same call after a kill continues."""

from __future__ import annotations

from pathlib import Path

from biolmm.chunks import threads
from biolmm.errors import ParameterError
from biolmm.pipeline.analysis import prepare, prepare_from_model, start_record, warnings_in
from biolmm.pipeline.config import AnalysisConfig
from biolmm.pipeline.inputs import open_fitted, refuse_inside
from biolmm.pipeline.steps import (
    add_components,
    copy_components,
    finish,
    fit_model,
    prepare_scan_stage,
    scan_stage,
    write_model_tables,
)
from biolmm.reml.fit import plain_model
from biolmm.results.record import RunRecord


def run_gwas(config: AnalysisConfig, *, overwrite: bool = False) -> RunRecord:
    """Convert, fit, solve, scan and report; the same call after a kill continues.

    Raises
    ------
    UserError
        For every mistake in the inputs, before anything is computed.
    """
    record = start_record(config)
    with threads(config.resources.threads), warnings_in(record):
        analysis = prepare(config, record, overwrite=overwrite)
        add_components(analysis)
        if config.method == "linear-only":
            model = plain_model(analysis.operator, analysis.cohort)
        else:
            model = fit_model(analysis)
        setup = prepare_scan_stage(analysis, model)
        scan_stage(analysis, setup)
        return finish(analysis)


def run_fit(config: AnalysisConfig, *, overwrite: bool = False) -> RunRecord:
    """Fit the null model with its predictors and write `h2.tsv` and the model."""
    if config.method == "linear-only":
        raise ParameterError("the plain regression has no null model to fit: use `biolmm gwas --method linear-only`.")
    record = start_record(config)
    with threads(config.resources.threads), warnings_in(record):
        analysis = prepare(config, record, overwrite=overwrite)
        add_components(analysis)
        fit_model(analysis)
        record.write(config.out)
        return record


def run_scan_only(
    config: AnalysisConfig, model_folder: Path, *, loco: bool | None = None, overwrite: bool = False
) -> RunRecord:
    """Scan genotypes with a model that was fitted before, with its left-out predictors or, on request, without."""
    refuse_inside(config.out, model_folder)
    config, model = open_fitted(config, model_folder, loco)
    record = start_record(config)
    with threads(config.resources.threads), warnings_in(record):
        analysis = prepare_from_model(config, record, model, overwrite=overwrite)
        copy_components(model, config.out)
        write_model_tables(config.out, model)
        setup = prepare_scan_stage(analysis, model)
        scan_stage(analysis, setup)
        return finish(analysis)
