"""BGZF: gzip in small blocks, each of which can be found by its place, so that files can be read by region.

    block    gzip member of at most 64 KiB; its header's extra field BC holds its size less one
    address  place of the block in the file × 2¹⁶ + place in the block's text
    end      an empty block of 28 bytes

SAM/BAM specification, section 4.1. Blocks here hold 65,280 bytes of text but the last, so addresses are computed.
"""

from __future__ import annotations

import struct
from types import TracebackType
from typing import BinaryIO

import deflate
import numpy as np
from numpy.typing import NDArray

BLOCK_TEXT = 65_280
_HEADER = struct.Struct("<4BI2BH2BHH")
_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


class BgzfWriter:
    """Writes BGZF to a file that is open for bytes.

    Examples
    --------
    >>> import gzip, io
    >>> file = io.BytesIO()
    >>> with BgzfWriter(file) as out:
    ...     out.write(b"one\\n")
    >>> gzip.decompress(file.getvalue())
    b'one\\n'
    """

    def __init__(self, file: BinaryIO, level: int = 6) -> None:
        """Begin at the beginning of a file."""
        self._file = file
        self._level = level
        self._pending = bytearray()
        self._starts: list[int] = []
        self._at = 0
        self.n_text = 0

    def __enter__(self) -> BgzfWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def write(self, text: bytes | memoryview) -> None:
        """Take in text; whole blocks are written."""
        self.n_text += len(text)
        self._pending += text
        whole = len(self._pending) // BLOCK_TEXT * BLOCK_TEXT
        if whole:
            for start in range(0, whole, BLOCK_TEXT):
                self._block(bytes(self._pending[start : start + BLOCK_TEXT]))
            del self._pending[:whole]

    def close(self) -> None:
        """Write what is left, and the end. The file stays open."""
        if self._pending:
            self._block(bytes(self._pending))
            self._pending.clear()
        self._starts.append(self._at)
        self._file.write(_END)

    def addresses(self, places: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Give the addresses of places in the text, after `close`."""
        block, inside = places // np.uint64(BLOCK_TEXT), places % np.uint64(BLOCK_TEXT)
        starts = np.array(self._starts, np.uint64)
        return (starts[block.astype(np.int64)] << np.uint64(16)) | inside

    def _block(self, text: bytes) -> None:
        packed: bytes | bytearray = deflate.deflate_compress(text, self._level)
        if len(packed) + 26 > 65_536:  # text that does not compress: stored, which is 5 bytes longer than it
            packed = b"\x01" + struct.pack("<HH", len(text), len(text) ^ 0xFFFF) + text
        size = len(packed) + 26
        self._starts.append(self._at)
        self._file.write(_HEADER.pack(31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, size - 1))
        self._file.write(packed + struct.pack("<II", deflate.crc32(text), len(text)))
        self._at += size
