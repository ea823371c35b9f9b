"""Where the work runs: this machine, SLURM, Kubernetes, or a scheduler that is there already.

    with biolmm.cluster.connect("local", workers=4):
        biolmm.fit(...)

Inside the block every pass runs on the cluster's workers: `biolmm/chunks.py` uses the client of the process. Besides `chunks`
this is the only room that knows `distributed`: it starts and finds clusters, and computes nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biolmm.cluster.connection import connect
    from biolmm.cluster.options import ClusterOptions
    from biolmm.cluster.ranks import Rank, find_rank

__all__ = ["ClusterOptions", "Rank", "connect", "find_rank"]

# Imported when they are first used: commands that run in threads do not pay for Dask's scheduler.
_HOMES = {
    "ClusterOptions": "biolmm.cluster.options",
    "Rank": "biolmm.cluster.ranks",
    "connect": "biolmm.cluster.connection",
    "find_rank": "biolmm.cluster.ranks",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'biolmm.cluster' has no attribute {name!r}")
