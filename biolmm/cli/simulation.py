"""`biolmm simulate`: invented cohorts."""

from __future__ import annotations

from typing import Any

import click

from biolmm.cli.options import resources
from biolmm.cli.root import cli
from biolmm.cli.shared import PATH, budget_bytes, numbers, print_plans, working
from biolmm.cli.where import cluster_option


@cli.command()
@click.argument("out", type=PATH)
@click.option("--samples", "n_samples", type=int, required=True, metavar="N", help="People.")
@click.option("--variants", "n_variants", type=int, required=True, metavar="M", help="Variants.")
@click.option("--traits", "n_traits", type=int, default=1, show_default=True, metavar="T", help="Traits.")
@click.option("--h2", default="0.25", show_default=True, metavar="H2[,H2…]", help="Heritability, one or one a trait.")
@click.option(
    "--missing", "missing_traits", type=float, default=0.02, show_default=True, help="Share of missing trait values."
)
@click.option("--missing-genotypes", type=float, default=0.005, show_default=True, help="Share of missing calls.")
@click.option("--populations", "n_populations", type=int, default=3, show_default=True, help="Ancestral populations.")
@click.option("--fst", type=float, default=0.05, show_default=True, help="Drift between them.")
@click.option(
    "--families", "family_fraction", type=float, default=0.3, show_default=True, help="Share of people with relatives."
)
@click.option("--contigs", "n_contigs", type=int, default=22, show_default=True, help="Autosomes.")
@click.option("--causal", "n_causal", type=int, metavar="N", help="Causal variants a trait; all by default.")
@click.option("--large", "n_large", type=int, default=0, show_default=True, help="Variants of large effect a trait.")
@click.option("--large-share", type=float, default=0.3, show_default=True, help="Their share of the genetic variance.")
@click.option(
    "--causal-contigs",
    type=click.Choice(["all", "odd"]),
    default="all",
    show_default=True,
    help="odd leaves contigs 2, 4, 6 … without effects.",
)
@click.option("--maf-min", type=float, default=0.01, show_default=True, help="Lowest minor allele frequency.")
@click.option("--chunk-variants", type=int, metavar="N", help="Variants of a chunk, a multiple of 64.")
@click.option("--bed", is_flag=True, help="Write PLINK files too.")
@resources
@cluster_option
def simulate(**options: Any) -> None:
    """Simulate a realistic cohort into the store OUT, with traits, covariates and the truth beside it."""
    from biolmm.chunks import map_tasks, n_threads, threads
    from biolmm.simulate import SimulateConfig, plan_simulate
    from biolmm.simulate import simulate as simulate_cohort

    taken = {k: v for k, v in options.items() if k not in ("out", "threads", "memory", "plan", "h2")}
    if not options["n_large"]:
        taken.pop("large_share")
    config = SimulateConfig(**taken, h2=numbers(options["h2"], "h2"))
    with threads(options["threads"]):
        plan = plan_simulate(config, n_workers=n_threads())
        if options["plan"]:
            print_plans([plan], options["memory"])
            return
        plan.check(budget_bytes(options["memory"]))
        with working():
            files = simulate_cohort(config, options["out"], map_tasks=map_tasks)
    click.echo(f"{files.store}: {config.n_samples:,} samples × {config.n_variants:,} variants")
    click.echo(f"{files.traits}: {config.n_traits:,} traits")
