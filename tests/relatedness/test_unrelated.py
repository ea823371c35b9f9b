"""Unrelated sets: nobody is related to anybody, and nobody could be added."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biolmm.errors import InputFileError, SampleMismatchError
from biolmm.relatedness.unrelated import RelatedPairs, read_relatives, unrelated_set


def related(*pairs: tuple[int, int, float]) -> RelatedPairs:
    first, second, kinship = zip(*pairs, strict=True) if pairs else ((), (), ())
    return RelatedPairs(np.array(first, np.int64), np.array(second, np.int64), np.array(kinship, float))


@given(
    st.lists(
        st.tuples(st.integers(0, 19), st.integers(0, 19), st.sampled_from([-0.1, 0.03, 0.06, 0.25])).filter(
            lambda pair: pair[0] != pair[1]
        ),
        max_size=60,
    )
)
def test_a_set_is_independent_and_maximal(pairs: list[tuple[int, int, float]]) -> None:
    kept = unrelated_set(related(*pairs), 20)
    edges = {(a, b) for a, b, kinship in pairs if kinship > 2**-4.5}
    neighbours = {i: {a + b - i for a, b in edges if i in (a, b)} for i in range(20)}
    for i in range(20):
        assert kept[i] == (not any(kept[j] for j in neighbours[i]))
    # Caro and Wei: at least Σ 1 / (1 + relatives).
    assert kept.sum() >= sum(1 / (1 + len(others)) for others in neighbours.values()) - 1e-9


def test_of_two_relatives_the_one_of_rarer_ancestry_stays() -> None:
    divergent = [(0, other, -0.1) for other in range(2, 6)]
    assert unrelated_set(related((0, 1, 0.25), *divergent), 6).tolist() == [True, False, True, True, True, True]
    swapped = [(1, other, -0.1) for other in range(2, 6)]
    assert unrelated_set(related((0, 1, 0.25), *swapped), 6).tolist() == [False, True, True, True, True, True]


def test_the_threshold_decides_who_is_related() -> None:
    pairs = related((0, 1, 0.06))
    assert unrelated_set(pairs, 2, max_kinship=0.1).all()
    assert unrelated_set(pairs, 2).sum() == 1


@pytest.mark.parametrize(
    "header", ["sample_id_1\tsample_id_2\tkinship\tdegree", "#FID1 IID1 FID2 IID2 KINSHIP", "FID1 ID1 FID2 ID2 Kinship"]
)
def test_tables_of_three_programs_are_read(header: str, tmp_path: Path) -> None:
    names = header.lower().split()
    row = ["9"] * len(names)
    for i, name in enumerate(names):
        row[i] = "a" if name in ("sample_id_1", "iid1", "id1") else "c" if name.endswith(("_2", "id2")) else "0.25"
    (tmp_path / "pairs.tsv").write_text(f"{header}\n" + "\t".join(row) + "\n")
    found = read_relatives(tmp_path / "pairs.tsv", ["a", "b", "c"])
    assert (found.first.tolist(), found.second.tolist(), found.kinship.tolist()) == ([0], [2], [0.25])


def test_mistakes_in_a_table_are_named(tmp_path: Path) -> None:
    table = tmp_path / "pairs.tsv"
    for text, message in (
        ("IID1 IID2\na b\n", "no column for kinship"),
        ("IID1 KINSHIP\na 0.1\n", "second sample"),
        ("IID1 IID2 KINSHIP\na b 0.1\na b close\n", "line 3: kinship is 'close'"),
        ("", "cannot be read"),
    ):
        table.write_text(text)
        with pytest.raises(InputFileError, match=message):
            read_relatives(table, ["a", "b"])
    with pytest.raises(InputFileError, match="cannot be read"):
        read_relatives(tmp_path / "none.tsv", ["a"])
    table.write_text("IID1 IID2 KINSHIP\nx y 0.1\n")
    with pytest.raises(SampleMismatchError, match="'x' there, 'a' here"):
        read_relatives(table, ["a", "b"])
