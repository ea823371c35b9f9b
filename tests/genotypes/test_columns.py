"""Some variants as columns: wherever they are, in any order, also twice."""

from __future__ import annotations

import numpy as np
import pytest

from biolmm.genotypes.columns import standardised_columns
from biolmm.genotypes.filters import VariantFilters
from biolmm.genotypes.source import ChosenGenotypes, clear_cache
from biolmm.store.collection import Collection
from oracles import dense
from oracles.toy import Toy


@pytest.mark.parametrize("variants", [[5, 5, 7], [700, 3, 3, 3, 4, 700], [9, 8, 7, 10], [], list(range(60, 70))])
def test_columns_are_those_asked_for(toy: Toy, variants: list[int]) -> None:
    """Two traits may share a lead: a variant asked for twice must not shift the others."""
    wanted = np.array(variants, np.int64)
    source = ChosenGenotypes.choose(toy.store, np.arange(toy.store.n_samples))
    found = standardised_columns(source, wanted)
    Z = dense.standardised(toy.calls)[0]
    np.testing.assert_allclose(found.Z, Z[wanted].T, atol=1e-5)
    called = toy.calls[wanted] < 3
    with np.errstate(invalid="ignore"):
        frequency = np.where(called, toy.calls[wanted], 0).sum(axis=1) / (2 * called.sum(axis=1))
    np.testing.assert_allclose(found.frequency, frequency)


def test_counts_alone_hold_no_columns(toy: Toy) -> None:
    source = ChosenGenotypes.choose(toy.store, np.arange(toy.store.n_samples))
    found = standardised_columns(source, np.array([5, 5, 2]), VariantFilters(min_maf=0.2), count_only=True)
    assert found.Z.shape[1] == 0
    maf = np.minimum(found.frequency, 1 - found.frequency)
    np.testing.assert_array_equal(found.passes, maf >= 0.2)


def test_rows_that_do_not_ascend_are_refused(toy: Toy) -> None:
    reader = ChosenGenotypes.choose(toy.store, np.arange(toy.store.n_samples)).reader
    with pytest.raises(ValueError, match="ascend"):
        reader.read_variants(np.array([5, 5, 7]))


def test_other_chunks_of_the_same_files_are_other_rows(write_plink) -> None:  # type: ignore[no-untyped-def]
    """Kept rows belong to a partition, and partitions depend on the chunks."""
    clear_cache()
    bed = write_plink(np.random.default_rng(2).integers(0, 3, (200, 20), dtype=np.uint8))
    found = []
    for chunk_variants in (128, 64):
        data = Collection.open([bed], chunk_variants=chunk_variants)
        source = ChosenGenotypes.choose(data, np.arange(20), cache_bytes=10**7)
        found.append(np.concatenate([source.reader.rows(part) for part in source.partitions]))
    np.testing.assert_array_equal(found[0], found[1])
    clear_cache()
