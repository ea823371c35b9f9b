"""Stores of studies and tables of every layout, beside LD scores: by identifier and by place, on either strand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import zstandard

from biolmm.errors import ParameterError, UserError, VariantMismatchError
from biolmm.files.ldscore_files import LdScoreTable, write_ld_scores
from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.ldsc.join import join
from biolmm.sumstats.ldsc.match import Wanted
from biolmm.sumstats.ldsc.munge import MungeConfig, munge
from biolmm.sumstats.ldsc.sources import read_all, read_traits
from biolmm.sumstats.ldsc.studies import StudyConfig
from biolmm.sumstats.matrix.change import add_studies
from oracles.layouts import LAYOUTS
from oracles.sumstats import SSF, mirrored, random_rows, write_study
from running import run_command, succeed

ANY = MungeConfig(alleles="any", min_maf=0, min_n=1)
ROWS = random_rows(400, seed=5, contigs=("1", "2"))


def ld_of(rows: list[dict[str, object]], ids: list[str] | None = None, *, alleles: bool = True) -> LdScoreTable:
    """Invent LD scores of the variants of records."""
    rng = np.random.default_rng(8)
    snp = pa.array(ids or [str(row["rsid"]) for row in rows])
    pairs = tuple(pa.array([str(row[name]) for row in rows]) for name in ("effect_allele", "other_allele"))
    return LdScoreTable(
        "ld", pa.array([str(row["chromosome"]) for row in rows]),
        np.array([int(str(row["base_pair_location"])) for row in rows]), snp, ("base",), rng.gamma(2, 20, (len(rows), 1)),
        np.array([1e4]), np.array([1.2e4]), (pairs[0], pairs[1]) if alleles else None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make two studies, `a` as it is and `b` with half of it swapped and half on the other strand, and their store."""
    folder = tmp_path_factory.mktemp("studies")
    write_study(folder / "a.tsv", ROWS)
    write_study(
        folder / "b.tsv", [mirrored(row, swap=i % 2 == 0, complement=i % 4 < 2) for i, row in enumerate(ROWS[20:])]
    )
    inputs = [StudyInput(folder / f"{name}.tsv") for name in "ab"]
    add_studies(folder / "s.zarr", inputs, Rules(palindromic="drop", exact=True))
    return folder


def test_a_store_gives_what_its_tables_give(folder: Path) -> None:
    """The same z of the same alleles: after joining, exactly equal; palindromic variants were left out of the store."""
    ld = ld_of(ROWS)
    config = replace(ANY, alleles="snps")
    of_tables = join(read_all([folder / "a.tsv", folder / "b.tsv"], config, keep=ld), ld, alleles=True)
    of_store = join(read_traits(folder / "s.zarr", config, keep=ld), ld, alleles=True)
    assert of_store.names == of_tables.names == ("a", "b")
    np.testing.assert_array_equal(of_store.Z, of_tables.Z)
    np.testing.assert_array_equal(of_store.N, of_tables.N)
    both = ~np.isnan(of_store.Z).any(axis=0)
    assert both.sum() > 200
    np.testing.assert_allclose(of_store.Z[0, both], of_store.Z[1, both], rtol=1e-12)
    table = pd.read_csv(folder / "a.tsv", sep="\t")
    plain = munge(table.drop(columns="p_value"), config)
    (folder / "a.tsv.zst").write_bytes(zstandard.compress((folder / "a.tsv").read_bytes()))
    for name in ("a.tsv", "a.tsv.zst"):
        found = read_traits(folder / name, config)[0]
        assert found.snp.to_pylist() == plain.snp.to_pylist() and found.dropped == plain.dropped
        np.testing.assert_allclose(found.z, plain.z, rtol=1e-12)


@pytest.mark.parametrize("alleles", [True, False])
@pytest.mark.parametrize("source", ["s.zarr", "a.tsv"])
def test_places_stand_in_for_identifiers(folder: Path, source: str, alleles: bool) -> None:
    """LD scores whose identifiers mean nothing, some at places with other alleles: those are not the variant."""
    names = [f"x{i}" for i in range(len(ROWS))]
    by_id = read_traits(folder / source, ANY, keep=ld_of(ROWS), traits=("a",))[0]
    found = read_traits(folder / source, ANY, keep=ld_of(ROWS, names, alleles=alleles), traits=("a",))[0]
    number = {str(row["rsid"]): i for i, row in enumerate(ROWS)}
    assert found.snp.to_pylist() == [f"x{number[name]}" for name in by_id.snp.to_pylist()]
    np.testing.assert_array_equal(found.z, by_id.z)
    other = [row | {"other_allele": "GATTACA"} if i < 7 else row for i, row in enumerate(ROWS)]
    kept = read_traits(folder / source, ANY, keep=ld_of(other, names), traits=("a",))[0].snp.to_pylist()
    assert kept == [name for name in found.snp.to_pylist() if int(name[1:]) >= 7]
    with pytest.raises(VariantMismatchError, match="neither by"):
        read_traits(folder / source, ANY, keep=ld_of(ROWS, names), how=StudyConfig(match_by="id"))


