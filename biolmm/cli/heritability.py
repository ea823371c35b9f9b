"""`biolmm h2` and `biolmm rg`: heritability, and the genetic correlation of traits."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from biolmm.cli.options import choosing, resources
from biolmm.cli.root import cli
from biolmm.cli.shared import PATH, budget_bytes, print_plans, working
from biolmm.cli.where import cluster_option

if TYPE_CHECKING:
    import pandas as pd

    from biolmm.pipeline.heritability import HeritabilityAnalysis


def _traits(command: Any) -> Any:
    """Add what says which traits, how they are fitted, and where results go."""
    for decorator in reversed((
        click.option("--traits", type=PATH, required=True, metavar="TABLE",
                     help="Traits: TSV, CSV or Parquet with sample ids."),
        click.option("--covariates", type=PATH, metavar="TABLE", help="Covariates; the intercept is implied."),
        click.option("--trait", "trait_names", multiple=True, metavar="NAME", help="Analyse this trait; repeat. Default: all."),
        click.option("--covariate", "covariate_names", multiple=True, metavar="NAME", help="Use this covariate; repeat."),
        click.option("--categorical", multiple=True, metavar="NAME",
                     help="Numbers of this covariate name categories; repeat."),
        click.option("--transform", type=click.Choice(["none", "rint", "rint-indirect"]), default="none", show_default=True,
                     help="Rank-based inverse normal transform, of the trait or of its residuals on the covariates."),
        click.option("--missing-value", metavar="NUMBER", help="A number that means missing in the tables, such as -9."),
        click.option("--pcs", "n_pcs", type=int, default=0, metavar="K", help="Add K principal components as covariates."),
        click.option("--method", type=click.Choice(["both", "reml", "rhe"]), default="both", show_default=True,
                     help="REML with randomised Haseman-Elston as a check, or either alone."),
        click.option("--prevalence", "prevalences", multiple=True, metavar="TRAIT=K",
                     help="Prevalence of a binary trait in the population, for the liability scale; repeat."),
        click.option("--solver", type=click.Choice(["auto", "exact", "stochastic"]), default="auto", show_default=True,
                     help="Explicit matrices (small cohorts) or streaming passes."),
        click.option("--alpha", type=float, default=-1.0, show_default=True,
                     help="Variant weights: scale [2p(1-p)]^(alpha/2)."),
        click.option("--scale", type=click.Choice(["hwe", "sample"]), default="hwe", show_default=True,
                     help="Standardise by 2p(1-p) or by the sample's variance."),
        click.option("--eigenpairs", type=int, default=20, show_default=True, help="Leading eigenpairs to compute."),
        click.option("--blocks", "n_blocks", type=int, default=100, show_default=True, metavar="N",
                     help="Blocks of variants that the jackknife leaves out."),
        click.option("--probes", "n_probes", type=int, default=16, show_default=True, metavar="N",
                     help="Random columns of Haseman-Elston."),
        click.option("--out", type=PATH, required=True, metavar="FOLDER", help="Where the results go."),
        click.option("--overwrite", is_flag=True, help="Replace other results in that folder."),
        resources,
    )):  # fmt: skip
        command = decorator(command)
    return command


@cli.command()
@choosing
@click.option(
    "--annotation",
    "annotations",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="Share h2 out among annotations: a table by variant id with a column each, or a UCSC .bed file; repeat.",
)
@click.option("--he-regression", is_flag=True, help="Regress on all pairs of samples as well (small cohorts).")
@_traits
@cluster_option
def h2(**options: Any) -> None:
    """Estimate the heritability of traits from GENOTYPES (a store or files): REML, moments, liability scale, annotations."""
    from biolmm.pipeline.heritability import plan_heritability, run_h2

    config = _analysis(options)
    if options["plan"]:
        print_plans(plan_heritability(config), options["memory"])
        return
    with working():
        tables = run_h2(config, overwrite=options["overwrite"])
    for text in (_h2_text(tables), _partition_text(tables)):
        if text:
            click.echo(text)
    click.echo(f"{options['out']}: {', '.join(f'{name}.tsv' for name in tables)}")


@cli.command()
@choosing
@click.option("--pair", "pairs", nargs=2, multiple=True, metavar="TRAIT TRAIT", help="This pair; repeat. Default: all.")
@_traits
@cluster_option
def rg(**options: Any) -> None:
    """Estimate genetic correlations of traits from GENOTYPES (a store or files): bivariate REML and moments, all pairs."""
    from biolmm.pipeline.heritability import MAP_NAME, plan_heritability, run_rg

    config = _analysis(options)
    if options["plan"]:
        print_plans(plan_heritability(config, pairs=True), options["memory"])
        return
    with working():
        tables = run_rg(config, overwrite=options["overwrite"])
    click.echo(_rg_text(tables["rg"]))
    click.echo(f"{options['out']}: {', '.join(f'{name}.tsv' for name in tables)}, {MAP_NAME}")


def _analysis(options: dict[str, Any]) -> HeritabilityAnalysis:
    from biolmm.cohort import CohortConfig
    from biolmm.genotypes.filters import VariantFilters
    from biolmm.heritability.config import HeritabilityConfig
    from biolmm.heritability.liability import parse_prevalences
    from biolmm.pipeline import AnalysisConfig, Inputs, Resources
    from biolmm.pipeline.heritability import HeritabilityAnalysis
    from biolmm.reml.fit import FitConfig
    from biolmm.reml.spectrum import SpectrumConfig

    memory = budget_bytes(options["memory"])
    spectrum = SpectrumConfig(seed=options["seed"], n_pairs=options["eigenpairs"])
    fit = FitConfig(
        solver=options["solver"], loco=False, alpha=options["alpha"], scale=options["scale"], spectrum=spectrum
    )
    analysis = AnalysisConfig(
        inputs=Inputs(**{name: options[name] for name in Inputs.__dataclass_fields__ if name in options}),
        out=options["out"],
        cohort=CohortConfig(
            trait_names=options["trait_names"] or None, covariate_names=options["covariate_names"] or None,
            categorical=options["categorical"], transform=options["transform"],
        ),
        fit=fit,
        resources=Resources(threads=options["threads"], memory_bytes=memory),
        n_pcs=options["n_pcs"],
        model_filters=VariantFilters(**{name: options[name] for name in VariantFilters.__dataclass_fields__}),
        command=shlex.join(["biolmm", *sys.argv[1:]]),
    )  # fmt: skip
    choices = HeritabilityConfig(
        fit=fit, method=options["method"], n_blocks=options["n_blocks"], n_probes=options["n_probes"],
        prevalences=parse_prevalences(options["prevalences"]), memory_bytes=max(memory // 4, 2**26),
    )  # fmt: skip
    return HeritabilityAnalysis(
        analysis, choices, options.get("annotations", ()), options.get("he_regression", False), options.get("pairs", ())
    )


def _number(value: float, digits: int = 4) -> str:
    return "–" if value != value else f"{value:.{digits}f}"


def _rows(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.to_dict("records")


def _h2_text(tables: dict[str, pd.DataFrame]) -> str:
    from biolmm.cli_text import table_text

    given = [tables[name] for name in ("h2", "rhe") if name in tables]
    if not given:
        return ""
    header = ["trait", "n"]
    lines = [[row["trait"], f"{row['n']:,}"] for row in _rows(given[0])]
    notes = []
    if "h2" in tables:
        header += ["h2", "se", "lrt_p"]
        for line, row in zip(lines, _rows(tables["h2"]), strict=True):
            line += [_number(row["h2"]), _number(row["h2_se"]), f"{row['lrt_p']:.2g}"]
    if "rhe" in tables:
        header += ["h2_rhe", "se_rhe"]
        for line, row in zip(lines, _rows(tables["rhe"]), strict=True):
            errors = [error for error in (row["h2_se"], row["h2_se_normal"]) if error == error]
            line += [_number(row["h2"]), _number(max(errors, default=float("nan")))]
            notes += [f"{row['trait']}: {row['flag']}"] if row["flag"] else []
    if given[0]["prevalence"].notna().any():
        header += ["h2_liability", "se"]
        for line, row in zip(lines, _rows(given[0]), strict=True):
            line += [_number(row["h2_liability"]), _number(row["h2_liability_se"])]
    return "\n".join([table_text(header, lines), *notes])


def _partition_text(tables: dict[str, pd.DataFrame]) -> str:
    from biolmm.cli_text import table_text

    if "partitioned" not in tables:
        return ""
    lines = [
        [f"{row['trait']} {row['annotation']}", _number(row["share_of_variants"]), _number(row["h2"]),
         _number(row["h2_se"]), _number(row["enrichment"], 2), _number(row["enrichment_se"], 2),
         f"{row['enrichment_p']:.2g}"]
        for row in _rows(tables["partitioned"])
    ]  # fmt: skip
    return table_text(["trait annotation", "share", "h2", "se", "enrichment", "se", "p"], lines)


def _rg_text(table: pd.DataFrame) -> str:
    from biolmm.cli_text import table_text

    rows = _rows(table)
    lines = [
        [f"{row['trait_1']} {row['trait_2']}", f"{row['n_both']:,}", row["method"], _number(row["rg"]),
         _number(row["rg_se"]), f"{row['rg0_p']:.2g}", f"{row['rg1_p']:.2g}", _number(row["rg_rhe"]),
         _number(row["rg_rhe_se"])]
        for row in rows
    ]  # fmt: skip
    text = table_text(["pair", "n_both", "by", "rg", "se", "p(rg=0)", "p(|rg|=1)", "rg_rhe", "se_rhe"], lines)
    notes = [f"{row['trait_1']} {row['trait_2']}: {row['flag']}" for row in rows if row["flag"]]
    return "\n".join([text, *notes])
