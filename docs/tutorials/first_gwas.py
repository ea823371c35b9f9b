# %% [markdown]
# # A first association study in Python
#
# Simulate a small cohort, fit the null model, look at heritability, scan the genome, draw it. Run this file as a
# script, or cell by cell in an editor that knows `# %%` (Jupyter: `jupytext --to notebook first_gwas.py`).
# At this size everything takes a few seconds; nothing in it changes for a larger cohort.

# %%
from pathlib import Path
from tempfile import mkdtemp

import pandas as pd

import biolmm
from biolmm.simulate import SimulateConfig, simulate

folder = Path(mkdtemp())

# %% [markdown]
# A cohort of 400 people, a third of them with relatives, and two traits: with heritabilities of 0.5 and 0.2.
# The simulator writes a store, tables as people keep them, and the truth beside it.

# %%
config = SimulateConfig(n_samples=400, n_variants=2000, n_traits=2, h2=(0.5, 0.2), n_contigs=4, n_large=2, seed=3)
files = simulate(config, folder / "cohort.zarr")

# %% [markdown]
# The store opens as a lazy xarray Dataset: nothing is read before it is used.

# %%
store = biolmm.open_store(files.store)
print(store)

# %% [markdown]
# Traits and covariates are ordinary tables indexed by sample id. Order does not matter, and neither do people who are
# in one file only: everything is matched by id.

# %%
traits = pd.read_csv(files.traits, sep="\t", index_col="IID").drop(columns="FID")
covariates = pd.read_csv(files.covariates, sep="\t", index_col="IID").drop(columns="FID")
model = biolmm.fit(store, traits=traits, covariates=covariates)
print(model.h2.round(3).to_string(index=False))

# %% [markdown]
# `h2_se` is the sampling error, `h2_mc_se` what random probes add (zero here: at this size the solver is exact).
# The truth lies within a few standard errors.

# %%
for trait, truth in (("trait1", 0.5), ("trait2", 0.2)):
    found = model.h2.set_index("trait").loc[trait]
    assert abs(found["h2"] - truth) < 4 * found["h2_se"], (trait, found["h2"], truth)

# %% [markdown]
# The scan is lazy too: asking for values computes them. Accessor methods draw and tabulate.

# %%
hits = biolmm.scan(store, model)
table = hits.biolmm.table("trait1")
print(
    table.nlargest(5, "neg_log_10_p_value")[["chromosome", "base_pair_location", "rsid", "beta", "neg_log_10_p_value"]]
)
print(f"lambda_gc {hits.biolmm.lambda_gc('trait1'):.3f}")

# %%
hits.biolmm.manhattan("trait1").savefig(folder / "manhattan.png")
hits.biolmm.qq("trait1").savefig(folder / "qq.png")

# %% [markdown]
# A model can be kept and used again: for other variants of the same people, or in another session.

# %%
model.save(folder / "model")
again = biolmm.scan(store, biolmm.open_model(folder / "model"))
assert abs(again["chisq"] - hits["chisq"]).max() < 1e-6
print(f"pictures in {folder}")
