"""Workers that die, freeze, swell or fail: the results are right, or the error says what to do."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client

import faults
from biolmm import chunks
from biolmm.chunks import clear_stop, map_tasks, request_stop, sum_tasks
from biolmm.cluster import connect
from biolmm.errors import ParameterError, Stopped, WorkersLostError
from running import Disk, run_command, same_statistics

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")

SETTINGS = {
    "distributed.scheduler.worker-ttl": "3s",
    "distributed.scheduler.allowed-failures": 1,
    "distributed.worker.memory.target": 0.2,
    "distributed.deploy.lost-worker-timeout": "1s",
}
"""The user's own, which win over ours: a frozen worker is given up and replaced, and a task that kills its
workers given up, sooner; and what workers hold goes to disk sooner."""


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
    """It is given up and replaced, though its process is still there."""
    client.wait_for_workers(2, timeout=60)
    frozen = pids(client)[0]
    later(0.3, signal.SIGSTOP, frozen)
    assert map_tasks(faults.slow_square, range(16)) == [i * i for i in range(16)]
    client.wait_for_workers(2, timeout=60)
    assert frozen not in pids(client)


def test_a_task_that_needs_more_memory_than_a_worker_has(client: Client) -> None:
    with pytest.raises(WorkersLostError, match="--worker-memory"):
        map_tasks(faults.greedy, [0], 10**9)
    client.wait_for_workers(2, timeout=60)
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


def test_a_worker_loses_its_connection(client: Client) -> None:
    client.wait_for_workers(2, timeout=60)
    lost = next(iter(client.nthreads()))
    threading.Timer(0.3, client.run, (faults.hang_up,), {"workers": [lost], "on_error": "ignore"}).start()
    assert map_tasks(faults.slow_square, range(16)) == [i * i for i in range(16)]


@pytest.fixture
def full_disk(client: Client) -> Iterator[Client]:
    """Give workers that cannot write files of more than 1 kB."""
    client.wait_for_workers(2, timeout=60)
    client.run(faults.limit_files, 2**10)
    yield client
    client.run(faults.limit_files, None)


def test_the_disk_for_what_exceeds_memory_is_full(full_disk: Client) -> None:
    """Results stay in memory while there is room: 4 x 40 MB a worker here, 100 MB of which should go to disk."""
    found = map_tasks(faults.large, range(8), 40 * 10**6)
    assert [int(each[-1]) for each in found] == list(range(8))
    said = [line for lines in full_disk.run(faults.limit_files, None).values() for line in lines]
    assert any("Spill to disk failed; keeping data in memory" in line for line in said)


def test_the_disk_for_results_is_full(full_disk: Client, disk: Disk, alone: Path, tmp_path: Path) -> None:
    """One line that says so; with space the same command goes on to the same bits."""
    command = ("gwas", *disk.inputs(), "--solver", "stochastic", "--out", tmp_path / "out")
    done = run_command(*command)
    assert done.code == 1
    assert "cannot be written: " in done.err
    assert "Free space there and run the same command again" in done.err
    full_disk.run(faults.limit_files, None)
    again = run_command(*command)
    assert again.code == 0, again.err
    assert "fit: done before" in again.err
    assert same_statistics(tmp_path / "out", alone)


@pytest.mark.parametrize("damage", ["truncated", "bit flipped", "missing", "empty"])
def test_a_damaged_chunk_is_named_before_it_becomes_a_number(
    client: Client, disk: Disk, tmp_path: Path, damage: str
) -> None:
    store = tmp_path / "copy.zarr"
    shutil.copytree(disk.store, store)
    chunk = store / "call_alt_count" / "c" / "1" / "0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    changed = {"truncated": bytes(content[:-7]), "bit flipped": bytes(content), "empty": b""}
    if damage == "missing":
        chunk.unlink()
    else:
        chunk.write_bytes(changed[damage])
    inputs = disk.inputs(store)
    done = run_command("gwas", *inputs, "--solver", "stochastic", "--out", tmp_path / "out")
    assert done.code == 2
    assert re.search(r"copy.zarr is damaged: chunk 1 \(variants 65 to 128\)", done.err)
    assert not list((tmp_path / "out").rglob("*.parquet"))


@pytest.mark.parametrize("what", ["function", "item", "shared"])
def test_workers_that_lack_a_module_are_named_at_once(client: Client, tmp_path: Path, what: str) -> None:
    """Before, a worker after the other lost its connection over the task, for minutes."""
    name = f"only_{what}"
    (tmp_path / f"{name}.py").write_text("class Item: pass\n\ndef work(item, shared=None): return 1\n")
    sys.path.insert(0, str(tmp_path))
    try:
        module = importlib.import_module(name)
        started, before = time.monotonic(), sorted(pids(client))
        calls = {
            "function": lambda: map_tasks(module.work, range(3)),
            "item": lambda: map_tasks(str, [module.Item()]),
            "shared": lambda: sum_tasks(max, range(3), (np.ones(10), module.Item())),
        }
        with pytest.raises(ParameterError, match=rf"No module named '{name}'\): install the same packages everywhere"):
            calls[what]()
    finally:
        sys.path.remove(str(tmp_path))
    assert time.monotonic() - started < 20
    assert sorted(pids(client)) == before
    assert map_tasks(faults.slow_square, range(3), 0.0) == [0, 1, 4]


@pytest.mark.parametrize(
    ("number", "message"), [("0.0.9", r"has biolmm 0\.0\.9, and this process biolmm "), ("", "has biolmm ")]
)
def test_workers_of_another_version_are_named(client: Client, number: str, message: str) -> None:
    client.wait_for_workers(2, timeout=60)
    one = min(client.nthreads())
    client.run(faults.other_version, number, workers=[one])
    chunks._checked.clear()
    try:
        with pytest.raises(ParameterError, match=rf"the worker {one} {message}"):
            map_tasks(faults.slow_square, range(3), 0.0)
        address = client.scheduler.address
        with pytest.raises(ParameterError, match="the same packages everywhere"), connect(address):
            pass
    finally:
        client.run(faults.other_version, None, workers=[one])
    assert map_tasks(faults.slow_square, range(3), 0.0) == [0, 1, 4]
