"""PLINK 1 files: read against bed-reader, written for bed-reader and byte for byte against a naive encoder."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from bed_reader import open_bed, to_bed
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from biolmm.errors import InputFileError, OutputError
from biolmm.files.bed import bed_files, check_bed, read_bim, read_fam, read_packed_rows, write_bed
from biolmm.files.bed import open_bed as open_source_bed
from biolmm.files.bed_tables import count_duplicates
from biolmm.files.encoding import Encoding, dosages_from_rows, row_bytes
from biolmm.files.genotypes import SampleTable, VariantTable, as_strings, concatenate_variants

Calls = NDArray[np.uint8]
WritePlink = Callable[..., Path]

calls_of_any_shape = st.tuples(st.integers(1, 9), st.integers(1, 70)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 3))
)


def unpacked(packed: Calls, n_samples: int) -> Calls:
    """Unpack by definition, one bit pair at a time."""
    out = np.empty((len(packed), n_samples), np.uint8)
    for i in range(n_samples):
        out[:, i] = packed[:, i // 4] >> 2 * (i % 4) & 3
    return out


def tables(n_variants: int, n_samples: int) -> tuple[SampleTable, VariantTable]:
    ids = np.array([f"S{i}" for i in range(n_samples)])
    samples = SampleTable(ids, ids, np.zeros(n_samples, np.int8))
    index = np.arange(n_variants)
    names = as_strings([f"rs{i}" for i in index])
    alleles = as_strings(["A"] * n_variants), as_strings(["C"] * n_variants)
    return samples, VariantTable(np.zeros(n_variants, np.int32), ("7",), index + 1, names, *alleles)


@settings(deadline=None, max_examples=40)
@given(calls_of_any_shape)
def test_rows_equal_those_of_bed_reader(calls: Calls) -> None:
    n_variants, n_samples = calls.shape
    with TemporaryDirectory() as folder:
        bed = Path(folder) / "x.bed"
        values = np.where(calls == 3, -127, calls.astype(np.int8)).T
        to_bed(bed, values.astype(np.int8))
        packed = read_packed_rows(bed, n_samples, 0, n_variants)
    np.testing.assert_array_equal(unpacked(packed, n_samples), calls)
    padding = unpacked(packed, packed.shape[1] * 4)[:, n_samples:]
    assert packed.shape == (n_variants, row_bytes(n_samples))
    assert (padding == 3).all()


@settings(deadline=None, max_examples=40)
@given(calls_of_any_shape, st.data())
def test_a_slice_is_a_slice_of_the_whole(calls: Calls, data: st.DataObject) -> None:
    n_variants, n_samples = calls.shape
    start = data.draw(st.integers(0, n_variants - 1))
    stop = data.draw(st.integers(start + 1, n_variants))
    with TemporaryDirectory() as folder:
        bed = Path(folder) / "x.bed"
        to_bed(bed, np.where(calls == 3, -127, calls.astype(np.int8)).T.astype(np.int8))
        whole = read_packed_rows(bed, n_samples, 0, n_variants)
        out = np.zeros((stop - start, row_bytes(n_samples)), np.uint8)
        assert read_packed_rows(bed, n_samples, start, stop, out=out) is out
    np.testing.assert_array_equal(out, whole[start:stop])


def test_writing_gives_the_bytes_of_the_naive_encoder(write_plink: WritePlink, tmp_path: Path) -> None:
    calls = np.random.default_rng(0).integers(0, 4, (11, 37), dtype=np.uint8)
    naive = write_plink(calls)
    samples, variants = read_fam(naive.with_suffix(".fam")), read_bim(naive.with_suffix(".bim"))
    blocks = (read_packed_rows(naive, 37, start, min(start + 4, 11)) for start in range(0, 11, 4))
    written = write_bed(tmp_path / "again", samples, variants, blocks)
    assert written.bed.read_bytes() == naive.read_bytes()
    assert written.bim.read_bytes() == naive.with_suffix(".bim").read_bytes()
    assert read_fam(written.fam).sample_id.tolist() == samples.sample_id.tolist()
    np.testing.assert_array_equal(read_fam(written.fam).sex, samples.sex)


@settings(deadline=None, max_examples=30)
@given(calls_of_any_shape)
def test_bed_reader_reads_what_is_written(calls: Calls) -> None:
    n_variants, n_samples = calls.shape
    samples, variants = tables(n_variants, n_samples)
    packed = np.full((n_variants, row_bytes(n_samples)), 0, np.uint8)
    padded = np.full((n_variants, row_bytes(n_samples) * 4), 3, np.uint8)
    padded[:, :n_samples] = calls
    for i in range(4):
        packed |= padded[:, i::4] << 2 * i
    with TemporaryDirectory() as folder:
        files = write_bed(Path(folder) / "x", samples, variants, [packed])
        with open_bed(files.bed) as bed:
            values = bed.read(dtype="int8").T
            assert bed.iid.tolist() == samples.sample_id.tolist()
            assert bed.sid.tolist() == variants.variant_id.tolist()
            assert bed.allele_1.tolist() == variants.alt.tolist()
    np.testing.assert_array_equal(np.where(values == -127, 3, values), calls)


def test_a_failed_write_leaves_the_files_that_were_there(tmp_path: Path) -> None:
    samples, variants = tables(2, 3)
    rows = np.zeros((2, 8), np.uint8)
    files = write_bed(tmp_path / "x", samples, variants, [rows])
    before = files.bed.read_bytes()
    with pytest.raises(ValueError, match="1 rows were given for 2 variants"):
        write_bed(tmp_path / "x", samples, variants, [rows[:1]])
    assert files.bed.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.bed", "x.bim", "x.fam"]


def test_writing_where_no_folder_is_names_the_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    samples, variants = tables(1, 1)
    with pytest.raises(OutputError, match=r"x\.bed cannot be written: Not a directory"):
        write_bed(tmp_path / "file" / "x", samples, variants, [np.zeros((1, 8), np.uint8)])


def test_tables_of_real_data_equal_those_of_bed_reader(shared_data: Path) -> None:
    files = bed_files(shared_data / "mouse_hs1940" / "mouse_hs1940.bed")
    samples, variants = read_fam(files.fam), read_bim(files.bim)
    check_bed(files, samples.n, variants)
    with open_bed(files.bed) as bed:
        values = bed.read(dtype="int8", index=np.s_[:, 5000:5300]).T
        assert bed.iid.tolist() == samples.sample_id.tolist()
        assert bed.fid.tolist() == samples.family_id.tolist()
        assert bed.sex.tolist() == samples.sex.tolist()
        assert bed.chromosome.tolist() == [variants.contig_id[i] for i in variants.contig]
        assert bed.bp_position.tolist() == variants.position.tolist()
        assert bed.sid.tolist() == variants.variant_id.tolist()
        assert bed.allele_1.tolist() == variants.alt.tolist()
        assert bed.allele_2.tolist() == variants.ref.tolist()
    packed = read_packed_rows(files.bed, samples.n, 5000, 5300)
    np.testing.assert_array_equal(unpacked(packed, samples.n), np.where(values == -127, 3, values))


def test_a_name_without_suffix_finds_the_set(write_plink: WritePlink) -> None:
    bed = write_plink(np.zeros((1, 1), np.uint8), name="a.b")
    assert bed_files(bed.with_suffix("")) == bed_files(bed)


def test_contigs_keep_their_spelling_and_the_order_of_first_appearance(tmp_path: Path) -> None:
    path = tmp_path / "x.bim"
    path.write_text("".join(f"{c} v 0 5 A G\n" for c in ("chr2", "X", "2", "chr2", "1", "X")))
    variants = read_bim(path)
    assert variants.contig_id == ("chr2", "X", "2", "1")
    assert variants.contig.tolist() == [0, 1, 2, 0, 3, 1]


def test_text_that_looks_missing_or_quoted_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.bim"
    path.write_text('1 "NA 0 -9 NA nan\r\n\r\nnull N/A 0 7 0 .')
    variants = read_bim(path)
    assert variants.variant_id.tolist() == ['"NA', "N/A"]
    assert (variants.alt.tolist(), variants.ref.tolist()) == (["NA", "0"], ["nan", "."])
    assert (variants.position.tolist(), variants.contig_id) == ([-9, 7], ("1", "null"))


def test_sex_is_unknown_unless_1_or_2(tmp_path: Path) -> None:
    path = tmp_path / "x.fam"
    path.write_text("".join(f"f s{i} 0 0 {sex} 1\n" for i, sex in enumerate(["1", "2", "0", "-9", "M"])))
    assert read_fam(path).sex.tolist() == [1, 2, 0, 0, 0]


def test_duplicates_are_counted_where_contig_position_and_alleles_agree(tmp_path: Path) -> None:
    path = tmp_path / "x.bim"
    path.write_text("1 a 0 5 A G\n1 b 0 5 A G\n1 c 0 5 A T\n2 d 0 5 A G\n1 e 0 5 A G\n1 f 0 -9 A G\n1 g 0 -9 A G\n")
    assert count_duplicates(read_bim(path)) == 2


def test_concatenation_keeps_names_of_contigs(tmp_path: Path) -> None:
    (tmp_path / "a.bim").write_text("2 a 0 5 A G\n1 b 0 5 A G\n")
    (tmp_path / "b.bim").write_text("3 c 0 5 A G\n1 d 0 5 A G\n")
    both = concatenate_variants([read_bim(tmp_path / "a.bim"), read_bim(tmp_path / "b.bim")])
    assert [both.contig_id[i] for i in both.contig] == ["2", "1", "3", "1"]
    assert both.contig_id == ("2", "1", "3")


def test_a_file_cut_while_it_is_read_is_an_error(write_plink: WritePlink) -> None:
    bed = write_plink(np.zeros((4, 9), np.uint8))
    bed.write_bytes(bed.read_bytes()[:-1])
    with pytest.raises(InputFileError, match="truncated: variants 3 to 4 take 6 bytes and 5 are there"):
        read_packed_rows(bed, 9, 2, 4)


@pytest.mark.parametrize("encoding", list(Encoding))
def test_a_source_reads_any_rows_in_any_encoding(write_plink: WritePlink, encoding: Encoding) -> None:
    calls = np.random.default_rng(8).integers(0, 4, (20, 13), dtype=np.uint8)
    source = open_source_bed(write_plink(calls, contigs=["chr1"] * 9 + ["chrX"] * 11))
    block = source.decoder.read(4, 17, encoding)
    assert (block.rows.dtype, block.rows.shape) == (encoding.dtype, (13, encoding.width(13)))
    expected = np.where(calls == 3, np.nan, calls.astype(float))
    np.testing.assert_array_equal(dosages_from_rows(block.rows, encoding, 13), expected[4:17])
    assert (source.samples.n, source.variants.n, source.variants.contig_id) == (13, 20, ("chr1", "chrX"))
    assert (source.has_dosages, source.random_access, source.notes) == (False, True, {"kind": "bed"})
    assert [path.suffix for path in source.files] == [".bed", ".bim", ".fam"]
    again = pickle.loads(pickle.dumps(source.decoder))
    np.testing.assert_array_equal(again.read(4, 17, encoding).rows, block.rows)
    for start, stop in ((-1, 3), (3, 21), (5, 4)):
        with pytest.raises(IndexError, match="of 20"):
            source.decoder.read(start, stop, encoding)


def spoil(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut a file short, flip bits in it, overwrite a stretch, or put one in or take one out."""
    kind = rng.integers(5)
    if kind == 0:
        return content[: rng.integers(len(content))]
    changed = bytearray(content)
    if kind == 1:
        for place in rng.integers(0, len(content), rng.integers(1, 4)):
            changed[place] ^= 1 << int(rng.integers(8))
        return bytes(changed)
    start = int(rng.integers(len(content)))
    stretch = rng.bytes(int(rng.integers(1, 30)))
    if kind == 2:
        changed[start : start + len(stretch)] = stretch
    elif kind == 3:
        changed[start:start] = stretch
    else:
        del changed[start : start + len(stretch)]
    return bytes(changed)


