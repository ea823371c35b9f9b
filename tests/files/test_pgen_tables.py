"""The tables of a PLINK 2 fileset: what is read, and the line that is wrong."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biolmm.errors import InputFileError
from biolmm.files import pvar
from biolmm.files.psam import read_psam
from biolmm.files.pvar import AlleleRows, read_pvar

HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def table(path: Path, text: str) -> list[tuple[str, int, str, str, str]]:
    """Read text as a `.pvar`, row by row."""
    path.write_text(text)
    v = read_pvar(path).rows
    columns = (v.position, v.variant_id, v.ref, v.alt)
    names = [v.contig_id[i] for i in v.contig]
    return list(zip(names, *(column.tolist() for column in columns), strict=True))


def test_pvar_rows(tmp_path: Path) -> None:
    text = HEADER + "chr2\t5\t.\tA\tC,<DEL>,*\t.\tPASS\tAF=1,2\n\n1 7  x\tAT .  . . .\r\nchr2\t+9\tü\tG\tT\t1\t2\t3"
    assert table(tmp_path / "x.pvar", text) == [
        ("chr2", 5, ".", "A", "C"),
        ("chr2", 5, ".", "A", "<DEL>"),
        ("chr2", 5, ".", "A", "*"),
        ("1", 7, "x", "AT", "."),
        ("chr2", 9, "ü", "G", "T"),
    ]


def test_columns_are_found_by_their_names(tmp_path: Path) -> None:
    assert table(tmp_path / "x.pvar", "#CHROM ID ALT REF CM POS\nX a C G 0.5 12\n") == [("X", 12, "a", "G", "C")]
    vcf = "##x\n#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT S1 S2\n1 2 a G C . . . GT 0/1 ./.\n"
    assert table(tmp_path / "x.pvar", vcf) == [("1", 2, "a", "G", "C")]


def test_without_a_header_it_is_a_bim(tmp_path: Path) -> None:
    assert table(tmp_path / "x.bim", "1 a 0 5 A G\n1 b 0 -6 C T\n") == [
        ("1", 5, "a", "G", "A"),
        ("1", -6, "b", "T", "C"),
    ]
    assert table(tmp_path / "x.bim", "\n1 a 5 A G\n") == [("1", 5, "a", "G", "A")]


@pytest.mark.parametrize("zstd", [False, True])
def test_blocks_of_any_size_read_alike(zstd: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        f"{1 + i // 50}\t{i}\tv{i}\tA\t{'C,G' if i % 7 == 0 else 'T'}\tx\tx\t{'x' * (i % 40)}y\n" for i in range(200)
    ]
    path = tmp_path / "x.pvar.zst"
    packed = pa.compress((HEADER + "".join(lines)).encode(), "zstd", asbytes=True)
    path.write_bytes(packed if zstd else (HEADER + "".join(lines)).encode())
    whole = read_pvar(path)
    for size in (1, 13, 100, 5000):
        monkeypatch.setattr(pvar, "_BLOCK_BYTES", size)
        again = read_pvar(path)
        assert again.rows.contig_id == ("1", "2", "3", "4")
        for name in ("contig", "position", "variant_id", "ref", "alt"):
            np.testing.assert_array_equal(getattr(again.rows, name), getattr(whole.rows, name))


@settings(max_examples=50)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.data())
def test_rows_of_alleles(n_alts: list[int], data: st.DataObject) -> None:
    expected = [(variant, allele) for variant, n in enumerate(n_alts) for allele in range(1, n + 1)]
    counts = np.array(n_alts)
    alleles = AlleleRows(np.flatnonzero(counts > 1), counts[counts > 1])
    start = data.draw(st.integers(0, len(expected)))
    stop = data.draw(st.integers(start, len(expected)))
    assert list(zip(*(index.tolist() for index in alleles.of(start, stop)), strict=True)) == expected[start:stop]
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(n_alts))] * 2)))
    assert alleles.alts(first, last).tolist() == n_alts[first:last]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.pvar names no variants"),
        (HEADER, "x.pvar names no variants"),
        ("##a\n1\t2\ta\tC\tG\n", "x.pvar, line 2: a header #CHROM POS ID REF ALT must come first"),
        ("#CHROM POS ID REF\n1 2 a C\n", "x.pvar, line 1: the header has 0 columns ALT"),
        ("1 a 5 A\n", "x.pvar, line 1: 4 columns instead of a header #CHROM"),
        (HEADER + "1\t2\ta\tC\tG\t.\t.\t.\n1\t2\ta\tC\tG\t.\t.\n", "x.pvar, line 4: 7 columns instead of 8"),
        (HEADER + "\n1\t2\ta\tC\tG\t.\t.\t.\tx\n", "x.pvar, line 4: 9 columns instead of 8"),
        (HEADER + "1\t2.0\ta\tC\tG\t.\t.\t.\n", "x.pvar, line 3: position '2.0' is not an integer"),
        (
            HEADER + "1\t1234567890123456789\ta\tC\tG\t.\t.\t.\n",
            "x.pvar, line 3: position '1234567890123456789' is not",
        ),
        (HEADER + "1\t-\ta\tC\tG\t.\t.\t.\n", "x.pvar, line 3: position '-' is not an integer"),
        (HEADER + "1\t2\ta\tC\tG,\t.\t.\t.\n", "x.pvar, line 3: REF 'C' and ALT 'G,' are not alleles"),
        (HEADER + "1\t2\ta\tC,T\tG\t.\t.\t.\n", "x.pvar, line 3: REF 'C,T' and ALT 'G' are not alleles"),
        (HEADER + "1\t2\ta\tC\tG,,T\t.\t.\t.\n", "x.pvar, line 3: REF 'C' and ALT 'G,,T' are not alleles"),
        (HEADER + "1\t2\ta\0\tC\tG\t.\t.\t.\n", "x.pvar, line 3: holds a zero byte"),
    ],
)
def test_wrong_lines_of_variants(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputFileError) as error:
        table(tmp_path / "x.pvar", text)
    assert message in str(error.value)


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "x.pvar").write_bytes(HEADER.encode() + b"1\t2\ta\xff\tC\tG\t.\t.\t.\n")
    with pytest.raises(InputFileError, match=r"x\.pvar is not a text file: invalid start byte behind line 3"):
        read_pvar(tmp_path / "x.pvar")
    packed = pa.compress(HEADER.encode() * 100, "zstd", asbytes=True)
    (tmp_path / "x.pvar").write_bytes(packed[:-20])
    with pytest.raises(InputFileError, match=r"x\.pvar cannot be read, or its zstd is damaged"):
        read_pvar(tmp_path / "x.pvar")


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=60), st.integers(0, 200), st.booleans(), st.booleans())
def test_damaged_tables_are_refused_or_read(patch: bytes, at: int, zstd: bool, cut: bool) -> None:
    variants = (HEADER + "1\t2\ta\tC\tG,T\t.\t.\t.\n" * 4).encode()
    for name, text, read in (("x.pvar", variants, read_pvar), ("x.psam", b"#FID IID SEX\n1 2 3\n4 5 6\n", read_psam)):
        content = pa.compress(text, "zstd", asbytes=True) if zstd and read is read_pvar else text
        at = min(at, len(content))
        with TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content[:at] + patch + (b"" if cut else content[at + len(patch) :]))
            try:
                read(path)
            except InputFileError as error:
                assert str(path) in str(error) and "\n" not in str(error)


def test_psam_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.psam"
    path.write_text("##x\n#FID\tIID\tPAT\tSEX\tBMI\nf1\ts1\t0\t1\t3\nf2 s2 0 F 4\nf3 s3 0 NA 5 extra\nf4 s4 0 m 5\n")
    samples = read_psam(path)
    assert samples.sample_id.tolist() == ["s1", "s2", "s3", "s4"]
    assert samples.family_id.tolist() == ["f1", "f2", "f3", "f4"]
    assert samples.sex.tolist() == [1, 2, 0, 1]
    path.write_text("#IID\nb\na\n")
    samples = read_psam(path)
    assert (samples.sample_id.tolist(), samples.family_id.tolist()) == (["b", "a"], ["0", "0"])
    assert samples.sex.tolist() == [0, 0]
    path.write_text("f s 0 0 2 -9\n")
    assert (read_psam(path).family_id.tolist(), read_psam(path).sex.tolist()) == (["f"], [2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#IID SEX\n", "x.psam names no samples"),
        ("#SID IID\na b\n", "x.psam: the header begins with #SID IID instead of #FID IID or #IID"),
        ("#FID SEX\na b\n", "x.psam: the header begins with #FID SEX instead of #FID IID or #IID"),
        ("#IID SEX SEX\na 1 1\n", "x.psam: the header names a column twice: SEX"),
        ("#IID SEX\na 1\nb\n", "x.psam, line 3: 1 columns, and the header names 2"),
        ("#FID IID\n1 a\n2 a\n", "x.psam names 1 sample ids (column IID) more than once: a. Samples are matched"),
    ],
)
def test_wrong_lines_of_samples(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.psam").write_text(text)
    with pytest.raises(InputFileError) as error:
        read_psam(tmp_path / "x.psam")
    assert message in str(error.value)
