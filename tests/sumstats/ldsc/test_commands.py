"""From genotypes and traits to estimates, by the commands: LD scores and scan of one store, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from biolmm.errors import InputFileError
from biolmm.files.annot_files import read_overlap
from biolmm.files.encoding import Encoding, dosages_from_rows
from biolmm.files.ldscore_files import read_ld_scores, write_ld_scores
from biolmm.results.associations import read_associations
from biolmm.results.record import read_record
from biolmm.results.tables import read_result_table
from biolmm.store.read import GenotypeStore
from biolmm.sumstats.ldsc.calibration import calibration
from biolmm.sumstats.ldsc.sources import gain_of_model, read_sumstats, read_traits
from oracles.ldsc import dense_ld_scores
from running import run_command, simulate, succeed


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulate 400 people and 1,500 variants, scan two traits both ways, compute LD scores."""
    folder = tmp_path_factory.mktemp("ldsc")
    store = simulate(folder, "--h2", "0.6", samples=400, variants=1500)
    traits = ("--traits", folder / "toy.traits.tsv", "--covariates", folder / "toy.covariates.tsv")
    succeed("gwas", "--genotypes", store, *traits, "--method", "linear", "--out", folder / "out")
    succeed("ld-scores", store, "--out", folder / "ld.@", "--window", "2mb")
    return folder


