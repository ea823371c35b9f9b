"""Trait and covariate tables: tab, comma, semicolon or space separated text, gzip, or Parquet.

Sample ids are text from the first byte to the last; they are never read as numbers.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from biolmm.errors import InputFileError, named
from biolmm.files.lines import file_start, read_lines
from biolmm.places import place

NA_SPELLINGS = ("", "NA", "na", "NaN", "nan", "-nan", "N/A", "n/a", "#NA", "#N/A", ".", "null", "NULL")
ID_COLUMNS = ("iid", "sample_id")
SAMPLE_ID = "sample_id"
_ALSO_IDS = ("fid", "sid")
_SEPARATORS = {"\t": "tab", ",": "comma", ";": "semicolon", " ": "whitespace"}


@dataclass(frozen=True)
class _Header:
    """What the first line tells: the separator, the names of all fields, and whether it was data already."""

    separator: str
    names: tuple[str, ...]
    is_data: bool
    id_field: int
    value_fields: tuple[int, ...]


def read_table(
    path: str | Path,
    *,
    missing_value: float | str | None = None,
    default_name: str = "PHENO",
    truth_as_text: bool = False,
) -> pd.DataFrame:
    """Read a table of traits or covariates, one row a sample.

    Parameters
    ----------
    path
        Text with a header (`FID IID ...`, `#FID IID ...`, `#IID ...`, `IID ...` or `sample_id ...`), PLINK text without
        one (`FID IID value ...`), or Parquet with a column or index of these names. Text may be gzipped. The sample
        id is IID; FID is dropped.
    missing_value
        One more spelling of a missing value, for example -9 as PLINK writes it. It is never assumed.
    default_name
        Name of the columns of a file without a header: `PHENO1`, `PHENO2`, ...
    truth_as_text
        Whether columns of TRUE and FALSE are the text `True` and `False`, categories; else they are 1 and 0.

    Returns
    -------
    pandas.DataFrame
        Rows in the order of the file, the index `sample_id` text and unique; columns of numbers are float64 with NaN
        for missing values, other columns hold text. `attrs["source"]` is the path, for messages.

    Raises
    ------
    InputFileError
        When the file is missing, not text, empty, has rows of unequal length, no sample id column, no further column,
        empty or repeated sample ids, or unnamed or repeated column names.

    Notes
    -----
    **Cost**: one pass over the file; peak memory about twice the decompressed text.
    """
    path = place(path)
    frame = _read_parquet(path) if file_start(path).startswith(b"PAR1") else _read_text(path, default_name)
    columns = {name: _plain_column(frame[name], truth_as_text) for name in frame.columns}
    if missing_value is not None:
        columns = {name: _blank_out(column, str(missing_value).strip()) for name, column in columns.items()}
    table = pd.DataFrame(columns, index=pd.Index(frame.index, dtype=object, name=SAMPLE_ID))
    table.attrs["source"] = str(path)
    return table


def index_by_sample(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Make the sample id, as text, the index of a table that may still hold it as a column `IID` or `sample_id`.

    Raises
    ------
    InputFileError
        When ids are fractions, missing, repeated, or in no column at all.

    Examples
    --------
    >>> table = pd.DataFrame({"FID": ["a", "a"], "IID": ["007", "8"], "height": [1.5, 1.6]})
    >>> list(index_by_sample(table, "'table'").index)
    ['007', '8']
    """
    id_columns = [name for name in frame.columns if str(name).lstrip("#").lower() in ID_COLUMNS]
    if len(id_columns) > 1:
        raise InputFileError(f"{source} has {len(id_columns)} sample id columns ({named(id_columns)}): keep one.")
    if id_columns:
        frame = frame.set_index(id_columns[0])
        also_ids = [name for name in frame.columns if str(name).lstrip("#").lower() in _ALSO_IDS]
        frame = frame.drop(columns=also_ids)
    elif isinstance(frame.index, pd.RangeIndex) and frame.index.name is None:
        raise InputFileError(
            f"{source} has no sample id column: found {named(frame.columns)}. Name it 'IID' or 'sample_id'."
        )
    ids = _ids_as_text(frame.index, source)
    _check_ids(ids, source)
    frame = frame.set_axis(pd.Index(ids, dtype=object, name=SAMPLE_ID), axis="index")
    frame = frame.set_axis([str(name) for name in frame.columns], axis="columns")
    _check_names(list(frame.columns), source)
    return frame


