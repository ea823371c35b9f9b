"""`biolmm sumstats qc`: whether studies can be combined, and what to do about those that cannot."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biolmm.cli.shared import PATH, budget_bytes, print_plans, working
from biolmm.cli.sumstats import sumstats
from biolmm.errors import ParameterError

if TYPE_CHECKING:
    from biolmm.sumstats.ingest.options import StudyInput
    from biolmm.sumstats.matrix.read import SumstatsStore

_FILTERS = {
    "min_maf": "smaller minor allele frequency",
    "min_mac": "smaller minor allele count, 2·N·MAF",
    "min_info": "worse imputation quality",
    "min_n": "smaller N",
    "max_se": "larger standard error",
    "max_abs_beta": "larger effect",
    "max_eaf_difference": "frequency further from the reference's",
}


def _filter_options(command: Any) -> Any:
    for name, words in reversed(_FILTERS.items()):
        option = "--" + name.replace("_", "-")
        command = click.option(option, type=float, metavar="X", help=f"Count variants of {words} for the plan.")(
            command
        )
    return command


@sumstats.command("qc")
@click.argument("studies", type=PATH, nargs=-1, required=True)
@click.option("--out", type=PATH, required=True, metavar="FOLDER", help="Where pages and quality.json go.")
@click.option("--frequencies", type=PATH, metavar="TABLE", help="Allele frequencies of a reference panel; by default studies "
              "are held against each other.")  # fmt: skip
@click.option(
    "--cases", multiple=True, metavar="STUDY=N1,N0", help="Cases and controls of a study: tells what its N means."
)
@click.option(
    "--expected-sd", type=float, metavar="SD", help="Standard deviation of the trait in the units of the effects."
)
@_filter_options
@click.option("--fail-on", type=click.Choice(["look", "bad"]), help="Exit with 2 when a verdict is this bad.")
@click.option("--overwrite", is_flag=True, help="Replace another quality control in that folder.")
@click.option("--map", "columns", multiple=True, metavar="COLUMN=ROLE", help="Of files: what a column is.")
@click.option("--n", type=float, metavar="N", help="Of files: sample size, where they have none.")
@click.option("--trait-type", type=click.Choice(["quantitative", "binary"]), help="Of files.")
@click.option("--palindromic", type=click.Choice(["frequency", "drop", "trust"]), default="frequency", show_default=True,
              help="Of files: A/T and C/G by frequency, left out, or taken as they are.")  # fmt: skip
@click.option("--reference", type=PATH, metavar="FASTA", help="Of files: decides REF and strand.")
@click.option("--threads", type=int, metavar="N", help="Threads; every available processor by default.")
@click.option(
    "--memory", metavar="SIZE", help="Memory budget, such as 4GiB; three quarters of what is free by default."
)
@click.option("--plan", is_flag=True, help="Print passes, bytes and memory, and stop.")
def quality(**options: Any) -> None:
    """Check STUDIES, a store of summary statistics or files, before they are combined."""
    from biolmm.chunks import map_tasks, n_threads, threads
    from biolmm.sumstats.ingest.options import Rules
    from biolmm.sumstats.quality.config import Filters, QualityConfig
    from biolmm.sumstats.quality.levels import LEVELS
    from biolmm.sumstats.quality.run import plan_quality, run_quality

    filters = Filters(**{name: options[name] for name in _FILTERS})
    difference = options["max_eaf_difference"]
    config = QualityConfig(
        filters, _cases(options["cases"]), options["expected_sd"], 0.2 if difference is None else difference
    )
    with threads(options["threads"]):
        source = _source(options)
        if not isinstance(source, list):
            plan = plan_quality(source.n_variants, source.n_studies, source.chunk_variants, n_threads())
            if options["plan"]:
                print_plans([plan], options["memory"])
                return
            plan.check(budget_bytes(options["memory"]))
        elif options["plan"]:
            raise ParameterError("--plan needs a store, whose size is known: make one with `biolmm sumstats add`.")
        with working():
            found = run_quality(
                source, options["out"], config, frequencies=options["frequencies"],
                rules=Rules(palindromic=options["palindromic"], reference=options["reference"]),
                command=shlex.join(["biolmm", *sys.argv[1:]]), overwrite=options["overwrite"], map_tasks=map_tasks,
            )  # fmt: skip
    for name, verdicts in zip(found.names, found.verdicts, strict=True):
        click.echo(f"{name}: {max((each.level for each in verdicts), key=LEVELS.index)}")
        for verdict in verdicts:
            if verdict.level in ("look", "bad"):
                click.echo(f"  {verdict.level:<5} {verdict.name}: {verdict.measured}. {verdict.text}")
    click.echo(f"{options['out'] / 'index.html'}")
    if options["fail_on"] and LEVELS.index(found.worst) >= LEVELS.index(options["fail_on"]):
        raise SystemExit(2)


def _source(options: dict[str, Any]) -> SumstatsStore | list[StudyInput]:
    """Open a store, or name files."""
    from biolmm.sumstats.ingest.options import StudyInput
    from biolmm.sumstats.matrix.read import SumstatsStore

    paths: tuple[Path, ...] = options["studies"]
    if len(paths) == 1 and (paths[0] / "zarr.json").exists():
        return SumstatsStore.open(paths[0])
    columns = {}
    for pair in options["columns"]:
        column, sign, role = pair.rpartition("=")
        if not sign or not column:
            raise ParameterError(f"--map {pair!r} is no COLUMN=ROLE, such as P_SPA=p.")
        columns[column] = role.strip()
    return [StudyInput(path, columns=columns, n=options["n"], trait_type=options["trait_type"]) for path in paths]


def _cases(given: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    out = {}
    for text in given:
        name, _, numbers = text.rpartition("=")
        try:
            n_cases, n_controls = (float(part) for part in numbers.split(","))
        except ValueError as error:
            raise ParameterError(f"--cases {text!r} is not STUDY=CASES,CONTROLS, such as ukb=4000,36000.") from error
        out[name] = (n_cases, n_controls)
    return out


@sumstats.command()
@click.argument("source", type=PATH)
@click.option("--out", type=PATH, required=True, metavar="FILE", help="The file to write.")
@click.option(
    "--format", "kind", type=click.Choice(["ssf", "vcf", "parquet", "tsv"]), help="By the file's ending by default."
)
@click.option("--study", "--trait", "names", multiple=True, metavar="NAME", help="Of a store or folder; repeat for a VCF. A VCF of "
              "a store has all by default.")  # fmt: skip
@click.option("--cases", multiple=True, metavar="STUDY=N", help="Number of cases of a study, in a VCF.")
@click.option("--index/--no-index", default=True, show_default=True, help="Write a tabix index (.tbi).")
@click.option("--validate", is_flag=True, help="Hold a GWAS-SSF file that was written against the rules of the format.")
def export(source: Path, out: Path, kind: str | None, names: tuple[str, ...], cases: tuple[str, ...], index: bool,
           validate: bool) -> None:  # fmt: skip
    """Write SOURCE, a study of a store, results of gwas or meta, or a table, as GWAS-SSF, GWAS-VCF, Parquet or bgzip text."""
    from biolmm.sumstats.export.gwas_vcf import write_gwas_vcf
    from biolmm.sumstats.export.rows import find_origin
    from biolmm.sumstats.export.ssf import write_ssf_export
    from biolmm.sumstats.export.text import write_parquet, write_table
    from biolmm.sumstats.matrix.read import SumstatsStore

    kind = kind or _kind_of(out)
    if kind == "vcf" and (source / "zarr.json").exists():
        pairs = (text.rpartition("=") for text in cases)
        n_cases = {name: _number(n, f"{name}={n}") for name, _, n in pairs}
        done = write_gwas_vcf(SumstatsStore.open(source), out, studies=names or None, n_cases=n_cases, index=index)
    else:
        if len(names) > 1:
            raise ParameterError(
                f"--study was given {len(names)} times, but a {kind} file holds one; repeat it for a VCF of a store."
            )
        origin = find_origin(source, names[0] if names else None)
        if kind == "parquet":
            done = write_parquet(origin, out)
        else:
            write = {"vcf": write_gwas_vcf, "ssf": write_ssf_export, "tsv": write_table}[kind]
            done = write(origin, out, index=index)  # type: ignore[operator]
    click.echo(
        f"{done.path}: {done.n_rows:,} variants" + (f", indexed in {done.index_path}" if done.index_path else "")
    )
    for reason, count in done.n_left_out.items():
        click.echo(f"  left out, {reason}: {count:,}")
    if validate and kind == "ssf":
        _validate(out)


@sumstats.command("validate-ssf")
@click.argument("file", type=PATH)
def validate_file(file: Path) -> None:
    """Hold FILE against the rules of GWAS-SSF; exit with 2 where one is broken."""
    _validate(file)


def _validate(file: Path) -> None:
    from biolmm.sumstats.export.ssf import validate_ssf

    violations = validate_ssf(file)
    for violation in violations:
        click.echo(f"  broken: {violation}")
    if violations:
        raise SystemExit(2)
    click.echo(f"{file} keeps the rules of GWAS-SSF")


def _kind_of(out: Path) -> str:
    name = out.name.lower()
    for ending, kind in (
        (".vcf.gz", "vcf"),
        (".vcf.bgz", "vcf"),
        (".parquet", "parquet"),
        (".tsv.gz", "ssf"),
        (".tsv.bgz", "tsv"),
    ):
        if name.endswith(ending):
            return kind
    raise ParameterError(
        f"{out} does not say its format: give --format, or end it in .vcf.gz, .parquet or .tsv.gz (GWAS-SSF)."
    )


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ParameterError(f"--cases {whole!r} is not STUDY=N.") from error
