"""What METAL's commands have set when a file is read or results are written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Scheme = Literal["samplesize", "stderr"]
Separator = Literal["whitespace", "comma", "tab", "both"]
Operator = Literal["<", "<=", "==", ">=", ">", "!=", "in"]

SEPARATORS: dict[Separator, bytes] = {"whitespace": b" \t", "comma": b",", "tab": b"\t", "both": b" \t,"}
"""Bytes between columns. One alone keeps empty columns; of several any run is one separator."""


@dataclass(frozen=True)
class Filter:
    """Keeps lines whose column satisfies a condition: a number compared, or one of some words.

    A field that does not look like a number satisfies no comparison.
    """

    column: str
    operator: Operator
    value: float = 0.0
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Write the condition as in a script."""
        right = f"({','.join(self.words)})" if self.operator == "in" else f"{self.value:g}"
        return f"{self.column} {self.operator.upper()} {right}"


@dataclass(frozen=True)
class GenomicControl:
    """Off, the median of each file (of all its markers or those of a list), or a fixed λ."""

    on: bool = False
    value: float | None = None
    markers: Path | None = None


@dataclass(frozen=True)
class Settings:
    """All that commands set; METAL's defaults."""

    separator: Separator = "whitespace"
    strict: bool = True
    marker: str = "MARKER"
    allele1: str = "ALLELE1"
    allele2: str = "ALLELE2"
    effect: str = "EFFECT"
    flip: bool = False
    pvalue: str = "PVALUE"
    weight: str = "N"
    default_weight: float = 1.0
    min_weight: float = 1.0
    stderr: str = "STDERR"
    freq: str = "FREQ"
    strand: str = "STRAND"
    use_strand: bool = False
    chromosome: str = "CHROMOSOME"
    position: str = "POSITION"
    track_positions: bool = False
    filters: tuple[Filter, ...] = ()
    scheme: Scheme = "samplesize"
    genomic_control: GenomicControl = GenomicControl()
    overlap: bool = False
    z_cutoff: float = 1.0
    average_freq: bool = False
    min_max_freq: bool = False
    custom: tuple[tuple[str, str], ...] = ()
    log_pvalue: bool = False
    effect_precision: int = 4
    stderr_precision: int = 4
    max_warnings: int = 20
    prefix: str = "METAANALYSIS"
    suffix: str = ".TBL"

    @property
    def use_freq(self) -> bool:
        """Whether frequencies are read."""
        return self.average_freq or self.min_max_freq


@dataclass(frozen=True)
class ProcessFile:
    """Read a file under these settings."""

    path: Path
    name: str
    settings: Settings
    line: str


@dataclass(frozen=True)
class Analyse:
    """Combine the files read since the last `Clear` and write a table."""

    heterogeneity: bool
    file_name: str
    settings: Settings
    line: str


@dataclass(frozen=True)
class Clear:
    """Forget the files that were read."""


Step = ProcessFile | Analyse | Clear
