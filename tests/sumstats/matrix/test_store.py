"""The store: what goes in comes out for ALT, whatever the order, the chunks, the strand, and whenever it is killed."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biolmm.chunks import map_tasks
from biolmm.errors import BiolmmError, DamagedStoreError, InputFileError, OutputError, ParameterError, StoreFormatError
from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.matrix import write
from biolmm.sumstats.matrix.change import Sizes, add_studies, remove_studies
from biolmm.sumstats.matrix.layout import CELLS, cell_path
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.matrix.verify import verify
from biolmm.sumstats.status import Status
from oracles.sumstats import mirrored, random_rows, same_variant, turn, write_study

TINY = Sizes(chunk_variants=64, stretch_rows=50, block_bytes=2000, run_rows=70)
EXACT = Rules(exact=True)


def study(folder: Path, name: str, rows: list[dict[str, Any]]) -> StudyInput:
    return StudyInput(write_study(folder / f"{name}.tsv", rows), name=name)


def table(store: SumstatsStore) -> dict[tuple[str, int, frozenset[str]], dict[str, tuple[float, ...]]]:
    """Read all through xarray: by place and alleles, per study beta (for the smaller allele), se, eaf, n, status' drop bits."""
    data = store.to_dataset().load()
    found: dict[tuple[str, int, frozenset[str]], dict[str, tuple[float, ...]]] = {}
    for i in range(store.n_variants):
        ref, alt = (str(a) for a in data["variant_allele"].values[i])
        contig = str(data["contig_id"].values[int(data["variant_contig"].values[i])])
        key = (contig, int(data["variant_position"].values[i]), frozenset((ref, alt)))
        assert key not in found
        sign = 1 if alt < ref else -1
        found[key] = {}
        for s, name in enumerate(store.study_id):
            eaf = float(data["eaf"].values[i, s])
            numbers = (sign * float(data["beta"].values[i, s]), float(data["se"].values[i, s]), eaf if sign > 0 else 1 - eaf,
                       float(data["n"].values[i, s]), int(data["status"].values[i, s]) & ~Status.SWAPPED.value)  # fmt: skip
            found[key][name] = tuple(round(float(x), 9) for x in numbers)
    return found


def same(one: Any, other: Any) -> bool:
    if one.keys() != other.keys():
        return False
    return all(np.array_equal(one[key][name], other[key][name], equal_nan=True) for key in one for name in one[key])


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return random_rows(300, seed=3)


