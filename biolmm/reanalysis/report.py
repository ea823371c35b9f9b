"""The comparison with the release before, for people (`changes.md`) and programs (`changes/*.tsv`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from biolmm.atomic import write_text
from biolmm.reanalysis.changes import Changes, table_paths
from biolmm.reanalysis.release import Release
from biolmm.results.folder import write_tsv

CHANGES_MD = "changes.md"
MAX_ROWS = 200
"""Rows of a table on the page; the files have all."""


def write_changes(folder: Path, now: Release, before: Release | None, changes: Changes) -> Path:
    """Write the tables and the page into a release's folder.

    Returns
    -------
    Path
        The page.
    """
    for name, path in table_paths(folder).items():
        write_tsv(path, getattr(changes, name))
    return write_text(folder / CHANGES_MD, page(now, before, changes))


def page(now: Release, before: Release | None, changes: Changes) -> str:
    """Return the page."""
    title = f"# Release {now.name}"
    if before is None:
        lines = [title, "", "The first release: there is nothing to compare it with."]
    else:
        lines = [title, "", f"Compared with release {before.name}. {_summary(changes)}"]
    if now.why and before is not None:
        lines += ["", f"Everything was computed: {'; '.join(now.why)}."]
    failed = [(name, record.why) for name, record in now.traits.items() if record.status == "failed"]
    if failed:
        lines += ["", "## Failed", "", *(f"* **{_text(name)}**: {_text(why)}" for name, why in failed)]
    lines += _section("Traits", changes.traits[changes.traits["status"] != "taken over"], "All were taken over.")
    if before is not None:
        moved = changes.loci[changes.loci["status"] != "same"]
        lines += _section("Loci gained, lost and moved", moved, "None.")
        lines += _section("Significance of the other loci", _shifted(changes.loci), "Unchanged.")
        lines += _section("Heritability", changes.h2[changes.h2["verdict"] != "unchanged"], "Unchanged.")
        lines += _section("People and variants", changes.counts, "The same.")
        lines += _section("Software and settings", changes.settings, "The same.")
    return "\n".join(lines) + "\n"


def _summary(changes: Changes) -> str:
    traits, loci = Counter(changes.traits["status"]), Counter(changes.loci["status"])
    beyond = int((changes.h2["verdict"] == "more than new people explain").sum())
    parts = [f"{count:,} traits {status}" for status, count in traits.items()]
    parts += [f"{loci[status]:,} loci {status}" for status in ("gained", "lost", "moved") if loci[status]]
    parts += [f"{beyond:,} changes of h² beyond what new people explain"] if beyond else []
    return ", ".join(parts) + "."


def _shifted(loci: pd.DataFrame) -> pd.DataFrame:
    """Return the loci with the same lead whose significance is another."""
    same = loci[loci["status"] == "same"]
    shifted = same[same["neg_log_10_p"] != same["neg_log_10_p_before"]]
    return shifted[
        ["trait", "chromosome", "position", "rsid", "neg_log_10_p_before", "neg_log_10_p", "beta_before", "beta"]
    ]


def _section(title: str, table: pd.DataFrame, none: str) -> Iterable[str]:
    lines = ["", f"## {title}", ""]
    if table.empty:
        return [*lines, none]
    names = [str(name) for name in table.columns]
    lines += [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for row in table.head(MAX_ROWS).itertuples(index=False):
        lines.append(f"| {' | '.join(_cell(value) for value in row)} |")
    if len(table) > MAX_ROWS:
        lines += ["", f"{len(table) - MAX_ROWS:,} more are in the table."]
    return lines


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) >= 1 else f"{value:.4g}"
    return _text(f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value))


def _text(text: str) -> str:
    """Write text so that it neither ends a cell nor is taken for mark-up.

    Examples
    --------
    >>> _text("a|b <i>")
    'a\\\\|b &lt;i>'
    """
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
