"""What an analysis would cost, without computing or writing anything: `--plan`."""

from __future__ import annotations

from pathlib import Path

from biolmm.chunks import threads
from biolmm.memory import StagePlan
from biolmm.pipeline.config import AnalysisConfig
from biolmm.pipeline.genotypes import AnalysisGenotypes, open_data
from biolmm.pipeline.inputs import match_samples, open_fitted, read_cohort
from biolmm.pipeline.plan import Shape, plan_analysis
from biolmm.pipeline.variants import ChosenVariants, choose_variants, scan_variants
from biolmm.reml.model import open_model_store
from biolmm.results.record import RunRecord


def plan_only(config: AnalysisConfig, *, scan: bool = True) -> list[StagePlan]:
    """Return the plan of every stage of `run_gwas`, or of `run_fit`; the inputs are checked as they check them."""
    with threads(config.resources.threads):
        data = AnalysisGenotypes.open(config.inputs)
        cohort = read_cohort(config, data)
        variants = choose_variants(data.scan, data.model, config.inputs, RunRecord.start(config.command))
        return [*data.plan(), *plan_analysis(config, Shape.of(cohort, data, variants), scan=scan)]


def plan_scan_only(config: AnalysisConfig, model_folder: Path, *, loco: bool | None = None) -> list[StagePlan]:
    """Return the plan of a scan with a fitted model."""
    config, model = open_fitted(config, model_folder, loco)
    with threads(config.resources.threads):
        scan = open_data(config.inputs.genotypes, config.inputs)
        data = AnalysisGenotypes(scan, open_model_store(model, scan))
        match_samples(scan.sample_id.tolist(), model.cohort(), scan.path)
        scanned = scan_variants(scan, config.inputs, RunRecord.start(config.command))
        variants = ChosenVariants(scanned, model.dataset["model_variant_index"].values)
        shape = Shape.of(model.cohort(), data, variants)
        return [plan for plan in plan_analysis(config, shape) if plan.stage in ("gamma", "scan")]
