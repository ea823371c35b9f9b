"""`biolmm plot`: figures for print and screen from results, stores and tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biolmm.cli.root import cli
from biolmm.cli.shared import PATH
from biolmm.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCE = click.argument("source", type=PATH)
TRAIT = click.option(
    "--trait", "--study", "trait", metavar="NAME", help="Of a folder of results or a store with several."
)
THRESHOLD = click.option(
    "--threshold", type=float, default=5e-8, show_default=True, metavar="P", help="Line of significance."
)


def _output(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every figure has."""
    for option in (
        click.option(
            "--dpi", type=click.IntRange(50, 1200), default=300, show_default=True, help="Of PNG, and of points."
        ),
        click.option("--title", metavar="TEXT", help="Title; none by default."),
        click.option(
            "--format", "kind", type=click.Choice(["png", "svg", "pdf"]), help="By the file's ending by default."
        ),
        click.option("--out", type=PATH, required=True, metavar="FILE", help="The figure."),
    ):
        command = option(command)
    return command


@cli.group()
def plot() -> None:
    """Figures: manhattan, miami, qq, forest, locus, af-af, rg."""


@plot.command()
@SOURCE
@TRAIT
@THRESHOLD
@click.option("--labels", type=click.IntRange(min=0), default=12, show_default=True, help="Leads to name, at most.")
@_output
def manhattan(source: Path, trait: str | None, threshold: float, labels: int, title: str | None, **output: Any) -> None:
    """Draw -log10 p of SOURCE (a folder of gwas or meta, a store, or a table) along the genome."""
    import numpy as np

    from biolmm.plots.manhattan import manhattan as draw
    from biolmm.results.loci import find_loci
    from biolmm.sumstats.export.frames import find_origin, read_genome

    _check_output(output)
    frame, _ = read_genome(find_origin(source, trait))
    height = float(-np.log10(_p(threshold)))
    leads = find_loci(frame, height) if labels else None
    _save(draw(frame, leads, title=title, threshold_neg_log10_p=height, max_labels=labels), output)


@plot.command()
@click.argument("upper", type=PATH)
@click.argument("lower", type=PATH)
@click.option(
    "--trait", "--study", "traits", multiple=True, metavar="NAME", help="Of UPPER and of LOWER: give it twice."
)
@click.option("--name", "names", multiple=True, metavar="TEXT", help="What the halves show: give it twice.")
@THRESHOLD
@click.option(
    "--labels", type=click.IntRange(min=0), default=8, show_default=True, help="Leads to name, at most, a half."
)
@_output
def miami(upper: Path, lower: Path, traits: tuple[str, ...], names: tuple[str, ...], threshold: float, labels: int,
          title: str | None, **output: Any) -> None:  # fmt: skip
    """Draw -log10 p of UPPER and LOWER back to back."""
    import numpy as np

    from biolmm.plots.miami import miami as draw
    from biolmm.results.loci import find_loci
    from biolmm.sumstats.export.frames import find_origin, read_genome

    _check_output(output)
    for option, given in (("--trait", traits), ("--name", names)):
        if len(given) not in (0, 2):
            raise ParameterError(f"{option} was given {len(given)} times: give it for both halves, or not at all.")
    first, second = traits or (None, None)
    origins = (find_origin(upper, first), find_origin(lower, second))
    frames = [read_genome(origin)[0] for origin in origins]
    height = float(-np.log10(_p(threshold)))
    leads = tuple(find_loci(frame, height) if labels else None for frame in frames)
    halves = names or (origins[0].name, origins[1].name)
    _save(draw(frames[0], frames[1], (halves[0], halves[1]), leads=(leads[0], leads[1]), title=title,
               threshold_neg_log10_p=height, max_labels=labels), output)  # fmt: skip


