"""The folder of one run: private to the user, with the certificates and the file by which workers find their leader."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biolmm.atomic import remove, saving
from biolmm.errors import OutputError, ParameterError

LEADER_FILE = "scheduler.json"
OUTCOME_FILE = "outcome.json"


def private_folder(path: Path) -> Path:
    """Make a folder that only the user can enter, or check that it is one.

    Raises
    ------
    OutputError
        When it belongs to somebody else, is a link, or cannot be made.
    """
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                raise OutputError(
                    f"'{path}' is not a folder of this user: name another one with --run-directory."
                ) from None
        path.chmod(0o700)
    return path


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only the user can read, whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with saving(path):
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)


@dataclass(frozen=True)
class RunDirectory:
    """A run's folder as the leader writes and the workers read it."""

    path: Path

    def announce(self, address: str, life: str) -> None:
        """Tell where the leader is; `life` is another one every time it is started."""
        remove(self.path / OUTCOME_FILE)
        write_private(self.path / LEADER_FILE, json.dumps({"address": address, "life": life}).encode())

    def withdraw(self, life: str, code: int) -> None:
        """Tell that the leader has ended, with its exit code."""
        write_private(self.path / OUTCOME_FILE, json.dumps({"life": life, "code": code}).encode())
        remove(self.path / LEADER_FILE)

    def address(self) -> str | None:
        """Return where the leader said it is; None while there is none."""
        address = _read(self.path / LEADER_FILE).get("address")
        return address if isinstance(address, str) else None

    def outcome(self) -> tuple[str, int] | None:
        """Return which leader ended last and its exit code, unless another one has begun."""
        found = _read(self.path / OUTCOME_FILE)
        life, code = found.get("life"), found.get("code")
        return (life, code) if isinstance(life, str) and isinstance(code, int) else None


def scheduler_address(path: Path) -> str:
    """Return the address in a scheduler file, ours or one that `dask scheduler` wrote.

    Raises
    ------
    ParameterError
        When the file does not name one.
    """
    address = _read(path).get("address")
    if not isinstance(address, str):
        raise ParameterError(f"'{path}' is no scheduler file: it must be JSON with an address.")
    return address


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