def source_name(frame: pd.DataFrame, default: str) -> str:
    """Name a table in a message: its quoted path when it was read from a file."""
    source = frame.attrs.get("source")
    return f"'{source}'" if source else default


def _read_text(path: Path, default_name: str) -> pd.DataFrame:
    """Read delimited text into a frame with inferred column types."""
    lines = read_lines(path)
    first = next(((number, line) for number, line in lines if not line.startswith("##")), None)
    if first is None:
        raise InputFileError(f"'{path}' is empty: a header and one row a sample are needed.")
    header = _read_header(first[1], path, default_name)
    names = [header.names[field] for field in header.value_fields]
    _check_names(names, f"'{path}'")
    ids: list[str] = []
    numbers: list[int] = []
    values = io.StringIO()
    rows = [first] if header.is_data else []
    for number, line in (row for part in (rows, lines) for row in part):
        fields = _split_row(line, header, f"'{path}', line {number:,}")
        ids.append(fields[header.id_field])
        numbers.append(number)
        values.write("\t".join([fields[field] for field in header.value_fields]) + "\n")
    if not ids:
        raise InputFileError(f"'{path}' has a header but no samples below it.")
    _check_ids(ids, f"'{path}'", numbers)
    values.seek(0)
    frame = pd.read_csv(
        values, sep="\t", header=None, names=names, index_col=False, quoting=csv.QUOTE_NONE, skip_blank_lines=False,
        keep_default_na=False, na_values=list(NA_SPELLINGS), low_memory=False,
    )  # fmt: skip
    return frame.set_axis(pd.Index(ids, dtype=object), axis="index")


def _read_header(line: str, path: Path, default_name: str) -> _Header:
    """Find the separator and the roles of the fields from the first line."""
    separators = [separator for separator in _SEPARATORS if separator in line.strip()] or ["\t"]
    for separator in dict.fromkeys([separators[0], " "]):
        names = _split(line.rstrip(" "), separator)
        while len(names) > 1 and names[-1] == "":
            names.pop()
        names[0] = names[0].removeprefix("#")
        id_fields = [field for field, name in enumerate(names) if name.lower() in ID_COLUMNS]
        if len(id_fields) > 1:
            found = named(names[field] for field in id_fields)
            raise InputFileError(f"'{path}' has {len(id_fields)} sample id columns ({found}): keep one.")
        if id_fields:
            fields = [field for field, name in enumerate(names) if name.lower() not in (*ID_COLUMNS, *_ALSO_IDS)]
            if not fields:
                raise InputFileError(f"'{path}' has only sample ids ({named(names)}): no column of values beside them.")
            return _Header(separator, tuple(names), False, id_fields[0], tuple(fields))
    names = _split(line.rstrip(" "), separators[0])
    if len(names) > 2 and all(_is_value(text) for text in names[2:]):
        made = (f"{default_name}{number}" for number in range(1, len(names) - 1))
        return _Header(separators[0], ("FID", "IID", *made), True, 1, tuple(range(2, len(names))))
    raise InputFileError(
        f"'{path}' has no sample id column: its header is {named(names)} "
        f"({_SEPARATORS[separators[0]]}-separated). Name it 'IID' or 'sample_id'."
    )


def _split_row(line: str, header: _Header, where: str) -> list[str]:
    """Split one row; a separator too many at the end of the line is forgiven."""
    fields = _split(line, header.separator)
    expected = len(header.names)
    while len(fields) > expected and fields[-1] == "":
        fields.pop()
    if len(fields) != expected:
        raise InputFileError(
            f"{where}: the header has {expected:,} fields ({_SEPARATORS[header.separator]}-separated), this line "
            f"{len(fields):,}: {line.strip()[:40]!r}. "
            "Write NA for missing values, and no row names."
        )
    return fields


