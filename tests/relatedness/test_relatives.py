"""Kinship is KING's: by definition, by PLINK 2, and true to simulated families."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biolmm.chunks import threads
from biolmm.errors import MemoryBudgetError, ParameterError
from biolmm.files.encoding import Encoding
from biolmm.genotypes.filters import VariantFilters
from biolmm.relatedness import relatives
from biolmm.relatedness.relatives import RelativesConfig, degree_of, find_relatives
from biolmm.store.convert import convert
from biolmm.store.read import GenotypeStore
from oracles.toy import Calls, write_store
from running import run_command, succeed

from .conftest import CONTIGS, chosen, draw_calls, write_bed

EVERY = RelativesConfig(min_kinship=-100.0)


def by_definition(calls: Calls) -> pd.DataFrame:
    """Count every pair by hand."""
    rows = []
    for i in range(calls.shape[1]):
        for j in range(i + 1, calls.shape[1]):
            a, b = (calls[:, k][(calls[:, i] != 3) & (calls[:, j] != 3)].astype(int) for k in (i, j))
            fewer = min((a == 1).sum(), (b == 1).sum())
            if fewer:
                # Manichaikul et al. 2010, equation 11
                het_het, opposite = ((a == 1) & (b == 1)).sum(), (abs(a - b) == 2).sum()
                mean = ((a == 1).sum() + (b == 1).sum()) / 4
                kinship = (het_het - 2 * opposite) / (2 * fewer) + 0.5 - mean / fewer
                rows.append((f"S{i}", f"S{j}", len(a), het_het / len(a), opposite / len(a), kinship))
    return pd.DataFrame(rows, columns=list(relatives.COLUMNS[:-1])).set_index(["sample_id_1", "sample_id_2"])


def same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Compare the numbers of all pairs."""
    mine = found.set_index(["sample_id_1", "sample_id_2"]).drop(columns="degree")
    assert len(mine) == len(expected)
    pd.testing.assert_frame_equal(mine.loc[expected.index], expected, check_dtype=False, rtol=1e-12)


@pytest.mark.parametrize("tile", [64, 128, 1024])
def test_is_its_definition(monkeypatch: pytest.MonkeyPatch, store: GenotypeStore, calls: Calls, tile: int) -> None:
    index = np.random.default_rng(3).permutation(203)[:70]
    monkeypatch.setattr(relatives, "SLAB_VARIANTS", 128)
    monkeypatch.setattr(relatives, "MAX_COLUMNS", 2)
    found = find_relatives(chosen(store, index), EVERY, tile_samples=tile)
    expected = by_definition(calls[:, index]).reset_index()
    for name in ("sample_id_1", "sample_id_2"):
        expected[name] = [f"S{index[int(text[1:])]}" for text in expected[name]]
    same(found, expected.set_index(["sample_id_1", "sample_id_2"]))
    assert found["kinship"].is_monotonic_decreasing


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_small_cohorts(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    n, m = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 70))
    calls = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n * m, max_size=n * m)), np.uint8).reshape(m, n)
    store = write_store(tmp_path_factory.mktemp("small") / "c.zarr", calls)
    same(find_relatives(chosen(store), EVERY, tile_samples=4), by_definition(calls))


def test_plink_make_king_table(plink: str, calls: Calls, tmp_path: Path) -> None:
    write_bed(tmp_path / "c", np.vstack([calls, calls[20:50]]), [*CONTIGS, *["X"] * 30])
    options = ["--make-king-table", "--king-table-filter", "0.05", "--threads", "1", "--memory", "640"]
    subprocess.run([plink, "--bfile", "c", *options, "--out", "p"], cwd=tmp_path, check=True, capture_output=True)
    theirs = pd.read_csv(tmp_path / "p.kin0", sep="\t")
    succeed("relatives", tmp_path / "c.bed", "--out", tmp_path / "r.tsv", "--min-kinship", "0.05")
    mine = pd.read_csv(tmp_path / "r.tsv", sep="\t", dtype={"degree": "Int64"})
    assert len(mine) == len(theirs) > 100
    pair = [frozenset(two) for two in zip(theirs["IID1"], theirs["IID2"], strict=True)]
    mine.index = pd.Index([frozenset(two) for two in zip(mine["sample_id_1"], mine["sample_id_2"], strict=True)])
    for here, there in (("n_variants", "NSNP"), ("het_het", "HETHET"), ("ibs0", "IBS0"), ("kinship", "KINSHIP")):
        np.testing.assert_allclose(mine.loc[pair, here], theirs[there], rtol=6e-6, err_msg=here)


