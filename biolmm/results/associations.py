"""Association results in Parquet: one part per trait, contig and chunk, written whole or not at all.

    results/associations/trait=<name>/contig=<c>/part-00000.parquet      columns: schema.ASSOCIATION_COLUMNS

Folder names are percent-encoded, so that Arrow, DuckDB, Polars and Spark read the tree as one table with the
columns `trait` and `contig`. Statistics that do not exist (a monomorphic variant) are nulls, never NaN.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from biolmm import schema
from biolmm.atomic import atomic_path, write_files
from biolmm.errors import DamagedStoreError
from biolmm.places import place
from biolmm.results.encode import encode_all, write_options
from biolmm.results.paths import ASSOCIATIONS, list_parts, part_path, readable

COLUMN_NAMES = tuple(column.name for column in schema.ASSOCIATION_COLUMNS)

_ARROW_TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "double": pa.float64(),
    "bool": pa.bool_(),
}
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

_TYPES = {field.name: field.type for field in (*ARROW_SCHEMA, *EXACT_FIELDS)}
_LABELS = ("base_pair_location", "effect_allele", "other_allele", "rsid")


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


def write_parts(
    directory: Path,
    contig: str,
    part: int,
    common: Mapping[str, NDArray[Any]],
    traits: Mapping[str, Mapping[str, NDArray[Any]]],
) -> list[Path]:
    """Write one part of every trait, each file atomically, and return their paths in the order of the traits.

    Parameters
    ----------
    directory, contig, part
        As of `write_part`.
    common
        Columns that all traits share: what identifies the variants, `info`.
    traits
        For every trait, its other columns.

    Raises
    ------
    ValueError
        When a column is missing, unknown or of another length.
    OutputError
        When a file cannot be written. Others may be there.

    Notes
    -----
    Cost: what traits share is made and encoded once; see `encode_all`.
    """
    shared = _shared_arrays(contig, common)
    own = [_own_arrays(columns) for columns in traits.values()]
    for columns in own:
        _check_names({**shared, **columns})
    paths = [part_path(Path(directory), trait, contig, part) for trait in traits]
    encoded = encode_all(_part_schema(own[0] if own else ()), shared, own)
    write_files((paths[index], pieces) for index, pieces in encoded)
    return paths


def read_part(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one part as an Arrow table, rows as written.

    Raises
    ------
    DamagedStoreError
        When the file is not the Parquet file that was written.
    """
    try:
        return pq.ParquetFile(readable(path)).read(None if columns is None else list(columns), use_threads=False)
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
    groups: dict[str, list[tuple[str, Path]]] = {}
    for name, here, path in list_parts(place(results_dir), trait, contig, kind):
        groups.setdefault(name, []).append((here, path))
    frames = [
        _trait_frame(name, parts, columns, with_trait=trait is None, locate=locate) for name, parts in groups.items()
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(columns or COLUMN_NAMES))


def _trait_frame(
    trait: str, parts: Sequence[tuple[str, Path]], columns: Sequence[str] | None, *, with_trait: bool, locate: bool
) -> pd.DataFrame:
    """The parts of one trait, contig by contig, by position; it is read for sorting even if not asked for."""
    wanted = list(columns) if columns is not None else list(COLUMN_NAMES)
    read = wanted if "base_pair_location" in wanted else [*wanted, "base_pair_location"]
    tables = [read_part(path, read) for _, path in parts]
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    lengths = np.array([table.num_rows for table in tables])
    if locate:
        frame["part"] = np.repeat(np.array([str(path) for _, path in parts], dtype=object), lengths)
        frame["row"] = np.concatenate([np.arange(length) for length in lengths])
    order = _by_position(frame["base_pair_location"].to_numpy(), [contig for contig, _ in parts], lengths)
    if order is not None:
        frame = frame.iloc[order].reset_index(drop=True)
    frame = frame[wanted + (["part", "row"] if locate else [])]
    if with_trait:
        frame.insert(0, "trait", trait)
    return frame


def _by_position(
    position: NDArray[np.int64], contigs: Sequence[str], lengths: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Return the rows in order of position within each contig, None where they are; `contigs` of the parts stand together."""
    first = [i for i, contig in enumerate(contigs) if i == 0 or contig != contigs[i - 1]]
    edges = np.append(np.cumsum(lengths) - lengths, len(position))[[*first, len(contigs)]]
    falls = np.flatnonzero(np.diff(position) < 0) + 1
    if np.isin(falls, edges).all():
        return None
    runs = [start + np.argsort(position[start:stop], kind="stable") for start, stop in pairwise(edges.tolist())]
    return np.concatenate(runs)


def _arrow_table(contig: str, columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    """Make the table of a part; what is left out is filled in."""
    given = {name for name in ("chromosome", "variant_id", "info", *_LABELS) if name in columns}
    own = _own_arrays({name: values for name, values in columns.items() if name not in given})
    _check_names({**dict.fromkeys(given | {"chromosome", "variant_id", "info"}), **own})
    arrays = {**_shared_arrays(contig, {name: columns[name] for name in given}), **own}
    wanted = _part_schema(own)
    return pa.Table.from_arrays([arrays[field.name] for field in wanted], schema=wanted)


def _part_schema(columns: Collection[str]) -> pa.Schema:
    """Return the schema of a part, with the exact model's columns where it has them."""
    return pa.schema([*ARROW_SCHEMA, *(field for field in EXACT_FIELDS if field.name in columns)])


def _check_names(columns: Collection[str]) -> None:
    unknown = set(columns) - set(_TYPES)
    missing = set(COLUMN_NAMES) - set(columns)
    if unknown or missing:
        raise ValueError(f"unknown columns {sorted(unknown)}, missing columns {sorted(missing)}")


def _shared_arrays(contig: str, columns: Mapping[str, NDArray[Any]]) -> dict[str, pa.Array]:
    """Make the columns that say which variants these are, and `info`; those left out are filled in."""
    arrays = _own_arrays(columns)
    n = len(arrays["base_pair_location"])
    if "info" not in arrays:
        arrays["info"] = pa.nulls(n, _TYPES["info"])
    if "chromosome" not in arrays:
        arrays["chromosome"] = pa.repeat(pa.scalar(contig, pa.string()), n)
    if "variant_id" not in arrays:
        keys = [arrays[name] for name in ("chromosome", "base_pair_location", "other_allele", "effect_allele")]
        arrays["variant_id"] = pc.binary_join_element_wise(*(pc.cast(key, pa.string()) for key in keys), "_")
    return arrays


def _own_arrays(columns: Mapping[str, NDArray[Any]]) -> dict[str, pa.Array]:
    """Make Arrow's arrays, NaN as null; columns that are not known keep their type."""
    return {name: pa.array(values, type=_TYPES.get(name), from_pandas=True) for name, values in columns.items()}


def _write_table(table: pa.Table, path: Path) -> None:
    with atomic_path(path) as aside:
        pq.write_table(table, aside, row_group_size=max(table.num_rows, 1), **write_options(table.schema))
