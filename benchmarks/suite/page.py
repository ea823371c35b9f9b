"""Put tables of figures into a page, between the marks that name them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from suite.common import _cell


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a table in Markdown."""
    if not rows:
        return "(nothing)"
    names = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|" + "---|" * len(names)]
    return "\n".join([*lines, *("| " + " | ".join(_cell(row.get(name)) for name in names) + " |" for row in rows)])


def check_marks(page: Path, name: str) -> None:
    """Make sure that the page has the marks.

    Raises
    ------
    SystemExit
        When it has not.
    """
    if not _block(name).search(page.read_text(encoding="utf-8")):
        raise SystemExit(f"{page} has no '<!-- begin {name} -->' … '<!-- end {name} -->'.")


def write_into(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- begin NAME -->` and `<!-- end NAME -->`."""
    before = page.read_text(encoding="utf-8")
    page.write_text(_block(name).sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", before), encoding="utf-8")


def _block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- begin {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
