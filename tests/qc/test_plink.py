"""PLINK 2 measures the same: counts, frequencies, missingness, Hardy–Weinberg and inbreeding, on X, Y and MT as well."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biolmm.qc import QcConfig, QcResult, measure_quality, run_qc
from biolmm.store.convert import convert
from biolmm.store.read import GenotypeStore

CONTIGS = ["1"] * 150 + ["2"] * 80 + ["X"] * 60 + ["Y"] * 20 + ["MT"] * 15
PRINTED = 6e-6
"""Six digits are printed: half a unit of the last, relative, is at most this."""


@pytest.fixture(scope="module")
def plink() -> str:
    """Find PLINK 2; CI must have it."""
    found = shutil.which("plink2")
    if found is None:
        pytest.skip("plink2 is not installed")
    return found


@pytest.fixture(scope="module")
def folder(plink: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 300 samples of three kinds of sex, haploids with a few impossible heterozygotes, and run PLINK on them."""
    folder = tmp_path_factory.mktemp("plink")
    rng = np.random.default_rng(77)
    sex = rng.choice([0, 1, 2], 300, p=[0.1, 0.45, 0.45])
    contig = np.array(CONTIGS)
    frequency = rng.choice([0.0, 0.004, 0.03, 0.2, 0.5, 0.9, 1.0], len(contig))
    calls = rng.binomial(2, frequency[:, None], (len(contig), 300))
    haploid = (contig == "MT")[:, None] | (np.isin(contig, ["X", "Y"])[:, None] & (sex == 1))
    calls[haploid & (rng.random(calls.shape) < 0.9)] //= 2
    calls[haploid & (calls == 1) & (rng.random(calls.shape) < 0.9)] = 2
    calls[10:40] = np.where((calls[10:40] == 1) & (rng.random((30, 300)) < 0.7), 0, calls[10:40])
    calls[rng.random(calls.shape) < rng.choice([0.0, 0.02, 0.3], (len(contig), 1))] = 3
    calls[5] = 3
    write_bed(folder / "c", calls, sex.tolist())
    reports = [
        "--freq", "--geno-counts", "--het", "small-sample", "cols=+het", "--hardy", "midp", "cols=+femalep",
        "--missing", "scols=+hethap", "vcols=+hethap", "--sample-counts", "cols=+dipsingle",
    ]  # fmt: skip
    subprocess.run([plink, "--bfile", "c", *reports, "--out", "p", "--threads", "1", "--memory", "640"],
                   cwd=folder, check=True, capture_output=True)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> QcResult:
    """Measure the same."""
    return measure_quality(convert([folder / "c.bed"], folder / "c.zarr", chunk_variants=64), QcConfig())


def write_bed(stem: Path, calls: np.ndarray, sex: list[int]) -> None:
    """Write a PLINK file set: 2 copies of A1 = 00, missing = 01, 1 copy = 10, none = 11."""
    stem.with_suffix(".fam").write_text("".join(f"F{i} S{i} 0 0 {code} -9\n" for i, code in enumerate(sex)))
    lines = (f"{name}\tv{i}\t0\t{10_000_000 + i}\tA\tG\n" for i, name in enumerate(CONTIGS))
    stem.with_suffix(".bim").write_text("".join(lines))
    codes = np.array([3, 2, 0, 1], np.uint8)[calls].reshape(len(calls), -1, 4)
    packed = (codes << np.array([0, 2, 4, 6], np.uint8)).sum(axis=2).astype(np.uint8)
    stem.with_suffix(".bed").write_bytes(b"\x6c\x1b\x01" + packed.tobytes())


def report(folder: Path, name: str) -> pd.DataFrame:
    """Read a report by variant or sample."""
    frame = pd.read_csv(folder / f"p.{name}", sep="\t").rename(columns=lambda column: column.removeprefix("#"))
    return frame.set_index("ID" if "ID" in frame else "IID")


def by_variant(found: QcResult, names: list[str] | pd.Index) -> pd.DataFrame:
    """Give our numbers of the variants that PLINK reports, in its order."""
    table = pd.concat([batch.to_pandas() for batch in found.variants.batches(100)], ignore_index=True)
    return table.set_index("rsid").loc[names]


def test_counts(folder: Path, found: QcResult) -> None:
    theirs = report(folder, "gcount")
    mine = by_variant(found, theirs.index)
    assert len(theirs) == len(CONTIGS)
    for here, there in (
        ("n_hom_ref", "HOM_REF_CT"),
        ("n_het", "HET_REF_ALT_CTS"),
        ("n_hom_alt", "TWO_ALT_GENO_CTS"),
        ("n_hap_ref", "HAP_REF_CT"),
        ("n_hap_alt", "HAP_ALT_CTS"),
    ):
        np.testing.assert_array_equal(mine[here], theirs[there], err_msg=here)
    np.testing.assert_array_equal(mine["n_missing"] + mine["n_hap_het"], theirs["MISSING_CT"])


def test_frequencies(folder: Path, found: QcResult) -> None:
    theirs = report(folder, "afreq")
    mine = by_variant(found, theirs.index)["effect_allele_frequency"]
    np.testing.assert_allclose(mine, theirs["ALT_FREQS"], rtol=PRINTED)
    assert theirs["ALT_FREQS"].isna().sum() == 1


