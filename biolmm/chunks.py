"""The only module that talks to Dask: run a function over parts of the data and add up what it returns.

The scheduler is whatever is active: a `distributed` client when there is one in this process, otherwise threads.
Parts and the shape of the reduction tree come from the data alone, so sums have the same order for any number of
workers.

A run that is asked to stop (`request_stop`) finishes the tasks in hand, hands out no others, and raises `Stopped`.
"""

from __future__ import annotations

import copy
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from importlib.metadata import version
from itertools import accumulate
from typing import Any, TypeVar

from dask.base import compute
from dask.callbacks import Callback
from dask.delayed import Delayed, delayed
from dask.threaded import get as run_in_threads  # by its name Dask would import distributed to look it up
from threadpoolctl import threadpool_limits

from biolmm.errors import ParameterError, Stopped, WorkersLostError
from biolmm.parcels import REMEDY, Parcel, call_opened, versions
from biolmm.processors import available_threads

Item = TypeVar("Item")
Value = TypeVar("Value")

FAN_IN = 4
"""How many partial results one node of the reduction tree adds."""

RETRIES = 3
"""How often a cluster repeats a task that raised an error: shared storage fails now and then."""
_POLL_SECONDS = 0.25
_LOOK_SECONDS, _ANSWER_SECONDS = 5.0, 30.0

_threads: ContextVar[int | None] = ContextVar("biolmm_threads", default=None)
_watcher: ContextVar[Callable[[int, int], None] | None] = ContextVar("biolmm_watcher", default=None)


_checked: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()
"""Workers of each client that are known to run the same program."""

_stop = threading.Event()
_stop_reason = ""


def request_stop(reason: str = "on request") -> None:
    """Ask whatever computes in this process to finish the tasks in hand and raise `Stopped`."""
    global _stop_reason
    _stop_reason = reason
    _stop.set()


def clear_stop() -> None:
    """Forget that anybody asked to stop."""
    _stop.clear()


def check_stop() -> None:
    """Raise `Stopped` when somebody asked to stop; for long work outside of tasks."""
    if _stop.is_set():
        raise Stopped(f"stopped at a checkpoint {_stop_reason}; the same command continues")


def n_threads() -> int:
    """Threads in use: what `threads` set, else every available processor."""
    return _threads.get() or available_threads()


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Use `count` threads (None: all available) for tasks and for dense algebra inside the block.

    Raises
    ------
    ParameterError
        When the count is not positive.
    """
    if count is not None and count < 1:
        raise ParameterError(f"threads is {count} but must be at least 1.")
    token = _threads.set(count)
    try:
        with threadpool_limits(limits=n_threads()):
            yield
    finally:
        _threads.reset(token)


@contextmanager
def watched(watcher: Callable[[int, int], None]) -> Iterator[None]:
    """Call `watcher(done, total)` as tasks finish inside the block; on a cluster, as parts of `map_tasks` and sums do."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def is_watched() -> bool:
    """Whether somebody watches tasks already."""
    return _watcher.get() is not None


def has_cluster() -> bool:
    """Whether tasks of this process run on a cluster."""
    return _client() is not None


def map_tasks(function: Callable[..., Value], items: Sequence[Item], shared: Any = None) -> list[Value]:
    """Return `[function(item, shared) for item in items]`, computed in parallel.

    `shared` is published once and handed to every call; without it the function is called with the item alone.
    """
    in_hand = _InHand(function)
    return list(_compute(_tasks(in_hand, items, shared), in_hand, keep=True))


def sum_tasks(function: Callable[..., Value], items: Sequence[Item], shared: Any = None) -> Value:
    """Return the sum of `function(item, shared)` over `items` by a tree of fixed shape.

    The function returns an array, or a tuple of arrays that are added one by one. Partial results are added in
    an order given by the items alone.

    Raises
    ------
    ValueError
        When there are no items.
    """
    return sum_groups(function, [items], shared)[0]


