"""The mice, and what other programs made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from biolmm.cohort import Cohort, CohortConfig, align_cohort
from biolmm.files.lists import read_variant_list
from biolmm.files.tables import read_table
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.store.convert import convert
from biolmm.store.read import GenotypeStore
from oracles.toy import operator_of


@dataclass(frozen=True)
class Mice:
    """Genotypes and traits of 1,940 mice."""

    folder: Path
    store: GenotypeStore
    traits: pd.DataFrame

    def rows(self, names: Any) -> NDArray[np.int64]:
        """Return the places of variants by name, in the order of the store."""
        return np.flatnonzero(np.isin(self.store.variant_id, np.asarray(names, dtype=str)))

    @property
    def mapped(self) -> NDArray[np.int64]:
        """The variants that GCTA used."""
        return self.rows(list(read_variant_list(self.folder / "mapped_variants.txt")))

    def cohort(self, trait: str, *, everybody: bool) -> Cohort:
        """Align one trait: all mice, or those with the trait only."""
        keep = None if everybody else tuple(map(str, self.traits.index[self.traits[trait].notna()]))
        return align_cohort(self.store.sample_id, self.traits, None, CohortConfig(trait_names=(trait,), keep=keep))

    def operator(self, cohort: Cohort, rows: NDArray[np.int64], **options: Any) -> GenotypeOperator:
        """Make K of some variants on a cohort."""
        return operator_of(self.store, cohort.sample_index, rows, cache_bytes=2**26, **options)

    def table(self, name: str, key: str) -> pd.DataFrame:
        """Read a table of another program, indexed by variant, in the order of the store."""
        found = pd.read_csv(self.folder / name, sep="\t").set_index(key)
        return found.loc[[variant for variant in self.store.variant_id.tolist() if variant in found.index]]


@pytest.fixture(scope="session")
def mice(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Mice:
    folder = shared_data / "mouse_hs1940"
    store = convert([folder / "mouse_hs1940.bed"], tmp_path_factory.mktemp("mouse") / "mouse.zarr", chunk_variants=1024)
    return Mice(folder, store, read_table(folder / "traits.tsv"))
