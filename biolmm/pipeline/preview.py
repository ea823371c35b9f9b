"""What an analysis would cost, without computing or writing anything: `--plan`."""

from __future__ import annotations

from pathlib import Path

from biolmm.chunks import n_threads, threads
from biolmm.memory import StagePlan
from biolmm.pipeline.config import AnalysisConfig, Inputs
from biolmm.pipeline.inputs import bed_files, choose_variants, match_samples, open_fitted, read_cohort, read_labels
from biolmm.pipeline.plan import Shape, plan_analysis
from biolmm.results.record import RunRecord
from biolmm.store.convert import plan_convert


def plan_only(config: AnalysisConfig, *, scan: bool = True) -> list[StagePlan]:
    """Return the plan of every stage of `run_gwas`, or of `run_fit`; the inputs are checked as they check them."""
    with threads(config.resources.threads):
        labels = read_labels(config.inputs)
        cohort = read_cohort(config, labels.sample_id)
        scanned, model = choose_variants(config.inputs, labels.variant_id, RunRecord.start(config.command))
        shape = Shape.of(cohort, len(model), len(scanned), labels.n_contigs)
        return [*_conversion(config.inputs), *plan_analysis(config, shape, scan=scan)]


def plan_scan_only(config: AnalysisConfig, model_folder: Path, *, loco: bool | None = None) -> list[StagePlan]:
    """Return the plan of a scan with a fitted model."""
    config, model = open_fitted(config, model_folder, loco)
    with threads(config.resources.threads):
        labels = read_labels(config.inputs)
        cohort = model.cohort()
        match_samples(labels.sample_id.tolist(), cohort, config.inputs.genotypes[0])
        scanned, _ = choose_variants(config.inputs, labels.variant_id, RunRecord.start(config.command))
        shape = Shape.of(cohort, int(model.dataset.sizes["model_variants"]), len(scanned), labels.n_contigs)
        stages = [plan for plan in plan_analysis(config, shape) if plan.stage in ("gamma", "scan")]
        return [*_conversion(config.inputs), *stages]


def _conversion(inputs: Inputs) -> list[StagePlan]:
    """Return the plan of the conversion where one is needed."""
    beds = bed_files(inputs.genotypes)
    return [] if beds is None else [plan_convert(beds, n_workers=n_threads())]
