"""One cohort in every format: scanned as it is, or through a store, the results are the same."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dask.distributed import Client, LocalCluster

from biolmm.store.read import GenotypeStore
from running import Disk, close_statistics, run_command, same_statistics, statistics, succeed

FORMATS = ("bed", "pgen", "bgen", "vcf.gz", "bcf")


def imputed_vcf(disk: Disk, path: Path, seed: int = 4) -> None:
    """Write dosages around the calls of the cohort, its people in another order, two more among them."""
    rng = np.random.default_rng(seed)
    store = GenotypeStore.open(disk.store)
    ids = [*store.sample_id.tolist(), "extra1", "extra2"]
    order = rng.permutation(len(ids))
    lines = [
        "##fileformat=VCFv4.3", '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        '##FORMAT=<ID=DS,Number=A,Type=Float,Description="Dosage">',
        *(f"##contig=<ID=chr{contig}>" for contig in store.contig_id),
        "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *(ids[i] for i in order)]),
    ]  # fmt: skip
    rows = np.concatenate([store.read_rows(chunk) for chunk in range(store.n_chunks)])
    codes = (rows[:, :, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
    calls = codes.reshape(len(rows), -1)[:, : store.n_samples].astype(float)
    for j, g in enumerate(calls):
        noisy = np.clip(np.where(g == 3, g[g < 3].mean(), g) + rng.normal(0, 0.15, len(g)), 0, 2)
        ds = np.concatenate([noisy, rng.uniform(0, 2, 2)])[order]
        cells = [f"{('0/0', '0/1', '1/1')[round(d)]}:{d:.3f}" for d in ds]
        contig = store.contig_id[store.variant_contig[j]]
        fixed = [
            f"chr{contig}",
            store.variant_position[j],
            store.variant_id[j],
            store.ref[j],
            store.alt[j],
            ".",
            ".",
            ".",
        ]
        lines.append("\t".join([*map(str, fixed), "GT:DS", *cells]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def files(disk: Disk, plink2: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the calls as `calls.*` and the dosages as `imputed.*` in every format."""
    folder = tmp_path_factory.mktemp("formats")
    imputed_vcf(disk, folder / "imputed.vcf")

    def run(*arguments: str | Path) -> None:
        subprocess.run([plink2, *arguments], check=True, capture_output=True, cwd=folder)

    bed = disk.bed.with_suffix("")
    run("--bfile", bed, "--make-bed", "--out", "calls")
    run("--bfile", bed, "--make-pgen", "vzs", "--out", "calls")
    run("--bfile", bed, "--export", "bgen-1.2", "bits=8", "ref-first", "id-paste=iid", "--out", "calls")
    run("--bfile", bed, "--export", "vcf", "bgz", "id-paste=iid", "--out", "calls")
    run("--bfile", bed, "--export", "bcf", "id-paste=iid", "--out", "calls")
    run("--vcf", "imputed.vcf", "dosage=DS", "--make-pgen", "--out", "imputed")
    run("--pfile", "imputed", "--export", "bgen-1.2", "bits=8", "ref-first", "--out", "imputed")
    return folder


