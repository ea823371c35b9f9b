"""Alleles, keys, the reference and numbers in text, against the plainest definition of each."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.sumstats.ingest.alleles import Alleles, allele_keys, are_valid, read_alleles
from biolmm.sumstats.ingest.normalise import EFFECT_IS_REF, OTHER_IS_REF, UNKNOWN_SIDE, normalise
from biolmm.sumstats.ingest.reference import Reference
from biolmm.sumstats.ingest.text import split_header
from biolmm.sumstats.ingest.tokens import read_numbers, read_tails
from biolmm.sumstats.places import Contigs, make_places, position_of
from biolmm.sumstats.status import Status
from oracles.sumstats import COMPLEMENT, left_aligned, same_variant

ALLELE = st.text("ACGT", min_size=1, max_size=4)
PAIR = st.tuples(ALLELE, ALLELE).filter(lambda pair: pair[0] != pair[1])


def words(texts: list[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    ends = np.cumsum([0, *map(len, texts)])
    return np.frombuffer("".join(texts).encode(), np.uint8), np.column_stack([ends[:-1], ends[1:]])


def coded(pairs: list[tuple[str, str]]) -> Alleles:
    data, spans = words([text for pair in pairs for text in pair])
    return read_alleles(data, spans[0::2], spans[1::2])


@settings(deadline=None)
@given(st.lists(PAIR, min_size=2, max_size=12))
@example([("A", "G"), ("T", "C"), ("A", "T"), ("T", "A"), ("C", "G")])
def test_keys_are_equal_where_variants_are(pairs: list[tuple[str, str]]) -> None:
    keys, _ = allele_keys(coded(pairs))
    for i, one in enumerate(pairs):
        for j, other in enumerate(pairs):
            assert (keys[i] == keys[j]) == same_variant(one, other)


@settings(deadline=None)
@given(st.lists(PAIR, min_size=1, max_size=8))
def test_ways_turn_with_the_order(pairs: list[tuple[str, str]]) -> None:
    _, ways = allele_keys(coded(pairs))
    _, turned = allele_keys(coded([(b, a) for a, b in pairs]))
    for (a, b), way, other in zip(pairs, ways, turned, strict=True):
        assert (way, other) == ((0, 0) if len(a) == len(b) == 1 else (way, 3 - way)) and way in (0, 1, 2)


@settings(deadline=None)
@given(st.lists(PAIR, min_size=1, max_size=8), st.randoms())
def test_alleles_are_spelled_as_they_were(pairs: list[tuple[str, str]], random: object) -> None:
    lower = [(a.lower(), b) for a, b in pairs]
    alleles = coded(lower)
    rows = np.arange(len(pairs))[::-1].copy()
    for table, expected in ((alleles, pairs), (alleles.take(rows), pairs[::-1])):
        assert [(table.text(i, 0), table.text(i, 1)) for i in range(len(pairs))] == expected


def test_what_are_no_alleles() -> None:
    pairs = [
        ("A", "A"),
        ("A", "0"),
        ("AC", "AC"),
        ("N", "A"),
        ("AN", "A"),
        ("<>", "A"),
        ("<DEL>", "A"),
        ("A", "*"),
        ("AT", "A"),
    ]
    assert are_valid(coded(pairs)).tolist() == [False] * 6 + [True, False, True]


def fasta(folder: Path, contigs: dict[str, str], width: int = 7, *, index: bool = False) -> Reference:
    lines, rows, at = [], [], 0
    for name, sequence in contigs.items():
        head = f">{name} made up\n"
        pieces = [sequence[i : i + width] for i in range(0, len(sequence), width)]
        rows.append(f"{name}\t{len(sequence)}\t{at + len(head)}\t{width}\t{width + 1}")
        lines.append(head + "".join(piece + "\n" for piece in pieces))
        at += len(lines[-1])
    path = folder / "ref.fa"
    path.write_text("".join(lines))
    if index:
        (folder / "ref.fa.fai").write_text("\n".join(rows) + "\n")
    return Reference(path)


@st.composite
def indels(draw: st.DrawFn) -> tuple[str, list[tuple[int, str, str]]]:
    """Draw a repetitive sequence, and deletions, insertions and longer changes of it."""
    sequence = draw(st.text("AC", min_size=12, max_size=40)) + draw(st.text("ACGT", min_size=4, max_size=10))
    found = []
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(sequence) - 1))
        ref = sequence[start : start + draw(st.integers(1, 5))]
        alt = draw(st.one_of(st.just(ref[0]), st.text("AC", min_size=1, max_size=5).map(lambda t, r=ref: r[0] + t)))
        if ref != alt:
            found.append((start + 1, ref, alt))
    return sequence, found


@settings(deadline=None)
@given(indels(), st.booleans())
def test_left_alignment_is_that_of_the_definition(tmp_path_factory: pytest.TempPathFactory,
                                                  drawn: tuple[str, list[tuple[int, str, str]]], swap: bool) -> None:  # fmt: skip
    sequence, variants = drawn
    if not variants:
        return
    reference = fasta(tmp_path_factory.mktemp("ref"), {"chr1": sequence})
    pairs = [(ref, alt) if swap else (alt, ref) for _, ref, alt in variants]
    place = make_places(np.ones(len(variants), np.int64), np.array([p for p, _, _ in variants]))
    side = np.full(len(variants), EFFECT_IS_REF if swap else OTHER_IS_REF, np.int8)
    found = normalise(reference, Contigs(), place, coded(pairs), side)
    assert found.is_there.all()
    for i, (position, ref, alt) in enumerate(variants):
        new = (
            int(position_of(found.place[i : i + 1])[0]),
            found.alleles.text(i, int(not swap)),
            found.alleles.text(i, int(swap)),
        )
        expected = left_aligned(sequence, position, ref, alt)
        if len(ref) == len(alt) == 1:
            continue
        assert new == expected
        assert bool(found.status[i] & Status.NORMALISED) == (expected != (position, ref, alt))
        assert found.side[i] == (EFFECT_IS_REF if swap else OTHER_IS_REF)


def test_reference_decides_strand_and_ref(tmp_path: Path) -> None:
    reference = fasta(tmp_path, {"chr1": "ACGTACGTAC", "2": "TTTTT"}, index=True)
    cases = [("A", "G", 1, EFFECT_IS_REF, False), ("G", "A", 1, OTHER_IS_REF, False), ("T", "C", 1, EFFECT_IS_REF, True),
             ("C", "T", 1, OTHER_IS_REF, True), ("A", "T", 1, EFFECT_IS_REF, False), ("T", "A", 4, EFFECT_IS_REF, False),
             ("AC", "A", 1, UNKNOWN_SIDE, False), ("ACT", "A", 1, OTHER_IS_REF, False)]  # fmt: skip
    place = make_places(np.ones(len(cases), np.int64), np.array([c[2] for c in cases]))
    found = normalise(reference, Contigs(), place, coded([(a, b) for a, b, *_ in cases]), np.zeros(len(cases), np.int8))
    assert found.is_there.all()
    assert found.side.tolist() == [c[3] for c in cases]
    assert ((found.status & Status.COMPLEMENTED) > 0).tolist() == [c[4] for c in cases]
    elsewhere = make_places(np.array([1, 1, 9, 2]), np.array([1, 99, 1, 2]))
    lost = normalise(
        reference, Contigs(), elsewhere, coded([("C", "G"), ("A", "G"), ("A", "G"), ("CC", "C")]), np.zeros(4, np.int8)
    )
    assert not lost.is_there.any()


@pytest.mark.parametrize(
    ("content", "words_of_it"),
    [(b"\x1f\x8b\x08aaaaa", "is compressed"), (b"ACGT\n", "no FASTA"), (b">1\nAC\nACGT\n", "different lengths"),
     (b">1\nAC\n>1\nAC\n", "that of another"), (b">\nAC\n", "has no name")],
)  # fmt: skip
def test_damaged_references(tmp_path: Path, content: bytes, words_of_it: str) -> None:
    (tmp_path / "r.fa").write_bytes(content)
    with pytest.raises(InputFileError, match=words_of_it):
        _ = Reference(tmp_path / "r.fa").contigs


def test_an_index_that_does_not_fit(tmp_path: Path) -> None:
    fasta(tmp_path, {"1": "ACGT"}, index=True)
    for line, message in (("1\t4000\t3\t60\t61", "does not fit"), ("1\tx\t3\t60\t61", "no line of a FASTA index")):
        (tmp_path / "ref.fa.fai").write_text(line + "\n")
        with pytest.raises(InputFileError, match=message):
            _ = Reference(tmp_path / "ref.fa").contigs


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(st.lists(st.one_of(FLOATS.map(repr), FLOATS.map(lambda x: f"{x:.6g}"), st.integers(-(10**25), 10**25).map(str),
                          st.decimals(-1000, 1000, places=12).map(str)), min_size=1, max_size=20))  # fmt: skip
def test_numbers_are_read_to_the_last_bit(texts: list[str]) -> None:
    values, wrong = read_numbers(*words(texts))
    assert not wrong.any()
    assert values.tolist() == [float(text) for text in texts]


@pytest.mark.parametrize("text", ["", ".", "-", "NA", "na", "NaN", "nan", "N/A", "#NA", "null", "NULL", "None", "-nan"])
def test_missing_numbers(text: str) -> None:
    values, wrong = read_numbers(*words([text, "1"]))
    assert math.isnan(values[0]) and not wrong[0] and values[1] == 1


@pytest.mark.parametrize(
    "text", ["x", "1x", "1e", "1e+", "--1", "1.2.3", "inf", "-inf", "1,5", "0x10", "1e400", "nano", "1 2"]
)
def test_what_are_no_numbers(text: str) -> None:
    values, wrong = read_numbers(*words([text]))
    assert math.isnan(values[0]) and wrong[0]


@settings(deadline=None)
@given(st.integers(1, 10**12), st.integers(-6000, -12))
def test_tails_of_any_size(mantissa: int, exponent: int) -> None:
    getcontext().prec = 50
    expected = -(Decimal(mantissa).log10() + exponent)
    found = float(read_tails(*words([f"{mantissa}e{exponent}"]))[0][0])
    assert found == pytest.approx(float(expected), rel=1e-14, abs=1e-15)


def test_headers() -> None:
    assert split_header("#CHROM\tPOS \tID\t") == (9, ["#CHROM", "POS", "ID"])
    assert split_header('"a","b"') == (44, ["a", "b"])
    assert split_header("a;b c") == (59, ["a", "b c"])
    assert COMPLEMENT["A"] == "T"
