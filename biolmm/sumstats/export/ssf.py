"""GWAS-SSF from any source, and the check of a file against its rules.

The mandatory columns come first and in order, then the optional ones; a missing optional value is #NA. EBI's validator
wants 100,000 rows or more and all autosomes (or X alone). Buniello et al., GWAS-SSF, medRxiv 2022.07.15.22277585.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from biolmm.atomic import write_text
from biolmm.errors import InputFileError
from biolmm.results.record import package_version
from biolmm.results.ssf import MANDATORY_COLUMNS, MISSING, SSF_COLUMNS, file_md5, ssf_chromosome, ssf_rows, to_yaml
from biolmm.sumstats.export.rows import Origin
from biolmm.sumstats.export.tabix import TABLE
from biolmm.sumstats.export.text import Exported, as_text, indexed_text

MIN_ROWS = 100_000
OPTIONAL_COLUMNS = (
    "variant_id",
    "rsid",
    "ref_allele",
    "ci_upper",
    "ci_lower",
    "info",
    "n",
    "hm_code",
    "hm_coordinate_conversion",
)
_EFFECTS = ("beta", "odds_ratio", "hazard_ratio", "z_score")
_PS = ("p_value", "neg_log_10_p_value")
_METADATA = (
    "genome_assembly",
    "coordinate_system",
    "data_file_name",
    "file_type",
    "data_file_md5sum",
    "is_harmonised",
    "is_sorted",
)
_BLOCK_ROWS = 200_000


def write_ssf_export(origin: Origin, out: Path, *, index: bool = True) -> Exported:
    """Write GWAS-SSF as a BGZF TSV, its metadata `<out>-meta.yaml`, and a tabix index where rows are sorted.

    Parameters
    ----------
    origin
        A study of a store, a trait of a results folder, or a table.
    out
        The file, `NAME.tsv.gz`.
    index
        Write an index, unless X and its pseudo-autosomal part, which are one chromosome here, are mixed up by that.

    Raises
    ------
    InputFileError
        When no row has what the format needs, such as an effect and its standard error.
    OutputError
        When the files cannot be written.

    Notes
    -----
    What the format has no place for is left out and counted: see `biolmm.results.ssf.write_ssf`. Reads the source twice.
    """
    is_sorted = _is_sorted(origin)
    lost, largest_n = np.zeros(3, np.int64), 0
    with indexed_text(out, TABLE, index=index and is_sorted, skip_lines=1) as text:
        text.header("\t".join(SSF_COLUMNS) + "\n")
        for contig, frame in origin.parts():
            rows, gone = ssf_rows(frame, contig)
            lost += gone
            if rows.empty:
                continue
            n = rows["n"].to_numpy(dtype=np.float64, na_value=np.nan)
            largest_n = max(largest_n, int(np.nanmax(n, initial=0)))
            rows = rows.assign(n=pd.array(np.round(n), dtype="Int64"))
            position = rows["base_pair_location"].to_numpy(np.int64)
            text.rows(str(rows["chromosome"].iloc[0]), position, np.ones(len(rows), np.int64),
                      [as_text(rows[name], MISSING) for name in SSF_COLUMNS])  # fmt: skip
        _refuse_nothing(origin, text.n_rows, lost.tolist())
    metadata: dict[str, Any] = {
        "date_metadata_last_modified": datetime.now(UTC).date(),
        "trait_description": [origin.name],
        "genome_assembly": origin.build() or "NR",
        "coordinate_system": "1-based",
        "data_file_name": out.name,
        "file_type": "GWAS-SSF v1.0",
        "data_file_md5sum": file_md5(out),
        "analysis_software": f"biolmm {package_version('biolmm')}",
        "is_harmonised": False,
        "is_sorted": is_sorted,
        "samples": [{"sample_size": largest_n}],
    }
    write_text(out.with_name(out.name + "-meta.yaml"), to_yaml(metadata))
    reasons = zip(("no statistics", "another contig", "another allele"), lost.tolist(), strict=True)
    indexed = out.with_name(out.name + ".tbi") if index and is_sorted else None
    left_out = dict(origin.left_out) | {reason: count for reason, count in reasons if count}
    return Exported(out, indexed, text.n_rows, left_out)


def _refuse_nothing(origin: Origin, n_rows: int, lost: list[int]) -> None:
    """Refuse a file without rows.

    Raises
    ------
    InputFileError
        Says what the rows lack.
    """
    if n_rows or not any(lost):
        return
    if lost[0] >= max(lost):
        raise InputFileError(
            f"{origin.path}: no row of {origin.name} has an effect and standard error, frequency and p, which GWAS-SSF needs; "
            "--format vcf, parquet and tsv take rows without."
        )
    what = "contig" if lost[1] > lost[2] else "pair of alleles"
    raise InputFileError(
        f"{origin.path}: no row of {origin.name} has a {what} that GWAS-SSF knows; export Parquet or tsv."
    )


def _is_sorted(origin: Origin) -> bool:
    """Whether rows are in the order of the format's chromosomes and positions."""
    last = (0, 0)
    for contig, frame in origin.parts():
        number = ssf_chromosome(contig)
        if number is None:
            continue
        position = frame["base_pair_location"]
        if (number, int(position.iloc[0])) < last or not position.is_monotonic_increasing:
            return False
        last = (number, int(position.iloc[-1]))
    return True


