"""Variance components from files or from tables in memory: read, align, build the terms, fit, write."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from biolmm.atomic import write_json, write_text
from biolmm.chunks import n_threads, threads
from biolmm.cohort import Cohort, align_cohort
from biolmm.cohort.config import close_match
from biolmm.components.build import (
    GENOTYPE_EFFECTS,
    Sources,
    build_terms,
    check_names,
    complete_samples,
    interacting_columns,
)
from biolmm.components.fit import STEPS, ComponentConfig, choose_solver
from biolmm.components.formula import Formula, parse_formula
from biolmm.components.iterative import MIN_PROBES
from biolmm.components.matrices import UserMatrix
from biolmm.components.parts import TRAITS_AT_ONCE, FinishedParts
from biolmm.components.profile import fit_candidates
from biolmm.components.results import ComponentResults, results_text
from biolmm.components.spec import ComponentTables
from biolmm.covariance.genetic import GenotypePanel
from biolmm.covariance.pedigree import Pedigree, read_pedigree
from biolmm.covariance.variant_sets import MAF_EDGES, read_annotations
from biolmm.errors import ParameterError, SampleMismatchError
from biolmm.files.lists import read_id_list
from biolmm.files.tables import index_by_sample, read_table
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.genotypes.standardised import StandardisedGenotypes, standardise
from biolmm.memory import Need, StagePlan, default_budget_bytes
from biolmm.mirror import mirrored
from biolmm.pipeline.config import AnalysisConfig, Inputs
from biolmm.pipeline.genotypes import AnalysisGenotypes
from biolmm.pipeline.kept import with_components
from biolmm.pipeline.matrix import fingerprint_input
from biolmm.pipeline.plan import PROCESS_BYTES
from biolmm.pipeline.variants import choose_variants
from biolmm.results.folder import ANALYSIS_JSON, claim_analysis, write_tsv
from biolmm.results.record import RunRecord, package_version
from biolmm.stages import Stages, content_hash
from biolmm.store.data import GenotypeData
from biolmm.store.open import genotype_store
from biolmm.store.read import GenotypeStore

log = logging.getLogger(__name__)

FIT_JSON = "fit.json"
SUMMARY = "summary.txt"
BLUP = "blup.tsv"
PARTS = "parts"
_OURS = (ANALYSIS_JSON, PARTS, FIT_JSON, "components.tsv", "fixed.tsv", BLUP, SUMMARY)


@dataclass(frozen=True)
class ComponentAnalysis:
    """Everything that an analysis of variance components depends on.

    Attributes
    ----------
    analysis
        Genotypes, traits, covariates and resources, as for `biolmm fit`.
    formula
        The random effects.
    tables
        What its names refer to.
    fit
        How components are estimated.
    """

    analysis: AnalysisConfig
    formula: str | Formula
    tables: ComponentTables = field(default_factory=ComponentTables)
    fit: ComponentConfig = field(default_factory=ComponentConfig)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """Inputs, read and aligned."""

    formula: Formula
    sources: Sources
    data: AnalysisGenotypes
    cohort: Cohort
    variants: np.ndarray[Any, np.dtype[np.int64]]


def plan_components(config: ComponentAnalysis) -> list[StagePlan]:
    """Say what an analysis will read, compute and hold; nothing of the genotypes is read."""
    prepared = _prepare(config)
    return [*prepared.data.plan(), _plan(config, prepared)]


def run_components(config: ComponentAnalysis, *, overwrite: bool = False) -> ComponentResults:
    """Read, fit, and write `components.tsv`, `fixed.tsv`, `fit.json`, `summary.txt` and, with `fit.blup`, `blup.tsv`.

    The same call after a kill goes on: traits that are finished are recognised in `parts/`.

    Raises
    ------
    UserError
        For every mistake in the inputs, before anything is computed.
    """
    resources = config.analysis.resources
    with mirrored(config.analysis.out, resources.scratch) as out, threads(resources.threads):
        prepared = _prepare(config)
        plan = _plan(config, prepared)
        plan.check(resources.memory_bytes)
        key = _key(config, prepared)
        claim_analysis(out, key, config.analysis.command, _OURS, overwrite=overwrite)
        data = prepared.data.converted(out, overwrite=overwrite)
        spare = resources.memory_bytes - plan.peak_bytes
        genotypes = _genotypes(config.analysis, prepared, data.model, spare // 2)
        cohort = prepared.cohort
        if config.analysis.n_pcs and genotypes is not None:
            seed = config.analysis.fit.spectrum.seed
            stages = Stages(out / PARTS)
            cohort = with_components(stages, key, GenotypeOperator(genotypes), cohort, config.analysis.n_pcs, seed)
        results = _fit(prepared.formula, prepared.sources, cohort, genotypes, config.fit, spare, out / PARTS, key)
        results = replace(results, settings={**_settings(config, cohort, key), **results.settings})
        write_tsv(out / "components.tsv", results.table)
        write_tsv(out / "fixed.tsv", results.fixed)
        if config.fit.blup:
            write_tsv(out / BLUP, results.predictions(cohort))
        write_text(out / SUMMARY, results_text(results) + "\n")
        write_json(out / FIT_JSON, results.record())
    return results


def _settings(config: ComponentAnalysis, cohort: Cohort, key: str) -> dict[str, Any]:
    """Return what `fit.json` says of the inputs."""
    files = config.analysis.inputs.files() | config.tables.files()
    return {
        "key": key,
        "version": package_version("biolmm"),
        "command": config.analysis.command,
        "files": {name: str(path) for name, path in files.items()},
        "samples": cohort.counts.get("samples", {}),
        "dropped": cohort.counts.get("dropped", []),
    }


def components(
    store: GenotypeStore | xr.Dataset | Path | str,
    traits: pd.DataFrame,
    formula: str | Formula,
    covariates: pd.DataFrame | None = None,
    *,
    environment: pd.DataFrame | None = None,
    features: Mapping[str, pd.DataFrame] | None = None,
    matrices: Mapping[str, UserMatrix] | None = None,
    annotations: pd.DataFrame | None = None,
    pedigree: Pedigree | None = None,
    categorical: tuple[str, ...] = (),
    n_threads: int | None = None,
    **options: Any,
) -> ComponentResults:
    """Fit the variance components of a formula to tables in memory.

    Parameters
    ----------
    store
        A store: a path, or what `open_store` returned.
    traits, covariates, environment
        Tables indexed by sample id (or with a column `IID` or `sample_id`).
    formula
        For example `genetic + genetic:smoking + microbiome`, or a `Formula` of typed `Effect`s.
    features
        Tables of features by name.
    matrices
        Matrices by name.
    annotations
        A table indexed by variant id.
    pedigree
        Parents.
    categorical
        Columns of numbers that name categories.
    n_threads
        Threads; every available processor by default.
    **options
        Fields of `ComponentConfig`: `solver`, `seed`, `test`, `max_iterations`, `blup`.

    Returns
    -------
    ComponentResults
        `.table` and `.fixed` are tables, `.fit(trait)` the rest.

    Raises
    ------
    UserError
        For every mistake in the inputs.
    """
    unknown = sorted(set(options) - set(ComponentConfig.__dataclass_fields__))
    if unknown:
        raise ParameterError(
            f"unknown options {', '.join(unknown)}: choose from {', '.join(ComponentConfig.__dataclass_fields__)}."
        )
    opened = genotype_store(store)
    sources = Sources(
        environment=None if environment is None else index_by_sample(environment, "the environment table"),
        features={name: index_by_sample(table, f"the features '{name}'") for name, table in (features or {}).items()},
        matrices=matrices or {},
        annotations=annotations,
        pedigree=pedigree,
        family=dict(zip(opened.sample_id.tolist(), opened.family_id.tolist(), strict=True)),
        categorical=categorical,
    )
    parsed = parse_formula(formula) if isinstance(formula, str) else formula
    check_names(parsed, sources)
    analysis = AnalysisConfig(inputs=Inputs(genotypes=()), out=Path())
    with threads(n_threads):
        cohort = _align(analysis, opened, traits, covariates, parsed, sources, None)
        genotypes = None
        if any(effect.name in GENOTYPE_EFFECTS for effect in parsed.effects):
            source = ChosenGenotypes.choose(opened, cohort.sample_index, cache_bytes=default_budget_bytes() // 2)
            genotypes = standardise(source)
        return _fit(parsed, sources, cohort, genotypes, ComponentConfig(**options), default_budget_bytes() // 2)


def _prepare(config: ComponentAnalysis) -> _Prepared:
    """Open, read and align everything; no genotype is read."""
    analysis = config.analysis
    formula = parse_formula(config.formula) if isinstance(config.formula, str) else config.formula
    data = AnalysisGenotypes.open(analysis.inputs)
    sources = _read_sources(config.tables, data.model, analysis.cohort.categorical)
    check_names(formula, sources)
    inputs = analysis.inputs
    if inputs.traits is None:
        raise ParameterError("no traits were given: pass --traits with a table of traits.")
    traits = read_table(inputs.traits, missing_value=inputs.missing_value)
    covariates = None
    if inputs.covariates is not None:
        covariates = read_table(inputs.covariates, missing_value=inputs.missing_value, default_name="COVAR")
    keep = read_id_list(inputs.keep) if inputs.keep else analysis.cohort.keep
    remove = read_id_list(inputs.remove) if inputs.remove else analysis.cohort.remove
    chosen = replace(analysis, cohort=replace(analysis.cohort, keep=keep, remove=remove))
    cohort = _align(chosen, data.model, traits, covariates, formula, sources, data.shared_samples())
    record = RunRecord.start(analysis.command, seed=config.fit.seed, parameters={})
    variants = choose_variants(data.scan, data.model, inputs, record).model
    return _Prepared(formula, sources, data, cohort, variants)


def _read_sources(tables: ComponentTables, data: GenotypeData, categorical: tuple[str, ...]) -> Sources:
    environment = read_table(tables.environment, truth_as_text=True) if tables.environment else None
    columns = [] if environment is None else list(environment.columns)
    return Sources(
        environment=environment,
        features={name: read_table(path) for name, path in tables.features.items()},
        matrices={name: UserMatrix.open(path) for name, path in tables.matrices.items()},
        annotations=read_annotations(tables.annotations) if tables.annotations else None,
        regions=tables.regions,
        pedigree=read_pedigree(tables.pedigree) if tables.pedigree else None,
        family=dict(zip(data.sample_id.tolist(), data.family_id.tolist(), strict=True)),
        categorical=tuple(name for name in categorical if name in columns),
    )


def _align(
    config: AnalysisConfig,
    data: GenotypeData,
    traits: pd.DataFrame,
    covariates: pd.DataFrame | None,
    formula: Formula,
    sources: Sources,
    available: np.ndarray[Any, np.dtype[np.bool_]] | None,
) -> Cohort:
    """Align by sample id; people whom a table of the formula lacks are left out, interacting environments are covariates."""
    everyone = data.sample_id.tolist()
    complete = complete_samples(formula, sources, everyone)
    if not complete:
        raise SampleMismatchError(
            f"None of the {len(everyone):,} samples of the genotypes is in every table that the formula '{formula}' uses, with "
            "all of its columns. The sample ids (IID) must be spelled alike in all."
        )
    if len(complete) < len(everyone):
        log.info("components: %d samples lack a value that the formula needs", len(everyone) - len(complete))
    inside = np.isin(data.sample_id, complete)
    inside = inside if available is None else inside & available
    table, names = covariates, config.cohort.covariate_names
    added = interacting_columns(formula)
    if added and sources.environment is not None:
        given = None if covariates is None else index_by_sample(covariates, "the covariate table")
        added = [name for name in added if given is None or name not in given.columns]
        extra = sources.environment[added]
        table = extra if given is None else given.join(extra, how="left")
        names = None if names is None else (*names, *added)
    present = [] if table is None else list(table.columns)
    unknown = [name for name in config.cohort.categorical if name not in (*present, *sources.columns)]
    if unknown:
        raise ParameterError(
            f"--categorical {unknown[0]}: neither the covariates nor --environment have such a column"
            f"{close_match(unknown[0], [*present, *sources.columns])}."
        )
    categorical = tuple(name for name in (*config.cohort.categorical, *sources.categorical) if name in present)
    cohort_config = replace(
        config.cohort, covariate_names=names, categorical=tuple(dict.fromkeys(categorical)),
    )  # fmt: skip
    cohort = align_cohort(data.sample_id, traits, table, cohort_config, inside)
    for step in cohort.counts["dropped"]:
        if step["why"] == "not in the genotypes to be scanned":
            step["why"] = "without a value that the formula needs, or not in the genotypes to be scanned"
    return cohort


def _genotypes(
    analysis: AnalysisConfig, prepared: _Prepared, data: GenotypeData, cache_bytes: int
) -> StandardisedGenotypes | None:
    """Standardise the model's variants, where the formula or the components need them."""
    wanted = any(effect.name in GENOTYPE_EFFECTS for effect in prepared.formula.effects) or analysis.n_pcs
    if not wanted:
        return None
    source = ChosenGenotypes.choose(data, prepared.cohort.sample_index, prepared.variants, max(cache_bytes, 0))
    genotypes = standardise(source, analysis.fit.alpha, analysis.fit.scale, analysis.model_filters)
    if not np.any(genotypes.scaling.scale):
        raise ParameterError(
            f"no variant of '{data.path}' varies among the samples and passes the filters: relax them."
        )
    return genotypes


