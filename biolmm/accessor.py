"""`dataset.biolmm`: plots and tables of association results straight from a Dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from biolmm.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELS = ("chromosome", "base_pair_location", "effect_allele", "other_allele", "rsid")


@xr.register_dataset_accessor("biolmm")
class BiolmmAccessor:
    """Plots and tables of a Dataset that `biolmm.scan` or `biolmm.open_results` returned."""

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def table(self, trait: str) -> pd.DataFrame:
        """Return one trait's results, a row a variant; computes what has not been computed.

        Raises
        ------
        ParameterError
            When the Dataset has no such trait.
        """
        names = [str(name) for name in self._dataset["traits"].values]
        if trait not in names:
            raise ParameterError(f"there is no trait {trait!r}: the Dataset has {', '.join(names)}.")
        one = self._dataset.isel(traits=names.index(trait))
        labels = {name: one[name].values for name in _LABELS if name in one.coords}
        statistics = {str(name): one[name].values for name in one.data_vars}
        return pd.DataFrame({**labels, **statistics})

    def manhattan(self, trait: str) -> Figure:
        """Draw −log₁₀ p along the genome."""
        from biolmm.plots.manhattan import manhattan

        return manhattan(self.table(trait))

    def qq(self, trait: str) -> Figure:
        """Draw observed against expected −log₁₀ p, with λ_GC."""
        from biolmm.plots.qq import qq

        return qq(self.table(trait)["neg_log_10_p_value"], lambda_gc=self.lambda_gc(trait))

    def lambda_gc(self, trait: str) -> float:
        """Return the genomic inflation factor: median χ² over its expectation."""
        from biolmm.results.diagnostics import lambda_gc

        return float(lambda_gc(np.asarray(self.table(trait)["chisq"], dtype=np.float64)))
