"""`biolmm grm` and `relatives`: relatedness of every pair, and the pairs that are related."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biolmm.cli.options import choosing, resources
from biolmm.cli.root import cli
from biolmm.cli.shared import PATH, budget_bytes, print_plans, working
from biolmm.cli.where import cluster_option

if TYPE_CHECKING:
    import pandas as pd

    from biolmm.pipeline.relatedness import ChosenCohort
    from biolmm.relatedness.grm import Grm
    from biolmm.relatedness.relatives import RelativesConfig


@cli.command()
@choosing
@click.option("--out", type=PATH, required=True, metavar="OUT.zarr", help="Where the matrix goes.")
@click.option("--overwrite", is_flag=True, help="Replace the matrix that is there.")
@click.option(
    "--alpha", type=float, default=-1.0, show_default=True, help="Variant weights: scale [2p(1-p)]^(alpha/2)."
)
@click.option(
    "--scale",
    type=click.Choice(["hwe", "sample"]),
    default="hwe",
    show_default=True,
    help="Standardise by 2p(1-p) or by the sample's variance.",
)
@click.option(
    "--missing",
    type=click.Choice(["mean", "pairwise"]),
    default="mean",
    show_default=True,
    help="A missing genotype counts as the mean, or pairs are divided by the variants that both have (GCTA).",
)
@click.option("--per-contig", is_flag=True, help="Keep the matrix of every contig too, to leave any of them out.")
@click.option("--tile-samples", type=int, metavar="N", help="Side of a tile, a multiple of 64.")
@click.option(
    "--sparse-cutoff", type=float, metavar="K", help="Write OUT.grm.sp and OUT.sparse.npz: pairs of at least K."
)
@click.option(
    "--format",
    "formats",
    type=click.Choice(["gcta", "plink", "plink4"]),
    multiple=True,
    help="Write OUT.grm.bin, .grm.N.bin and .grm.id, or OUT.rel.bin (double, or single precision) too; repeat.",
)
@resources
@cluster_option
def grm(**options: Any) -> None:
    """Write the relatedness matrix of GENOTYPES (a store or files) to OUT.zarr, in tiles; goes on where it was stopped.

    GENOTYPES may also be a matrix: OUT.zarr, .grm.bin or .rel.bin, which is then copied or only exported.
    """  # fmt: skip
    from biolmm.chunks import threads

    memory = budget_bytes(options["memory"])
    with threads(options["threads"]):
        found = _opened_matrix(options) or _computed(options, memory)
        if found is None:
            return
        with working():
            written = _export(found, options)
    click.echo(
        f"{found.path}: {found.n_samples:,} samples" + (f", {found.n_variants:,} variants" * (found.n_variants >= 0))
    )
    for path in written:
        click.echo(str(path))


@cli.command()
@choosing
@click.option("--out", type=PATH, required=True, metavar="FILE.tsv", help="Where the table goes.")
@click.option("--overwrite", is_flag=True, help="Replace the table of other inputs or options.")
@click.option(
    "--min-kinship",
    type=float,
    default=0.0442,
    show_default=True,
    metavar="K",
    help="Pairs of at least this kinship: 0.354 duplicates, 0.177, 0.0884 and 0.0442 first to third degree.",
)
@click.option(
    "--pcs",
    type=PATH,
    metavar="TABLE",
    help="Kinship given these principal components (PC-Relate), for people of mixed ancestry.",
)
@click.option(
    "--training", type=PATH, metavar="FILE", help="With --pcs: the unrelated samples that frequencies are fitted on."
)
@resources
@cluster_option
def relatives(**options: Any) -> None:
    """List the pairs of related samples of GENOTYPES, their kinship (KING-robust) and degree."""  # fmt: skip
    from biolmm.chunks import threads
    from biolmm.relatedness.pc_relate import plan_pc_relatives
    from biolmm.relatedness.relatives import RelativesConfig, plan_relatives, write_relatives

    memory = budget_bytes(options["memory"])
    with threads(options["threads"]):
        config = RelativesConfig(options["min_kinship"], _filters(options))
        chosen = _chosen(options, memory)
        plan = plan_pc_relatives(chosen.source) if options["pcs"] else plan_relatives(chosen.source)
        if options["plan"]:
            print_plans([plan], options["memory"])
            return
        plan.check(memory)
        _claim_table(chosen, config, options)
        with working():
            table = (_given_components if options["pcs"] else _robust)(chosen, config, options)
            write_relatives(table, options["out"])
    click.echo(f"{options['out']}: {len(table):,} pairs of {chosen.source.n_samples:,} samples")
    names = {0: "duplicates or twins", 1: "first degree", 2: "second degree", 3: "third degree"}
    for degree, name in names.items():
        if count := int((table["degree"] == degree).sum()):
            click.echo(f"  {name}: {count:,}")


def _claim_table(chosen: ChosenCohort, config: RelativesConfig, options: dict[str, Any]) -> None:
    """Refuse to replace a table of other inputs or options, and write `FILE.tsv.json`, which says what it is of."""
    from dataclasses import asdict

    from biolmm.atomic import write_json
    from biolmm.errors import OutputError
    from biolmm.results.folder import claim_folder
    from biolmm.results.record import fingerprint_file
    from biolmm.stages import content_hash

    out: Path = options["out"]
    record = out.with_name(f"{out.name}.json")
    if out.exists() and not record.exists() and not options["overwrite"]:
        raise OutputError(
            f"'{out}' exists, and no {record.name} says what it is of: choose another --out, or pass --overwrite to "
            "replace it."
        )
    given = {name: str(options[name]) for name in ("pcs", "training") if options[name]}
    prints = {name: fingerprint_file(Path(path)) for name, path in given.items()}
    key = content_hash(chosen.source.reader.key, asdict(config), prints)
    # A record without a table is of a run that did not end: whoever comes next may have other options.
    claim_folder(out.parent, record.name, key, (out.name,), overwrite=options["overwrite"] or not out.exists())
    write_json(record, {
        "command": _command(), "key": key, "inputs": given, "dropped": chosen.record.dropped,
        "genotypes": {"path": str(chosen.source.store.path), "fingerprint": chosen.source.store.fingerprint},
    })  # fmt: skip


def _robust(chosen: ChosenCohort, config: RelativesConfig, options: dict[str, Any]) -> pd.DataFrame:
    from biolmm.relatedness.relatives import find_relatives, forget_parts

    parts = options["out"].with_name(options["out"].name + ".partial")
    table = find_relatives(chosen.source, config, parts=parts)
    forget_parts(parts)
    return table


def _given_components(chosen: ChosenCohort, config: RelativesConfig, options: dict[str, Any]) -> pd.DataFrame:
    import numpy as np

    from biolmm.errors import SampleMismatchError, named
    from biolmm.files.lists import read_id_list
    from biolmm.files.tables import read_table
    from biolmm.relatedness.pc_relate import pc_relatives

    table = read_table(options["pcs"]).select_dtypes("number")
    ids = chosen.source.store.sample_id[chosen.source.reader.sample_index]
    absent = [name for name in ids.tolist() if name not in table.index]
    if absent:
        raise SampleMismatchError(
            f"{len(absent):,} of {len(ids):,} samples are not in '{options['pcs']}': {named(absent)}. "
            "Project them (biolmm project), or leave them out with --keep."
        )
    training = np.isin(ids, read_id_list(options["training"])) if options["training"] else None
    return pc_relatives(chosen.source, table.loc[ids.tolist()].to_numpy(np.float64), config, training=training)


def _filters(options: dict[str, Any]) -> Any:
    from biolmm.genotypes.filters import VariantFilters

    return VariantFilters(**{name: options[name] for name in VariantFilters.__dataclass_fields__})


def _chosen(options: dict[str, Any], memory: int) -> ChosenCohort:
    from biolmm.pipeline import Inputs
    from biolmm.pipeline.relatedness import choose_autosomes

    inputs = Inputs(**{name: options[name] for name in Inputs.__dataclass_fields__ if name in options})
    return choose_autosomes(inputs, memory, _command())


def _command() -> str:
    return shlex.join(["biolmm", *sys.argv[1:]])


def _opened_matrix(options: dict[str, Any]) -> Grm | None:
    """Open, or copy to OUT.zarr, a matrix that was given instead of genotypes."""
    from biolmm.files.gcta_grm import is_gcta_grm
    from biolmm.files.plink_rel import is_plink_rel
    from biolmm.relatedness.exchange import import_grm
    from biolmm.relatedness.grm import Grm
    from biolmm.store.matrix import is_matrix

    given: Path = options["genotypes"][0]
    if len(options["genotypes"]) > 1 or not (is_matrix(given) or is_plink_rel(given) or is_gcta_grm(given)):
        return None
    opened = Grm.open(given)
    if given.absolute() == options["out"].absolute():
        return opened
    with working():
        return import_grm(opened, options["out"], overwrite=options["overwrite"])


def _computed(options: dict[str, Any], memory: int) -> Grm | None:
    """Compute the matrix; None where only the plan was asked for."""
    from biolmm.relatedness.build import GrmConfig, build_grm, plan_grm

    names = ("alpha", "scale", "missing", "per_contig", "tile_samples")
    config = GrmConfig(**{name: options[name] for name in names}, filters=_filters(options))
    chosen = _chosen(options, memory)
    if options["plan"]:
        print_plans([plan_grm(chosen.source, config, memory).stage], options["memory"])
        return None
    provenance = {"command": _command(), "dropped": chosen.record.dropped}
    with working():
        return build_grm(
            chosen.source, options["out"], config, memory_bytes=memory, overwrite=options["overwrite"],
            provenance=provenance,
        )  # fmt: skip


def _export(found: Grm, options: dict[str, Any]) -> list[Path]:
    """Write the other forms that were asked for beside OUT.zarr."""
    from biolmm.files.gcta_grm import write_sparse_grm
    from biolmm.relatedness.exchange import export_gcta, export_plink
    from biolmm.relatedness.sparse import save_sparse, sparse_grm

    out: Path = options["out"]
    prefix = out.with_name(out.name.removesuffix(".zarr"))
    written = []
    if "gcta" in options["formats"]:
        written.append(export_gcta(found, prefix))
    for name, dtype in (("plink", "<f8"), ("plink4", "<f4")):
        if name in options["formats"]:
            written.append(export_plink(found, prefix.with_name(prefix.name + ".rel.bin"), dtype=dtype))
    if options["sparse_cutoff"] is not None:
        chosen = sparse_grm(found, options["sparse_cutoff"])
        written.append(write_sparse_grm(prefix, chosen))
        written.append(save_sparse(chosen, prefix.with_name(prefix.name + ".sparse.npz")))
    return written
