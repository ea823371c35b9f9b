"""The header of a VCF or BCF: samples, and the dictionaries that a BCF's records refer to."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from biolmm.errors import InputFileError, named

FIXED_COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")

_STRUCTURED = re.compile(r"##(contig|FILTER|INFO|FORMAT)=<(.*)>\s*$")
_FIELD = re.compile(r'([^=,]+)=("(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)')


@dataclass(frozen=True)
class Header:
    """What the header says.

    Attributes
    ----------
    samples
        Names of the sample columns.
    contigs
        Contig names by the number that a BCF record gives.
    strings
        Number that a BCF record gives for the name of a filter or field.
    n_lines
        Lines of the header.
    """

    samples: tuple[str, ...]
    contigs: dict[int, str]
    strings: dict[str, int]
    n_lines: int


def parse_header(path: Path, text: str) -> Header:
    """Parse the text of a header, `##fileformat` to `#CHROM`.

    Raises
    ------
    InputFileError
        When it is no header of a VCF, has no samples, or names one twice.
    """
    lines = text.rstrip("\r\n\0").split("\n")
    if not lines[0].startswith("##fileformat=VCF"):
        raise InputFileError(f"{path} is not a VCF: it begins with {lines[0][:40]!r} instead of '##fileformat=VCF'.")
    contigs: dict[int, str] = {}
    strings = {"PASS": 0}  # the first string of every BCF, whether or not a line declares it
    for number, line in enumerate(lines[:-1], start=1):
        if not line.startswith("##"):
            raise InputFileError(f"{path}, line {number:,}: {line[:40]!r} is neither a ## line nor the #CHROM line.")
        _add_declared(path, number, line, contigs, strings)
    return Header(_sample_names(path, lines), contigs, strings, len(lines))


def _add_declared(path: Path, number: int, line: str, contigs: dict[int, str], strings: dict[str, int]) -> None:
    """Add what one line declares; names count from 0 in their order unless the line says its number itself (`IDX`)."""
    match = _STRUCTURED.match(line)
    if match is None:
        return
    fields = {key.strip(): value for key, value in _FIELD.findall(match[2])}
    if "ID" not in fields:
        return
    name, given = fields["ID"], fields.get("IDX")
    if given is not None and not given.isdecimal():
        raise InputFileError(f"{path}, line {number:,}: IDX={given} is not a number.")
    if match[1] == "contig":
        contigs.setdefault(len(contigs) if given is None else int(given), name)
    elif given is not None:
        strings[name] = int(given)
    else:
        strings.setdefault(name, len(strings))


def _sample_names(path: Path, lines: list[str]) -> tuple[str, ...]:
    columns = lines[-1].rstrip("\r").split("\t")
    found = tuple(columns[: len(FIXED_COLUMNS)])
    if found != FIXED_COLUMNS:
        raise InputFileError(
            f"{path}, line {len(lines):,}: the columns are {' '.join(found)[:80]!r} instead of "
            f"{' '.join(FIXED_COLUMNS)!r}, separated by tabs."
        )
    samples = tuple(columns[len(FIXED_COLUMNS) + 1 :])
    if not samples:
        raise InputFileError(f"{path} has no genotypes: its #CHROM line names no samples.")
    repeated = [name for name, n in Counter(samples).items() if n > 1]
    if repeated:
        raise InputFileError(
            f"{path} names {len(repeated):,} samples more than once: {named(repeated)}. Samples are matched by name: "
            "rename them with bcftools reheader --samples."
        )
    if "" in samples:
        raise InputFileError(f"{path}: sample {samples.index('') + 1:,} of the #CHROM line has no name.")
    return samples
