# %% [markdown]
# # Heritability by annotation
#
# How much of a trait's variance do the variants of one annotation explain, and is that more than their number would?
# Give every set of variants a variance component of its own; all of them read the genotypes in the same passes.

# %%
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd

import biolmm
from biolmm.pipeline.components import components
from biolmm.simulate import SimulateConfig, simulate

folder = Path(mkdtemp())

# %% [markdown]
# A cohort of 500 people in families, whose causal variants all lie on odd chromosomes: an annotation that matters.

# %%
config = SimulateConfig(
    n_samples=500, n_variants=1500, h2=0.6, n_contigs=4, causal_contigs="odd", family_fraction=0.6, seed=2
)
files = simulate(config, folder / "cohort.zarr")
store = biolmm.open_store(files.store)
traits = pd.read_csv(files.traits, sep="\t", index_col="IID")[["trait1"]]

# %% [markdown]
# Annotations are a table by variant; 1 says that a variant has one, other numbers are weights, and sets may overlap. Here
# `odd` is the truth, and `random` a set of a third of all variants that means nothing.

# %%
contig = store["contig_id"].values[store["variant_contig"].values]
rng = np.random.default_rng(0)
annotations = pd.DataFrame(
    {"odd": np.isin(contig, ["1", "3"]).astype(float), "random": (rng.random(len(contig)) < 1 / 3).astype(float)},
    index=store["variant_id"].values,
)

# %% [markdown]
# `genetic(annotations)` makes a term of every column and one, `other`, of the variants that have none. Each is scaled to mean
# diagonal 1, so that a component is the variance that its variants explain. `genetic(annotations)` in the results is their sum.

# %%
results = components(store, traits, "genetic(annotations)", annotations=annotations, n_threads=1)
print(results.table[["component", "variance", "share", "share_se", "lrt_p"]].round(4).to_string(index=False))

# %% [markdown]
# The total is close to the truth of 0.6, and nearly all of it is in `odd`. Enrichment is a share of heritability over a share
# of variants.

# %%
fit = results.fit("trait1")
total, odd = fit.component("genetic(annotations)"), fit.component("genetic[odd]")
assert abs(total.share - 0.6) < 4 * total.share_se
assert odd.lrt_p < 0.01
assert fit.component("genetic[random]").lrt_p > 0.001
print(f"enrichment of odd: {odd.share / total.share / annotations['odd'].mean():.2f}")

# %% [markdown]
# Other partitions need no table: `genetic(contigs)`, `genetic(maf)`, and with a column `L2` of LD scores `genetic(maf, ld)`
# (GREML-LDMS), which keeps heritability right where causal variants are rarer than the rest. One matrix for everything is a
# smaller model; AIC says whether the bins are worth their parameters.

# %%
one = components(store, traits, "genetic", n_threads=1).fit("trait1")
print(f"AIC with bins {fit.aic:.1f}, without {one.aic:.1f}")
assert fit.aic < one.aic
