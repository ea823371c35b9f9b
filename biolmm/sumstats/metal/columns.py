"""Which column of a file is which, by METAL's rules: names in any case, the first of several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.sumstats.ingest.text import TextBlocks
from biolmm.sumstats.metal.settings import SEPARATORS, Filter, ProcessFile, Settings


@dataclass(frozen=True)
class Columns:
    """Numbers of the columns that a file has, by role, and what its header makes of the settings.

    Attributes
    ----------
    at
        Column of each role: marker, pvalue, effect, weight, allele1, allele2, stderr, freq, strand, chromosome, position, and
        `custom:i`, `filter:i`.
    n
        Columns of the header.
    least
        Columns that a line needs at least, with COLUMNCOUNTING LENIENT.
    log_effect
        Whether the effect is the logarithm of its column.
    notes
        What METAL warns of.
    """

    at: dict[str, int]
    n: int
    least: int
    log_effect: bool
    notes: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = field(default=())

    def slots(self) -> tuple[NDArray[np.int32], dict[str, int]]:
        """Number the different columns that are read: the slot of each column of the file (-1: none), and of each role."""
        wanted = sorted(set(self.at.values()))
        of_column = np.full(self.n, -1, np.int32)
        of_column[wanted] = np.arange(len(wanted))
        return of_column, {role: int(of_column[column]) for role, column in self.at.items()}


def header_names(line: str, settings: Settings) -> list[str]:
    """Cut a header; METAL takes runs of separators for one in headers, even where it does not in lines.

    Examples
    --------
    >>> header_names("SNP, P,,N", Settings(separator="comma"))
    ['SNP', 'P', 'N']
    """
    for byte in SEPARATORS[settings.separator].decode():
        line = line.replace(byte, "\n")
    return [name.strip() for name in line.split("\n") if name.strip()]


def find_columns(step: ProcessFile, *, as_metal: bool = False) -> Columns:
    """Read a file's header and find the columns that the settings name.

    Raises
    ------
    InputFileError
        When the file cannot be read or lacks a column without which METAL would skip it, or, unless `as_metal`, assume
        something: that all effects are positive, that a filter passes everything.
    """
    settings = step.settings
    header = TextBlocks(step.path).next_header()
    names = header_names(header or "", settings)
    if not names:
        raise InputFileError(f"{step.line}: the header of {step.path} is empty.")
    return _Finder(step, names, as_metal).found()


@dataclass
class _Finder:
    step: ProcessFile
    names: list[str]
    as_metal: bool
    at: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def found(self) -> Columns:
        settings = self.step.settings
        by_error = settings.scheme == "stderr"
        self._need("marker", settings.marker, "MARKER")
        log_effect = self._effect(needed=by_error)
        if by_error:
            self._need("stderr", settings.stderr, "STDERR")
        else:
            self._need("pvalue", settings.pvalue, "PVALUE")
            if not self._take("weight", settings.weight):
                self.notes.append(
                    f"no {settings.weight} column: every weight is DEFAULTWEIGHT = {settings.default_weight:g}"
                )
        self._alleles()
        if settings.use_freq:
            self._need("freq", settings.freq, "FREQ")
        if settings.use_strand:
            self._need("strand", settings.strand, "STRAND")
        if settings.track_positions:
            self._need("chromosome", settings.chromosome, "CHROMOSOME")
            self._need("position", settings.position, "POSITION")
        for i, (_, label) in enumerate(settings.custom):
            self._need(f"custom:{i}", label, "LABEL … AS")
        kept = tuple(self._filters())
        least = max(self.at.values()) + 1
        return Columns(self.at, len(self.names), least, log_effect, tuple(self.notes), kept)

    def _take(self, role: str, name: str) -> bool:
        upper = [each.upper() for each in self.names]
        if name.upper() in upper:
            self.at[role] = upper.index(name.upper())
        return role in self.at

    def _need(self, role: str, name: str, command: str) -> None:
        if not self._take(role, name):
            shown = " ".join(self.names[:12]) + (" …" if len(self.names) > 12 else "")
            advice = "." if len(self.names) > 1 else "; is SEPARATOR right?"
            raise InputFileError(
                f"{self.step.line}: {self.step.path} has no column {name!r} ({command}) among {shown}{advice} "
                "METAL would leave the file out."
            )

    def _effect(self, *, needed: bool) -> bool:
        name = self.step.settings.effect
        if self._take("effect", name):
            return False
        if name[:4].lower() == "log(" and name.endswith(")") and self._take("effect", name[4:-1].strip()):
            return True
        if needed or not self.as_metal:
            self._need("effect", name, "EFFECT")
        self.notes.append(f"no {name} column: all effects are taken for positive")
        return False

    def _alleles(self) -> None:
        settings = self.step.settings
        first, second = self._take("allele1", settings.allele1), self._take("allele2", settings.allele2)
        if first and not second:
            raise InputFileError(
                f"{self.step.line}: {self.step.path} has the column {settings.allele1} but not {settings.allele2}: METAL would "
                "guess the second allele; biolmm does not. Name both with ALLELE."
            )
        if not first:
            self.at.pop("allele2", None)
            self.notes.append(f"no column {settings.allele1}: all effects are taken for those of one allele")

    def _filters(self) -> Iterator[Filter]:
        kept = 0
        for each in self.step.settings.filters:
            if self._take(f"filter:{kept}", each.column):
                kept += 1
                yield each
            elif self.as_metal:
                self.notes.append(f"no column {each.column}: the filter {each} is left out")
            else:
                self._need(f"filter:{kept}", each.column, "ADDFILTER")