def test_the_way_that_finds_more_is_taken(folder: Path) -> None:
    """Positions of another build: identifiers. A variant that two records claim, alleles unknown: neither."""
    moved = [row | {"base_pair_location": int(str(row["base_pair_location"])) + 10**7} for row in ROWS]
    found = read_traits(folder / "s.zarr", ANY, keep=ld_of(moved), traits=("a",))[0]
    assert len(found) == len(read_traits(folder / "s.zarr", ANY, keep=ld_of(ROWS), traits=("a",))[0])
    twice = [{**ROWS[1], "rsid": "rs1"}, {**ROWS[1], "rsid": "rs2", "effect_allele": "GAT"}, *ROWS[2:200]]
    write_study(folder / "twice.tsv", twice)
    names = [f"x{i}" for i in range(len(ROWS))]
    kept = read_traits(folder / "twice.tsv", ANY, keep=ld_of(ROWS, names, alleles=False))[0].snp.to_pylist()
    assert "x1" not in kept and "x2" in kept
    exact = read_traits(folder / "twice.tsv", ANY, keep=ld_of(ROWS, names))[0].snp.to_pylist()
    assert "x1" in exact
    assert Wanted(pa.array(["a"])).find_rs_numbers(np.array([0, 5])).tolist() == [-1, -1]


def test_direction_and_p_give_z(folder: Path) -> None:
    """A study without standard errors: z of −log10 p and the sign."""
    rows = [row | {"standard_error": "NA"} for row in ROWS]
    names = [name for name in SSF if name != "standard_error"]
    store = folder / "p.zarr"
    add_studies(store, [StudyInput(write_study(folder / "p.tsv", rows, names))], Rules(palindromic="trust", exact=True))
    z = np.array([float(str(row["beta"])) / float(str(row["standard_error"])) for row in ROWS])
    for path in (store, folder / "p.tsv"):
        found = read_traits(path, ANY, keep=ld_of(ROWS))[0]
        at = [i for i, row in enumerate(ROWS) if row["rsid"] in set(found.snp.to_pylist())]
        np.testing.assert_allclose(found.z, z[at], rtol=1e-4, atol=1e-4)  # six digits of p


@pytest.mark.parametrize("name", LAYOUTS)
def test_munging_takes_every_layout(tmp_path: Path, name: str) -> None:
    path = tmp_path / "study.txt"
    path.write_text("".join(LAYOUTS[name]))
    succeed("ldsc", "munge", path, "--out", tmp_path / "m", "--n", "5010", "--min-n", "1")
    row = pd.read_csv(tmp_path / "m.sumstats.gz", sep="\t").iloc[0]
    expected = {"METAL": "chr1:1000:A:G"}.get(name, "rs5")
    flipped = name in ("METAL", "PLINK 2 logistic")
    assert (row["SNP"], row["A1"], row["A2"]) == (expected, *(("A", "G") if flipped else ("G", "A")))
    assert (-1 if flipped else 1) * row["Z"] == pytest.approx(2, rel=1e-3)
    assert row["N"] == (5010 if name in ("METAL", "BOLT-LMM", "PLINK 1") else 5000)


def test_commands(folder: Path) -> None:
    write_ld_scores(folder / "ld", ld_of(ROWS))
    two = ("--ld-scores", folder / "ld", "--blocks", "10", "--min-maf", "0")
    said = succeed("ldsc", "h2", folder / "s.zarr", *two, "--trait", "b")
    assert "\nb " in said and "\na " not in said
    assert "trait1" in succeed("ldsc", "rg", folder / "s.zarr", *two, "--screen")
    assert "enrichment" in succeed("ldsc", "partitioned", folder / "s.zarr", *two, "--trait", "a", "--all-variants")
    succeed("ldsc", "munge", folder / "s.zarr", "--out", folder / "m", "--trait", "a")
    assert pd.read_csv(folder / "m.sumstats.gz", sep="\t")["SNP"].str.startswith("rs").all()
    (folder / "odd.tsv").write_text((folder / "a.tsv").read_text().replace("standard_error", "spread"))
    succeed("ldsc", "h2", folder / "odd.tsv", *two, "--map", "spread=se")
    done = run_command("--quiet", "ldsc", "h2", folder / "s.zarr", *two, "--trait", "c")
    assert done.code == 2 and "has no study c" in done.err
    with pytest.raises(ParameterError):
        read_traits(folder / "a.tsv", how=StudyConfig({"absent": "se"}))


def test_mislabelled_tables_are_refused(folder: Path) -> None:
    rows = [row | {"beta": float(np.exp(float(str(row["beta"]))))} for row in ROWS]
    write_study(folder / "or.tsv", rows)
    with pytest.raises(UserError, match="odds ratios"):
        read_traits(folder / "or.tsv")


def test_results_of_meta(folder: Path) -> None:
    """Either scheme: z of the effects, or z itself."""
    for scheme in ("ivw", "samplesize"):
        out = folder / scheme
        succeed("meta", folder / "s.zarr", "--out", out, "--scheme", scheme, "--no-plots", "--study", "a")
        found = read_traits(out, ANY, keep=ld_of(ROWS))[0]
        study = read_traits(folder / "s.zarr", ANY, keep=ld_of(ROWS), traits=("a",))[0]
        assert found.snp.to_pylist() == study.snp.to_pylist()
        digits = 1e-4 if scheme == "samplesize" else 1e-12  # p is written with six digits
        np.testing.assert_allclose(found.z, study.z, rtol=digits, atol=digits)
