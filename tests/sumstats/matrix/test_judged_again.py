"""Studies come, go and are replaced: what stays is as though the store had been made of it alone."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.matrix.change import Sizes, add_studies, remove_studies
from biolmm.sumstats.matrix.layout import cell_path
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.matrix.verify import verify
from biolmm.sumstats.status import Status
from oracles.sumstats import COMPLEMENT, SSF, mirrored, random_rows, write_study

TINY = Sizes(chunk_variants=64, stretch_rows=50, block_bytes=2000, run_rows=70)
EXACT = Rules(exact=True)
Rows = list[dict[str, Any]]
Cells = dict[tuple[Any, ...], dict[str, tuple[float, ...]]]


def study(folder: Path, name: str, rows: Rows, file: str = "") -> StudyInput:
    return StudyInput(write_study(folder / f"{file or name}.tsv", rows, [*SSF, "ref_allele"]), name=name)


def is_palindromic(row: dict[str, Any]) -> bool:
    return COMPLEMENT.get(row["effect_allele"]) == row["other_allele"]


def is_indel(row: dict[str, Any]) -> bool:
    return len(row["effect_allele"] + row["other_allele"]) > 2


def version(rows: Rows, rng: np.random.Generator, *, wrong: bool = False, sure: bool = False) -> Rows:
    """Spell the records as another study might, with its own effects and frequencies; `wrong` ones are of the other allele."""
    out = []
    for row in rows:
        frequency = float(np.clip(row["effect_allele_frequency"] + rng.normal(0, 0.02), 0.001, 0.999))
        changed = row | {"beta": round(float(rng.normal()), 4), "standard_error": 0.5, "p_value": "NA"}
        changed["effect_allele_frequency"] = round(1 - frequency if wrong else frequency, 4)
        swap = bool(rng.integers(2))
        turned = mirrored(changed, swap=swap, complement=is_palindromic(row) and bool(rng.integers(2)))
        knows = sure and is_indel(row)
        out.append(turned | ({"ref_allele": "EA" if swap else "OA"} if knows else {}))
    return out


def cells(store: SumstatsStore) -> Cells:
    """Read numbers for the allele that is first in the alphabet, of variants that a study has."""
    data, found = store.to_dataset().load(), {}
    kept = ~np.uint16(Status.SWAPPED.value)
    for i in np.flatnonzero((data["status"].values != 0).any(axis=1)):
        ref, alt = (str(a) for a in data["variant_allele"].values[i])
        turns, one = alt > ref, {}
        known = float(data["variant_eaf"].values[i])
        for s, name in enumerate(store.study_id):
            beta, eaf = float(data["beta"].values[i, s]), float(data["eaf"].values[i, s])
            one[name] = (-beta if turns else beta, round(1 - eaf if turns else eaf, 9), float(data["se"].values[i, s]),
                         float(data["status"].values[i, s] & kept))  # fmt: skip
        one["catalogue"] = (round(1 - known if turns else known, 5),)
        key = (int(data["variant_contig"].values[i]), int(data["variant_position"].values[i]), *sorted((ref, alt)))
        assert key not in found, "an indel is split"
        found[key] = one
    return found


def same(one: Cells, other: Cells) -> bool:
    return one.keys() == other.keys() and all(
        one[key].keys() == other[key].keys()
        and all(np.array_equal(one[key][name], other[key][name], equal_nan=True) for name in one[key])
        for key in one
    )


@pytest.fixture
def rows() -> Rows:
    return random_rows(300, seed=11)


@pytest.mark.parametrize("way", ["replace", "remove"])
def test_wrong_frequencies_go_with_their_study(tmp_path: Path, rows: Rows, way: str) -> None:
    rng = np.random.default_rng(1)
    good = [row | {"beta": 0.5, "standard_error": 0.5, "p_value": "NA"} for row in rows]
    bad = [row | {"effect_allele_frequency": round(1 - row["effect_allele_frequency"], 6)} for row in good]
    other = study(tmp_path, "b", version(rows[:250], rng))
    path = tmp_path / "s.zarr"
    add_studies(path, [study(tmp_path, "a", bad, "bad")], EXACT, sizes=TINY)
    if way == "replace":
        store = add_studies(path, [study(tmp_path, "a", good)], replacing=True)
    else:
        add_studies(path, [other])
        remove_studies(path, ["a"])
        store = add_studies(path, [study(tmp_path, "a", good)])
    data = store.to_dataset().load()
    a = store.study_id.index("a")
    there = (data["status"].values[:, a] & Status.PRESENT.value) > 0
    by_frequency = (data["status"].values[:, a] & Status.STRAND_BY_FREQUENCY.value) > 0
    assert there.sum() > 250
    if way == "replace":  # alone in the store: every effect is the file's
        assert (data["beta"].values[there, a] == 0.5).all() and not by_frequency.any()
        assert np.allclose(data["variant_eaf"].values[there], data["eaf"].values[there, a], rtol=0, atol=1e-6)
    else:
        add_studies(tmp_path / "t.zarr", [other], EXACT, sizes=TINY)
        assert same(cells(store), cells(add_studies(tmp_path / "t.zarr", [study(tmp_path, "a", good)])))
    assert verify(path).is_intact


def test_removing_turns_what_the_removed_study_had_turned(tmp_path: Path, rows: Rows,
                                                          caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    rng = np.random.default_rng(2)
    bad = study(tmp_path, "a", version(rows, rng, wrong=True))
    b, c = study(tmp_path, "b", version(rows[:250], rng)), study(tmp_path, "c", version(rows[50:280], rng))
    path = tmp_path / "s.zarr"
    before = add_studies(path, [bad, b, c], EXACT, sizes=TINY).to_dataset().load()
    present, by_frequency = (
        (before["status"].values & bit.value) > 0 for bit in (Status.PRESENT, Status.STRAND_BY_FREQUENCY)
    )
    n = int((np.where(present[:, 1], by_frequency[:, 1], present[:, 2] & by_frequency[:, 2])).sum())
    inode = (path / cell_path("se", 1, 1)).stat().st_ino
    with caplog.at_level(logging.WARNING, "biolmm.sumstats"):
        store = remove_studies(path, ["a"])
    expected = add_studies(tmp_path / "t.zarr", [b, c], EXACT, sizes=TINY)
    assert same(cells(store), cells(expected)) and verify(path).is_intact
    assert n > 20 and f"{path}: {n} palindromic variants" in caplog.text
    assert (path / cell_path("se", 1, 0)).stat().st_ino == inode, "what no strand changes is linked"
    data = store.to_dataset().load()
    nowhere = (data["status"].values == 0).all(axis=1)
    assert nowhere.sum() == 20 and np.isnan(data["variant_eaf"].values[nowhere]).all()


@pytest.mark.parametrize("seed", range(4))
def test_any_history_is_as_its_result(tmp_path: Path, seed: int) -> None:
    """Whatever came and went, the store is that of the studies that are there, in the order in which they were added."""
    rng = np.random.default_rng(seed)
    rows = random_rows(120, seed=seed)
    path, there, number = tmp_path / "s.zarr", dict[str, StudyInput](), 0
    for _ in range(9):
        name = str(rng.choice(list("abcd")))
        if name in there and len(there) > 1 and rng.integers(2):
            remove_studies(path, [name])
            del there[name]
            continue
        number += 1
        chosen = [row for row in rows if rng.random() < 0.7]
        made = version(chosen, rng, wrong=bool(rng.random() < 0.4), sure=bool(rng.integers(2)))
        there.pop(name, None)
        there[name] = study(tmp_path, name, made, f"{name}{number}")
        add_studies(path, [there[name]], EXACT, replacing=True, sizes=TINY)
    expected = add_studies(tmp_path / "t.zarr", list(there.values()), EXACT, sizes=TINY)
    assert same(cells(SumstatsStore.open(path)), cells(expected)) and verify(path).is_intact


def indel(effect: str, other: str, **more: Any) -> dict[str, Any]:
    return {"chromosome": 1, "base_pair_location": 5, "effect_allele": effect, "other_allele": other, "beta": 0.5,
            "standard_error": 0.1, "effect_allele_frequency": 0.25, "n": 100} | more  # fmt: skip


def test_one_that_knows_ref_turns_an_indel_that_none_knew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    unsure = study(tmp_path, "u", [indel("AT", "A"), indel("G", "T", base_pair_location=7)])
    sure, opposite = study(tmp_path, "s", [indel("A", "AT", ref_allele="OA")]), study(tmp_path, "o", [
        indel("AT", "A", ref_allele="OA")])  # fmt: skip
    path = tmp_path / "s.zarr"
    add_studies(path, [unsure], EXACT)
    with caplog.at_level(logging.WARNING, "biolmm.sumstats"):
        store = add_studies(path, [sure])
    assert "1 insertions and deletions" in caplog.text
    data = store.to_dataset().load()
    assert data["variant_allele"].values.tolist() == [["AT", "A"], ["T", "G"]]
    assert data["beta"].values[0].tolist() == [-0.5, 0.5] and data["eaf"].values[0].tolist() == [0.75, 0.25]
    assert data["variant_eaf"].values[0] == 0.75 and data["beta"].values[1, 0] == 0.5
    swapped, known = Status.SWAPPED.value, Status.REF_KNOWN.value
    assert [int(s) & (swapped | known) for s in data["status"].values[0]] == [swapped, known]
    assert same(cells(store), cells(add_studies(tmp_path / "t.zarr", [unsure, sure], EXACT)))
    assert add_studies(path, [opposite]).n_variants == 3, "both are known: an insertion and a deletion"


def test_of_both_ways_in_one_call_none_is_turned(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    add_studies(path, [study(tmp_path, "u", [indel("AT", "A")])], EXACT)
    both = study(tmp_path, "s", [indel("A", "AT", ref_allele="OA"), indel("AT", "A", ref_allele="OA", beta=0.7)])
    data = add_studies(path, [both]).to_dataset().load()
    found = {tuple(map(str, a)): b for a, b in zip(data["variant_allele"].values, data["beta"].values, strict=True)}
    assert found[("A", "AT")].tolist() == [0.5, 0.7] and np.isnan(found[("AT", "A")][0])
