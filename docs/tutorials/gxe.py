# %% [markdown]
# # Genes and environment
#
# Do genetic effects differ between environments? A second genetic component, whose covariance is that of the first times the
# environments of both people, is the variance of effects that grow with a continuous environment, or that belong to one
# category only.

# %%
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd

import biolmm
from biolmm.pipeline.components import components
from biolmm.simulate import SimulateConfig, simulate

folder = Path(mkdtemp())
rng = np.random.default_rng(0)

# %% [markdown]
# Two traits of independent genetics are simulated; the second one's effects are switched on by exercise.

# %%
config = SimulateConfig(
    n_samples=600,
    n_variants=1000,
    n_traits=2,
    h2=(0.5, 0.8),
    n_contigs=2,
    family_fraction=0.8,
    missing_traits=0,
    seed=6,
)
files = simulate(config, folder / "c.zarr")
store = biolmm.open_store(files.store)
simulated = pd.read_csv(files.traits, sep="\t", index_col="IID")
environment = pd.DataFrame(
    {"exercise": rng.normal(size=600), "clinic": rng.choice(["north", "south"], 600)}, index=simulated.index
)
noisy = np.where(environment["clinic"] == "south", 1.5, 0.5)
traits = pd.DataFrame(
    {
        "fitness": simulated["trait1"]
        + environment["exercise"] * (0.5 + simulated["trait2"])
        + rng.normal(size=600) * noisy
    }
)

# %% [markdown]
# `genetic:exercise` is the random slope. Noise that differs between clinics would look like an interaction with them, so it
# gets components of its own: `residual:clinic`. Exercise itself is added to the covariates.

# %%
formula = "genetic + genetic:exercise + residual:clinic + residual:exercise"
results = components(store, traits, formula, environment=environment, n_threads=1)
print(results.table[["component", "kind", "variance", "variance_se", "share", "lrt_p"]].round(4).to_string(index=False))
print(results.fixed.round(3).to_string(index=False))

# %%
fit = results.fit("fitness")
slope = fit.component("genetic:exercise")
assert slope.lrt_p < 0.01
assert fit.component("residual:clinic=south").variance > fit.component("residual:clinic=north").variance
assert fit.fixed["exercise"][0] > 0

# %% [markdown]
# What does not interact shows none: effects that belong to one clinic only.

# %%
other = components(store, traits, f"{formula} + genetic:clinic", environment=environment, n_threads=1).fit("fitness")
print(f"genetic:clinic has p = {other.component('genetic:clinic').lrt_p:.2f}")
assert other.component("genetic:clinic").lrt_p > 0.001