@pytest.fixture(scope="module")
def model(disk: Disk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fit the model on the hard calls."""
    folder = tmp_path_factory.mktemp("model") / "m"
    succeed("fit", *disk.inputs(), "--out", folder)
    return folder


def agree(one: Path, other: Path) -> None:
    """Compare what two scans found, variant by variant: single precision of products and of 8-bit dosages of calls."""
    for trait in ("trait1", "trait2"):
        mine, theirs = statistics(one, trait).set_index("rsid"), statistics(other, trait).set_index("rsid")
        assert set(mine.index) == set(theirs.index)
        theirs = theirs.loc[mine.index]
        for column in ("beta", "standard_error", "effect_allele_frequency"):
            np.testing.assert_allclose(mine[column], theirs[column], rtol=1e-4, atol=1e-6)
        assert mine["n"].tolist() == theirs["n"].tolist()


@pytest.mark.parametrize("suffix", FORMATS)
def test_calls_give_the_same_results_in_every_format(files: Path, model: Path, tmp_path: Path, suffix: str) -> None:
    succeed("scan", "--model", model, "--genotypes", files / f"calls.{suffix}", "--out", tmp_path / "scan")
    succeed("scan", "--model", model, "--genotypes", files / "calls.bed", "--out", tmp_path / "bed")
    assert not (tmp_path / "scan" / "genotypes.zarr").exists()
    agree(tmp_path / "scan", tmp_path / "bed")


@pytest.mark.parametrize("suffix", ["pgen", "bgen", "vcf"])
def test_dosages_straight_from_the_file_are_those_of_the_store(
    files: Path, model: Path, tmp_path: Path, suffix: str
) -> None:
    """Bit by bit, imputation quality and filters included."""
    filters = ("--min-info", "0.5", "--min-maf", "0.02")
    succeed("convert", files / f"imputed.{suffix}", tmp_path / "imputed.zarr")
    for name, path in (("lazy", files / f"imputed.{suffix}"), ("store", tmp_path / "imputed.zarr")):
        succeed("scan", "--model", model, "--genotypes", path, *filters, "--out", tmp_path / name)
    assert same_statistics(tmp_path / "lazy", tmp_path / "store")
    table = statistics(tmp_path / "lazy")
    assert (table["info"] >= 0.5).all()
    store = GenotypeStore.open(tmp_path / "imputed.zarr")
    assert 0 < len(table) < store.n_variants


def test_sixteen_bits_hold_an_8_bit_bgen_exactly(files: Path, model: Path, tmp_path: Path) -> None:
    """What PLINK 2 read from the same BGEN as dosages of 1/16,384 differs by its rounding only."""
    table = {}
    for name, path in (("bgen", files / "imputed.bgen"), ("pgen", files / "imputed.pgen")):
        out = tmp_path / name
        succeed("scan", "--model", model, "--genotypes", path, "--encoding", "dosage16", "--out", out)
        table[name] = statistics(out).set_index("rsid")
    mine, theirs = table["bgen"], table["pgen"].loc[table["bgen"].index]
    # 8 bits a probability: a dosage is off by up to 1/255, so that effects agree to about a percent of their error.
    error = np.abs(mine["beta"] - theirs["beta"]) / theirs["standard_error"]
    assert error.max() < 0.03


def test_array_for_the_model_and_imputed_for_the_scan(disk: Disk, files: Path, tmp_path: Path) -> None:
    """Other people, in another order: one command does what fit and scan do, on the people that both hold."""
    both = ("--model-genotypes", files / "calls.bed")
    out = disk.gwas(tmp_path / "gwas", *map(str, both), genotypes=files / "imputed.bgen")
    succeed("fit", *disk.inputs(files / "calls.bed"), "--out", tmp_path / "fit")
    succeed("scan", "--model", tmp_path / "fit", "--genotypes", files / "imputed.bgen", "--out", tmp_path / "scan")
    assert same_statistics(out, tmp_path / "scan")
    pd.testing.assert_frame_equal(
        pd.read_csv(out / "h2.tsv", sep="\t"), pd.read_csv(tmp_path / "fit" / "h2.tsv", sep="\t")
    )
    names = json.loads((out / "run.json").read_text())["inputs"]
    assert {"genotypes", "model_genotypes"} <= set(names)


def test_people_without_imputed_genotypes_are_left_out(disk: Disk, files: Path, plink2: str, tmp_path: Path) -> None:
    few = tmp_path / "few.txt"
    ids = GenotypeStore.open(disk.store).sample_id.tolist()
    few.write_text("".join(f"{name}\n" for name in ids[:150]))
    command = [plink2, "--pfile", files / "imputed", "--keep", few, "--make-pgen", "--out", tmp_path / "few"]
    subprocess.run(command, check=True, capture_output=True)
    out = disk.gwas(
        tmp_path / "out", "--model-genotypes", str(disk.store), genotypes=tmp_path / "few.pgen",
    )  # fmt: skip
    record = json.loads((out / "run.json").read_text())
    assert {"what": "samples", "why": "not in the genotypes to be scanned", "n": 30} in [
        {name: entry[name] for name in ("what", "why", "n")} for entry in record["dropped"]
    ]
    assert statistics(out)["n"].max() <= 150


@pytest.mark.parametrize("method", ["exact", "linear-only"])
def test_workers_of_other_processes_scan_files(disk: Disk, files: Path, tmp_path: Path, method: str) -> None:
    """Files leave their tables of variants behind when they travel; the results do not miss them."""
    options = ("--model-genotypes", str(disk.store), "--method", method, "--no-loco")
    here = disk.gwas(tmp_path / "here", *options, genotypes=files / "calls.bed")
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        there = disk.gwas(tmp_path / "there", *options, genotypes=files / "calls.bed")
    assert close_statistics(here, there)


def test_what_each_filter_takes_is_recorded(disk: Disk, tmp_path: Path) -> None:
    everything = statistics(disk.gwas(tmp_path / "all"))
    out = disk.gwas(tmp_path / "some", "--min-maf", "0.1", "--max-missing", "0.01")
    kept = statistics(out)
    frequency = everything["effect_allele_frequency"]
    assert set(kept["rsid"]) <= set(everything["rsid"][np.minimum(frequency, 1 - frequency) >= 0.09])
    dropped = {
        (entry["what"], entry["why"]): entry["n"] for entry in json.loads((out / "run.json").read_text())["dropped"]
    }
    taken = dropped["variants", "--min-maf 0.1"] + dropped["variants", "--max-missing 0.01"]
    assert taken == len(everything) - len(kept)
    assert dropped["model variants", "--min-maf 0.1"] == dropped["variants", "--min-maf 0.1"]


def test_missingness_at_the_threshold_passes(disk: Disk, plink2: str, tmp_path: Path) -> None:
    """As `plink2 --geno`: 9 of 180 are not more than 5 %."""
    out = disk.gwas(tmp_path / "out", "--max-missing", "0.05", "--method", "linear-only")
    bed = disk.bed.with_suffix("")
    command = [plink2, "--bfile", bed, "--geno", "0.05", "--write-snplist", "--out", tmp_path / "p"]
    subprocess.run(command, check=True, capture_output=True)
    assert sorted(statistics(out)["rsid"]) == sorted((tmp_path / "p.snplist").read_text().split())


def test_calls_beside_dosages_pass_a_filter_of_quality(disk: Disk, files: Path, tmp_path: Path) -> None:
    """What was typed was not imputed: it has no quality, and none is asked of it."""
    succeed("convert", files / "calls.bed", tmp_path / "typed.zarr")
    half = tmp_path / "first.txt"
    ids = GenotypeStore.open(tmp_path / "typed.zarr").variant_id.tolist()
    half.write_text("".join(f"{name}\n" for name in ids[:100]))
    command = ["plink2", "--bfile", files / "calls", "--extract", half, "--make-bed", "--out", tmp_path / "few"]
    subprocess.run(command, check=True, capture_output=True)
    both = (
        "--genotypes",
        tmp_path / "few.bed",
        "--genotypes",
        files / "imputed.bgen",
        "--traits",
        disk.folder / "toy.traits.tsv",
    )
    succeed("gwas", *both, "--method", "linear-only", "--min-info", "0.999", "--out", tmp_path / "out")
    table = statistics(tmp_path / "out")
    assert set(ids[:100]) <= set(table["rsid"])
    assert table["info"].isna().sum() == 100


def test_a_sample_file_belongs_to_the_bgen(disk: Disk, files: Path, tmp_path: Path) -> None:
    """As the UK Biobank has it: array genotypes with a .fam, imputed ones with a .sample beside."""
    out = disk.gwas(
        tmp_path / "out", "--model-genotypes", str(files / "calls.bed"), "--sample-file", str(files / "imputed.sample"),
        genotypes=files / "imputed.bgen",
    )  # fmt: skip
    assert statistics(out)["info"].notna().all()
    done = run_command("gwas", *disk.inputs(), "--sample-file", files / "imputed.sample", "--out", tmp_path / "x")
    assert done.code == 2
    assert "no .bgen file" in done.err


def test_regions_choose_what_is_scanned(disk: Disk, tmp_path: Path) -> None:
    everything = statistics(disk.gwas(tmp_path / "all"))
    middle = int(everything["base_pair_location"].median())
    out = disk.gwas(tmp_path / "some", "--region", f"1:1-{middle}", "--region", "2")
    kept = statistics(out)
    inside = (everything["chromosome"] == "2") | (
        (everything["chromosome"] == "1") & (everything["base_pair_location"] <= middle)
    )
    assert kept["rsid"].tolist() == everything["rsid"][inside].tolist()


def test_a_region_that_needs_a_build_says_so(disk: Disk, tmp_path: Path) -> None:
    done = run_command("gwas", *disk.inputs(), "--exclude-region", "mhc", "--out", tmp_path / "x")
    assert done.code == 2
    assert "--build" in done.err
