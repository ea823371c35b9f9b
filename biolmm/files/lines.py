"""Lines of text files, whatever wrote them: UTF-8 with or without a byte-order mark, any line ending, gzip."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

from biolmm.errors import InputFileError

_GZIP_MAGIC = b"\x1f\x8b"
_NOT_TEXT = {
    b"PK\x03\x04": "a zip archive or a spreadsheet (.xlsx): save it as tab-separated text",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: decompress it, or use gzip",
    b"BZh": "compressed with bzip2: decompress it, or use gzip",
    b"\xfd7zXZ": "compressed with xz: decompress it, or use gzip",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"PAR1": "a Parquet file: plain text is needed here",
}


def file_start(path: Path) -> bytes:
    """Read the first bytes of a file, enough to tell what it is.

    Raises
    ------
    InputFileError
        When the file does not exist, is a folder or cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(8)
    except FileNotFoundError:
        raise InputFileError(f"'{path}' does not exist: check the path.") from None
    except IsADirectoryError:
        raise InputFileError(f"'{path}' is a folder, but a file is needed.") from None
    except OSError as error:
        raise InputFileError(f"'{path}' cannot be read: {error.strerror or error}.") from None


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give the lines that hold something, with their 1-based numbers and without their line ending.

    A byte-order mark, `\\r\\n`, `\\r`, blank lines and gzip (recognised by content, not by name) are dealt with here.

    Raises
    ------
    InputFileError
        When the file cannot be read, is not text, is not UTF-8, or is a damaged gzip file.
    """
    start = file_start(path)
    for magic, what in _NOT_TEXT.items():
        if start.startswith(magic):
            raise InputFileError(f"'{path}' is {what}.")
    with ExitStack() as opened:
        content: IO[bytes] = opened.enter_context(path.open("rb"))
        if start.startswith(_GZIP_MAGIC):
            content = cast(IO[bytes], opened.enter_context(gzip.open(content)))
        text = opened.enter_context(io.TextIOWrapper(content, encoding="utf-8-sig"))
        yield from _checked_lines(text, path)


def _checked_lines(text: Iterable[str], path: Path) -> Iterator[tuple[int, str]]:
    """Count and check lines; every failure names the file and, where it is known, the line."""
    number = 0
    try:
        for number, line in enumerate(text, start=1):
            if "\0" in line:
                raise InputFileError(f"'{path}', line {number:,}: holds a zero byte, so this is not a text file.")
            if not line.isspace():
                yield number, line.rstrip("\n")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise InputFileError(
            f"'{path}', after line {number:,}: byte 0x{byte:02x} is not UTF-8 text. Save the file as UTF-8."
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputFileError(
            f"'{path}' is a damaged or truncated gzip file (after line {number:,}: {error}). Copy or make it again."
        ) from None
    except OSError as error:
        raise InputFileError(f"'{path}' cannot be read: {error.strerror or error}.") from None
