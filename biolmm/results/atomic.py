"""Write a file aside and rename it into place, so that a reader sees all of it or nothing."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from biolmm.errors import OutputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it to `path` when the block ends without an error.

    The name begins with a dot, which readers of partitioned Parquet skip, and is unique, so that two workers
    that write the same part do not disturb each other: the last one to finish wins.

    Raises
    ------
    OutputError
        When the directory cannot be made or the file not written (permission, full disk, name too long).
    """
    aside = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        with aside.open("rb") as handle:
            os.fsync(handle.fileno())
        aside.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}. Free space or choose another --out."
        ) from error
    finally:
        _discard(aside)


def _discard(path: Path) -> None:
    """Remove a file if it is there and can be removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def write_text(path: Path, text: str) -> Path:
    """Write a small text file atomically."""
    with atomic_path(path) as aside:
        aside.write_text(text, encoding="utf-8")
    return path
