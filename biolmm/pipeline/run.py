"""Whole analyses, stage by stage into a folder; the same call after a kill continues."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from biolmm.chunks import threads
from biolmm.errors import ParameterError
from biolmm.files.ldscore_files import read_ld_scores
from biolmm.mirror import mirrored
from biolmm.pipeline.analysis import prepare, prepare_from_model, start_record, warnings_in
from biolmm.pipeline.config import EXACT_METHODS, AnalysisConfig
from biolmm.pipeline.exact import check_exact, claim_sets, exact_stages, set_stage
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
from biolmm.reml.model import NullModel
from biolmm.results.record import RunRecord


def run_gwas(config: AnalysisConfig, *, overwrite: bool = False) -> RunRecord:
    """Convert, fit, solve, scan and report; the same call after a kill continues.

    Raises
    ------
    UserError
        For every mistake in the inputs, before anything is computed.
    """
    if config.method in EXACT_METHODS:
        check_exact(config)
    with _running(config) as (config, record):
        analysis = prepare(config, record, overwrite=overwrite)
        add_components(analysis)
        if config.method in EXACT_METHODS:
            exact_stages(analysis)
            return finish(analysis)
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
    with _running(config) as (config, record):
        analysis = prepare(config, record, overwrite=overwrite)
        add_components(analysis)
        fit_model(analysis)
        record.write(config.out)
        return record


def run_sets(config: AnalysisConfig, set_file: Path, *, overwrite: bool = False) -> RunRecord:
    """Test sets of variants as fixed effects of the exact model and write `sets.tsv`; `config.method` is `exact`.

    Raises
    ------
    UserError
        For every mistake in the inputs.
    """
    check_exact(config)
    with _running(config) as (config, record):
        analysis = prepare(config, record, overwrite=overwrite)
        claimed = claim_sets(analysis, set_file)
        add_components(analysis)
        set_stage(analysis, claimed)
        record.write(config.out)
        return record


def run_scan_only(
    config: AnalysisConfig, model_folder: Path, *, loco: bool | None = None, overwrite: bool = False
) -> RunRecord:
    """Scan genotypes with a model that was fitted before, with its left-out predictors or, on request, without."""
    if config.method in EXACT_METHODS:
        raise ParameterError("the exact model keeps no predictors to scan with: use `biolmm gwas --method exact`.")
    refuse_inside(config.out, model_folder)
    with mirrored(model_folder, config.resources.scratch) as folder:
        config, model = open_fitted(config, folder, loco)
        with _running(config) as (config, record):
            return _scan_with(config, model, record, overwrite=overwrite)


def _scan_with(config: AnalysisConfig, model: NullModel, record: RunRecord, *, overwrite: bool) -> RunRecord:
    analysis = prepare_from_model(config, record, model, overwrite=overwrite)
    copy_components(model, config.out)
    write_model_tables(config.out, model)
    setup = prepare_scan_stage(analysis, model)
    scan_stage(analysis, setup)
    return finish(analysis)


@contextmanager
def _running(config: AnalysisConfig) -> Iterator[tuple[AnalysisConfig, RunRecord]]:
    """Give the configuration with local folders, kept in step with those on object stores, and the record of the run."""
    with ExitStack() as stack:
        if config.known_model:
            config = replace(config, known_model=stack.enter_context(mirrored(config.known_model)))
        out = stack.enter_context(mirrored(config.out, config.resources.scratch))
        config = replace(config, out=out)
        record = start_record(config)
        if config.ld_scores is not None:
            read_ld_scores(config.ld_scores).counts()  # damaged ones are refused before the work, not after it
        stack.enter_context(threads(config.resources.threads))
        stack.enter_context(warnings_in(record))
        yield config, record
