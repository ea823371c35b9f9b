"""`biolmm meta` and `biolmm metal`: meta-analysis of a store of summary statistics, and of METAL's scripts."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biolmm.cli.options import resources
from biolmm.cli.root import cli
from biolmm.cli.shared import PATH, budget_bytes, print_plans, working
from biolmm.cli.where import cluster_option

if TYPE_CHECKING:
    from biolmm.sumstats.analysis import MetaOptions


@cli.command()
@click.argument("script", type=PATH)
@click.option("--out-dir", type=PATH, metavar="FOLDER", help="Where tables go; by default where the script says.")
@click.option("--as-metal", is_flag=True, help="Go on where METAL does: leave out lines it ignores and files it skips.")
@click.option(
    "--memory", metavar="SIZE", help="Memory budget, such as 4GiB; three quarters of what is free by default."
)
@click.option(
    "--plan", is_flag=True, help="Check the script and the headers of its files, print what it costs, and stop."
)
def metal(script: Path, out_dir: Path | None, as_metal: bool, memory: str | None, plan: bool) -> None:
    """Run SCRIPT, a script of METAL's, and write its .TBL and .info files."""
    from biolmm.sumstats.metal.run import check_plan, plan_memory, run_plan
    from biolmm.sumstats.metal.script import read_script

    steps = read_script(script, as_metal=as_metal)
    columns = check_plan(steps, as_metal=as_metal)
    cost = plan_memory(steps, columns)
    if plan:
        print_plans([cost], memory)
        return
    cost.check(budget_bytes(memory))
    with working():
        tables = run_plan(steps, out_dir, as_metal=as_metal, columns=columns)
    for table in tables:
        click.echo(f"{table.path}: {table.n_markers:,} markers of {len(table.studies)} files")


@cli.command()
@click.argument("store", type=PATH)
@click.option("--out", type=PATH, required=True, metavar="FOLDER", help="Where the results go.")
@click.option("--overwrite", is_flag=True, help="Replace the results of another analysis in that folder.")
@click.option(
    "--scheme",
    type=click.Choice(["ivw", "samplesize"]),
    default="ivw",
    show_default=True,
    help="Fixed effects weighed by 1/se^2, or z by the square root of n.",
)
@click.option("--study", "studies", multiple=True, metavar="NAME", help="Analyse this study; repeat. Default: all.")
@click.option(
    "--random", type=click.Choice(["dl", "pm", "reml", "ml"]), help="Random effects, by this estimator of tau^2."
)
@click.option(
    "--knapp-hartung", is_flag=True, help="Standard errors of random effects from the residuals, and Student's t."
)
@click.option("--re2", is_flag=True, help="Han and Eskin's random effects.")
@click.option("--be", "binary_effects", is_flag=True, help="The binary-effects test of variants of interest.")
@click.option("--m-values", is_flag=True, help="Posterior of an effect in each study, of variants of interest.")
@click.option(
    "--interesting",
    "interesting_neg_log10_p",
    type=float,
    default=5.0,
    show_default=True,
    metavar="X",
    help="Variants of interest have -log10 p of at least this, by any test.",
)
@click.option(
    "--mr-mega",
    "axes",
    type=click.IntRange(min=0),
    default=0,
    metavar="K",
    help="Meta-regression on K axes of ancestry, from allele frequencies.",
)
@click.option(
    "--mantra", "partition", is_flag=True, help="Bayesian partition model of effects over ancestries (MANTRA's type)."
)
@click.option("--male", multiple=True, metavar="STUDY", help="A study of men, for sex-differentiated tests; repeat.")
@click.option("--female", multiple=True, metavar="STUDY", help="A study of women; repeat.")
@click.option(
    "--sex-correlation",
    type=float,
    default=0.0,
    show_default=True,
    metavar="R",
    help="Correlation of men's and women's estimates.",
)
@click.option("--leave-one-out", is_flag=True, help="Fixed effects without each study.")
@click.option(
    "--subgroups", type=PATH, metavar="TABLE", help="A study and its group a line: fixed effects of each group."
)
@click.option("--gc", "genomic_control", is_flag=True, help="Genomic control of each study.")
@click.option("--gc-result", "result_control", is_flag=True, help="Genomic control of the fixed-effects result.")
@click.option(
    "--gc-median",
    "lambda_rule",
    type=click.Choice(["metal", "ordinary"]),
    default="metal",
    show_default=True,
    help="METAL's upper median over 0.4549364, or the mean of both medians over the exact one.",
)
@click.option("--overlap", is_flag=True, help="Account for samples that studies share, by generalised least squares.")
@click.option(
    "--z-cutoff",
    type=float,
    default=1.0,
    show_default=True,
    metavar="Z",
    help="Correlations of studies are estimated from |z| below this.",
)
@click.option(
    "--min-studies", type=int, default=1, show_default=True, metavar="K", help="Only variants in so many studies."
)
@click.option("--min-maf", type=float, default=0.0, metavar="F", help="Only cells of this minor allele frequency.")
@click.option("--min-info", type=float, default=0.0, metavar="R", help="Only cells of this imputation quality.")
@click.option("--min-n", type=float, default=0.0, metavar="N", help="Only cells of this sample size.")
@click.option("--plots/--no-plots", default=True, show_default=True, help="Draw Manhattan and QQ plots.")
@resources
@cluster_option
def meta(**options: Any) -> None:
    """Meta-analyse the studies of STORE, which `biolmm sumstats add` made."""
    from biolmm.chunks import n_threads, threads
    from biolmm.sumstats.analysis import plan_meta, run_meta
    from biolmm.sumstats.matrix.read import SumstatsStore

    store, chosen = SumstatsStore.open(options["store"]), _options(options)
    with threads(options["threads"]):
        plans = plan_meta(store, chosen, n_threads())
        if options["plan"]:
            print_plans(plans, options["memory"])
            return
        for plan in plans:
            plan.check(budget_bytes(options["memory"]))
        with working():
            found = run_meta(store, options["out"], chosen, command=shlex.join(["biolmm", *sys.argv[1:]]),
                             overwrite=options["overwrite"], plots=options["plots"])  # fmt: skip
    click.echo(f"{found.out}: {found.n_variants:,} variants, lambda {found.lambda_result:.3f}, {found.n_loci:,} loci; "
               f"{found.n_left_out:,} in too few studies")  # fmt: skip


def _options(options: dict[str, Any]) -> MetaOptions:
    from biolmm.sumstats.analysis import MetaOptions
    from biolmm.sumstats.analysis.options import read_groups

    given = {name: options[name] for name in MetaOptions.__dataclass_fields__ if name in options}
    given["knapp_hartung"] = "on" if options["knapp_hartung"] else "off"
    given["groups"] = read_groups(options["subgroups"]) if options["subgroups"] else {}
    return MetaOptions(**given)
