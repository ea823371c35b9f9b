# %% [markdown]
# # Microbiability: the share of a trait that goes with the microbiome
#
# Standardised abundances of taxa make a similarity between people, as variants make relatedness. Its variance component, beside
# the genetic one, is the microbiability (Difford et al. 2018). The same works for methylation, transcripts or metabolites.

# %%
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd

import biolmm
from biolmm.pipeline.components import components
from biolmm.simulate import SimulateConfig, simulate

folder = Path(mkdtemp())
rng = np.random.default_rng(1)

# %% [markdown]
# 500 people, a third of the trait's variance genetic. Log abundances of 80 taxa, two of which nobody has measured well, add
# another share.

# %%
files = simulate(
    SimulateConfig(n_samples=500, n_variants=1000, h2=0.5, n_contigs=2, family_fraction=0.6, seed=4), folder / "c.zarr"
)
store = biolmm.open_store(files.store)
traits = pd.read_csv(files.traits, sep="\t", index_col="IID")[["trait1"]]
taxa = pd.DataFrame(
    rng.normal(size=(500, 80)) @ np.diag(rng.uniform(0.5, 2, 80)) + 3,
    index=store["sample_id"].values.astype(str),
    columns=[f"taxon{i}" for i in range(80)],
)
standardised = (taxa - taxa.mean()) / taxa.std()
effect = standardised.to_numpy() @ rng.normal(size=80) / np.sqrt(80)
traits["trait1"] = traits["trait1"] / traits["trait1"].std() + 0.8 * effect[taxa.index.get_indexer(traits.index)]
taxa.iloc[rng.random(500) < 0.1, :2] = np.nan

# %% [markdown]
# A table of features becomes a term under the name that it is given. Missing abundances count as the mean; features that do
# not vary are left out; the 500 × 500 similarity is never formed unless the cohort is small enough for the exact solver.

# %%
results = components(store, traits, "genetic + microbiome", features={"microbiome": taxa}, n_threads=1)
print(results.table[["component", "variance", "share", "share_se", "lrt", "lrt_p"]].round(4).to_string(index=False))

# %%
fit = results.fit("trait1")
truth = 0.64 / 1.64
microbiability = fit.component("microbiome")
assert abs(microbiability.share - truth) < 4 * microbiability.share_se
assert microbiability.lrt_p < 1e-6
print(f"microbiability {microbiability.share:.3f} ± {microbiability.share_se:.3f}, simulated {truth:.3f}")

# %% [markdown]
# Conditional AIC asks which model predicts these people's own values better, with the effective number of parameters that the
# random effects use up (Vaida & Blanchard 2005).

# %%
without = components(store, traits, "genetic", n_threads=1).fit("trait1")
print(f"conditional AIC with the microbiome {fit.conditional_aic:.1f}, without {without.conditional_aic:.1f}")
assert fit.conditional_aic < without.conditional_aic