def test_one_study_comes_back(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    store = add_studies(
        tmp_path / "s.zarr", [study(tmp_path, "one", rows)], Rules(exact=True, palindromic="trust"), sizes=TINY
    )
    assert store.n_variants == len(rows) and store.n_chunks > 3
    data = store.to_dataset().load()
    order = {(r["chromosome"], r["base_pair_location"]): r for r in rows}
    for i in range(store.n_variants):
        place = (
            str(data["contig_id"].values[int(data["variant_contig"].values[i])]),
            int(data["variant_position"].values[i]),
        )
        row = order[place]
        assert data["variant_allele"].values[i].tolist() == [row["other_allele"], row["effect_allele"]]
        for name, column in (
            ("beta", "beta"),
            ("se", "standard_error"),
            ("eaf", "effect_allele_frequency"),
            ("n", "n"),
        ):
            assert data[name].values[i, 0] == float(row[column])
        assert data["neg_log10_p"].values[i, 0] == pytest.approx(-math.log10(float(row["p_value"])), rel=1e-12)
        assert int(data["variant_rsid"].values[i]) == int(row["rsid"][2:])
    assert np.isnan(data["info"].values).all()
    assert verify(store.path).is_intact


def test_single_precision_keeps_p_only_where_it_differs(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    rows[0]["p_value"] = "1e-400"
    store = add_studies(tmp_path / "s.zarr", [study(tmp_path, "one", rows)], Rules(palindromic="trust"))
    data = store.to_dataset().load()
    assert data["beta"].dtype == np.float32
    tails = data["neg_log10_p"].values[:, 0]
    assert np.isfinite(tails).sum() == 1 and tails[0] == 400
    assert data["status"].values[0, 0] & Status.P_DISAGREES.value


@pytest.mark.parametrize("rule", ["trust", "frequency", "drop"])
def test_swapped_and_complemented_studies_are_the_same(tmp_path: Path, rows: list[dict[str, Any]], rule: Any) -> None:
    """Where strands are given by frequency, a palindromic variant whose strand is turned comes back too."""
    rng = np.random.default_rng(1)
    turned = [
        mirrored(r, swap=bool(rng.integers(2)), complement=rule == "frequency" and bool(rng.integers(2))) for r in rows
    ]
    store = add_studies(tmp_path / "s.zarr", [study(tmp_path, "a", rows), study(tmp_path, "b", turned)],
                        Rules(exact=True, palindromic=rule), sizes=TINY)  # fmt: skip
    assert store.n_variants == len(rows)
    blocks = list(store.blocks(columns=("beta", "se", "eaf", "n", "neg_log10_p")))
    for block in blocks:
        for name in block.cells:
            a, b = block.cells[name][:, 0], block.cells[name][:, 1]
            assert np.allclose(a, b, rtol=0, atol=1e-9 if name == "eaf" else 0, equal_nan=True)
    dropped = sum(int(np.isnan(block.cells["beta"][:, 0]).sum()) for block in blocks)
    assert (dropped > 0) == (rule != "trust")


@pytest.mark.parametrize("rule", ["trust", "frequency", "drop"])
def test_against_the_definition(tmp_path: Path, rule: Any) -> None:
    rng = np.random.default_rng(7)
    first = random_rows(200, seed=5)
    second = []
    for row in first:
        other = dict(row, beta=round(float(rng.normal()), 4), effect_allele_frequency=round(float(rng.uniform()), 3))
        other["standard_error"] = 0.5
        second.append(mirrored(other, swap=bool(rng.integers(2)), complement=bool(rng.integers(2))))
    store = add_studies(tmp_path / "s.zarr", [study(tmp_path, "a", first), study(tmp_path, "b", second)],
                        Rules(exact=True, palindromic=rule), sizes=TINY)  # fmt: skip
    data = store.to_dataset().load()
    by_place = {(r["chromosome"], r["base_pair_location"]): r for r in second}
    mine = {(r["chromosome"], r["base_pair_location"]): r for r in first}
    for i in range(store.n_variants):
        place = (
            str(data["contig_id"].values[int(data["variant_contig"].values[i])]),
            int(data["variant_position"].values[i]),
        )
        ref, alt = (str(a) for a in data["variant_allele"].values[i])
        row, own = by_place[place], mine[place]
        assert same_variant((ref, alt), (row["effect_allele"], row["other_allele"]))
        usable = turn(own["effect_allele"], own["other_allele"], 1.0, float(own["effect_allele_frequency"]), ref, alt,
                      math.nan, rule)  # fmt: skip
        known = float(own["effect_allele_frequency"]) if usable.eaf is not None else math.nan
        expected = turn(row["effect_allele"], row["other_allele"], float(row["beta"]), float(row["effect_allele_frequency"]),
                        ref, alt, known, rule)  # fmt: skip
        found = float(data["beta"].values[i, 1])
        assert math.isnan(found) if expected.beta is None else found == expected.beta
        if expected.eaf is not None:
            assert float(data["eaf"].values[i, 1]) == pytest.approx(expected.eaf, abs=1e-12)


def test_chunks_and_workers_change_nothing(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    rng = np.random.default_rng(2)
    studies = [study(tmp_path, name, [rows[i] for i in rng.permutation(300)[:250]]) for name in "abc"]
    tables = []
    for number, sizes in enumerate(
        [TINY, Sizes(), Sizes(chunk_variants=37, stretch_rows=11, block_bytes=500, run_rows=20)]
    ):
        path = tmp_path / f"{number}.zarr"
        tables.append(table(add_studies(path, studies, EXACT, sizes=sizes, map_tasks=map_tasks)))
    assert same(tables[0], tables[1]) and same(tables[0], tables[2])


def test_order_of_adding_changes_spelling_only(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    rng = np.random.default_rng(4)
    trusted = Rules(exact=True, palindromic="trust")
    chosen = {name: [mirrored(rows[i], swap=bool(rng.integers(2)), complement=False) for i in rng.permutation(300)[:200]]
              for name in "abc"}  # fmt: skip
    studies = {name: study(tmp_path, name, chosen[name]) for name in "abc"}
    together = table(add_studies(tmp_path / "1.zarr", [studies[n] for n in "abc"], trusted, sizes=TINY))
    for number, order in enumerate(["cab", "bca"]):
        for name in order:
            store = add_studies(tmp_path / f"o{number}.zarr", [studies[name]], trusted, sizes=TINY)
        assert same(table(store), together)
        assert sorted(store.study_id) == ["a", "b", "c"]


def test_add_replace_and_remove_leave_others_alone(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    a, b, c = (study(tmp_path, name, rows[start : start + 180]) for name, start in (("a", 0), ("b", 60), ("c", 120)))
    path = tmp_path / "s.zarr"
    add_studies(path, [a, b], EXACT, sizes=TINY)
    before = table(SumstatsStore.open(path))
    store = add_studies(path, [c])
    after = table(store)
    assert all(after[key]["a"] == before[key]["a"] or math.isnan(before[key]["a"][0]) for key in before)
    changed = [dict(row, beta=2.5) for row in rows[60:240]]
    store = add_studies(path, [study(tmp_path, "b", changed)], replacing=True)
    assert store.study_id == ("a", "b", "c")
    replaced = table(store)
    assert all(np.array_equal(replaced[key][n], after[key][n], equal_nan=True) for key in after for n in "ac")
    assert {abs(cells["b"][0]) for cells in replaced.values() if not math.isnan(cells["b"][0])} == {2.5}
    inode = (path / cell_path("beta", 4, 2)).stat().st_ino
    store = remove_studies(path, ["b"])
    assert store.study_id == ("a", "c") and store.n_variants == len(after)
    assert (path / cell_path("beta", 4, 1)).stat().st_ino == inode, "the study that stays is linked, not written again"
    left = table(store)
    assert all(np.array_equal(left[key][n], after[key][n], equal_nan=True) for key in after for n in "ac")
    assert verify(path).is_intact
    assert sorted(p.name for p in tmp_path.iterdir() if "partial" in p.name or "before" in p.name) == []


def test_a_study_without_new_variants_links_the_others(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = tmp_path / "s.zarr"
    add_studies(path, [study(tmp_path, "a", rows)], EXACT, sizes=TINY)
    inodes = [(path / cell_path("se", chunk, 0)).stat().st_ino for chunk in range(5)]
    add_studies(path, [study(tmp_path, "b", rows[10:90])])
    assert [(path / cell_path("se", chunk, 0)).stat().st_ino for chunk in range(5)] == inodes


class Killed(BaseException):
    """What a test stops the work with."""


@pytest.mark.parametrize("when", range(0, 22, 3))
def test_killed_between_files_it_continues(tmp_path: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch,
                                           when: int) -> None:  # fmt: skip
    path, a, b = tmp_path / "s.zarr", study(tmp_path, "a", rows[:200]), study(tmp_path, "b", rows[100:])
    add_studies(path, [a], EXACT, sizes=TINY)
    before = table(SumstatsStore.open(path))
    whole, written = write.write_whole, []

    def stop(*arguments: Any) -> None:
        if len(written) == 2 * when:
            raise Killed
        written.append(arguments[0])
        whole(*arguments)

    monkeypatch.setattr(write, "write_whole", stop)
    with pytest.raises(Killed):
        add_studies(path, [b])
    monkeypatch.undo()
    assert same(table(SumstatsStore.open(path)), before), "the old store is as it was"
    store = add_studies(path, [b])
    expected = add_studies(tmp_path / "t.zarr", [a], EXACT, sizes=TINY)
    expected = add_studies(tmp_path / "t.zarr", [b])
    assert store.fingerprint == expected.fingerprint
    assert verify(path).is_intact


def test_killed_by_the_system(tmp_path: Path) -> None:
    """A process that is killed with SIGKILL while it writes leaves the old store; the same command finishes."""
    rows = random_rows(400, seed=8)
    path, a = tmp_path / "s.zarr", study(tmp_path, "a", rows[:300])
    b = study(tmp_path, "b", rows[100:])
    add_studies(path, [a], EXACT, sizes=TINY)
    before = SumstatsStore.open(path).fingerprint
    script = f"""
import os, signal
from pathlib import Path
from biolmm.sumstats.ingest.options import StudyInput
from biolmm.sumstats.matrix import write
from biolmm.sumstats.matrix.change import add_studies
whole, n = write.write_whole, [0]
def stop(*arguments):
    n[0] += 1
    if n[0] == 40:
        os.kill(os.getpid(), signal.SIGKILL)
    whole(*arguments)
write.write_whole = stop
add_studies(Path({str(path)!r}), [StudyInput(Path({str(b.path)!r}), name="b")])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, env=os.environ.copy())
    assert done.returncode == -9, done.stderr
    assert SumstatsStore.open(path).fingerprint == before
    assert verify(path).is_intact
    assert add_studies(path, [b]).n_variants == 400


def test_every_damaged_byte_is_noticed(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    store = add_studies(
        tmp_path / "s.zarr", [study(tmp_path, "a", rows), study(tmp_path, "b", rows[:99])], EXACT, sizes=TINY
    )
    rng = np.random.default_rng(0)
    files = sorted(p for p in store.path.rglob("*") if p.is_file())
    for file in [files[i] for i in rng.permutation(len(files))[:40]]:
        content = file.read_bytes()
        at = int(rng.integers(len(content)))
        if file == store.path / "zarr.json":
            continue
        file.unlink()
        file.write_bytes(content[:at] + bytes([content[at] ^ 64]) + content[at + 1 :])
        assert not verify(store.path).is_intact, file
        file.write_bytes(content[:at])
        assert not verify(store.path).is_intact, file
        file.unlink()
        assert not verify(store.path).is_intact, file
        file.write_bytes(content)
    assert verify(store.path).is_intact
    (store.path / "stray").write_text("x")
    assert verify(store.path).damages == ("stray does not belong to the store",)


def test_damage_stops_reading(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    store = add_studies(tmp_path / "s.zarr", [study(tmp_path, "a", rows)], EXACT, sizes=TINY)
    swapped = (store.path / cell_path("beta", 1, 0)).read_bytes()
    (store.path / cell_path("beta", 0, 0)).write_bytes(swapped)  # intact in itself, but of another place
    with pytest.raises(DamagedStoreError, match=r"beta/c/0/0 has changed"):
        list(store.blocks())
    root = store.path / "zarr.json"
    root.write_text(root.read_text().replace('"exact": true', '"exact": false'))
    with pytest.raises(DamagedStoreError, match="attributes have changed"):
        SumstatsStore.open(store.path)


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="does not exist"):
        SumstatsStore.open(tmp_path / "none.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreFormatError, match="no store"):
        SumstatsStore.open(tmp_path / "folder")


def test_blocks_choose_studies_and_columns(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    store = add_studies(
        tmp_path / "s.zarr", [study(tmp_path, n, rows[i:]) for i, n in enumerate("abc")], EXACT, sizes=TINY
    )
    data = store.to_dataset().load()
    blocks = list(store.blocks(["c", "a"], CELLS))
    for name in CELLS:
        joined = np.concatenate([block.cells[name] for block in blocks])
        assert np.array_equal(joined, data[name].values[:, [2, 0]], equal_nan=True)
    statistics = blocks[0].study_block()
    assert statistics.n_studies == 2 and np.array_equal(statistics.beta, blocks[0].cells["beta"], equal_nan=True)
    with pytest.raises(ParameterError, match="no study x"):
        next(store.blocks(["x"]))
    with pytest.raises(ParameterError, match="no column chisq"):
        next(store.blocks(columns=["chisq"]))


def test_rules_belong_to_the_store(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = tmp_path / "s.zarr"
    add_studies(path, [study(tmp_path, "a", rows)], EXACT, sizes=TINY, build="hg19")
    with pytest.raises(ParameterError, match="palindromic frequency"):
        add_studies(path, [study(tmp_path, "b", rows)], Rules(exact=True, palindromic="drop"))
    with pytest.raises(ParameterError, match="has a already"):
        add_studies(path, [study(tmp_path, "a", rows)])
    with pytest.raises(ParameterError, match="GRCh38, but the store is of GRCh37"):
        add_studies(path, [StudyInput(tmp_path / "a.tsv", name="b", build="GRCh38")])
    with pytest.raises(ParameterError, match="would be called a"):
        add_studies(tmp_path / "t.zarr", [study(tmp_path, "a", rows)] * 2)
    with pytest.raises(ParameterError, match="no study left"):
        remove_studies(path, ["a"])
    (tmp_path / "u.zarr.partial").mkdir()
    (tmp_path / "u.zarr.partial" / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        add_studies(tmp_path / "u.zarr", [study(tmp_path, "a", rows)])
    assert (tmp_path / "u.zarr.partial" / "mine.txt").exists()
    assert issubclass(ParameterError, BiolmmError)


def test_odd_contigs_sort_alike_whatever_the_order(tmp_path: Path) -> None:
    one = random_rows(60, seed=1, contigs=("HLA-B", "2", "scaffold_10"))
    two = random_rows(60, seed=2, contigs=("scaffold_9", "HLA-A", "HLA-B"))
    trusted = Rules(exact=True, palindromic="trust")
    stores = [
        add_studies(tmp_path / f"{i}.zarr", [study(tmp_path, n, rows) for n, rows in order], trusted, sizes=TINY)
        for i, order in enumerate([[("a", one), ("b", two)], [("b", two), ("a", one)]])
    ]
    assert stores[0].contig_id == stores[1].contig_id == ("2", "HLA-A", "HLA-B", "scaffold_9", "scaffold_10")
    assert same(table(stores[0]), table(stores[1]))
    assert all(verify(store.path).is_intact for store in stores)
