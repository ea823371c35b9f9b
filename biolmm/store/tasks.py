"""How the work of a store is spread: a function is called on each of many items, somewhere, in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class MapTasks(Protocol):
    """Calls a function on each item, possibly in other threads or processes; gives the results in the items' order.

    `shared` is what all calls need, sent once to each process; `biolmm.chunks.map_tasks` is the one that uses Dask.
    """

    def __call__(
        self, function: Callable[..., _Result], items: Sequence[_Item], shared: Any = None, /
    ) -> list[_Result]:
        """Return `[function(item, shared) for item in items]`; without `shared`, functions get the item alone."""


def call_one_by_one(function: Callable[..., _Result], items: Sequence[_Item], shared: Any = None, /) -> list[_Result]:
    """Call in this thread, in order: the `map_tasks` that needs no scheduler.

    Examples
    --------
    >>> call_one_by_one(abs, [-1, 2])
    [1, 2]
    >>> call_one_by_one(pow, [2, 3], 2)
    [4, 9]
    """
    return [function(item) if shared is None else function(item, shared) for item in items]
