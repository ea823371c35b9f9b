"""Association results in Parquet: one part per trait, contig and chunk, written whole or not at all.

    results/associations/trait=<name>/contig=<c>/part-00000.parquet      columns: schema.ASSOCIATION_COLUMNS

Folder names are percent-encoded, so that Arrow, DuckDB, Polars and Spark read the tree as one table with the
columns `trait` and `contig`. Statistics that do not exist (a monomorphic variant) are nulls, never NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from biolmm import schema
from biolmm.atomic import atomic_path
from biolmm.errors import DamagedStoreError
from biolmm.places import place
from biolmm.results.paths import ASSOCIATIONS, list_parts, part_path, readable

COLUMN_NAMES = tuple(column.name for column in schema.ASSOCIATION_COLUMNS)

_ARROW_TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "double": pa.float64(),
    "bool": pa.bool_(),
}
_DICTIONARY_COLUMNS = ["chromosome", "effect_allele", "other_allele", "n", "info"]
_SPLIT_COLUMNS = [
    column.name
    for column in (*schema.ASSOCIATION_COLUMNS, *schema.EXACT_COLUMNS)
    if column.arrow_type == "double" and column.name != "info"
]

ARROW_SCHEMA = pa.schema(
    [
        pa.field(column.name, _ARROW_TYPES[column.arrow_type], metadata={"description": column.description})
        for column in schema.ASSOCIATION_COLUMNS
    ]
)
"""Arrow schema of every part: types and descriptions of `schema.ASSOCIATION_COLUMNS`."""

EXACT_FIELDS = tuple(
    pa.field(column.name, _ARROW_TYPES[column.arrow_type], metadata={"description": column.description})
    for column in schema.EXACT_COLUMNS
)
"""What the parts of the exact model have beside it."""


def write_part(directory: Path, trait: str, contig: str, part: int, columns: Mapping[str, NDArray[Any]]) -> Path:
    """Write one part atomically and return its path.

    Parameters
    ----------
    directory
        `results/associations` or `results/linear`.
    trait, contig, part
        Which part; names are percent-encoded in the path.
    columns
        One array per column of `schema.ASSOCIATION_COLUMNS`, all of one length. `chromosome` and `variant_id` are
        filled in when left out (`chromosome_position_other_effect`), `info` becomes null. Those of
        `schema.EXACT_COLUMNS` may be added.

    Raises
    ------
    ValueError
        When a column is missing, unknown or of another length.
    OutputError
        When the part cannot be written.
    """
    path = part_path(Path(directory), trait, contig, part)
    _write_table(_arrow_table(contig, columns), path)
    return path


def read_part(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one part as an Arrow table, rows as written.

    Raises
    ------
    DamagedStoreError
        When the file is not the Parquet file that was written.
    """
    try:
        return pq.ParquetFile(readable(path)).read(columns=None if columns is None else list(columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise DamagedStoreError(f"{path} is damaged ({error}): delete it and run the same command again.") from error


def patch_rows(path: Path, row_indices: NDArray[Any], columns: Mapping[str, NDArray[Any]]) -> None:
    """Replace some values of one part, rewriting it atomically: leads that were recomputed exactly.

    Parameters
    ----------
    path
        The part.
    row_indices
        Rows within the part, as `read_associations(..., locate=True)` gives them in `row`.
    columns
        New values for these rows, column by column; other columns and rows keep theirs bit by bit.

    Raises
    ------
    ValueError
        When a column is unknown or a row lies outside the part.
    """
    table = read_part(path)
    rows = np.asarray(row_indices, dtype=np.int64)
    if rows.size and (rows.min() < 0 or rows.max() >= table.num_rows):
        raise ValueError(f"rows {rows.min()} to {rows.max()} asked for, but {path} has {table.num_rows}")
    mask = np.zeros(table.num_rows, dtype=bool)
    mask[rows] = True
    order = np.argsort(rows, kind="stable")
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        if index < 0:
            raise ValueError(f"{name!r} is not a column of {path}")
        new = pa.array(
            np.broadcast_to(values, rows.shape)[order], type=table.schema.field(index).type, from_pandas=True
        )
        patched = pc.replace_with_mask(table.column(index).combine_chunks(), pa.array(mask), new)
        table = table.set_column(index, table.schema.field(index), patched)
    _write_table(table, path)


def read_associations(
    results_dir: Path,
    trait: str | None = None,
    contig: str | None = None,
    columns: Sequence[str] | None = None,
    *,
    kind: str = ASSOCIATIONS,
    locate: bool = False,
) -> pd.DataFrame:
    """Read results as a table in genome order: contigs 1, 2, …, X, Y, MT, then by position.

    Parameters
    ----------
    results_dir
        The directory that `gwas` wrote.
    trait, contig
        One trait, one contig, or all. With all traits a first column `trait` is added.
    columns
        Columns to read; all by default. Fewer columns read proportionally fewer bytes.
    kind
        `associations` (mixed model) or `linear` (plain regression).
    locate
        Add `part` (path) and `row` (row within the part), which `patch_rows` takes.

    Returns
    -------
    DataFrame
        One row a variant and trait. Missing statistics are NaN.

    Raises
    ------
    InputFileError
        When there are no such results.
    """
    frames = [
        _contig_frame(name, paths, columns, with_trait=trait is None, locate=locate)
        for name, paths in _grouped(list_parts(place(results_dir), trait, contig, kind))
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(columns or COLUMN_NAMES))


def _grouped(parts: list[tuple[str, str, Path]]) -> list[tuple[str, list[Path]]]:
    groups: dict[tuple[str, str], list[Path]] = {}
    for trait, contig, path in parts:
        groups.setdefault((trait, contig), []).append(path)
    return [(trait, paths) for (trait, _), paths in groups.items()]


def _contig_frame(
    trait: str, paths: list[Path], columns: Sequence[str] | None, *, with_trait: bool, locate: bool
) -> pd.DataFrame:
    """The parts of one trait and contig, by position; the position is read for sorting even if not asked for."""
    wanted = list(columns) if columns is not None else list(COLUMN_NAMES)
    read = wanted if "base_pair_location" in wanted else [*wanted, "base_pair_location"]
    tables = [read_part(path, read) for path in paths]
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    if locate:
        lengths = [table.num_rows for table in tables]
        frame["part"] = np.repeat([str(path) for path in paths], lengths)
        frame["row"] = np.concatenate([np.arange(length) for length in lengths])
    if not frame["base_pair_location"].is_monotonic_increasing:
        frame = frame.sort_values("base_pair_location", kind="stable", ignore_index=True)
    frame = frame[wanted + (["part", "row"] if locate else [])]
    if with_trait:
        frame.insert(0, "trait", trait)
    return frame


def _arrow_table(contig: str, columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    wanted = [*ARROW_SCHEMA, *(field for field in EXACT_FIELDS if field.name in columns)]
    unknown = set(columns) - {field.name for field in wanted}
    missing = set(COLUMN_NAMES) - set(columns) - {"chromosome", "variant_id", "info"}
    if unknown or missing:
        raise ValueError(f"unknown columns {sorted(unknown)}, missing columns {sorted(missing)}")
    n = len(columns["base_pair_location"])
    arrays: dict[str, pa.Array] = {}
    for field in wanted:
        if field.name in columns:
            arrays[field.name] = pa.array(columns[field.name], type=field.type, from_pandas=True)
        else:
            arrays[field.name] = pa.nulls(n, field.type)
    if "chromosome" not in columns:
        arrays["chromosome"] = pa.repeat(pa.scalar(contig, pa.string()), n)
    if "variant_id" not in columns:
        keys = [arrays[name] for name in ("chromosome", "base_pair_location", "other_allele", "effect_allele")]
        arrays["variant_id"] = pc.binary_join_element_wise(*(pc.cast(key, pa.string()) for key in keys), "_")
    return pa.Table.from_arrays(list(arrays.values()), schema=pa.schema(wanted))


def _write_table(table: pa.Table, path: Path) -> None:
    with atomic_path(path) as aside:
        pq.write_table(
            table,
            aside,
            compression="zstd",
            use_dictionary=_DICTIONARY_COLUMNS,
            column_encoding={name: "BYTE_STREAM_SPLIT" for name in _SPLIT_COLUMNS if name in table.column_names},
            write_page_checksum=True,
        )
