"""The stages of an analysis; each is recognised when it is finished, and then only opened."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from biolmm.association.classes import CLASSES
from biolmm.association.gamma import GammaEstimate
from biolmm.association.leads import find_leads, patch_leads, recompute_leads
from biolmm.association.run import run_scan
from biolmm.association.setup import ScanSetup, prepare_scan
from biolmm.errors import ParameterError, named
from biolmm.genotypes.parts import ScanSummary
from biolmm.linalg.probes import row_keys
from biolmm.loco import solve_predictors
from biolmm.pipeline.analysis import Analysis
from biolmm.pipeline.calibration import calibrate_scan
from biolmm.reml.fit import fit_null_model, whole_restriction
from biolmm.reml.model import LOCO_NAME, MODEL_FOLDER, NULL_NAME, NullModel
from biolmm.reml.spectrum import principal_components
from biolmm.results.paths import quote_name
from biolmm.results.record import RunRecord
from biolmm.results.ssf import write_ssf
from biolmm.results.tables import write_result_table
from biolmm.schema import LEAD_COLUMNS
from biolmm.stages import content_hash
from biolmm.store.arrays import open_dataset, save_dataset
from biolmm.store.checkpoint import checkpointed
from biolmm.store.collection import Collection
from biolmm.store.convert import check_unchanged

log = logging.getLogger(__name__)


@contextmanager
def resumable(analysis: Analysis, stage: str, key: str) -> Iterator[None]:
    """Keep the long passes of a stage while it runs, so that the same stage after a kill takes them up."""
    folder = analysis.stages.root / f"{stage}.checkpoint"
    with checkpointed(folder, key) as checkpoint, analysis.operator.resuming(checkpoint):
        yield


def add_components(analysis: Analysis) -> None:
    """Compute the principal components that were asked for and append them to the covariates."""
    config, cohort = analysis.config, analysis.cohort
    if config.n_pcs == 0:
        return
    whole = whole_restriction(cohort)
    names = [f"PC{i + 1}" for i in range(config.n_pcs)]
    operator = analysis.operator
    key = content_hash(operator.source.reader.key, cohort.covariates.tobytes(), config.n_pcs, operator.arithmetic.name)
    with analysis.stage("principal components") as cost:

        def build(path: Path) -> None:
            keys = row_keys(cohort.sample_id.tolist())
            pairs = principal_components(operator, keys, whole, config.n_pcs, config.fit.spectrum.seed)
            variables = {
                "vectors": (("samples", "components"), pairs.vectors),
                "residuals": ("components", pairs.residuals),
            }
            save_dataset(xr.Dataset(variables), path)

        path, cost["resumed"] = analysis.stages.run("pcs.zarr", key, build)
        components = open_dataset(path).load()
        if components["residuals"].values.max() > 0.1:
            log.warning(
                "the last principal components are not settled (relative residual %.2f): ask for fewer with --pcs.",
                components["residuals"].values.max(),
            )
        vectors = components["vectors"].values
        table = pd.DataFrame(vectors, columns=names)
        table.insert(0, "sample_id", cohort.sample_id.tolist())
        write_result_table(config.out, "pcs", table)
        analysis.cohort = cohort.with_covariates(names, vectors)


def fit_model(analysis: Analysis) -> NullModel:
    """Fit the null model and its predictors, or open them where they are finished."""
    config, stages = analysis.config, analysis.stages
    with analysis.stage("fit") as cost:

        def build_null(path: Path) -> None:
            with resumable(analysis, "fit", analysis.key):
                model = fit_null_model(analysis.operator, analysis.cohort, config.fit, analysis.known)
                save_dataset(model.dataset, path)

        _, cost["resumed"] = stages.run(NULL_NAME, analysis.key, build_null)
        null = NullModel(open_dataset(stages.root / NULL_NAME).load())
        write_model_tables(config.out, null)
    with analysis.stage("loco" if config.fit.loco else "whole-genome predictor") as cost:

        def build_loco(path: Path) -> None:
            with resumable(analysis, "loco", analysis.loco_key):
                predictors = solve_predictors(
                    analysis.operator,
                    null,
                    loco=config.fit.loco,
                    tolerance=config.fit.loco_tolerance,
                    memory_bytes=analysis.batch_bytes,
                )
                save_dataset(predictors, path)

        _, cost["resumed"] = stages.run(LOCO_NAME, analysis.loco_key, build_loco)
        model = replace(null, loco=open_dataset(stages.root / LOCO_NAME))
    write_model_tables(config.out, model)
    data = model.dataset
    analysis.record.traits = {
        name: {
            "n": int(model.n_observed[t]),
            "solver": model.settings["solver"],
            "n_probes": int(data["n_probes_used"].values[t]),
            "lanczos_steps": int(data["n_steps"].values[t]),
        }
        for t, name in enumerate(model.trait_names)
    }
    return model


def copy_components(model: NullModel, out: Path) -> None:
    """Take over the `pcs.tsv` that was written with the model, which holds the components that it was fitted with."""
    source = None if model.folder is None else model.folder.parent / "pcs.tsv"
    if source is not None and source.exists() and not (out / "pcs.tsv").exists():
        shutil.copyfile(source, out / "pcs.tsv")


def write_model_tables(out: Path, model: NullModel) -> None:
    """Write `h2.tsv`, `eigen.tsv`, `pcs.tsv` and, once the predictors are solved, `loco.tsv`."""
    write_result_table(out, "h2", model.h2)
    pairs = model.spectrum(0).pairs
    eigen = {"component": np.arange(1, len(pairs.values) + 1), "eigenvalue": pairs.values, "residual": pairs.residuals}
    write_result_table(out, "eigen", pd.DataFrame(eigen))
    if not (out / "pcs.tsv").exists():
        write_result_table(out, "pcs", model.pcs.reset_index())
    if model.loco is not None:
        loco = model.loco[["iterations", "relative_residual", "converged"]].load()
        tables = [
            pd.DataFrame({"trait": trait, "contig": loco["contig"].values.tolist()}).assign(
                **{str(name): loco[name].values[:, t] for name in loco}
            )
            for t, trait in enumerate(model.trait_names)
        ]
        write_result_table(out, "loco", pd.concat(tables))


def prepare_scan_stage(analysis: Analysis, model: NullModel) -> ScanSetup:
    """Estimate γ, or read it where it is finished."""
    config = analysis.config
    scan = replace(config.scan, mixed=config.method != "linear-only", linear=config.method != "mixed")
    operator = analysis.operator if scan.mixed else None
    if not scan.mixed or model.settings["solver"] == "exact":
        return prepare_scan(analysis.scanned, model, operator, scan)
    given = None if config.known_gamma is None else known_gamma(config.known_gamma, model)
    with analysis.stage("gamma") as cost:
        known: list[ScanSetup] = []

        def build(path: Path) -> None:
            with resumable(analysis, "gamma", analysis.scan_key):
                setup = prepare_scan(analysis.scanned, model, operator, scan, given)
            if setup.gamma is None:
                raise ValueError("the stochastic solver needs γ")
            known.append(setup)
            save_dataset(gamma_dataset(setup.gamma), path)

        path, cost["resumed"] = analysis.stages.run("gamma.zarr", analysis.scan_key, build)
        gamma = gamma_estimate(open_dataset(path).load())
        write_result_table(config.out, "gamma", gamma.table)
        return known[0] if known else prepare_scan(analysis.scanned, model, operator, scan, gamma)


def gamma_dataset(gamma: GammaEstimate) -> xr.Dataset:
    """Return the estimate as a Dataset that can be saved."""
    table = {f"table_{name}": ("rows", gamma.table[name].to_numpy()) for name in gamma.table}
    return xr.Dataset({"gamma": (("traits", "maf_classes"), gamma.gamma), **table})


def gamma_estimate(dataset: xr.Dataset) -> GammaEstimate:
    """Return the estimate that `gamma_dataset` wrote down."""
    names = [str(name) for name in dataset if str(name).startswith("table_")]
    table = pd.DataFrame({name.removeprefix("table_"): dataset[name].values for name in names})
    gamma = dataset["gamma"].values  # in older results by allele frequency alone
    gamma = np.tile(gamma, (1, len(CLASSES) // gamma.shape[1]))
    return GammaEstimate(gamma, table[["trait", "maf_class", "n_variants", "gamma", "gamma_se"]])


def known_gamma(results: Path, model: NullModel) -> GammaEstimate:
    """Read the γ of earlier results.

    Raises
    ------
    ParameterError
        When there is none for the traits of the model.
    """
    path = results / MODEL_FOLDER / "gamma.zarr"
    found = gamma_estimate(open_dataset(path).load()) if path.is_dir() else None
    if found is None or list(dict.fromkeys(found.table["trait"])) != model.trait_names:
        raise ParameterError(f"'{results}' has no γ of {named(model.trait_names)}: measure it, without known_gamma.")
    return found


def scan_stage(analysis: Analysis, setup: ScanSetup) -> ScanSummary:
    """Scan, find the leads and recompute them."""
    config, stages = analysis.config, analysis.stages
    markers = stages.root / f"scan-{analysis.scan_key}"
    with analysis.stage("scan") as cost:
        summary = run_scan(setup, config.out, markers)
        if isinstance(analysis.scanned.store, Collection):
            check_unchanged(analysis.scanned.store)
        cost["resumed"] = summary.n_resumed == summary.n_parts
        cost["passes"] = 0 if cost["resumed"] else 1
        cost["read_bytes"] = analysis.scanned.n_bytes * cost["passes"]
    analysis.record.counts["variants"] = {
        "genotypes": analysis.scanned.store.n_variants,
        "model": analysis.operator.n_variants,
        "scanned": summary.n_variants,
        "monomorphic": summary.n_monomorphic,
    }
    filters = asdict(config.scan.filters)
    for option, count in summary.removed.items():
        threshold = filters[option.removeprefix("--").replace("-", "_")]
        analysis.record.add_dropped("variants", f"{option} {threshold:g}", [], n=count)
    for trait, count in summary.n_without_statistics.items():
        analysis.record.add_dropped("variants", f"no statistics for {trait}: no variation left", [], n=count)
    with analysis.stage("leads") as cost:

        def build(path: Path) -> None:
            leads = find_leads(setup, config.out)
            if config.scan.exact_leads:
                leads = recompute_leads(setup, leads)
            leads.to_parquet(path)

        path, cost["resumed"] = stages.run("leads.parquet", analysis.scan_key, build)
        leads = pd.read_parquet(path)
        if not leads.empty and config.scan.exact_leads and setup.gamma is not None:
            patch_leads(leads, config.out)
        write_result_table(config.out, "leads", leads.reindex(columns=list(LEAD_COLUMNS)))
    return summary


def finish(analysis: Analysis) -> RunRecord:
    """Write the record, the GWAS-SSF files and the regression on LD scores where they are wanted, and the report."""
    config, record = analysis.config, analysis.record
    record.write(config.out, finished=False)
    if config.ssf:
        with analysis.stage("ssf"):
            (config.out / "ssf").mkdir(exist_ok=True)
            for trait in analysis.cohort.trait_names:
                write_ssf(config.out, trait, config.out / "ssf" / f"{quote_name(trait)}.tsv.gz")
    if config.ld_scores is not None:
        with analysis.stage("LD score regression"):
            calibrate_scan(config.out, config.ld_scores)
    record.write(config.out)
    if config.report:
        with analysis.stage("report"):
            from biolmm.report import write_report  # matplotlib is slow to import and only wanted here

            write_report(config.out)
    record.write(config.out)
    return record
