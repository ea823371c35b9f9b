"""How the store lies on disk: its arrays, and chunks as bytes.

A Zarr v3 group. Arrays over variants are cut into chunks of `CHUNK_VARIANTS`; arrays over variants and studies into chunks
of so many variants of one study, so that a study comes, goes or is replaced without a byte of another being written.
Chunks of numbers are Blosc (zstd level 1, bytes shuffled), those of text vlen-utf8 and zstd; both end with their CRC-32C.
Chunks are encoded and decoded here, as Zarr would: text by a kernel over bytes, without a Python object a string.
"""

from __future__ import annotations

from typing import Any

import google_crc32c
import numba
import numpy as np
import zarr
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from biolmm.sumstats.ingest.alleles import BASES, LONG, Alleles, read_alleles
from biolmm.sumstats.ingest.records import VALUES

FORMAT = 1
FORMAT_ATTRIBUTE = "biolmm_sumstats_format"
"""Attribute that tells a store, and the version of its layout."""

CHUNK_VARIANTS = 131_072

STATUS = "status"
CELLS = (*VALUES, STATUS)
"""Arrays over variants and studies."""

CONTIG, POSITION, ALLELE, RSID, FREQUENCY = (
    "variant_contig", "variant_position", "variant_allele", "variant_rsid", "variant_eaf",
)  # fmt: skip
CATALOGUE = (CONTIG, POSITION, ALLELE, RSID, FREQUENCY)
"""Arrays over variants."""

CATALOGUE_CRC32C, CELLS_CRC32C = "catalogue_crc32c", "cells_crc32c"

_TYPES = {CONTIG: "<i4", POSITION: "<i8", RSID: "<i8", FREQUENCY: "<f4", STATUS: "<u2"}

DESCRIPTIONS = {
    CONTIG: "index into contig_id",
    POSITION: "1-based position in base pairs",
    ALLELE: "REF, ALT; ALT is the effect allele",
    RSID: "number of the rs identifier; 0: none",
    FREQUENCY: "frequency of ALT in the first of the studies that tell one; strands of palindromic variants are told by it",
    "beta": "effect of one copy of ALT; where status has DIRECTION_ONLY perhaps only its sign",
    "se": "standard error of beta",
    "eaf": "frequency of ALT",
    "info": "imputation quality",
    "n": "sample size",
    "neg_log10_p": "-log10 of the two-sided p-value, where beta / se does not give it",
    STATUS: "bit mask of what happened to the record: biolmm.sumstats.status.Status; 0: the study has none",
    "contig_id": "contig names",
    "study_id": "names of the studies",
    "chunk_first_place": "rank of the contig x 2^40 + position of each chunk's first variant",
    CATALOGUE_CRC32C: "CRC-32C of each chunk of the arrays over variants, in the order of the attribute `catalogue`",
    CELLS_CRC32C: "CRC-32C of each chunk of the arrays over variants and studies; 0: no chunk, all missing",
}


def cell_type(name: str, exact: bool) -> np.dtype[Any]:
    """Give the type of an array over variants and studies."""
    return np.dtype(_TYPES.get(name, "<f8" if exact else "<f4"))


def catalogue_path(name: str, chunk: int) -> str:
    """Name the file of a chunk of an array over variants.

    Examples
    --------
    >>> catalogue_path("variant_position", 2), catalogue_path("variant_allele", 2)
    ('variant_position/c/2', 'variant_allele/c/2/0')
    """
    return f"{name}/c/{chunk}" + ("/0" if name == ALLELE else "")


def cell_path(name: str, chunk: int, study: int) -> str:
    """Name the file of a chunk of an array over variants and studies.

    Examples
    --------
    >>> cell_path("beta", 2, 0)
    'beta/c/2/0'
    """
    return f"{name}/c/{chunk}/{study}"


def create_arrays(group: zarr.Group, n_variants: int, n_studies: int, chunk_variants: int, exact: bool) -> None:
    """Create the arrays that are written chunk by chunk, without any chunk."""
    rows = (n_variants,)
    for name in (*CATALOGUE, *CELLS):
        is_cell = name in CELLS
        kind: Any = np.dtypes.StringDType() if name == ALLELE else cell_type(name, exact)
        compressor = ZstdCodec(level=1) if name == ALLELE else BloscCodec(
            typesize=kind.itemsize, cname="zstd", clevel=1, shuffle="shuffle")  # fmt: skip
        more = (n_studies,) if is_cell else (2,) if name == ALLELE else ()
        dims = ["variants", *(["studies"] if is_cell else ["alleles"] if name == ALLELE else [])]
        group.create_array(
            name,
            shape=(*rows, *more),
            chunks=(chunk_variants, *((1,) if is_cell else more)),
            dtype=kind,
            fill_value="" if name == ALLELE else np.nan if kind.kind == "f" else 0,
            compressors=[compressor, Crc32cCodec()],
            dimension_names=dims,
            attributes={"description": DESCRIPTIONS[name]},
        )


