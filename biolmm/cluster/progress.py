"""Progress as lines, for runs without a terminal: the stage, the pass, and how fast its parts are done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from biolmm.chunks import is_watched, watched

log = logging.getLogger(__name__)

STAGE_MARK = " …"
"""A log line that ends like this opens a stage; see `biolmm/pipeline/analysis.py`."""


@contextmanager
def progress_lines(
    every_seconds: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
    say: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Give a line of progress about every `every_seconds` while the block runs, unless progress is shown already.

    It is logged, or handed to `say`.
    """
    if is_watched():
        yield
        return
    logger = logging.getLogger("biolmm")
    lines = _Lines(every_seconds, clock, say or (lambda line: log.info("%s", line)))
    logger.addHandler(lines)
    try:
        with watched(lines.advance):
            yield
    finally:
        logger.removeHandler(lines)


class _Lines(logging.Handler):
    """Takes the stage's name from log lines, counts its passes and times its parts."""

    def __init__(self, every_seconds: float, clock: Callable[[], float], say: Callable[[str], None]) -> None:
        super().__init__()
        self._every = every_seconds
        self._clock = clock
        self._say = say
        self._stage = ""
        self._passes = 0
        self._begun = self._said = clock()
        self._stage_begun = self._begun
        self._running = False

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.endswith(STAGE_MARK):
            self._stage, self._passes = message.removesuffix(STAGE_MARK), 0
            self._stage_begun = self._clock()

    def advance(self, done: int, total: int) -> None:
        """Take note of `done` finished parts of a pass of `total`."""
        now = self._clock()
        if not self._running:
            self._begun, self._running = now, True
        if now - self._said >= self._every:
            self._said = now
            self._say(self._line(done, total, now))
        if done == total:
            self._passes += 1
            self._running = False

    def _line(self, done: int, total: int, now: float) -> str:
        spent = now - self._begun
        text = f"{self._stage}: " if self._stage else ""
        text += f"pass {self._passes + 1}, {done} of {total} parts"
        if spent > 0 and done:
            text += f", {done / spent:.2g} parts/s, {spent / done * (total - done):.0f} s left in this pass"
        if self._passes:
            text += f"; {(now - self._stage_begun) / (self._passes + done / total):.1f} s a pass"
        return text
