"""SIGTERM and SIGUSR1 on a driver: finish what is in hand, write it, and end with 75."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from biolmm.chunks import clear_stop, request_stop
from biolmm.errors import Stopped

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def draining() -> Iterator[None]:
    """Stop at the next checkpoint on the first signal of `SIGNALS`, at once on the second; in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def asked(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        seen.append(number)
        if len(seen) > 1:
            raise Stopped(f"stopped at once on a second {name}; the same command continues from the last checkpoint")
        log.warning("%s: finishing what is in hand, then stopping", name)
        request_stop(f"on {name}")

    before = {number: signal.signal(number, asked) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        clear_stop()
