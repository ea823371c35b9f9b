"""Damaged, truncated and malformed VCF and BCF: every one is refused in one line that says where, or read as it is."""

# ruff: noqa: E501
from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from biolmm.errors import InputFileError
from biolmm.files.encoding import Encoding
from biolmm.files.vcf import open_vcf
from oracles.vcf_text import HEADER, Record, bgzf, unpack_bgzf, vcf_text, write_bcf

GOOD = [
    Record("chr2", 10, "a", "A", "C", "GT:DS:HDS:GP", ["0|1:0.9:0.1,0.8:0.1,0.8,0.1", "1|1:2:1,1:0,0,1"]),
    Record("chr2", 20, "b", "A", "C,G", "GT:DP", ["0/2:7", "./.:."]),
    Record("X", 5, "c", "A", "T", "GT", ["0", "0/1"]),
]


def write(folder: Path, text: str | bytes, packing: str = "plain") -> Path:
    path = folder / "x.vcf"
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes({"bgzf": bgzf, "gzip": gzip.compress}.get(packing, bytes)(content))
    return path


def refusal(path: Path) -> str:
    """Open and read a file that cannot be read; return what is said."""
    with pytest.raises(InputFileError) as caught:
        source = open_vcf(path)
        for encoding in (Encoding.DOSAGE8, Encoding.CALLS):
            source.decoder.read(0, source.variants.n, encoding)
    assert str(caught.value).startswith(str(path)), caught.value
    return str(caught.value)[len(str(path)) :]


TEXT = vcf_text(GOOD)

COLUMN = "it does not have one column for each of the 2 samples."
GENOTYPE = "GT is not a genotype of its alleles."
DS = "DS is not one number for each ALT allele. Split such records with bcftools norm --multiallelics -any."
GP = "GP is not one number for each genotype."
GP_SUM = (
    "GP are not probabilities with sum 1. If they are phred-scaled, drop them: bcftools annotate --remove FORMAT/GP."
)
EMPTY = "its CHROM or one of its alleles is empty."
SORT = "Sort it: bcftools sort x.vcf --output-type z --output sorted.vcf.gz"

