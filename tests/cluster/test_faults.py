"""Workers that die, freeze, swell or fail: the results are right, or the error says what to do."""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import dask
import pytest
from distributed import Client

import faults
from biolmm.chunks import clear_stop, map_tasks, request_stop, sum_tasks
from biolmm.cluster import connect
from biolmm.errors import Stopped, WorkersLostError
from running import Disk, same_statistics

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")

SETTINGS = {"distributed.scheduler.worker-ttl": "3s", "distributed.scheduler.allowed-failures": 1}
"""The user's own, which win over ours: a frozen worker is given up, and a task that kills its workers too, sooner."""


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Give two workers of 500 MB."""
    with dask.config.set(SETTINGS), connect("local", workers=2, memory_bytes=500 * 10**6) as found:
        found.wait_for_workers(2, timeout=60)
        yield found


def pids(client: Client) -> list[int]:
    """Find the processes of the workers."""
    return list(client.run(os.getpid).values())


def stems(folder: Path, suffix: str) -> set[str]:
    """Name the tasks that left such a file."""
    return {path.stem for path in folder.glob(f"*.{suffix}")}


def later(seconds: float, number: signal.Signals, pid: int) -> None:
    """Send a signal to a process after a while."""
    threading.Timer(seconds, os.kill, (pid, number)).start()


def test_processes_give_the_same_bits_as_threads(client: Client, disk: Disk, alone: Path, tmp_path: Path) -> None:
    assert same_statistics(disk.gwas(tmp_path / "out", "--solver", "stochastic"), alone)


def test_a_task_has_one_thread_of_each_library(client: Client) -> None:
    assert map_tasks(faults.thread_limits, range(2)) == [["1", "1", "1"]] * 2


def test_nothing_is_served_over_http(client: Client) -> None:
    host, port = client.cluster.scheduler.http_server.address, client.cluster.scheduler.http_server.port
    assert host == "127.0.0.1"
    for page in ("info/main/workers.html", "health", "metrics", "json/counts.json", "status"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_for_the_whole_group_leaves_workers_alone(client: Client, number: signal.Signals) -> None:
    before = sorted(pids(client))
    assert map_tasks(faults.told, range(4), int(number)) == [0, 1, 2, 3]
    assert sorted(pids(client)) == before


def test_storage_that_fails_now_and_then(client: Client, tmp_path: Path) -> None:
    assert map_tasks(faults.moody, range(3), tmp_path) == [0, 1, 2]


def test_a_worker_is_killed(client: Client) -> None:
    later(0.5, signal.SIGKILL, pids(client)[0])
    assert map_tasks(faults.slow_square, range(16)) == [i * i for i in range(16)]


def test_a_task_kills_its_worker_once(client: Client, tmp_path: Path) -> None:
    assert sum_tasks(faults.suicidal, range(8), tmp_path) == sum(range(8))


def test_a_worker_freezes(client: Client) -> None:
    client.wait_for_workers(2, timeout=30)
    frozen = pids(client)[0]
    later(0.3, signal.SIGSTOP, frozen)
    assert map_tasks(faults.slow_square, range(16)) == [i * i for i in range(16)]
    with suppress(ProcessLookupError):  # the nanny has replaced it
        os.kill(frozen, signal.SIGKILL)


def test_a_task_that_needs_more_memory_than_a_worker_has(client: Client) -> None:
    with pytest.raises(WorkersLostError, match="--worker-memory"):
        map_tasks(faults.greedy, [0], 10**9)
    client.wait_for_workers(2, timeout=30)
    assert map_tasks(faults.slow_square, range(4), 0.0) == [0, 1, 4, 9]


def test_a_stop_finishes_what_is_in_hand_and_begins_nothing(client: Client, tmp_path: Path) -> None:
    try:
        threading.Timer(0.7, request_stop, ("in a test",)).start()
        with pytest.raises(Stopped, match="in a test; the same command continues"):
            map_tasks(faults.noted, range(24), tmp_path)
        with pytest.raises(Stopped):
            map_tasks(abs, [1])
    finally:
        clear_stop()
    at_once = stems(tmp_path, "begun")
    deadline = time.monotonic() + 10
    while stems(tmp_path, "begun") != stems(tmp_path, "done") and time.monotonic() < deadline:
        time.sleep(0.1)
    begun = stems(tmp_path, "begun")
    assert begun == stems(tmp_path, "done")
    assert len(begun) <= len(at_once) + 2 < 20  # one a worker may have been on its way
    assert map_tasks(faults.slow_square, range(3), 0.0) == [0, 1, 4]
