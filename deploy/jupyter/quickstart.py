# %% [markdown]
# # biolmm in a notebook, on a cluster of your own
#
# Worker processes on this machine first; the same cells run on SLURM or on a scheduler elsewhere when one line changes.
# Run this file as a script, or cell by cell (`jupytext --to notebook quickstart.py`).

# %%
from pathlib import Path
from tempfile import mkdtemp

import pandas as pd

import biolmm
from biolmm.cluster import connect
from biolmm.simulate import SimulateConfig, simulate

# %% [markdown]
# ## The cluster
#
# `connect` gives a Dask client for as long as its block runs: everything that biolmm computes inside runs on the workers.
#
# * `connect("local", workers=4)`: processes on this machine, on the loopback interface only.
# * `connect("slurm", workers=8, memory_bytes=16 * 2**30)`: a job for each worker, replaced when it is lost, encrypted;
#   needs dask-jobqueue and a site file such as `deploy/slurm/jobqueue.yaml`.
# * `connect("tls://scheduler:8786", tls_directory=Path("tls"))`: a scheduler that is there, such as one on Kubernetes.
#
# Results are written by the workers: anything beyond this machine needs storage that all of them see.

# %%
target, options = "local", {"workers": 2}

# %% [markdown]
# ## An analysis
#
# The lines below are guarded because worker processes import this file when it is run as a script; in a notebook they
# are not.

# %%
if __name__ == "__main__":
    folder = Path(mkdtemp())
    files = simulate(
        SimulateConfig(n_samples=300, n_variants=1200, n_traits=1, h2=(0.5,), n_contigs=3), folder / "c.zarr"
    )
    traits = pd.read_csv(files.traits, sep="\t", index_col="IID").drop(columns="FID")
    covariates = pd.read_csv(files.covariates, sep="\t", index_col="IID").drop(columns="FID")
    store = biolmm.open_store(files.store)

    with connect(target, **options) as client:
        print(f"{len(client.scheduler_info()['workers'])} workers at {client.scheduler.address}")
        model = biolmm.fit(store, traits=traits, covariates=covariates)
        table = biolmm.scan(store, model).biolmm.table("trait1")

    print(model.h2.round(3).to_string(index=False))
    print(table.nlargest(3, "neg_log_10_p_value")[["chromosome", "rsid", "beta", "neg_log_10_p_value"]])

# %% [markdown]
# ## Watching it
#
# Progress is logged. Dask's dashboard is off: it would show the run to everybody who can reach the machine, and TLS does
# not cover it. For a look at what the workers do, ask for a report: `biolmm run --performance-report report.html -- …`.
