"""`biolmm qc` and `prune`: which samples and variants are good, and which variants are nearly independent."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biolmm.cli.options import reading, resources
from biolmm.cli.root import cli
from biolmm.cli.shared import PATH, budget_bytes, open_genotypes, print_plans, working
from biolmm.cli.where import cluster_option

if TYPE_CHECKING:
    from biolmm.qc import QcConfig

GENOTYPES = click.argument("genotypes", type=PATH, nargs=-1, required=True)
BUILD = click.option("--build", metavar="BUILD", help="GRCh37 or GRCh38: where PAR and regions that go by a name are.")


def _threshold(name: str, default: float, text: str) -> Any:
    return click.option(f"--{name}", type=float, default=default, show_default=True, metavar="X", help=text)


@cli.command()
@GENOTYPES
@click.option("--out", type=PATH, required=True, metavar="FOLDER", help="Where tables, lists, figures and the page go.")
@click.option("--overwrite", is_flag=True, help="Replace another quality control in that folder.")
@reading
@click.option("--keep", type=PATH, metavar="FILE", help="Only the samples listed.")
@click.option("--remove", type=PATH, metavar="FILE", help="Not the samples listed.")
@BUILD
@click.option("--traits", type=PATH, metavar="TABLE", help="A table with a trait of two values, cases and controls.")
@click.option("--trait", metavar="NAME", help="Compare missingness between the cases and controls of this trait.")
@click.option("--by-sex", is_flag=True, help="Compare missingness between men and women.")
@_threshold("min-variant-call-rate", 0.98, "Flag variants with fewer genotypes.")
@_threshold("min-hwe-p", 1e-6, "Flag variants out of Hardy-Weinberg proportions: exact mid-p.")
@_threshold("min-maf", 0.0, "Flag variants of smaller minor allele frequency.")
@_threshold("min-mac", 0.0, "Flag variants of smaller minor allele count.")
@_threshold("min-info", 0.3, "Flag variants of worse imputation quality.")
@_threshold("min-missing-p", 1e-6, "Flag variants whose missingness differs between groups.")
@_threshold("min-sample-call-rate", 0.98, "Flag samples with fewer genotypes.")
@_threshold("max-abs-f", 0.2, "Flag samples whose inbreeding coefficient F is further from 0.")
@_threshold("max-f-deviations", 6.0, "Flag samples so many robust s.d. from the median F; 0 flags none.")
@_threshold("max-female-x-f", 0.2, "F on X below which a sample is a woman.")
@_threshold("min-male-x-f", 0.8, "F on X above which a sample is a man.")
@_threshold("max-singleton-deviations", 6.0, "Flag samples with so many robust s.d. more singletons; 0 flags none.")
@resources
@cluster_option
def qc(**options: Any) -> None:
    """Check the quality of GENOTYPES (a store or files): call rates, Hardy-Weinberg, sex, heterozygosity, singletons."""
    from biolmm.chunks import n_threads, threads
    from biolmm.files.tables import read_table
    from biolmm.qc import plan_qc, run_qc

    with threads(options["threads"]):
        data = open_genotypes(options["genotypes"], options)
        plan = plan_qc(data, n_threads())
        if options["plan"]:
            print_plans([plan], options["memory"])
            return
        plan.check(budget_bytes(options["memory"]))
        traits = read_table(options["traits"]) if options["traits"] else None
        with working():
            found = run_qc(
                data, options["out"], _qc_config(options), traits=traits, trait=options["trait"],
                command=shlex.join(["biolmm", *sys.argv[1:]]), overwrite=options["overwrite"],
            )  # fmt: skip
    for verdict in found.verdicts:
        click.echo(f"{verdict.level:<5} {verdict.name}: {verdict.measured}")
    click.echo(str(Path(options["out"]) / "qc.html"))


def _qc_config(options: dict[str, Any]) -> QcConfig:
    from biolmm.files.lists import read_id_list
    from biolmm.qc import QcConfig

    lists = {
        name: read_id_list(options[name], may_be_empty=name == "remove") if options[name] else None
        for name in ("keep", "remove")
    }
    rest: dict[str, Any] = {name: options[name] for name in QcConfig.__dataclass_fields__ if name not in lists}
    return QcConfig(**rest, keep=lists["keep"], remove=lists["remove"])


@cli.command()
@GENOTYPES
@click.option("--out", type=PATH, required=True, metavar="PREFIX", help="Writes PREFIX.prune.in and PREFIX.prune.out.")
@reading
@click.option(
    "--window", default="1000kb", show_default=True, metavar="SIZE", help="Variants, or a length such as 1000kb."
)
@click.option(
    "--step", type=int, default=1, show_default=True, metavar="N", help="Variants that a window of variants moves by."
)
@click.option(
    "--r2", type=float, default=0.2, show_default=True, metavar="R2", help="Of two variants above this, one goes."
)
@click.option("--extract", type=PATH, metavar="FILE", help="Choose among the variants listed.")
@click.option("--keep", type=PATH, metavar="FILE", help="Use only the samples listed.")
@click.option("--exclude-region", "exclude_regions", multiple=True, metavar="REGION",
              help="Leave out a region, mhc, long-range-ld or a BED file of regions; repeat.")  # fmt: skip
@BUILD
@resources
@cluster_option
def prune(**options: Any) -> None:
    """Choose nearly independent variants of GENOTYPES (a store or files), for --model-extract."""
    import numpy as np

    from biolmm.chunks import n_threads, threads
    from biolmm.files.lists import read_id_list, read_variant_list
    from biolmm.ld.lists import PruneRequest, prune_to_files
    from biolmm.ld.prune import PruneConfig, plan_prune
    from biolmm.ld.window import Window

    config = PruneConfig(window=Window.parse(options["window"]), step=options["step"], r2=options["r2"])
    request = PruneRequest(options["out"], config, options["exclude_regions"], options["build"])
    with threads(options["threads"]):
        data = open_genotypes(options["genotypes"], options)
        chosen = {}
        if options["keep"]:
            chosen["samples"] = np.flatnonzero(np.isin(data.sample_id, read_id_list(options["keep"])))
        if options["extract"]:
            wanted = np.array(read_variant_list(options["extract"]), dtype=data.variant_id.dtype)
            chosen["variants"] = np.flatnonzero(np.isin(data.variant_id, wanted))
        plan = plan_prune(data, config, n_workers=n_threads())
        if options["plan"]:
            print_plans([plan], options["memory"])
            return
        plan.check(budget_bytes(options["memory"]))
        with working():
            found = prune_to_files(data, request, **chosen)
    click.echo(f"{found.kept_file}: {found.kept:,} variants; {found.pruned:,} pruned, {found.not_diploid:,} not diploid, "
               f"{found.in_regions:,} in regions left out, {found.not_chosen:,} not chosen")  # fmt: skip
