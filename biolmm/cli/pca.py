"""`biolmm pca` and `project`: principal components, and other people on them."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click

from biolmm.cli.options import choosing, reading, resources
from biolmm.cli.root import cli
from biolmm.cli.shared import PATH, budget_bytes, check_files, listed_samples, open_genotypes, print_plans, working
from biolmm.cli.where import cluster_option

_OUT = click.option("--out", type=PATH, required=True, metavar="FOLDER", help="Where tables and figures go.")
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace other results in that folder.")


@cli.command()
@choosing
@_OUT
@_OVERWRITE
@click.option("--components", "n_components", type=int, default=10, show_default=True, metavar="K", help="Components.")
@click.option(
    "--relatives",
    type=PATH,
    metavar="TABLE",
    help="Pairs with their kinship, as biolmm relatives writes them: components are computed on an unrelated "
    "set, the others are projected.",
)
@click.option(
    "--max-kinship",
    type=float,
    default=0.0442,
    show_default=True,
    metavar="X",
    help="Pairs of --relatives above this are related.",
)
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
@click.option("--tolerance", type=float, default=1e-3, show_default=True, help="Relative residual of the components.")
@click.option(
    "--max-passes",
    "max_products",
    type=int,
    default=10,
    show_default=True,
    metavar="N",
    help="Passes spent on them at most.",
)
@resources
@cluster_option
def pca(**options: Any) -> None:
    """Compute principal components of GENOTYPES (a store or files) with their loadings; use variants in little LD."""
    import numpy as np

    from biolmm.chunks import threads
    from biolmm.genotypes.filters import VariantFilters
    from biolmm.pipeline import Inputs
    from biolmm.pipeline.relatedness import choose_autosomes
    from biolmm.relatedness.pca import PcaConfig, find_components, plan_pca
    from biolmm.relatedness.pca_files import PCA_FILES, PCA_JSON, eigenvalue_table, write_components
    from biolmm.relatedness.unrelated import read_relatives, unrelated_set
    from biolmm.results.folder import claim_folder
    from biolmm.stages import content_hash

    names = ("n_components", "alpha", "scale", "tolerance", "max_products", "seed")
    filters = VariantFilters(**{name: options[name] for name in VariantFilters.__dataclass_fields__})
    config = PcaConfig(**{name: options[name] for name in names}, filters=filters)
    memory, out, command = budget_bytes(options["memory"]), options["out"], shlex.join(["biolmm", *sys.argv[1:]])
    with threads(options["threads"]):
        inputs = Inputs(**{name: options[name] for name in Inputs.__dataclass_fields__ if name in options})
        chosen = choose_autosomes(inputs, memory, command)
        source = chosen.source
        plan = plan_pca(source.store, source.n_samples, source.n_variants, config)
        if options["plan"]:
            print_plans([plan], options["memory"])
            return
        plan.check(memory)
        samples = source.reader.sample_index
        used = np.ones(len(samples), dtype=bool)
        if options["relatives"]:
            pairs = read_relatives(options["relatives"], source.store.sample_id[samples].tolist())
            used = unrelated_set(pairs, len(samples), options["max_kinship"])
        key = content_hash(source.reader.key, config.__dict__, used.tobytes())
        claim_folder(out, PCA_JSON, key, PCA_FILES, overwrite=options["overwrite"])
        with working():
            found = find_components(
                source.store, config, sample_index=samples, variants=source.variants, used=used,
                cache_bytes=min(source.reader.cache_bytes, memory - plan.peak_bytes),
            )  # fmt: skip
            check_files(source.store)
            record = {
                "command": command, "key": key, "dropped": chosen.record.dropped,
                "genotypes": {"path": str(source.store.path), "fingerprint": source.store.fingerprint},
            }  # fmt: skip
            write_components(found, out, config, record)
    click.echo(eigenvalue_table(found).to_string(index=False))
    projected = int((~used).sum())
    click.echo(f"{out}: {len(used):,} samples" + (f", {projected:,} of them projected" if projected else "")
               + f", {found.loadings.variants.n:,} variants")  # fmt: skip


@cli.command()
@click.argument("genotypes", type=PATH, nargs=-1, required=True)
@click.option("--loadings", type=PATH, required=True, metavar="FOLDER", help="What biolmm pca wrote for the reference.")
@_OUT
@_OVERWRITE
@reading
@click.option("--keep", type=PATH, metavar="FILE", help="Only the samples listed.")
@click.option("--remove", type=PATH, metavar="FILE", help="Not the samples listed.")
@resources
@cluster_option
def project(**options: Any) -> None:
    """Project the people of GENOTYPES (a store or files) on the components of a reference."""
    from biolmm.chunks import threads
    from biolmm.genotypes.weights import plan_weights
    from biolmm.relatedness.pca_files import PROJECT_FILES, PROJECT_JSON, read_loadings, write_projection
    from biolmm.relatedness.projection import project as project_on
    from biolmm.results.folder import claim_folder
    from biolmm.stages import content_hash

    out, command = options["out"], shlex.join(["biolmm", *sys.argv[1:]])
    with threads(options["threads"]):
        data = open_genotypes(options["genotypes"], options)
        loadings = read_loadings(options["loadings"])
        samples = listed_samples(data, options)
        plan = plan_weights(data, len(samples), loadings.variants.n, len(loadings.names), "projection")
        if options["plan"]:
            print_plans([plan], options["memory"])
            return
        plan.check(budget_bytes(options["memory"]))
        key = content_hash(data.fingerprint, samples.tobytes(), loadings.W.tobytes())
        claim_folder(out, PROJECT_JSON, key, PROJECT_FILES, overwrite=options["overwrite"])
        with working():
            found = project_on(data, loadings, samples)
            check_files(data)
            record = {"command": command, "key": key, "loadings": str(options["loadings"]),
                      "genotypes": {"path": str(data.path), "fingerprint": data.fingerprint}}  # fmt: skip
            write_projection(found, loadings, out, record)
    counts = found.matched.counts
    click.echo(f"{out}: {len(found.sample_id):,} samples, {counts['matched']:,} of {counts['wanted']:,} variants "
               f"({counts['swapped']:,} with alleles swapped)")  # fmt: skip