def _split(line: str, separator: str) -> list[str]:
    """Split a line into fields without surrounding spaces or quotes."""
    if separator == " ":
        return [text.strip('"') for text in line.split()]
    if '"' in line:
        fields = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
        return [text.strip().replace("\t", " ") for text in fields]
    return [text.strip() for text in line.split(separator)]


def _is_value(text: str) -> bool:
    """Whether a field can only be data, not a column's name."""
    if text in NA_SPELLINGS:
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_parquet(path: Path) -> pd.DataFrame:
    """Read Parquet; its index may hold the ids."""
    try:
        with path.open("rb") as file:
            frame = pd.read_parquet(file)
    except (OSError, ValueError) as error:  # pyarrow's errors derive from these
        reason = str(error).splitlines()[0]
        raise InputFileError(f"'{path}' is a damaged Parquet file ({reason}). Copy or make it again.") from None
    frame = index_by_sample(frame, f"'{path}'")
    if frame.empty:
        raise InputFileError(f"'{path}' holds {len(frame):,} samples and {len(frame.columns):,} columns of values.")
    return frame


def _plain_column(column: pd.Series, truth_as_text: bool = False) -> pd.Series:
    """Make a column float64, or text with NaN where missing; truth values count as 0 and 1, unless they are to be text."""
    if pd.api.types.is_numeric_dtype(column) and not (truth_as_text and pd.api.types.is_bool_dtype(column)):
        return column.astype("float64")
    present = column[column.notna()]
    if not truth_as_text and len(present) and present.map(lambda value: isinstance(value, bool)).all():
        return column.astype("float64")
    text = column.astype(object).where(column.isna(), column.astype(str).str.strip())
    text = text.where(~text.isin(NA_SPELLINGS) & text.notna(), float("nan"))
    return text.astype("float64") if text.isna().all() else text


def _blank_out(column: pd.Series, spelled: str) -> pd.Series:
    """Replace one more spelling of a missing value by NaN; a number matches however it is spelled."""
    is_number = spelled != "" and _is_value(spelled)
    if column.dtype == "float64":
        return column.mask(column == float(spelled)) if is_number else column
    matches = column == spelled
    if is_number:
        matches |= pd.to_numeric(column, errors="coerce") == float(spelled)
    return _plain_column(_numbers_if_all(column.mask(matches)))


def _numbers_if_all(column: pd.Series) -> pd.Series:
    """Turn text into numbers when every value present is one."""
    numbers = pd.to_numeric(column, errors="coerce")
    return numbers if bool((numbers.isna() == column.isna()).all()) else column


def _ids_as_text(index: pd.Index, source: str) -> list[str]:
    """Spell ids as text; whole numbers are spelled as such, fractions and missing ids are refused."""
    if pd.api.types.is_float_dtype(index):
        raise InputFileError(
            f"{source} holds sample ids as decimal numbers (for example {index[0]}): store them as text."
        )
    n_missing = int(np.count_nonzero(index.isna()))
    if n_missing:
        raise InputFileError(f"{source} has no sample id in {n_missing:,} of {len(index):,} rows: remove them.")
    return [str(item) for item in index]


def _check_ids(ids: Sequence[str], source: str, numbers: Sequence[int] | None = None) -> None:
    """Refuse empty and repeated ids."""
    empty = [row for row, text in enumerate(ids) if text == ""]
    if empty:
        where = f"line {numbers[empty[0]]:,}" if numbers else f"row {empty[0] + 1:,}"
        raise InputFileError(f"{source} has no sample id in {len(empty):,} of {len(ids):,} rows, the first at {where}.")
    if len(set(ids)) == len(ids):
        return
    counts = Counter(ids)
    repeated = [text for text, count in counts.items() if count > 1]
    raise InputFileError(
        f"{source} repeats {len(repeated):,} of {len(counts):,} sample ids: {named(repeated)}. "
        "Keep one row a sample (the id is IID alone, whatever FID says)."
    )


def _check_names(names: Iterable[str], source: str) -> None:
    """Refuse columns without a name or with the same name."""
    counts = Counter(names)
    if counts[""]:
        raise InputFileError(f"{source} has no name for {counts['']:,} of its columns: name them all.")
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise InputFileError(f"{source} has repeated column names: {named(repeated)}. Rename or drop them.")
