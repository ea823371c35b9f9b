"""Folders of the smaller commands: whose results they hold, and tables written whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from biolmm.atomic import atomic_path, remove, saving
from biolmm.errors import OutputError
from biolmm.results.tables import MISSING


def claim_folder(out: Path, name: str, key: str, owned: Sequence[str] = (), *, overwrite: bool = False) -> None:
    """Make the folder, unless it holds other results under this record's name.

    Parameters
    ----------
    out
        The folder.
    name
        Of the record, which is written last: `pca.json`. A folder without it holds nothing that is finished.
    key
        What the results depend on.
    owned
        Files that the command may write: those of an earlier run are removed.
    overwrite
        Replace other results.

    Raises
    ------
    OutputError
        When there are other results, or the folder cannot be written to.
    """
    record = out / name
    if record.exists() and not overwrite:
        try:
            same = json.loads(record.read_text(encoding="utf-8")).get("key") == key
        except (OSError, ValueError, AttributeError):
            same = False
        if not same:
            raise OutputError(
                f"'{out}' holds results of other inputs or options ({name}): choose another --out, or pass --overwrite to "
                "replace them."
            )
    with saving(out):
        out.mkdir(parents=True, exist_ok=True)
        for file in (name, *owned):
            remove(out / file)


def write_tsv(path: Path, table: pd.DataFrame) -> Path:
    """Write a table whole or not at all, every float with all its digits."""
    with atomic_path(path) as aside:
        table.to_csv(aside, sep="\t", index=False, na_rep=MISSING, lineterminator="\n")
    return path


def now() -> str:
    """Tell the time, as records do."""
    return datetime.now(UTC).isoformat(timespec="seconds")
