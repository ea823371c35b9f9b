"""What an analysis would cost, without computing or writing anything: `--plan`."""

from __future__ import annotations

from pathlib import Path

from biolmm.chunks import n_threads, threads
from biolmm.memory import StagePlan
from biolmm.pipeline.config import AnalysisConfig, Inputs
from biolmm.pipeline.inputs import bed_files, match_samples, open_fitted, read_cohort
from biolmm.pipeline.plan import Shape, plan_analysis
from biolmm.store.convert import plan_convert, read_bed_input
from biolmm.store.read import GenotypeStore


def plan_only(config: AnalysisConfig) -> list[StagePlan]:
    """Return the plan of every stage of `run_gwas`; the inputs are checked as it checks them."""
    with threads(config.resources.threads):
        ids, n_variants, n_contigs, first = _genotypes(config.inputs)
        cohort = read_cohort(config, ids)
        return [*first, *plan_analysis(config, Shape.of(cohort, n_variants, n_variants, n_contigs))]


def plan_scan_only(config: AnalysisConfig, model_folder: Path, *, loco: bool | None = None) -> list[StagePlan]:
    """Return the plan of a scan with a fitted model."""
    config, model = open_fitted(config, model_folder, loco)
    with threads(config.resources.threads):
        ids, n_variants, n_contigs, first = _genotypes(config.inputs)
        cohort = model.cohort()
        match_samples(ids, cohort, config.inputs.genotypes[0])
        shape = Shape.of(cohort, int(model.dataset.sizes["model_variants"]), n_variants, n_contigs)
        return [*first, *(plan for plan in plan_analysis(config, shape) if plan.stage in ("gamma", "scan"))]


def _genotypes(inputs: Inputs) -> tuple[list[str], int, int, list[StagePlan]]:
    """Return sample ids, numbers of variants and contigs, and the plan of a conversion where one is needed."""
    beds = bed_files(inputs.genotypes)
    if beds is None:
        store = GenotypeStore.open(inputs.genotypes[0])
        return store.sample_id.tolist(), store.n_variants, len(store.contig_id), []
    given = read_bed_input(beds)
    plan = plan_convert(beds, n_workers=n_threads())
    return given.samples.sample_id.tolist(), given.variants.n, len(given.variants.contig_id), [plan]
