"""Tables as bytes, column by column in Arrow, and files of them: BGZF with an index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from biolmm.atomic import atomic_path, remove
from biolmm.sumstats.export.bgzf import BgzfWriter
from biolmm.sumstats.export.rows import Origin
from biolmm.sumstats.export.tabix import TABLE, Preset, TabixIndex


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    path, index_path
        The file, and its index or None.
    n_rows
        Variants in it.
    n_left_out
        Variants that the format has no place for, by reason.
    """

    path: Path
    index_path: Path | None
    n_rows: int
    n_left_out: Mapping[str, int]


def as_text(values: NDArray[Any] | pd.Series[Any] | pa.Array, missing: str) -> pa.Array:
    """Spell a column: the shortest decimals that give the numbers back; `missing` for NaN and None.

    Examples
    --------
    >>> as_text(np.array([0.1, np.nan]), "NA").to_pylist(), as_text(np.array([3, 4]), ".").to_pylist()
    (['0.1', 'NA'], ['3', '4'])
    """
    array = values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_null(array.type):
        return pa.array([missing] * len(array), pa.large_string())
    return pc.fill_null(pc.cast(array, pa.large_string()), missing)


def join_lines(columns: Sequence[pa.Array], separator: str = "\t") -> tuple[memoryview, NDArray[np.int64]]:
    """Join columns of text to lines: their bytes, and where each begins, and the end.

    Examples
    --------
    >>> text, starts = join_lines([pa.array(["a", "bc"], pa.large_string()), pa.array(["1", "2"], pa.large_string())])
    >>> bytes(text), starts.tolist()
    (b'a\\t1\\nbc\\t2\\n', [0, 4, 9])
    """
    lines = pc.binary_join_element_wise(*columns, pa.scalar(separator, pa.large_string()))
    lines = pc.binary_join_element_wise(lines, pa.scalar("", pa.large_string()), pa.scalar("\n", pa.large_string()))
    _, offsets, data = lines.buffers()
    places = np.frombuffer(offsets, np.int64)[lines.offset : lines.offset + len(lines) + 1]
    if not len(lines):
        return memoryview(b""), np.zeros(1, np.int64)
    return memoryview(data)[places[0] : places[-1]], places - places[0]


class IndexedText:
    """A BGZF file of lines in genome order, with the index that is made while it is written."""

    def __init__(self, text: BgzfWriter, index: TabixIndex | None) -> None:
        """Write to `text`; `index` may be None."""
        self._text = text
        self._index = index
        self.n_rows = 0

    def header(self, lines: str) -> None:
        """Write lines in front."""
        self._text.write(lines.encode())

    def rows(
        self, contig: str, position: NDArray[np.int64], length: NDArray[np.int64], columns: Sequence[pa.Array]
    ) -> None:
        """Write rows of one contig."""
        lines, starts = join_lines(columns)
        base = self._text.n_text
        self._text.write(lines)
        if self._index is not None:
            self._index.add(contig, position, length, (starts[:-1] + base).astype(np.uint64), self._text.n_text)
        self.n_rows += len(position)


@contextmanager
def indexed_text(out: Path, preset: Preset, *, index: bool, skip_lines: int = 0) -> Iterator[IndexedText]:
    """Open a file of lines; it and its index are there whole when the block ends, or not at all."""
    made = TabixIndex(preset, skip_lines) if index else None
    index_path = out.with_name(out.name + ".tbi")
    remove(index_path)
    with atomic_path(out) as aside:
        with aside.open("wb") as file, BgzfWriter(file) as text:
            yield IndexedText(text, made)
        if made is not None:
            made.write(index_path, text)


def write_table(origin: Origin, out: Path, *, index: bool = True) -> Exported:
    """Write a tab-separated BGZF table with a header that begins with #, and its tabix index.

    Raises
    ------
    OutputError
        When rows are not in genome order and an index was asked for, or the file cannot be written.

    Notes
    -----
    **Cost**: about 7 s a million variants; memory for one part.
    """
    with indexed_text(out, TABLE, index=index) as text:
        names: list[str] = []
        for contig, frame in origin.parts():
            if not names:
                names = [str(name) for name in frame.columns]
                text.header("#" + "\t".join(names) + "\n")
            columns = [as_text(frame[name], "NA") for name in names]
            position = frame["base_pair_location"].to_numpy(np.int64)
            text.rows(contig, position, np.ones(len(frame), np.int64), columns)
    return Exported(out, out.with_name(out.name + ".tbi") if index else None, text.n_rows, dict(origin.left_out))


def write_parquet(origin: Origin, out: Path) -> Exported:
    """Write one Parquet file in genome order, a row group a part, NaN as nulls.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    writer, n_rows = None, 0
    with atomic_path(out) as aside:
        try:
            for _, frame in origin.parts():
                table = pa.Table.from_pandas(_typed(frame), preserve_index=False)
                if writer is None:
                    table = table.replace_schema_metadata(
                        {"biolmm_study": origin.name, "genome_build": origin.build() or ""}
                    )
                    writer = pq.ParquetWriter(aside, table.schema, compression="zstd", write_page_checksum=True)
                writer.write_table(table.cast(writer.schema))
                n_rows += len(frame)
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            pq.write_table(pa.table({}), aside)
    return Exported(out, None, n_rows, dict(origin.left_out))


_TEXT = ("chromosome", "effect_allele", "other_allele", "variant_id", "rsid")


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Give columns one type in all parts, whatever is missing in one of them."""
    kinds = dict.fromkeys(_TEXT, "string") | {"n": "float64", "info": "float64"}
    return frame.astype({name: kind for name, kind in kinds.items() if name in frame})