def test_ld_scores_of_a_store(cohort: Path) -> None:
    """Those of the definition, of annotations and of a genetic map, whose even rate of 1 cM a megabase changes nothing."""
    store = GenotypeStore.open(cohort / "toy.zarr")
    rows = np.concatenate([store.read_rows(c) for c in range(-(-store.n_variants // store.chunk_variants))])
    dosages = dosages_from_rows(rows, Encoding.CALLS, store.n_samples).astype(float)
    vary = np.array([len(set(row[~np.isnan(row)])) > 1 for row in dosages])
    dosages, contig = dosages[vary], store.variant_contig[vary].astype(float)
    place, ids = store.variant_position[vary].astype(float), store.variant_id[vary].tolist()
    found = read_ld_scores(cohort / "ld.@")
    dense = dense_ld_scores(dosages, place, contig, 2e6, np.ones((len(place), 1)))
    np.testing.assert_allclose(found.scores, dense, rtol=1e-4, atol=1e-4)  # six digits are written
    maf = np.nanmean(dosages, axis=1) / 2
    assert found.counts()[0] == np.count_nonzero(np.minimum(maf, 1 - maf) > 0.05)
    assert found.counts(common=False)[0] == len(ids)
    (cohort / "x.annot").write_text("SNP\tfirst\n" + "".join(f"{name}\t1\n" for name in ids[:300]))
    (cohort / "half.bed").write_text("".join(f"{c}\t0\t50000000\n" for c in (1, 2)))
    (cohort / "some.txt").write_text("\n".join(ids[100:900]) + "\n")
    (cohort / "even.txt").write_text(
        "chr pos cM\n" + "".join(f"{c} 1 0.000001\n{c} 250000000 250\n" for c in store.contig_id)
    )
    said = succeed(
        "ld-scores", cohort / "toy.zarr", "--out", cohort / "annotated", "--window", "2cM", "--map", cohort / "even.txt",
        "--annot", cohort / "x.annot", "--annot-bed", f"half={cohort}/half.bed", "--write-only", cohort / "some.txt",
    )  # fmt: skip
    assert f"{store.n_variants - 300:,} without annotations" in said
    A = np.column_stack([np.ones(len(ids)), np.arange(len(ids)) < 300, place <= 5e7])
    annotated = read_ld_scores(cohort / "annotated")
    assert annotated.names == ("base", "first", "half") and annotated.snp.to_pylist() == ids[100:900]
    dense = dense_ld_scores(dosages, place, contig, 2e6, A)[100:900]
    np.testing.assert_allclose(annotated.scores, dense, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(annotated.counts(common=False), A.sum(axis=0))
    assert np.array_equal(read_overlap(str(cohort / "annotated"), common=False).shared, A.T @ A)


def test_heritability_straight_from_a_scan(cohort: Path) -> None:
    out, prefix = cohort / "out", f"{cohort}/ld.@"
    said = succeed(
        "ldsc", "h2", out, "--ld-scores", prefix, "--kind", "linear", "--out", cohort / "h2.tsv", "--two-step", "0"
    )
    table = pd.read_csv(cohort / "h2.tsv", sep="\t").set_index("trait")
    assert list(table.index) == ["trait1", "trait2"] and "fewer than 200,000" in said
    chisq = read_associations(out, "trait1", kind="linear")
    used = np.minimum(chisq["effect_allele_frequency"], 1 - chisq["effect_allele_frequency"]) > 0.01
    assert table["mean_chisq"]["trait1"] == pytest.approx(np.mean((chisq["beta"] / chisq["standard_error"])[used] ** 2))
    assert table["n_variants"]["trait1"] == used.sum()
    assert (table["h2"] - 0.6).abs().max() < 4 * table["h2_se"].max()
    found = calibration(out, prefix)
    assert found[["trait", "kind"]].values.tolist() == [
        [t, k] for k in ("associations", "linear") for t in ("trait1", "trait2")
    ]
    assert found["intercept"].notna().all()
    liability = succeed("ldsc", "h2", out, "--ld-scores", prefix, "--prevalence", "0.01", "--cases", "0.5")
    assert "h2_liability" in liability


def test_calibration_in_the_report(cohort: Path, tmp_path: Path) -> None:
    """By gwas and by report: the same table, which is that of `ldsc h2`; LD scores that are not there stop gwas at once."""
    traits = ("--traits", cohort / "toy.traits.tsv", "--covariates", cohort / "toy.covariates.tsv")
    run = ("gwas", "--genotypes", cohort / "toy.zarr", *traits, "--out", tmp_path / "out", "--ld-scores")
    done = run_command("--quiet", *run, tmp_path / "absent")
    assert done.code == 2 and "absent.l2.ldscore.gz' does not exist" in done.err
    assert not (tmp_path / "out" / "associations").exists()
    succeed(*run, f"{cohort}/ld.@")
    found = read_result_table(tmp_path / "out", "ldsc")
    assert found is not None and found["trait"].tolist() == ["trait1", "trait2"]
    assert "LD score intercept" in (tmp_path / "out" / "report.html").read_text()
    succeed("ldsc", "h2", tmp_path / "out", "--ld-scores", f"{cohort}/ld.@", "--out", tmp_path / "h2.tsv")
    table = pd.read_csv(tmp_path / "h2.tsv", sep="\t")
    pd.testing.assert_frame_equal(found, table[list(found)], check_exact=False, rtol=1e-12)
    (tmp_path / "out" / "ldsc.tsv").unlink()
    succeed("report", tmp_path / "out", "--ld-scores", f"{cohort}/ld.@")
    pd.testing.assert_frame_equal(read_result_table(tmp_path / "out", "ldsc"), found)


def test_other_variants_do_not_undo_a_scan(cohort: Path, tmp_path: Path) -> None:
    """The scan is worth hours by then: a warning in the record; `report` alone says it is an error."""
    ld = read_ld_scores(cohort / "ld.@")
    write_ld_scores(tmp_path / "other", replace(ld, snp=pa.array([f"x{i}" for i in range(len(ld))])))
    traits = ("--traits", cohort / "toy.traits.tsv", "--trait", "trait1", "--method", "linear-only")
    succeed(
        "gwas",
        "--genotypes",
        cohort / "toy.zarr",
        *traits,
        "--out",
        tmp_path / "out",
        "--ld-scores",
        tmp_path / "other",
    )
    assert "no regression on LD scores" in read_record(tmp_path / "out")["warnings"][0]
    assert read_result_table(tmp_path / "out", "ldsc") is None
    done = run_command("--quiet", "report", tmp_path / "out", "--ld-scores", tmp_path / "other")
    assert done.code == 2 and "no variant is among the LD scores" in done.err


def test_munged_files_give_what_the_folder_gives(cohort: Path) -> None:
    """The correlation of the traits, and of one trait with itself under another name: exactly 1."""
    out, prefix = cohort / "out", f"{cohort}/ld.@"
    succeed("ldsc", "munge", out, "--kind", "linear", "--out", cohort / "m")
    succeed(
        "ldsc", "rg", out, "--kind", "linear", "--ld-scores", prefix, "--out", cohort / "one.tsv", "--intercept", "0"
    )
    files = [cohort / f"m.trait{i}.sumstats.gz" for i in (1, 2)]
    named = [path.rename(path.with_name(f"trait{i}.sumstats.gz")) for i, path in enumerate(files, 1)]
    succeed("ldsc", "rg", *named, "--ld-scores", prefix, "--out", cohort / "two.tsv", "--intercept", "0")
    one, two = (pd.read_csv(cohort / f"{name}.tsv", sep="\t") for name in ("one", "two"))
    pd.testing.assert_frame_equal(one, two)
    again = cohort / "again.sumstats.gz"
    again.write_bytes(named[0].read_bytes())
    succeed("ldsc", "rg", named[0], again, "--ld-scores", prefix, "--out", cohort / "self.tsv")
    self = pd.read_csv(cohort / "self.tsv", sep="\t").iloc[0]
    assert self["covariance"] == pytest.approx(self["h2_1"], rel=0.3) and self["h2_1"] == self["h2_2"]
    said = succeed("ldsc", "rg", *named, "--ld-scores", prefix, "--screen")
    assert "trait1" in said
    assert read_sumstats(named[0]).z.size < len(read_traits(out, kind="linear")[0])  # palindromic ones are left out


def test_annotations_by_the_command(cohort: Path) -> None:
    test_ld_scores_of_a_store(cohort)
    said = succeed("ldsc", "partitioned", cohort / "out", "--ld-scores", cohort / "annotated", "--trait", "trait1",
                   "--out", cohort / "p.tsv", "--blocks", "20")  # fmt: skip
    table = pd.read_csv(cohort / "p.tsv", sep="\t")
    assert table["annotation"].tolist() == ["base", "first", "half"] and "enrichment" in said
    assert table["enrichment"][0] == pytest.approx(1) and table["share_of_variants"][0] == 1
    succeed(
        "ldsc", "partitioned", cohort / "out", "--ld-scores", cohort / "ld.@", "--trait", "trait1", "--all-variants"
    )


def test_the_gain_of_a_mixed_model(cohort: Path) -> None:
    """N times the gain is N where the scan is a regression: variance and se are those of one model."""
    out = cohort / "out"
    traits = read_traits(out), read_traits(out, effective_n=False)
    for effective, plain in zip(*traits, strict=True):
        gain = gain_of_model(out, plain.name)
        np.testing.assert_allclose(effective.n, plain.n * gain)
        assert 0.5 < gain < 2
    part = read_associations(out, "trait1")
    p = part["effect_allele_frequency"]
    variance = pd.read_csv(out / "h2.tsv", sep="\t").set_index("trait").loc["trait1", ["sigma2_g", "sigma2_e"]].sum()
    expected = (variance / (2 * p * (1 - p) * part["n"] * part["standard_error"] ** 2))[
        np.minimum(p, 1 - p) > 0.01
    ].median()
    assert gain_of_model(out, "trait1") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("h2", "OUT", "--ld-scores", "absent"), "put @ where its number is"),
        (("h2", "OUT", "--ld-scores", "LD", "--trait", "bmi"), "has no trait bmi"),
        (("h2", "OUT", "--ld-scores", "LD", "--prevalence", "0.1"), "needs --prevalence and --cases"),
        (("h2", "OUT", "--ld-scores", "LD", "--blocks", "1"), "at least 2 blocks"),
        (("rg", "OUT", "--ld-scores", "LD", "--trait", "trait1"), "two traits"),
        (("rg", "OUT", "OUT", "--ld-scores", "LD"), "names are those of several traits"),
        (("h2", "EMPTY", "--ld-scores", "LD"), "holds no association results"),
        (("munge", "EMPTY", "--out", "x"), "holds no association results"),
    ],
)
def test_mistakes_are_one_line(cohort: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    places = {"OUT": cohort / "out", "LD": f"{cohort}/ld.@", "EMPTY": tmp_path}
    done = run_command("--quiet", "ldsc", *(places.get(word, word) for word in arguments))
    assert done.code == 2 and message in done.err and len(done.err.strip().splitlines()) == 1


def test_mistakes_of_ld_scores(cohort: Path, tmp_path: Path) -> None:
    for options, message in (
        (("--window", "1cM"), "needs a genetic map"),
        (("--window", "x"), "is not a window"),
        (("--annot", tmp_path / "no"), "does not exist"),
        (("--memory", "1MB"), "LD scores would use"),
    ):
        done = run_command("--quiet", "ld-scores", cohort / "toy.zarr", "--out", tmp_path / "x", *options)
        assert done.code == 2 and message in done.err, done.err
    assert "LD scores" in succeed("ld-scores", cohort / "toy.zarr", "--out", tmp_path / "x", "--plan")
    with pytest.raises(InputFileError):
        read_ld_scores(tmp_path / "x")
