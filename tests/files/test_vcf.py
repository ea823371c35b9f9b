"""VCF and BCF: calls and dosages by definition, against cyvcf2 (htslib) and against PLINK 2, however they are packed."""

from __future__ import annotations

import gzip
import pickle
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import cyvcf2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.files.bed import bed_files, read_bim, read_fam, read_packed_rows
from biolmm.files.encoding import Encoding, dosages_from_rows, rows_from_calls, rows_from_dosages
from biolmm.files.genotypes import Source
from biolmm.files.vcf import open_vcf
from oracles.vcf_text import HEADER, Record, bgzf, dosages_of, vcf_text, write_bcf

KINDS = ("vcf", "gzip", "bgzf", "bcf")

N_SAMPLES = 5


def write(folder: Path, records: list[Record], kind: str) -> Path:
    """Write records in one of `KINDS`, under a name that says nothing."""
    text = vcf_text(records)
    path = folder / f"x_{kind}"
    path.write_bytes({"gzip": gzip.compress, "bgzf": bgzf}.get(kind, bytes)(text.encode()))
    return write_bcf(path, folder / "x.bcf") if kind == "bcf" else path


def genotypes(n_alt: int) -> st.SearchStrategy[str]:
    """GT of any ploidy up to two, half missing, phased or not."""
    allele = st.sampled_from([".", *map(str, range(n_alt + 1))])
    return st.one_of(allele, st.tuples(allele, st.sampled_from("/|"), allele).map("".join))


def thousandths(top: float) -> st.SearchStrategy[str]:
    return st.integers(0, int(1000 * top)).map(lambda k: f"{k / 1000:.3f}".rstrip("0"))


