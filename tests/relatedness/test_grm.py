"""The relatedness matrix is what its definition says, however it is cut, read, left out of, stopped or damaged."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from biolmm.chunks import threads
from biolmm.errors import (
    DamagedStoreError,
    InputFileError,
    MemoryBudgetError,
    OutputError,
    ParameterError,
    StoreFormatError,
    VariantMismatchError,
)
from biolmm.genotypes.filters import VariantFilters
from biolmm.genotypes.source import ChosenGenotypes, clear_cache
from biolmm.relatedness import tiles
from biolmm.relatedness.build import GrmConfig, build_grm, plan_grm
from biolmm.relatedness.grm import Grm, open_grm
from biolmm.relatedness.sparse import open_sparse, save_sparse, sparse_grm
from biolmm.store.convert import convert
from biolmm.store.read import GenotypeStore
from oracles.toy import Calls, write_store

from .conftest import CONTIGS, chosen, draw_calls, write_bed

BUDGET = 2**30
SINGLE = 2e-6
"""Entries are of order 1, sums of 300 products in single precision: ε √300."""


def by_definition(calls: Calls, config: GrmConfig) -> NDArray[np.float64]:
    """Return K in double precision: sums over variants, divided by their weights or by those that both have."""
    called = calls != 3
    n = np.maximum(called.sum(axis=1), 1)
    d = np.where(called, calls, 0).astype(float)
    mean = d.sum(axis=1) / n
    observed = (np.where(called, (d - mean[:, None]) ** 2, 0)).sum(axis=1) / n
    varies = observed > 0
    variance = np.where(varies, observed if config.scale == "sample" else mean * (1 - mean / 2), 1.0)
    Z = np.where(called, (d - mean[:, None]) * variance[:, None] ** (config.alpha / 2), 0.0) * varies[:, None]
    weight = variance ** (1 + config.alpha) * varies
    sums = Z.T @ Z
    if config.missing == "mean":
        return sums / weight.sum()
    return sums / (called.T @ (weight[:, None] * called))


def build(store: GenotypeStore, out: Path, config: GrmConfig | None = None, **options: Any) -> Grm:
    """Build with small tiles."""
    return build_grm(chosen(store), out, config or GrmConfig(tile_samples=64), memory_bytes=BUDGET, **options)


@pytest.mark.parametrize("missing", ["mean", "pairwise"])
@pytest.mark.parametrize(("alpha", "scale"), [(-1.0, "hwe"), (-1.0, "sample"), (0.0, "hwe"), (-0.25, "sample")])
def test_is_its_definition(
    store: GenotypeStore, calls: Calls, tmp_path: Path, alpha: float, scale: Any, missing: Any
) -> None:
    config = GrmConfig(alpha=alpha, scale=scale, missing=missing, tile_samples=64)
    expected = by_definition(calls, config)
    np.testing.assert_allclose(build(store, tmp_path / "k.zarr", config).dense(), expected, atol=SINGLE)


def test_pairs_missing_together_are_counted_alike_one_by_one_and_by_a_product(
    store: GenotypeStore, calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = GrmConfig(missing="pairwise", tile_samples=64)
    for share, name in ((0.0, "product"), (1.0, "pairs")):
        monkeypatch.setattr(tiles, "SPARSE_SHARE", share)
        grm = build(store, tmp_path / f"{name}.zarr", config)
        both = (calls != 3).astype(float)
        both[[7, 11]] = 0  # do not vary
        everyone = np.arange(grm.n_samples)
        np.testing.assert_array_equal(grm.weights(everyone, everyone), both.T @ both)


@pytest.mark.parametrize("missing", ["mean", "pairwise"])
def test_leaves_out_a_contig(store: GenotypeStore, calls: Calls, tmp_path: Path, missing: Any) -> None:
    config = GrmConfig(missing=missing, per_contig=True, tile_samples=64)
    grm = build(store, tmp_path / "k.zarr", config)
    assert grm.contigs == ("1", "2", "3")
    np.testing.assert_allclose(grm.dense(), by_definition(calls, config), atol=SINGLE)
    for contig in grm.contigs:
        rest = calls[np.array(CONTIGS) != contig]
        np.testing.assert_allclose(grm.without(contig).dense(), by_definition(rest, config), atol=2 * SINGLE)
    with pytest.raises(ParameterError, match=r"'4'.*it has 1, 2, 3"):
        grm.without("4")
    with pytest.raises(ParameterError, match="without --per-contig"):
        build(store, tmp_path / "whole.zarr").without("1")


def test_some_samples_and_filters(store: GenotypeStore, calls: Calls, tmp_path: Path) -> None:
    index = np.random.default_rng(2).permutation(203)[:150]
    config = GrmConfig(missing="pairwise", filters=VariantFilters(min_maf=0.2, max_missing=0.2), tile_samples=64)
    grm = build_grm(chosen(store, index), tmp_path / "k.zarr", config, memory_bytes=BUDGET)
    mine = calls[:, index]
    called = (mine != 3).sum(axis=1)
    p = np.where(mine != 3, mine, 0).sum(axis=1) / np.maximum(2 * called, 1)
    kept = (np.minimum(p, 1 - p) >= 0.2) & (called >= 0.8 * 150)
    assert 0 < kept.sum() < 200
    np.testing.assert_allclose(grm.dense(), by_definition(mine[kept], config), atol=2 * SINGLE)
    assert grm.sample_id.tolist() == store.sample_id[index].tolist()
    assert grm.n_variants == int(kept.sum())


def test_chunks_workers_and_panels_change_no_bit(
    calls: Calls, store: GenotypeStore, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("biolmm.relatedness.slabs.SLAB_VARIANTS", 100)
    config = GrmConfig(missing="pairwise", tile_samples=64)
    first = build(store, tmp_path / "a.zarr", config).dense()
    other = write_store(tmp_path / "other.zarr", calls, CONTIGS, chunk_variants=192)
    for name, count in (("b", 1), ("c", 5)):
        clear_cache()
        with threads(count):
            again = build_grm(chosen(other, cache_bytes=2**20), tmp_path / f"{name}.zarr", config, memory_bytes=BUDGET)
        np.testing.assert_array_equal(again.dense(), first)


def test_tiles_change_rounding_only(store: GenotypeStore, tmp_path: Path) -> None:
    one, other = (build(store, tmp_path / f"{n}.zarr", GrmConfig(tile_samples=n)).dense() for n in (64, 256))
    np.testing.assert_allclose(one, other, atol=SINGLE)


def test_single_precision_is_left_every_few_thousand_variants(
    store: GenotypeStore, calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "EXACT_EVERY", 1)
    monkeypatch.setattr("biolmm.relatedness.slabs.SLAB_VARIANTS", 32)
    config = GrmConfig(tile_samples=64)
    np.testing.assert_allclose(build(store, tmp_path / "k.zarr").dense(), by_definition(calls, config), atol=5e-7)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_small_cohorts(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    n, m = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 12))
    calls = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n * m, max_size=n * m)), np.uint8).reshape(m, n)
    folder = tmp_path_factory.mktemp("small")
    config = GrmConfig(missing=data.draw(st.sampled_from(["mean", "pairwise"])), tile_samples=64)
    store = write_store(folder / "c.zarr", calls)
    varies = [len(set(row[row < 3].tolist())) > 1 for row in calls]
    if not any(varies):
        with pytest.raises(VariantMismatchError, match="varies"):
            build(store, folder / "k.zarr", config)
        return
    with np.errstate(invalid="ignore"):
        expected = by_definition(calls[varies], config)
    np.testing.assert_allclose(build(store, folder / "k.zarr", config).dense(), expected, atol=2e-6, rtol=2e-6)


def test_dosages(calls: Calls, store: GenotypeStore, tmp_path: Path) -> None:
    """Whole dosages are calls, and the missing ones are counted alike."""
    write_bed(tmp_path / "c", calls, CONTIGS)
    dosages = convert([tmp_path / "c.bed"], tmp_path / "d.zarr", encoding="dosage8")
    config = GrmConfig(missing="pairwise", tile_samples=64)
    one, other = build(store, tmp_path / "a.zarr", config), build(dosages, tmp_path / "b.zarr", config)
    np.testing.assert_allclose(one.dense(), other.dense(), atol=SINGLE)
    everyone = np.arange(203)
    np.testing.assert_array_equal(one.weights(everyone, everyone), other.weights(everyone, everyone))


def test_parts_and_products(store: GenotypeStore, tmp_path: Path) -> None:
    grm = build(store, tmp_path / "k.zarr")
    K = grm.dense()
    np.testing.assert_array_equal(K, K.T)
    np.testing.assert_array_equal(grm.rows(60, 131), K[60:131].astype(np.float32))
    rng = np.random.default_rng(3)
    index = rng.permutation(203)[:90]
    np.testing.assert_array_equal(grm.dense(index), K[np.ix_(index, index)])
    np.testing.assert_array_equal(grm.submatrix(index[:7], index[50:]), K[np.ix_(index[:7], index[50:])])
    np.testing.assert_array_equal(grm.diagonal(), np.diag(K))
    X = rng.standard_normal((203, 5))
    np.testing.assert_allclose(grm.matmat(X), K @ X, rtol=1e-12, atol=1e-12)
    single = grm.matmat(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, K @ X, atol=1e-5 * np.abs(K).sum(axis=1).max())
    assert grm.submatrix([], [1]).shape == (0, 1)
    with pytest.raises(ValueError, match="203 rows"):
        grm.matmat(X[:5])


def test_opens_as_a_symmetric_lazy_dataset(store: GenotypeStore, tmp_path: Path) -> None:
    grm = build(store, tmp_path / "k.zarr", GrmConfig(missing="pairwise", per_contig=True, tile_samples=64))
    dataset = open_grm(tmp_path / "k.zarr")
    assert isinstance(dataset, xr.Dataset)
    assert dataset.relatedness.chunks == ((64, 64, 64, 11), (64, 64, 64, 11))
    np.testing.assert_array_equal(dataset.relatedness.values, grm.dense())
    np.testing.assert_array_equal(dataset.relatedness[150:10:-7, 3].values, grm.dense()[150:10:-7, 3])
    everyone = np.arange(203)
    np.testing.assert_array_equal(dataset.pair_weight.values, grm.weights(everyone, everyone))
    weighted = (dataset.contig_relatedness * dataset.contig_m).sum("contigs") / dataset.contig_m.sum()
    assert weighted.shape == (203, 203)
    assert dataset.sample_id_0.values.tolist() == store.sample_id.tolist()


def test_sparse(store: GenotypeStore, tmp_path: Path) -> None:
    grm = build(store, tmp_path / "k.zarr")
    K = grm.dense()
    expected = np.where((K >= 0.15) | np.eye(203, dtype=bool), K, 0.0)
    found = sparse_grm(grm, 0.15)
    assert 203 < found.matrix.nnz < 2000
    np.testing.assert_array_equal(found.matrix.toarray(), expected)
    again = open_sparse(save_sparse(found, tmp_path / "k.npz"))
    np.testing.assert_array_equal(again.matrix.toarray(), expected)
    assert again.sample_id.tolist() == store.sample_id.tolist()
    with pytest.raises(ParameterError, match="positive"):
        sparse_grm(grm, 0.0)
    (tmp_path / "k.npz").write_bytes((tmp_path / "k.npz").read_bytes()[:-30])
    with pytest.raises(InputFileError, match=r"k\.npz"):
        open_sparse(tmp_path / "k.npz")


def test_refuses_what_cannot_be_done(store: GenotypeStore, tmp_path: Path) -> None:
    out = tmp_path / "k.zarr"
    first = build(store, out)
    other = GrmConfig(alpha=0.0, tile_samples=64)
    with pytest.raises(OutputError, match=r"other inputs or options.*--overwrite"):
        build(store, out, other)
    np.testing.assert_array_equal(Grm.open(out).dense(), first.dense())
    assert build(store, out, other, overwrite=True).m != 298
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="not a relatedness matrix"):
            build(store, store.path, overwrite=overwrite)
    with pytest.raises(StoreFormatError, match="biolmm grm"):
        Grm.open(store.path)
    with pytest.raises(InputFileError, match="no such"):
        Grm.open(tmp_path / "none.zarr")
    with pytest.raises(ParameterError, match="multiple of 64"):
        GrmConfig(tile_samples=100)
    with pytest.raises(MemoryBudgetError, match="lower --threads"):
        build_grm(chosen(store), tmp_path / "small.zarr", memory_bytes=2**20)


def test_a_finished_matrix_is_recognised(store: GenotypeStore, tmp_path: Path) -> None:
    out = tmp_path / "k.zarr"
    expected = build(store, out).dense()
    (tmp_path / "k.zarr.partial").mkdir()  # as another run that was stopped may have left it
    before = inodes(out)
    np.testing.assert_array_equal(build(store, out).dense(), expected)
    assert inodes(out) == before
    (out / "zarr.json").write_text((out / "zarr.json").read_text().replace("biolmm_key", "biolmm_kex"))
    with pytest.raises(OutputError, match=r"damaged.*--overwrite"):
        build(store, out)


def test_the_plan_fits_the_budget(tmp_path: Path) -> None:
    wide = write_store(tmp_path / "c.zarr", draw_calls(64, 5000), ["1"] * 64)
    sides = []
    for budget in (640 * 2**20, 800 * 2**20, 2**30):
        with threads(2):
            plan = plan_grm(chosen(wide), GrmConfig(missing="pairwise"), budget)
        assert plan.stage.peak_bytes <= budget
        sides.append(plan.tile_samples)
    assert sides[0] < sides[1] < sides[2] == 2048


def test_no_more_memory_than_planned(tmp_path: Path) -> None:
    """The peak of a fresh process."""
    wide = write_store(tmp_path / "c.zarr", draw_calls(64, 5000), ["1"] * 64)
    arguments = [
        "--quiet",
        "grm",
        str(wide.path),
        "--out",
        str(tmp_path / "k.zarr"),
        "--missing",
        "pairwise",
        "--threads",
        "2",
    ]
    code = f"from biolmm.cli import main; main({arguments}); from biolmm.memory import peak_bytes; print(peak_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    with threads(2):
        planned = plan_grm(chosen(wide, cache_bytes=2**30), GrmConfig(missing="pairwise"), 2**32).stage.peak_bytes
    assert int(done.stdout.split()[-1]) <= planned < 2**31


@pytest.mark.parametrize(
    "file", ["relatedness/c/0/1/2", "relatedness/c/0/0/0", "layer_m/c/0", "sample_id/zarr.json", "zarr.json"]
)
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_damage_is_found(store: GenotypeStore, tmp_path: Path, file: str, how: str) -> None:
    build(store, tmp_path / "k.zarr")
    target = tmp_path / "k.zarr" / file
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 4
    if how == "remove":
        target.unlink()
    else:
        target.write_bytes(content[: len(content) // 2] if how == "cut" else content)
    with pytest.raises((DamagedStoreError, StoreFormatError), match=r"k\.zarr"):
        Grm.open(tmp_path / "k.zarr").dense()


def killed_when(n_markers: int, command: list[str], aside: Path) -> bool:
    """Start the command and kill it as soon as so many tiles are marked; False when it was faster."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if len(list((aside / "markers").glob("*.json"))) >= n_markers:
                break
            time.sleep(0.0005)
    finally:
        process.kill()
    return process.wait() == -signal.SIGKILL