@pytest.mark.parametrize("seed", range(10))
def test_spoiled_files_are_refused_or_read_as_well_formed_data(write_plink: WritePlink, seed: int) -> None:
    """300 file sets with one spoiled file each: an `InputFileError` of one line, or rows and tables that fit."""
    n_refused = 0
    for case in range(30):
        rng = np.random.default_rng([seed, case])
        shape = tuple(rng.integers(1, 30, 2).tolist())
        bed = write_plink(rng.integers(0, 4, shape, dtype=np.uint8))
        path = bed.with_suffix(("bed", "bim", "fam")[case % 3].join([".", ""]))
        path.write_bytes(spoil(path.read_bytes(), rng))
        try:
            source = open_source_bed(bed)
            block = source.decoder.read(0, source.variants.n, Encoding.CALLS)
        except InputFileError as error:
            n_refused += 1
            assert str(bed.with_suffix("")) in str(error)
            assert "\n" not in str(error)
            continue
        assert block.rows.shape == (source.variants.n, row_bytes(source.samples.n))
        assert (unpacked(block.rows, block.rows.shape[1] * 4)[:, source.samples.n :] == 3).all()
        columns = [source.variants.position, source.variants.variant_id, source.variants.ref, source.variants.alt]
        assert all(len(each) == source.variants.n for each in columns)
        assert source.variants.contig.max() < len(source.variants.contig_id)
        assert len(set(source.samples.sample_id.tolist())) == source.samples.n
    assert n_refused