def test_families_are_found_across_populations(tmp_path: Path) -> None:
    """Two populations far apart, in each parents with two children; a twin of the first child."""
    rng = np.random.default_rng(8)
    n_variants = 12_000
    p = rng.uniform(0.1, 0.9, n_variants)
    people = []
    for _ in range(2):
        drifted = np.clip(p + rng.normal(0, 0.15, n_variants), 0.02, 0.98)
        parents = rng.random((2, 2, n_variants)) < drifted
        children = [
            [parents[k, rng.integers(0, 2, n_variants), np.arange(n_variants)] for k in range(2)] for _ in range(2)
        ]
        people += [parents[0].sum(axis=0), parents[1].sum(axis=0), *(np.sum(child, axis=0) for child in children)]
    people.append(people[2])
    calls = np.array(people, np.uint8).T
    store = write_store(tmp_path / "c.zarr", calls, chunk_variants=1024)
    found = find_relatives(chosen(store))
    pairs = {(a, b): d for a, b, d in zip(found["sample_id_1"], found["sample_id_2"], found["degree"], strict=True)}
    family = [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    expected = {(f"S{a + base}", f"S{b + base}"): 1 for base in (0, 4) for a, b in family}
    expected |= {("S2", "S8"): 0, **{(f"S{k}", "S8"): 1 for k in (0, 1, 3)}}
    assert pairs == expected
    children = found[(found["degree"] == 1) & found["sample_id_1"].isin(["S0", "S1"])]
    assert (children["ibs0"] == 0).all()


def test_dosages_count_as_calls(calls: Calls, tmp_path: Path) -> None:
    write_bed(tmp_path / "c", calls, CONTIGS)
    hard, soft = (
        find_relatives(chosen(convert([tmp_path / "c.bed"], tmp_path / f"{name}.zarr", encoding=name)), EVERY)
        for name in ("calls", "dosage8")
    )
    assert GenotypeStore.open(tmp_path / "dosage8.zarr").encoding is Encoding.DOSAGE8
    pd.testing.assert_frame_equal(hard, soft)


def test_chunks_and_workers_change_nothing(store: GenotypeStore, calls: Calls, tmp_path: Path) -> None:
    first = find_relatives(chosen(store), tile_samples=64)
    other = write_store(tmp_path / "o.zarr", calls, CONTIGS, chunk_variants=192)
    with threads(3):
        pd.testing.assert_frame_equal(find_relatives(chosen(other, cache_bytes=2**20), tile_samples=1024), first)


def test_filters_and_limits(store: GenotypeStore, calls: Calls) -> None:
    frequent = RelativesConfig(-100.0, VariantFilters(max_missing=0.12))
    kept = (calls == 3).mean(axis=1) <= 0.12
    assert 100 < kept.sum() < 290
    index = np.arange(20)
    kept = (calls[:, index] == 3).mean(axis=1) <= 0.12
    same(find_relatives(chosen(store, index), frequent), by_definition(calls[kept][:, index]))
    with pytest.raises(MemoryBudgetError, match="lower --threads"):
        find_relatives(chosen(store), memory_bytes=1000)
    with pytest.raises(ParameterError, match=r"at most 0\.5"):
        RelativesConfig(0.7)
    assert degree_of(np.array([0.36, 0.35, 0.17, 0.08, 0.04])).tolist() == [0, 1, 2, 3, -1]


def test_killed_it_goes_on(tmp_path: Path) -> None:
    calls = draw_calls(128, 203)
    folder = tmp_path / "parts"
    store = write_store(tmp_path / "c.zarr", calls)
    first = find_relatives(chosen(store), parts=folder, tile_samples=16)
    parts = sorted(folder.rglob("*.npz"))
    assert len(parts) > 10
    parts[3].write_bytes(parts[3].read_bytes()[:100])
    parts[4].unlink()
    before = {part: part.stat().st_ino for part in parts[5:]}
    pd.testing.assert_frame_equal(find_relatives(chosen(store), parts=folder, tile_samples=16), first)
    assert before == {part: part.stat().st_ino for part in parts[5:]}
    find_relatives(chosen(store), RelativesConfig(0.1), parts=folder, tile_samples=16)
    assert not any(part.exists() for part in parts)


def test_kill_of_the_command(tmp_path: Path) -> None:
    store = write_store(tmp_path / "c.zarr", draw_calls(2000, 2200, missing=0.0), chunk_variants=512)
    out = tmp_path / "r.tsv"
    command = [
        sys.executable,
        "-m",
        "biolmm.cli",
        "--quiet",
        "relatives",
        str(store.path),
        "--out",
        str(out),
        "--threads",
        "1",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and not list(tmp_path.glob("r.tsv.partial/*/*.npz")):
        time.sleep(0.0005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    subprocess.run(command, check=True, capture_output=True)
    found = pd.read_csv(out, sep="\t", dtype={"degree": "Int64"})
    expected = find_relatives(chosen(store))
    assert found["sample_id_2"].tolist() == expected["sample_id_2"].tolist()
    assert not (tmp_path / "r.tsv.partial").exists()


def test_another_table_is_not_replaced(store: GenotypeStore, tmp_path: Path) -> None:
    out = tmp_path / "r.tsv"
    succeed("relatives", store.path, "--out", out)
    first = out.read_text()
    assert json.loads((tmp_path / "r.tsv.json").read_text())["genotypes"]["path"] == str(store.path)
    succeed("relatives", store.path, "--out", out)
    (tmp_path / "keep.txt").write_text("".join(f"S{i}\n" for i in range(100)))
    for words in (("--min-kinship", "0.2"), ("--keep", tmp_path / "keep.txt"), ("--min-maf", "0.2")):
        refused = run_command("relatives", store.path, "--out", out, *words)
        assert (refused.code, "--overwrite" in refused.err) == (2, True), refused.err
        assert out.read_text() == first
    succeed("relatives", store.path, "--out", out, "--min-kinship", "0.2", "--plan")
    assert out.read_text() == first
    succeed("relatives", store.path, "--out", out, "--min-kinship", "0.2", "--overwrite")
    assert 0 < len(pd.read_csv(out, sep="\t")) < first.count("\n") - 1


def test_a_table_that_nobody_knows_is_not_replaced(store: GenotypeStore, tmp_path: Path) -> None:
    out = tmp_path / "r.tsv"
    out.write_text("mine\n")
    refused = run_command("relatives", store.path, "--out", out)
    assert (refused.code, "r.tsv.json" in refused.err, out.read_text()) == (2, True, "mine\n")
    # A run that failed leaves nothing that stops the next.
    (tmp_path / "pcs.tsv").write_text("sample_id\tPC1\nnobody\t1\n")
    failed = run_command("relatives", store.path, "--out", tmp_path / "s.tsv", "--pcs", tmp_path / "pcs.tsv")
    assert failed.code == 2
    succeed("relatives", store.path, "--out", tmp_path / "s.tsv")
