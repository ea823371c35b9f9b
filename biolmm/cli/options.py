"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from biolmm.cli.shared import PATH

Command = TypeVar("Command", bound=Callable[..., Any])


def together(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Make one decorator of several, which apply from the last to the first."""

    def apply(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


resources = together(
    click.option("--threads", type=int, metavar="N", help="Threads; every available processor by default."),
    click.option(
        "--memory", metavar="SIZE", help="Memory budget, such as 4GiB; three quarters of what is free by default."
    ),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=1,
        show_default=True,
        metavar="N",
        help="Seed of every random draw.",
    ),
    click.option("--plan", is_flag=True, help="Print passes, bytes and memory of every stage, and stop."),
)
reading = together(
    click.option("--sample-file", type=PATH, metavar="FILE", help="The .sample file of BGEN files that name no samples."),
    click.option("--encoding", type=click.Choice(["auto", "calls", "dosage8", "dosage16"]), default="auto", show_default=True,
                 help="Read files as hard calls or as dosages of 8 or 16 bits; auto: dosages where there are any."),
    click.option("--samples", type=click.Choice(["intersection", "union"]), default="intersection", show_default=True,
                 help="Of files that hold different people: those in all of them, or everybody."),
)  # fmt: skip
genotype_inputs = together(
    click.option("--genotypes", type=PATH, multiple=True, required=True, metavar="PATH",
                 help="A store (NAME.zarr), or BED, PGEN, BGEN, VCF, BCF or VCF Zarr; repeat, or quote a pattern such as "
                 "'chr{1..22}.bgen'."),
    reading,
    click.option("--extract", type=PATH, metavar="FILE", help="Scan only the variants listed."),
    click.option("--exclude", type=PATH, metavar="FILE", help="Leave out the variants listed, everywhere."),
    click.option("--region", "regions", multiple=True, metavar="REGION", help="Scan only here, such as 6:25mb-34mb; repeat."),
    click.option("--exclude-region", "exclude_regions", multiple=True, metavar="REGION",
                 help="Leave out a region, mhc or long-range-ld, everywhere; repeat."),
    click.option("--build", metavar="BUILD", help="GRCh37 or GRCh38: where PAR, mhc and long-range-ld are."),
    click.option("--male-x", type=click.Choice(["0/2", "0/1"]), default="0/2", show_default=True,
                 help="How males count on X outside PAR."),
)  # fmt: skip
filter_options = together(
    click.option(
        "--min-maf", type=float, default=0.0, metavar="F", help="Only variants of this minor allele frequency."
    ),
    click.option("--min-mac", type=float, default=0.0, metavar="N", help="Only variants of this minor allele count."),
    click.option(
        "--max-missing", type=float, default=1.0, metavar="F", help="Only variants with no more missing genotypes."
    ),
    click.option("--min-info", type=float, default=0.0, metavar="R", help="Only variants of this imputation quality."),
    click.option(
        "--min-hwe-p", type=float, default=0.0, metavar="P", help="Only variants in Hardy-Weinberg proportions."
    ),
)
choosing = together(
    click.argument("genotypes", type=PATH, nargs=-1, required=True),
    reading,
    click.option("--keep", type=PATH, metavar="FILE", help="Only the samples listed."),
    click.option("--remove", type=PATH, metavar="FILE", help="Not the samples listed."),
    click.option("--extract", type=PATH, metavar="FILE", help="Only the variants listed."),
    click.option("--exclude", type=PATH, metavar="FILE", help="Not the variants listed."),
    click.option("--region", "regions", multiple=True, metavar="REGION", help="Only here, such as 6:25mb-34mb; repeat."),
    click.option("--exclude-region", "exclude_regions", multiple=True, metavar="REGION",
                 help="Leave out a region, mhc or long-range-ld; repeat."),
    click.option("--build", metavar="BUILD", help="GRCh37 or GRCh38: where PAR, mhc and long-range-ld are."),
    filter_options,
)  # fmt: skip
cohort_inputs = together(
    click.option("--traits", type=PATH, required=True, metavar="TABLE", help="Traits: TSV, CSV or Parquet with sample ids."),
    click.option("--covariates", type=PATH, metavar="TABLE", help="Covariates; the intercept is implied."),
    click.option("--trait", "trait_names", multiple=True, metavar="NAME", help="Analyse this trait; repeat. Default: all."),
    click.option("--covariate", "covariate_names", multiple=True, metavar="NAME", help="Use this covariate; repeat."),
    click.option("--categorical", multiple=True, metavar="NAME", help="Numbers of this covariate name categories; repeat."),
    click.option("--keep", type=PATH, metavar="FILE", help="Only the samples listed."),
    click.option("--remove", type=PATH, metavar="FILE", help="Not the samples listed."),
    click.option("--model-genotypes", type=PATH, multiple=True, metavar="PATH",
                 help="Make the relatedness matrix of these genotypes (array) instead of --genotypes (imputed); repeat."),
    click.option("--model-extract", type=PATH, metavar="FILE", help="Make the relatedness matrix of the variants listed."),
    click.option("--model-exclude-region", "model_exclude_regions", multiple=True, metavar="REGION",
                 help="Leave a region, mhc or long-range-ld out of the relatedness matrix; repeat."),
    click.option("--model-min-maf", type=float, metavar="F", help="--min-maf for the relatedness matrix, where it differs."),
    click.option("--transform", type=click.Choice(["none", "rint", "rint-indirect"]), default="none", show_default=True,
                 help="Rank-based inverse normal transform, of the trait or of its residuals on the covariates."),
    click.option("--missing-value", metavar="NUMBER", help="A number that means missing in the tables, such as -9."),
    click.option("--pcs", "n_pcs", type=int, default=0, metavar="K", help="Add K principal components as covariates."),
)  # fmt: skip
model_options = together(
    click.option("--loco/--no-loco", default=True, show_default=True, help="Leave the tested variant's contig out."),
    click.option("--solver", type=click.Choice(["auto", "exact", "stochastic"]), default="auto", show_default=True,
                 help="Dense factors (small cohorts) or streaming passes."),
    click.option("--alpha", type=float, default=-1.0, show_default=True, help="Variant weights: scale [2p(1-p)]^(alpha/2)."),
    click.option("--scale", type=click.Choice(["hwe", "sample"]), default="hwe", show_default=True,
                 help="Standardise by 2p(1-p) or by the sample's variance."),
    click.option("--eigenpairs", type=int, default=20, show_default=True, help="Leading eigenpairs to compute."),
    click.option("--loco-tolerance", type=float, default=5e-3, show_default=True, help="Relative residual of predictors."),
    click.option("--known-model", type=PATH, metavar="FOLDER",
                 help="Reuse the spectra of an earlier fit of the same samples, covariates and options."),
    click.option("--fixed-h2", type=float, metavar="H2", help="Use this heritability instead of estimating it."),
)  # fmt: skip
arithmetic_options = together(
    click.option("--precision", type=click.Choice(["auto", "float32", "int8", "bfloat16"]), default="auto",
                 show_default=True, help="Of products with the relatedness matrix; auto: int8 on processors with AVX-512 VNNI, "
                 "else float32."),
    click.option("--device", metavar="DEVICE", help="Compute these products with PyTorch there, such as cuda."),
)  # fmt: skip
scan_options = together(
    click.option("--format", "formats", type=click.Choice(["parquet", "ssf"]), multiple=True, default=["parquet"],
                 help="ssf writes GWAS-SSF files (gzip TSV) beside the Parquet files."),
    click.option("--exact-leads/--no-exact-leads", default=True, show_default=True, help="Recompute lead variants exactly."),
    click.option("--ld-scores", metavar="PREFIX", help="Regress the statistics on LD scores for the report; @ for the "
                 "chromosome."),
    click.option("--plan-leads", type=click.FloatRange(min=0), default=3.0, show_default=True, metavar="N",
                 help="Leads a trait that --plan reckons with: only the scan can tell."),
)  # fmt: skip
output = together(
    click.option("--out", type=PATH, required=True, metavar="FOLDER", help="Where the results go."),
    click.option("--overwrite", is_flag=True, help="Replace the results of another analysis in that folder."),
    click.option(
        "--scratch", type=PATH, metavar="FOLDER", help="Where results for an s3:// or gs:// --out are kept meanwhile."
    ),
)
grm_option = click.option(
    "--grm",
    type=PATH,
    metavar="MATRIX",
    help="With --method exact: this relatedness matrix, of biolmm grm, GCTA (.grm.bin) or PLINK (.rel.bin), instead of that "
    "of the genotypes.",
)
method_option = click.option(
    "--method",
    type=click.Choice(["mixed", "linear", "linear-only", "exact", "exact-p3d"]),
    default="mixed",
    show_default=True,
    help="linear runs the plain regression beside the mixed model, linear-only alone; exact gives every variant its own "
    "variance components (up to 20,000 samples), exact-p3d those of the null model.",
)
