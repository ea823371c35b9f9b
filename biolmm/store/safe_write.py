"""Writing so that a file is there whole or not at all, and saying what to do when it cannot be written."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from biolmm.errors import OutputError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_whole(target: Path, content: bytes, scratch: Path) -> None:
    """Write `content` into `scratch`, a folder of the same file system, and rename it to `target`."""
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


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn what the system says about writing below `path` into an `OutputError` that tells what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            remedy = "Free space there and run the same command again: it continues with what is already written."
        else:
            remedy = "Choose another place, or make this one writable, and run again."
        raise OutputError(f"{path} cannot be written: {error.strerror}. {remedy}") from error
