"""Progress: log lines stay, the bar says where the pass is."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from types import SimpleNamespace

import pytest
from rich.console import Console

import biolmm
from biolmm import terminal
from biolmm.chunks import map_tasks
from biolmm.terminal import shown_progress


def test_shows_the_stage_its_passes_and_the_log_lines() -> None:
    logger = logging.getLogger("biolmm.test_terminal")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    screen = io.StringIO()
    with shown_progress(logger, Console(file=screen, force_terminal=True, width=120)):
        logger.info("fit …")
        assert map_tasks(abs, [-1, -2, -3]) == [1, 2, 3]
        assert map_tasks(abs, [-4]) == [4]
        logger.info("fit: done [in no time]")
    shown = screen.getvalue()
    assert "fit: done [in no time]" in shown
    assert "fit …" not in shown
    assert "pass" in shown
    assert not logger.handlers


def test_a_notebook_shows_a_line_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for what Jupyter gives: a shell with a kernel, and a display that can be updated."""
    seen: list[str] = []
    handle = SimpleNamespace(update=lambda data, raw: seen.append(data["text/plain"]))
    shown = SimpleNamespace(display=lambda data, raw, display_id: handle)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1)))
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    monkeypatch.setattr(terminal, "NOTEBOOK_SECONDS", 0.0)
    with biolmm.progress():
        assert map_tasks(abs, [-1, -2]) == [1, 2]
    assert seen[0].startswith("pass 1, 1 of ")
    assert "left in this pass" in seen[1]
    assert seen[-1] == "done"


def test_a_script_logs_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    lines = terminal.progress_lines
    monkeypatch.setattr(terminal, "progress_lines", lambda: lines(0.0, say=said.append))
    with biolmm.progress():
        map_tasks(abs, [-1, -2])
        with biolmm.progress():  # what shows progress already is left alone
            map_tasks(abs, [-1])
    assert len(said) >= 3


def test_a_real_notebook() -> None:
    """Run a cell by Jupyter's own kernel, where there is one."""
    pytest.importorskip("ipykernel")
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    cell = "import biolmm\nfrom biolmm.chunks import map_tasks\nwith biolmm.progress():\n    map_tasks(abs, [-1, -2])"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nbclient.NotebookClient(book, timeout=60).execute()
    assert [output["data"]["text/plain"] for output in book.cells[0].outputs] == ["done"]
