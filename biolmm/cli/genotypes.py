"""`biolmm convert`, `info`, `verify` and `export`: genotype files and stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from biolmm.cli.options import reading, resources
from biolmm.cli.root import cli
from biolmm.cli.shared import PATH, budget_bytes, print_plans, working
from biolmm.cli.where import cluster_option


@cli.command()
@click.argument("files", type=PATH, nargs=-1, required=True)
@click.argument("store", type=PATH)
@reading
@click.option("--chunk-variants", type=int, metavar="N", help="Variants of a chunk, a multiple of 64.")
@click.option("--append", is_flag=True, help="Add the variants, say of another chromosome, to the STORE that is there.")
@click.option("--overwrite", is_flag=True, help="Replace the store.")
@resources
@cluster_option
def convert(append: bool, **options: Any) -> None:
    """Convert genotype FILES (BED, PGEN, BGEN, VCF, BCF, VCF Zarr; one or one a chromosome) to a STORE."""
    from biolmm.chunks import map_tasks, n_threads, threads
    from biolmm.store.append import append as append_files
    from biolmm.store.collection import Collection
    from biolmm.store.convert import convert_collection, plan_convert

    reads = {name: options[name] for name in ("sample_file", "encoding", "samples")}
    with threads(options["threads"]):
        if append:
            with working():
                store = append_files(
                    options["store"], options["files"], sample_file=options["sample_file"], map_tasks=map_tasks
                )
        else:
            collection = Collection.open(options["files"], **reads, chunk_variants=options["chunk_variants"])
            plan = plan_convert(collection, n_workers=n_threads())
            if options["plan"]:
                print_plans([plan], options["memory"])
                return
            plan.check(budget_bytes(options["memory"]))
            with working():
                store = convert_collection(
                    collection, options["store"], overwrite=options["overwrite"], map_tasks=map_tasks
                )
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


@cli.command()
@click.argument("store", type=PATH)
@click.option("--threads", type=int, metavar="N", help="Threads; every available processor by default.")
@cluster_option
def verify(store: Path, threads: int | None) -> None:
    """Read everything in a STORE again and say what is damaged."""
    from biolmm.chunks import map_tasks
    from biolmm.chunks import threads as use_threads
    from biolmm.errors import DamagedStoreError
    from biolmm.memory import format_bytes
    from biolmm.store.verify import verify as verify_store

    with use_threads(threads), working():
        found = verify_store(store, map_tasks=map_tasks)
    if not found.is_intact:
        for damage in found.damages:
            click.echo(str(damage))
        n = len(found.damages)
        raise DamagedStoreError(
            f"{store} is damaged in {n:,} place{'s' * (n > 1)}: restore it from a backup, or convert the files again."
        )
    click.echo(f"{store}: intact, {found.n_files:,} files, {format_bytes(found.n_bytes)}")


@cli.command()
@click.argument("store", type=PATH)
@click.argument("out", type=PATH)
@click.option("--format", "kind", type=click.Choice(["bed", "vcz"]), required=True,
              help="PLINK files OUT.bed, OUT.bim, OUT.fam, or a VCF Zarr store OUT.")  # fmt: skip
@click.option("--threads", type=int, metavar="N", help="Threads; every available processor by default.")
@cluster_option
def export(store: Path, out: Path, kind: str, threads: int | None) -> None:
    """Write a STORE in a format that other programs read; dosages become calls in a .bed."""
    from biolmm.chunks import map_tasks
    from biolmm.chunks import threads as use_threads
    from biolmm.store.read import GenotypeStore

    opened = GenotypeStore.open(store)
    with use_threads(threads), working():
        if kind == "bed":
            from biolmm.store.export_bed import export_bed

            click.echo(str(export_bed(opened, out, map_tasks=map_tasks).bed))
        else:
            from biolmm.store.export_vcz import export_vcz

            export_vcz(opened, out, map_tasks=map_tasks)
            click.echo(str(out))
