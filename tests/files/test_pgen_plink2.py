"""PLINK 2 filesets that plink2 wrote, against what it exports again and what it was given."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.files.encoding import Encoding, dosages_from_rows
from biolmm.files.genotypes import Source
from biolmm.files.pgen import open_pgen

N_SAMPLES, N_VARIANTS = 61, 90
HEADER = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"]


def plink2(*arguments: object) -> None:
    program = shutil.which("plink2")
    if program is None:
        pytest.skip("plink2 is not installed")
    command = [program, *map(str, arguments), "--threads", "1", "--memory", "640"]
    subprocess.run(command, check=True, capture_output=True)


def random_vcf(path: Path, dosages: bool) -> None:
    """Write phased, half phased and unphased calls, some missing; dosages of two alleles, or up to seven alleles."""
    rng = np.random.default_rng(11)
    lines = [
        "##fileformat=VCFv4.3",
        *(f"##contig=<ID={contig}>" for contig in (1, 2, "X")),
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        '##FORMAT=<ID=DS,Number=A,Type=Float,Description="Dosage">',
        "\t".join([*HEADER, *(f"S{i}" for i in range(N_SAMPLES))]),
    ]
    for v in range(N_VARIANTS):
        contig = "1" if v < 40 else "2" if v < 70 else "X"
        n_alt = 1 if dosages else int(rng.choice([1, 1, 2, 3, 6]))
        frequency, phased = rng.choice([0.02, 0.3, 0.9]), rng.choice([0.0, 0.5, 1.0])
        pairs = np.where(rng.random((N_SAMPLES, 2)) < frequency, rng.integers(1, n_alt + 1, (N_SAMPLES, 2)), 0)
        blurred = np.clip(pairs.sum(1) + rng.normal(0, 0.2, N_SAMPLES) * (rng.random(N_SAMPLES) < phased), 0, 2)
        fields = []
        for i, (first, second) in enumerate(pairs.tolist()):
            is_missing, is_phased = rng.random() < 0.05, rng.random() < phased
            call = "./." if is_missing else f"{first}{'|' if is_phased else '/'}{second}"
            if contig == "X" and i % 3 == 1:
                call = "." if is_missing else str(first)
                blurred[i] = abs(first - round(rng.uniform(0, 0.1), 3))
            fields.append(call + (":" + ("." if is_missing else f"{blurred[i]:.3f}") if dosages else ""))
        alts = ",".join("ACGT"[k % 4] * (1 + k // 4) + "C" for k in range(n_alt))
        lines.append(
            "\t".join(
                [contig, str(100 + v), f"v{v}", "G", alts, ".", ".", ".", "GT:DS"[: 5 if dosages else 2], *fields]
            )
        )
    path.write_text("\n".join(lines) + "\n")
    sexes = "".join(f"S{i}\t{i % 3}\n" for i in range(N_SAMPLES))
    path.with_suffix(".sex").write_text("#IID\tSEX\n" + sexes)


def counts_in_vcf(path: Path) -> NDArray[np.float64]:
    """Count copies of each ALT allele in a VCF, a row for each; NaN = missing. A single allele on X counts twice."""
    counts = []
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            continue
        fields = line.split("\t")
        calls = [field.split(":")[0].replace("|", "/").split("/") for field in fields[9:]]
        for allele in range(1, fields[4].count(",") + 2):
            name = str(allele)
            counts.append([np.nan if "." in call else call.count(name) * 2 / len(call) for call in calls])
    return np.array(counts)


def traw(path: Path) -> NDArray[np.float64]:
    """Read plink2's `--export Av`, dosages of the allele in the column COUNTED."""
    table = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    return np.array([[np.nan if text == "NA" else float(text) for text in line[6:]] for line in table])


def values(source: Source, encoding: Encoding) -> NDArray[np.float32]:
    rows = source.decoder.read(0, source.variants.n, encoding).rows
    return dosages_from_rows(rows, encoding, source.samples.n)


@pytest.mark.parametrize("form", [[], ["vzs"], ["erase-phase"]], ids=" ".join)
def test_calls_and_alleles(form: list[str], tmp_path: Path) -> None:
    random_vcf(tmp_path / "x.vcf", dosages=False)
    sexes = tmp_path / "x.sex"
    plink2("--vcf", tmp_path / "x.vcf", "--update-sex", sexes, "--make-pgen", *form, "--out", tmp_path / "x")
    source = open_pgen(tmp_path / "x")
    assert source.files[1].suffix == (".zst" if form == ["vzs"] else ".pvar")
    assert source.notes["phased"] == (form != ["erase-phase"])
    assert not source.has_dosages
    assert source.samples.sex.tolist() == [i % 3 for i in range(N_SAMPLES)]
    assert source.variants.contig_id == ("1", "2", "X")
    np.testing.assert_array_equal(values(source, Encoding.CALLS), counts_in_vcf(tmp_path / "x.vcf"))
    plink2("--pfile", tmp_path / "x", *form[:1] * (form == ["vzs"]), "--export", "vcf", "--out", tmp_path / "again")
    np.testing.assert_array_equal(values(source, Encoding.DOSAGE8), counts_in_vcf(tmp_path / "again.vcf"))


def test_dosages(tmp_path: Path) -> None:
    """Exported dosages have the fewest digits that give the same 1/16,384; ours are rounded to 1/32,640."""
    random_vcf(tmp_path / "x.vcf", dosages=True)
    plink2(
        "--vcf",
        tmp_path / "x.vcf",
        "dosage=DS",
        "--update-sex",
        tmp_path / "x.sex",
        "--make-pgen",
        "--out",
        tmp_path / "x",
    )
    source = open_pgen(tmp_path / "x.pgen")
    assert source.has_dosages
    plink2("--pfile", tmp_path / "x", "--export", "Av", "--out", tmp_path / "dosage")
    exported = 2 - traw(tmp_path / "dosage.traw")
    found = values(source, Encoding.DOSAGE16)
    np.testing.assert_allclose(found, exported, rtol=0, atol=0.5 / 16_384 + 0.5 / 32_640)
    plink2("--pfile", tmp_path / "x", "--make-pgen", "erase-dosage", "--out", tmp_path / "calls")
    plink2("--pfile", tmp_path / "calls", "--export", "vcf", "--out", tmp_path / "calls")
    np.testing.assert_array_equal(values(source, Encoding.CALLS), counts_in_vcf(tmp_path / "calls.vcf"))


def test_fixed_width_and_plink_1(tmp_path: Path) -> None:
    random_vcf(tmp_path / "x.vcf", dosages=False)
    plink2("--vcf", tmp_path / "x.vcf", "--max-alleles", 2, "--chr", "1,2", "--make-pgen", "--out", tmp_path / "x")
    plink2("--pfile", tmp_path / "x", "--make-pgen", "format=2", "--out", tmp_path / "fixed")
    plink2("--pfile", tmp_path / "x", "--make-bpgen", "vzs", "--out", tmp_path / "bim")
    plink2("--pfile", tmp_path / "x", "--make-bed", "--out", tmp_path / "bed")
    (tmp_path / "bed.bed").rename(tmp_path / "bed.pgen")
    expected = values(open_pgen(tmp_path / "x"), Encoding.CALLS)
    for name, mode in (("fixed", "02"), ("bim", "10"), ("bed", "01")):
        source = open_pgen(tmp_path / name)
        assert source.notes["storage_mode"] == mode
        assert set(source.variants.ref.tolist()) == {"G"}
        np.testing.assert_array_equal(values(source, Encoding.CALLS), expected)
