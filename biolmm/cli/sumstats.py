"""`biolmm sumstats`: the store of summary statistics, made and changed study by study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biolmm.cli.root import cli
from biolmm.cli.shared import PATH, budget_bytes, print_plans
from biolmm.errors import BiolmmError, ParameterError

if TYPE_CHECKING:
    from biolmm.sumstats.ingest.options import Rules, StudyInput
    from biolmm.sumstats.matrix.read import SumstatsStore

STORE = click.argument("store", type=PATH)
THREADS = click.option("--threads", type=int, metavar="N", help="Threads; every available processor by default.")


@cli.group()
def sumstats() -> None:
    """Harmonised summary statistics of many studies in one store."""


@sumstats.command()
@STORE
@click.argument("studies", type=PATH, nargs=-1, required=True)
@click.option(
    "--name", "names", multiple=True, metavar="NAME", help="Name of a study, in their order; the file's by default."
)
@click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="COLUMN=ROLE",
    help="What a column is, such as P_SPA=p or EAF=ignore; repeat. Roles are listed in docs/sumstats.md.",
)
@click.option(
    "--trait",
    "traits",
    multiple=True,
    metavar="NAME",
    help="Trait of a results folder, or study of a GWAS-VCF; repeat to add several from one place.",
)
@click.option("--n", type=float, metavar="N", help="Sample size, of files without one.")
@click.option(
    "--build", metavar="BUILD", help="GRCh37 or GRCh38: what positions refer to. Another than the store's is refused."
)
@click.option("--trait-type", type=click.Choice(["quantitative", "binary"]), help="Kept with the study.")
@click.option("--bim", type=PATH, metavar="FILE", help="Tells the other allele of PLINK 1's regressions.")
@click.option("--reference", type=PATH, metavar="FASTA", help="Decides REF and strand, and left-aligns indels.")
@click.option(
    "--palindromic",
    type=click.Choice(["frequency", "drop", "trust"]),
    help="A/T and C/G: by frequency (default), left out, or taken as they are.",
)
@click.option("--alleles", type=click.Choice(["catalogue", "metal"]), help="metal: match alleles as METAL does.")
@click.option(
    "--duplicates", type=click.Choice(["first", "best-p"]), help="Which record of a variant to keep; default first."
)
@click.option("--exact", is_flag=True, default=None, help="Double precision, and every p-value kept.")
@click.option("--effects-from-z", is_flag=True, default=None, help="Make beta and se from z, n and the frequency.")
@click.option("--replace", is_flag=True, help="Put a study in the place of the one of the same name.")
@THREADS
@click.option(
    "--memory", metavar="SIZE", help="Memory budget, such as 4GiB; three quarters of what is free by default."
)
@click.option("--plan", is_flag=True, help="Print bytes and memory, and stop.")
def add(**options: Any) -> None:
    """Add STUDIES (tables, Parquet, GWAS-VCF, results folders) to STORE, which is made if it is not there."""
    from biolmm.chunks import map_tasks, n_threads, threads
    from biolmm.sumstats.matrix.change import add_studies
    from biolmm.sumstats.matrix.plan import plan_add

    studies, rules = _studies(options), _rules(options)
    with threads(options["threads"]):
        plan = plan_add(studies, rules, n_threads=n_threads())
        if options["plan"]:
            print_plans([plan], options["memory"])
            return
        plan.check(budget_bytes(options["memory"]))
        store = add_studies(options["store"], studies, rules, replacing=options["replace"], build=options["build"],
                            map_tasks=map_tasks)  # fmt: skip
    names = {study.name for study in studies}
    _print_studies(store, [study for study in store.studies if study["name"] in names])


@sumstats.command()
@STORE
@click.argument("names", nargs=-1, required=True)
def remove(store: Path, names: tuple[str, ...]) -> None:
    """Remove the studies NAMES from STORE; the others' files are not touched."""
    from biolmm.sumstats.matrix.change import remove_studies

    left = remove_studies(store, names)
    click.echo(f"{store}: {left.n_studies} studies, {left.n_variants:,} variants")


