"""Principal components as covariates, computed once: a run that continues finds them, or the passes they need."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from biolmm.cohort import Cohort
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.linalg.probes import row_keys
from biolmm.reml.fit import whole_restriction
from biolmm.reml.spectrum import principal_components
from biolmm.stages import Stages, content_hash
from biolmm.store.arrays import open_dataset, save_dataset
from biolmm.store.checkpoint import checkpointed


def with_components(
    stages: Stages, key: str, operator: GenotypeOperator, cohort: Cohort, n_pcs: int, seed: int
) -> Cohort:
    """Return the cohort with the leading principal components appended to its covariates.

    Parameters
    ----------
    stages, key
        Where they are kept, and what the analysis depends on.
    operator
        The genotypes.
    cohort, n_pcs, seed
        Whose, how many, and the seed of the start.
    """
    if n_pcs == 0:
        return cohort
    mine = content_hash(key, operator.source.reader.key, n_pcs, seed)

    def build(path: Path) -> None:
        keys, whole = row_keys(cohort.sample_id.tolist()), whole_restriction(cohort)
        with checkpointed(stages.root / "pcs.checkpoint", mine) as checkpoint, operator.resuming(checkpoint):
            pairs = principal_components(operator, keys, whole, n_pcs, seed)
        save_dataset(xr.Dataset({"vectors": (("samples", "components"), pairs.vectors)}), path)

    path, _ = stages.run("pcs.zarr", mine, build)
    vectors = open_dataset(path)["vectors"].values
    return cohort.with_covariates([f"PC{i + 1}" for i in range(n_pcs)], vectors)
