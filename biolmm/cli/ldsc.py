"""`biolmm ld-scores` and `biolmm ldsc`: LD scores of genotypes, and the regression of statistics on them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from biolmm.cli.options import reading, together
from biolmm.cli.root import cli
from biolmm.cli.shared import PATH, budget_bytes, print_plans, working
from biolmm.cli.where import cluster_option

if TYPE_CHECKING:
    import pandas as pd

    from biolmm.files.ldscore_files import LdScoreTable
    from biolmm.sumstats.ldsc.munge import MungeConfig, TraitStatistics
    from biolmm.sumstats.ldsc.regression import RegressionConfig

Command = TypeVar("Command", bound=Callable[..., Any])

THREADS = click.option("--threads", type=int, metavar="N", help="Threads; every available processor by default.")


@cli.command("ld-scores")
@click.argument("genotypes", type=PATH, nargs=-1, required=True)
@click.option(
    "--out", type=PATH, required=True, metavar="PREFIX", help="Writes PREFIX.l2.ldscore.gz and others; @: by contig."
)
@click.option(
    "--window", default="1000kb", show_default=True, metavar="SIZE", help="Distance such as 1cM or 1000kb, or variants."
)
@click.option(
    "--map", "genetic_map", type=PATH, metavar="FILE", help="Genetic map of a window in cM; @ for a file a contig."
)
@click.option(
    "--annot", multiple=True, metavar="PREFIX", help="Annotations, .annot files; @ for a file a contig; repeat."
)
@click.option("--annot-bed", "beds", multiple=True, metavar="NAME=BED", help="An annotation of regions; repeat.")
@click.option(
    "--base/--no-base", default=True, show_default=True, help="Put an annotation of every variant before others."
)
@click.option("--write-only", type=PATH, metavar="FILE", help="Write scores of the variants listed; all count.")
@click.option(
    "--min-maf", type=float, default=0.0, metavar="F", help="Leave out variants of smaller minor allele frequency."
)
@reading
@click.option("--keep", type=PATH, metavar="FILE", help="Only the samples listed.")
@click.option("--remove", type=PATH, metavar="FILE", help="Not the samples listed.")
@click.option("--extract", type=PATH, metavar="FILE", help="Only the variants listed.")
@click.option("--exclude", type=PATH, metavar="FILE", help="Not the variants listed.")
@THREADS
@click.option(
    "--memory", metavar="SIZE", help="Memory budget, such as 4GiB; three quarters of what is free by default."
)
@click.option("--plan", is_flag=True, help="Print bytes and memory, and stop.")
@cluster_option
def ld_scores(**options: Any) -> None:
    """LD scores of the autosomal variants of GENOTYPES (a store or files), whole or by annotations."""
    import numpy as np

    from biolmm.chunks import n_threads, threads
    from biolmm.errors import VariantMismatchError
    from biolmm.files.genetic_map import read_genetic_map
    from biolmm.files.lists import read_variant_list
    from biolmm.ld.score_files import gather_annotations, write_scores
    from biolmm.ld.scores import LdScoreConfig, Reach, plan_ld_scores
    from biolmm.ld.scores import ld_scores as compute
    from biolmm.pipeline import Inputs
    from biolmm.pipeline.relatedness import choose_autosomes

    config = LdScoreConfig(Reach.parse(options["window"]), options["min_maf"])
    with threads(options["threads"]):
        memory = budget_bytes(options["memory"])
        inputs = Inputs(**{name: options[name] for name in Inputs.__dataclass_fields__ if name in options})
        chosen = choose_autosomes(inputs, memory, shlex.join(["biolmm", *sys.argv[1:]])).source
        data, variants = chosen.store, chosen.variants
        given = options["genetic_map"]
        genetic_map = read_genetic_map(given, data.contig_id) if given else None
        names, values, n_unknown = gather_annotations(
            data, variants, options["annot"], options["beds"], base=options["base"]
        )
        plan = plan_ld_scores(data, config, n_workers=n_threads(), n_samples=chosen.n_samples, variants=variants,
                              n_annotations=len(names), genetic_map=genetic_map)  # fmt: skip
        if options["plan"]:
            print_plans([plan], options["memory"])
            return
        plan.check(memory)
        with working():
            found = compute(data, config, samples=chosen.reader.sample_index, variants=variants, annotations=values,
                            names=names, genetic_map=genetic_map)  # fmt: skip
        only = None
        if options["write_only"]:
            listed = np.array(read_variant_list(options["write_only"]), dtype=data.variant_id.dtype)
            only = np.isin(data.variant_id[found.variants], listed)
            if not only.any():
                raise VariantMismatchError(
                    f"None of the {len(listed):,} variants in '{options['write_only']}' has LD scores."
                )
        paths = write_scores(options["out"], data, found, only)
    for path in paths:
        click.echo(str(path))
    mean = found.scores[:, 0].mean()
    click.echo(f"{len(found.variants):,} variants of {found.n_samples:,} samples, mean {names[0]} score {mean:.3f}; "
               f"{found.n_left_out:,} left out, {n_unknown:,} without annotations")  # fmt: skip


@cli.group()
def ldsc() -> None:
    """LD score regression: heritability, confounding, genetic correlation, enrichment."""


STATISTICS = click.argument("statistics", type=PATH, nargs=-1, required=True)
_reference = together(
    click.option("--ld-scores", required=True, metavar="PREFIX", help="LD scores, PREFIX.l2.ldscore.gz; @ for the chromosome; "
                 "commas between annotations to put side by side."),
    click.option("--weights", metavar="PREFIX", help="LD scores among the variants of the regression; default --ld-scores."),
    click.option("--all-variants", is_flag=True, help="Count all variants (.l2.M), not only common ones (.l2.M_5_50)."),
    click.option("--blocks", type=int, default=200, show_default=True, metavar="N", help="Blocks of the jackknife."),
    THREADS,
)  # fmt: skip
_munging = together(
    click.option("--n", type=float, metavar="N", help="Sample size, of tables without one."),
    click.option("--min-info", type=float, default=0.9, show_default=True, metavar="X", help="Least imputation quality."),
    click.option("--min-maf", type=float, default=0.01, show_default=True, metavar="X", help="Minor allele frequency above this."),
    click.option("--min-n", type=float, metavar="N", help="Least sample size; the 90th percentile over 1.5 by default."),
    click.option("--merge-alleles", type=PATH, metavar="FILE", help="Only these variants with these alleles: SNP, A1, A2."),
    click.option("--map", "columns", multiple=True, metavar="COLUMN=ROLE", help="Of tables: what a column is, such as P_SPA=p; "
                 "repeat. Roles are listed in docs/sumstats.md."),
    click.option("--bim", type=PATH, metavar="FILE", help="Of PLINK 1's regressions: tells the other allele."),
)  # fmt: skip
_folder = together(
    click.option("--trait", "traits", multiple=True, metavar="NAME",
                 help="Of a results folder or a store: this trait or study; repeat."),
    click.option("--kind", type=click.Choice(["associations", "linear"]), help="Of a results folder: mixed model or regression."),
    click.option("--effective-n/--plain-n", default=True, show_default=True, help="Of a mixed model: N by the precision it has."),
)  # fmt: skip
_match_by = click.option("--match-by", type=click.Choice(["auto", "id", "position"]), default="auto", show_default=True,
                         help="Of stores and tables: find variants of the LD scores by identifier, by position and alleles, or "
                         "by what finds more.")  # fmt: skip
_two_step = click.option("--two-step", type=float, default=30.0, show_default=True, metavar="X",
                         help="Intercept from variants of smaller chi-squared; 0: one step.")  # fmt: skip


@ldsc.command()
@STATISTICS
@_reference
@click.option("--out", type=PATH, metavar="FILE", help="Write the table here, tab-separated.")
@click.option("--intercept", type=float, metavar="X", help="Fix the intercept, for example at 1.")
@_two_step
@click.option(
    "--prevalence", type=float, metavar="K", help="Of a binary trait in the population, for the liability scale."
)
@click.option("--cases", type=float, metavar="P", help="Fraction of cases in the sample.")
@_munging
@_folder
@_match_by
def h2(**options: Any) -> None:
    """Heritability, intercept and ratio of STATISTICS: folders of biolmm gwas or meta, stores of studies, files."""
    from biolmm.chunks import threads
    from biolmm.errors import ParameterError
    from biolmm.sumstats.ldsc.heritability import estimate_heritability, heritability_table
    from biolmm.sumstats.ldsc.join import join

    if (options["prevalence"] is None) != (options["cases"] is None):
        raise ParameterError("the liability scale needs --prevalence and --cases, but one of them is missing.")
    prevalence = None if options["cases"] is None else (options["prevalence"], options["cases"])
    with threads(options["threads"]), working():
        ld, weights = _ld_scores(options)
        found = [
            estimate_heritability(join([trait], ld, weights, common=not options["all_variants"]), _config(options),
                                  intercept=options["intercept"], prevalence=prevalence)[0]
            for trait in _traits(options, ld, alleles=False)
        ]  # fmt: skip
    columns = ["n_variants", "h2", "h2_se", "intercept", "intercept_se", "ratio", "ratio_se", "mean_chisq", "lambda_gc"]
    if prevalence is not None:
        columns += ["h2_liability", "h2_liability_se"]
    _show(heritability_table(found), ["trait", *columns], options["out"])


@ldsc.command()
@STATISTICS
@_reference
@click.option("--out", type=PATH, metavar="FILE", help="Write the table here, tab-separated.")
@click.option(
    "--intercept", type=float, metavar="X", help="Fix the covariance's intercept, at 0 without sample overlap."
)
@click.option(
    "--h2-intercept", type=float, metavar="X", help="Fix the intercepts of the heritabilities, for example at 1."
)
@_two_step
@click.option("--screen", is_flag=True, help="Weights common to all pairs: fast, without standard errors.")
@_munging
@_folder
@_match_by
def rg(**options: Any) -> None:
    """Genetic correlations of all pairs of the traits of STATISTICS."""
    from biolmm.chunks import threads
    from biolmm.sumstats.ldsc.correlation import correlation_table, estimate_correlations
    from biolmm.sumstats.ldsc.join import join

    with threads(options["threads"]), working():
        ld, weights = _ld_scores(options)
        joined = join(_traits(options, ld, alleles=True), ld, weights, common=not options["all_variants"], alleles=True)
        if options["screen"]:
            _show(_screened(joined), ["trait1", "trait2", "rg", "covariance", "intercept"], options["out"])
            return
        fixed = {name: options[name] for name in ("intercept", "h2_intercept")}
        found = estimate_correlations(joined, _config(options), **fixed)
    columns = [
        "trait1",
        "trait2",
        "n_variants",
        "rg",
        "rg_se",
        "neg_log_10_p_value",
        "h2_1",
        "h2_2",
        "intercept",
        "intercept_se",
    ]
    _show(correlation_table(found), columns, options["out"])


@ldsc.command()
@STATISTICS
@_reference
@click.option("--out", type=PATH, metavar="FILE", help="Write the table here, tab-separated.")
@click.option("--intercept", type=float, metavar="X", help="Fix the intercept.")
@click.option(
    "--chisq-max", type=float, metavar="X", help="Leave out variants of larger chi-squared; default max(0.001 N, 80)."
)
@click.option(
    "--annot", metavar="PREFIX", help="Annotations, to count the variants they share; default PREFIX.l2.overlap.tsv."
)
@click.option("--frequencies", metavar="PREFIX", help="PLINK's .frq or .afreq of the variants in --annot.")
@click.option("--no-overlap", is_flag=True, help="Annotations share no variants.")
@click.option("--cell-type", "cell_types", multiple=True, metavar="NAME=PREFIX", help="Test the first of these LD scores given "
              "those of --ld-scores; repeat.")  # fmt: skip
@_munging
@_folder
@_match_by
def partitioned(**options: Any) -> None:
    """Heritability by annotation, with enrichment and tests, of STATISTICS."""
    import pandas as pd

    from biolmm.chunks import threads
    from biolmm.files.ldscore_files import read_ld_scores
    from biolmm.sumstats.ldsc.join import join
    from biolmm.sumstats.ldsc.partitioned import PartitionedConfig, fit_partitioned, partitioned_table, rank_cell_types

    config = PartitionedConfig(options["blocks"], options["chisq_max"], options["intercept"])
    common, tables = not options["all_variants"], []
    with threads(options["threads"]), working():
        ld, weights = _ld_scores(options)
        cells = [
            (name, read_ld_scores(prefix))
            for name, _, prefix in (text.partition("=") for text in options["cell_types"])
        ]
        overlap = None if cells or options["no_overlap"] else _overlap(options, ld)
        for trait in _traits(options, ld, alleles=False):
            if cells:
                tables.append(rank_cell_types(trait, ld, cells, weights, config, common=common))
            else:
                found = fit_partitioned(join([trait], ld, weights, common=common), config)
                text = f"h2 {found.h2:.4f} ({found.h2_se:.4f}), intercept {found.intercept:.4f}"
                click.echo("; ".join([f"{trait.name}: {text}", *found.flags]))
                tables.append(partitioned_table(found, overlap))
            tables[-1].insert(0, "trait", trait.name)
    shown = [
        "annotation",
        "share_of_variants",
        "share_of_h2",
        "enrichment",
        "enrichment_se",
        "enrichment_p",
        "coefficient_p",
    ]
    if cells:
        shown = ["cell_type", "coefficient", "coefficient_se", "coefficient_p"]
    _show(pd.concat(tables, ignore_index=True), ["trait", *shown], options["out"])


@ldsc.command()
@STATISTICS
@click.option(
    "--out",
    type=PATH,
    required=True,
    metavar="PREFIX",
    help="Writes PREFIX.sumstats.gz; of several traits, PREFIX.TRAIT.…",
)
@_munging
@_folder
@THREADS
def munge(**options: Any) -> None:
    """Statistics of good variants, checked, as .sumstats.gz files for this program or LDSC."""
    from biolmm.chunks import threads
    from biolmm.sumstats.ldsc.munge import reasons
    from biolmm.sumstats.ldsc.sources import write_sumstats

    with threads(options["threads"]), working():
        traits = _traits(options, None, alleles=True)
        for trait in traits:
            name = options["out"].name if len(traits) == 1 else f"{options['out'].name}.{trait.name}"
            path = write_sumstats(options["out"].with_name(f"{name}.sumstats.gz"), trait)
            click.echo(f"{path}: {len(trait):,} of {trait.n_records:,} variants; {reasons(trait.dropped)}")
            for flag in trait.flags:
                click.echo(f"  {flag}")


def _ld_scores(options: dict[str, Any]) -> tuple[LdScoreTable, LdScoreTable | None]:
    from biolmm.files.ldscore_files import read_ld_scores

    return read_ld_scores(options["ld_scores"]), read_ld_scores(options["weights"]) if options["weights"] else None


def _config(options: dict[str, Any]) -> RegressionConfig:
    from biolmm.sumstats.ldsc.regression import RegressionConfig

    return RegressionConfig(options["blocks"], options["two_step"] or None)


def _munge_config(options: dict[str, Any], *, alleles: bool) -> MungeConfig:
    from biolmm.sumstats.ldsc.munge import MungeConfig

    return MungeConfig(
        options["min_info"], options["min_maf"], options["n"], options["min_n"], "snps" if alleles else "any"
    )


def _traits(options: dict[str, Any], ld: LdScoreTable | None, *, alleles: bool) -> list[TraitStatistics]:
    """Read every input, with the variants of the LD scores."""
    from biolmm.cli.sumstats import column_roles
    from biolmm.sumstats.ldsc.sources import read_all, read_snp_list
    from biolmm.sumstats.ldsc.studies import StudyConfig

    snp_list = read_snp_list(options["merge_alleles"]) if options["merge_alleles"] else None
    config = _munge_config(options, alleles=alleles or snp_list is not None)
    of_folder = {name: options[name] for name in ("traits", "kind", "effective_n")}
    how = StudyConfig(column_roles(options["columns"]), options["bim"], options.get("match_by", "auto"))
    return read_all(options["statistics"], config, keep=ld, snp_list=snp_list, how=how, **of_folder)


def _overlap(options: dict[str, Any], ld: LdScoreTable) -> Any:
    """Find the variants that annotations share, where there are several."""
    from biolmm.files.annot_files import overlap_of, read_annot, read_common, read_overlap

    if len(ld.names) == 1:
        return None
    common = not options["all_variants"]
    if options["annot"]:
        return overlap_of(
            read_annot(options["annot"]), read_common(options["frequencies"]) if options["frequencies"] else None
        )
    return read_overlap(options["ld_scores"], common=common)


def _screened(joined: Any) -> pd.DataFrame:
    """Make a table of what screening found."""
    import numpy as np
    import pandas as pd

    from biolmm.sumstats.ldsc.correlation import screen_correlations

    covariances, intercepts = screen_correlations(joined)
    h2 = np.where(np.diag(covariances) > 0, np.diag(covariances), np.nan)
    one, other = np.triu_indices(len(h2), 1)
    names = np.array(joined.names, dtype=object)
    return pd.DataFrame({"trait1": names[one], "trait2": names[other], "rg": covariances[one, other] / np.sqrt(h2[one] * h2[other]),
                         "covariance": covariances[one, other], "intercept": intercepts[one, other],
                         "h2_1": h2[one], "h2_2": h2[other]})  # fmt: skip


def _show(table: pd.DataFrame, columns: list[str], out: Path | None) -> None:
    """Print some columns and the flags; write the whole table where that is asked for."""
    from biolmm.cli_text import table_text
    from biolmm.results.folder import write_tsv

    def text(value: Any) -> str:
        if isinstance(value, float):
            return "NA" if value != value else f"{value:.4g}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    click.echo(table_text(columns, [[text(value) for value in row] for row in table[columns].values.tolist()]))
    if "flags" in table:
        for row in table[table["flags"] != ""].itertuples():
            click.echo(
                f"{' and '.join(str(getattr(row, name)) for name in columns[:2] if name.startswith('trait'))}: {row.flags}"
            )
    if out is not None:
        click.echo(str(write_tsv(out, table)))
