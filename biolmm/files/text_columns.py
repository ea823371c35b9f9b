"""Columns of large delimited text files, read at once into Arrow: tabs by Arrow's reader, blanks by pandas'."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from biolmm.errors import InputFileError
from biolmm.files.lines import file_start, read_lines

MISSING = ("", "NA", "NaN", "nan", ".", "N/A", "null", "#NA")

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}


def header_of(path: Path) -> tuple[str, ...]:
    """Read the names in the first line, cut at tabs or, where there are none, at blanks; of Parquet, its columns.

    Raises
    ------
    InputFileError
        When the file cannot be read or is empty.
    """
    if file_start(path).startswith(b"PAR1"):
        return tuple(_parquet(path).schema_arrow.names)
    for _, line in read_lines(path):
        return tuple(name.strip() for name in (line.split("\t") if "\t" in line else line.split()))
    raise InputFileError(f"'{path}' is empty.")


def read_columns(path: Path, types: Mapping[str, pa.DataType]) -> pa.Table:
    """Read some columns of a text file with a header, or of Parquet, with the types that are given.

    Parameters
    ----------
    path
        Plain or compressed with gzip.
    types
        Columns, as the header names them, and their types; empty fields and NA are null.

    Raises
    ------
    InputFileError
        When the file cannot be read, is damaged or truncated, a line has another number of fields, or a value is no
        number; names the file and, where it is known, the line.
    """
    if file_start(path).startswith(b"PAR1"):
        try:
            table = _parquet(path).read(columns=list(types))
            return table.cast(pa.schema([(name, types[name]) for name in table.column_names])).select(list(types))
        except pa.ArrowInvalid as error:
            raise InputFileError(f"'{path}': a column has values of another type: {_first_line(error)}.") from None
    header = next(line for _, line in read_lines(path))
    return _tabbed(path, types) if "\t" in header else _blank_separated(path, types)


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputFileError(
            f"'{path}' is a damaged Parquet file ({_first_line(error)}). Copy or make it again."
        ) from None


def _tabbed(path: Path, types: Mapping[str, pa.DataType]) -> pa.Table:
    start = file_start(path)
    compression = next((name for magic, name in _COMPRESSED.items() if start.startswith(magic)), None)
    options = pc_csv.ConvertOptions(
        column_types=dict(types), include_columns=list(types), null_values=list(MISSING), strings_can_be_null=True
    )
    parse = pc_csv.ParseOptions(delimiter="\t", quote_char=False)
    try:
        with pa.input_stream(str(path), compression=compression) as stream:
            table = pc_csv.read_csv(stream, parse_options=parse, convert_options=options)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise InputFileError(f"'{path}' cannot be read as a tab-separated table: {_first_line(error)}.") from None
    except OSError as error:
        raise InputFileError(
            f"'{path}' is damaged or truncated ({_first_line(error)}). Copy or make it again."
        ) from None
    return table.combine_chunks()


def _blank_separated(path: Path, types: Mapping[str, pa.DataType]) -> pa.Table:
    try:
        frame = pd.read_csv(
            path, sep=r"\s+", usecols=list(types), na_values=list(MISSING), keep_default_na=False, dtype=str
        )
        return pa.table(
            {name: pa.array(frame[name], pa.string(), from_pandas=True).cast(kind) for name, kind in types.items()}
        )
    except (pd.errors.ParserError, ValueError) as error:  # Arrow's invalid values are ValueErrors, too
        raise InputFileError(f"'{path}' cannot be read as a table: {_first_line(error)}.") from None
    except (EOFError, zlib.error, OSError) as error:
        raise InputFileError(
            f"'{path}' is damaged or truncated ({_first_line(error)}). Copy or make it again."
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
