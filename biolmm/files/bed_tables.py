"""The two text files beside a `.bed`: samples in `.fam`, variants in `.bim`."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.errors import InputFileError, named
from biolmm.files.genotypes import SampleTable, VariantTable, as_strings

_FAM_COLUMNS = "family id, sample id, father, mother, sex, phenotype"
_BIM_COLUMNS = "chromosome, variant id, position in centimorgans, position in base pairs, allele 1, allele 2"
_N_COLUMNS = 6


def read_fam(path: Path) -> SampleTable:
    """Read the samples of a `.fam`.

    Returns
    -------
    Samples in the file's order; sex is 0 where it is neither 1 nor 2. The phenotype is not read.

    Raises
    ------
    InputFileError
        When the file is unreadable, empty, has lines without six columns, or names a sample twice.
    """
    table = _read_columns(path, _FAM_COLUMNS)
    sample_id = table[1].to_numpy(dtype=np.str_)
    repeated = table[1][table[1].duplicated()].unique()
    if len(repeated):
        raise InputFileError(
            f"{path} names {len(repeated):,} sample ids (column 2) more than once: {named(repeated)}. "
            "Samples are matched by this id alone: make it unique, for example with plink2 --update-ids."
        )
    code = table[4].to_numpy(dtype=object)
    sex = ((code == "1") + 2 * (code == "2")).astype(np.int8)
    return SampleTable(sample_id=sample_id, family_id=table[0].to_numpy(dtype=np.str_), sex=sex)


def read_bim(path: Path) -> VariantTable:
    """Read the variants of a `.bim`.

    Returns
    -------
    Variants in the file's order, ALT = column 5, REF = column 6; contigs as they are spelled, in the order of their
    first appearance. Negative positions, which mark unplaced variants that PLINK leaves out, are kept as they are.

    Raises
    ------
    InputFileError
        When the file is unreadable, empty, has lines without six columns, or a position that is not a number of base
        pairs.
    """
    table = _read_columns(path, _BIM_COLUMNS)
    codes, names = pd.factorize(table[0])
    return VariantTable(
        contig=codes.astype(np.int32),
        contig_id=tuple(names.tolist()),
        position=_positions(path, table[3]),
        variant_id=as_strings(table[1].to_numpy(dtype=object)),
        ref=as_strings(table[5].to_numpy(dtype=object)),
        alt=as_strings(table[4].to_numpy(dtype=object)),
    )


def count_duplicates(variants: VariantTable) -> int:
    """Count placed variants that repeat the contig, position and alleles of an earlier one.

    Examples
    --------
    >>> two = np.ones(2, np.int64)
    >>> count_duplicates(VariantTable(two.astype(np.int32), ("X", "1"), two, *[as_strings(["A", "A"])] * 3))
    1
    """
    places = pd.DataFrame({"contig": variants.contig, "position": variants.position})
    shared = np.flatnonzero(places.duplicated(keep=False).to_numpy() & (variants.position > 0))
    candidates = places.iloc[shared].assign(ref=variants.ref[shared], alt=variants.alt[shared])
    return int(candidates.duplicated().sum())


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the system says about a file into an `InputFileError` that names it."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path} is not a text file: {error.reason} at byte {error.start:,}.") from None
    except OSError as error:
        raise InputFileError(f"{path} cannot be read: {error.strerror}.") from error


def _positions(path: Path, column: pd.Series[str]) -> NDArray[np.int64]:
    try:
        return np.asarray(column.astype("int64"), np.int64)
    except (ValueError, OverflowError):
        row = next(i for i, text in enumerate(column) if not re.fullmatch(r"[+-]?[0-9]{1,18}", text))
        raise InputFileError(
            f"{path}, line {_line_of_row(path, row)}: position {column.iloc[row]!r} (column 4) is not an integer."
        ) from None


def _read_columns(path: Path, columns: str) -> pd.DataFrame:
    """Read whitespace-separated text of exactly six columns, all as strings."""
    with reading(path), path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas' word for a first line of too many columns
        try:
            table = pd.read_csv(
                file, sep=r"\s+", header=None, names=range(_N_COLUMNS + 1), dtype=str, na_filter=False,
                quoting=csv.QUOTE_NONE, index_col=False, encoding="utf-8", compression=None,
            )  # fmt: skip
        except pd.errors.EmptyDataError:
            table = pd.DataFrame()
        except (pd.errors.ParserError, pd.errors.ParserWarning):
            raise _wrong_columns(path, columns) from None
    if table.empty:
        raise InputFileError(f"{path} is empty.")
    if _is_empty(table[_N_COLUMNS - 1]).any() or not _is_empty(table[_N_COLUMNS]).all():
        raise _wrong_columns(path, columns)
    return table


def _is_empty(column: pd.Series[str]) -> pd.Series[bool]:
    return column.isna() | (column == "")


@dataclass(frozen=True)
class _Line:
    number: int
    fields: list[str]


def _lines(path: Path) -> Iterator[_Line]:
    """Give the lines that are not blank."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _Line(number, line.split())


def _wrong_columns(path: Path, columns: str) -> InputFileError:
    line = next((line for line in _lines(path) if len(line.fields) != _N_COLUMNS), None)
    if line is None:
        return InputFileError(f"{path} cannot be read as a table of six columns ({columns}).")
    return InputFileError(f"{path}, line {line.number}: {len(line.fields)} columns instead of six ({columns}).")


def _line_of_row(path: Path, row: int) -> int:
    return next(line.number for i, line in enumerate(_lines(path)) if i == row)