def write_small(group: zarr.Group, name: str, values: NDArray[Any], dims: list[str]) -> None:
    """Write a small array in one chunk."""
    if values.dtype.kind in "UO":
        values = values.astype(np.dtypes.StringDType())
    array = group.create_array(
        name, shape=values.shape, chunks=tuple(max(n, 1) for n in values.shape), dtype=values.dtype,
        compressors=[ZstdCodec(level=1, checksum=True)], dimension_names=dims,
        attributes={"description": DESCRIPTIONS[name]}, config={"write_empty_chunks": True},
    )  # fmt: skip
    if values.size:
        array[...] = values


def _sealed(content: bytes) -> tuple[bytes, int]:
    crc = int(google_crc32c.value(content))
    return content + crc.to_bytes(4, "little"), crc


def encode_numbers(values: NDArray[Any], chunk_variants: int, fill: float) -> tuple[bytes, int]:
    """Encode a chunk, filled up to its whole length: bytes, and their CRC-32C."""
    whole = np.ascontiguousarray(values)
    if len(whole) < chunk_variants:
        whole = np.concatenate([whole, np.full(chunk_variants - len(whole), fill, whole.dtype)])
    return _sealed(bytes(Blosc(cname="zstd", clevel=1, shuffle=Blosc.SHUFFLE).encode(whole)))


def decode_numbers(content: bytes, kind: np.dtype[Any]) -> NDArray[Any]:
    """Decode a chunk whose checksum has been compared."""
    values: NDArray[Any] = np.frombuffer(Blosc().decode(content[:-4]), kind)
    return values


def encode_alleles(alleles: Alleles, chunk_variants: int) -> tuple[bytes, int]:
    """Encode a chunk of REF and ALT: 4 bytes how many, then of each text 4 bytes how long, and the text.

    Texts of the filling have length 0.
    """
    lengths = np.where(alleles.codes < LONG, 1, alleles.spans[:, :, 1] - alleles.spans[:, :, 0])
    out = np.zeros(4 + 4 * 2 * chunk_variants + int(lengths.sum()), np.uint8)
    out[:4] = np.frombuffer(np.uint32(2 * chunk_variants).tobytes(), np.uint8)
    _pack_texts(alleles.codes, alleles.spans, alleles.heap, np.frombuffer(BASES, np.uint8), out)
    return _sealed(bytes(Zstd(level=1).encode(out)))


def decode_alleles(content: bytes, n: int) -> Alleles:
    """Decode the first n variants of a chunk whose checksum has been compared.

    Raises
    ------
    ValueError
        When lengths of texts pass the end.
    """
    data = np.frombuffer(Zstd().decode(content[:-4]), np.uint8)
    spans = np.empty((n, 2, 2), np.int64)
    if len(data) < 4 or not _find_texts(data, spans.reshape(-1, 2)):
        raise ValueError("lengths of alleles pass the end of the chunk")
    return read_alleles(data, spans[:, 0], spans[:, 1])


def fill_of(kind: np.dtype[Any]) -> float:
    """Give what stands for missing."""
    return float("nan") if kind.kind == "f" else 0


def seal_is_intact(content: bytes, expected: int) -> bool:
    """Whether a chunk ends with the checksum of what is before, and that is the expected one."""
    if len(content) < 5 or int.from_bytes(content[-4:], "little") != expected:
        return False
    return int(google_crc32c.value(content[:-4])) == expected


@numba.njit(nogil=True, cache=True)
def _pack_texts(codes, spans, heap, bases, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    to = 4
    for i in range(len(codes)):
        for side in range(2):
            single = codes[i, side] < LONG
            length = 1 if single else spans[i, side, 1] - spans[i, side, 0]
            for k in range(4):
                out[to + k] = (length >> (8 * k)) & 255
            to += 4
            if single:
                out[to] = bases[codes[i, side]]
            else:
                for k in range(length):
                    out[to + k] = heap[spans[i, side, 0] + k]
            to += length


@numba.njit(nogil=True, cache=True)
def _find_texts(data, spans):  # type: ignore[no-untyped-def]  # pragma: no cover
    at = 4
    for i in range(len(spans)):
        if at + 4 > len(data):
            return False
        length = 0
        for k in range(4):
            length |= int(data[at + k]) << (8 * k)
        at += 4
        spans[i, 0] = at
        at += length
        if at > len(data):
            return False
        spans[i, 1] = at
    return True
