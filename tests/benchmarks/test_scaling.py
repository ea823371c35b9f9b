"""What a biobank would take is foretold, and written into the page between its marks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = ROOT / "benchmarks" / "run.py"


def test_a_biobank_is_foretold_on_the_page(tmp_path: Path) -> None:
    """More cores never take longer tasks, none is busier than all the time, and the rest of the page stays."""
    page, out = tmp_path / "scaling.md", tmp_path / "out.json"
    shutil.copy(ROOT / "docs" / "scaling.md", page)
    command = [sys.executable, RUN, "scaling", "--predict", "--page", page, "--out", out]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = json.loads(out.read_text())["benchmarks"]
    rows = next(rows for title, rows in found["tables"].items() if "500,000" in title)
    assert [row["cores"] for row in rows] == [16, 32, 64, 128, 256, 512]
    busy = [row["efficiency"] for row in rows]
    assert busy == sorted(busy, reverse=True)
    assert 0 < busy[-1] < busy[0] <= 1
    text, before = page.read_text(), (ROOT / "docs" / "scaling.md").read_text()
    for mark in ("<!-- begin predict -->", "<!-- end predict -->"):
        assert text.count(mark) == before.count(mark) == 1
    assert text.split("<!-- begin predict -->")[0] == before.split("<!-- begin predict -->")[0]
    assert f"| {rows[-1]['cores']} | {rows[-1]['wall']} |" in text


def test_a_page_without_the_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "other.md"
    page.write_text("# Other\n")
    done = subprocess.run(
        [sys.executable, RUN, "scaling", "--predict", "--page", page], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "has no '<!-- begin predict -->'" in done.stderr


@pytest.mark.parametrize("mark", ["check", "predict"])
def test_the_page_has_its_marks(mark: str) -> None:
    assert (ROOT / "docs" / "scaling.md").read_text().count(f"<!-- begin {mark} -->") == 1
