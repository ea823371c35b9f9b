"""Progress on a terminal and in notebooks: the stage, the passes so far, and how far the current one is."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from biolmm.chunks import watched
from biolmm.cluster.progress import progress_lines

STAGE_MARK = " …"
"""A log line that ends like this opens a stage."""
NOTEBOOK_SECONDS = 0.5


@contextmanager
def progress() -> Iterator[None]:
    """Show how far the passes inside the block are, and how long the one in hand will take.

    In a notebook a line that changes, on a terminal a bar, elsewhere a line in the log every minute.

    Examples
    --------
    >>> with progress():  # doctest: +SKIP
    ...     model = biolmm.fit(store, traits)
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if hasattr(shell, "kernel"):
        say = _changing_line()
        with progress_lines(NOTEBOOK_SECONDS, say=say):
            yield
        say("done")
    elif sys.stderr.isatty():
        with shown_progress(logging.getLogger("biolmm")):
            yield
    else:
        with progress_lines():
            yield


def _changing_line() -> Callable[[str], None]:
    """Return what shows a text in place of the one before, below the notebook's cell."""
    shown = import_module("IPython.display")

    def text(line: str) -> dict[str, str]:
        return {"text/plain": line}

    handle = shown.display(text("…"), raw=True, display_id=True)
    return lambda line: handle.update(text(line), raw=True)


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
