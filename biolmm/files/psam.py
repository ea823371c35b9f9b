"""Samples of a PLINK 2 fileset: `.psam`, or the `.fam` of PLINK 1.

The columns are those of the PLINK 2 file format specification (github.com/chrchang/plink-ng, pgen_spec): a header
`#FID IID …` or `#IID …`; without a header, the file is a `.fam`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError, named
from biolmm.files.bed_tables import read_fam
from biolmm.files.genotypes import SampleTable
from biolmm.files.lines import read_lines

_SEX = {"1": 1, "M": 1, "m": 1, "2": 2, "F": 2, "f": 2}


def read_psam(path: Path) -> SampleTable:
    """Read the samples of a `.psam`, or of a `.fam`.

    Returns
    -------
    Samples in the file's order; the family is `0` where the file has no column FID, sex is 0 where it is neither 1, M, 2
    nor F. Phenotypes are not read.

    Raises
    ------
    InputFileError
        When the file is unreadable or empty, its header names no IID, a line has fewer columns than the header, or a
        sample is named twice.
    """
    lines = read_lines(path)
    header = ""
    first: list[tuple[int, str]] = []
    for number, line in lines:
        if not line.startswith("#"):
            first = [(number, line)]
            break
        header = line
    if not header:
        return read_fam(path)
    columns = _columns(path, header)
    rows = _Rows(*zip(*_fields(path, columns, chain(first, lines)), strict=True)) if first else _Rows((), (), ())
    if not rows.sample_id:
        raise InputFileError(f"{path} names no samples.")
    sample_id = np.array(rows.sample_id, np.str_)
    _check_unique(path, sample_id)
    return SampleTable(sample_id, np.array(rows.family_id, np.str_), np.array(rows.sex, np.int8))


@dataclass(frozen=True)
class _Columns:
    """Which columns hold what; −1 where there is none."""

    n: int
    family: int
    sample: int
    sex: int


@dataclass(frozen=True)
class _Rows:
    family_id: tuple[str, ...]
    sample_id: tuple[str, ...]
    sex: tuple[int, ...]


def _columns(path: Path, header: str) -> _Columns:
    names = header[1:].split()
    sample = names.index("IID") if "IID" in names[:2] else -1
    if sample < 0 or (sample == 1 and names[0] != "FID"):
        raise InputFileError(
            f"{path}: the header begins with {' '.join(header.split()[:2])} instead of #FID IID or #IID."
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputFileError(f"{path}: the header names a column twice: {named(repeated)}. Rename one of them.")
    return _Columns(len(names), sample - 1, sample, names.index("SEX") if "SEX" in names else -1)


def _fields(path: Path, columns: _Columns, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[str, str, int]]:
    """Take family, sample and sex of each line."""
    for number, line in lines:
        fields = line.split()
        if len(fields) < columns.n:
            raise InputFileError(f"{path}, line {number:,}: {len(fields)} columns, and the header names {columns.n}.")
        family = "0" if columns.family < 0 else fields[columns.family]
        yield family, fields[columns.sample], 0 if columns.sex < 0 else _SEX.get(fields[columns.sex], 0)


def _check_unique(path: Path, sample_id: NDArray[np.str_]) -> None:
    names, counts = np.unique(sample_id, return_counts=True)
    repeated = names[counts > 1]
    if len(repeated):
        raise InputFileError(
            f"{path} names {len(repeated):,} sample ids (column IID) more than once: {named(repeated)}. "
            "Samples are matched by this id alone: make it unique, for example with plink2 --update-ids."
        )
