"""Where the work runs: this machine, SLURM, Kubernetes, or a scheduler that is there already.

    with biolmm.cluster.connect("local", workers=4):
        biolmm.fit(...)

Inside the block every pass runs on the cluster's workers: `biolmm/chunks.py` uses the client of the process. Besides `chunks`
this is the only room that knows `distributed`: it starts and finds clusters, and computes nothing.
"""

from biolmm.cluster.connection import connect
from biolmm.cluster.options import ClusterOptions
from biolmm.cluster.ranks import Rank, find_rank

__all__ = ["ClusterOptions", "Rank", "connect", "find_rank"]
