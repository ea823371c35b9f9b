"""`biolmm components`: many variance components by a formula."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biolmm.cli.options import cohort_inputs, filter_options, genotype_inputs, output, resources
from biolmm.cli.root import cli
from biolmm.cli.shared import PATH, budget_bytes, print_plans, working
from biolmm.cli.where import cluster_option
from biolmm.errors import ParameterError

if TYPE_CHECKING:
    from biolmm.components.formula import Formula
    from biolmm.pipeline.components import ComponentAnalysis


def _options(command: Any) -> Any:
    """Add the formula, the tables that its names refer to, and how it is fitted."""
    for option in reversed((
        click.option("--formula", metavar="TERMS",
                     help="Random effects, such as 'genetic + genetic:smoking + spatial(lat, lon)'."),
        click.option("--spec", type=PATH, metavar="FILE",
                     help="Random effects and their tables as a YAML file, instead of --formula."),
        click.option("--environment", type=PATH, metavar="TABLE",
                     help="Columns that the formula names: environments, coordinates, families, batches."),
        click.option("--features", multiple=True, metavar="NAME=TABLE",
                     help="A table of features, such as microbiome=taxa.tsv; repeat."),
        click.option("--matrix", "matrices", multiple=True, metavar="NAME=FILE",
                     help="A matrix: .npy with .id, .grm.bin, .rel.bin or what grm wrote; repeat."),
        click.option("--annotations", multiple=True, metavar="FILE", help="A table by variant, or NAME=FILE.bed; repeat."),
        click.option("--pedigree", type=PATH, metavar="FILE", help="A .fam file, or a table of IID, father, mother."),
        click.option("--solver", type=click.Choice(["auto", "exact", "stochastic"]), default="auto", show_default=True,
                     help="Explicit matrices (small cohorts) or passes with random probes."),
        click.option("--test/--no-test", default=True, show_default=True,
                     help="Fit the models without each component as well."),
        click.option("--blup", is_flag=True, help="Write blup.tsv: every effect of every person, predicted."),
        click.option("--alpha", type=float, default=-1.0, show_default=True,
                     help="Variant weights: scale [2p(1-p)]^(alpha/2)."),
        click.option("--scale", type=click.Choice(["hwe", "sample"]), default="hwe", show_default=True,
                     help="Standardise by 2p(1-p) or by the sample's variance."),
    )):  # fmt: skip
        command = option(command)
    return command


@cli.command()
@genotype_inputs
@filter_options
@cohort_inputs
@_options
@output
@resources
@cluster_option
def components(**options: Any) -> None:
    """Estimate many variance components: partitioned heritability, interactions, microbiome, space, families, and more."""
    from biolmm.components.results import results_text
    from biolmm.pipeline.components import plan_components, run_components

    config = _configuration(options)
    if options["plan"]:
        print_plans(plan_components(config), options["memory"])
        return
    with working():
        results = run_components(config, overwrite=options["overwrite"])
    click.echo(results_text(results))


def _configuration(options: dict[str, Any]) -> ComponentAnalysis:
    """Turn options into a configuration."""
    from biolmm.cohort import CohortConfig
    from biolmm.components.fit import ComponentConfig
    from biolmm.components.spec import ComponentTables, read_spec
    from biolmm.genotypes.filters import VariantFilters
    from biolmm.pipeline import AnalysisConfig, Inputs, Resources
    from biolmm.pipeline.components import ComponentAnalysis
    from biolmm.reml.fit import FitConfig
    from biolmm.reml.spectrum import SpectrumConfig

    def given(config: Any) -> dict[str, Any]:
        return {name: options[name] for name in config.__dataclass_fields__ if name in options}

    filters = VariantFilters(**given(VariantFilters))
    if options["model_min_maf"] is not None:
        filters = replace(filters, min_maf=options["model_min_maf"])
    analysis = AnalysisConfig(
        inputs=Inputs(**given(Inputs)),
        out=options["out"],
        cohort=CohortConfig(
            trait_names=options["trait_names"] or None,
            covariate_names=options["covariate_names"] or None,
            categorical=options["categorical"],
            transform=options["transform"],
        ),
        fit=FitConfig(alpha=options["alpha"], scale=options["scale"], spectrum=SpectrumConfig(seed=options["seed"])),
        model_filters=filters,
        n_pcs=options["n_pcs"],
        resources=Resources(
            threads=options["threads"], memory_bytes=budget_bytes(options["memory"]), scratch=options["scratch"]
        ),
        command=shlex.join(["biolmm", *sys.argv[1:]]),
    )
    annotations, regions = _annotations(options["annotations"])
    tables = ComponentTables(
        environment=options["environment"],
        features=_named("--features", options["features"]),
        matrices=_named("--matrix", options["matrices"]),
        annotations=annotations,
        regions=regions,
        pedigree=options["pedigree"],
    )
    formula: str | Formula | None = options["formula"]
    if (formula is None) == (options["spec"] is None):
        raise ParameterError("give the random effects once: with --formula TERMS, or with --spec FILE.")
    if formula is None:
        spec = read_spec(options["spec"])
        formula, tables = spec.formula, spec.tables.joined(tables)
        categorical = tuple(dict.fromkeys((*options["categorical"], *spec.categorical)))
        analysis = replace(analysis, cohort=replace(analysis.cohort, categorical=categorical))
    fit = ComponentConfig(solver=options["solver"], seed=options["seed"], test=options["test"], blup=options["blup"])
    return ComponentAnalysis(analysis, formula, tables, fit)


def _named(option: str, texts: tuple[str, ...]) -> dict[str, Path]:
    """Read `NAME=FILE`."""
    found: dict[str, Path] = {}
    for text in texts:
        name, sign, path = text.partition("=")
        if not (name and sign and path):
            raise ParameterError(f"{option} '{text}' is not NAME=FILE, for example microbiome=taxa.tsv.")
        if name in found:
            raise ParameterError(f"{option} names '{name}' twice: every table needs a name of its own.")
        found[name] = Path(path)
    return found


def _annotations(texts: tuple[str, ...]) -> tuple[Path | None, dict[str, Path]]:
    """Tell the table by variant from BED files, which have names."""
    regions = _named("--annotations", tuple(text for text in texts if "=" in text))
    tables = [text for text in texts if "=" not in text]
    if len(tables) > 1:
        raise ParameterError(
            f"--annotations was given {len(tables)} tables: put the columns in one; BED files are NAME=FILE.bed."
        )
    return (Path(tables[0]) if tables else None), regions
