"""Progress: log lines stay, the bar says where the pass is."""

from __future__ import annotations

import io
import logging

from rich.console import Console

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
