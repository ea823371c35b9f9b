"""Tasks that misbehave, in a module that worker processes can import; processes of the command line."""

from __future__ import annotations

import importlib
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Start = Callable[..., "subprocess.Popen[str]"]
"""Starts `biolmm ARGUMENTS`, with the environment given by name."""


def slow_square(item: int, seconds: float = 0.2) -> int:
    """Take a while."""
    time.sleep(seconds)
    return item * item


def greedy(item: int, n_bytes: int) -> int:
    """Hold memory until the worker is ended."""
    held = bytearray(n_bytes)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(30)
    return len(held)


def noted(item: int, folder: Path) -> int:
    """Write one file at the start and one at the end, as tasks that leave results do."""
    (folder / f"{item}.begun").touch()
    time.sleep(0.4)
    (folder / f"{item}.done").touch()
    return item


def suicidal(item: int, folder: Path) -> int:
    """Kill the worker the first time."""
    mark = folder / f"{item}.tried"
    if item == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def moody(item: int, folder: Path) -> int:
    """Fail twice, as shared storage does now and then."""
    tries = len(list(folder.glob(f"{item}.try-*")))
    (folder / f"{item}.try-{tries}").touch()
    if tries < 2:
        raise OSError("the file server is busy")
    return item


def told(item: int, number: int) -> int:
    """Send this worker a signal."""
    os.kill(os.getpid(), number)
    time.sleep(0.1)
    return item


def thread_limits(item: int) -> list[str | None]:
    """Return the threads that libraries may start here."""
    return [os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")]


def large(item: int, n_bytes: int) -> NDArray[np.uint8]:
    """Return an array that a worker keeps."""
    return np.full(n_bytes, item, np.uint8)


_heard: list[str] = []


class _Ear(logging.Handler):
    """Keeps what Dask says of spilling."""

    def emit(self, record: logging.LogRecord) -> None:
        _heard.append(record.getMessage())


def limit_files(n_bytes: int | None) -> list[str]:
    """Let this process write files of at most this size, as on a disk that is full; None: of any size.

    Returns what it said of spilling since the last call.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if n_bytes is None else n_bytes, hard))
    logging.getLogger("distributed.spill").handlers[:] = [_Ear()]
    said = _heard[:]
    _heard.clear()
    return said


def hang_up(dask_worker: Any) -> None:
    """Lose the connection to the scheduler."""
    dask_worker.batched_stream.comm.abort()


def other_version(number: str | None) -> None:
    """Make this process claim another version of biolmm, or have no such module; None: as it is."""
    sys.modules.pop("biolmm.parcels", None)
    if number == "":
        sys.modules["biolmm.parcels"] = None  # type: ignore[assignment]
        return
    parcels = importlib.import_module("biolmm.parcels")
    if number is not None:
        claimed = {**parcels.versions(), "biolmm": number}
        parcels.versions = lambda: claimed  # type: ignore[assignment]


def wait_for(pattern: str, folder: Path, seconds: float = 180) -> None:
    """Wait until a file of this name is in a folder."""
    deadline = time.monotonic() + seconds
    while not any(folder.glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern} after {seconds} s"
        time.sleep(0.01)
