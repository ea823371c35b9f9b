"""A VCF or BCF as a header and runs of whole records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.files.bed_tables import reading
from biolmm.files.vcf_bytes import Packing, read_pieces
from biolmm.files.vcf_header import Header, parse_header

MAX_RECORD_BYTES = 2**31 - 1
MAX_HEADER_BYTES = 2**28

_VCF, _BCF = b"##fileformat=VCF", b"BCF\x02"
_LENGTHS = 8
"""Bytes of the two lengths that begin a BCF record."""


class RecordStream:
    """The records of a file from a place on, in runs of whole records.

    Attributes
    ----------
    marks
        Of each block that was read: the offset of its content in the stream, and its offset in the file.
    """

    def __init__(
        self, path: Path, packing: Packing, *, start: int = 0, skip: int = 0, stop: int | None = None,
        is_bcf: bool = False,
    ) -> None:  # fmt: skip
        """Begin `skip` unpacked bytes behind offset `start` of the file; see `read_pieces` for `stop`."""
        self.path, self.is_bcf, self.marks = path, is_bcf, list[tuple[int, int]]()
        self._pieces = read_pieces(path, packing, start, stop)
        self._skip, self._bounded = skip, stop is not None
        self._buffer, self._offset = bytearray(), 0
        self._searched = 0

    def read_header(self) -> Header:
        """Read the header, with which a stream from the start of the file begins; find out whether it is a BCF.

        Raises
        ------
        InputFileError
            When the file is neither VCF nor BCF, ends within its header, or the header is malformed.
        """
        self._fill()
        begin = bytes(self._buffer[: len(_VCF)])
        self.is_bcf = begin.startswith(_BCF)
        if not self.is_bcf and begin != _VCF:
            raise InputFileError(f"{self.path} is not a VCF or BCF: it begins with {begin!r}.")
        text = self._bcf_header() if self.is_bcf else self._vcf_header()
        with reading(self.path):
            return parse_header(self.path, text.decode())

    def runs(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Give runs of whole records: the offset in the stream, and the bytes.

        Raises
        ------
        InputFileError
            When the file ends in the middle of a record, or a record is larger than 2 GiB.
        """
        while True:
            whole = self._whole_bytes()
            if whole:
                yield self._offset, np.frombuffer(self._take(whole), np.uint8)
            elif len(self._buffer) > MAX_RECORD_BYTES:
                raise InputFileError(f"{self.path} is damaged: a record of more than {MAX_RECORD_BYTES:,} bytes.")
            if not self._fill():
                break
        if self._buffer and not self._bounded:
            raise InputFileError(
                f"{self.path} is truncated: it ends {len(self._buffer):,} bytes into a record, without its end. "
                "Copy the file again."
            )

    def _fill(self) -> bool:
        """Append a piece; false at the end of the file."""
        piece = next(self._pieces, None)
        if piece is None:
            return False
        here = self._offset + len(self._buffer)
        self.marks += [(here + within, start) for within, start in piece.starts]
        self._buffer += piece.content
        if self._skip:
            self._skip -= len(self._take(min(self._skip, len(self._buffer))))
        return True

    def _take(self, n_bytes: int) -> bytearray:
        taken = self._buffer[:n_bytes]
        del self._buffer[:n_bytes]
        self._offset += n_bytes
        self._searched = max(0, self._searched - n_bytes)
        return taken

    def _whole_bytes(self) -> int:
        """Bytes of the whole records in the buffer."""
        buffer = self._buffer
        if not self.is_bcf:
            found = buffer.rfind(b"\n", self._searched) + 1
            self._searched = len(buffer)
            return found
        here = 0
        while here + _LENGTHS <= len(buffer):
            sizes = buffer[here : here + _LENGTHS]
            size = _LENGTHS + int.from_bytes(sizes[:4], "little") + int.from_bytes(sizes[4:], "little")
            if size > MAX_RECORD_BYTES:
                raise InputFileError(f"{self.path} is damaged: a record claims {size:,} bytes.")
            if here + size > len(buffer):
                break
            here += size
        return here

    def _vcf_header(self) -> bytes:
        while True:
            at = self._buffer.find(b"\n#CHROM")
            end = self._buffer.find(b"\n", at + 1)
            if at >= 0 and end >= 0:
                return bytes(self._take(end + 1))
            if len(self._buffer) > MAX_HEADER_BYTES or not self._fill():
                raise InputFileError(f"{self.path} is truncated or damaged: it has no #CHROM line.")

    def _bcf_header(self) -> bytes:
        begin = bytes(self._buffer[:9])
        size = int.from_bytes(begin[5:9], "little")
        if len(begin) < 9 or begin[4] not in (1, 2) or size > MAX_HEADER_BYTES:
            raise InputFileError(f"{self.path} is not a BCF of version 2.1 or 2.2: it begins with {begin!r}.")
        while len(self._buffer) < 9 + size:
            if not self._fill():
                raise InputFileError(f"{self.path} is truncated: it ends within its header. Copy the file again.")
        return bytes(self._take(9 + size)[9:])
