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

from biolmm.atomic import remove, saving, write_json
from biolmm.cohort import Cohort
from biolmm.errors import OutputError
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import PackedGenotypes
from biolmm.genotypes.standardised import StandardisedGenotypes, standardise
from biolmm.memory import peak_bytes
from biolmm.pipeline.config import AnalysisConfig
from biolmm.pipeline.inputs import (
    choose_variants,
    match_samples,
    open_genotypes,
    read_cohort,
    read_labels,
    refuse_inside,
)
from biolmm.pipeline.plan import Shape, plan_analysis, share_memory
from biolmm.reml.model import MODEL_FOLDER, NullModel, open_model, open_model_store
from biolmm.results.record import RUN_JSON, RunRecord, package_version
from biolmm.stages import Stages, content_hash
from biolmm.store.read import GenotypeStore

log = logging.getLogger(__name__)

_OURS = ("associations", "linear", "ssf", MODEL_FOLDER, "h2.tsv", "leads.tsv", "gamma.tsv", "loco.tsv", "eigen.tsv",
         "pcs.tsv", "run.json", "report.html", "analysis.json")  # fmt: skip


@dataclass
class Analysis:
    """One analysis in progress: what is known so far and where it is written."""

    config: AnalysisConfig
    cohort: Cohort
    scan_genotypes: StandardisedGenotypes
    operator: GenotypeOperator
    record: RunRecord
    batch_bytes: int
    known: NullModel | None = None
    """A model whose spectra are reused."""
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
        return content_hash(version, self.cohort.fingerprint(), self.operator.source.reader.key, fit, self.config.n_pcs)

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
    labels = read_labels(config.inputs)
    cohort = read_cohort(config, labels.sample_id)
    scanned, model = choose_variants(config.inputs, labels.variant_id, record)
    wall, cpu = time.perf_counter(), time.process_time()
    store, converted = open_genotypes(config.inputs, config.out, overwrite=overwrite)
    if converted:
        record.add_stage("convert", time.perf_counter() - wall, time.process_time() - cpu, peak_bytes=peak_bytes())
    both = _Genotypes(store, cohort.sample_index, model, store, cohort.sample_index, scanned)
    return _assemble(config, record, cohort, both, known, overwrite=overwrite)


def prepare_from_model(
    config: AnalysisConfig, record: RunRecord, model: NullModel, *, overwrite: bool = False
) -> Analysis:
    """Set up a scan of `config.inputs.genotypes` for the samples of a fitted model."""
    store, _ = open_genotypes(config.inputs, config.out, overwrite=overwrite)
    own = open_model_store(model, store)
    cohort = model.cohort()
    scanned, _ = choose_variants(config.inputs, store.variant_id, record)
    index = match_samples(store.sample_id.tolist(), cohort, store.path)
    chosen = model.dataset["model_variant_index"].values
    both = _Genotypes(own, cohort.sample_index, chosen, store, index, scanned)
    return _assemble(config, record, cohort, both, None, overwrite=overwrite)


@dataclass(frozen=True)
class _Genotypes:
    """Which samples and variants of which store make the model, and which are scanned."""

    model_store: GenotypeStore
    model_samples: NDArray[np.int64]
    model_variants: NDArray[np.int64]
    scan_store: GenotypeStore
    scan_samples: NDArray[np.int64]
    scan_variants: NDArray[np.int64]

    @property
    def are_the_same(self) -> bool:
        """Whether the scan reads what the model reads."""
        return (
            self.model_store.fingerprint == self.scan_store.fingerprint
            and np.array_equal(self.model_samples, self.scan_samples)
            and np.array_equal(self.model_variants, self.scan_variants)
        )


def _assemble(
    config: AnalysisConfig,
    record: RunRecord,
    cohort: Cohort,
    both: _Genotypes,
    known: NullModel | None,
    *,
    overwrite: bool,
) -> Analysis:
    """Share out the memory, standardise, and claim the folder."""
    n_contigs = len(both.model_store.contig_id)
    shape = Shape.of(cohort, len(both.model_variants), len(both.scan_variants), n_contigs)
    shares = share_memory(config, plan_analysis(config, shape), shape)
    source = PackedGenotypes.choose(both.model_store, both.model_samples, both.model_variants, shares.cache_bytes)
    model_genotypes = standardise(source, config.fit.alpha, config.fit.scale)
    if both.are_the_same:
        scan_genotypes = model_genotypes
    else:
        scan_genotypes = standardise(PackedGenotypes.choose(both.scan_store, both.scan_samples, both.scan_variants))
    operator = GenotypeOperator(model_genotypes, panel_bytes=shares.panel_bytes)
    analysis = Analysis(config, cohort, scan_genotypes, operator, record, shares.batch_bytes, known)
    _record_inputs(analysis)
    _claim(analysis, overwrite=overwrite)
    return analysis


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
    store = analysis.scan_genotypes.source.store
    record.add_input("genotypes", store.path, store.fingerprint)
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
        if known == identity and not overwrite:
            analysis.earlier = _earlier_stages(out)
            return
        if not overwrite:
            raise OutputError(
                f"'{out}' holds the results of another analysis (other inputs or options): choose another --out, or pass "
                "--overwrite to replace them."
            )
        for name in _OURS:
            remove(out / name)
    write_json(path, {"identity": identity, "command": analysis.config.command})


def _earlier_stages(out: Path) -> dict[str, dict[str, Any]]:
    try:
        stages = json.loads((out / RUN_JSON).read_text())["stages"]
    except (OSError, ValueError, KeyError):
        return {}
    return {stage["name"]: stage for stage in stages}
