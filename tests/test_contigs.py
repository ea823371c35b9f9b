"""Names of contigs: every spelling of a human chromosome becomes one, and no two chromosomes become one."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biolmm.contigs import Ploidy, contig_order, is_autosome, normalise_build, normalise_contigs, ploidy_of
from biolmm.errors import ParameterError

HUMAN = [str(i) for i in range(1, 23)] + ["X", "Y", "XY", "MT"]
PREFIXES = st.sampled_from(["", "chr", "Chr", "CHR", "chrom", "chromosome"])
ACCESSIONS = {str(i): f"NC_{i:06d}.{i}" for i in range(1, 23)} | {
    "X": "NC_000023.11", "Y": "NC_000024.10", "MT": "NC_012920.1",
}  # fmt: skip
OTHER_SPELLINGS = {
    "X": ["x", "23", "0X"],
    "Y": ["y", "24", "0Y"],
    "XY": ["xy", "25", "PAR1", "par2"],
    "MT": ["26", "M", "mt", "0M"],
}


@st.composite
def spellings(draw: st.DrawFn, name: str) -> str:
    """Spell a chromosome in any way that files do."""
    if name in ACCESSIONS and draw(st.booleans()):
        return ACCESSIONS[name]
    bare = draw(st.sampled_from([name, *OTHER_SPELLINGS.get(name, []), name.rjust(2, "0")]))
    return draw(PREFIXES) + bare


@given(st.data(), st.permutations(HUMAN))
def test_every_spelling_of_a_human_chromosome_becomes_one(data: st.DataObject, names: list[str]) -> None:
    spelt = [data.draw(spellings(name)) for name in names]
    assert normalise_contigs(spelt) == tuple(names)


@given(st.lists(st.text("chroCHRM0123456789XYx_.NP", min_size=1, max_size=9), max_size=30))
def test_normal_names_stay_and_autosomes_stay_apart(names: list[str]) -> None:
    once = normalise_contigs(names)
    assert len(once) == len(names)
    assert normalise_contigs(once) == once
    numbers = {name: int(name) for name in names if name.isdecimal() and 0 < int(name) < 23}
    assert all(once[names.index(name)] == str(number) for name, number in numbers.items())


def test_numbers_above_26_mean_another_species() -> None:
    cattle = [f"chr{i}" for i in range(1, 30)] + ["chrX", "chrM"]
    assert normalise_contigs(cattle) == (*(str(i) for i in range(1, 30)), "X", "MT")
    assert normalise_contigs(cattle[:26]) == tuple(HUMAN)


@pytest.mark.parametrize(
    "name",
    ["chrUn_KI270302v1", "chr1_KI270706v1_random", "HLA-A*01:01", "chr", "NC_000067.7", "chr2L", "NC_0000010.1", "²"],
)
def test_other_names_stay(name: str) -> None:
    assert normalise_contigs([name]) == (name,)


def test_unplaced_variants_are_on_no_autosome() -> None:
    assert normalise_contigs(["0", "chr0", "00"]) == ("0", "0", "0")
    assert not is_autosome("0")


def test_contigs_sort_as_people_expect() -> None:
    expected = [
        *[str(i) for i in range(1, 40)],
        "X",
        "XY",
        "Y",
        "MT",
        "0",
        "GL000192.1",
        "GL000193.1",
        "chrUn_9",
        "chrUn_10",
    ]
    shuffled = random.Random(1).sample(expected, len(expected))
    assert sorted(shuffled, key=contig_order) == expected


@given(st.lists(st.text(max_size=6)))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    assert sorted(sorted(names, reverse=True), key=contig_order) == sorted(sorted(names), key=contig_order)


PAR = [  # contig, build, first and last position of a pseudo-autosomal region (Genome Reference Consortium)
    ("X", "GRCh37", 60_001, 2_699_520), ("X", "hg19", 154_931_044, 155_260_560),
    ("X", "GRCh38", 10_001, 2_781_479), ("X", "38", 155_701_383, 156_030_895),
    ("Y", "b37", 10_001, 2_649_520), ("Y", "37", 59_034_050, 59_363_566),
    ("Y", "b38", 10_001, 2_781_479), ("Y", "hg38", 56_887_903, 57_217_415),
]  # fmt: skip


@pytest.mark.parametrize(("contig", "build", "first", "last"), PAR)
def test_pseudo_autosomal_ends_are_exact(contig: str, build: str, first: int, last: int) -> None:
    position = np.array([first - 1, first, last, last + 1])
    outside = Ploidy[contig]
    contigs = ("1", contig)
    ploidy = ploidy_of(contigs, np.ones(4, np.int32), position, build)
    assert ploidy.dtype == np.uint8
    assert ploidy.tolist() == [outside, Ploidy.DIPLOID, Ploidy.DIPLOID, outside]
    assert ploidy_of(contigs, np.ones(4, np.int32), position).tolist() == [outside] * 4
    assert ploidy_of(contigs, np.zeros(4, np.int32), position, build).tolist() == [Ploidy.DIPLOID] * 4


def test_ploidy_of_contigs() -> None:
    names = ("7", "XY", "MT", "X", "Y", "scaffold_1")
    ploidy = ploidy_of(names, np.arange(6), np.full(6, 20_000_000))
    assert ploidy.tolist() == [Ploidy.DIPLOID, Ploidy.DIPLOID, Ploidy.HAPLOID, Ploidy.X, Ploidy.Y, Ploidy.DIPLOID]


def test_unknown_build_is_refused() -> None:
    with pytest.raises(
        ParameterError, match=r"^'hg17' is not a reference build .* GRCh37 \(hg19, b37, 37\) or GRCh38 "
    ):
        normalise_build("hg17")
    with pytest.raises(ParameterError, match="'T2T'"):
        ploidy_of(("1",), np.zeros(1, int), np.ones(1, int), "T2T")