def inodes(folder: Path) -> dict[str, int]:
    """Say which file each name is now."""
    return {str(p.relative_to(folder)): p.stat().st_ino for p in folder.rglob("*") if p.is_file()}


def test_killed_it_goes_on_with_the_tiles_that_are_missing(tmp_path: Path) -> None:
    calls = draw_calls(400, 700)
    store = write_store(tmp_path / "c.zarr", calls, ["1"] * 400)
    out = tmp_path / "k.zarr"
    options = ["--out", str(out), "--tile-samples", "64", "--missing", "pairwise", "--threads", "1"]
    command = [sys.executable, "-m", "biolmm.cli", "--quiet", "grm", str(store.path), *options]
    assert killed_when(5, command, tmp_path / "k.zarr.partial")
    assert not out.exists()
    damaged = sorted((tmp_path / "k.zarr.partial/markers").glob("*.json"))[0]
    damaged.write_text(damaged.read_text()[:-5])
    kept = inodes(tmp_path / "k.zarr.partial/store/relatedness/c")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    resumed = inodes(out / "relatedness/c")
    assert sum(resumed[name] == inode for name, inode in kept.items()) >= 4
    config = GrmConfig(missing="pairwise", tile_samples=64)
    alone = build_grm(chosen(store), tmp_path / "alone.zarr", config, memory_bytes=BUDGET)
    np.testing.assert_array_equal(Grm.open(out).dense(), alone.dense())
    assert not (tmp_path / "k.zarr.partial").exists()


def test_other_settings_begin_anew(store: GenotypeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "k.zarr"

    def stop(self: Any) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("biolmm.store.matrix_write.MatrixWriter.publish", stop)
        with pytest.raises(KeyboardInterrupt):
            build(store, out)
    other = GrmConfig(alpha=0.0, tile_samples=64)
    expected = build(store, tmp_path / "alone.zarr", other).dense()
    np.testing.assert_array_equal(build(store, out, other).dense(), expected)


def test_files_are_read_as_they_are(store: GenotypeStore, calls: Calls, tmp_path: Path, write_plink: Any) -> None:
    from biolmm.store.collection import Collection

    bed = write_plink(calls, contigs=CONTIGS)
    data = Collection.open([bed])
    source = ChosenGenotypes.choose(data, np.arange(203))
    found = build_grm(source, tmp_path / "k.zarr", GrmConfig(tile_samples=64), memory_bytes=BUDGET)
    np.testing.assert_allclose(found.dense(), build(store, tmp_path / "s.zarr").dense(), atol=SINGLE)
