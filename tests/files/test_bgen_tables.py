"""Samples and variants of BGEN files: `.sample` files, the walk, and the `.bgi`."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cbgen
import numpy as np
import pytest

from biolmm.errors import InputFileError, SampleMismatchError
from biolmm.files import bgen_rows, bgen_walk
from biolmm.files.bgen import BgenDecoder, open_bgen
from biolmm.files.bgen_header import read_header
from biolmm.files.bgen_index import BgenIndex, read_bgi, read_index, walk_index
from biolmm.files.encoding import Encoding
from biolmm.files.genotypes import VariantTable
from biolmm.files.oxford_sample import read_oxford_sample
from oracles.bgen_writer import Options, Variant, write_bgen, write_bgi

IDS = ("F1_S1", "F2_S2", "F3_S3")


def some_variants(n: int, n_samples: int = 3, alleles: int = 2) -> list[Variant]:
    """Give n variants on three contigs, of which every seventh has `alleles` alleles."""
    samples, flat = ((255, 0, 0), (0, 255, 0), (0, 0, 255)), (2,) * n_samples
    variants = []
    for i in range(n):
        k = alleles if i % 7 == 6 else 2
        stored = tuple((*samples[(i + j) % 3], *[0] * (k * (k + 1) // 2 - 3)) for j in range(n_samples))
        names = ("A", "G" * (1 + i % 3), "é", "T", "C")[:k]
        contig = ("01", "chr10", "X")[3 * i // n]
        variants.append(
            Variant(stored, flat, (False,) * n_samples, alleles=names, rsid=f"rs{i}", contig=contig, position=10 * i)
        )
    return variants


def described(table: VariantTable) -> list[tuple[object, ...]]:
    contigs = [table.contig_id[code] for code in table.contig]
    return list(zip(contigs, table.position, table.variant_id, table.ref, table.alt, strict=True))


def same(one: BgenIndex, other: BgenIndex) -> bool:
    rows = (None if index.first_row is None else index.first_row.tolist() for index in (one, other))
    return (
        one.offsets.tolist() == other.offsets.tolist()
        and next(rows) == next(rows)
        and one.variants.contig_id == other.variants.contig_id
        and described(one.variants) == described(other.variants)
    )


@pytest.mark.parametrize("layout", [1, 2])
@pytest.mark.parametrize("alleles", [2, 4])
def test_the_walk_finds_every_variant(tmp_path: Path, layout: int, alleles: int) -> None:
    variants = some_variants(40, alleles=alleles if layout == 2 else 2)
    offsets = write_bgen(tmp_path / "x.bgen", variants, Options(layout=layout, free_data=b"free data"))
    index = walk_index(read_header(tmp_path / "x.bgen"))
    assert index.offsets.tolist() == offsets
    expected = [(v.contig, v.position, v.rsid, v.alleles[0], alt) for v in variants for alt in v.alleles[1:]]
    assert described(index.variants) == expected
    assert index.variants.contig_id == ("01", "chr10", "X")
    assert (index.first_row is None) == (len(expected) == len(variants))


@pytest.mark.parametrize("window_bytes", [1, 50, 333, 4000])
@pytest.mark.parametrize(("few", "rows"), [(1, 3), (64, 8192)])
def test_windows_of_any_size_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window_bytes: int, few: int, rows: int
) -> None:
    write_bgen(tmp_path / "x.bgen", some_variants(60, alleles=4), Options())
    header = read_header(tmp_path / "x.bgen")
    whole = walk_index(header)
    monkeypatch.setattr(bgen_walk, "_WINDOW_BYTES", window_bytes)
    monkeypatch.setattr(bgen_walk, "_SMALL_WINDOW_BYTES", window_bytes)
    monkeypatch.setattr(bgen_walk, "_FEW", few)
    monkeypatch.setattr(bgen_walk, "_N_MERGED", 7)
    monkeypatch.setattr(bgen_walk, "_ROWS", rows)
    monkeypatch.setattr(bgen_rows, "_ROWS", 11)
    assert same(walk_index(header), whole)


def test_variants_equal_those_of_cbgen(tmp_path: Path) -> None:
    variants = some_variants(50)
    path = tmp_path / "x.bgen"
    write_bgen(path, variants, Options(sample_ids=IDS))
    source = open_bgen(path)
    with cbgen.bgen_file(path) as file:
        assert [name.decode() for name in file.read_samples()] == source.samples.sample_id.tolist()
        file.create_metafile(tmp_path / "x.metafile")
    with cbgen.bgen_metafile(tmp_path / "x.metafile") as metafile:
        parts = [metafile.read_partition(i).variants for i in range(metafile.npartitions)]
    found = [
        (contig.decode(), position, name.decode(), *alleles.decode().split(","))
        for part in parts
        for contig, position, name, alleles in zip(
            part.chromosome, part.position, part.rsid, part.allele_ids, strict=True
        )
    ]
    assert described(source.variants) == found


def test_empty_texts_have_a_stand_in(tmp_path: Path) -> None:
    first, second = some_variants(2)
    first = replace(first, rsid="", other_id="snp", contig="", alleles=("", "A"))
    second = replace(second, rsid="", other_id="", alleles=("A", ""))
    path = tmp_path / "x.bgen"
    offsets = write_bgen(path, [first, second], Options())
    write_bgi(path, [first, second], offsets)
    header = read_header(path)
    index = walk_index(header)
    assert described(index.variants) == [(".", 0, "snp", ".", "A"), (second.contig, 10, ".", "A", ".")]
    assert same(read_bgi(header, tmp_path / "x.bgen.bgi"), index)


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("alleles", [2, 5])
def test_a_bgi_gives_what_the_walk_gives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, metadata: bool, alleles: int
) -> None:
    path, variants = tmp_path / "x.bgen", some_variants(60, alleles=alleles)
    offsets = write_bgen(path, variants, Options(sample_ids=IDS))
    without = open_bgen(path)
    bgi = write_bgi(path, variants, offsets, metadata)
    assert same(read_bgi(read_header(path), bgi), walk_index(read_header(path)))
    with_index = open_bgen(path)
    assert not caplog.records
    for start, stop in ((0, without.variants.n), (5, 9), (11, 12)):
        one, other = (source.decoder.read(start, stop, Encoding.DOSAGE16) for source in (without, with_index))
        np.testing.assert_array_equal(one.rows, other.rows)


def other_bytes(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE Metadata SET first_1000_bytes = zeroblob(1000)")


def other_size(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE Metadata SET file_size = file_size + 1")


def one_less(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM Variant WHERE rsid = 'rs59'")


def one_more(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO Variant SELECT chromosome, position, 'more', 2, 'A', 'C', file_start_position + size_in_bytes, 0 "
        "FROM Variant WHERE rsid = 'rs59'"
    )


def other_offset(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE Variant SET file_start_position = file_start_position + 1 WHERE rsid = 'rs20'")


def other_name(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE Variant SET rsid = 'renamed' WHERE rsid = 'rs59'")


def other_alleles(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE Variant SET allele1 = 'G', allele2 = 'A' WHERE rsid = 'rs0'")


def no_number(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE Variant SET position = 'here' WHERE rsid = 'rs3'")


def no_count(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE Variant SET number_of_alleles = -1 WHERE rsid = 'rs3'")


def no_text(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE Variant SET chromosome = x'ff' WHERE rsid = 'rs3'")


def no_table(connection: sqlite3.Connection) -> None:
    connection.execute("DROP TABLE Variant")


STALE = [other_bytes, other_size, one_less, one_more, other_offset, other_name, other_alleles, no_number, no_count,
         no_text, no_table]  # fmt: skip


@pytest.mark.parametrize("damage", STALE)
def test_a_stale_bgi_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[sqlite3.Connection], None]
) -> None:
    path, variants = tmp_path / "x.bgen", some_variants(60, alleles=3)
    bgi = write_bgi(path, variants, write_bgen(path, variants, Options()))
    header = read_header(path)
    with sqlite3.connect(bgi) as connection:
        damage(connection)
    connection.close()
    with caplog.at_level(logging.WARNING):
        assert same(read_index(header, bgi), walk_index(header))
    assert "x.bgen.bgi does not belong to" in caplog.text
    assert "bgenix -index" in caplog.text


def test_a_bgi_that_is_no_database_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.bgen"
    write_bgen(path, some_variants(3), Options(sample_ids=IDS))
    for content in (b"", b"SQLite format 3\0" + b"x" * 500, b"text"):
        (tmp_path / "x.bgen.bgi").write_bytes(content)
        caplog.clear()
        assert open_bgen(path).variants.n == 3
        assert "cannot be read" in caplog.text


def test_a_bgi_with_fewer_alleles_is_found_when_rows_are_read(tmp_path: Path) -> None:
    """Variants that are not looked up when the index is opened are compared when they are read."""
    path, variants = tmp_path / "x.bgen", some_variants(100, alleles=3)
    bgi = write_bgi(path, variants, write_bgen(path, variants, Options(sample_ids=IDS)))
    with sqlite3.connect(bgi) as connection:
        connection.execute("UPDATE Variant SET number_of_alleles = 2 WHERE rsid = 'rs13'")
    connection.close()
    header = read_header(path)
    index = read_bgi(header, bgi)
    with pytest.raises(InputFileError, match=r"variant 14 \(rs13\): 3 alleles instead of 2"):
        BgenDecoder(header, index.offsets, index.first_row).read(0, index.variants.n, Encoding.DOSAGE8)


def sample_file(path: Path, rows: list[str], header: str = "ID_1 ID_2 missing sex\n0 0 0 D\n") -> Path:
    path.write_text(header + "".join(f"{row}\n" for row in rows))
    return path


SAMPLE_ROWS = ["F1 S1 0 1", "F2 S2 0 2", "F3 S3 0.1 NA"]


@pytest.mark.parametrize("ids", [None, ("S1", "S2", "S3"), ("F1_S1", "F2_S2", "F3_S3")])
def test_a_sample_file_beside_gives_sex_and_family(tmp_path: Path, ids: tuple[str, ...] | None) -> None:
    path = tmp_path / "x.bgen"
    write_bgen(path, some_variants(2), Options(sample_ids=ids))
    beside = sample_file(tmp_path / "x.sample", SAMPLE_ROWS)
    source = open_bgen(path)
    assert source.files == (path, beside)
    assert source.samples.sample_id.tolist() == ["S1", "S2", "S3"]
    assert source.samples.family_id.tolist() == ["F1", "F2", "F3"]
    assert source.samples.sex.tolist() == [1, 2, 0]


def test_ids_may_be_the_first_of_the_sample_file(tmp_path: Path) -> None:
    path = tmp_path / "x.bgen"
    write_bgen(path, some_variants(2), Options(sample_ids=("F1", "F2", "F3")))
    sample_file(tmp_path / "x.sample", SAMPLE_ROWS)
    assert open_bgen(path).samples.sample_id.tolist() == ["F1", "F2", "F3"]
    assert open_bgen(path).samples.sex.tolist() == [1, 2, 0]


def test_a_sample_file_that_is_given_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "x.bgen"
    write_bgen(path, some_variants(2), Options(sample_ids=("a", "b", "c")))
    given = sample_file(tmp_path / "other.sample", SAMPLE_ROWS)
    assert open_bgen(path).samples.sample_id.tolist() == ["a", "b", "c"]
    source = open_bgen(path, given)
    assert source.samples.sample_id.tolist() == ["S1", "S2", "S3"]
    assert source.files == (path, given)


@pytest.mark.parametrize("ids", [("S1", "S2", "S3"), ("F1_S1", "F2_S2", "F3_S3"), ("F1", "F2", "F3")])
def test_a_given_sample_file_in_another_order_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ids: tuple[str, ...]
) -> None:
    path = tmp_path / "x.bgen"
    write_bgen(path, some_variants(2), Options(sample_ids=ids))
    given = sample_file(tmp_path / "other.sample", SAMPLE_ROWS)
    assert open_bgen(path, given).samples.sample_id.tolist() == ["S1", "S2", "S3"]
    sample_file(given, [SAMPLE_ROWS[i] for i in (0, 2, 1)])
    wrong = (
        rf"other\.sample names .* in another order: at sample 2, {ids[2]} instead of {ids[1]}\. Genotypes go by place"
    )
    with pytest.raises(SampleMismatchError, match=wrong):
        open_bgen(path, given)
    assert not caplog.records


def test_a_given_sample_file_that_moves_some_ids_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.bgen"
    write_bgen(path, some_variants(2), Options(sample_ids=("S1", "S3", "S4")))
    given = sample_file(tmp_path / "other.sample", SAMPLE_ROWS)
    with caplog.at_level(logging.WARNING):
        assert open_bgen(path, given).samples.sample_id.tolist() == ["S1", "S2", "S3"]
    assert len(caplog.records) == 1
    assert "other.sample names 1 samples of " in caplog.text
    assert "in other places than the file itself does: S3." in caplog.text
    caplog.clear()
    write_bgen(path, some_variants(2), Options(sample_ids=("S1", "x", "S3")))  # one renamed where it is
    with caplog.at_level(logging.WARNING):
        open_bgen(path, given)
    assert not caplog.records


def test_samples_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.bgen"
    write_bgen(path, some_variants(2), Options(sample_ids=("S1", "S2", "S4")))
    sample_file(tmp_path / "x.sample", SAMPLE_ROWS)
    with pytest.raises(SampleMismatchError, match=r"at sample 3, S3 instead of S4\. Move it away"):
        open_bgen(path)
    sample_file(tmp_path / "x.sample", SAMPLE_ROWS[:2])
    with pytest.raises(SampleMismatchError, match=r"x\.sample names 2 samples and .*x\.bgen holds 3"):
        open_bgen(path)


def test_samples_must_be_named_once(tmp_path: Path) -> None:
    path = tmp_path / "x.bgen"
    write_bgen(path, some_variants(2), Options(sample_ids=("S1", "S2", "S1")))
    with pytest.raises(InputFileError, match=r"x\.bgen names 1 sample ids more than once: S1\. "):
        open_bgen(path)
    write_bgen(path, some_variants(2), Options())
    with pytest.raises(InputFileError, match=r"does not name its samples, and x\.sample is not beside it"):
        open_bgen(path)
    with pytest.raises(InputFileError, match=r"none\.sample' does not exist"):
        open_bgen(path, tmp_path / "none.sample")


@pytest.mark.parametrize(
    ("header", "rows", "expected"),
    [
        ("ID_1 ID_2 missing sex\n0 0 0 D\n", ["a b 0 1"], (["a"], ["b"], [1])),
        ("ID sex\n0 D\n", ["a female"], (["0"], ["a"], [2])),
        ("# made by qctool\nID_1 missing SEX\n0 C D\n", ["a NA M", "b 0 F"], (["0", "0"], ["a", "b"], [1, 2])),
        ("ID_1 ID_2 missing\n0 0 0\n", ["a 0 0", "b 0 0"], (["0", "0"], ["a", "b"], [0, 0])),
        ("ID_1\tID_2 missing height\r\n0 0 0 P\r\n", ["a b 0 1.8"], (["a"], ["b"], [0])),
    ],
)
def test_kinds_of_sample_files(
    tmp_path: Path, header: str, rows: list[str], expected: tuple[list[str], list[str], list[int]]
) -> None:
    found = read_oxford_sample(sample_file(tmp_path / "x.sample", rows, header))
    assert (found.family_id.tolist(), found.sample_id.tolist(), found.sex.tolist()) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not an Oxford .sample file"),
        ("F1 S1 0 1\nF2 S2 0 2\n", "is not an Oxford .sample file"),
        ("ID_1 ID_2 missing\n0 0\n", "is not an Oxford .sample file"),
        ("ID_1 ID_2 missing\n0 0 0\n", "names no sample"),
        ("ID_1 ID_2 missing\n0 0 0\na b 0\nc d\n", "line 4: 2 columns where the header has 3"),
    ],
)
def test_sample_files_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.sample"
    path.write_text(text)
    with pytest.raises(InputFileError, match=message):
        read_oxford_sample(path)
