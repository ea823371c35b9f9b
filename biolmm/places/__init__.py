"""Places of files: local paths, and objects of `s3://` and `gs://` stores behind the same few methods of a path.

`place` turns what a user wrote into a path. An object's path has those methods of `pathlib.Path` that reading and writing
whole files needs, and fails with the same `OSError`s, so that most code does not know which of the two it holds. It is not
a path for the system: what needs a local file says so with `require_local`.
"""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast
from urllib.parse import unquote

from biolmm.errors import InputFileError, ParameterError
from biolmm.places.connection import require_library
from biolmm.places.objects import ObjectPath

__all__ = ["ObjectPath", "as_object", "is_remote", "place", "read_at", "read_range", "remove_tree", "require_local"]

_SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/+)(.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_N_REQUESTS = 16


def place(text: str | Path) -> Path:
    """Give the path of a local file or folder, a `file://` URL, or an object of an `s3://` or `gs://` store.

    Parameters
    ----------
    text
        What the user wrote. A URL that `pathlib` has mangled (`s3:/bucket/key`) is recognised too. Nothing is requested.

    Returns
    -------
    A `Path`, or an `ObjectPath`, which has the methods of a `Path` that biolmm uses and passes for one.

    Raises
    ------
    ParameterError
        When the URL has another scheme, no bucket, credentials in it, or a part `..`; or when the package that object stores
        need is not installed.

    Examples
    --------
    >>> place("cohort.bed").name, place("file:///data/my%20cohort.bed").name
    ('cohort.bed', 'my cohort.bed')
    """
    if is_remote(text):
        return cast(Path, text)
    match = _URL.match(str(text))
    if match is None:
        return Path(text)
    scheme, slashes, rest = match[1].lower(), match[2], match[3]
    if scheme == "file":
        return _local_path(str(text), slashes, rest)
    if scheme not in _SCHEMES:
        if len(slashes) < 2:
            return Path(text)  # a local name with a colon in it
        raise ParameterError(
            f"{scheme}:// is not a place that biolmm reads: give a path, or a file://, s3:// or gs:// URL."
        )
    bucket, _, key = rest.partition("/")
    if "@" in bucket:
        raise ParameterError(
            f"The {scheme}:// URL holds credentials: leave them out and set them in the environment, for example "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if len(slashes) > 2 or not _BUCKET.fullmatch(bucket):
        raise ParameterError(f"'{scheme}://{rest}' has no valid bucket name: write {scheme}://bucket/name.")
    parts = [part for part in key.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ParameterError(f"'{scheme}://{rest}' has a part '..': write the address without it.")
    require_library(f"{scheme}://{rest}")
    return cast(Path, ObjectPath(_SCHEMES[scheme], bucket, "/".join(parts)))


def is_remote(path: object) -> bool:
    """Whether a path is an object of an object store."""
    return isinstance(path, ObjectPath)


def as_object(path: object) -> ObjectPath | None:
    """Give a path as the object that it is; None for a local one."""
    return path if isinstance(path, ObjectPath) else None


def require_local(path: Path, what: str) -> None:
    """Refuse an object of a store where a local file or folder is needed; `what` names its kind.

    Raises
    ------
    InputFileError
        When the path is remote; says how to copy it.
    """
    found = as_object(path)
    if found is not None:
        copy = "aws s3 cp" if found.scheme == "s3" else "gcloud storage cp"
        raise InputFileError(
            f"{path}: {what} must be local. Copy it first ({copy} {path} {path.name}) and give the copy."
        )


def read_range(path: Path, offset: int, n_bytes: int) -> bytes:
    """Read `n_bytes` from `offset` of a local file or an object; fewer where it ends before.

    Raises
    ------
    InputFileError
        When the file is missing or cannot be read.

    Notes
    -----
    **Cost**: one open and one read, or one request. Safe to call from several threads at a time.

    Examples
    --------
    >>> file = getfixture("tmp_path") / "x"
    >>> _ = file.write_bytes(b"0123456789")
    >>> read_range(file, 8, 5)
    b'89'
    """
    try:
        return read_at(path, offset, n_bytes)
    except FileNotFoundError:
        raise InputFileError(f"{path} does not exist.") from None
    except OSError as error:
        raise InputFileError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_at(path: Path, offset: int, n_bytes: int) -> bytes:
    """Read as `read_range`, but leave `OSError`s to the caller."""
    found = as_object(path)
    if found is not None:
        return found.read_range(offset, n_bytes)
    pieces, n_read = [], 0
    with path.open("rb", buffering=0) as file:
        while n_read < n_bytes:  # a single read may return less
            piece = os.pread(file.fileno(), n_bytes - n_read, offset + n_read)
            if not piece:
                break
            pieces.append(piece)
            n_read += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def remove_tree(path: Path) -> None:
    """Remove a folder with everything below it; of a store's folder the objects right below it last, which say what it is."""
    found = as_object(path)
    if found is None:
        shutil.rmtree(path)
        return
    files = list(found.files())
    top = [file for file in files if file.parent == found]
    for group in ([file for file in files if file.parent != found], top):
        with ThreadPoolExecutor(_N_REQUESTS) as threads:
            list(threads.map(lambda file: file.unlink(missing_ok=True), group))


def _local_path(url: str, slashes: str, rest: str) -> Path:
    """Give the path of a `file://` URL; after two slashes comes a host."""
    if len(slashes) == 2:
        host, _, rest = rest.partition("/")
        if host != "localhost":
            raise ParameterError(f"'{url}' names a host: write file:///folder/name, with three slashes.")
    return Path("/" + unquote(rest))
