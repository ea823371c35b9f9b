"""Run an analysis stage by stage into a folder; stages that are finished are recognised and skipped."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from biolmm.association.gamma import GammaEstimate
from biolmm.association.leads import find_leads, patch_leads, recompute_leads
from biolmm.association.run import ScanSummary, run_scan
from biolmm.association.setup import ScanSetup, prepare_scan
from biolmm.atomic import saving, write_json
from biolmm.chunks import threads
from biolmm.cohort import Cohort
from biolmm.errors import OutputError, ParameterError, SampleMismatchError
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import PackedGenotypes
from biolmm.genotypes.standardised import StandardisedGenotypes, standardise
from biolmm.linalg.operators import Restriction
from biolmm.linalg.probes import row_keys
from biolmm.loco import solve_predictors
from biolmm.memory import StagePlan, peak_bytes
from biolmm.pipeline.config import AnalysisConfig
from biolmm.pipeline.inputs import (
    choose_variants,
    match_samples,
    open_fitted,
    open_genotypes,
    read_cohort,
    read_sample_id,
)
from biolmm.pipeline.plan import Shape, plan_analysis, share_memory
from biolmm.reml.fit import fit_null_model, plain_model
from biolmm.reml.model import LOCO_NAME, NULL_NAME, NullModel, open_model
from biolmm.reml.spectrum import principal_components
from biolmm.results.paths import quote_name
from biolmm.results.record import RUN_JSON, RunRecord
from biolmm.results.ssf import write_ssf
from biolmm.results.tables import write_result_table
from biolmm.schema import LEAD_COLUMNS
from biolmm.stages import Stages, content_hash
from biolmm.store.arrays import open_dataset, save_dataset
from biolmm.store.read import GenotypeStore

log = logging.getLogger(__name__)

MODEL_FOLDER = "model"
_OURS = ("associations", "linear", "ssf", MODEL_FOLDER, "h2.tsv", "leads.tsv", "gamma.tsv", "loco.tsv", "eigen.tsv",
         "pcs.tsv", "run.json", "report.html", "analysis.json")  # fmt: skip


@dataclass
class Analysis:
    """One analysis in progress: what is known so far and where it is written."""

    config: AnalysisConfig
    store: GenotypeStore
    cohort: Cohort
    model_genotypes: StandardisedGenotypes
    scan_genotypes: StandardisedGenotypes
    operator: GenotypeOperator
    plans: list[StagePlan]
    record: RunRecord
    batch_bytes: int
    earlier: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Stages of an earlier run of the same analysis: what a stage that is done already cost then."""

    @property
    def stages(self) -> Stages:
        """Finished stages."""
        return Stages(self.config.out / MODEL_FOLDER)

    @property
    def key(self) -> str:
        """Name of everything that the null model depends on."""
        fit = asdict(replace(self.config.fit, loco=True, loco_tolerance=5e-3))
        return content_hash(self.cohort.fingerprint(), self.model_genotypes.source.reader.key, fit, self.config.n_pcs)

    @property
    def loco_key(self) -> str:
        """Name of everything that the predictors depend on."""
        return content_hash(self.key, self.config.fit.loco, self.config.fit.loco_tolerance)

    @property
    def scan_key(self) -> str:
        """Name of everything that the scan depends on."""
        scanned = self.scan_genotypes.source.reader.key
        return content_hash(self.loco_key, scanned, asdict(self.config.scan), self.config.method)

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Time a stage and count its passes; the yielded dict may be given more costs."""
        counter = self.operator.counter
        before = (counter.passes, counter.read_bytes, counter.flop)
        wall, cpu = time.perf_counter(), time.process_time()
        cost: dict[str, Any] = {}
        log.info("%s …", name)
        yield cost
        passes, read, flop = counter.passes, counter.read_bytes, counter.flop
        counted = {"passes": passes - before[0], "read_bytes": read - before[1], "flop": flop - before[2]}
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        spent = {"wall_seconds": wall, "cpu_seconds": cpu, **counted, "peak_bytes": peak_bytes(), **cost}
        if cost.get("resumed") and name in self.earlier:
            spent = {**self.earlier[name], "resumed": True}
        spent.pop("name", None)
        self.record.add_stage(name, **spent)
        self.record.write(self.config.out, finished=False)
        log.info("%s: %s", name, "done before" if cost.get("resumed") else f"{wall:.1f} s, {spent['passes']} passes")


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
        fit_model(prepare(config, record, overwrite=overwrite))
        record.write(config.out)
        return record


def run_scan_only(
    config: AnalysisConfig, model_folder: Path, *, loco: bool | None = None, overwrite: bool = False
) -> RunRecord:
    """Scan genotypes with a model that was fitted before, with its left-out predictors or, on request, without."""
    config, model = open_fitted(config, model_folder, loco)
    record = start_record(config)
    with threads(config.resources.threads), warnings_in(record):
        analysis = prepare_from_model(config, record, model, overwrite=overwrite)
        write_model_tables(config.out, model)
        setup = prepare_scan_stage(analysis, model)
        scan_stage(analysis, setup)
        return finish(analysis)


def prepare(config: AnalysisConfig, record: RunRecord, *, overwrite: bool = False) -> Analysis:
    """Open, read, align and check everything; nothing expensive but the conversion happens here."""
    wall, cpu = time.perf_counter(), time.process_time()
    cohort = read_cohort(config, read_sample_id(config.inputs))  # before hours of conversion
    store, converted = open_genotypes(config.inputs, config.out, overwrite=overwrite)
    if converted:
        record.add_stage("convert", time.perf_counter() - wall, time.process_time() - cpu, peak_bytes=peak_bytes())
    scanned, model = choose_variants(config.inputs, store, record)
    shape = Shape.of(cohort, len(model), len(scanned), len(store.contig_id))
    plans = plan_analysis(config, shape)
    shares = share_memory(config, plans, shape)
    model_genotypes = standardise(
        PackedGenotypes.choose(store, cohort.sample_index, model, shares.cache_bytes),
        config.fit.alpha,
        config.fit.scale,
    )
    same = np.array_equal(scanned, model)
    scan_genotypes = (
        model_genotypes if same else standardise(PackedGenotypes.choose(store, cohort.sample_index, scanned))
    )
    operator = GenotypeOperator(model_genotypes, panel_bytes=shares.panel_bytes)
    analysis = Analysis(
        config, store, cohort, model_genotypes, scan_genotypes, operator, plans, record, shares.batch_bytes
    )
    _record_inputs(analysis)
    _claim(analysis, overwrite=overwrite)
    if config.n_pcs:
        _add_components(analysis)
    return analysis


def prepare_from_model(
    config: AnalysisConfig, record: RunRecord, model: NullModel, *, overwrite: bool = False
) -> Analysis:
    """Set up a scan of `config.inputs.genotypes` for the samples of a fitted model."""
    store, _ = open_genotypes(config.inputs, config.out, overwrite=overwrite)
    own = GenotypeStore.open(model.dataset.attrs["store"])
    if own.fingerprint != model.dataset.attrs["store_fingerprint"]:
        raise SampleMismatchError(
            f"'{own.path}' is not the store that the model was fitted on: it has changed since. Fit the model again."
        )
    cohort = model.cohort()
    scanned, _ = choose_variants(config.inputs, store, record)
    plans = plan_analysis(config, Shape.of(cohort, own.n_variants, len(scanned), len(own.contig_id)))
    shares = share_memory(config, plans, Shape.of(cohort, own.n_variants, len(scanned), len(own.contig_id)))
    chosen = model.dataset["model_variant_index"].values
    settings = model.settings
    model_genotypes = standardise(
        PackedGenotypes.choose(own, cohort.sample_index, chosen, shares.cache_bytes),
        settings["alpha"],
        settings["scale"],
    )
    index = match_samples(store.sample_id.tolist(), cohort, store.path)
    scan_genotypes = standardise(PackedGenotypes.choose(store, index, scanned))
    operator = GenotypeOperator(model_genotypes, panel_bytes=shares.panel_bytes)
    analysis = Analysis(
        config, store, cohort, model_genotypes, scan_genotypes, operator, plans, record, shares.batch_bytes
    )
    _record_inputs(analysis)
    _claim(analysis, overwrite=overwrite)
    return analysis


def fit_model(analysis: Analysis) -> NullModel:
    """Fit the null model and its predictors, or open them where they are finished."""
    config, stages = analysis.config, analysis.stages
    with analysis.stage("fit") as cost:

        def build_null(path: Path) -> None:
            known = open_model(config.known_model) if config.known_model else None
            save_dataset(fit_null_model(analysis.operator, analysis.cohort, config.fit, known).dataset, path)

        _, cost["resumed"] = stages.run(NULL_NAME, analysis.key, build_null)
        null = NullModel(open_dataset(stages.root / NULL_NAME).load())
        write_model_tables(config.out, null)
    with analysis.stage("loco" if config.fit.loco else "whole-genome predictor") as cost:

        def build_loco(path: Path) -> None:
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
        table = loco.to_dataframe().reset_index(drop=True)
        n_contigs, names = loco.sizes["contigs"], model.trait_names
        table["trait"] = np.tile(names, n_contigs)
        table["contig"] = np.repeat([str(c) for c in loco["contig"].values], len(names))
        order = [(t, c) for t in range(len(names)) for c in range(n_contigs)]
        table = table.iloc[[c * len(names) + t for t, c in order]]
        write_result_table(out, "loco", table[["trait", "contig", "iterations", "relative_residual", "converged"]])


def prepare_scan_stage(analysis: Analysis, model: NullModel) -> ScanSetup:
    """Estimate γ, or read it where it is finished."""
    config = analysis.config
    scan = replace(config.scan, mixed=config.method != "linear-only", linear=config.method != "mixed")
    operator = analysis.operator if scan.mixed else None
    if not scan.mixed or model.settings["solver"] == "exact":
        return prepare_scan(analysis.scan_genotypes, model, operator, scan)
    with analysis.stage("gamma") as cost:
        known: list[ScanSetup] = []

        def build(path: Path) -> None:
            setup = prepare_scan(analysis.scan_genotypes, model, operator, scan)
            if setup.gamma is None:
                raise ValueError("the stochastic solver needs γ")
            known.append(setup)
            save_dataset(gamma_dataset(setup.gamma), path)

        path, cost["resumed"] = analysis.stages.run("gamma.zarr", analysis.scan_key, build)
        gamma = gamma_estimate(open_dataset(path).load())
        write_result_table(config.out, "gamma", gamma.table)
        return known[0] if known else prepare_scan(analysis.scan_genotypes, model, operator, scan, gamma)


def gamma_dataset(gamma: GammaEstimate) -> xr.Dataset:
    """Return the estimate as a Dataset that can be saved."""
    table = {f"table_{name}": ("rows", gamma.table[name].to_numpy()) for name in gamma.table}
    return xr.Dataset({"gamma": (("traits", "maf_classes"), gamma.gamma), **table})


def gamma_estimate(dataset: xr.Dataset) -> GammaEstimate:
    """Return the estimate that `gamma_dataset` wrote down."""
    names = [str(name) for name in dataset if str(name).startswith("table_")]
    table = pd.DataFrame({name.removeprefix("table_"): dataset[name].values for name in names})
    return GammaEstimate(dataset["gamma"].values, table[["trait", "maf_class", "n_variants", "gamma", "gamma_se"]])


def scan_stage(analysis: Analysis, setup: ScanSetup) -> ScanSummary:
    """Scan, find the leads and recompute them."""
    config, stages = analysis.config, analysis.stages
    markers = stages.root / f"scan-{analysis.scan_key}"
    with analysis.stage("scan") as cost:
        summary = run_scan(setup, config.out, markers)
        cost["resumed"] = summary.n_resumed == summary.n_parts
        cost["passes"] = 0 if cost["resumed"] else 1
        cost["read_bytes"] = analysis.scan_genotypes.source.packed_bytes * cost["passes"]
    analysis.record.counts["variants"] = {
        "genotypes": analysis.store.n_variants,
        "model": analysis.operator.n_variants,
        "scanned": summary.n_variants,
        "monomorphic": int(np.sum(analysis.scan_genotypes.scaling.scale == 0)),
    }
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
            patch_leads(leads)
        write_result_table(config.out, "leads", leads.reindex(columns=list(LEAD_COLUMNS)))
    return summary


def finish(analysis: Analysis) -> RunRecord:
    """Write the record, the GWAS-SSF files where they are wanted, and the report."""
    config, record = analysis.config, analysis.record
    record.write(config.out, finished=False)
    if config.ssf:
        with analysis.stage("ssf"):
            (config.out / "ssf").mkdir(exist_ok=True)
            for trait in analysis.cohort.trait_names:
                write_ssf(config.out, trait, config.out / "ssf" / f"{quote_name(trait)}.tsv.gz")
    record.write(config.out)
    with analysis.stage("report"):
        from biolmm.report import write_report  # matplotlib is slow to import and only wanted here

        write_report(config.out)
    record.write(config.out)
    return record


@contextmanager
def warnings_in(record: RunRecord) -> Iterator[None]:
    """Write every warning that biolmm logs inside the block into the record too."""

    class _Handler(logging.Handler):
        def emit(self, entry: logging.LogRecord) -> None:
            record.warn(entry.getMessage())

    handler = _Handler(level=logging.WARNING)
    logging.getLogger("biolmm").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("biolmm").removeHandler(handler)


def start_record(config: AnalysisConfig) -> RunRecord:
    """Make sure that the folder can be written to, and begin the record.

    Raises
    ------
    OutputError
        When it cannot.
    """
    with saving(config.out):
        config.out.mkdir(parents=True, exist_ok=True)
        probe = config.out / ".writable"
        probe.write_text("")
        probe.unlink()
    return RunRecord.start(config.command, seed=config.scan.seed, parameters=config.parameters())


def _record_inputs(analysis: Analysis) -> None:
    record, counts = analysis.record, analysis.cohort.counts
    record.add_input("genotypes", analysis.store.path, analysis.store.fingerprint)
    for name, path in analysis.config.inputs.files().items():
        record.add_input(name, path)
    record.counts["samples"] = dict(counts.get("samples", {}))
    record.dropped = [*counts.get("dropped", []), *record.dropped]
    for item in counts.get("dropped_covariates", []):
        record.add_dropped("covariates", item["why"], [item["name"]])
    for message in counts.get("warnings", []):
        record.warn(message)
    record.traits = {
        name: {"n": int(np.sum(~np.isnan(analysis.cohort.y[:, t])))}
        for t, name in enumerate(analysis.cohort.trait_names)
    }


def _claim(analysis: Analysis, *, overwrite: bool) -> None:
    """Make sure that the folder is new, or holds this very analysis, unfinished or finished."""
    out = analysis.config.out
    identity = content_hash(analysis.scan_key)
    path = out / "analysis.json"
    if path.exists():
        try:
            known = json.loads(path.read_text())["identity"]
        except (ValueError, KeyError):
            known = None
        if known == identity:
            analysis.earlier = _earlier_stages(out)
            return
        if not overwrite:
            raise OutputError(
                f"'{out}' holds the results of another analysis (other inputs or options): choose another --out, or pass "
                "--overwrite to replace them."
            )
        for name in _OURS:
            _remove(out / name)
    write_json(path, {"identity": identity, "command": analysis.config.command})


def _earlier_stages(out: Path) -> dict[str, dict[str, Any]]:
    try:
        stages = json.loads((out / RUN_JSON).read_text())["stages"]
    except (OSError, ValueError, KeyError):
        return {}
    return {stage["name"]: stage for stage in stages}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _add_components(analysis: Analysis) -> None:
    """Compute principal components and append them to the covariates."""
    config, cohort = analysis.config, analysis.cohort
    design = np.column_stack([np.ones(cohort.n_samples), cohort.covariates])
    whole = Restriction(np.ones(cohort.n_samples, dtype=bool), np.linalg.qr(design)[0])
    names = [f"PC{i + 1}" for i in range(config.n_pcs)]
    key = content_hash(analysis.model_genotypes.source.reader.key, cohort.covariates.tobytes(), config.n_pcs)
    with analysis.stage("principal components") as cost:

        def build(path: Path) -> None:
            keys = row_keys(cohort.sample_id.tolist())
            pairs = principal_components(analysis.operator, keys, whole, config.n_pcs, config.fit.spectrum.seed)
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
