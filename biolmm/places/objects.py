"""Objects of a store, with the methods of a path."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast

from biolmm.places.connection import ask

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_READ_AHEAD_BYTES = 4 * 1024**2


@dataclass(frozen=True)
class ObjectStat:
    """What a store tells of an object, under the names of `os.stat_result`."""

    st_size: int
    st_mtime_ns: int
    e_tag: str | None

    @property
    def st_mtime(self) -> float:
        """When it was written, in seconds."""
        return self.st_mtime_ns / 1e9


@dataclass(frozen=True, order=True)
class ObjectPath:
    """An object, or a folder of objects, named as `pathlib` would; three strings, cheap to send to other processes.

    Every method that asks the store raises `OSError`: `FileNotFoundError`, or an `ObjectStoreError` whose `strerror` says what
    is wrong with the bucket, the credentials or the network.
    """

    scheme: str
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}".rstrip("/")

    def __repr__(self) -> str:
        return f"place({str(self)!r})"

    def __truediv__(self, name: str | PurePosixPath) -> ObjectPath:
        pieces = [piece for piece in (*self.key.split("/"), *str(name).split("/")) if piece not in ("", ".")]
        return ObjectPath(self.scheme, self.bucket, "/".join(pieces))

    def joinpath(self, *names: str) -> ObjectPath:
        """Append names."""
        return self / "/".join(names)

    @property
    def _pure(self) -> PurePosixPath:
        return PurePosixPath("/" + self.key)

    def _with(self, pure: PurePosixPath) -> ObjectPath:
        return ObjectPath(self.scheme, self.bucket, str(pure).lstrip("/"))

    @property
    def name(self) -> str:
        """Last part."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """Last part without its last suffix."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """Last suffix, with its dot."""
        return self._pure.suffix

    @property
    def suffixes(self) -> list[str]:
        """All suffixes."""
        return self._pure.suffixes

    @property
    def parent(self) -> ObjectPath:
        """Folder that it is in; the bucket is its own."""
        return self._with(self._pure.parent)

    @property
    def parents(self) -> Sequence[ObjectPath]:
        """Folders that it is in, the nearest first."""
        return [self._with(pure) for pure in self._pure.parents]

    @property
    def parts(self) -> tuple[str, ...]:
        """Bucket and names."""
        return (f"{self.scheme}://{self.bucket}", *self._pure.parts[1:])

    def with_name(self, name: str) -> ObjectPath:
        """Replace the last part."""
        return self._with(self._pure.with_name(name))

    def with_suffix(self, suffix: str) -> ObjectPath:
        """Replace the last suffix."""
        return self._with(self._pure.with_suffix(suffix))

    def relative_to(self, other: ObjectPath) -> PurePosixPath:
        """Give the names below `other`; ValueError when it is not below it."""
        if (self.scheme, self.bucket) != (other.scheme, other.bucket):
            raise ValueError(f"{self} is not below {other}")
        return self._pure.relative_to(other._pure)

    def is_relative_to(self, other: object) -> bool:
        """Whether it is `other` or below it."""
        same = isinstance(other, ObjectPath) and (self.scheme, self.bucket) == (other.scheme, other.bucket)
        return same and self._pure.is_relative_to(cast(ObjectPath, other)._pure)

    def as_posix(self) -> str:
        """Give the URL."""
        return str(self)

    def absolute(self) -> ObjectPath:
        """Give itself: there is no current folder."""
        return self

    def resolve(self) -> ObjectPath:
        """Give itself: there are no links."""
        return self

    def expanduser(self) -> ObjectPath:
        """Give itself: there is no home."""
        return self

    def stat(self) -> ObjectStat:
        """Ask for size and time of the object."""
        found = ask(self, lambda store, lib: lib.head(store, self._key()))
        return _stat(found)

    def exists(self) -> bool:
        """Whether it is an object, or a folder with objects."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Whether there is an object of this name."""
        try:
            return bool(self.key) and self.stat() is not None
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Whether there are objects below."""
        first: list[Any] = ask(self, lambda store, lib: next(iter(lib.list(store, self.key or None)), []))
        return any(each["path"] != self.key for each in first)

    def read_bytes(self) -> bytes:
        """Read the whole object."""
        return ask(self, lambda store, lib: bytes(lib.get(store, self._key()).bytes()))

    def read_text(self, encoding: str = "utf-8") -> str:
        """Read the whole object as text."""
        with self.open("rt", encoding=encoding) as file:
            return str(file.read())

    def read_range(self, offset: int, n_bytes: int, if_match: str | None = None) -> bytes:
        """Read a part; fewer bytes where the object ends before, and an error when it is no longer the version given."""
        if n_bytes <= 0:
            return b""
        options: dict[str, Any] = {"range": (offset, offset + n_bytes)}
        if if_match is not None:
            options["if_match"] = if_match

        def get(store: ObjectStore, lib: Any) -> bytes:
            return bytes(lib.get(store, self._key(), options=options).bytes())

        try:
            return ask(self, get)
        except OSError as error:
            if error.errno == errno.ERANGE:  # it begins behind the end
                return b""
            raise

    def write_bytes(self, content: bytes | memoryview) -> int:
        """Write the whole object: it is there with all its bytes, or as it was before."""
        ask(self, lambda store, lib: lib.put(store, self._key(), content))
        return len(content)

    def write_text(self, text: str, encoding: str = "utf-8") -> int:
        """Write the whole object as text."""
        return self.write_bytes(text.encode(encoding))

    def upload(self, file: Path) -> str | None:
        """Write the content of a local file, in parts where it is large; give what the store calls this version."""

        def put(store: ObjectStore, lib: Any) -> str | None:
            with file.open("rb") as content:
                found: str | None = lib.put(store, self._key(), content)["e_tag"]
                return found

        return ask(self, put)

    def open(
        self, mode: str = "r", buffering: int = -1, encoding: str | None = None, newline: str | None = None
    ) -> IO[Any]:
        """Open for reading; parts are requested as they are read, all of the same version of the object."""
        if set(mode) - set("rbt"):
            raise io.UnsupportedOperation(f"{self} is opened for reading only: write it as a whole")
        raw = _Ranges(self, self.stat())
        if buffering == 0:
            return cast(IO[Any], raw)
        buffered = io.BufferedReader(raw, max(_READ_AHEAD_BYTES, buffering))
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding=encoding or "utf-8", newline=newline)

    def iterdir(self) -> Iterator[ObjectPath]:
        """List what is right below, objects and folders."""
        found = ask(self, lambda store, lib: lib.list_with_delimiter(store, self.key or None))
        for key in sorted([*found["common_prefixes"], *(each["path"] for each in found["objects"])]):
            yield ObjectPath(self.scheme, self.bucket, key)

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """List what is right below and has a name of this pattern."""
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def rglob(self, pattern: str) -> Iterator[ObjectPath]:
        """List the objects below, however deep, that have a name of this pattern."""
        return (path for path in self.files() if fnmatchcase(path.name, pattern))

    def files(self) -> dict[ObjectPath, ObjectStat]:
        """List the objects below, however deep, with their sizes; a request a thousand.

        Empty objects that web consoles make to show a folder are left out.
        """
        found = ask(self, lambda store, lib: [each for page in lib.list(store, self.key or None) for each in page])
        files = {ObjectPath(self.scheme, self.bucket, each["path"]): _stat(each) for each in found}
        folders = {parent for path in files for parent in path.parents} | {self}
        return {path: stat for path, stat in files.items() if stat.st_size or path not in folders}

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: folders are there when something is in them."""

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object. Stores do not tell whether it was there."""
        try:
            ask(self, lambda store, lib: lib.delete(store, self._key()))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def _key(self) -> str:
        if not self.key:
            raise IsADirectoryError(errno.EISDIR, "this is a bucket, not an object in it", str(self))
        return self.key


class _Ranges(io.RawIOBase):
    """An object as a file that is read in parts."""

    def __init__(self, path: ObjectPath, stat: ObjectStat) -> None:
        self._path, self._stat, self._position = path, stat, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._stat.st_size}[whence]
        self._position = max(start + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        n_bytes = min(len(buffer), self._stat.st_size - self._position)
        content = self._path.read_range(self._position, n_bytes, self._stat.e_tag)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


def _stat(found: Any) -> ObjectStat:
    return ObjectStat(found["size"], int(found["last_modified"].timestamp() * 1_000_000_000), found["e_tag"])
