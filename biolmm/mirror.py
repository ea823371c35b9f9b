"""A results folder on an object store: a local folder that is kept in step with it while the work runs.

What is on the store is always fit to continue from. Files that say that others are finished come after them: first the
data, then the metadata that make a folder of chunks a Zarr group, `*.done.json`, the receipts of the scan, `analysis.json`,
and `run.json` last; a mark that is gone or has changed is removed from the store before anything else happens there.
Unfinished files, whose names begin with a dot or end in `.partial`, stay local.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path
from typing import IO, NamedTuple

from biolmm.atomic import may_pass, remove, saving
from biolmm.errors import BiolmmError, InputFileError, OutputError
from biolmm.places import ObjectPath, as_object
from biolmm.places.objects import ObjectStat

_MARKS = ("*.zarr/zarr.json", "*.done.json", "model/scan-*/*.json", "analysis.json", "run.json")
"""Patterns of files that vouch for others, in the order in which they are uploaded."""

_N_REQUESTS = 8
_PIECE_BYTES = 4 * 1024**2

Signature = tuple[int, int, int]
"""Size, time of change and inode of a local file: another one means another content."""


class _Known(NamedTuple):
    """What this folder last knew of a file on the store."""

    signature: Signature | None
    token: str | None
    """What the store calls the version; None while it is being uploaded."""


@contextmanager
def mirrored(out: Path, scratch: Path | None = None, every_seconds: float = 30.0) -> Iterator[Path]:
    """Give a local folder that is kept in step with `out`; `out` itself when it is local.

    Parameters
    ----------
    out
        Folder of results. What is there already is fetched first, so that another machine can continue.
    scratch
        Where the local folder is made; by default in the user's cache. Everything that writes results must see it: with
        workers on other machines it has to be on a file system that they share.
    every_seconds
        How often new and changed files are uploaded while the block runs; also when it ends, with an error or without.

    Yields
    ------
    The local folder. It is removed at the end when everything is on the store and there was no error; otherwise the next call
    continues with it, unless the store has been changed by others meanwhile: then that is fetched and counts.

    Raises
    ------
    OutputError
        When something cannot be uploaded (the message says where it is), or another process works on the same folder.
    InputFileError
        When what is on the store cannot be fetched.

    Notes
    -----
    **Cost**: disk space for all results; a listing at the start, and every file uploaded once for each change.
    """
    remote = as_object(out)
    if remote is None:
        yield out
        return
    base = scratch or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "biolmm"
    work = base / f"{remote.name or remote.bucket}-{blake2b(str(remote).encode(), digest_size=6).hexdigest()}"
    with saving(work):
        (work / "files").mkdir(parents=True, exist_ok=True)
    with _only_one(work, remote):
        mirror = _Mirror(remote, work / "files", work / "journal.jsonl")
        mirror.fetch()
        with mirror.following(every_seconds):
            yield mirror.folder
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _only_one(work: Path, remote: ObjectPath) -> Iterator[None]:
    """Keep other processes of this machine out."""
    with saving(work):
        lock = (work / "lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputError(
                f"{remote} is being written by another process: wait for it, or choose another place."
            ) from None
        yield


@dataclass
class _Mirror:
    """One folder and what is known of its image on the store, in memory and in a journal that outlives the process."""

    remote: ObjectPath
    folder: Path
    journal: Path
    known: dict[str, _Known] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fetch(self) -> None:
        """Bring the folder up to what is on the store, where that is not older; see `mirrored`."""
        try:
            there = {str(path.relative_to(self.remote)): stat for path, stat in self.remote.files().items()}
        except OSError as error:
            raise InputFileError(f"{self.remote} cannot be listed: {error.strerror or error}.") from error
        there = {name: stat for name, stat in there.items() if _is_finished(name)}
        self.known = self._replayed()
        ours = all(
            name in there and known.token == _token(there[name]) for name, known in self.known.items() if known.token
        )
        if not ours or not set(there) <= set(self.known):
            self._discard(there)
        self.known = {name: known for name, known in self.known.items() if name in there or known.token is None}
        for name in set(there) - set(self.known):
            self.known[name] = _Known(None, _token(there[name]))
        whole = {name for name in there if _is_whole(name, there)}  # the rest is removed from the store in time
        missing = {name for name in whole if not (self.folder / name).is_file()}
        self._in_order(missing, lambda name: self._download(name, there[name]))
        self._write_journal()

    def _discard(self, there: Mapping[str, ObjectStat]) -> None:
        """Remove what is not as on the store, where somebody else has worked; marks first, so that none outlives its data."""
        here = self._scan(everything=True)
        for name in sorted(here, key=_rank, reverse=True):
            known = self.known.get(name)
            if name not in there or known != _Known(here[name], _token(there[name])):
                remove(self.folder / name)

    @contextmanager
    def following(self, every_seconds: float) -> Iterator[None]:
        """Upload in the background while the block runs, and what is left at its end."""
        stop = threading.Event()

        def follow() -> None:
            while not stop.wait(every_seconds):
                try:
                    self.sync()
                except (OSError, BiolmmError):
                    continue  # tried again the next time; the last time counts

        thread = threading.Thread(target=follow, name="biolmm-mirror", daemon=True)
        thread.start()
        try:
            yield
        except BaseException as error:
            stop.set()
            thread.join()
            try:
                self._sync_at_end()
            except OutputError as second:
                error.add_note(str(second))
            raise
        stop.set()
        thread.join()
        self._sync_at_end()

    def sync(self) -> None:
        """Make the store what the folder is now."""
        marks = {name: signature for name, signature in self._scan().items() if _rank(name)}
        # Listed after the marks: what they vouch for is there.
        now = {name: signature for name, signature in self._scan().items() if not _rank(name)} | marks
        changed = {name for name, signature in now.items() if self._of(name) != (signature, True)}
        stale = {name for name in self.known if name not in now} | {
            name for name in changed & set(self.known) if _rank(name)
        }
        self._in_order(stale, self._remove, reverse=True)
        self._in_order(changed, lambda name: self._upload(name, now[name]))

    def _sync_at_end(self) -> None:
        try:
            self.sync()
        except OSError as error:
            raise OutputError(
                f"{self.remote} is not complete: {error.strerror or error}. Everything is in {self.folder}: run the same "
                "command again on this machine, and it uploads the rest.",
                passing=may_pass(error),
            ) from error

    def _of(self, name: str) -> tuple[Signature | None, bool]:
        known = self.known.get(name, _Known(None, None))
        return known.signature, known.token is not None

    def _upload(self, name: str, signature: Signature) -> None:
        """Upload a file; one that changes meanwhile counts as not uploaded and is seen again the next time."""
        path = self.folder / name
        if _rank(name) and _signature(path) != signature:
            return
        self._note(name, _Known(signature, None))
        try:
            token = (self.remote / name).upload(path)
        except FileNotFoundError:
            if path.exists():
                raise
            return
        if _signature(path) == signature:
            self._note(name, _Known(signature, token))

    def _remove(self, name: str) -> None:
        (self.remote / name).unlink(missing_ok=True)
        self._note(name, None)

    def _download(self, name: str, stat: ObjectStat) -> None:
        path = self.folder / name
        aside = path.with_name(f".{path.name}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with (self.remote / name).open("rb") as source, aside.open("wb") as target:
                shutil.copyfileobj(source, target, _PIECE_BYTES)
            aside.replace(path)
        except OSError as error:
            reason = error.strerror or error
            raise InputFileError(f"{self.remote / name} cannot be fetched to {self.folder}: {reason}.") from error
        self._note(name, _Known(_signature(path), _token(stat)))

    def _in_order(self, names: Iterable[str], work: Callable[[str], None], *, reverse: bool = False) -> None:
        """Work on files at the same time, those of one rank after those of the rank before."""
        ranked = sorted(names, key=lambda name: (_rank(name), name), reverse=reverse)
        with ThreadPoolExecutor(_N_REQUESTS) as threads:
            for rank in dict.fromkeys(map(_rank, ranked)):
                list(threads.map(work, [name for name in ranked if _rank(name) == rank]))

    def _scan(self, *, everything: bool = False) -> dict[str, Signature]:
        """Find the finished files of the folder."""
        found = {}
        for folder, folders, files in os.walk(self.folder):
            if not everything:
                folders[:] = [name for name in folders if _is_finished(name)]
            for file in files:
                path = Path(folder, file)
                signature = _signature(path)
                if signature is not None and (everything or _is_finished(file)):
                    found[path.relative_to(self.folder).as_posix()] = signature
        return found

    def _note(self, name: str, known: _Known | None) -> None:
        """Remember, in memory and on disk."""
        with self.lock:
            if known is None:
                self.known.pop(name, None)
            else:
                self.known[name] = known
            with saving(self.journal), self.journal.open("a", encoding="utf-8") as file:
                _write_line(file, name, known)

    def _write_journal(self) -> None:
        aside = self.journal.with_suffix(".partial")
        with saving(self.journal), aside.open("w", encoding="utf-8") as file:
            for name, known in self.known.items():
                _write_line(file, name, known)
        aside.replace(self.journal)

    def _replayed(self) -> dict[str, _Known]:
        """Read the journal; what a kill has cut off at its end was not done."""
        found: dict[str, _Known] = {}
        try:
            lines = self.journal.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return found
        for line in lines:
            try:
                name, signature, token = json.loads(line)
            except ValueError:
                continue
            if signature is None and token is None:
                found.pop(name, None)
            else:
                found[name] = _Known(tuple(signature) if signature else None, token)
        return found


def _write_line(file: IO[str], name: str, known: _Known | None) -> None:
    file.write(json.dumps([name, *(known or (None, None))]) + "\n")


def _rank(name: str) -> int:
    """Say when a file is uploaded: 0 for data, more for marks."""
    ranks = [rank for rank, pattern in enumerate(_MARKS, start=1) if fnmatchcase(name, pattern)]
    return max(ranks, default=0)


def _is_finished(name: str) -> bool:
    return not any(part.startswith(".") or part.endswith(".partial") for part in name.split("/"))


def _is_whole(name: str, there: Iterable[str]) -> bool:
    """Whether a file is in no Zarr group, or in one whose upload was finished."""
    parts = name.split("/")
    groups = ["/".join(parts[: i + 1]) for i, part in enumerate(parts[:-1]) if part.endswith(".zarr")]
    return all(f"{group}/zarr.json" in there for group in groups)


def _signature(path: Path) -> Signature | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def _token(stat: ObjectStat) -> str:
    return stat.e_tag or f"{stat.st_size} {stat.st_mtime_ns}"