REPLACED = {
    "too few columns": ("a\tA\tC\t30\tPASS\tDP=5\tGT:DS:HDS:GP\t", "a\tA ", ", record 1: it has fewer than the 9 columns CHROM to FORMAT and one a sample."),
    "a column too few": ("\t./.:.\n", "\n", ", record 2 (chr2:20): " + COLUMN),
    "a column too many": ("\t./.:.\n", "\t./.:.\t0/0\n", ", record 2 (chr2:20): " + COLUMN),
    "a column too many in the first": ("0,0,1\n", "0,0,1\t.\n", ", record 1 (chr2:10): " + COLUMN),
    "position": ("\t20\t", "\t2O\t", ", record 2: its POS is not a position."),
    "no REF": ("b\tA\t", "b\t\t", ", record 2: " + EMPTY),
    "no allele": ("C,G", "C,,G", ", record 2: " + EMPTY),
    "allele out of range": ("0/2", "0/3", ", record 2 (chr2:20), sample 1: " + GENOTYPE),
    "no genotype": ("./.:.", "x/y:.", ", record 2 (chr2:20), sample 2: " + GENOTYPE),
    "empty genotype": ("./.:.", ":.", ", record 2 (chr2:20), sample 2: " + GENOTYPE),
    "three alleles": ("0/1\n", "0/1/1\n", ", record 3 (X:5), sample 2: GT has more than two alleles; biolmm reads haploid and diploid samples."),
    "DS of two numbers": (":2:", ":1,1:", ", record 1 (chr2:10), sample 2: " + DS),
    "DS no number": (":2:", ":2x:", ", record 1 (chr2:10), sample 2: " + DS),
    "DS out of range": (":2:", ":2.1:", ", record 1 (chr2:10), sample 2: DS is not a dosage from 0 to 2 (to 1 where GT, GP or HDS is haploid)."),
    "HDS of three numbers": ("1,1:", "1,1,1:", ", record 1 (chr2:10), sample 2: HDS is not one or two numbers."),
    "HDS out of range": ("1,1:", "1,-1:", ", record 1 (chr2:10), sample 2: HDS is not a dosage from 0 to 1."),
    "GP of four numbers": ("0,0,1\n", "0,0,0,1\n", ", record 1 (chr2:10), sample 2: " + GP),
    "GP of one number": ("0,0,1\n", "1\n", ", record 1 (chr2:10), sample 2: " + GP),
    "GP phred": ("0,0,1\n", "32,9,0\n", ", record 1 (chr2:10), sample 2: " + GP_SUM),
    "GP sum": ("0,0,1\n", "0,0.5,1\n", ", record 1 (chr2:10), sample 2: " + GP_SUM),
    "not sorted": ("\t20\t", "\t9\t", " is not sorted: record 2 (chr2:9) comes after chr2:10. " + SORT),
    "contig again": ("X\t5", "X\t1\td\tA\tC\t.\t.\t.\tGT\t.\t.\nchr2\t30", " is not sorted: record 4 (chr2:30) comes after X:1. " + SORT),
    "sample twice": ("s1\n", "s0\n", " names 1 samples more than once: s0. Samples are matched by name: rename them with bcftools reheader --samples."),
    "nameless sample": ("\ts1\n", "\t\n", ": sample 2 of the #CHROM line has no name."),
    "no samples": ("\tFORMAT\ts0\ts1\n", "\n", " has no genotypes: its #CHROM line names no samples."),
    "columns by blanks": ("#CHROM\tPOS", "#CHROM POS", ", line 11: the columns are '#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT' instead of '#CHROM POS ID REF ALT QUAL FILTER INFO', separated by tabs."),
    "no ## line": ("##INFO", "INFO", ", line 5: 'INFO=<ID=DP,Number=1,Type=Integer,Descri' is neither a ## line nor the #CHROM line."),
    "no header": (HEADER, "", " is not a VCF or BCF: it begins with b'#CHROM\\tPOS\\tID\\tRE'."),
    "no columns": ("#CHROM", "CHROM", " is truncated or damaged: it has no #CHROM line."),
    "a line cut off": ("0/1\n", "0/", " is truncated: it ends 30 bytes into a record, without its end. Copy the file again."),
}  # fmt: skip


@pytest.mark.parametrize("packing", ["plain", "gzip", "bgzf"])
@pytest.mark.parametrize("case", REPLACED)
def test_what_is_wrong_is_said_where_it_is(case: str, packing: str, tmp_path: Path) -> None:
    old, new, expected = REPLACED[case]
    assert TEXT.count(old) >= 1
    head, _, tail = TEXT.rpartition(old)
    assert refusal(write(tmp_path, head + new + tail, packing)) == expected


def test_files_without_anything_to_read(tmp_path: Path) -> None:
    header = "".join(TEXT.partition("s1\n")[:2])
    assert refusal(write(tmp_path, header)) == " has no variants: no records."
    dots = header + "X\t1\t.\tA\t.\t.\t.\t.\tGT\t0/0\t0/0\n"
    assert refusal(write(tmp_path, dots)) == " has no variants: none of its 1 records has an ALT allele."
    depths = header + "X\t1\t.\tA\tC\t.\t.\t.\tDP\t1\t2\n"
    assert refusal(write(tmp_path, depths)) == " has no genotypes: no record has GT, DS, GP or HDS in its FORMAT."
    assert refusal(write(tmp_path, "")) == " is empty."
    assert refusal(tmp_path / "absent.vcf") == " cannot be read: No such file or directory."
    assert refusal(write(tmp_path, b"\x89PNG\r\n")) == " is not a VCF or BCF: it begins with b'\\x89PNG\\r\\n'."
    assert refusal(write(tmp_path, TEXT.encode().replace(b"\tb\t", b"\t\xff\t"))) == (
        " is not a text file: a CHROM, ID or allele is not UTF-8."
    )


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT)
    for whole in (bgzf(TEXT.encode()), gzip.compress(TEXT.encode()), write_bcf(path, tmp_path / "x.bcf").read_bytes()):
        for n_bytes in range(1, len(whole) - 1, 7):
            path.write_bytes(whole[:n_bytes])
            assert re.search("truncated|is not a VCF", refusal(path)), n_bytes


