"""`biolmm convert` and `info`: genotype files and stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from biolmm.cli.options import resources
from biolmm.cli.root import cli
from biolmm.cli.shared import PATH, budget_bytes, print_plans, working
from biolmm.errors import ParameterError


@cli.command()
@click.argument("bed", type=PATH, nargs=-1, required=True)
@click.argument("store", type=PATH)
@click.option("--chunk-variants", type=int, metavar="N", help="Variants of a chunk, a multiple of 64.")
@click.option("--overwrite", is_flag=True, help="Replace the store.")
@resources
def convert(**options: Any) -> None:
    """Convert PLINK files BED… (one file set, or one a chromosome) to a STORE."""
    from biolmm.chunks import map_tasks, n_threads, threads
    from biolmm.pipeline.inputs import bed_files
    from biolmm.store.convert import convert as convert_files
    from biolmm.store.convert import plan_convert

    beds = bed_files(options["bed"])
    if beds is None:
        raise ParameterError(f"'{options['bed'][0]}' is a folder: give PLINK .bed files to convert.")
    with threads(options["threads"]):
        plan = plan_convert(beds, chunk_variants=options["chunk_variants"], n_workers=n_threads())
        if options["plan"]:
            print_plans([plan], options["memory"])
            return
        plan.check(budget_bytes(options["memory"]))
        chosen = {"chunk_variants": options["chunk_variants"], "overwrite": options["overwrite"]}
        with working():
            store = convert_files(beds, options["store"], map_tasks=map_tasks, **chosen)
    click.echo(f"{store.path}: {store.n_samples:,} samples × {store.n_variants:,} variants")


@cli.command()
@click.argument("store", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def info(store: Path, as_json: bool) -> None:
    """Describe a STORE: samples, contigs, sizes, frequencies, missingness."""
    import json

    from biolmm.cli_text import describe_text
    from biolmm.store.info import describe
    from biolmm.store.read import GenotypeStore

    found = describe(GenotypeStore.open(store))
    click.echo(json.dumps(found, indent=1, default=str) if as_json else describe_text(found))
