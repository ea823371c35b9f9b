"""What a finished piece consists of: its files are listed where it says that it is finished, and looked for before it is used."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from biolmm.atomic import remove, saving, write_json
from biolmm.errors import InputFileError
from biolmm.pipeline.genotypes import STORE_NAME
from biolmm.reml.model import MODEL_FOLDER
from biolmm.results.folder import now
from biolmm.results.record import fingerprint_file

PIECE_JSON = "piece.json"
_LEFTOVER = re.compile(r"\.[0-9a-f]{32}\.partial")


def finish(folder: Path, **said: object) -> None:
    """Write that a piece is finished, of which files it consists, and what else is said of it.

    What a process that was killed left half-written in it is removed.
    """
    for path in _walk(folder):
        if _LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)
    files = {str(path.relative_to(folder)): _described(path, folder) for path in _walk(folder) if path.name[0] != "."}
    write_json(folder / PIECE_JSON, {**said, "files": files, "finished": now()})


def is_finished(folder: Path) -> bool:
    """Whether a piece is there, finished, and has all its files as they were then.

    Notes
    -----
    **Cost**: a look at the size of every file. Tables beside `piece.json` are small and read; a change in one of the others
    that leaves its size is not found.
    """
    try:
        known = json.loads((folder / PIECE_JSON).read_text(encoding="utf-8"))
        if not known["finished"]:
            return False
        return all(_described(folder / name, folder) == tuple(value) for name, value in known["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InputFileError):
        return False


def discard(folder: Path) -> None:
    """Remove a piece: at once under its name, so that nothing goes on with what a kill has left of it."""
    aside = folder.with_name(f".{folder.name}.partial")
    with saving(aside):
        remove(aside)
        folder.replace(aside)
        remove(aside)


def _described(path: Path, folder: Path) -> tuple[int, str | None]:
    """Return the size of a file, and a digest of those that are read whole anyway."""
    return path.stat().st_size, fingerprint_file(path) if path.parent == folder else None


def _walk(folder: Path) -> Iterator[Path]:
    """List the files of a piece that releases need: neither its store, which is checked where it is read, nor receipts."""
    for place, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if name != STORE_NAME and not (place.endswith(MODEL_FOLDER) and name[:5] == "scan-")
        ]
        yield from (Path(place, name) for name in files if name != PIECE_JSON)
