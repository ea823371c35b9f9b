"""Exports against the store they come from, read by other programs and by our own ingest."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from biolmm.errors import ParameterError
from biolmm.sumstats.export.gwas_vcf import write_gwas_vcf
from biolmm.sumstats.export.rows import Origin, find_origin
from biolmm.sumstats.export.ssf import validate_ssf, write_ssf_export
from biolmm.sumstats.export.text import write_parquet, write_table
from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.matrix.change import add_studies
from biolmm.sumstats.matrix.read import SumstatsStore
from running import run_command, simulate, succeed
from sumstats.quality.studies import SIZES, clean, make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SumstatsStore:
    tables = clean(2)
    tables[0].loc[7, ["A1", "A2"]] = ["CAAT", "C"]
    tables[1].loc[7, ["A1", "A2"]] = ["CAAT", "C"]
    return make_store(
        tmp_path_factory.mktemp("store"), [tables[0], tables[1].iloc[100:]], Rules(exact=True, palindromic="trust")
    )


def cells(store: SumstatsStore, study: int) -> pd.DataFrame:
    """The numbers of a study straight from the store's arrays."""
    parts = []
    for block in store.blocks([study], ("beta", "se", "eaf", "info", "n", "neg_log10_p", "status")):
        frame = pd.DataFrame({name: values[:, 0] for name, values in block.cells.items()})
        parts.append(frame.assign(contig=[store.contig_id[at] for at in block.contig], position=block.position))
    joined = pd.concat(parts, ignore_index=True)
    return joined[(joined["status"] & 1) > 0].reset_index(drop=True)


def test_gwas_vcf_is_read_by_htslib(store: SumstatsStore, tmp_path: Path) -> None:
    cyvcf2 = pytest.importorskip("cyvcf2")
    done = write_gwas_vcf(store, tmp_path / "a.vcf.gz", n_cases={"s1": 900})
    assert done.n_rows == store.n_variants
    vcf = cyvcf2.VCF(str(done.path))
    assert vcf.samples == ["s0", "s1"]
    found = {key: [] for key in ("ES", "SE", "LP", "AF", "SS", "SI", "NC")}
    place = []
    for record in vcf:
        place.append((record.CHROM, record.POS, record.REF, record.ALT[0]))
        for key, values in found.items():
            values.append(record.format(key)[:, 0].astype(float))
    numbers = {key: np.array(values) for key, values in found.items()}
    assert ("1", "C", "CAAT") in {(c, r, a) for c, _, r, a in place}
    for study in (0, 1):
        wanted = cells(store, study)
        there = ~np.isnan(numbers["ES"][:, study])
        assert [(c, p) for (c, p, _, _), yes in zip(place, there, strict=True) if yes] == list(
            zip(wanted["contig"], wanted["position"], strict=True)
        )
        for key, column in (
            ("ES", "beta"),
            ("SE", "se"),
            ("LP", "neg_log10_p"),
            ("AF", "eaf"),
            ("SI", "info"),
            ("SS", "n"),
        ):
            # htslib keeps single precision: half a unit in its last place
            np.testing.assert_allclose(numbers[key][there, study], wanted[column], rtol=2.0**-24)
    some = cells(store, 0).iloc[2500]
    region = f"{some['contig']}:{some['position'] - 200_000}-{some['position'] + 200_000}"
    inside = [p for c, p, _, _ in place if c == some["contig"] and abs(p - some["position"]) <= 200_000]
    assert [record.POS for record in vcf(region)] == inside
    assert len(inside) > 3


def test_a_vcf_comes_back_as_the_same_store(store: SumstatsStore, tmp_path: Path) -> None:
    write_gwas_vcf(store, tmp_path / "a.vcf.gz")
    inputs = [StudyInput(tmp_path / "a.vcf.gz", name=name, trait=name) for name in store.study_id]
    again = add_studies(tmp_path / "again", inputs, Rules(exact=True, palindromic="trust"), sizes=SIZES)
    for study in (0, 1):
        mine, theirs = cells(store, study), cells(again, study)
        assert mine[["contig", "position"]].equals(theirs[["contig", "position"]])
        for name in ("beta", "se", "eaf", "info", "n", "neg_log10_p"):
            np.testing.assert_allclose(theirs[name], mine[name], rtol=1e-12)


