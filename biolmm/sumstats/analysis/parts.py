"""Results of a chunk as a Parquet file: variants in genome order, GWAS-SSF's columns first.

out/meta/part-00000.parquet, part-00001.parquet, …      one a chunk of the store
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

from biolmm.atomic import atomic_path
from biolmm.errors import DamagedStoreError, InputFileError
from biolmm.sumstats.ingest.alleles import BASES, LONG, Alleles
from biolmm.sumstats.matrix.layout import CONTIG, POSITION, RSID
from biolmm.sumstats.matrix.read import SumstatsStore

FOLDER = "meta"
P_COLUMN = "neg_log_10_p_value"
FIRST = (
    "chromosome", "base_pair_location", "effect_allele", "other_allele", "beta", "standard_error", "effect_allele_frequency",
    "neg_log_10_p_value", "variant_id", "rsid", "n",
)  # fmt: skip
"""Columns of GWAS-SSF, in its order."""

_FEW_VALUES = {"chromosome", "effect_allele", "other_allele", "direction", "n_studies", "het_df", "n"}


def part_path(out: Path, chunk: int) -> Path:
    """Path of a chunk's part."""
    return out / FOLDER / f"part-{chunk:05d}.parquet"


def variant_columns(store: SumstatsStore, chunk: int, rows: NDArray[np.int64]) -> dict[str, pa.Array]:
    """Say what the variants of some rows of a chunk are."""
    contigs = pa.array(list(store.contig_id), pa.string())
    contig = pa.array(store.read_column(CONTIG, chunk)[rows])
    alleles = store.read_alleles(chunk)
    number = store.read_column(RSID, chunk)[rows]
    rsid = pc.binary_join_element_wise(pa.scalar("rs"), pc.cast(pa.array(number, mask=number == 0), pa.string()), "")
    out = {
        "chromosome": pc.take(contigs, contig),
        "base_pair_location": pa.array(store.read_column(POSITION, chunk)[rows]),
        "effect_allele": _allele_texts(alleles, rows, 1),
        "other_allele": _allele_texts(alleles, rows, 0),
    }
    keys = [
        pc.cast(out[name], pa.string())
        for name in ("chromosome", "base_pair_location", "other_allele", "effect_allele")
    ]
    return {**out, "variant_id": pc.binary_join_element_wise(*keys, "_"), "rsid": rsid}


def _allele_texts(alleles: Alleles, rows: NDArray[np.int64], side: int) -> pa.Array:
    """Spell one allele of each row."""
    codes = alleles.codes[rows, side].astype(np.int32)
    long = np.flatnonzero(codes >= LONG)
    texts = [alleles.text(int(row), side) for row in rows[long]]
    codes[long] = len(BASES) + np.arange(len(long))
    return pc.take(pa.array([*BASES.decode(), *texts], pa.string()), pa.array(codes))


def write_part(path: Path, variants: Mapping[str, pa.Array], columns: Mapping[str, NDArray[Any]]) -> Path:
    """Write a part; NaN becomes null."""
    arrays = {**variants}
    for name, values in columns.items():
        if values.dtype.kind == "S":
            arrays[name] = pc.cast(pa.array(values, pa.binary()), pa.string())
        else:
            arrays[name] = pa.array(values, from_pandas=True)
    names = [*(name for name in FIRST if name in arrays), *(name for name in arrays if name not in FIRST)]
    table = pa.table({name: arrays[name] for name in names})
    split = [field.name for field in table.schema if pa.types.is_floating(field.type) and field.name not in _FEW_VALUES]
    with atomic_path(path) as aside:
        pq.write_table(
            table,
            aside,
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in names if name in _FEW_VALUES],
            column_encoding=dict.fromkeys(split, "BYTE_STREAM_SPLIT"),
            write_page_checksum=True,
        )
    return path


def list_parts(out: Path) -> list[Path]:
    """List the parts of a result in genome order; none where there is no result."""
    return sorted((out / FOLDER).glob("part-*.parquet"))


def read_parts(out: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a result whole, in genome order.

    Raises
    ------
    InputFileError
        When there is none.
    DamagedStoreError
        When a part is damaged.
    """
    paths = list_parts(out)
    if not paths:
        raise InputFileError(f"{out} holds no results of `biolmm meta`.")
    tables = [read_part(path, columns) for path in paths]
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return frame


def read_part(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one part.

    Raises
    ------
    DamagedStoreError
        When it is not what was written.
    """
    try:
        return pq.ParquetFile(path).read(columns=None if columns is None else list(columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise DamagedStoreError(f"{path} is damaged ({error}): delete it and run the same command again.") from None
