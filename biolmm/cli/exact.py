"""`biolmm sets`: sets of variants as fixed effects of the exact mixed model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from biolmm.cli.analyses import analysis_config
from biolmm.cli.options import (
    cohort_inputs,
    filter_options,
    genotype_inputs,
    grm_option,
    model_options,
    output,
    resources,
)
from biolmm.cli.root import cli
from biolmm.cli.shared import PATH, print_plans, working
from biolmm.cli.where import cluster_option


@cli.command()
@click.option(
    "--set-file", type=PATH, required=True, metavar="FILE", help="A set, a variant id and, if wanted, a weight a line."
)
@genotype_inputs
@filter_options
@cohort_inputs
@model_options
@grm_option
@output
@resources
@cluster_option
def sets(set_file: Path, **options: Any) -> None:
    """Test sets of variants, such as genes: their weighted sum, and all of them jointly."""
    from biolmm.pipeline.preview import plan_only
    from biolmm.pipeline.run import run_sets

    config = analysis_config({**options, "method": "exact"})
    if options["plan"]:
        print_plans(plan_only(config), options["memory"])
        return
    with working():
        run_sets(config, set_file, overwrite=options["overwrite"])
    click.echo(str(config.out / "sets.tsv"))