def test_p_without_effects_becomes_z(tmp_path: Path) -> None:
    cyvcf2 = pytest.importorskip("cyvcf2")
    table = clean(1)[0].iloc[:200]
    z = (table["BETA"] / table["SE"]).round(5)
    table = table.drop(columns=["BETA", "SE", "P"]).assign(Z=z)
    done = write_gwas_vcf(make_store(tmp_path, [table], Rules(exact=True, palindromic="trust")), tmp_path / "z.vcf.gz")
    got = np.array([record.format("EZ")[0, 0] for record in cyvcf2.VCF(str(done.path))])
    np.testing.assert_allclose(got, z, rtol=1e-5, atol=1e-6)


def test_parquet_and_text_hold_the_same(store: SumstatsStore, tmp_path: Path) -> None:
    origin = find_origin(store.path, "s1")
    write_parquet(origin, tmp_path / "a.parquet")
    frame = pq.read_table(tmp_path / "a.parquet").to_pandas()
    done = write_table(origin, tmp_path / "a.tsv.gz")
    text = pd.read_csv(tmp_path / "a.tsv.gz", sep="\t", dtype={"#chromosome": str})
    wanted = cells(store, 1)
    assert len(frame) == len(text) == done.n_rows == len(wanted)
    assert list(text.columns)[1:] == list(frame.columns)[1:]
    for name, column in (
        ("beta", "beta"),
        ("standard_error", "se"),
        ("effect_allele_frequency", "eaf"),
        ("info", "info"),
    ):
        assert np.array_equal(frame[name], wanted[column])
        assert np.array_equal(text[name], wanted[column])
    assert frame["rsid"].str.fullmatch(r"rs\d+").all()
    assert (tmp_path / "a.tsv.gz.tbi").exists()


def test_ssf_keeps_the_rules(store: SumstatsStore, tmp_path: Path) -> None:
    done = write_ssf_export(find_origin(store.path, "s0"), tmp_path / "s0.tsv.gz")
    assert done.index_path is not None
    rules = validate_ssf(done.path, min_rows=1000)
    assert [str(rule) for rule in rules if not rule.rule.startswith("all autosomes")] == []
    frame = pd.read_csv(done.path, sep="\t", na_values="#NA")
    assert np.array_equal(frame["beta"], cells(store, 0)["beta"])
    assert "data_file_md5sum" in done.path.with_name("s0.tsv.gz-meta.yaml").read_text(encoding="utf-8")


def test_results_of_gwas_and_tables_are_exported(tmp_path: Path) -> None:
    cohort = simulate(tmp_path)
    succeed("gwas", "--genotypes", cohort, "--traits", tmp_path / "toy.traits.tsv", "--out", tmp_path / "out")
    out = succeed("sumstats", "export", tmp_path / "out", "--trait", "trait1", "--out", tmp_path / "t.vcf.gz")
    assert "indexed in" in out
    succeed("sumstats", "export", tmp_path / "out", "--trait", "trait1", "--out", tmp_path / "t.tsv.gz")
    succeed("sumstats", "export", tmp_path / "t.tsv.gz", "--out", tmp_path / "again.parquet")
    frame = pq.read_table(tmp_path / "again.parquet").to_pandas()
    with gzip.open(tmp_path / "t.tsv.gz", "rt") as file:
        assert sum(1 for _ in file) == len(frame) + 1
    assert run_command("sumstats", "validate-ssf", tmp_path / "t.tsv.gz").code == 2  # too few rows, and autosomes
    refused = run_command("sumstats", "export", tmp_path / "out", "--out", tmp_path / "x.tsv.gz")
    assert refused.code == 2
    assert "say which trait" in refused.err


def test_names_that_are_not_there_are_refused(store: SumstatsStore, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="has no study 'no'"):
        find_origin(store.path, "no")
    with pytest.raises(ParameterError, match="say which study"):
        find_origin(store.path)
    with pytest.raises(ParameterError, match="--cases names no"):
        write_gwas_vcf(store, tmp_path / "a.vcf.gz", n_cases={"no": 3})