def test_missingness(folder: Path, found: QcResult) -> None:
    theirs = report(folder, "vmiss")
    mine = by_variant(found, theirs.index)
    np.testing.assert_array_equal(mine["n"], theirs["OBS_CT"])
    np.testing.assert_array_equal(mine["n_missing"], theirs["MISSING_CT"])
    np.testing.assert_array_equal(mine["n_hap_het"], theirs["HETHAP_CT"])
    np.testing.assert_allclose(1 - mine["call_rate"], theirs["F_MISS"], rtol=PRINTED, atol=1e-15)
    people, table = report(folder, "smiss"), found.samples.table.set_index("sample_id")
    assert people.index.tolist() == table.index.tolist()
    np.testing.assert_array_equal(table["n"], people["OBS_CT"])
    np.testing.assert_array_equal(table["n_missing"], people["MISSING_CT"])
    # PLINK counts heterozygotes of Y in women, too, although their calls of Y are counted nowhere else.
    np.testing.assert_array_equal(table["n_hap_het"] + y_hets_of_others(folder), people["HETHAP_CT"])


def y_hets_of_others(folder: Path) -> np.ndarray:
    """Count heterozygotes of Y among those who are not men, from the file."""
    fam = pd.read_csv(folder / "c.fam", sep=" ", header=None)
    rows = np.frombuffer((folder / "c.bed").read_bytes()[3:], np.uint8).reshape(len(CONTIGS), -1)
    codes = (rows[:, :, None] >> np.array([0, 2, 4, 6], np.uint8) & 3).reshape(len(CONTIGS), -1)
    return np.asarray((codes[np.array(CONTIGS) == "Y"] == 2).sum(axis=0) * (fam[4] != 1))


def test_hardy_weinberg(folder: Path, found: QcResult) -> None:
    theirs = report(folder, "hardy")
    mine = by_variant(found, theirs.index)["hwe_p"].fillna(0.5)  # PLINK gives 0.5 where nobody has a genotype
    assert set(theirs["CHROM"].astype(str)) == {"1", "2"}
    assert theirs["MIDP"].min() < 1e-12
    np.testing.assert_allclose(mine, theirs["MIDP"], rtol=PRINTED)
    on_x = report(folder, "hardy.x")
    assert len(on_x) == 60
    np.testing.assert_allclose(by_variant(found, on_x.index)["hwe_p"], on_x["FEMALE_ONLY_MIDP"], rtol=PRINTED)
    assert by_variant(found, [f"v{i}" for i in range(290, 325)])["hwe_p"].isna().all()


def test_inbreeding(folder: Path, found: QcResult) -> None:
    theirs = report(folder, "het")
    mine = found.samples.table.set_index("sample_id").loc[theirs.index]
    np.testing.assert_array_equal(mine["n_het"], theirs["O(HET)"])
    np.testing.assert_allclose(mine["expected_het"], theirs["E(HET)"], rtol=PRINTED)
    # F is near zero: what is printed of it, and what our expectations round to.
    np.testing.assert_allclose(mine["f"], theirs["F"], rtol=PRINTED, atol=1e-9)


def test_plink_takes_the_lists(plink: str, folder: Path, found: QcResult, tmp_path: Path) -> None:
    middle = float(found.samples.table["call_rate"].median())
    config = QcConfig(min_variant_call_rate=0.9, min_sample_call_rate=middle)
    mine = run_qc(GenotypeStore.open(folder / "c.zarr"), tmp_path, config)
    n_variants, n_samples = int(mine.variants.flagged.sum()), int((mine.samples.table["flagged_for"] != "").sum())
    assert n_variants > 0 and 0 < n_samples < 300
    lists = ["--exclude", str(tmp_path / "flagged_variants.txt"), "--remove", str(tmp_path / "flagged_samples.tsv")]
    command = [plink, "--bfile", "c", *lists, "--write-samples", "--write-snplist", "allow-dups", "--out", "left"]
    subprocess.run([*command, "--memory", "640"], cwd=folder, check=True, capture_output=True)
    assert len((folder / "left.snplist").read_text().split()) == len(CONTIGS) - n_variants
    assert len((folder / "left.id").read_text().splitlines()) - 1 == 300 - n_samples


def test_singletons(folder: Path, found: QcResult) -> None:
    """PLINK counts singletons of ALT alone, and on X as well; of autosomes those of REF are few."""
    theirs = report(folder, "scount")["DIPLOID_SINGLETON_CT"]
    table = by_variant(found, [f"v{i}" for i in range(len(CONTIGS))])
    on_autosomes = table["ploidy"] == "diploid"
    n_ours = (on_autosomes & (table["mac"] == 1)).sum()
    assert found.samples.table["n_singletons"].sum() == n_ours > 0
    n_x = int(((table["ploidy"] == "X") & (table["n_het"] == 1) & (table["n_hom_alt"] == 0)).sum())
    assert abs(int(theirs.sum()) - n_ours) <= n_x
