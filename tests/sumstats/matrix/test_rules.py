"""The rules of a store end to end: the reference, METAL's alleles, indels both ways round, and the order of studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.matrix.change import Sizes, add_studies
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.status import Status
from oracles.sumstats import COMPLEMENT, mirrored, write_study

TINY = Sizes(chunk_variants=64, stretch_rows=50, block_bytes=2000, run_rows=70)


def record(position: int, effect: str, other: str, **more: Any) -> dict[str, Any]:
    return {"chromosome": 1, "base_pair_location": position, "effect_allele": effect, "other_allele": other, "beta": 0.1,
            "standard_error": 0.1, "effect_allele_frequency": 0.2, "p_value": 0.3173, "n": 100} | more  # fmt: skip


def add(folder: Path, rules: Rules, **studies: list[dict[str, Any]]) -> Any:
    inputs = []
    for name, rows in studies.items():
        columns = list(dict.fromkeys(key for row in rows for key in row))
        inputs.append(StudyInput(write_study(folder / f"{name}.tsv", rows, columns), name=name))
    return add_studies(folder / f"{'-'.join(studies)}.zarr", inputs, rules, sizes=TINY)


def variants(store: SumstatsStore) -> list[tuple[int, str, str]]:
    data = store.to_dataset().load()
    return [
        (int(p), *map(str, a))
        for p, a in zip(data["variant_position"].values, data["variant_allele"].values, strict=True)
    ]


@pytest.fixture
def genome(tmp_path: Path) -> tuple[Path, str]:
    sequence = "".join(np.random.default_rng(0).choice(list("ACGT"), 2000))
    (tmp_path / "ref.fa").write_text(">chr1\n" + "\n".join(sequence[i : i + 60] for i in range(0, 2000, 60)) + "\n")
    return tmp_path / "ref.fa", sequence


def test_with_a_reference_the_order_of_studies_is_nothing(tmp_path: Path, genome: tuple[Path, str]) -> None:
    path, sequence = genome
    rng = np.random.default_rng(1)
    rows = []
    for position in sorted(rng.choice(1900, 150, replace=False) + 5):
        ref = sequence[position - 1]
        alt = str(rng.choice([b for b in "ACGT" if b not in (ref, COMPLEMENT[ref])]))
        if position % 5 == 0:
            ref, alt = sequence[position - 1 : position + 2], ref
        rows.append(record(int(position), alt, ref, beta=round(float(rng.normal()), 3)))
    other = [mirrored(r, swap=bool(rng.integers(2)), complement=bool(rng.integers(2))) for r in rows[::2]]
    rules = Rules(reference=path, exact=True)
    one, two = add(tmp_path, rules, a=rows, b=other), add(tmp_path, rules, b=other, a=rows)
    assert variants(one) == variants(two)
    assert all(sequence[p - 1 : p - 1 + len(ref)] == ref for p, ref, _ in variants(one))
    first, second = one.to_dataset().load(), two.to_dataset().load()
    for name in ("beta", "se", "eaf", "n", "neg_log10_p", "status"):
        assert np.array_equal(first[name].values, second[name].values[:, ::-1], equal_nan=True), name
    both = ~np.isnan(first["beta"].values).any(axis=1)
    assert both.sum() == len(other)
    assert np.array_equal(first["beta"].values[both, 0], first["beta"].values[both, 1])


def test_what_is_not_in_the_reference_is_counted(tmp_path: Path, genome: tuple[Path, str]) -> None:
    path, sequence = genome
    wrong = {"A": ("C", "G"), "T": ("C", "G"), "C": ("A", "T"), "G": ("A", "T")}
    rows = [record(i, *wrong[sequence[i - 1]]) for i in range(10, 14)] + [
        record(20, COMPLEMENT[sequence[19]], sequence[19])
    ]
    store = add(tmp_path, Rules(reference=path, palindromic="trust"), a=rows)
    assert store.studies[0]["counts"]["not_in_reference"] == 4 and store.n_variants == 1


def test_indels_both_ways_round_are_two_variants(tmp_path: Path) -> None:
    known = [record(5, "AT", "A", ref_allele="OA"), record(5, "A", "AT", ref_allele="OA", beta=0.7)]
    store = add(tmp_path, Rules(exact=True), a=known)
    assert sorted(variants(store)) == [(5, "A", "AT"), (5, "AT", "A")]
    unknown = [record(5, "AT", "A"), record(9, "G", "GC")]
    store = add(tmp_path, Rules(exact=True), a=known, b=unknown)
    assert store.studies[1]["counts"]["ambiguous_indel"] == 1
    one_way = add(tmp_path, Rules(exact=True), c=known[:1], d=[record(5, "A", "AT")])
    data = one_way.to_dataset().load()
    assert variants(one_way) == [(5, "A", "AT")]
    assert data["beta"].values.tolist() == [[0.1, -0.1]] and data["status"].values[0, 1] & Status.SWAPPED
    later = add(tmp_path, Rules(exact=True), e=[record(5, "A", "AT")], f=known[:1])
    assert variants(later) == [(5, "A", "AT")], "the study that knows its REF spells the variant, whichever comes first"


def test_a_declared_ref_is_believed_for_indels(tmp_path: Path) -> None:
    store = add(tmp_path, Rules(exact=True), a=[record(5, "AT", "A", ref_allele="EA")])
    data = store.to_dataset().load()
    assert variants(store) == [(5, "AT", "A")] and data["beta"].values[0, 0] == -0.1 and data["eaf"].values[0, 0] == 0.8


def test_metal_trusts_palindromic_and_never_ref(tmp_path: Path) -> None:
    rules = Rules(alleles="metal", exact=True)
    first = [
        record(1, "A", "T", effect_allele_frequency=0.5),
        record(2, "A", "G"),
        record(3, "AT", "A", ref_allele="OA"),
    ]
    second = [
        record(1, "T", "A", effect_allele_frequency=0.1),
        record(2, "T", "C"),
        record(3, "A", "AT", ref_allele="OA"),
    ]
    data = add(tmp_path, rules, a=first, b=second).to_dataset().load()
    assert data["beta"].values.tolist() == [[0.1, -0.1], [0.1, 0.1], [0.1, -0.1]]
    assert data["status"].values[1, 1] & Status.COMPLEMENTED and not data["status"].values[1, 0] & Status.COMPLEMENTED


def test_four_alleles_of_one_place(tmp_path: Path) -> None:
    rows = [record(7, alt, "A") for alt in ("C", "G", "ACC", "AC", "<DEL>")]
    turned = [mirrored(row, swap=True, complement=False) for row in rows[::-1]]
    store = add(tmp_path, Rules(exact=True), a=rows, b=turned)
    data = store.to_dataset().load()
    assert store.n_variants == 5 and (data["beta"].values == 0.1).all()


@pytest.mark.parametrize(("frequency", "turned"), [(0.2, False), (0.8, True), (0.39, False), (0.61, True)])
def test_palindromic_by_frequency(tmp_path: Path, frequency: float, turned: bool) -> None:
    rows = [record(1, "A", "T", effect_allele_frequency=0.3)]
    other = [record(1, "A", "T", effect_allele_frequency=frequency)]
    data = add(tmp_path, Rules(exact=True), a=rows, b=other).to_dataset().load()
    assert data["beta"].values[0, 1] == (-0.1 if turned else 0.1)
    assert bool(data["status"].values[0, 1] & Status.STRAND_BY_FREQUENCY) == turned
