"""The head of a BGEN file: what it says of itself, and the ids of its samples.

The format is that of the specification at https://www.chg.ox.ac.uk/~gav/bgen_format/ (versions 1.1, 1.2 and 1.3). All
numbers are little-endian. Nothing that a file says is believed before it was held against the file's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.files.bed_tables import reading
from biolmm.places import read_at

COMPRESSIONS = ("none", "zlib", "zstd")

_FIXED_HEADER_BYTES = 20
_MIN_VARIANT_BYTES = {1: 22, 2: 24}
"""Lengths, position and counts of a variant whose names, alleles and genotypes take no byte at all."""
_MAX_ID_CHARACTERS = 1000
_HAS_SAMPLE_IDS = 1 << 31
_PACKERS = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd", b"BZ": "bzip2"}


@dataclass(frozen=True)
class BgenHeader:
    """What the head of a BGEN file says, checked against the size of the file.

    Attributes
    ----------
    path
        The file.
    size
        Its bytes when it was opened.
    modified
        Its time of change then, as the system says it.
    first_variant
        Offset of the first variant.
    n_variants, n_samples
        Counts; the count of samples is held against their ids by `open_bgen`.
    layout
        1 (version 1.1) or 2 (versions 1.2 and 1.3).
    compression
        Of the genotypes: `none`, `zlib` or `zstd`.
    sample_block
        Offset of the block of sample ids; 0 where the file has none.
    """

    path: Path
    size: int
    modified: float
    first_variant: int
    n_variants: int
    n_samples: int
    layout: int
    compression: str
    sample_block: int


def read_range(path: Path, offset: int, n_bytes: int) -> bytes:
    """Read bytes of a file; every read of a BGEN file goes through here.

    Raises
    ------
    InputFileError
        When the file cannot be read or ends before.
    """
    with reading(path):
        data = read_at(path, offset, n_bytes)
    if len(data) < n_bytes:
        raise InputFileError(
            f"{path} is truncated: {n_bytes:,} bytes are needed from byte {offset:,} on and {len(data):,} are there. "
            "Was the file changed while it was read? Copy it again."
        )
    return data


def shown(raw: bytes) -> str:
    """Give bytes of a file that may be damaged as text that fits into one line.

    Examples
    --------
    >>> shown(b"rs1"), shown(b"rs\\n1")
    ('rs1', 'rs?1')
    """
    return "".join(letter if letter.isprintable() else "?" for letter in raw.decode("utf-8", "replace"))


def file_stamp(path: Path) -> tuple[int, float]:
    """Return size and time of change of a file, by which a change is recognised."""
    with reading(path):
        status = path.stat()
    return status.st_size, status.st_mtime


def read_header(path: Path) -> BgenHeader:
    """Read and check the head of a BGEN file.

    Raises
    ------
    InputFileError
        When the file cannot be read, is something else, is truncated, or says what cannot be.
    """
    size, modified = file_stamp(path)
    start = read_range(path, 0, min(size, 4 + _FIXED_HEADER_BYTES))
    _check_magic(path, start)
    offset, header_bytes, n_variants, n_samples = (int(n) for n in np.frombuffer(start, "<u4", 4))
    first_variant = offset + 4
    if not _FIXED_HEADER_BYTES <= header_bytes <= offset:
        raise InputFileError(
            f"{path} is damaged: its header of {header_bytes:,} bytes does not lie between {_FIXED_HEADER_BYTES} bytes "
            f"and byte {offset:,}, where it says its variants begin. Copy or make the file again."
        )
    if first_variant > size:
        raise InputFileError(
            f"{path} is truncated: its variants begin at byte {first_variant:,} and it has {size:,} bytes. "
            "Copy the file again."
        )
    flags = int(np.frombuffer(read_range(path, header_bytes, 4), "<u4")[0])
    compression, layout = _check_flags(path, flags)
    if not n_variants or not n_samples:
        raise InputFileError(f"{path} holds no genotypes: {n_variants:,} variants of {n_samples:,} samples.")
    least = n_variants * _MIN_VARIANT_BYTES[layout]
    if first_variant + least > size:
        raise InputFileError(
            f"{path} is truncated or damaged: {n_variants:,} variants take {least:,} bytes or more and "
            f"{size - first_variant:,} are there. Copy the file again."
        )
    sample_block = 4 + header_bytes if flags & _HAS_SAMPLE_IDS else 0
    return BgenHeader(
        path, size, modified, first_variant, n_variants, n_samples, layout, compression, sample_block
    )  # fmt: skip


def _check_magic(path: Path, start: bytes) -> None:
    if not start:
        raise InputFileError(f"{path} is empty.")
    if start[16:20] in (b"bgen", b"\0\0\0\0") and len(start) == 4 + _FIXED_HEADER_BYTES:
        return
    if start[16:20] == b"bgen":
        raise InputFileError(f"{path} is truncated: it ends in its header, at byte {len(start)}. Copy the file again.")
    packer = _PACKERS.get(start[:2])
    hint = f" It is compressed with {packer}: unpack it first." if packer else ""
    found = start[16:20].hex(" ") or "nothing"
    raise InputFileError(f"{path} is not a BGEN file: bytes 17 to 20 are {found} instead of 'bgen'.{hint}")


def _check_flags(path: Path, flags: int) -> tuple[str, int]:
    """Read compression and layout from the flags."""
    compression, layout = flags & 3, flags >> 2 & 15
    if layout not in (1, 2):
        raise InputFileError(f"{path} has layout {layout}; biolmm reads layouts 1 and 2 (BGEN 1.1, 1.2 and 1.3).")
    if compression >= len(COMPRESSIONS) or (layout == 1 and compression == COMPRESSIONS.index("zstd")):
        raise InputFileError(
            f"{path} is damaged: code {compression} of the compression of its genotypes is not defined for layout "
            f"{layout}. Copy or make the file again."
        )
    if flags & ~(_HAS_SAMPLE_IDS | 0x3F):
        raise InputFileError(f"{path} is damaged: its flags {flags:#010x} have bits set that no version defines.")
    return COMPRESSIONS[compression], layout


def read_sample_ids(header: BgenHeader) -> NDArray[np.str_]:
    """Read the ids in the block of samples.

    Raises
    ------
    InputFileError
        When the block does not fit the file or the count of samples, or an id is empty or not text.
    """
    path, at = header.path, header.sample_block
    remedy = "Copy or make the file again."
    n_bytes = header.first_variant - at
    if n_bytes < 8 + 2 * header.n_samples:
        raise InputFileError(
            f"{path} is damaged: the ids of {header.n_samples:,} samples do not fit into the {n_bytes:,} bytes before "
            f"the first variant. {remedy}"
        )
    block = read_range(path, at, n_bytes)
    length, n_ids = (int(n) for n in np.frombuffer(block, "<u4", 2))
    if n_ids != header.n_samples or length > n_bytes:
        raise InputFileError(
            f"{path} is damaged: its header counts {header.n_samples:,} samples and leaves {n_bytes:,} bytes for their "
            f"ids; the block of ids counts {n_ids:,} samples in {length:,} bytes. {remedy}"
        )
    ids, end = [], 8
    for number in range(1, n_ids + 1):
        begin = end + 2
        end = begin + int.from_bytes(block[end:begin], "little")
        if end > length:
            raise InputFileError(f"{path} is damaged: the id of sample {number:,} does not fit its block. {remedy}")
        ids.append(_sample_id(path, number, block[begin:end]))
    if end != length:
        raise InputFileError(f"{path} is damaged: {length - end:,} bytes follow the last sample id. {remedy}")
    return np.array(ids, np.str_)


def _sample_id(path: Path, number: int, raw: bytes) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        name = ""
    if not name or not name.isprintable() or len(name) > _MAX_ID_CHARACTERS:
        raise InputFileError(
            f"{path}: the id of sample {number:,} ({raw[:20]!r}) is empty or not text. Copy or make the file again."
        )
    return name
