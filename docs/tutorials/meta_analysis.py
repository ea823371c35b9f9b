# %% [markdown]
# # Summary statistics: from three cohorts to one result
#
# Scan three cohorts apart, put their statistics into one store, check them, combine them, draw the result, and ask LD
# score regression how much is inherited and how much is confounding. Run this file as a script, or cell by cell. At
# this size it takes some seconds; files of published studies (`biolmm sumstats add store.zarr study.tsv.gz`) take the
# place of the scans.

# %%
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

import biolmm
from biolmm.files.ldscore_files import read_ld_scores
from biolmm.ld.score_files import write_scores
from biolmm.ld.scores import LdScoreConfig, Reach, ld_scores
from biolmm.pipeline import AnalysisConfig, Inputs, run_gwas
from biolmm.plots.forest import Summary, forest
from biolmm.plots.manhattan import manhattan
from biolmm.simulate import SimulateConfig, simulate
from biolmm.store.read import GenotypeStore
from biolmm.sumstats.analysis import MetaOptions, run_meta
from biolmm.sumstats.analysis.parts import read_parts
from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.ldsc.heritability import estimate_heritability, heritability_table
from biolmm.sumstats.ldsc.join import join
from biolmm.sumstats.ldsc.munge import MungeConfig
from biolmm.sumstats.ldsc.sources import read_traits
from biolmm.sumstats.matrix.change import add_studies

folder = Path(mkdtemp())

# %% [markdown]
# Nine hundred people, of whom each cohort has three hundred; a trait with a heritability of 0.6.
# On the command line: `biolmm simulate`.

# %%
config = SimulateConfig(n_samples=900, n_variants=3000, n_traits=1, h2=(0.6,), n_contigs=4, n_large=3, seed=8)
files = simulate(config, folder / "people.zarr")
people = [str(name) for name in biolmm.open_store(files.store)["sample_id"].values]

# %% [markdown]
# ## Three scans
#
# `biolmm gwas --genotypes people.zarr --traits … --keep cohort1.txt --out cohort1`

# %%
cohorts = ["cohort1", "cohort2", "cohort3"]
for number, cohort in enumerate(cohorts):
    (folder / f"{cohort}.txt").write_text("\n".join(people[number::3]) + "\n")
    inputs = Inputs(
        genotypes=(files.store,), traits=files.traits, covariates=files.covariates, keep=folder / f"{cohort}.txt"
    )
    run_gwas(AnalysisConfig(inputs, folder / cohort))

# %% [markdown]
# ## One store
#
# Text is parsed and alleles are matched once, whatever is done with the studies afterwards.
# `biolmm sumstats add studies.zarr cohort1 cohort2 cohort3 --exact`

# %%
store = add_studies(folder / "studies.zarr", [StudyInput(folder / cohort) for cohort in cohorts], Rules(exact=True))
print(f"{store.n_variants:,} variants of {', '.join(store.study_id)}")
studies = biolmm.open_sumstats(store.path)
print(studies)

# %% [markdown]
# The store is a lazy xarray Dataset. Effects of one variant in two cohorts should be alike, but for their errors:

# %%
z = (studies["beta"] / studies["se"]).to_dataframe(name="z")["z"].unstack("studies")
print(z.corr().round(3))

# %% [markdown]
# ## Meta-analysis
#
# Fixed effects by inverse variance, random effects beside them.
# `biolmm meta studies.zarr --out meta --random dl --gc`

# %%
found = run_meta(store, folder / "meta", MetaOptions(random="dl"), plots=False)
table = read_parts(found.out)
columns = ["rsid", "beta", "standard_error", "neg_log_10_p_value", "direction", "het_i2", "random_neg_log_10_p_value"]
print(table.nlargest(5, "neg_log_10_p_value")[columns].to_string(index=False))

# %% [markdown]
# Three cohorts together know more than each alone: the standard error falls as √3.

# %%
alone = np.nanmedian(studies["se"].values)
combined = table["standard_error"].median()
assert 1.6 < alone / combined < 1.9, (alone, combined)

# %% [markdown]
# ## Pictures
#
# `biolmm meta` draws Manhattan and QQ plots itself; the forest plot is `biolmm plot forest studies.zarr --variant rs…`.

# %%
manhattan(table).savefig(folder / "manhattan.png")
best = int(table["neg_log_10_p_value"].idxmax())
variant = studies.isel(variants=studies["variant_rsid"].values == int(table["rsid"][best].removeprefix("rs")))
beta, se = variant["beta"].values[0], variant["se"].values[0]
together = Summary("fixed effects", table["beta"][best], table["standard_error"][best])
forest(store.study_id, beta, se, [together], title=table["rsid"][best]).savefig(folder / "forest.png")

# %% [markdown]
# ## LD score regression
#
# LD scores of the people themselves, for want of a reference. `biolmm ld-scores people.zarr --out ld --window 2mb`, then
# `biolmm ldsc h2 meta --ld-scores ld`, or `studies.zarr` instead of `meta` for each cohort. Confounding would raise the
# intercept above 1; the ratio is its share of all inflation. With 3,000 variants the errors are large.

# %%
genotypes = GenotypeStore.open(files.store)
everybody = np.arange(genotypes.n_samples)
scores = ld_scores(genotypes, LdScoreConfig(Reach.parse("2mb")), samples=everybody)
write_scores(folder / "ld", genotypes, scores)
ld = read_ld_scores(folder / "ld")
everything = MungeConfig(alleles="any")
for source in (folder / "meta", store.path):
    traits = read_traits(source, everything, keep=ld)
    estimates = [estimate_heritability(join([trait], ld))[0] for trait in traits]
    shown = heritability_table(estimates)[["trait", "n_variants", "h2", "h2_se", "intercept", "intercept_se", "ratio"]]
    print(shown.round(3).to_string(index=False))
    if source.name == "meta":
        assert abs(estimates[0].h2 - 0.6) < 4 * estimates[0].h2_se, estimates[0].h2

# %% [markdown]
# Every scan can bring this table along: `biolmm gwas … --ld-scores ld` puts it into its report, with a verdict.

# %%
print(f"pictures in {folder}")
