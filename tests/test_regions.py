"""Regions: as people write them, from BED files, and the known ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biolmm.errors import InputFileError, ParameterError
from biolmm.regions import (
    END_OF_CONTIG,
    LONG_RANGE_LD,
    Region,
    find_regions,
    in_regions,
    known_regions,
    parse_region,
    read_bed_regions,
)

# NCBI's lengths of the chromosomes that have regions of long-range LD
LENGTHS = {
    "GRCh37": {"1": 249250621, "2": 243199373, "3": 198022430, "5": 180915260, "6": 171115067, "7": 159138663,
               "8": 146364022, "10": 135534747, "11": 135006516, "12": 133851895, "20": 63025520},
    "GRCh38": {"1": 248956422, "2": 242193529, "3": 198295559, "5": 181538259, "6": 170805979, "7": 159345973,
               "8": 145138636, "10": 133797422, "11": 135086622, "12": 133275309, "20": 64444167},
}  # fmt: skip

# Places that everybody leaves out: contig, GRCh37, GRCh38 (dbSNP / NCBI Gene)
LANDMARKS = {
    "lactase, rs4988235": ("2", 136_608_646, 135_851_076),
    "HLA-B": ("6", 31_321_649, 31_353_872),
    "8p23 inversion, BLK": ("8", 11_351_510, 11_494_001),
    "FOLH1, pericentromeric 11": ("11", 49_168_187, 49_146_635),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6:25-34mb", ("6", 25_000_000, 34_000_000)),
        ("6:25mb-34mb", ("6", 25_000_000, 34_000_000)),
        (" chr6:25,000,000-34,000,000 ", ("6", 25_000_000, 34_000_000)),
        ("6:25e6-34e6", ("6", 25_000_000, 34_000_000)),
        ("06:900kb-1.5Mb", ("6", 900_000, 1_500_000)),
        ("6:5-5", ("6", 5, 5)),
        ("chrX", ("X", 1, END_OF_CONTIG)),
        ("scaffold_7:1-2k", ("scaffold_7", 1000, 2000)),
    ],
)
def test_regions_as_people_write_them(text: str, expected: tuple[str, int, int]) -> None:
    region = parse_region(text)
    assert (region.contig, region.start_bp, region.end_bp) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a region"),
        ("6:", "'6:' is not a region"),
        ("6:25", "'6:25' is not a region"),
        ("6:-5-9", "'6:-5-9' is not a region"),
        ("6:1-2-3", "'2-3' in '6:1-2-3' is not a position"),
        ("6:1-9parsec", "'9parsec' in '6:1-9parsec' is not a position"),
        ("6:1.5-9", "'1.5' in '6:1.5-9' is not a whole number of base pairs"),
        ("6:1-9e99", "'9e99' in '6:1-9e99' is not a whole number of base pairs"),
        ("6:0-9", "'6:0-9' starts at 0, but positions count from 1"),
        ("6:34-25mb", "'6:34-25mb' ends at 25,000,000, before it starts at 34,000,000"),
    ],
)
def test_what_is_no_region_is_refused(text: str, message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_region(text)
    assert str(caught.value).startswith(message)


@given(st.text(max_size=20))
def test_any_text_is_a_region_or_refused(text: str) -> None:
    try:
        region = parse_region(text)
    except ParameterError:
        return
    assert 1 <= region.start_bp <= region.end_bp


@given(st.integers(1, 10**9), st.integers(0, 10**9))
def test_a_region_survives_being_written(start: int, length: int) -> None:
    region = parse_region(f"6:{start}-{start + length}")
    assert parse_region(str(region)) == region


@pytest.mark.parametrize("build", ["GRCh37", "GRCh38"])
def test_known_regions_hold_the_landmarks(build: str) -> None:
    regions = known_regions("long-range-ld", build)
    assert len(regions) == 24
    for contig, *places in LANDMARKS.values():
        position = np.array([places[build == "GRCh38"]])
        assert in_regions((contig,), np.zeros(1, int), position, regions).all()
    assert in_regions(("6",), np.zeros(1, int), np.array([30_000_000]), known_regions("MHC", build)).all()
    for region in regions:
        assert 1 <= region.start_bp < region.end_bp <= LENGTHS[build][region.contig]


def test_known_regions_are_the_same_in_both_builds() -> None:
    """A lifted region keeps its contig, and place and length to a few megabases: what is inserted at centromeres."""
    for old, new in zip(LONG_RANGE_LD["GRCh37"], LONG_RANGE_LD["GRCh38"], strict=True):
        assert old[0] == new[0]
        assert abs(old[1] - new[1]) < 2
        assert abs(old[2] - new[2]) < 2


def test_unknown_names_and_missing_builds_are_refused() -> None:
    with pytest.raises(
        ParameterError, match="'hla' is not a list of regions that biolmm knows: give mhc or long-range-ld"
    ):
        known_regions("hla", "38")
    with pytest.raises(ParameterError, match="--build GRCh37 or GRCh38"):
        known_regions("mhc", None)
    with pytest.raises(ParameterError, match="'hg17'"):
        known_regions("mhc", "hg17")


def test_bed_counts_from_zero(tmp_path: Path) -> None:
    path = tmp_path / "regions.bed"
    path.write_text(
        '# remark\r\ntrack name="x"\nbrowser position chr1:1-2\n\nchr1\t0\t1\nchr2 10 20 gap\nX\t5\t5\nMT\t1\t3\ta name\t7\t+\n'
    )
    assert read_bed_regions(path) == (
        Region("1", 1, 1, "1:1-1"),
        Region("2", 11, 20, "gap"),
        Region("MT", 2, 3, "a name"),
    )


def test_a_text_names_a_list_a_file_or_a_place(tmp_path: Path) -> None:
    path = tmp_path / "regions.bed"
    path.write_text("chr1\t0\t1\n")
    assert find_regions(" MHC ", "37") == known_regions("mhc", "GRCh37")
    assert find_regions(str(path), None) == (Region("1", 1, 1, "1:1-1"),)
    assert find_regions("2:3-4", None) == (Region("2", 3, 4, "2:3-4"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no region"),
        (b"1\t5\t5\n", "holds no region"),
        (b"1\t0\t5\n1\t5\n", "line 2: 2 columns instead of at least 3"),
        (b"1\t0\t5\n1\t-5\t9\n", "line 2: '-5' is not a whole number of base pairs"),
        (b"1\t0\t1e6\n", "line 1: '1e6' is not a whole number"),
        (b"1\t0\t9999999999999999999999\n", "is not a whole number"),
        (b"1\t9\t5\n", "line 1: the region ends at 5, before it starts at 9"),
        (b"1\t9\t\xff\n", "is not a text file"),
    ],
)
def test_damaged_bed_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "regions.bed"
    path.write_bytes(content)
    with pytest.raises(InputFileError) as caught:
        read_bed_regions(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_missing_bed_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="cannot be read"):
        read_bed_regions(tmp_path / "none.bed")


@given(
    st.lists(st.tuples(st.sampled_from(["1", "2", "23", "X"]), st.integers(1, 30), st.integers(0, 9)), max_size=5),
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 45)), max_size=40),
)
def test_in_regions_is_the_definition(spans: list[tuple[str, int, int]], variants: list[tuple[int, int]]) -> None:
    contig_id = ("1", "2", "X")
    regions = [Region(contig, start, start + length, "") for contig, start, length in spans]
    spelt = {"23": "X"}
    expected = [
        any(contig_id[c] == spelt.get(r.contig, r.contig) and r.start_bp <= p <= r.end_bp for r in regions)
        for c, p in variants
    ]
    contig, position = np.array(variants, int).reshape(-1, 2).T
    assert in_regions(contig_id, contig, position, regions).tolist() == expected


def test_chromosome_23_of_another_species_is_not_x() -> None:
    contig_id = ("23", "29", "X")
    assert in_regions(contig_id, np.arange(3), np.ones(3, int), [parse_region("23")]).tolist() == [True, False, False]
