"""One analysis: inputs aligned and checked, memory shared out, and the folder it is written to."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.atomic import saving
from biolmm.cohort import Cohort
from biolmm.errors import VariantMismatchError
from biolmm.genotypes.filters import VariantFilters
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.genotypes.standardised import standardise
from biolmm.memory import peak_bytes
from biolmm.pipeline.config import AnalysisConfig
from biolmm.pipeline.genotypes import AnalysisGenotypes, cohort_sex, open_data
from biolmm.pipeline.inputs import match_samples, read_cohort, refuse_inside
from biolmm.pipeline.matrix import GivenMatrix
from biolmm.pipeline.plan import plan_analysis, share_memory
from biolmm.pipeline.shape import Shape
from biolmm.pipeline.variants import ChosenVariants, choose_variants, scan_variants
from biolmm.reml.model import MODEL_FOLDER, NullModel, open_model, open_model_store
from biolmm.results.folder import claim_analysis
from biolmm.results.record import RUN_JSON, RunRecord, package_version
from biolmm.stages import Stages, content_hash
from biolmm.store.arrays import open_dataset

log = logging.getLogger(__name__)

_OURS = ("associations", "linear", "ssf", MODEL_FOLDER, "h2.tsv", "leads.tsv", "gamma.tsv", "loco.tsv", "eigen.tsv",
         "pcs.tsv", "ldsc.tsv", "sets.tsv", "run.json", "report.html", "analysis.json")  # fmt: skip


@dataclass
class Analysis:
    """One analysis in progress: what is known so far and where it is written."""

    config: AnalysisConfig
    cohort: Cohort
    scanned: ChosenGenotypes
    operator: GenotypeOperator
    record: RunRecord
    batch_bytes: int
    known: NullModel | None = None
    """A model whose spectra are reused."""
    matrix: GivenMatrix | None = None
    """A relatedness matrix that was given."""
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
        version = package_version("biolmm")
        variants = self.operator.source.reader.key
        matrix = None if self.matrix is None else self.matrix.fingerprint
        arithmetic = self.operator.arithmetic.name
        return content_hash(version, self.cohort.fingerprint(), variants, fit, self.config.n_pcs, matrix, arithmetic)

    @property
    def loco_key(self) -> str:
        """Name of everything that the predictors depend on."""
        return content_hash(self.key, self.config.fit.loco, self.config.fit.loco_tolerance)

    @property
    def scan_key(self) -> str:
        """Name of everything that the scan depends on."""
        scanned = self.scanned.reader.key
        gamma = None if self.config.known_gamma is None else _gamma_of(self.config.known_gamma)
        return content_hash(self.loco_key, scanned, asdict(self.config.scan), self.config.method, gamma)

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


def prepare(config: AnalysisConfig, record: RunRecord, *, overwrite: bool = False) -> Analysis:
    """Open, read, align and check everything; nothing expensive but the conversion happens here.

    Raises
    ------
    UserError
        For every mistake in the inputs, before genotypes are converted.
    """
    if config.known_model:
        refuse_inside(config.out, config.known_model)
    known = open_model(config.known_model) if config.known_model else None
    given = AnalysisGenotypes.open(config.inputs)
    cohort = read_cohort(config, given)
    variants = choose_variants(given.scan, given.model, config.inputs, record)
    wall, cpu = time.perf_counter(), time.process_time()
    data = given.converted(config.out, overwrite=overwrite)
    if given.needs_conversion:
        record.add_stage("convert", time.perf_counter() - wall, time.process_time() - cpu, peak_bytes=peak_bytes())
    return _assemble(config, record, cohort, data, variants, known, overwrite=overwrite)


def prepare_from_model(
    config: AnalysisConfig, record: RunRecord, model: NullModel, *, overwrite: bool = False
) -> Analysis:
    """Set up a scan of `config.inputs.genotypes` for the samples of a fitted model."""
    scan = open_data(config.inputs.genotypes, config.inputs)
    given = open_data(config.inputs.model_genotypes, config.inputs) if config.inputs.model_genotypes else scan
    data = AnalysisGenotypes(scan, open_model_store(model, scan, given))
    variants = ChosenVariants(
        scan_variants(scan, config.inputs, record), model.dataset["model_variant_index"].values.astype(np.int64)
    )
    # The model's variants have passed its filters.
    config = replace(config, model_filters=VariantFilters())
    return _assemble(config, record, model.cohort(), data, variants, None, overwrite=overwrite)


def _assemble(
    config: AnalysisConfig,
    record: RunRecord,
    cohort: Cohort,
    data: AnalysisGenotypes,
    variants: ChosenVariants,
    known: NullModel | None,
    *,
    overwrite: bool,
) -> Analysis:
    """Share out the memory, standardise, and claim the folder."""
    arithmetic = config.arithmetic()
    shape = Shape.of(cohort, data, variants)
    shares = share_memory(config, plan_analysis(config, shape), shape)
    source = ChosenGenotypes.choose(data.model, cohort.sample_index, variants.model, shares.cache_bytes)
    model = standardise(source, config.fit.alpha, config.fit.scale, config.model_filters)
    for option, n in model.filtered.items():
        record.add_dropped("model variants", f"{option} {getattr(config.model_filters, _field(option)):g}", [], n=n)
    if not model.source.n_variants:
        raise VariantMismatchError(f"No variant of '{data.model.path}' passes the filters of the model: relax them.")
    operator = GenotypeOperator(model, panel_bytes=shares.panel_bytes, arithmetic=arithmetic)
    record.parameters["arithmetic"] = arithmetic.name
    scanned = _scanned(config, cohort, data, variants.scan, model.source)
    matrix = None if config.grm is None else GivenMatrix.open(config.grm, loco=config.fit.loco)
    analysis = Analysis(config, cohort, scanned, operator, record, shares.batch_bytes, known, matrix)
    _record_inputs(analysis)
    _claim(analysis, overwrite=overwrite)
    return analysis


def _scanned(
    config: AnalysisConfig, cohort: Cohort, data: AnalysisGenotypes, variants: NDArray[np.int64], model: ChosenGenotypes
) -> ChosenGenotypes:
    """Choose the variants to scan; where they are the model's, its rows in memory serve both."""
    scan = data.scan
    same = scan.fingerprint == data.model.fingerprint
    if same and np.array_equal(np.sort(variants), np.sort(model.variants)):
        return model
    index = cohort.sample_index if same else match_samples(scan.sample_id.tolist(), cohort, scan.path)
    sex = cohort_sex(scan, index, data.model, cohort.sample_id)
    return ChosenGenotypes.choose(
        scan, index, variants, sex=sex, male_x=config.inputs.male_x, build=config.inputs.build
    )


