"""The only module that talks to Dask: run a function over parts of the data and add up what it returns.

The scheduler is whatever is active: a `distributed` client when there is one in this process, otherwise threads.
Parts and the shape of the reduction tree come from the data alone, so sums have the same order for any number of
workers.
"""

from __future__ import annotations

import copy
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

from dask.base import compute
from dask.callbacks import Callback
from dask.delayed import Delayed, delayed
from threadpoolctl import threadpool_limits

from biolmm.errors import ParameterError

Item = TypeVar("Item")
Value = TypeVar("Value")

FAN_IN = 4
"""How many partial results one node of the reduction tree adds."""

_threads: ContextVar[int | None] = ContextVar("biolmm_threads", default=None)
_watcher: ContextVar[Callable[[int, int], None] | None] = ContextVar("biolmm_watcher", default=None)


def available_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    """Call `watcher(done, total)` after every task of the threaded scheduler inside the block."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def map_tasks(function: Callable[..., Value], items: Sequence[Item], shared: Any = None) -> list[Value]:
    """Return `[function(item, shared) for item in items]`, computed in parallel.

    `shared` is published once and handed to every call; without it the function is called with the item alone.
    """
    return list(_compute(_tasks(function, items, shared)))


def sum_tasks(function: Callable[..., Value], items: Sequence[Item], shared: Any = None) -> Value:
    """Return the sum of `function(item, shared)` over `items` by a tree of fixed shape.

    The function returns an array, or a tuple of arrays that are added one by one. Partial results are added in
    an order given by the items alone.

    Raises
    ------
    ValueError
        When there are no items.
    """
    if not items:
        raise ValueError("nothing to add up: there are no tasks")
    level = _tasks(function, items, shared)
    add = delayed(_add, pure=False)
    in_place = _client() is None  # a worker may keep a task's result and hand it out again
    while len(level) > 1:
        level = [add(level[i : i + FAN_IN], in_place) for i in range(0, len(level), FAN_IN)]
    result: Value = _compute(level)[0]
    return result


def _tasks(function: Callable[..., Any], items: Sequence[Any], shared: Any) -> list[Delayed]:
    call = delayed(function, pure=False)
    if shared is None:
        return [call(item) for item in items]
    published = delayed(shared, name=f"shared-{uuid.uuid4().hex}", traverse=False)
    return [call(item, published) for item in items]


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


def _compute(tasks: list[Delayed]) -> tuple[Any, ...]:
    if not tasks:
        return ()
    client = _client()
    watcher = _watcher.get()
    # One BLAS thread a task: tasks x BLAS threads = processors. Workers that are processes of their own are started by
    # Dask with one BLAS thread each; those inside this process need the limit as threads do.
    with threadpool_limits(limits=1), _Watch(watcher) if watcher and client is None else nullcontext():
        if client is not None:
            return tuple(compute(*tasks, scheduler=client, optimize_graph=False))
        return tuple(compute(*tasks, scheduler="threads", num_workers=n_threads(), optimize_graph=False))


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
