"""How a store is laid out on disk: chunk sizes, file names, array metadata.

A store is one Zarr v3 group. `call_alt_count` holds hard calls, 2 bits each, in chunks of all samples by some variants;
its chunk grid is padded to whole 8-byte words per row. A store of dosages has `call_dosage` instead, codes of 8 or 16
bits. Every array is written with a checksummed codec, and the group's attributes list the CRC-32C of every file except
the chunks of genotypes, whose CRCs are an array.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from biolmm.errors import ParameterError
from biolmm.files.encoding import Encoding, padded_samples, row_bytes
from biolmm.files.genotypes import SampleTable, Strings, VariantTable
from biolmm.places import is_remote
from biolmm.schema import CALL_ALT_COUNT, CALL_DOSAGE, SAMPLES, STORE_VARIABLES, VARIANTS
from biolmm.store.packbits import PackBits

__all__ = [
    "ZSTD_LEVEL",
    "SampleTable",
    "VariantTable",
    "choose_chunk_variants",
    "chunk_path",
    "chunk_range",
    "create_genotypes",
    "default_chunk_variants",
    "genotype_array",
    "padded_samples",
    "row_bytes",
    "write_array",
]

ZSTD_LEVEL = 1
TARGET_CHUNK_BYTES = 8 * 1024**2
MIN_CHUNK_VARIANTS, MAX_CHUNK_VARIANTS = 64, 8192
TABLE_CHUNK = 65_536

_ZSTD = ZstdCodec(level=ZSTD_LEVEL, checksum=True)


def default_chunk_variants(n_samples: int, encoding: Encoding = Encoding.CALLS) -> int:
    """Choose the variants of a chunk: about 8 MiB of rows, a multiple of 64, from 64 to 8,192.

    Examples
    --------
    >>> default_chunk_variants(500_000)
    64
    >>> default_chunk_variants(20_000), default_chunk_variants(20_000, Encoding.DOSAGE8)
    (1664, 384)
    >>> default_chunk_variants(10)
    8192
    """
    n_variants = TARGET_CHUNK_BYTES // encoding.row_bytes(n_samples) // 64 * 64
    return int(np.clip(n_variants, MIN_CHUNK_VARIANTS, MAX_CHUNK_VARIANTS))


def choose_chunk_variants(
    n_samples: int, n_variants: int, asked: int | None, encoding: Encoding = Encoding.CALLS
) -> int:
    """Settle the variants of a chunk: as asked or by default, and no more than the variants there are.

    Raises
    ------
    ParameterError
        When there are no samples or no variants, or `asked` is not a positive multiple of 64.

    Examples
    --------
    >>> choose_chunk_variants(20_000, 100, None)
    128
    """
    if not n_samples or not n_variants:
        raise ParameterError(f"a store needs samples and variants, not {n_samples:,} and {n_variants:,}.")
    if asked is not None and (asked <= 0 or asked % 64):
        raise ParameterError(f"{asked:,} variants a chunk: give a positive multiple of 64.")
    return min(asked or default_chunk_variants(n_samples, encoding), -(-n_variants // 64) * 64)


def genotype_array(encoding: Encoding) -> str:
    """Name the array that holds the genotypes."""
    return CALL_DOSAGE if encoding.is_dosage else CALL_ALT_COUNT


def chunk_path(encoding: Encoding, chunk: int) -> str:
    """Name the file of a chunk of genotypes within the store.

    Examples
    --------
    >>> chunk_path(Encoding.CALLS, 3)
    'call_alt_count/c/3/0'
    """
    return f"{genotype_array(encoding)}/c/{chunk}/0"


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


def create_genotypes(
    group: zarr.Group, n_variants: int, n_samples: int, chunk_variants: int, encoding: Encoding
) -> None:
    """Create the array of genotypes without any chunk."""
    name = genotype_array(encoding)
    attributes: dict[str, Any] = {"description": STORE_VARIABLES[name].description}
    if encoding.is_dosage:
        attributes |= {"scale_factor": 1 / encoding.steps, "_FillValue": encoding.missing}
    group.create_array(
        name,
        shape=(n_variants, n_samples),
        chunks=(chunk_variants, n_samples if encoding.is_dosage else padded_samples(n_samples)),
        dtype=encoding.dtype,
        fill_value=encoding.missing,
        serializer="auto" if encoding.is_dosage else PackBits(),
        compressors=[_ZSTD],
        dimension_names=[VARIANTS, SAMPLES],
        attributes=attributes,
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
    """List the files of all arrays, without the chunks of genotypes, relative to the store and sorted."""
    files = []
    for folder in sorted(path for path in store.iterdir() if path.is_dir()):
        if folder.name in (CALL_ALT_COUNT, CALL_DOSAGE):
            files.append(folder / "zarr.json")
        else:
            files += sorted(path for path in folder.rglob("*") if is_remote(path) or path.is_file())
    return [path.relative_to(store) for path in files]