def _fit(
    formula: Formula,
    sources: Sources,
    cohort: Cohort,
    genotypes: StandardisedGenotypes | None,
    config: ComponentConfig,
    spare_bytes: int,
    folder: Path | None = None,
    key: str = "",
) -> ComponentResults:
    """Build the terms and fit them; what is finished in the folder is taken as it is."""
    panel = None if genotypes is None else GenotypePanel(genotypes, panel_bytes=max(spare_bytes // 4, 2**26))
    finished = None if folder is None else FinishedParts(folder, key, panel)
    with finished.resuming("terms") if finished else nullcontext():
        candidates = build_terms(formula, sources, cohort.sample_id.tolist(), panel, max(spare_bytes, 0))
        results = fit_candidates(candidates, cohort, config, finished)
    return replace(results, settings={"formula": str(formula), **results.settings})


def _count_terms(formula: Formula, sources: Sources, n_contigs: int) -> int:
    """Count terms, bins at their most, noise included."""
    annotated = 0 if sources.annotations is None else len(sources.annotations.columns)
    sizes = {"maf": len(MAF_EDGES) - 1, "ld": 4, "contigs": n_contigs}
    sizes["annotations"] = annotated + len(sources.regions) + 1
    total = 1
    for effect in formula.effects:
        bins = 1
        for item in effect.items if effect.name in GENOTYPE_EFFECTS else ():
            bins *= sizes.get(item, 2)
        if effect.name == "residual" and sources.environment is not None:
            bins = int(sources.environment[effect.by].nunique()) if sources.is_categorical(str(effect.by)) else 1
        total += bins
    return total


def _plan(config: ComponentAnalysis, prepared: _Prepared) -> StagePlan:
    """Count passes, operations and memory of the fit."""
    cohort, data = prepared.cohort, prepared.data.model
    n, m = cohort.n_samples, len(prepared.variants)
    q = _count_terms(prepared.formula, prepared.sources, len(data.contig_id))
    solver = choose_solver(config.fit, n, q, cohort.n_traits)
    models = cohort.n_traits * (1 + (q if config.fit.test else 0))
    at_once = min(cohort.n_traits, TRAITS_AT_ONCE[solver])
    row_bytes = data.encoding.row_bytes(n)
    genetic = any(effect.name in GENOTYPE_EFFECTS for effect in prepared.formula.effects)
    tables = sum(4 * n * len(table.columns) for table in prepared.sources.features.values())
    needs = [
        Need("interpreter and libraries", PROCESS_BYTES),
        Need("tables of features", tables),
        Need("weights of variants in bins", 24 * m * q if genetic else 0),
        Need(
            "chunks of genotypes in hand",
            3 * n_threads() * data.chunk_variants * data.encoding.row_bytes(data.n_samples),
        ),
    ]
    if any(effect.name == "epistasis" for effect in prepared.formula.effects):
        needs.append(Need("epistasis", 20 * n * n))
    if solver == "exact":
        masked = any(not part.observed.all() for part in cohort.classes)
        needs.append(Need("covariance matrices", 8 * n * n * (q * (1 + masked) + 6)))
        needs.append(Need("partial sums", (n_threads() + 4) * n * n * 8 if genetic else 0))
        passes, columns = q, float(n)
    else:
        held = 1 + q + MIN_PROBES
        columns = models * held * at_once / cohort.n_traits
        needs.append(Need("probes and solutions", 4 * n * MIN_PROBES * (q + 1) + int(4 * n * columns * 6)))
        passes = (4 + STEPS * 2 * 12) * -(-cohort.n_traits // at_once)
    if config.fit.blup:
        needs.append(Need("predictions", 8 * n * (q + 1) * (cohort.n_traits + 1)))
    return StagePlan(
        stage=f"components, {solver}",
        n_passes=passes if genetic else 0,
        read_bytes=passes * m * row_bytes if genetic else 0,
        flop=(models * STEPS * 3.0 * float(n) ** 3 if solver == "exact" else 0.0)
        + 4.0 * n * m * columns * passes * genetic,
        needs=tuple(needs),
    )


def _key(config: ComponentAnalysis, prepared: _Prepared) -> str:
    """Name everything that the results depend on."""
    analysis = config.analysis
    files = {name: fingerprint_input(path) for name, path in config.tables.files().items()}
    rows = {name: matrix.sample_id for name, matrix in prepared.sources.matrices.items()}
    terms = [str(prepared.formula), files, rows, prepared.sources.categorical]
    genotypes = [
        analysis.fit.alpha,
        analysis.fit.scale,
        asdict(analysis.model_filters),
        prepared.data.model.fingerprint,
    ]
    return content_hash(
        package_version("biolmm"), terms, asdict(config.fit), prepared.cohort.fingerprint(), genotypes,
        prepared.variants.tobytes(), analysis.n_pcs,
    )  # fmt: skip
