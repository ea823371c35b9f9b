"""The same results from threads, threads of a cluster, and processes of a cluster."""

from __future__ import annotations

import operator as builtin
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from dask.base import compute
from distributed import Client, LocalCluster
from numpy.typing import NDArray

from biolmm import chunks
from biolmm.chunks import available_threads, map_tasks, n_threads, sum_groups, sum_tasks, threads, watched
from biolmm.errors import DamagedStoreError
from contracts import draw
from oracles.tasks import fail, pick, rounding_sum, two, worker_name
from oracles.toy import Toy

# Without a cluster; these come first, since the last cluster below stays until the module ends.


def test_nothing_cannot_be_added_up() -> None:
    with pytest.raises(ValueError, match="no tasks"):
        sum_tasks(fail, [])
    with pytest.raises(ValueError, match="no tasks"):
        sum_groups(fail, [[1], []])


def test_no_group_waits_for_another() -> None:
    """Two groups of one task each, which meet: were they computed in turn, the first would wait in vain."""
    meeting = threading.Barrier(2, timeout=30)

    def meet(item: int) -> np.ndarray:
        meeting.wait()
        return np.array([item])

    with threads(2):
        assert np.concatenate(sum_groups(meet, [[1], [2]])).tolist() == [1, 2]
    assert sum_groups(meet, []) == []


def test_threads_are_as_many_as_asked_for() -> None:
    assert n_threads() == available_threads()
    with threads(1):
        assert n_threads() == 1
        with threads(3):
            assert n_threads() == 3
        assert n_threads() == 1
        names = map_tasks(lambda _: threading.get_ident(), range(20))
        assert len(set(names)) == 1
    assert n_threads() == available_threads()
    with threads(None):
        assert n_threads() == available_threads()


def test_a_watcher_sees_every_task_and_only_inside_its_block() -> None:
    seen: list[tuple[int, int]] = []
    with watched(lambda done, total: seen.append((done, total))):
        map_tasks(abs, range(5))
    map_tasks(abs, range(5))
    totals = {total for _, total in seen}
    assert len(totals) == 1
    assert [done for done, _ in seen] == list(range(1, totals.pop() + 1))


def test_threads_are_given_back_after_an_error() -> None:
    with pytest.raises(KeyError), threads(1):
        raise KeyError
    assert n_threads() == available_threads()


def test_tasks_go_to_the_client_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one they run here."""
    seen = []
    monkeypatch.setattr(chunks, "compute", lambda *a, **k: seen.append(k["scheduler"]) or compute(*a, **k))
    map_tasks(abs, [1])
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
        with Client(cluster):
            assert map_tasks(worker_name, [1]) == [0]
        map_tasks(abs, [1])
    assert seen == [chunks.run_in_threads, chunks.run_in_threads]


# With each scheduler


@pytest.fixture(scope="module", params=["threads", "cluster of threads", "cluster of processes"])
def scheduler(request: pytest.FixtureRequest) -> Iterator[str]:
    """Activate one of the three."""
    if request.param == "threads":
        yield request.param
        return
    processes = request.param == "cluster of processes"
    workers = {"n_workers": 2, "threads_per_worker": 1} if processes else {"n_workers": 1, "threads_per_worker": 2}
    with LocalCluster(processes=processes, dashboard_address=":0", **workers) as cluster, Client(cluster):
        yield request.param


def tree_by_hand(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Add neighbours in groups of four, then groups of groups."""
    while len(parts) > 1:
        groups = [parts[i : i + 4] for i in range(0, len(parts), 4)]
        parts = [sum(group[1:], group[0]) for group in groups]
    return parts[0]


def test_every_scheduler_gives_the_same_bits(scheduler: str, toy: Toy) -> None:
    shared = np.linspace(0.1, 1, 7, dtype=np.float32)
    for n in (1, 4, 5, 17, 70):
        expected = tree_by_hand([rounding_sum(i, shared) for i in range(n)])
        for _ in range(3):
            np.testing.assert_array_equal(sum_tasks(rounding_sum, range(n), shared), expected)
    groups = [range(17), range(3, 4), range(70)]
    for found, items in zip(sum_groups(rounding_sum, groups, shared), groups, strict=True):
        np.testing.assert_array_equal(found, sum_tasks(rounding_sum, items, shared))
    integers, halves = sum_tasks(two, range(10), 3)
    assert integers.tolist() == [45, 30]
    np.testing.assert_allclose(halves, 4.5)
    assert map_tasks(abs, [-3, 2, -1]) == [3, 2, 1]
    assert map_tasks(builtin.mul, [1, 2], 5) == [5, 10]
    assert map_tasks(abs, []) == []
    # Packed genotypes travel as what they are: a path and some indices.
    X = draw((toy.store.n_samples, 3))
    operator = toy.operator()
    np.testing.assert_allclose(operator.matmat(X), operator.dense() @ X / operator.m, atol=1e-4)
    np.testing.assert_array_equal(operator.matmat(X), operator.matmat(X))


def test_a_list_or_a_dict_is_shared_as_it_is(scheduler: str) -> None:
    assert map_tasks(builtin.getitem, [{"a": 1}, {"a": 2}], "a") == [1, 2]
    assert map_tasks(pick, [0, 1], [[5], [6, 7]]) == [[5], [6, 7]]


def test_errors_reach_the_caller_as_they_are(scheduler: str) -> None:
    with pytest.raises(DamagedStoreError, match="chunk 3 is damaged"):
        map_tasks(fail, range(8))
    with pytest.raises(DamagedStoreError, match="chunk 3 is damaged"):
        sum_tasks(fail, range(8))