@dataclass(frozen=True)
class Violation:
    """A rule that a file breaks.

    Attributes
    ----------
    rule
        What the format wants.
    count
        How many rows break it; 0 where it is about the file as a whole.
    line
        The first line that does, the header being 1; 0 for the file as a whole.
    found
        What stands there.
    """

    rule: str
    count: int = 0
    line: int = 0
    found: str = ""

    def __str__(self) -> str:
        """Say it in one line."""
        where = (
            f" (line {self.line:,}: {self.found!r}; {self.count:,} in all)"
            if self.line
            else f" ({self.found})"
            if self.found
            else ""
        )
        return f"{self.rule}{where}"


def validate_ssf(path: Path, *, min_rows: int = MIN_ROWS, metadata: bool = True) -> list[Violation]:
    """Hold a file against the rules of GWAS-SSF; none is broken where the list is empty.

    Parameters
    ----------
    path
        The TSV, gzip or plain.
    min_rows
        Rows that there have to be.
    metadata
        Check `<path>-meta.yaml` as well.

    Raises
    ------
    InputFileError
        When the file cannot be read as a table.

    Notes
    -----
    **Cost**: one reading; memory for 200,000 rows of text.
    """
    found: dict[str, Violation] = {}
    header, contigs, n_rows, last = _header(path), set(), 0, (0, 0)
    order = _check_header(header)
    if any(each.startswith("column 1") or "missing" in each for each in (v.rule for v in order)):
        return order  # of unknown columns nothing more can be said
    for first, frame in _blocks(path):
        n_rows += len(frame)
        contigs |= set(frame["chromosome"].unique())
        for rule, bad, column in _row_rules(frame):
            rows = np.flatnonzero(bad)
            if rows.size:
                before = found.get(rule)
                line = before.line if before else first + int(rows[0])
                value = before.found if before else str(frame[column].iloc[int(rows[0])])
                found[rule] = Violation(rule, (before.count if before else 0) + int(rows.size), line, value)
        last = _check_order(frame, first, last, found)
    violations = [*order, *found.values()]
    if n_rows < min_rows:
        violations.append(Violation(f"at least {min_rows:,} rows", found=f"there are {n_rows:,}"))
    lacking = [str(number) for number in range(1, 23) if str(number) not in contigs]
    if lacking and contigs != {"23"}:
        violations.append(Violation("all autosomes, or chromosome 23 alone", found=f"missing: {', '.join(lacking)}"))
    return violations + (_check_metadata(path) if metadata else [])


def _header(path: Path) -> list[str]:
    try:
        return [str(name) for name in pd.read_csv(path, sep="\t", nrows=0, dtype=str).columns]
    except (ValueError, OSError, EOFError) as error:
        raise InputFileError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}.") from error


def _blocks(path: Path) -> Iterator[tuple[int, pd.DataFrame]]:
    first = 2
    try:
        with pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, chunksize=_BLOCK_ROWS) as reader:
            for frame in reader:
                yield first, frame.reset_index(drop=True).fillna("")
                first += len(frame)
    except (ValueError, OSError, EOFError) as error:
        raise InputFileError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}.") from error


def _check_header(header: list[str]) -> list[Violation]:
    wanted: list[tuple[str, ...]] = [(name,) for name in MANDATORY_COLUMNS]
    wanted[4], wanted[7] = _EFFECTS, _PS
    out = []
    for at, names in enumerate(wanted):
        here = header[at] if at < len(header) else ""
        if here in names:
            continue
        what = " or ".join(names)
        where = [name for name in names if name in header]
        if where:
            out.append(
                Violation(
                    f"column {at + 1} is {what}",
                    found=f"it is {here}, and {where[0]} is column {header.index(where[0]) + 1}",
                )
            )
        else:
            out.append(Violation(f"column {at + 1} is {what}", found=f"it is {here or 'missing'}"))
    if out and any(not any(name in header for name in names) for names in wanted):
        return [Violation("column 1 to 8 are the mandatory ones", found="; ".join(f"{v.rule}: {v.found}" for v in out))]
    if out:
        out = [Violation("column order: " + v.rule, found=v.found) for v in out]
    repeated = {name for name in header if header.count(name) > 1 or re.search(r"\.\d+$", name)}
    if repeated:
        out.append(Violation("every column once", found=", ".join(sorted(repeated))))
    return out