def sum_groups(function: Callable[..., Value], groups: Sequence[Sequence[Item]], shared: Any = None) -> list[Value]:
    """Return the sum of each group of items, bit for bit what `sum_tasks` makes of it; no group waits for another.

    Raises
    ------
    ValueError
        When a group has no items.
    """
    if not all(len(items) for items in groups):
        raise ValueError("nothing to add up: there are no tasks")
    in_hand = _InHand(function)
    tasks = _tasks(in_hand, [item for items in groups for item in items], shared)
    stops = accumulate(len(items) for items in groups)
    sums = [_tree(tasks[stop - len(items) : stop]) for items, stop in zip(groups, stops, strict=True)]
    return list(_compute(sums, in_hand))


def _tree(level: list[Delayed]) -> Delayed:
    """Add results up by a tree whose shape follows from their number."""
    add = delayed(_add, pure=False)
    in_place = _client() is None  # a worker may keep a task's result and hand it out again
    while len(level) > 1:
        level = [add(level[i : i + FAN_IN], in_place) for i in range(0, len(level), FAN_IN)]
    return level[0]


class _InHand:
    """The calls of one graph that threads of this process have begun; none begins after a stop."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._count = 0
        self._changed = threading.Condition()

    def __call__(self, *arguments: Any) -> Any:
        with self._changed:
            check_stop()
            self._count += 1
        try:
            return self.function(*arguments)
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    def wait(self) -> None:
        """Wait for the calls that have begun."""
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0)


def _tasks(in_hand: _InHand, items: Sequence[Any], shared: Any) -> list[Delayed]:
    client = _client()
    if client is not None:
        return _tasks_on_cluster(client, in_hand.function, items, shared)
    call = delayed(in_hand, pure=False)
    if shared is None:
        return [call(item) for item in items]
    published = delayed(shared, name=f"shared-{uuid.uuid4().hex}", traverse=False)
    return [call(item, published) for item in items]


def _tasks_on_cluster(client: Any, function: Callable[..., Any], items: Sequence[Any], shared: Any) -> list[Delayed]:
    """Pack the calls of a function, for workers that run the same program.

    None of them prefers a worker: Dask never places a task whose preferred worker has gone while there was none at all.
    """
    call, packed = delayed(call_opened, pure=False), Parcel(function)
    name = getattr(function, "__name__", type(function).__name__)
    more = []
    if shared is not None:
        more.append(delayed(Parcel(shared), name=f"shared-{uuid.uuid4().hex}", traverse=False))
    check_workers(client)
    return [call(packed, Parcel(item), *more, dask_key_name=f"{name}-{uuid.uuid4().hex}") for item in items]


def check_workers(client: Any) -> None:
    """Make sure that every worker of a client runs the same program as this process.

    Raises
    ------
    ParameterError
        When a worker has another version, or cannot import biolmm.
    """
    known = _checked.setdefault(client, set())
    new = sorted(set(client.nthreads()) - known)
    found: dict[str, Any] = {}
    if new:
        with suppress(TimeoutError):  # of one that died as soon as it came: it is asked again while it is listed
            found = client.sync(client._run, versions, workers=new, on_error="return", callback_timeout=_ANSWER_SECONDS)
    for address, theirs in found.items():
        if isinstance(theirs, OSError):
            continue  # it has left meanwhile
        if theirs != versions():
            raise ParameterError(f"the worker {address} {_differs(client, address, theirs)}: {REMEDY}.")
        known.add(address)


def _differs(client: Any, address: str, theirs: Any) -> str:
    """Say how a worker differs from this process."""
    mine = versions()
    if isinstance(theirs, dict):
        differing = [name for name in mine if theirs.get(name) != mine[name]]
        there, here = (", ".join(f"{name} {each.get(name)}" for name in differing) for each in (theirs, mine))
        return f"has {there}, and this process {here}"
    installed = client.run(version, "biolmm", workers=[address], on_error="return").get(address)
    has = f"has biolmm {installed}" if isinstance(installed, str) else "has no biolmm"
    return f"{has}, and this process {mine['biolmm']} ({type(theirs).__name__}: {theirs})"


def _add(parts: list[Any], in_place: bool) -> Any:
    """Add results up, in the first of them where nobody else can hold it."""
    total = parts[0] if in_place else copy.deepcopy(parts[0])
    for part in parts[1:]:
        if isinstance(total, tuple):
            for mine, other in zip(total, part, strict=True):
                mine += other
        else:
            total += part
    return total


def _compute(tasks: list[Delayed], in_hand: _InHand, *, keep: bool = False) -> tuple[Any, ...]:
    """Compute a graph; with `keep` its tasks leave something behind, and those in hand are finished before a stop."""
    if not tasks:
        return ()
    check_stop()
    client = _client()
    watcher = _watcher.get()
    # One BLAS thread a task: tasks x BLAS threads = processors. Workers that are processes of their own are started by
    # Dask with one BLAS thread each; those inside this process need the limit as threads do.
    with threadpool_limits(limits=1), _Watch(watcher) if watcher and client is None else nullcontext():
        if client is not None:
            return _on_cluster(client, tasks, keep=keep)
        try:
            return tuple(compute(*tasks, scheduler=run_in_threads, num_workers=n_threads(), optimize_graph=False))
        except Stopped:
            in_hand.wait()
            raise


def _on_cluster(client: Any, tasks: list[Delayed], *, keep: bool) -> tuple[Any, ...]:
    """Compute on the workers of a client, looking out for errors and for a request to stop."""
    from distributed import wait

    futures = client.compute(tasks, optimize_graph=False, retries=RETRIES)
    watcher = _watcher.get()
    waiting = list(futures)
    looked = time.monotonic()
    try:
        while waiting:
            with suppress(TimeoutError):
                wait(waiting, timeout=_POLL_SECONDS)
            if time.monotonic() - looked > _LOOK_SECONDS:
                looked = time.monotonic()
                check_workers(client)  # some may have come meanwhile
            for future in waiting:
                if future.status == "error":
                    _raise(future)
            waiting = [future for future in waiting if not future.done()]
            if watcher:
                watcher(len(futures) - len(waiting), len(futures))
            if waiting and _stop.is_set():
                begun = _begun(client) if keep else set()
                client.cancel([future for future in waiting if future.key not in begun])
                wait([future for future in waiting if future.key in begun])
                check_stop()
        return tuple(client.gather(futures))
    except BaseException:
        client.cancel(futures, reason="the run ends")
        raise


def _begun(client: Any) -> set[Any]:
    """Name the tasks that workers have begun; those that wait at a worker are not among them."""
    found = client.run(_executing, on_error="ignore")
    return {key for keys in found.values() for key in keys}


def _executing(dask_worker: Any) -> list[Any]:
    return [task.key for task in dask_worker.state.executing]


def _raise(future: Any) -> None:
    """Raise the error of a task, and say what to do where its workers died."""
    try:
        future.result()
    except Exception as error:
        if type(error).__name__ != "KilledWorker":
            raise
        raise WorkersLostError(
            "workers died again and again over the same task, most often of too little memory: give each worker more "
            "(--worker-memory), or fewer threads. The same command continues."
        ) from error


class _Watch(Callback):
    """Counts finished tasks of one graph."""

    def __init__(self, watcher: Callable[[int, int], None]) -> None:
        super().__init__()
        self._watcher = watcher
        self._total = 0

    def _start_state(self, dsk: Any, state: Any) -> None:
        self._total = sum(len(state[name]) for name in ("ready", "waiting"))

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        self._watcher(len(state["finished"]), self._total)


def _client() -> Any:
    """Find the active `distributed` client, without importing distributed where nobody has."""
    worker = sys.modules.get("distributed.worker")
    client_module = sys.modules.get("distributed.client")
    if worker is None or client_module is None:
        return None
    try:
        return client_module.default_client()
    except ValueError:
        return None
