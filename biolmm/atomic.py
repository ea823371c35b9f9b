"""Writing so that a file is there whole or not at all, and saying what to do when it cannot be written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from biolmm.errors import OutputError
from biolmm.places import as_object, remove_tree

_BATCH_FILES = 64
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_WRONG_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}
_WRONG_PLACE |= {errno.ELOOP, errno.ENXIO, errno.EREMCHG, errno.ENOTSUP}
"""What remains until somebody does something about it; anything else may be over the next time. The last three are of
object stores: no such bucket, a bucket in another region, a process that was forked."""


def may_pass(error: OSError) -> bool:
    """Whether what the system says of a place for results may be over the next time, without anybody's help."""
    return error.errno not in _WRONG_PLACE


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn what the system says about writing below `path` into an `OutputError` that tells what to do.

    A place that cannot be written is a mistake; a full disk and storage that fails are not.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            remedy = "Free space there and run the same command again: it continues with what is already written."
        elif error.errno in _WRONG_PLACE:
            remedy = "Choose another place, or make this one writable, and run again."
        else:
            remedy = "Run the same command again when the storage works: it continues with what is already written."
        message = f"{path} cannot be written: {error.strerror or error}. {remedy}"
        raise OutputError(message, passing=may_pass(error)) from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it to `path` when the block ends without an error.

    The name begins with a dot, which readers of partitioned Parquet skip, and is unique, so that two workers
    that write the same part do not disturb each other: the last one to finish wins. On an object store, where every
    upload is whole or not at all, the path to write to is a temporary local file.

    Raises
    ------
    OutputError
        When the folder cannot be made or the file not written (permission, full disk, name too long).
    """
    found = as_object(path)
    if found is not None:
        with saving(path), TemporaryDirectory() as folder:
            yield Path(folder, path.name)
            found.upload(Path(folder, path.name))
        return
    aside = path.with_name(f".{uuid4().hex}.partial")
    with saving(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield aside
            with aside.open("rb") as handle:
                os.fsync(handle.fileno())
            aside.replace(path)
        finally:
            with suppress(OSError):
                aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a small text file atomically."""
    with atomic_path(path) as aside:
        aside.write_text(text, encoding="utf-8")
    return path


def write_files(files: Iterable[tuple[Path, Sequence[bytes | memoryview]]]) -> None:
    """Write many small files, each from its pieces and each there whole or not at all.

    They are synced to the disk together, some dozens at a time, which is one trip to it and not one for every file.

    Raises
    ------
    OutputError
        When a folder cannot be made or a file not written. Those before it may be there.
    """
    remaining = iter(files)
    while batch := list(islice(remaining, _BATCH_FILES)):
        with ExitStack() as stack:
            written = [(path, stack.enter_context(_aside(path, pieces))) for path, pieces in batch]
            for path, aside in written:
                with saving(path):
                    aside.publish(path)


class _Aside:
    """A file that is not published yet."""

    def __init__(self, name: str, file: FileIO) -> None:
        self._name = name
        self._file = file

    def publish(self, path: Path) -> None:
        """Give the file its name, once it is on the disk."""
        os.fsync(self._file.fileno())
        os.replace(self._name, path)  # noqa: PTH105 - a Path costs more than the call


class _Uploaded:
    """An object of a store, which is there already."""

    def publish(self, path: Path) -> None:
        """Do nothing."""


@contextmanager
def _aside(path: Path, pieces: Sequence[bytes | memoryview]) -> Iterator[_Aside | _Uploaded]:
    """Write a file beside its place; what is not published by the end of the block is removed."""
    found = as_object(path)
    if found is not None:
        with saving(path):
            found.write_bytes(b"".join(pieces))
        yield _Uploaded()
        return
    name = f"{path.parent}/.{uuid4().hex}.partial"
    with saving(path):
        file = _opened(name)
    try:
        with saving(path):
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[file.write(view) :]
        yield _Aside(name, file)
    finally:
        file.close()
        with suppress(OSError):
            os.unlink(name)  # noqa: PTH108


def _opened(name: str) -> FileIO:
    """Open a file for writing, in a folder that is made when it is not there."""
    try:
        return FileIO(name, "w")
    except FileNotFoundError:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        return FileIO(name, "w")


def write_json(path: Path, value: Any) -> Path:
    """Write `value` as indented JSON, atomically; what JSON does not know is written as text."""
    return write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def write_whole(target: Path, content: bytes, scratch: Path) -> None:
    """Write `content` into `scratch`, a folder of the same file system, and rename it to `target`.

    For the many chunks of a store: nothing is synced to the disk one by one. Object stores need no `scratch`.
    """
    found = as_object(target)
    if found is not None:
        found.write_bytes(content)
        return
    temporary = scratch / uuid4().hex
    try:
        with temporary.open("wb", buffering=0) as file:
            view = memoryview(content)
            while view:
                view = view[file.write(view) :]
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)
