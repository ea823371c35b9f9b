"""How a store is laid out on disk: chunk sizes, file names, array metadata.

A store is one Zarr v3 group. `call_alt_count` holds the calls, 2 bits each, in chunks of all samples by some
variants; its chunk grid is padded to whole 8-byte words per row. Every array is written with a checksummed codec,
and the group's attributes list the CRC-32C of every file except the chunks of calls, whose CRCs are an array.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from biolmm.files.encoding import padded_samples, row_bytes
from biolmm.files.genotypes import SampleTable, Strings, VariantTable
from biolmm.schema import CALL_ALT_COUNT, MISSING_CALL, SAMPLES, STORE_VARIABLES, VARIANTS
from biolmm.store.packbits import PackBits

__all__ = [
    "ZSTD_LEVEL",
    "SampleTable",
    "VariantTable",
    "call_chunk_path",
    "chunk_range",
    "create_calls",
    "default_chunk_variants",
    "padded_samples",
    "row_bytes",
    "write_array",
]

ZSTD_LEVEL = 1
TARGET_CHUNK_BYTES = 8 * 1024**2
MIN_CHUNK_VARIANTS, MAX_CHUNK_VARIANTS = 64, 8192
TABLE_CHUNK = 65_536

_ZSTD = ZstdCodec(level=ZSTD_LEVEL, checksum=True)


def default_chunk_variants(n_samples: int) -> int:
    """Choose the variants of a chunk: about 8 MiB packed, a multiple of 64, from 64 to 8,192.

    Examples
    --------
    >>> default_chunk_variants(500_000)
    64
    >>> default_chunk_variants(20_000)
    1664
    >>> default_chunk_variants(10)
    8192
    """
    n_variants = TARGET_CHUNK_BYTES // row_bytes(n_samples) // 64 * 64
    return int(np.clip(n_variants, MIN_CHUNK_VARIANTS, MAX_CHUNK_VARIANTS))


def call_chunk_path(chunk: int) -> str:
    """Name the file of a chunk of calls within the store."""
    return f"{CALL_ALT_COUNT}/c/{chunk}/0"


def chunk_range(chunk: int, chunk_variants: int, n_variants: int) -> tuple[int, int]:
    """Give the half-open range of variants of a chunk.

    Raises
    ------
    IndexError
        When there is no such chunk.

    Examples
    --------
    >>> chunk_range(1, 64, 100)
    (64, 100)
    """
    n_chunks = -(-n_variants // chunk_variants)
    if not 0 <= chunk < n_chunks:
        raise IndexError(f"chunk {chunk} of {n_chunks}")
    return chunk * chunk_variants, min((chunk + 1) * chunk_variants, n_variants)


def create_calls(group: zarr.Group, n_variants: int, n_samples: int, chunk_variants: int) -> None:
    """Create `call_alt_count` without any chunk."""
    group.create_array(
        CALL_ALT_COUNT,
        shape=(n_variants, n_samples),
        chunks=(chunk_variants, padded_samples(n_samples)),
        dtype=np.uint8,
        fill_value=MISSING_CALL,
        serializer=PackBits(),
        compressors=[_ZSTD],
        dimension_names=[VARIANTS, SAMPLES],
        attributes={"description": STORE_VARIABLES[CALL_ALT_COUNT].description},
        config={"write_empty_chunks": True},
    )


def write_array(group: zarr.Group, name: str, values: NDArray[Any] | Strings) -> None:
    """Write one of the small arrays of `schema.STORE_VARIABLES`, replacing what an interrupted run left."""
    variable = STORE_VARIABLES[name]
    dtype = np.dtypes.StringDType() if variable.dtype == "str" else np.dtype(variable.dtype)
    values = np.asarray(values, dtype=dtype)
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=(min(TABLE_CHUNK, len(values)), *values.shape[1:]),
        dtype=dtype,
        compressors=[_ZSTD],
        dimension_names=list(variable.dims),
        attributes={"description": variable.description},
        config={"write_empty_chunks": True},
        overwrite=True,
    )
    array[...] = values


def table_files(store: Path) -> list[Path]:
    """List the files of all arrays, without the chunks of calls, relative to the store and sorted."""
    calls = store / CALL_ALT_COUNT
    files = [calls / "zarr.json"]
    for folder in sorted(path for path in store.iterdir() if path.is_dir() and path != calls):
        files += sorted(path for path in folder.rglob("*") if path.is_file())
    return [path.relative_to(store) for path in files]
