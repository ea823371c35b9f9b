"""Removing whole stores, and letting two change places, so that a kill at any moment does no harm."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from biolmm.atomic import saving
from biolmm.errors import DamagedStoreError, OutputError, StoreFormatError
from biolmm.places import remove_tree
from biolmm.store.read import is_unfinished, read_attributes

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""Of Linux's renameat2(2)."""

_NOT_SUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}


def remove_store(path: Path) -> None:
    """Remove a store, damaged or not, but nothing that is not a store; nothing happens where nothing is.

    What makes it a store goes last, so that one that was removed in part can be removed again.

    Raises
    ------
    OutputError
        When something else is there, or it cannot be removed.
    """
    if not path.exists() or is_unfinished(path):
        return
    check_is_store(path)
    with saving(path):
        for entry in path.iterdir():
            if entry.is_dir():
                remove_tree(entry)
        remove_tree(path)


def check_is_store(path: Path) -> None:
    """Raise `OutputError` when what is at `path` is not a store of this version, intact or damaged."""
    try:
        read_attributes(path)
    except StoreFormatError as error:
        raise OutputError(
            f"{path} exists and is not a store of this biolmm: choose another name or move it."
        ) from error
    except DamagedStoreError:
        pass


def swap_stores(path: Path, other: Path) -> None:
    """Let two stores change places: at once where the file system can, else by three renames.

    Between the first two of these nothing is at `path`; `finish_swap` goes on from there.
    """
    if _exchange(path, other):
        return
    aside = _aside(path)
    path.rename(aside)
    other.rename(path)
    aside.rename(other)


def finish_swap(path: Path, other: Path) -> None:
    """Finish a `swap_stores` that was killed."""
    aside = _aside(path)
    if not aside.exists():
        return
    with saving(path):
        if not path.exists():
            (other if other.exists() else aside).rename(path)
        if aside.exists() and not other.exists():
            aside.rename(other)


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".before")


def _exchange(path: Path, other: Path) -> bool:
    """Exchange two paths in one step; False where this system or file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    if renameat2(_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_SUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(path))
