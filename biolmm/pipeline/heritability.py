"""Heritability and genetic correlation from files: read, align, fit, check by moments, write."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from biolmm.atomic import atomic_path, write_json
from biolmm.chunks import threads
from biolmm.cohort import Cohort
from biolmm.errors import VariantMismatchError
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.genotypes.standardised import standardise
from biolmm.heritability.annotations import read_annotations
from biolmm.heritability.config import HeritabilityConfig, Size, plan_rg, plan_rhe
from biolmm.heritability.pairs import chosen_pairs, cross_estimates, fit_pairs, rg_table
from biolmm.heritability.run import (
    collect_moments,
    densities,
    h2_table,
    he_table,
    partitioned_table,
    rhe_table,
    sampling_of,
)
from biolmm.heritability.tables import TABLES, write_table
from biolmm.memory import StagePlan, peak_bytes
from biolmm.pipeline.config import AnalysisConfig
from biolmm.pipeline.genotypes import AnalysisGenotypes
from biolmm.pipeline.inputs import read_cohort
from biolmm.pipeline.kept import with_components
from biolmm.pipeline.plan import plan_analysis, share_memory
from biolmm.pipeline.shape import Shape
from biolmm.pipeline.variants import NOT_AUTOSOMES, ChosenVariants, scan_variants
from biolmm.reml.fit import choose_solver, fit_null_model
from biolmm.reml.model import MODEL_FOLDER, NULL_NAME, NullModel
from biolmm.results.folder import claim_folder
from biolmm.results.record import RunRecord, package_version
from biolmm.stages import Stages, content_hash
from biolmm.store.arrays import open_dataset, save_dataset
from biolmm.store.checkpoint import checkpointed

log = logging.getLogger(__name__)

H2_JSON, RG_JSON = "h2.json", "rg.json"
MAP_NAME = "rg.png"


@dataclass(frozen=True)
class HeritabilityAnalysis:
    """Everything that `biolmm h2` and `biolmm rg` depend on.

    Attributes
    ----------
    analysis
        Genotypes, traits, covariates and resources, as for `biolmm fit`.
    choices
        How heritability is estimated.
    annotations
        Files, see `read_annotations`.
    he_regression
        Regress on all pairs as well.
    pairs
        Pairs of traits, all by default.
    """

    analysis: AnalysisConfig
    choices: HeritabilityConfig = field(default_factory=HeritabilityConfig)
    annotations: tuple[Path, ...] = ()
    he_regression: bool = False
    pairs: tuple[tuple[str, str], ...] = ()


@dataclass
class _Prepared:
    """Inputs, read and aligned; genotypes not yet converted."""

    cohort: Cohort
    data: AnalysisGenotypes
    variants: np.ndarray[Any, np.dtype[np.int64]]
    record: RunRecord
    shape: Shape
    plans: list[StagePlan]


def plan_heritability(config: HeritabilityAnalysis, *, pairs: bool = False) -> list[StagePlan]:
    """Return the plan of every stage of `run_h2`, or with `pairs` of `run_rg`."""
    with threads(config.analysis.resources.threads):
        prepared = _prepare(config, pairs=pairs)
        return [*prepared.data.plan(), *prepared.plans]


def _prepare(config: HeritabilityAnalysis, *, pairs: bool) -> _Prepared:
    analysis, choices = config.analysis, config.choices
    data = AnalysisGenotypes.open(analysis.inputs)
    cohort = read_cohort(analysis, data)
    record = RunRecord.start(analysis.command, seed=choices.fit.spectrum.seed)
    chosen = scan_variants(data.model, analysis.inputs, record)
    autosomal = np.array([name not in NOT_AUTOSOMES for name in data.model.contig_id])
    kept = autosomal[data.model.variant_contig[chosen]]
    if not kept.any():
        raise VariantMismatchError(
            f"none of the {len(chosen):,} chosen variants of '{data.model.path}' is on an autosome."
        )
    record.add_dropped(
        "variants", "not on autosomes", data.model.variant_id[chosen[~kept][:5]].tolist(), n=int((~kept).sum())
    )
    variants = chosen[kept]
    shape = Shape.of(cohort, data, ChosenVariants(variants, variants))
    plans = []
    fit = replace(choices.fit, loco=False)
    if choices.method != "rhe":
        left = ("loco", "exact loco", "gamma", "scan")
        stages = plan_analysis(replace(analysis, fit=fit), shape, scan=False)
        plans += [stage for stage in stages if stage.stage not in left]
    size = Size(shape.n_samples, shape.n_variants, shape.n_traits, shape.n_systems, shape.pass_bytes)
    base = plans[0].needs[:3] if plans else ()
    if choices.method != "reml":
        rhe = plan_rhe(choices, size, 1 + (8 if config.annotations else 0))
        plans.append(replace(rhe, needs=(*base, *rhe.needs)))
    if pairs and choices.method != "rhe":
        solver = choose_solver(fit, shape.n_samples, shape.n_variants, shape.n_systems, shape.n_traits)
        rg = plan_rg(choices, size, exact=solver == "exact")
        plans.append(replace(rg, needs=(*base, *rg.needs)))
    return _Prepared(cohort, data, variants, record, shape, plans)


@dataclass
class _Running:
    """An analysis under way."""

    config: HeritabilityAnalysis
    cohort: Cohort
    operator: GenotypeOperator
    record: RunRecord
    stages: Stages
    key: str
    """What the null model depends on."""
    whole: str
    """What all results depend on."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and count its passes."""
        counter = self.operator.counter
        before = (counter.passes, counter.read_bytes, counter.flop)
        wall, cpu = time.perf_counter(), time.process_time()
        log.info("%s …", name)
        yield
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        passes = counter.passes - before[0]
        self.record.add_stage(
            name, wall, cpu, passes=passes, read_bytes=counter.read_bytes - before[1], flop=counter.flop - before[2],
            peak_bytes=peak_bytes(),
        )  # fmt: skip
        log.info("%s: %.1f s, %d passes", name, wall, passes)

    @contextmanager
    def resumable(self, stage: str, key: str) -> Iterator[None]:
        """Keep the long passes of a stage while it runs, so that the same stage after a kill takes them up."""
        folder = self.stages.root / f"{stage}.checkpoint"
        with checkpointed(folder, key) as checkpoint, self.operator.resuming(checkpoint):
            yield

    def model(self) -> NullModel | None:
        """Fit the null model without predictors, or open it where it is finished; None where only moments are wanted."""
        choices = self.config.choices
        if choices.method == "rhe":
            return None
        fit = replace(choices.fit, loco=False)
        with self.stage("fit"):

            def build(path: Path) -> None:
                with self.resumable("fit", self.key):
                    model = fit_null_model(self.operator, self.cohort, fit)
                save_dataset(model.dataset, path)

            path, resumed = self.stages.run(NULL_NAME, self.key, build)
            if resumed:
                log.info("fit: done before")
            return NullModel(open_dataset(path).load())


