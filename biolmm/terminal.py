"""Progress on a terminal: the stage, the passes so far, and how far the current one is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from biolmm.chunks import watched

STAGE_MARK = " …"
"""A log line that ends like this opens a stage."""


@contextmanager
def shown_progress(logger: logging.Logger, console: Console | None = None) -> Iterator[None]:
    """Show a bar for the tasks of every pass below the log lines of `logger`, while the block runs.

    Where the output is not a terminal nothing but the log lines appears.
    """
    console = console or Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} parts"),
        TextColumn("pass {task.fields[passes]}"), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=None, passes=0)
        handler = _Lines(progress, bar)
        logger.addHandler(handler)
        try:
            with watched(handler.advance):
                yield
        finally:
            logger.removeHandler(handler)


class _Lines(logging.Handler):
    """Prints log lines above the bar, and takes the stage's name from them."""

    def __init__(self, progress: Progress, bar: TaskID) -> None:
        super().__init__()
        self._progress = progress
        self._bar = bar
        self._passes = 0
        self.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.endswith(STAGE_MARK):
            self._passes = 0
            self._progress.reset(self._bar, description=message.removesuffix(STAGE_MARK), passes=0)
        else:
            self._progress.console.print(self.format(record), markup=False, highlight=False)

    def advance(self, done: int, total: int) -> None:
        """Take note of `done` finished tasks of a graph of `total`."""
        if done == total:
            self._passes += 1
        self._progress.update(self._bar, completed=done, total=total, passes=self._passes)
