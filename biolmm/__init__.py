"""Linear mixed models for biobank-scale genotypes.

store = biolmm.open_store("cohort.zarr")                        # a lazy xarray Dataset
model = biolmm.fit(store, traits=traits, covariates=covariates)    # heritability, predictors
hits = biolmm.scan(store, model)                                # a lazy Dataset, variants × traits
hits.biolmm.manhattan("height")
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biolmm.pipeline.interactive import fit, scan
    from biolmm.relatedness.grm import open_grm
    from biolmm.reml.model import NullModel, open_model
    from biolmm.results.dataset import open_results
    from biolmm.store.convert import convert
    from biolmm.store.from_sgkit import from_sgkit
    from biolmm.store.open import open_store
    from biolmm.store.to_sgkit import to_sgkit
    from biolmm.sumstats.matrix.read import open_sumstats
    from biolmm.terminal import progress

__all__ = [
    "NullModel",
    "convert",
    "fit",
    "from_sgkit",
    "open_grm",
    "open_model",
    "open_results",
    "open_store",
    "open_sumstats",
    "progress",
    "scan",
    "to_sgkit",
]

# Names are imported when they are first used, so that `biolmm --help` does not pay for them.
_HOMES = {
    "NullModel": "biolmm.reml.model",
    "convert": "biolmm.store.convert",
    "fit": "biolmm.pipeline.interactive",
    "from_sgkit": "biolmm.store.from_sgkit",
    "open_grm": "biolmm.relatedness.grm",
    "open_model": "biolmm.reml.model",
    "open_results": "biolmm.results.dataset",
    "open_store": "biolmm.store.open",
    "open_sumstats": "biolmm.sumstats.matrix.read",
    "progress": "biolmm.terminal",
    "scan": "biolmm.pipeline.interactive",
    "to_sgkit": "biolmm.store.to_sgkit",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("biolmm")
    if name in _HOMES:
        import_module("biolmm.accessor")
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'biolmm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