@sumstats.command()
@STORE
def info(store: Path) -> None:
    """Say what is in STORE: studies, counts of records by reason, warnings."""
    from biolmm.sumstats.matrix.read import SumstatsStore

    opened = SumstatsStore.open(store)
    rules = ", ".join(f"{name} {value}" for name, value in opened.attributes["rules"].items() if value)
    click.echo(f"{store}: build {opened.build or 'not said'}; {'double' if opened.exact else 'single'} precision")
    click.echo(f"rules: {rules}")
    _print_studies(opened, opened.studies)


@sumstats.command()
@STORE
@THREADS
def verify(store: Path, threads: int | None) -> None:
    """Read all of STORE, compare checksums and look for contradictions."""
    from biolmm.chunks import map_tasks
    from biolmm.chunks import threads as using
    from biolmm.sumstats.matrix.verify import verify as look

    with using(threads):
        found = look(store, map_tasks=map_tasks)
    for damage in found.damages:
        click.echo(damage)
    if not found.is_intact:
        raise BiolmmError(
            f"{store} has {len(found.damages):,} damages. Restore it from a backup, or add the studies again."
        )
    click.echo(f"{store} is intact: {found.n_files:,} files, {found.n_bytes:,} bytes")


def _studies(options: dict[str, Any]) -> list[StudyInput]:
    """Pair files with traits and names."""
    from biolmm.sumstats.ingest.options import StudyInput

    paths, traits = options["studies"], options["traits"]
    if len(traits) > 1 and len(paths) > 1:
        raise ParameterError(f"--trait was given {len(traits)} times for {len(paths)} paths: give one path.")
    pairs = [(paths[0], trait) for trait in traits] if traits else [(path, None) for path in paths]
    pairs = [(path, traits[0]) for path in paths] if len(traits) == 1 else pairs
    names = options["names"] or [""] * len(pairs)
    if len(names) != len(pairs):
        raise ParameterError(f"--name was given {len(names)} times for {len(pairs)} studies: give one each, or none.")
    columns = column_roles(options["columns"])
    said = {name: options[name] for name in ("n", "build", "trait_type", "bim")}
    return [
        StudyInput(path, name=name, trait=trait, columns=columns, **said)
        for (path, trait), name in zip(pairs, names, strict=True)
    ]


def column_roles(given: Sequence[str]) -> dict[str, str]:
    """Read `--map COLUMN=ROLE`.

    Raises
    ------
    ParameterError
        When one is something else.
    """
    columns = {}
    for pair in given:
        column, sign, role = pair.rpartition("=")
        if not sign or not column:
            raise ParameterError(f"--map {pair!r} is no COLUMN=ROLE, such as P_SPA=p.")
        columns[column] = role.strip()
    return columns


def _rules(options: dict[str, Any]) -> Rules:
    """Take what was given, and of an existing store the rest."""
    from dataclasses import replace

    from biolmm.sumstats.ingest.options import Rules
    from biolmm.sumstats.matrix.read import SumstatsStore

    names = ("palindromic", "alleles", "duplicates", "reference", "exact", "effects_from_z")
    given = {name: options[name] for name in names if options[name] is not None}
    if options["store"].exists():
        return replace(SumstatsStore.open(options["store"]).rules, **given)
    return Rules(**given)


def _print_studies(store: SumstatsStore, studies: Any) -> None:
    click.echo(f"{store.n_variants:,} variants, {store.n_studies} studies")
    for study in studies:
        counts = dict(study["counts"])
        n, present = counts.pop("records", 0), counts.pop("present", 0)
        for name in ("known_variants", "palindromic"):
            counts.pop(name, None)
        click.echo(f"{study['name']}  ({study['format']})  {present:,} of {n:,} records")
        for reason, count in counts.items():
            if count:
                click.echo(f"  {reason:<22} {count:>12,}")
        for warning in study["warnings"]:
            click.echo(f"  warning: {warning}")
