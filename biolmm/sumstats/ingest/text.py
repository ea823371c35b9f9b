"""Text of a study file as blocks of whole lines, decompressed as it comes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.files.lines import file_start

BLOCK_BYTES = 32 * 1024**2
_READ_BYTES = 1024**2
_MAX_LINE = 256 * 1024**2

_REFUSED = {
    b"PK\x03\x04": "a zip archive or a spreadsheet (.xlsx): save it as tab-separated text",
    b"BZh": "compressed with bzip2: use gzip or zstd",
    b"\xfd7zXZ": "compressed with xz: use gzip or zstd",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
}


@dataclass
class TextBlocks:
    """A text file: first its header lines, then blocks of lines, each with the number of its first line."""

    path: Path
    block_bytes: int = BLOCK_BYTES
    _rest: bytes = b""
    _pieces: Iterator[bytes] = field(default_factory=lambda: iter(()))
    _line: int = 0

    def __post_init__(self) -> None:
        """Look at the first bytes, and start to decompress."""
        start = file_start(self.path)
        for magic, what in _REFUSED.items():
            if start.startswith(magic):
                raise InputFileError(f"{self.path} is {what}.")
        if not start:
            raise InputFileError(f"{self.path} is empty: a header and one line a variant are needed.")
        self._pieces = self._decompressed(start)
        self._rest = next(self._pieces, b"").removeprefix(b"\xef\xbb\xbf")

    def next_header(self) -> str | None:
        """Take one line off the front; None at the end of the file."""
        while b"\n" not in self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                if not self._rest:
                    return None
                self._rest += b"\n"
                break
            self._rest += piece
            if len(self._rest) > _MAX_LINE:
                raise InputFileError(f"{self.path}, line {self._line + 1:,}: is longer than 256 MiB; this is no table.")
        line, self._rest = self._rest.split(b"\n", 1)
        self._line += 1
        if b"\0" in line:
            raise InputFileError(f"{self.path}, line {self._line:,}: holds a zero byte, so this is not a text file.")
        try:
            return line.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError:
            raise InputFileError(
                f"{self.path}, line {self._line:,}: is not UTF-8 text. Save the file as UTF-8."
            ) from None

    def blocks(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Give what follows the header lines: the 1-based number of a block's first line, and its bytes, writable."""
        pieces, size = [self._rest], len(self._rest)
        for piece in self._pieces:
            pieces.append(piece)
            size += len(piece)
            if size < self.block_bytes:
                continue
            cut = piece.rfind(b"\n") + 1
            if not cut:
                if size > self.block_bytes + _MAX_LINE:
                    raise InputFileError(f"{self.path}, after line {self._line:,}: a line is longer than 256 MiB.")
                continue
            pieces[-1] = piece[:cut]
            yield self._block(pieces)
            pieces, size = [piece[cut:]], len(piece) - cut
        if size:
            yield self._block(pieces)

    def _block(self, pieces: list[bytes]) -> tuple[int, NDArray[np.uint8]]:
        joined = np.frombuffer(bytearray(b"".join(pieces)), np.uint8)
        first = self._line + 1
        self._line += int(np.count_nonzero(joined == 10))
        return first, joined

    def _decompressed(self, start: bytes) -> Iterator[bytes]:
        try:
            with self.path.open("rb") as file:
                if start.startswith(b"\x1f\x8b"):
                    yield from self._gunzipped(file)
                elif start.startswith(b"\x28\xb5\x2f\xfd"):
                    yield from self._zstd()
                else:
                    while piece := file.read(_READ_BYTES):
                        yield piece
        except OSError as error:
            raise InputFileError(f"{self.path} cannot be read: {error.strerror or error}.") from None

    def _gunzipped(self, file: IO[bytes]) -> Iterator[bytes]:
        """Decompress gzip of any number of members (bgzip writes many), and insist on the last one's end."""
        member, at_start = zlib.decompressobj(31), False
        try:
            while piece := file.read(_READ_BYTES):
                while piece:
                    at_start = False
                    if out := member.decompress(piece):
                        yield out
                    piece = b""
                    if member.eof:
                        piece, at_start = member.unused_data.lstrip(b"\0"), True
                        member = zlib.decompressobj(31)
        except zlib.error as error:
            raise InputFileError(f"{self.path} is a damaged gzip file ({error}). Copy or make it again.") from None
        if not at_start:
            raise InputFileError(
                f"{self.path} is a truncated gzip file: it ends within a member. Copy or make it again."
            )

    def _zstd(self) -> Iterator[bytes]:
        import pyarrow as pa

        try:
            with pa.input_stream(str(self.path), compression="zstd") as stream:
                while piece := stream.read(_READ_BYTES):
                    yield piece
        except (OSError, pa.ArrowInvalid) as error:
            raise InputFileError(
                f"{self.path} is a damaged or truncated zstd file ({error}). Copy or make it again."
            ) from None


def split_header(line: str) -> tuple[int, list[str]]:
    """Find the delimiter of a table's header (its byte; 0 for runs of blanks) and the names of its columns.

    Examples
    --------
    >>> split_header("SNP\\tA1\\tP"), split_header(" CHR   SNP ")
    ((9, ['SNP', 'A1', 'P']), (0, ['CHR', 'SNP']))
    """
    for delimiter in ("\t", ",", ";"):
        if delimiter in line.strip():
            names = [name.strip().strip('"') for name in line.strip("\r\n ").split(delimiter)]
            while len(names) > 1 and not names[-1]:
                names.pop()
            return ord(delimiter), names
    return 0, [name.strip('"') for name in line.split()]