GOOD = {
    "chromosome": "1", "base_pair_location": "100", "effect_allele": "A", "other_allele": "G", "beta": "0.1",
    "standard_error": "0.02", "effect_allele_frequency": "0.3", "p_value": "1e-5", "variant_id": "1_100_G_A", "rsid": "rs5",
    "n": "1000", "info": "0.9",
}  # fmt: skip


def ssf(path: Path, **change: str) -> Path:
    """Write 50 rows of which the last is changed."""
    rows = [GOOD | {"base_pair_location": str(100 + at)} for at in range(50)]
    rows[-1] |= change
    pd.DataFrame(rows).to_csv(path, sep="\t", index=False)
    return path


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"chromosome": "X"}, "chromosome is a whole number from 1 to 25"),
        ({"chromosome": "26"}, "chromosome is a whole number from 1 to 25"),
        ({"base_pair_location": "1.5"}, "base_pair_location is a whole number"),
        ({"base_pair_location": "-4"}, "base_pair_location is a whole number"),
        ({"base_pair_location": "7"}, "rows are sorted"),
        ({"effect_allele": "a"}, "effect_allele is of A, C, G, T"),
        ({"effect_allele": "<DEL>"}, "effect_allele is of A, C, G, T"),
        ({"other_allele": "A"}, "the two alleles differ"),
        ({"beta": "#NA"}, "beta is a number in every row"),
        ({"beta": "inf"}, "beta is a number in every row"),
        ({"standard_error": "-0.1"}, "standard_error is at least 0"),
        ({"effect_allele_frequency": "1.2"}, "effect_allele_frequency is from 0 to 1"),
        ({"p_value": "0"}, "p_value is not 0"),
        ({"p_value": "1.1"}, "p_value is from 0 to 1"),
        ({"rsid": "5"}, "rsid is rs and a number"),
        ({"variant_id": "1:100"}, "variant_id is letters"),
        ({"n": "10.5"}, "n is a whole number"),
        ({"info": "1.4"}, "info is a number from 0 to 1"),
        ({"info": "."}, "info is a number from 0 to 1"),
    ],
)
def test_broken_rules_are_named_with_their_line(change: dict[str, str], rule: str, tmp_path: Path) -> None:
    found = validate_ssf(ssf(tmp_path / "a.tsv", **change), min_rows=10, metadata=False)
    mine = [each for each in found if each.rule.startswith(rule)]
    assert [(each.count, each.line) for each in mine] == [(1, 51)], found
    whole = validate_ssf(ssf(tmp_path / "b.tsv"), min_rows=10, metadata=False)
    assert [each.rule for each in whole] == ["all autosomes, or chromosome 23 alone"]


def test_columns_out_of_place_are_named(tmp_path: Path) -> None:
    path = ssf(tmp_path / "a.tsv")
    frame = pd.read_csv(path, sep="\t", dtype=str)
    frame[[*list(frame.columns)[1::-1], *list(frame.columns)[2:]]].to_csv(path, sep="\t", index=False)
    assert "column 1 is chromosome (it is base_pair_location, and chromosome is column 2)" in str(
        validate_ssf(path, metadata=False)[0]
    )
    frame.drop(columns="beta").to_csv(path, sep="\t", index=False)
    assert "beta or odds_ratio" in validate_ssf(path, metadata=False)[0].found


def test_metadata_are_checked(store: SumstatsStore, tmp_path: Path) -> None:
    done = write_ssf_export(Origin(store.path, "s0", "store"), tmp_path / "a.tsv.gz")
    meta = tmp_path / "a.tsv.gz-meta.yaml"
    meta.write_text(
        meta.read_text(encoding="utf-8").replace("data_file_md5sum: ", 'data_file_md5sum: "0"  # '), encoding="utf-8"
    )
    assert any(rule.rule == "data_file_md5sum is the file's" for rule in validate_ssf(done.path, min_rows=10))
    meta.unlink()
    assert any(rule.rule == "metadata stand beside the file" for rule in validate_ssf(done.path, min_rows=10))
