# %% [markdown]
# # A trait that follows the map
#
# Neighbours share water, weather and food. Where relatives live near each other, too, relatedness alone takes up what belongs
# to places; a spatial component beside it takes it back.

# %%
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd

import biolmm
from biolmm.covariance.spatial import SpatialKernel, globe_points
from biolmm.pipeline.components import components
from biolmm.simulate import SimulateConfig, simulate

folder = Path(mkdtemp())
rng = np.random.default_rng(3)

# %% [markdown]
# 400 people between 45 and 50 degrees north. What places add varies over about 100 km.

# %%
config = SimulateConfig(
    n_samples=400, n_variants=1000, h2=0.5, n_contigs=2, family_fraction=0.6, missing_traits=0, seed=1
)
files = simulate(config, folder / "c.zarr")
store = biolmm.open_store(files.store)
traits = pd.read_csv(files.traits, sep="\t", index_col="IID")[["trait1"]]
places = pd.DataFrame({"lat": rng.uniform(45, 50, 400), "lon": rng.uniform(5, 12, 400)}, index=traits.index)
points = globe_points(places["lat"].to_numpy(), places["lon"].to_numpy())
field = np.linalg.cholesky(SpatialKernel(points, 100.0).dense() + 1e-8 * np.eye(400)) @ rng.normal(size=400)
traits["trait1"] = traits["trait1"] / traits["trait1"].std() + field

# %% [markdown]
# Columns called `lat` and `lon` are degrees, and distances kilometres; others are taken as they are. Without `range=` six ranges
# are tried, and the likeliest is kept. The default is a Matérn function of smoothness 3/2, whose fields have slopes but no
# curvature.

# %%
results = components(store, traits, "genetic + spatial(lat, lon)", environment=places, n_threads=1)
print(results.table[["component", "variance", "share", "share_se", "lrt_p"]].round(4).to_string(index=False))
tried = results.settings["ranges"]["trait1"]
print(pd.Series(tried["log_likelihoods"], name="log-likelihood").rename_axis("range in km").round(2).to_string())

# %%
fit = results.fit("trait1")
place, genes = fit.component("spatial(lat, lon)"), fit.component("genetic")
chosen = tried["chosen"]["spatial(lat, lon)"]
print(f"range {chosen:.0f} km (simulated: 100)")
assert 25 < chosen < 400
assert place.lrt_p < 1e-6
assert abs(genes.share - 0.25) < 4 * genes.share_se

# %% [markdown]
# A kernel of another shape is a word away, and likelihoods compare them.

# %%
rough = components(
    store,
    traits,
    f"genetic + spatial(lat, lon, kernel=matern12, range={chosen:.0f})",
    environment=places,
    n_threads=1,
    test=False,
).fit("trait1")
print(
    f"log-likelihood {fit.log_likelihood:.2f} with Matérn 3/2, {rough.log_likelihood:.2f} with Matérn 1/2 of that range"
)