def _gamma_of(results: Path) -> bytes | None:
    """Return the γ of earlier results byte by byte, the same wherever they lie; None where there is none."""
    path = results / MODEL_FOLDER / "gamma.zarr"
    return open_dataset(path)["gamma"].values.tobytes() if path.is_dir() else None


def _field(option: str) -> str:
    """Return the name of the filter of an option: `min_maf` of `--min-maf`."""
    return option.removeprefix("--").replace("-", "_")


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
    for name, store in (("genotypes", analysis.scanned.store), ("model_genotypes", analysis.operator.source.store)):
        if name == "genotypes" or store.fingerprint != analysis.scanned.store.fingerprint:
            record.add_input(name, store.path, store.fingerprint)
    for name, path in analysis.config.inputs.files().items():
        record.add_input(name, path)
    if analysis.matrix is not None:
        record.add_input("grm", analysis.matrix.path, analysis.matrix.fingerprint)
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
    out, identity = analysis.config.out, content_hash(analysis.scan_key)
    if claim_analysis(out, identity, analysis.config.command, _OURS, overwrite=overwrite):
        analysis.earlier = _earlier_stages(out)


def _earlier_stages(out: Path) -> dict[str, dict[str, Any]]:
    try:
        stages = json.loads((out / RUN_JSON).read_text())["stages"]
    except (OSError, ValueError, KeyError):
        return {}
    return {stage["name"]: stage for stage in stages}