def test_a_block_with_a_wrong_checksum_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT, "bgzf")
    packed = bytearray(path.read_bytes())
    second = int.from_bytes(packed[16:18], "little") + 1
    size = int.from_bytes(packed[second + 16 : second + 18], "little") + 1
    packed[second + size - 8] ^= 1
    path.write_bytes(packed)
    assert re.fullmatch(
        rf" is damaged: of the BGZF block at byte {second}, its content has CRC-32 \w{{8}} instead of \w{{8}}\. "
        r"Copy the file again\.",
        refusal(path),
    )


def test_a_file_changed_after_it_was_opened_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT)
    source = open_vcf(path)
    path.write_text(TEXT + "X\t9\t.\tA\tC\t.\t.\t.\tGT\t.\t.\n")
    with pytest.raises(InputFileError, match=r"x\.vcf was changed since it was opened\. Run again\."):
        source.decoder.read(0, 1, Encoding.CALLS)


def test_a_bcf_whose_lengths_lie_is_refused(tmp_path: Path) -> None:
    bcf = write_bcf(write(tmp_path, TEXT), tmp_path / "x.bcf")
    content = bytearray(unpack_bgzf(bcf.read_bytes()))
    first = 9 + int.from_bytes(content[5:9], "little")
    for offset, value, expected in (
        (0, b"\xff\xff\xff\x7f", " is damaged: a record claims 2,147,483,"),
        (0, b"\x10\0\0\0", " is truncated|, record 1: its lengths contradict each other"),
        (8, b"\x63\0\0\0", ", record 1: the header does not declare its contig."),
        (26, b"\x63\0", ", record 1: its lengths contradict each other."),
        (28, b"\x03\0\0", ", record 1 (chr2:10): it does not have one column for each of the 2 samples."),
        (31, b"\x63", ", record 1: its lengths contradict each other."),
    ):
        spoilt = content[: first + offset] + value + content[first + offset + len(value) :]
        bcf.write_bytes(bgzf(bytes(spoilt)))
        assert any(refusal(bcf).startswith(each) for each in expected.split("|")), refusal(bcf)


def fuzz(folder: Path, kind: str, last: int, **environment: str) -> str:
    """Run the cases 0 to `last` in a process of their own."""
    rng = np.random.default_rng(0)
    calls = rng.choice(["0/1", "1|1", "0/0", "./.", "1"], (12, 4))
    records = [Record("X", i + 1, f"v{i}", "A", "C", "GT", row) for i, row in enumerate(calls.tolist())]
    path = write(folder, TEXT if kind == "mixed" else vcf_text(records), "bgzf")
    if kind == "bcf":
        plain = folder / "plain.vcf"
        plain.write_text(TEXT)
        path = write_bcf(plain, folder / "x.bcf")
    script = Path(__file__).with_name("fuzz_vcf.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", script, path, "bgzf", "0", str(last)],
        capture_output=True, text=True, timeout=120, env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("kind", ["calls", "mixed", "bcf"])
def test_damage_is_refused_or_read_as_it_is(kind: str, tmp_path: Path) -> None:
    match = re.fullmatch(r"(\d+) refused, (\d+) read\n", fuzz(tmp_path, kind, 400))
    assert match is not None
    assert int(match[1]) > 200
    assert int(match[2]) > 5


@pytest.mark.parametrize("kind", ["calls", "mixed", "bcf"])
def test_kernels_stay_within_their_arrays(kind: str, tmp_path: Path) -> None:
    """Python checks what compiled code does not."""
    fuzz(tmp_path, kind, 150, NUMBA_DISABLE_JIT="1")
