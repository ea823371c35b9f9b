"""`biolmm gwas`, `fit`, `scan` and `report`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biolmm.cli.options import (
    arithmetic_options,
    cohort_inputs,
    filter_options,
    genotype_inputs,
    grm_option,
    method_option,
    model_options,
    output,
    resources,
    scan_options,
)
from biolmm.cli.root import cli
from biolmm.cli.shared import PATH, budget_bytes, print_plans, working
from biolmm.cli.where import cluster_option

if TYPE_CHECKING:
    from biolmm.memory import StagePlan
    from biolmm.pipeline import AnalysisConfig
    from biolmm.results.record import RunRecord


@cli.command()
@genotype_inputs
@filter_options
@cohort_inputs
@model_options
@scan_options
@method_option
@grm_option
@arithmetic_options
@output
@resources
@cluster_option
def gwas(**options: Any) -> None:
    """Genotypes and traits to mixed-model associations: convert, fit, scan, report."""
    from biolmm.pipeline import run_gwas
    from biolmm.pipeline.preview import plan_only

    config = analysis_config(options)
    if options["plan"]:
        _print_analysis(config, plan_only(config, leads=options["plan_leads"]), options)
        return
    with working():
        record = run_gwas(config, overwrite=options["overwrite"])
    _summary(config.out, record)


@cli.command()
@genotype_inputs
@filter_options
@cohort_inputs
@model_options
@arithmetic_options
@output
@resources
@cluster_option
def fit(**options: Any) -> None:
    """Fit the null model: heritability of every trait and the left-out predictors."""
    from biolmm.pipeline import run_fit
    from biolmm.pipeline.preview import plan_only

    config = analysis_config(options)
    if options["plan"]:
        _print_analysis(config, plan_only(config, scan=False), options)
        return
    with working():
        run_fit(config, overwrite=options["overwrite"])
    _print_h2(config.out)


@cli.command()
@genotype_inputs
@filter_options
@click.option("--model", type=PATH, required=True, metavar="FOLDER", help="The folder that fit or gwas wrote.")
@click.option("--loco/--no-loco", default=None, help="Leave the tested variant's contig out; by default as fitted.")
@scan_options
@method_option
@arithmetic_options
@output
@resources
@cluster_option
def scan(loco: bool | None, **options: Any) -> None:
    """Test variants with a model that was fitted before."""
    from biolmm.pipeline import run_scan_only
    from biolmm.pipeline.preview import plan_scan_only

    config = analysis_config(options)
    if options["plan"]:
        plans = plan_scan_only(config, options["model"], loco=loco, leads=options["plan_leads"])
        _print_analysis(config, plans, options)
        return
    with working():
        record = run_scan_only(config, options["model"], loco=loco, overwrite=options["overwrite"])
    _summary(config.out, record)


@cli.command()
@click.argument("results", type=PATH)
@click.option("--ld-scores", metavar="PREFIX", help="Regress the statistics on LD scores first; @ for the chromosome.")
@click.option("--threads", type=int, metavar="N", help="Threads; every available processor by default.")
def report(results: Path, ld_scores: str | None, threads: int | None) -> None:
    """Write RESULTS/report.html again from the files in RESULTS."""
    from biolmm.report import write_report

    if ld_scores is not None:
        from biolmm import chunks
        from biolmm.pipeline.calibration import write_calibration

        with chunks.threads(threads), working():
            write_calibration(results, ld_scores)
    click.echo(str(write_report(results)))


def analysis_config(options: dict[str, Any]) -> AnalysisConfig:
    """Turn the options of gwas, fit and scan into a configuration."""
    from biolmm.association.setup import ScanConfig
    from biolmm.cohort import CohortConfig
    from biolmm.genotypes.filters import VariantFilters
    from biolmm.pipeline import AnalysisConfig, Inputs, Resources
    from biolmm.reml.fit import FitConfig
    from biolmm.reml.spectrum import SpectrumConfig

    def given(*names: str) -> dict[str, Any]:
        return {name: options[name] for name in names if name in options}

    inputs = Inputs(**given(*Inputs.__dataclass_fields__))
    filters = VariantFilters(**given(*VariantFilters.__dataclass_fields__))
    model_min_maf = options.get("model_min_maf")
    model_filters = filters if model_min_maf is None else replace(filters, min_maf=model_min_maf)
    spectrum = SpectrumConfig(seed=options["seed"], n_pairs=options.get("eigenpairs", 20))
    names: dict[str, Any] = {
        name: options[name] or None if name != "categorical" else options[name]
        for name in ("trait_names", "covariate_names", "categorical")
        if name in options
    }
    return AnalysisConfig(
        inputs=inputs,
        out=options["out"],
        cohort=CohortConfig(**names, **given("transform")),
        fit=FitConfig(**given("solver", "loco", "alpha", "scale", "loco_tolerance", "fixed_h2"), spectrum=spectrum),
        scan=ScanConfig(exact_leads=options.get("exact_leads", True), seed=options["seed"], filters=filters),
        model_filters=model_filters,
        resources=Resources(
            threads=options["threads"], memory_bytes=budget_bytes(options["memory"]), scratch=options["scratch"]
        ),
        **given("method", "n_pcs", "known_model", "grm", "ld_scores", "precision", "device"),
        ssf="ssf" in options.get("formats", ()),
        command=shlex.join(["biolmm", *sys.argv[1:]]),
    )


def _print_analysis(config: AnalysisConfig, plans: list[StagePlan], options: dict[str, Any]) -> None:
    """Print a plan with the time that it takes, by the rates of this machine."""
    from biolmm.pipeline.preview import measured_machine

    print_plans(plans, options["memory"], measured_machine(config, plans), config.resources.threads)


def _print_h2(out: Path) -> None:
    from biolmm.cli_text import h2_text

    click.echo(h2_text(out))


def _summary(out: Path, record: RunRecord) -> None:
    from biolmm.cli_text import summary_text

    click.echo(summary_text(out, record))
