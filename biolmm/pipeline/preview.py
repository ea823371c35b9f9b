"""What an analysis would cost, without computing or writing anything: `--plan`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from biolmm.chunks import threads
from biolmm.memory import StagePlan
from biolmm.pipeline.config import AnalysisConfig
from biolmm.pipeline.expected import LEADS
from biolmm.pipeline.genotypes import AnalysisGenotypes, open_data
from biolmm.pipeline.inputs import match_samples, open_fitted, read_cohort
from biolmm.pipeline.plan import plan_analysis
from biolmm.pipeline.shape import Shape
from biolmm.pipeline.variants import ChosenVariants, choose_variants, scan_variants
from biolmm.reml.model import open_model_store
from biolmm.results.record import RunRecord

if TYPE_CHECKING:
    from biolmm.cluster.cost import Machine


def plan_only(config: AnalysisConfig, *, scan: bool = True, leads: float = LEADS) -> list[StagePlan]:
    """Return the plan of every stage of `run_gwas`, or of `run_fit`; the inputs are checked as they check them.

    `leads` is how many a trait the plan reckons with.
    """
    with threads(config.resources.threads):
        data = AnalysisGenotypes.open(config.inputs)
        cohort = read_cohort(config, data)
        variants = choose_variants(data.scan, data.model, config.inputs, RunRecord.start(config.command))
        return [*data.plan(), *plan_analysis(config, Shape.of(cohort, data, variants), scan=scan, leads=leads)]


def plan_scan_only(
    config: AnalysisConfig, model_folder: Path, *, loco: bool | None = None, leads: float = LEADS
) -> list[StagePlan]:
    """Return the plan of a scan with a fitted model."""
    config, model = open_fitted(config, model_folder, loco)
    with threads(config.resources.threads):
        scan = open_data(config.inputs.genotypes, config.inputs)
        data = AnalysisGenotypes(scan, open_model_store(model, scan))
        match_samples(scan.sample_id.tolist(), model.cohort(), scan.path)
        scanned = scan_variants(scan, config.inputs, RunRecord.start(config.command))
        variants = ChosenVariants(scanned, model.dataset["model_variant_index"].values)
        shape = Shape.of(model.cohort(), data, variants)
        return [
            plan
            for plan in plan_analysis(config, shape, leads=leads)
            if plan.stage in ("gamma", "scan", "leads", "report")
        ]


def measured_machine(config: AnalysisConfig, plans: Sequence[StagePlan]) -> Machine | None:
    """Measure what a core here does with as many samples as the plans have; None where no plan tells its work."""
    from biolmm.pipeline.machine import measure_machine

    works = [plan.work for plan in plans if plan.work is not None]
    if not works:
        return None
    names = sorted({passes.arithmetic for work in works for passes in work.passes})
    data = AnalysisGenotypes.open(config.inputs)
    return measure_machine(works[0].n_samples, None if data.needs_conversion else data.model, names)
