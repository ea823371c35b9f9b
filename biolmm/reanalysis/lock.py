"""One reanalysis at a time in a folder of releases, whoever starts it and wherever."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from biolmm.atomic import saving
from biolmm.cluster.exits import BUSY
from biolmm.errors import BiolmmError, OutputError
from biolmm.results.folder import now

log = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LOCK_NAME = ".reanalysis.lock"
BEAT_SECONDS = 20.0
"""How often the owner of a lock gives a sign of life."""
STALE_SECONDS = 180.0
"""An owner on another machine who has given none for so long is taken for dead."""


class BusyError(BiolmmError):
    """Another reanalysis is at work in the same folder; later the same command may go on."""

    exit_code = BUSY


@contextmanager
def only_one(out: Path, plan: Path) -> Iterator[None]:
    """Hold the lock of a folder of releases while the block runs.

    Parameters
    ----------
    out
        The folder, which is made.
    plan
        For whoever finds the lock.

    Raises
    ------
    BusyError
        When another process holds it: it says who.
    OutputError
        When there can be no lock.

    Notes
    -----
    The system gives a lock back when its owner dies. Where it does so for one machine only, as some network file systems do,
    an owner elsewhere is known by its signs of life: the time of the lock's file. A machine is known by its boot, which
    containers on it share whatever they are called, and which others that have its name do not.
    """
    path = out / LOCK_NAME
    with saving(path):
        out.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    with file:
        _lock(file, path)
        owner = _owner(file)
        if owner and not _is_here(owner) and _age(path) < STALE_SECONDS:
            raise BusyError(_refusal(out, owner, path))
        if owner:
            log.warning("the lock of %s was left by %s, which ended without giving it back.", out, _who(owner))
        mine = {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(), "since": now(), "plan": str(plan)}
        with saving(path):
            _write(file, json.dumps(mine))
        stop = threading.Event()
        beat = threading.Thread(target=_beat, args=(path, stop), daemon=True)
        beat.start()
        try:
            yield
        finally:
            stop.set()
            beat.join()
            with suppress(OSError):
                _write(file, "")


def _lock(file: IO[str], path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BusyError(_refusal(path.parent, _owner(file), path)) from None
    except OSError as error:
        raise OutputError(
            f"{path} cannot be locked: {error.strerror or error}. Put the releases on storage that has locks."
        ) from error


def _boot() -> str | None:
    """Return the identity of this machine since it was started; None where the system has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def _is_here(owner: dict[str, Any]) -> bool:
    """Whether an owner is, or was, under the system that has just given the lock: then it is dead."""
    boot, other = _boot(), owner.get("boot")
    return owner.get("host") == socket.gethostname() if boot is None or other is None else boot == other


def _owner(file: IO[str]) -> dict[str, Any]:
    """Return who wrote the lock; empty when it was given back."""
    file.seek(0)
    try:
        found = json.loads(file.read() or "{}")
    except ValueError:
        return {"host": socket.gethostname(), "boot": _boot(), "pid": "unknown", "since": "an unknown time"}
    return found if isinstance(found, dict) else {}


def _write(file: IO[str], text: str) -> None:
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()


def _age(path: Path) -> float:
    """Seconds since the last sign of life."""
    return time.time() - path.stat().st_mtime


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        with suppress(OSError):
            os.utime(path)


def _who(owner: dict[str, Any]) -> str:
    return f"process {owner.get('pid')} on {owner.get('host')} (since {owner.get('since')})"


def _refusal(out: Path, owner: dict[str, Any], path: Path) -> str:
    who = _who(owner) if owner else "another process"
    return f"another reanalysis is running in '{out}': {who}, last sign of life {_age(path):.0f} s ago. Wait for it."
