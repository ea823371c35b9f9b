"""The bytes of parts: how their columns are encoded, and the parts of many traits, of which most bytes are the same.

What identifies a variant costs ten times what its numbers cost, so it is encoded once: numbers are neither compressed nor
summarised in the footer, and two traits that lack statistics for the same variants have files that differ in nothing but
the numbers themselves, which always lie in the same place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Columns = Mapping[str, pa.Array]

_DICTIONARY_COLUMNS = ("chromosome", "effect_allele", "other_allele", "n", "info")
_PAGE_BYTES = 2**30
"""A column chunk is one page: nothing but the numbers lies between the first of them and the last."""
_ROWS_PER_PAGE = {"max_rows_per_page": 2**30} if "max_rows_per_page" in signature(pq.write_table).parameters else {}


def write_options(schema: pa.Schema) -> dict[str, Any]:
    """Give the options of `pyarrow.parquet.write_table` for a part.

    Examples
    --------
    >>> options = write_options(pa.schema([("rsid", pa.string()), ("beta", pa.float64())]))
    >>> options["compression"], options["write_statistics"]
    ({'rsid': 'zstd', 'beta': 'none'}, ['rsid'])
    """
    numbers = _numbers(schema)
    options: dict[str, Any] = {
        "compression": {name: "none" if name in numbers else "zstd" for name in schema.names},
        "use_dictionary": [name for name in _DICTIONARY_COLUMNS if name in schema.names],
        "write_statistics": [name for name in schema.names if name not in numbers],
        "data_page_size": _PAGE_BYTES,
    }
    return options | _ROWS_PER_PAGE


def encode(table: pa.Table) -> memoryview:
    """Encode a table as a Parquet file of one row group."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=max(table.num_rows, 1), **write_options(table.schema))
    return memoryview(sink.getvalue()).cast("B")


def encode_all(schema: pa.Schema, shared: Columns, traits: Sequence[Columns]) -> Iterator[tuple[int, list[Any]]]:
    """Encode one part of several traits.

    Parameters
    ----------
    schema
        Of every part.
    shared
        Columns that all traits have in common.
    traits
        The other columns of each.

    Yields
    ------
    int, list
        Which trait, and the pieces that make up its file. In an order of their own: traits alike follow one another.

    Notes
    -----
    **Cost**: strings are encoded once for all traits that lack the same statistics; a further one costs a copy of its bytes.
    """
    numbers = _numbers(schema) - set(shared)
    groups: dict[tuple[bytes, ...], list[int]] = {}
    for index, own in enumerate(traits):
        groups.setdefault(_likeness(own, numbers), []).append(index)
    for first, *others in groups.values():
        table = pa.Table.from_arrays([{**shared, **traits[first]}[name] for name in schema.names], schema=schema)
        content = encode(table)
        yield first, [content]
        template = _Template.of(content, {name: traits[first][name] for name in numbers}) if others else None
        for index in others:
            if template is not None:
                yield index, template.filled(traits[index])
                continue
            table = pa.Table.from_arrays([{**shared, **traits[index]}[name] for name in schema.names], schema=schema)
            yield index, [encode(table)]


@dataclass(frozen=True)
class _Template:
    """A file whose numbers are to be replaced.

    Attributes
    ----------
    content
        The file.
    places
        Where the values of each column begin, and their bytes, ascending.
    """

    content: memoryview
    places: tuple[tuple[str, int, int], ...]

    @classmethod
    def of(cls, content: memoryview, numbers: Columns) -> _Template | None:
        """Find where the numbers lie; None where they are not where they should be."""
        group = pq.read_metadata(pa.BufferReader(pa.py_buffer(content))).row_group(0)
        places = []
        for index in range(group.num_columns):
            column = group.column(index)
            if column.path_in_schema in numbers:
                # Uncompressed and in one page: header, levels, and the values at the end.
                values = _values(numbers[column.path_in_schema])
                end = column.data_page_offset + column.total_compressed_size
                if content[end - values.nbytes : end] != values.tobytes():
                    return None
                places.append((column.path_in_schema, end - values.nbytes, values.nbytes))
        return cls(content, tuple(sorted(places, key=lambda place: place[1])))

    def filled(self, columns: Columns) -> list[Any]:
        """Return the pieces of the file with these numbers instead."""
        pieces: list[Any] = []
        stop = 0
        for name, start, size in self.places:
            pieces += [self.content[stop:start], _values(columns[name]).data.cast("B")]
            stop = start + size
        return [*pieces, self.content[stop:]]


def _numbers(schema: pa.Schema) -> set[str]:
    """Name the columns that are not compressed: floating point that differs from row to row."""
    return {field.name for field in schema if pa.types.is_floating(field.type) and field.name != "info"}


def _likeness(columns: Columns, numbers: set[str]) -> tuple[bytes, ...]:
    """Return what two traits must share for their files to differ in numbers alone."""
    return tuple(_bits(array) if name in numbers else _content(array) for name, array in sorted(columns.items()))


def _bits(array: pa.Array) -> bytes:
    """Return which values are missing."""
    return np.packbits(array.is_null().to_numpy(zero_copy_only=False)).tobytes() if array.null_count else b""


def _content(array: pa.Array) -> bytes:
    return b"".join(b"-" if buffer is None else buffer.to_pybytes() for buffer in array.buffers())


def _values(array: pa.Array) -> NDArray[Any]:
    """Return the values that are there."""
    present = array.drop_null() if array.null_count else array
    return np.ascontiguousarray(present.to_numpy())
