"""Folders of the smaller commands: whose results they hold, and tables written whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from biolmm.atomic import atomic_path, remove, saving, write_json
from biolmm.errors import OutputError
from biolmm.results.tables import MISSING

ANALYSIS_JSON = "analysis.json"
"""Says which analysis a folder belongs to."""


class OtherAnalysisError(OutputError):
    """A folder holds the results, finished or not, of another analysis."""


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


def claim_analysis(
    out: Path, identity: str, command: str, owned: Sequence[str] = (), *, overwrite: bool = False
) -> bool:
    """Make sure that a folder is new, or holds this very analysis, unfinished or finished, as `analysis.json` says.

    Parameters
    ----------
    out
        The folder.
    identity
        What the results depend on.
    command
        For whoever finds the folder.
    owned
        Files and folders of an analysis, which are removed with `overwrite`.
    overwrite
        Replace what is there.

    Returns
    -------
    bool
        Whether an earlier run of this analysis may have left something to go on with.

    Raises
    ------
    OtherAnalysisError
        When the folder holds another analysis.
    OutputError
        When it cannot be written to.
    """
    path = out / ANALYSIS_JSON
    if path.exists():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))["identity"]
        except (ValueError, KeyError, TypeError):
            known = None
        if known == identity and not overwrite:
            return True
        if not overwrite:
            raise OtherAnalysisError(
                f"'{out}' holds the results of another analysis (other inputs or options): choose another --out, or pass "
                "--overwrite to replace them."
            )
        with saving(out):
            for name in owned:
                remove(out / name)
    write_json(path, {"identity": identity, "command": command})
    return False


def write_tsv(path: Path, table: pd.DataFrame) -> Path:
    """Write a table whole or not at all, every float with all its digits."""
    with atomic_path(path) as aside:
        table.to_csv(aside, sep="\t", index=False, na_rep=MISSING, lineterminator="\n")
    return path


def now() -> str:
    """Tell the time, as records do."""
    return datetime.now(UTC).isoformat(timespec="seconds")
