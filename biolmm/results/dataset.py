"""Open results as an xarray Dataset (variants × traits) that reads a part only when its values are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from biolmm import schema
from biolmm.errors import InputFileError
from biolmm.places import place
from biolmm.results.associations import read_part
from biolmm.results.paths import ASSOCIATIONS, list_parts, list_traits, readable

TRAITS = "traits"

_STATISTICS = {
    "beta": "float64", "standard_error": "float64", "effect_allele_frequency": "float64",
    "neg_log_10_p_value": "float64", "chisq": "float64", "info": "float64", "n": "int32", "exact": "bool",
}  # fmt: skip
_LABELS = ("chromosome", "base_pair_location", "effect_allele", "other_allele", "variant_id", "rsid")
_DESCRIPTIONS = {column.name: column.description for column in schema.ASSOCIATION_COLUMNS}


class _LazyStatistic(BackendArray):
    """One statistic of all variants and traits; indexing reads the parts touched and nothing else."""

    def __init__(self, name: str, paths: list[list[Path]], ends: NDArray[np.int64]) -> None:
        self.name = name
        self.paths = paths
        self.ends = ends
        self.shape = (int(ends[-1]), len(paths))
        self.dtype = np.dtype(_STATISTICS[name])

    def __getitem__(self, key: Any) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        rows, traits = np.arange(self.shape[0])[key[0]], np.arange(self.shape[1])[key[1]]
        flat_rows, flat_traits = np.atleast_1d(rows), np.atleast_1d(traits)
        out = np.empty((flat_rows.size, flat_traits.size), dtype=self.dtype)
        part_of_row = np.searchsorted(self.ends, flat_rows, side="right")
        for part in np.unique(part_of_row):
            here = np.flatnonzero(part_of_row == part)
            start = int(self.ends[part - 1]) if part else 0
            for column, trait in enumerate(flat_traits):
                values = read_part(self.paths[trait][part], [self.name]).column(0).to_numpy()
                out[here, column] = values[flat_rows[here] - start]
        return out.reshape(np.shape(rows) + np.shape(traits))


def open_results(results_dir: Path, kind: str = ASSOCIATIONS) -> xr.Dataset:
    """Open a results directory as a lazy Dataset with dimensions `variants` and `traits`.

    Parameters
    ----------
    results_dir
        The directory that `gwas` wrote.
    kind
        `associations` (mixed model) or `linear` (plain regression).

    Returns
    -------
    Dataset
        Statistics (variants × traits), read on access; coordinates `variant_id`, `chromosome`,
        `base_pair_location`, alleles and `rsid`. Variants are in the order of the run.

    Raises
    ------
    InputFileError
        When there are no results, or the traits do not cover the same variants (an unfinished run).

    Notes
    -----
    Cost: the labels of all variants are read at once; every statistic costs one column of the parts touched.
    """
    results_dir = place(results_dir)
    traits = list_traits(results_dir, kind)
    parts = list_parts(results_dir, kind=kind)
    paths = [[path for name, _, path in parts if name == trait] for trait in traits]
    sizes = [[(p.parent.name, p.name, pq.read_metadata(readable(p)).num_rows) for p in of_trait] for of_trait in paths]
    for trait, size in zip(traits, sizes, strict=True):
        if size != sizes[0]:
            n, expected = sum(s[2] for s in size), sum(s[2] for s in sizes[0])
            raise InputFileError(
                f"{results_dir / kind} has {n:,} variants for trait {trait!r} but {expected:,} for {traits[0]!r}: "
                "the scan is unfinished; run the same command again."
            )
    ends = np.cumsum([rows for _, _, rows in sizes[0]])
    lazy = {
        name: xr.Variable(
            (schema.VARIANTS, TRAITS),
            indexing.LazilyIndexedArray(_LazyStatistic(name, paths, ends)),
            {"description": _DESCRIPTIONS[name]},
        )
        for name in _STATISTICS
    }
    labels = _labels(paths[0])
    coords = {name: (schema.VARIANTS, labels[name], {"description": _DESCRIPTIONS[name]}) for name in _LABELS}
    return xr.Dataset(
        lazy, {**coords, TRAITS: (TRAITS, np.array(traits))}, {"biolmm_results": str(results_dir), "kind": kind}
    )


def _labels(paths: list[Path]) -> dict[str, NDArray[Any]]:
    tables = [read_part(path, _LABELS) for path in paths]
    return {
        name: np.concatenate([table.column(name).to_numpy(zero_copy_only=False) for table in tables])
        for name in _LABELS
    }