@st.composite
def sample_fields(draw: st.DrawFn, fields: list[str], n_alt: int) -> str:
    """One sample; trailing fields may be left out."""
    values = []
    for name in fields:
        if name == "GT":
            values.append(draw(genotypes(n_alt)))
        elif name == "DP":
            values.append(draw(st.sampled_from([".", "12"])))
        elif not n_alt or draw(st.integers(0, 3)) == 0:
            values.append(".")
        elif name == "DS":
            values.append(",".join(draw(thousandths(1)) for _ in range(n_alt)))
        elif name == "HDS":
            values.append(",".join(draw(thousandths(1)) for _ in range(draw(st.integers(1, 2)))))
        else:
            n = draw(st.sampled_from([n_alt + 1, (n_alt + 1) * (n_alt + 2) // 2]))
            cuts = sorted(draw(st.lists(st.integers(0, 1000), min_size=n - 1, max_size=n - 1)))
            values.append(",".join(f"{b - a:04d}e-3" for a, b in zip([0, *cuts], [*cuts, 1000], strict=True)))
    return ":".join(values[: draw(st.integers(1, len(values)))])


@st.composite
def many_records(draw: st.DrawFn, fields: tuple[str, ...]) -> list[Record]:
    """Records of two contigs with one to three ALT alleles, or none, and of various formats."""
    records = []
    for i in range(draw(st.integers(1, 12))):
        n_alt = draw(st.sampled_from([1, 1, 1, 0, 2, 3]))
        chosen = [name for name in fields if name == "GT" or draw(st.booleans())] or ["GT"]
        samples = draw(st.lists(sample_fields(chosen, n_alt), min_size=N_SAMPLES, max_size=N_SAMPLES))
        alts = ",".join(["C", "<DEL>", "*"][:n_alt]) or "."
        contig = "chr2" if i < 5 else "X"
        records.append(
            Record(contig, 10 + i // 2, draw(st.sampled_from([".", "rs1;x"])), "AT", alts, ":".join(chosen), samples)
        )
    last = records[-1]  # there is always something to read
    return [*records, Record(last.contig, 99, "last", "A", "G", "GT", ["0/1", "1|1", "0|0", "./.", "1"])]


def htslib_calls(path: Path) -> NDArray[np.int8]:
    """Copies of each ALT allele as cyvcf2 reads them."""
    rows = []
    for variant in cyvcf2.VCF(str(path)):
        pairs = [[*g[:-1], *g[:-1]][:2] for g in variant.genotypes]
        alts = range(1, len(variant.ALT) + 1)
        rows += [[-1 if min(pair) < 0 else sum(a == k for a in pair) for pair in pairs] for k in alts]
    return np.array(rows, np.int8)


def read_all(source: Source, encoding: Encoding) -> NDArray[np.generic]:
    return source.decoder.read(0, source.variants.n, encoding).rows


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=25)
@given(records=many_records(("GT", "DP")))
def test_calls_are_those_of_htslib(records: list[Record], kind: str) -> None:
    with TemporaryDirectory() as folder:
        path = write(Path(folder), records, kind)
        source = open_vcf(path)
        calls = htslib_calls(path)
        for encoding in Encoding:
            np.testing.assert_array_equal(read_all(source, encoding), rows_from_calls(calls, encoding))
    expected = [
        (r.contig, r.position, r.name, r.ref, alt) for r in records if r.alts != "." for alt in r.alts.split(",")
    ]
    table = source.variants
    found = zip(table.contig.tolist(), table.position.tolist(), table.variant_id, table.ref, table.alt, strict=True)
    assert [(table.contig_id[c], *rest) for c, *rest in found] == expected
    assert source.samples.sample_id.tolist() == [f"s{i}" for i in range(N_SAMPLES)]
    assert source.random_access == (kind != "gzip")
    assert not source.has_dosages
    assert source.notes["n_records_without_alt"] == sum(r.alts == "." for r in records)


@pytest.mark.parametrize("kind", ["bgzf", "bcf"])
@settings(deadline=None, max_examples=60)
@given(records=many_records(("GT", "DP", "GP", "DS", "HDS")), data=st.data())
def test_dosages_are_those_of_the_definition(records: list[Record], kind: str, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        source = open_vcf(write(Path(folder), records, kind))
        n = source.variants.n
        number = float if kind == "bgzf" else lambda text: float(np.float32(text))
        expected = np.concatenate([dosages_of(record, number) for record in records])
        has = {name: any(name in r.format.split(":") for r in records) for name in ("DS", "HDS", "GP")}
        assert source.has_dosages == any(has.values())
        start = data.draw(st.integers(0, n))
        stop = data.draw(st.integers(start, n))
        for encoding in (Encoding.DOSAGE8, Encoding.DOSAGE16):
            block = source.decoder.read(start, stop, encoding)
            np.testing.assert_array_equal(block.rows, rows_from_dosages(expected[start:stop, :, 0], encoding))
        # A sum is undefined where a sample with a dosage has not what is summed.
        called = ~np.isnan(expected[start:stop, :, 0])
        for sums, column, name in ((block.expected_squares, 1, "GP"), (block.haplotype_squares, 2, "HDS")):
            assert (sums is not None) == has[name]
            if sums is not None:
                wanted = np.sum(np.where(called, expected[start:stop, :, column], 0), axis=1)
                np.testing.assert_allclose(sums, wanted, rtol=1e-12)
        if source.has_dosages:
            known = np.nan_to_num(expected[start:stop, :, 0])
            np.testing.assert_allclose(block.dosage_sum, known.sum(axis=1), rtol=1e-12)
            np.testing.assert_allclose(block.dosage_squares, (known**2).sum(axis=1), rtol=1e-12)
            haploid = np.where(called, expected[start:stop, :, 3], 0)
            n_haploid = haploid.sum(axis=1)
            assert block.haploid_count is not None
            np.testing.assert_array_equal(block.haploid_count, np.where(np.isnan(n_haploid), -1, n_haploid))
            np.testing.assert_allclose(block.haploid_dosage_sum, np.nansum(haploid * known, axis=1), rtol=1e-12)
        calls = np.concatenate([dosages_of(record, number, ("GT",)) for record in records])[start:stop, :, 0]
        block = source.decoder.read(start, stop, Encoding.CALLS)
        np.testing.assert_array_equal(block.rows, rows_from_dosages(calls, Encoding.CALLS))


@pytest.mark.parametrize("kind", KINDS)
def test_any_part_in_any_order_thread_and_process_is_the_same(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    records = [
        Record("X", i, f"v{i}", "A", "C,T" if i % 3 else "C", "GT", [f"{a}|{b}" for a, b in rng.integers(0, 2, (7, 2))])
        for i in range(1, 200)
    ]
    source = open_vcf(write(tmp_path, records, kind))
    whole = read_all(source, Encoding.CALLS)
    decoder = pickle.loads(pickle.dumps(source.decoder))
    cuts = np.sort(rng.integers(0, source.variants.n + 1, (60, 2)), axis=1)

    def read(cut: NDArray[np.int64]) -> NDArray[np.generic]:
        return decoder.read(int(cut[0]), int(cut[1]), Encoding.CALLS).rows

    with ThreadPoolExecutor(4) as pool:
        for cut, rows in zip(cuts, pool.map(read, cuts), strict=True):
            np.testing.assert_array_equal(rows, whole[cut[0] : cut[1]])


def test_files_of_dosages_alone_and_odd_texts(tmp_path: Path) -> None:
    path = tmp_path / "x.vcf"
    text = vcf_text([Record("7", 5, ".", "A", "G", "DS", ["0.04", "+1.95", "1.2E0", "NaN", "."])])
    path.write_text(text.replace("\n", "\r\n") + "\n\n")
    source = open_vcf(path)
    rows = read_all(source, Encoding.DOSAGE16)
    expected = np.array([[0.04, 1.95, 1.2, np.nan, np.nan]])
    np.testing.assert_array_equal(rows, rows_from_dosages(expected, Encoding.DOSAGE16))
    np.testing.assert_array_equal(
        dosages_from_rows(read_all(source, Encoding.CALLS), Encoding.CALLS, 5), [[0, 2, np.nan, np.nan, np.nan]]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_ploidy_is_seen_without_gt(kind: str, tmp_path: Path) -> None:
    """A man has two GP and one HDS; a DS alone could be anybody's, and counts as it is."""
    woman = ["0.9", "0.2,0.7,0.1", "0.5,0.4"]
    records = [
        Record("X", 1, "a", "A", "G", "DS:GP", ["0.9:0.1,0.9", ":".join(woman[:2])]),
        Record("X", 2, "b", "A", "G", "DS:HDS", ["0.9:0.9", f"{woman[0]}:{woman[2]}"]),
        Record("X", 3, "c", "A", "G", "GT:DS:GP", [".:0.9:0.1,0.9", f"./.:{woman[0]}:."]),
        Record("X", 4, "d", "A", "G", "GT:DS:GP", ["./.:0.9:0.1,0.9", f"0/1:{woman[0]}:."]),
        Record("X", 5, "e", "A", "G", "GP", ["0.1,0.9", woman[1]]),
        Record("X", 6, "f", "A", "G", "DS", ["0.9", woman[0]]),
        Record("X", 7, "g", "A", "G,T", "DS:GP", ["0.9,0:0.1,0.9,0", "0.9,0:0.2,0.7,0.1,0,0,0"]),
    ]
    source = open_vcf(write(tmp_path, records, kind))
    block = source.decoder.read(0, source.variants.n, Encoding.DOSAGE16)
    steps = rows_from_dosages(np.array([[1.8, 0.9]]), Encoding.DOSAGE16)[0].tolist()
    assert block.rows.tolist() == [steps] * 5 + [[steps[1]] * 2, steps, [0, 0]]
    assert block.haploid_count is not None
    assert block.haploid_count.tolist() == [1] * 5 + [-1, 1, 1]
    np.testing.assert_allclose(block.haploid_dosage_sum, [1.8] * 5 + [0, 1.8, 0], rtol=1e-6)  # BCF has single precision
    (tmp_path / "bad.vcf").write_text(vcf_text([Record("X", 1, "a", "A", "G", "DS:GP", ["1.8:0.1,0.9"])]))
    with pytest.raises(InputFileError, match="to 1 where GT, GP or HDS is haploid"):
        open_vcf(tmp_path / "bad.vcf").decoder.read(0, 1, Encoding.DOSAGE8)


def test_leading_phase_marks_of_vcf_4_4_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.vcf"
    path.write_text(vcf_text([Record("7", 5, ".", "A", "G", "GT", ["/0/1", "|1|1", "|1", "/.", "10/1"[1:]])]))
    calls = dosages_from_rows(read_all(open_vcf(path), Encoding.CALLS), Encoding.CALLS, 5)
    np.testing.assert_array_equal(calls, [[1, 2, 2, np.nan, 1]])


def test_more_alleles_than_digits(tmp_path: Path) -> None:
    alts = ",".join("A" * i for i in range(2, 14))
    record = Record("X", 5, ".", "A", alts, "GT", ["0/12", "11|2", "12", "10/10"])
    for kind in KINDS:
        calls = read_all(open_vcf(write(tmp_path, [record], kind)), Encoding.DOSAGE8)
        np.testing.assert_array_equal(calls / 127, dosages_of(record)[:, :, 0])


@pytest.fixture
def plink2() -> str:
    found = shutil.which("plink2")
    if found is None:
        pytest.skip("plink2 is not installed")
    return found


def biallelic(fields: str, seed: int) -> list[Record]:
    rng = np.random.default_rng(seed)
    records = []
    for i in range(60):
        gt = rng.choice(["0/0", "0|1", "1/1", "./.", "1|0"], 23)
        ds = [f"{d:.3f}" for d in rng.uniform(0, 2, 23)]
        samples = gt.tolist() if fields == "GT" else [f"{g}:{d}" for g, d in zip(gt, ds, strict=True)]
        records.append(Record("chr2", i + 1, f"v{i}", "A", "G", fields, samples))
    return records


def test_calls_are_those_of_plink2(plink2: str, tmp_path: Path) -> None:
    path = write(tmp_path, biallelic("GT", 2), "bgzf")
    command = [plink2, "--vcf", path, "--make-bed", "--out", tmp_path / "p"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    files, source = bed_files(tmp_path / "p.bed"), open_vcf(path)
    assert read_fam(files.fam).sample_id.tolist() == source.samples.sample_id.tolist()
    assert read_bim(files.bim).alt.tolist() == source.variants.alt.tolist()
    np.testing.assert_array_equal(read_packed_rows(files.bed, 23, 0, 60), read_all(source, Encoding.CALLS))


def test_dosages_are_those_of_plink2(plink2: str, tmp_path: Path) -> None:
    path = write(tmp_path, biallelic("GT:DS", 3), "bcf")
    command = [
        plink2,
        "--bcf",
        path,
        "dosage=DS",
        "--export",
        "A",
        "--export-allele",
        tmp_path / "a",
        "--out",
        tmp_path / "p",
    ]
    (tmp_path / "a").write_text("".join(f"v{i} G\n" for i in range(60)))
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    exported = np.genfromtxt(tmp_path / "p.raw", skip_header=1)[:, 6:].T
    mine = dosages_from_rows(read_all(open_vcf(path), Encoding.DOSAGE16), Encoding.DOSAGE16, 23)
    # PLINK keeps dosages in steps of 1/16,384 and prints six digits; ours are in steps of 1/32,640.
    np.testing.assert_allclose(mine, exported, rtol=0, atol=0.5 / 16384 + 0.5 / 32640 + 5e-6)


def test_the_header_is_that_of_the_file(tmp_path: Path) -> None:
    records = [Record("chr2", 1, "a", "A", "C", "GT", ["0/1"])]
    source = open_vcf(write(tmp_path, records, "bgzf"))
    assert source.notes == {
        "kind": "vcf", "packing": "bgzf", "fields": ["GT"], "n_records": 1, "n_records_split": 0,
        "n_records_without_alt": 0,
    }  # fmt: skip
    assert source.samples.family_id.tolist() == ["0"]
    assert "FORMAT" in HEADER
