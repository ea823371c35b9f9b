"""Dask's settings as a run that may lose machines wants them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
import dask.config
import distributed  # noqa: F401  its defaults are what the user's settings are told from

DEFAULTS: dict[str, Any] = {
    "distributed.scheduler.allowed-failures": 10,
    "distributed.scheduler.worker-ttl": "120s",
    "distributed.scheduler.no-workers-timeout": "20 minutes",
    "distributed.comm.retry.count": 3,
    "distributed.comm.timeouts.connect": "60s",
    "distributed.deploy.lost-worker-timeout": "5s",
    "distributed.worker.connections.outgoing": 10,
    "distributed.admin.large-graph-warning-threshold": "4 GiB",
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
"""Ours where the user has none: preemption counts as a failure of the tasks in hand, hence ten of them; a frozen worker is
given up after two minutes; a run without workers ends instead of waiting for ever; the columns of a pass travel inside its
graph, so a large one is no mistake; a worker serves them to ten others at a time, and the rest ask those; and nothing is
served over HTTP, which TLS would not cover."""

SECURE = {
    "distributed.comm.require-encryption": True,
    "distributed.comm.tls.min-version": 1.3,
}


@contextmanager
def applied(*, secure: bool = False) -> Iterator[None]:
    """Use `DEFAULTS` inside the block, but for what the user has set in a file, a variable or the program.

    With `secure` connections without TLS are refused whatever the user's settings say.
    """
    factory: dict[str, Any] = dask.config.merge(*dask.config.defaults)
    ours = {
        name: value
        for name, value in DEFAULTS.items()
        if dask.config.get(name, None) == dask.config.get(name, None, config=factory)
    }
    with dask.config.set({**ours, **(SECURE if secure else {})}):
        yield