@plot.command()
@SOURCE
@TRAIT
@click.option("--samples", type=int, metavar="N", help="Sample size, to write into the figure.")
@_output
def qq(source: Path, trait: str | None, samples: int | None, title: str | None, **output: Any) -> None:
    """Draw observed against expected -log10 p of SOURCE, with the band of the null and lambda."""
    import numpy as np

    from biolmm.plots.qq import qq as draw
    from biolmm.results.diagnostics import lambda_gc
    from biolmm.sumstats.export.frames import find_origin, read_genome
    from biolmm.sumstats.meta.tails import z_from_neg_log10_p

    _check_output(output)
    _, tail = read_genome(find_origin(source, trait))
    inflation = lambda_gc(np.square(z_from_neg_log10_p(tail))) if len(tail) else None
    _save(draw(tail, lambda_gc=inflation, n_samples=samples, title=title), output)


@plot.command()
@click.argument("store", type=PATH)
@click.option(
    "--variant", required=True, metavar="NAME", help="An rs number, CONTIG:POSITION or CONTIG:POSITION:REF:ALT."
)
@click.option("--random", "method", type=click.Choice(["dl", "pm", "reml", "ml", "none"]), default="reml", show_default=True,
              help="Estimator of the variance between studies.")  # fmt: skip
@click.option("--odds-ratios", is_flag=True, help="Effects are log odds ratios: write odds ratios.")
@_output
def forest(store: Path, variant: str, method: Any, odds_ratios: bool, title: str | None, **output: Any) -> None:
    """Draw one variant of STORE in every study, with fixed and random effects and heterogeneity."""
    from biolmm.plots.forest import Summary
    from biolmm.plots.forest import forest as draw
    from biolmm.sumstats.export.frames import read_variant
    from biolmm.sumstats.matrix.read import SumstatsStore
    from biolmm.sumstats.meta.fixed_effects import inverse_variance
    from biolmm.sumstats.meta.random_effects import random_effects

    _check_output(output)
    opened = SumstatsStore.open(store)
    name, block = read_variant(opened, variant)
    if block.se is None or not (block.se > 0).any():
        raise ParameterError(f"No study of {store} has an effect with a standard error at {variant}.")
    fixed = inverse_variance(block)
    summaries = [Summary("Fixed effects", float(fixed.beta[0]), float(fixed.se[0]), float(fixed.neg_log10_p[0]))]
    tau2 = None
    if method != "none" and int(fixed.n_studies[0]) > 1:
        found = random_effects(block, method)
        tau2 = float(found.tau2[0])
        summaries.append(Summary(f"Random effects ({method.upper()})", float(found.beta[0]), float(found.se[0]),
                                 float(found.neg_log10_p[0])))  # fmt: skip
    several = int(fixed.n_studies[0]) > 1
    figure = draw(
        opened.study_id, block.beta[0], block.se[0], summaries, n=None if block.n is None else block.n[0],
        i_squared=float(fixed.heterogeneity.i2[0]) / 100 if several else None,
        q_neg_log10_p=float(fixed.heterogeneity.neg_log10_p[0]) if several else None, tau2=tau2, odds_ratios=odds_ratios,
        title=title or name,
    )  # fmt: skip
    _save(figure, output)