@contextmanager
def _started(
    config: HeritabilityAnalysis, name: str, owned: Sequence[str], *, pairs: bool, overwrite: bool
) -> Iterator[_Running]:
    """Check everything, claim the folder, convert and standardise; write the record when the block ends."""
    analysis, choices = config.analysis, config.choices
    out, resources = analysis.out, analysis.resources
    with threads(resources.threads):
        prepared = _prepare(config, pairs=pairs)
        shares = share_memory(analysis, prepared.plans, prepared.shape)
        fit = replace(choices.fit, loco=False)
        arithmetic = analysis.arithmetic()
        key = content_hash(
            package_version("biolmm"), prepared.cohort.fingerprint(), prepared.data.model.fingerprint,
            prepared.variants.tobytes(), asdict(fit), asdict(analysis.model_filters), analysis.n_pcs,
            arithmetic.name,
        )  # fmt: skip
        whole = content_hash(
            key, {**asdict(choices), "memory_bytes": 0}, [_signature(path) for path in config.annotations],
            config.he_regression, config.pairs,
        )  # fmt: skip
        claim_folder(out, name, whole, owned, overwrite=overwrite)
        data = prepared.data.converted(out, overwrite=overwrite)
        source = ChosenGenotypes.choose(
            data.model, prepared.cohort.sample_index, prepared.variants, shares.cache_bytes, build=analysis.inputs.build
        )
        genotypes = standardise(source, fit.alpha, fit.scale, analysis.model_filters)
        for option, n in genotypes.filtered.items():
            prepared.record.add_dropped("variants", option, [], n=n)
        operator = GenotypeOperator(genotypes, panel_bytes=shares.panel_bytes, arithmetic=arithmetic)
        if operator.n_variants == 0:
            raise VariantMismatchError(f"no variant of '{data.model.path}' passes the filters: relax them.")
        stages = Stages(out / MODEL_FOLDER)
        cohort = with_components(stages, key, operator, prepared.cohort, analysis.n_pcs, fit.spectrum.seed)
        running = _Running(config, cohort, operator, prepared.record, stages, key, whole)
        yield running
        _finish(running, name, whole, data)


def _signature(path: Path) -> tuple[str, int, int]:
    stat = path.stat() if path.exists() else None
    return (str(path), stat.st_size if stat else 0, stat.st_mtime_ns if stat else 0)


