"""Rows of a cohort: which are read, how often, and what is kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from biolmm.errors import DamagedStoreError
from biolmm.genotypes import source as source_module
from biolmm.genotypes.source import ChosenGenotypes, clear_cache
from biolmm.store.read import GenotypeStore
from oracles.toy import Toy, pack_rows, structured_calls, toy_contigs, write_store


def test_partitions_hold_every_chosen_variant_once_and_one_contig_each(small_toy: Toy) -> None:
    source = ChosenGenotypes.choose(small_toy.store, np.arange(small_toy.store.n_samples))
    np.testing.assert_array_equal(source.variants, np.arange(small_toy.store.n_variants))
    assert [p.index for p in source.partitions] == list(range(len(source.partitions)))
    for partition in source.partitions:
        assert np.all(small_toy.store.variant_contig[partition.variants] == partition.contig)
    assert source.n_variants == small_toy.store.n_variants


@pytest.mark.parametrize("kind", ["everybody", "subset", "reversed"])
@pytest.mark.parametrize("chosen", ["all", "every third", "a run", "shuffled"])
def test_rows_are_the_calls_of_the_cohort(small_toy: Toy, kind: str, chosen: str) -> None:
    n, m = small_toy.store.n_samples, small_toy.store.n_variants
    index = {"everybody": np.arange(n), "subset": np.arange(1, n, 2), "reversed": np.arange(n)[::-1]}[kind]
    variants = {
        "all": None,
        "every third": np.arange(0, m, 3),
        "a run": np.arange(60, 140),
        "shuffled": np.random.default_rng(0).permutation(m)[:50],
    }[chosen]
    source = ChosenGenotypes.choose(small_toy.store, index, variants)
    for partition in source.partitions:
        expected = pack_rows(small_toy.calls[partition.variants][:, index])
        np.testing.assert_array_equal(source.reader.rows(partition), expected)
    np.testing.assert_array_equal(source.variants, np.sort(np.arange(m) if variants is None else variants))


def test_no_variants_make_no_partitions(small_toy: Toy) -> None:
    source = ChosenGenotypes.choose(small_toy.store, np.arange(5), np.zeros(0, np.int64))
    assert source.partitions == ()
    assert source.variants.size == 0


def test_many_chunks_are_gathered_into_a_bounded_number_of_partitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_store(tmp_path / "x.zarr", structured_calls(64 * 12, 9))
    monkeypatch.setattr(source_module, "MAX_PARTITIONS", 4)
    source = ChosenGenotypes.choose(store, np.arange(9))
    assert len(source.partitions) == 4
    assert {len(p.variants) % 64 for p in source.partitions} == {0}


def test_only_needed_chunks_are_read_and_a_chunk_once_a_contig(small_toy: Toy, reads: Counter[int]) -> None:
    store = small_toy.store
    variants = np.concatenate([np.arange(10, 20), np.arange(130, 200)])
    source = ChosenGenotypes.choose(store, np.arange(store.n_samples), variants)
    for partition in source.partitions:
        source.reader.rows(partition)
    pairs = {(int(v) // 64, int(store.variant_contig[v])) for v in variants}
    assert reads == Counter(chunk for chunk, _ in pairs)


def test_what_fits_the_budget_is_kept_and_never_more(small_toy: Toy, reads: Counter[int]) -> None:
    clear_cache()
    n = small_toy.store.n_samples
    sizes = [
        len(p.variants) * small_toy.store.row_bytes
        for p in ChosenGenotypes.choose(small_toy.store, np.arange(n)).partitions
    ]
    budget = sizes[0] + sizes[1] + 1
    source = ChosenGenotypes.choose(small_toy.store, np.arange(n), cache_bytes=budget)
    for _ in range(2):
        for partition in source.partitions:
            source.reader.rows(partition)
    assert source_module._CACHE._n_bytes <= budget
    assert source.reader.rows(source.partitions[0]) is source.reader.rows(source.partitions[0])
    before = reads.total()
    source.reader.rows(source.partitions[0])
    assert reads.total() == before
    source.reader.rows(source.partitions[-1])
    assert reads.total() > before
    clear_cache()


def test_the_cache_tells_cohorts_apart(small_toy: Toy) -> None:
    clear_cache()
    n = small_toy.store.n_samples
    for index in (np.arange(n), np.arange(n)[::-1], np.arange(0, n, 2)):
        source = ChosenGenotypes.choose(small_toy.store, index, cache_bytes=10**9)
        partition = source.partitions[0]
        for _ in range(2):
            expected = pack_rows(small_toy.calls[partition.variants][:, index])
            np.testing.assert_array_equal(source.reader.rows(partition), expected)
    clear_cache()


def test_a_damaged_chunk_is_reported_not_used(tmp_path: Path) -> None:
    store = write_store(tmp_path / "x.zarr", structured_calls(200, 40), toy_contigs(200))
    file = next((tmp_path / "x.zarr" / "call_alt_count" / "c" / "1").glob("*"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    source = ChosenGenotypes.choose(GenotypeStore.open(store.path), np.arange(40))
    with pytest.raises(DamagedStoreError, match="chunk 1"):
        for partition in source.partitions:
            source.reader.rows(partition)
