"""Appending: as if converted in one go, refused where it does not fit, and killed at any moment without loss."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biolmm.errors import DamagedStoreError, InputFileError, OutputError, SampleMismatchError, VariantMismatchError
from biolmm.files.encoding import dosages_from_rows
from biolmm.store import append as append_module
from biolmm.store import swap
from biolmm.store.append import append
from biolmm.store.convert import call_one_by_one, convert, convert_sources
from biolmm.store.layout import chunk_path
from biolmm.store.read import GenotypeStore
from biolmm.store.verify import verify

WritePlink = Callable[..., Path]


def all_dosages(store: GenotypeStore) -> Any:
    rows = np.concatenate([store.read_rows(chunk) for chunk in range(store.n_chunks)])
    return dosages_from_rows(rows, store.encoding, store.n_samples)


def draw(n_variants: int, n_samples: int = 9, seed: int = 0) -> Any:
    return np.random.default_rng([seed, n_variants]).integers(0, 4, (n_variants, n_samples), dtype=np.uint8)


def values(calls: Any) -> Any:
    return np.where(calls == 3, np.nan, calls.astype(float))


def entries(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if ".zarr" in each.name)


@pytest.mark.parametrize("n_old", [30, 64, 150, 192])
def test_it_equals_a_conversion_of_everything(write_plink: WritePlink, tmp_path: Path, n_old: int) -> None:
    """Of fewer variants than a chunk, a whole chunk, whole chunks and a part, and whole chunks."""
    old, new = draw(n_old), draw(100, seed=1)
    a = write_plink(old, name="a", contigs=["1"] * n_old)
    b = write_plink(new, name="b", contigs=["chr2"] * 100)
    convert([a], tmp_path / "x.zarr", chunk_variants=64)
    store = append(tmp_path / "x.zarr", [b])
    np.testing.assert_array_equal(all_dosages(store), values(np.concatenate([old, new])))
    whole = convert([a, b], tmp_path / "whole.zarr", chunk_variants=store.chunk_variants)
    assert store.fingerprint == whole.fingerprint
    np.testing.assert_array_equal(store.alt_count, whole.alt_count)
    assert verify(store.path).is_intact
    assert store.chunk_variants == (192 if n_old <= 64 else 64)  # a store of one chunk is written again as a whole
    assert entries(tmp_path) == ["whole.zarr", "x.zarr"]


def test_chunks_that_stay_are_not_copied(write_plink: WritePlink, tmp_path: Path) -> None:
    store = convert([write_plink(draw(150), name="a")], tmp_path / "x.zarr", chunk_variants=64)
    before = [(store.path / chunk_path(store.encoding, chunk)).stat().st_ino for chunk in range(3)]
    done: list[int] = []

    def record(function: Callable[..., Any], items: Sequence[int], shared: Any) -> list[Any]:
        done.extend(items)
        return call_one_by_one(function, items, shared)

    store = append(store.path, [write_plink(draw(100), name="b", contigs=["2"] * 100)], map_tasks=record)
    after = [(store.path / chunk_path(store.encoding, chunk)).stat().st_ino for chunk in range(4)]
    assert after[:2] == before[:2]
    assert after[2] != before[2]
    assert done == [2, 3]


def test_chunks_are_copied_where_links_are_impossible(
    write_plink: WritePlink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert([write_plink(draw(150), name="a")], tmp_path / "x.zarr", chunk_variants=64)

    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    store = append(tmp_path / "x.zarr", [write_plink(draw(100), name="b", contigs=["2"] * 100)])
    np.testing.assert_array_equal(all_dosages(store), values(np.concatenate([draw(150), draw(100)])))


def test_people_may_come_in_another_order(write_plink: WritePlink, tmp_path: Path) -> None:
    new = draw(5)
    order = np.random.default_rng(4).permutation(9)
    convert([write_plink(draw(70), name="a")], tmp_path / "x.zarr", chunk_variants=64)
    shuffled = write_plink(new[:, order], name="b", contigs=["2"] * 5, sample_ids=[f"S{i}" for i in order])
    store = append(tmp_path / "x.zarr", [shuffled])
    np.testing.assert_array_equal(all_dosages(store)[70:], values(new))
    assert store.sample_id.tolist() == [f"S{i}" for i in range(9)]


def test_dosages_are_appended_with_their_quality(
    memory_source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.uniform(0, 2, (n, 7)) for n in (100, 90)]
    sources = [
        memory_source(part, f"{i}.mem", contigs=[str(i + 1)] * len(part), expected_squares=(part**2).sum(axis=1) + 1)
        for i, part in enumerate(parts)
    ]
    monkeypatch.setattr(append_module, "open_sources", lambda paths, sample_file: [sources[1]])
    old = convert_sources(sources[:1], tmp_path / "x.zarr", chunk_variants=64)
    store = append(old.path, [sources[1].path])
    whole = convert_sources(sources, tmp_path / "y.zarr", chunk_variants=64)
    np.testing.assert_array_equal(store.info, whole.info)
    np.testing.assert_array_equal(store.r2, whole.r2)
    np.testing.assert_array_equal(all_dosages(store), all_dosages(whole))
    assert verify(store.path).is_intact


def test_contigs_are_spelled_as_in_the_store(write_plink: WritePlink, tmp_path: Path) -> None:
    """Of a species with a contig 38, 23 is not X, although the files that are appended hold nothing else."""
    convert([write_plink(draw(2), name="a", contigs=["1", "38"])], tmp_path / "x.zarr")
    store = append(tmp_path / "x.zarr", [write_plink(draw(2), name="b", contigs=["23", "chr1"])])
    with pytest.raises(VariantMismatchError, match="has 1 of the 1 variants"):
        append(tmp_path / "x.zarr", [write_plink(draw(1), name="c", contigs=["chr23"])])
    assert store.contig_id == ("1", "38", "23")
    assert [store.contig_id[i] for i in store.variant_contig] == ["1", "38", "1", "23"]


def test_provenance_lists_what_was_appended(write_plink: WritePlink, tmp_path: Path) -> None:
    first = convert([write_plink(draw(70), name="a")], tmp_path / "x.zarr").fingerprint
    for name, contig in (("b", "2"), ("c", "3")):
        store = append(tmp_path / "x.zarr", [write_plink(draw(5), name=name, contigs=[contig] * 5)])
    provenance = store.attributes["provenance"]
    assert [Path(each["files"][0]["path"]).name for each in provenance["appended"]] == ["b.bed", "c.bed"]
    assert provenance["appended"][0]["to_fingerprint"] == first
    assert Path(provenance["files"][0]["path"]).name == "a.bed"


def test_the_same_files_again_change_nothing(write_plink: WritePlink, tmp_path: Path) -> None:
    convert([write_plink(draw(70), name="a")], tmp_path / "x.zarr")
    b = write_plink(draw(5), name="b", contigs=["2"] * 5)
    append(tmp_path / "x.zarr", [b])
    before = (tmp_path / "x.zarr").stat().st_ino
    assert append(tmp_path / "x.zarr", [b]).n_variants == 75
    assert (tmp_path / "x.zarr").stat().st_ino == before


def test_a_loop_over_contigs_may_be_run_again(write_plink: WritePlink, tmp_path: Path) -> None:
    """Every file that is in the store already, converted first or appended at any time, changes nothing."""
    files = [write_plink(draw(20 + i), name=f"c{i}", contigs=[str(i)] * (20 + i)) for i in (1, 2, 3)]
    for _ in range(2):
        if not (tmp_path / "x.zarr").exists():
            convert(files[:1], tmp_path / "x.zarr")
        for each in files:
            store = append(tmp_path / "x.zarr", [each])
    assert store.n_variants == 66
    assert store.contig_id == ("1", "2", "3")


def test_other_people_are_refused(write_plink: WritePlink, tmp_path: Path) -> None:
    convert([write_plink(draw(4, 3), name="a")], tmp_path / "x.zarr")
    for ids, problem in (
        (["S0", "S1"], r"it lacks 1 \(S2\)"),
        (["S0", "S1", "S2", "T"], r"it has 1 others \(T\)"),
        (["S0", "S1", "T"], r"it lacks 1 \(S2\) and it has 1 others \(T\)"),
    ):
        b = write_plink(draw(2, len(ids)), name="b", contigs=["2"] * 2, sample_ids=ids)
        with pytest.raises(SampleMismatchError, match=rf"b\.bed does not hold the 3 samples of .*x\.zarr: {problem}"):
            append(tmp_path / "x.zarr", [b])
    assert entries(tmp_path) == ["x.zarr"]


def test_variants_of_the_store_are_refused(write_plink: WritePlink, tmp_path: Path) -> None:
    """The same place with other alleles is another variant, but it belongs among those that are there."""
    convert([write_plink(draw(4, 3), name="a")], tmp_path / "x.zarr")
    b = write_plink(draw(3, 3), name="b")
    with pytest.raises(
        VariantMismatchError, match=r"x\.zarr has 3 of the 3 variants of .*b\.bed already: 1:1, 1:11, 1:21"
    ):
        append(tmp_path / "x.zarr", [b])
    bim = b.with_suffix(".bim")
    bim.write_text("".join(f"1 v{i} 0 {10 * i + 1} T{i} G\n" for i in range(3)))
    with pytest.raises(
        VariantMismatchError, match=r"variants of contig 1 from position 1, but .* up to 31: .* together"
    ):
        append(tmp_path / "x.zarr", [b])
    bim.write_text("".join(f"1 v{i} 0 {31 + i} T{i} G\n" for i in range(3)))
    assert append(tmp_path / "x.zarr", [b]).n_variants == 7


def test_a_file_changed_meanwhile_leaves_the_old_store(write_plink: WritePlink, tmp_path: Path) -> None:
    old = convert([write_plink(draw(70), name="a")], tmp_path / "x.zarr")
    b = write_plink(draw(5), name="b", contigs=["2"] * 5)

    def meanwhile(function: Callable[..., Any], items: Sequence[int], shared: Any) -> list[Any]:
        os.utime(b, ns=(1, 1))
        return call_one_by_one(function, items, shared)

    with pytest.raises(InputFileError, match=r"b\.bed was changed"):
        append(old.path, [b], map_tasks=meanwhile)
    assert GenotypeStore.open(old.path).fingerprint == old.fingerprint
    assert append(old.path, [b]).n_variants == 75


class Killed(BaseException):
    """What a kill looks like from inside."""


STEPS = [
    (append_module.StoreWriter, "begin"),
    (append_module.StoreWriter, "adopt_chunk"),
    (append_module.StoreWriter, "write_chunk"),
    (append_module.StoreWriter, "publish"),
    (append_module, "check_unchanged"),
    (append_module, "swap_stores"),
    (append_module, "remove_store"),
    (Path, "rename"),
    (Path, "replace"),
    (shutil, "rmtree"),
    (swap, "_exchange"),
]


@pytest.mark.parametrize(
    ("owner", "name", "exchange"),
    [(*step, True) for step in STEPS] + [(Path, "rename", False), (append_module, "swap_stores", False)],
    ids=[name for _, name in STEPS] + ["rename without exchange", "swap_stores without exchange"],
)
def test_killed_at_any_moment_it_leaves_one_or_the_other_and_continues(
    write_plink: WritePlink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, exchange: bool
) -> None:
    """Kill it before and after each call of a step, in turn, until it gets through."""
    old_calls, new_calls = draw(150), draw(20, seed=1)
    a, b = write_plink(old_calls, name="a"), write_plink(new_calls, name="b", contigs=["2"] * 20)
    path = tmp_path / "x.zarr"
    old = convert([a], path, chunk_variants=64).fingerprint
    if not exchange:
        monkeypatch.setattr(swap, "_exchange", lambda *_: False)
    really = getattr(owner, name)
    seen = set()
    for n_calls in range(60):
        count = [0]

        def step(*args: Any, count: list[int] = count, n_calls: int = n_calls, **kwargs: Any) -> Any:
            count[0] += 1
            if count[0] == n_calls // 2 + 1 and n_calls % 2 == 0:
                raise Killed
            result = really(*args, **kwargs)
            if count[0] == n_calls // 2 + 1:
                raise Killed
            return result

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, step)
            try:
                append(path, [b])
            except Killed:
                pass
            else:
                break
        if path.exists():
            seen.add(GenotypeStore.open(path).fingerprint)
            assert verify(path).is_intact
        else:
            assert not exchange
            with pytest.raises(InputFileError, match=r"it is at x\.zarr\.before: appending to it was stopped"):
                GenotypeStore.open(path)
    store = append(path, [b])
    assert len(seen | {old, store.fingerprint}) == 2
    np.testing.assert_array_equal(all_dosages(store), values(np.concatenate([old_calls, new_calls])))
    assert verify(path).is_intact
    assert entries(tmp_path) == ["x.zarr"]


def test_what_is_in_the_way_is_not_removed(write_plink: WritePlink, tmp_path: Path) -> None:
    old = convert([write_plink(draw(70), name="a")], tmp_path / "x.zarr")
    (tmp_path / "x.zarr.appended").mkdir()
    (tmp_path / "x.zarr.appended" / "thesis.tex").write_text("")
    with pytest.raises(OutputError, match=r"x\.zarr\.appended exists and is not a store"):
        append(old.path, [write_plink(draw(5), name="b", contigs=["2"] * 5)])
    assert (tmp_path / "x.zarr.appended" / "thesis.tex").exists()
    assert GenotypeStore.open(old.path).fingerprint == old.fingerprint


def test_a_damaged_store_is_not_built_on(write_plink: WritePlink, tmp_path: Path) -> None:
    store = convert([write_plink(draw(70), name="a")], tmp_path / "x.zarr", chunk_variants=64)
    file = store.path / chunk_path(store.encoding, 1)
    file.write_bytes(b"")
    with pytest.raises(DamagedStoreError, match=r"chunk 1 \(variants 65 to 70\)"):
        append(store.path, [write_plink(draw(5), name="b", contigs=["2"] * 5)])
    (store.path / chunk_path(store.encoding, 0)).unlink()
    with pytest.raises((DamagedStoreError, OutputError)):
        append(store.path, [write_plink(draw(5), name="b", contigs=["2"] * 5)])