def _row_rules(frame: pd.DataFrame) -> Iterator[tuple[str, Any, str]]:
    """Give the rules about single rows, the rows that break each, and the column."""
    chromosome = frame["chromosome"]
    yield "chromosome is a whole number from 1 to 25", ~chromosome.str.fullmatch(r"[1-9]|1[0-9]|2[0-5]"), "chromosome"
    position = frame["base_pair_location"]
    yield (
        "base_pair_location is a whole number of at least 0",
        ~position.str.fullmatch(r"\d{1,10}"),
        "base_pair_location",
    )
    for name in ("effect_allele", "other_allele"):
        yield f"{name} is of A, C, G, T, or LONG_STRING", ~frame[name].str.fullmatch(r"[ACGT]+|LONG_STRING"), name
    same = (frame["effect_allele"] == frame["other_allele"]) & (frame["effect_allele"] != "LONG_STRING")
    yield "the two alleles differ", same, "effect_allele"
    for name in (*_EFFECTS, "standard_error", "effect_allele_frequency", *_PS):
        if name in frame:
            values = _numbers(frame[name])
            yield f"{name} is a number in every row", ~np.isfinite(values), name
            low, high = {"odds_ratio": (0, np.inf), "hazard_ratio": (0, np.inf), "standard_error": (0, np.inf),
                         "effect_allele_frequency": (0, 1), "p_value": (0, 1), "neg_log_10_p_value": (0, np.inf)}.get(
                             name, (-np.inf, np.inf))  # fmt: skip
            with np.errstate(invalid="ignore"):
                outside = (values < low) | (values > high)
            if np.isfinite(low):
                bound = f"from {low} to {high}" if np.isfinite(high) else f"at least {low}"
                yield f"{name} is {bound}", outside, name
            if name == "p_value":
                yield "p_value is not 0 (give neg_log_10_p_value, or name the analysis software)", values == 0, name
    for name, pattern, words in (
        ("variant_id", r"[A-Za-z0-9_]+", "letters, digits and _"),
        ("rsid", r"rs[0-9]+", "rs and a number"),
        ("ref_allele", r"OA|EA", "OA or EA"),
        ("n", r"[0-9]+", "a whole number"),
    ):
        if name in frame:
            yield f"{name} is {words}, or {MISSING}", ~frame[name].str.fullmatch(f"{pattern}|{MISSING}"), name
    for name in ("ci_upper", "ci_lower", "info"):
        if name in frame:
            values, there = _numbers(frame[name]), frame[name] != MISSING
            wrong = there & ~np.isfinite(values)
            if name == "info":
                with np.errstate(invalid="ignore"):
                    wrong |= (values < 0) | (values > 1)
            yield f"{name} is a number{' from 0 to 1' if name == 'info' else ''}, or {MISSING}", wrong, name


def _numbers(column: pd.Series[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _check_order(
    frame: pd.DataFrame, first: int, last: tuple[int, int], found: dict[str, Violation]
) -> tuple[int, int]:
    chromosome, position = _numbers(frame["chromosome"]), _numbers(frame["base_pair_location"])
    key = np.concatenate([[last[0] * 1e11 + last[1]], chromosome * 1e11 + position])
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero(np.diff(key) < 0)
    rule = "rows are sorted by chromosome and position"
    if rows.size and rule not in found:
        at = int(rows[0])
        found[rule] = Violation(
            rule, int(rows.size), first + at, f"{frame['chromosome'].iloc[at]}:{frame['base_pair_location'].iloc[at]}"
        )
    if np.isfinite(chromosome[-1:]).all() and np.isfinite(position[-1:]).all() and len(frame):
        return int(chromosome[-1]), int(position[-1])
    return last


def _check_metadata(path: Path) -> list[Violation]:
    meta = path.with_name(path.name + "-meta.yaml")
    if not meta.exists():
        return [Violation("metadata stand beside the file", found=f"{meta.name} is missing")]
    given = dict(re.findall(r"^([a-z_0-9]+):[ ]*(.*)$", meta.read_text(encoding="utf-8"), flags=re.MULTILINE))
    given = {key: value.strip().strip('"') for key, value in given.items()}
    out = [Violation(f"metadata has {key}") for key in _METADATA if key not in given]
    if given.get("data_file_name", path.name) != path.name:
        out.append(Violation("data_file_name is the file's", found=given["data_file_name"]))
    if "data_file_md5sum" in given and given["data_file_md5sum"] != file_md5(path):
        out.append(Violation("data_file_md5sum is the file's", found=given["data_file_md5sum"]))
    return out