@plot.command()
@SOURCE
@TRAIT
@click.option("--region", metavar="REGION", help="Such as 6:25mb-34mb.")
@click.option("--lead", metavar="NAME", help="The variant in the middle: an rs number or CONTIG:POSITION.")
@click.option("--window", default="500kb", show_default=True, metavar="SIZE", help="To either side of --lead.")
@click.option(
    "--genotypes", type=PATH, multiple=True, metavar="PATH", help="A store or files, to colour by r2 with the lead."
)
@click.option(
    "--genes", type=PATH, metavar="FILE", help="Genes to draw below: BED, GFF, GTF, or a table with a header."
)
@THRESHOLD
@_output
def locus(source: Path, trait: str | None, region: str | None, lead: str | None, window: str, genotypes: tuple[Path, ...],
          genes: Path | None, threshold: float, title: str | None, **output: Any) -> None:  # fmt: skip
    """Draw -log10 p of one region of SOURCE."""
    import numpy as np

    from biolmm.ld.window import Window
    from biolmm.plots.locus import locus as draw
    from biolmm.regions import parse_region
    from biolmm.sumstats.export.frames import (
        find_origin,
        lead_row,
        r2_with_lead,
        read_genes,
        read_region,
        region_around,
    )

    _check_output(output)
    if region is None and lead is None:
        raise ParameterError("A locus needs --region, such as 6:25mb-34mb, or --lead, the variant in its middle.")
    origin = find_origin(source, trait)
    size = Window.parse(window)
    if not size.in_bp:
        raise ParameterError(f"--window {window} must be a length, such as 500kb.")
    where = parse_region(region) if region is not None else region_around(origin, str(lead), size.size)
    frame = read_region(origin, where)
    at = lead_row(frame, lead)
    r2 = None
    if genotypes:
        from biolmm.pipeline import Inputs
        from biolmm.pipeline.genotypes import open_data

        r2 = r2_with_lead(open_data(genotypes, Inputs(genotypes=genotypes)), frame, at)
    drawn = read_genes(genes, where) if genes is not None else None
    _save(draw(frame, lead=str(frame["rsid"].iloc[at]), r2=r2, genes=drawn, title=title,
               threshold_neg_log10_p=float(-np.log10(_p(threshold)))), output)  # fmt: skip


@plot.command("af-af")
@click.argument("store", type=PATH)
@click.option(
    "--study", "studies", multiple=True, required=True, metavar="NAME", help="Give it twice: reference, and study."
)
@click.option("--max-difference", type=float, default=0.2, show_default=True, metavar="F", help="Beyond, orange.")
@_output
def af_af(store: Path, studies: tuple[str, ...], max_difference: float, title: str | None, **output: Any) -> None:
    """Draw allele frequencies of two studies of STORE against each other."""
    from biolmm.plots.scatter import af_af as draw
    from biolmm.sumstats.export.frames import frequencies_of
    from biolmm.sumstats.matrix.read import SumstatsStore

    _check_output(output)
    if len(studies) != 2:
        raise ParameterError(f"--study was given {len(studies)} times: give the reference and the study.")
    x, y = frequencies_of(SumstatsStore.open(store), *studies)
    labels = (f"frequency in {studies[0]}", f"frequency in {studies[1]}")
    _save(draw(x, y, max_difference=max_difference, labels=labels, title=title), output)


@plot.command("rg")
@click.argument("table", type=PATH)
@click.option("--cluster", is_flag=True, help="Put alike traits side by side.")
@_output
def genetic_correlations(table: Path, cluster: bool, title: str | None, **output: Any) -> None:
    """Draw genetic correlations of TABLE (trait1, trait2, rg, rg_se) as a heat map."""
    from biolmm.plots.heatmap import correlation_heatmap
    from biolmm.sumstats.export.frames import read_correlations

    _check_output(output)
    found = read_correlations(table)
    figure = correlation_heatmap(found.rg, found.names, standard_errors=found.standard_errors, p_values=found.p_values,
                                 cluster=cluster, title=title)  # fmt: skip
    _save(figure, output)


def _p(threshold: float) -> float:
    if not 0 < threshold < 1:
        raise ParameterError(f"--threshold is {threshold:g} but must be between 0 and 1, such as 5e-8.")
    return threshold


def _check_output(output: dict[str, Any]) -> None:
    """Refuse an unknown format before anything is read."""
    from biolmm.plots.saving import format_of

    format_of(output["out"], output["kind"])


def _save(figure: Figure, output: dict[str, Any]) -> None:
    from biolmm.plots.saving import save_figure

    click.echo(save_figure(figure, output["out"], output["kind"], dpi=output["dpi"]))
