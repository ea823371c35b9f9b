"""The command line: parse options, call the pipeline, print what happened.

Exit codes: 0 done, 2 the user's mistake (one line), 1 anything else.
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from biolmm.errors import BiolmmError, ParameterError

if TYPE_CHECKING:
    from biolmm.memory import StagePlan
    from biolmm.pipeline import AnalysisConfig
    from biolmm.results.record import RunRecord

Command = TypeVar("Command", bound=Callable[..., Any])

_PATH = click.Path(path_type=Path)


def _options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def apply(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


resources = _options(
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
genotype_inputs = _options(
    click.option("--genotypes", type=_PATH, multiple=True, required=True, metavar="PATH",
                 help="A store (NAME.zarr) or a PLINK .bed file; repeat for one file a chromosome."),
    click.option("--extract", type=_PATH, metavar="FILE", help="Scan only the variants listed."),
    click.option("--exclude", type=_PATH, metavar="FILE", help="Leave out the variants listed, everywhere."),
)  # fmt: skip
cohort_inputs = _options(
    click.option("--traits", type=_PATH, required=True, metavar="TABLE", help="Traits: TSV, CSV or Parquet with sample ids."),
    click.option("--covariates", type=_PATH, metavar="TABLE", help="Covariates; the intercept is implied."),
    click.option("--trait", "trait_names", multiple=True, metavar="NAME", help="Analyse this trait; repeat. Default: all."),
    click.option("--covariate", "covariate_names", multiple=True, metavar="NAME", help="Use this covariate; repeat."),
    click.option("--categorical", multiple=True, metavar="NAME", help="Numbers of this covariate name categories; repeat."),
    click.option("--keep", type=_PATH, metavar="FILE", help="Only the samples listed."),
    click.option("--remove", type=_PATH, metavar="FILE", help="Not the samples listed."),
    click.option("--model-extract", type=_PATH, metavar="FILE", help="Make the relatedness matrix of the variants listed."),
    click.option("--transform", type=click.Choice(["none", "rint", "rint-indirect"]), default="none", show_default=True,
                 help="Rank-based inverse normal transform, of the trait or of its residuals on the covariates."),
    click.option("--missing-value", metavar="NUMBER", help="A number that means missing in the tables, such as -9."),
    click.option("--pcs", "n_pcs", type=int, default=0, metavar="K", help="Add K principal components as covariates."),
)  # fmt: skip
model_options = _options(
    click.option("--loco/--no-loco", default=True, show_default=True, help="Leave the tested variant's contig out."),
    click.option("--solver", type=click.Choice(["auto", "exact", "stochastic"]), default="auto", show_default=True,
                 help="Dense factors (small cohorts) or streaming passes."),
    click.option("--alpha", type=float, default=-1.0, show_default=True, help="Variant weights: scale [2p(1-p)]^(alpha/2)."),
    click.option("--scale", type=click.Choice(["hwe", "sample"]), default="hwe", show_default=True,
                 help="Standardise by 2p(1-p) or by the sample's variance."),
    click.option("--eigenpairs", type=int, default=20, show_default=True, help="Leading eigenpairs to compute."),
    click.option("--loco-tolerance", type=float, default=5e-3, show_default=True, help="Relative residual of predictors."),
    click.option("--known-model", type=_PATH, metavar="FOLDER",
                 help="Reuse the spectra of an earlier fit of the same samples, covariates and options."),
    click.option("--fixed-h2", type=float, metavar="H2", help="Use this heritability instead of estimating it."),
)  # fmt: skip
scan_options = _options(
    click.option("--format", "formats", type=click.Choice(["parquet", "ssf"]), multiple=True, default=["parquet"],
                 help="ssf writes GWAS-SSF files (gzip TSV) beside the Parquet files."),
    click.option("--exact-leads/--no-exact-leads", default=True, show_default=True, help="Recompute lead variants exactly."),
)  # fmt: skip
output = _options(
    click.option("--out", type=_PATH, required=True, metavar="FOLDER", help="Where the results go."),
    click.option("--overwrite", is_flag=True, help="Replace the results of another analysis in that folder."),
)
method_option = click.option(
    "--method",
    type=click.Choice(["mixed", "linear", "linear-only"]),
    default="mixed",
    show_default=True,
    help="linear runs the plain regression beside the mixed model, linear-only alone.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="biolmm")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.option("--quiet", is_flag=True, help="Print results and warnings only.")
@click.pass_context
def cli(context: click.Context, debug: bool, quiet: bool) -> None:
    """Linear mixed models for biobank-scale genotypes."""
    context.obj = {"debug": debug}
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    root = logging.getLogger("biolmm")
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING if quiet else logging.INFO)
    root.propagate = False


@cli.command()
@genotype_inputs
@cohort_inputs
@model_options
@scan_options
@method_option
@output
@resources
def gwas(**options: Any) -> None:
    """Genotypes and traits to mixed-model associations: convert, fit, scan, report."""
    from biolmm.pipeline import run_gwas
    from biolmm.pipeline.preview import plan_only

    config = _analysis(options)
    if options["plan"]:
        _print_plans(plan_only(config), options["memory"])
        return
    with _working():
        record = run_gwas(config, overwrite=options["overwrite"])
    _summary(config.out, record)


@cli.command()
@genotype_inputs
@cohort_inputs
@model_options
@output
@resources
def fit(**options: Any) -> None:
    """Fit the null model: heritability of every trait and the left-out predictors."""
    from biolmm.pipeline import run_fit
    from biolmm.pipeline.preview import plan_only

    config = _analysis(options)
    if options["plan"]:
        _print_plans(plan_only(config, scan=False), options["memory"])
        return
    with _working():
        run_fit(config, overwrite=options["overwrite"])
    _print_h2(config.out)


@cli.command()
@genotype_inputs
@click.option("--model", type=_PATH, required=True, metavar="FOLDER", help="The folder that fit or gwas wrote.")
@click.option("--loco/--no-loco", default=None, help="Leave the tested variant's contig out; by default as fitted.")
@scan_options
@method_option
@output
@resources
def scan(loco: bool | None, **options: Any) -> None:
    """Test variants with a model that was fitted before."""
    from biolmm.pipeline import run_scan_only
    from biolmm.pipeline.preview import plan_scan_only

    config = _analysis(options)
    if options["plan"]:
        _print_plans(plan_scan_only(config, options["model"], loco=loco), options["memory"])
        return
    with _working():
        record = run_scan_only(config, options["model"], loco=loco, overwrite=options["overwrite"])
    _summary(config.out, record)


@cli.command()
@click.argument("bed", type=_PATH, nargs=-1, required=True)
@click.argument("store", type=_PATH)
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
            _print_plans([plan], options["memory"])
            return
        plan.check(_memory(options["memory"]))
        chosen = {"chunk_variants": options["chunk_variants"], "overwrite": options["overwrite"]}
        with _working():
            store = convert_files(beds, options["store"], map_tasks=map_tasks, **chosen)
    click.echo(f"{store.path}: {store.n_samples:,} samples × {store.n_variants:,} variants")


@cli.command()
@click.argument("store", type=_PATH)
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
@click.argument("out", type=_PATH)
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
def simulate(**options: Any) -> None:
    """Simulate a realistic cohort into the store OUT, with traits, covariates and the truth beside it."""
    from biolmm.chunks import map_tasks, n_threads, threads
    from biolmm.simulate import SimulateConfig, plan_simulate
    from biolmm.simulate import simulate as simulate_cohort

    taken = {k: v for k, v in options.items() if k not in ("out", "threads", "memory", "plan", "h2")}
    if not options["n_large"]:
        taken.pop("large_share")
    config = SimulateConfig(**taken, h2=_numbers(options["h2"], "h2"))
    with threads(options["threads"]):
        plan = plan_simulate(config, n_workers=n_threads())
        if options["plan"]:
            _print_plans([plan], options["memory"])
            return
        plan.check(_memory(options["memory"]))
        with _working():
            files = simulate_cohort(config, options["out"], map_tasks=map_tasks)
    click.echo(f"{files.store}: {config.n_samples:,} samples × {config.n_variants:,} variants")
    click.echo(f"{files.traits}: {config.n_traits:,} traits")


@cli.command()
@click.argument("results", type=_PATH)
def report(results: Path) -> None:
    """Write RESULTS/report.html again from the files in RESULTS."""
    from biolmm.report import write_report

    click.echo(str(write_report(results)))


@contextmanager
def _working() -> Iterator[None]:
    """Show progress while the block runs, on a terminal; plain log lines elsewhere."""
    logger = logging.getLogger("biolmm")
    if not sys.stderr.isatty() or logger.level > logging.INFO:
        yield
        return
    from biolmm.terminal import shown_progress

    plain, logger.handlers[:] = list(logger.handlers), []
    try:
        with shown_progress(logger):
            yield
    finally:
        logger.handlers[:] = plain


def _analysis(options: dict[str, Any]) -> AnalysisConfig:
    """Turn the options of gwas, fit and scan into a configuration."""
    from biolmm.association.setup import ScanConfig
    from biolmm.cohort import CohortConfig
    from biolmm.pipeline import AnalysisConfig, Inputs, Resources
    from biolmm.reml.fit import FitConfig
    from biolmm.reml.spectrum import SpectrumConfig

    def given(*names: str) -> dict[str, Any]:
        return {name: options[name] for name in names if name in options}

    inputs = Inputs(**given(*Inputs.__dataclass_fields__))
    spectrum = SpectrumConfig(seed=options["seed"], n_pairs=options.get("eigenpairs", 20))
    names: dict[str, Any] = {
        name: options[name] or None if name != "categorical" else options[name]
        for name in ("trait_names", "covariate_names", "categorical")
        if name in options
    }
    return AnalysisConfig(
        inputs=inputs,
        out=options["out"],
        cohort=CohortConfig(**names, **given("transform")),
        fit=FitConfig(**given("solver", "loco", "alpha", "scale", "loco_tolerance", "fixed_h2"), spectrum=spectrum),
        scan=ScanConfig(exact_leads=options.get("exact_leads", True), seed=options["seed"]),
        resources=Resources(threads=options["threads"], memory_bytes=_memory(options["memory"])),
        **given("method", "n_pcs", "known_model"),
        ssf="ssf" in options.get("formats", ()),
        command=shlex.join(["biolmm", *sys.argv[1:]]),
    )


def _memory(text: str | None) -> int:
    from biolmm.memory import default_budget_bytes, parse_bytes

    return default_budget_bytes() if text is None else parse_bytes(text)


def _numbers(text: str, name: str) -> float | tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ParameterError(f"--{name} {text!r} is not a number or a list of numbers such as 0.2,0.5.") from error
    return values[0] if len(values) == 1 else values


def _print_plans(plans: list[StagePlan], memory: str | None) -> None:
    """Print every stage, then refuse what does not fit."""
    from biolmm.cli_text import plan_text

    click.echo(plan_text(plans))
    for plan in plans:
        plan.check(_memory(memory))


def _print_h2(out: Path) -> None:
    from biolmm.cli_text import h2_text

    click.echo(h2_text(out))


def _summary(out: Path, record: RunRecord) -> None:
    from biolmm.cli_text import summary_text

    click.echo(summary_text(out, record))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; every mistake of the user is one line and exit code 2.

    Parameters
    ----------
    arguments
        What follows `biolmm`; by default what this process was started with.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        cli.main(args=given or ["--help"], prog_name="biolmm", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _stop("interrupted; the same command continues", 130)
    except click.ClickException as error:
        _stop(_usage_line(error), 2)
    except BiolmmError as error:
        if "--debug" in given:
            raise
        _stop(f"{type(error).__name__}: {error}", error.exit_code)
    except MemoryError:
        if "--debug" in given:
            raise
        _stop("MemoryError: the machine has no memory left: lower --memory, --threads or the number of traits.", 1)
    except Exception as error:
        if "--debug" in given:
            raise
        _stop(f"{type(error).__name__}: {_one_line(str(error))} (run `biolmm --debug …` for a traceback)", 1)


def _usage_line(error: click.ClickException) -> str:
    """Say in one line what is wrong with the options, and where they are listed."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "biolmm"
    return f"UsageError: {_one_line(error.format_message())} See `{command} --help`."


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _stop(message: str, code: int) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