def _finish(running: _Running, name: str, key: str, data: AnalysisGenotypes) -> None:
    """Write the record, which says that the folder is finished."""
    record, config = running.record, running.config
    inputs: Mapping[str, Path] = config.analysis.inputs.files()
    for what, path in inputs.items():
        record.add_input(what, path)
    record.add_input("genotypes", data.model.path, data.model.fingerprint)
    counts = running.cohort.counts
    record.finished = None
    body = {
        "key": key, "command": config.analysis.command, "biolmm_version": record.biolmm_version,
        "choices": {**asdict(config.choices), "prevalences": dict(config.choices.prevalences)},
        "n_samples": running.cohort.n_samples, "n_variants": running.operator.n_variants, "inputs": record.inputs,
        "dropped": [*counts.get("dropped", []), *record.dropped], "warnings": counts.get("warnings", []),
        "stages": record.stages,
    }  # fmt: skip
    write_json(config.analysis.out / name, body)


def run_h2(config: HeritabilityAnalysis, *, overwrite: bool = False) -> dict[str, pd.DataFrame]:
    """Write `h2.tsv`, `rhe.tsv`, `partitioned.tsv` and `he.tsv`, those that were asked for, and return them by name.

    Raises
    ------
    UserError
        For every mistake in the inputs, before anything is computed.
    """
    out, choices = config.analysis.out, config.choices
    owned = [f"{name}.tsv" for name in TABLES if name != "rg"]
    tables: dict[str, pd.DataFrame] = {}
    with _started(config, H2_JSON, owned, pairs=False, overwrite=overwrite) as running:
        cohort, operator = running.cohort, running.operator
        sampled = sampling_of(cohort, choices)
        annotations = None
        if config.annotations:
            annotations = read_annotations(config.annotations, operator.source.store, operator.source.variants)
            if annotations.n_without_row:
                log.warning(
                    "%d variants are in no table of annotations: they count as 0 there.", annotations.n_without_row
                )
        model = running.model()
        if model is not None:
            tables["h2"] = h2_table(model, sampled)
            write_table(out, "h2", tables["h2"])
        if choices.method != "reml" or annotations is not None:
            with running.stage("haseman-elston"), running.resumable("moments", running.whole):
                moments = collect_moments(operator, cohort, choices, model, annotations)
                spectra = None if model is None else densities(operator, model)
                tables["rhe"] = rhe_table(moments, cohort, sampled, model, spectra)
                if annotations is not None:
                    tables["partitioned"] = partitioned_table(moments, cohort, annotations)
        if config.he_regression:
            with running.stage("pairs of samples"):
                tables["he"] = he_table(operator, cohort)
        for name in tables:
            write_table(out, name, tables[name])
    return tables


def run_rg(config: HeritabilityAnalysis, *, overwrite: bool = False) -> dict[str, pd.DataFrame]:
    """Write `rg.tsv` with a heat map, and `h2.tsv` of the traits; return the tables by name."""
    from biolmm.plots.correlation import correlation_map  # matplotlib is slow to import and only wanted here
    from biolmm.plots.style import to_png

    out, choices = config.analysis.out, config.choices
    tables: dict[str, pd.DataFrame] = {}
    with _started(config, RG_JSON, ("rg.tsv", "h2.tsv", MAP_NAME), pairs=True, overwrite=overwrite) as running:
        cohort, operator = running.cohort, running.operator
        pairs = chosen_pairs(cohort.trait_names, config.pairs)
        sampled = sampling_of(cohort, choices)
        model = running.model()
        crossed = None
        if choices.method != "reml":
            with running.stage("haseman-elston"), running.resumable("moments", running.whole):
                crossed = cross_estimates(collect_moments(operator, cohort, choices, model))
        fits = {}
        if model is not None:
            tables["h2"] = h2_table(model, sampled)
            with running.stage("pairs of traits"), running.resumable("pairs", running.whole):
                fits = fit_pairs(operator, cohort, model, choices, pairs)
        tables["rg"] = rg_table(cohort, pairs, fits, crossed)
        for name in tables:
            write_table(out, name, tables[name])
        value, error = _as_matrices(tables["rg"], cohort.trait_names)
        with atomic_path(out / MAP_NAME) as aside:
            aside.write_bytes(to_png(correlation_map(cohort.trait_names, value, error)))
    return tables


def _as_matrices(
    table: pd.DataFrame, names: Sequence[str]
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.float64]]]:
    """Return correlations and errors as symmetric matrices, REML's where there are any."""
    value, error = np.full((2, len(names), len(names)), np.nan)
    place = {name: i for i, name in enumerate(names)}
    for row in table.to_dict("records"):
        i, j = place[row["trait_1"]], place[row["trait_2"]]
        given = (row["rg"], row["rg_se"]) if np.isfinite(row["rg"]) else (row["rg_rhe"], row["rg_rhe_se"])
        value[i, j] = value[j, i] = given[0]
        error[i, j] = error[j, i] = given[1]
    return value, error
