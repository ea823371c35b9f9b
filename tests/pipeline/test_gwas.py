"""The main job from end to end on a small cohort: what it reads, what it writes, and that options do what they say."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dask.distributed import Client, LocalCluster

from biolmm.schema import ASSOCIATION_COLUMNS, H2_COLUMNS, LEAD_COLUMNS
from running import Disk, close_statistics, run_command, same_statistics, statistics, succeed


def record(out: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((out / "run.json").read_text())
    return found


def test_the_results_lie_where_they_should(results: Path) -> None:
    folders = {
        str(path.parent.relative_to(results)) for path in results.rglob("*.parquet") if "model" not in path.parts
    }
    assert folders == {f"associations/trait=trait{t}/contig={c}" for t in (1, 2) for c in (1, 2, 3)}
    assert not list(results.rglob("*.partial"))
    for name in ("h2.tsv", "leads.tsv", "loco.tsv", "eigen.tsv", "pcs.tsv", "run.json", "report.html"):
        assert (results / name).is_file(), name


def test_the_columns_are_the_fixed_ones(results: Path) -> None:
    h2 = pd.read_csv(results / "h2.tsv", sep="\t")
    assert tuple(h2.columns) == H2_COLUMNS
    assert h2.columns.tolist() == ["trait", "n", "h2", "h2_se", "h2_mc_se", "sigma2_g", "sigma2_e", "lrt_p"]
    assert h2["trait"].tolist() == ["trait1", "trait2"]
    assert tuple(pd.read_csv(results / "leads.tsv", sep="\t").columns) == LEAD_COLUMNS
    table = pd.read_parquet(results / "associations" / "trait=trait1" / "contig=1" / "part-00000.parquet")
    assert table.columns.tolist()[: len(ASSOCIATION_COLUMNS)] == [column.name for column in ASSOCIATION_COLUMNS]


def test_any_reader_of_partitioned_parquet_reads_them(results: Path) -> None:
    whole = pd.read_parquet(results / "associations")
    assert len(whole) == 2 * 384
    assert set(whole["trait"].astype(str)) == {"trait1", "trait2"}


def test_the_record_says_what_was_run(results: Path, disk: Disk) -> None:
    found = record(results)
    assert str(found["command"]).startswith("biolmm --quiet gwas --genotypes")
    assert found["seed"] == 1
    assert found["counts"]["samples"]["analysed"] == 180  # type: ignore[index]
    assert found["counts"]["variants"]["scanned"] == 384  # type: ignore[index]
    assert set(found["inputs"]) == {"genotypes", "traits", "covariates"}  # type: ignore[call-overload]
    assert found["finished"]


def test_the_summary_ends_with_the_report(disk: Disk, results: Path) -> None:
    done = run_command("gwas", *disk.inputs(), "--out", results)
    lines = done.out.strip().splitlines()
    assert lines[0].startswith("180 samples, 384 variants scanned")
    assert lines[-1] == f"report: {results.absolute() / 'report.html'}"
    assert "fit" in done.err


@pytest.mark.parametrize("form", ["bed", "prefix"])
def test_plink_files_give_what_their_store_gives(disk: Disk, results: Path, tmp_path: Path, form: str) -> None:
    bed = disk.bed if form == "bed" else disk.bed.with_suffix("")
    out = disk.gwas(tmp_path / "out", genotypes=bed)
    assert close_statistics(out, results)
    assert (out / "genotypes.zarr").is_dir()


def test_a_file_set_a_chromosome_gives_what_one_file_gives(disk: Disk, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    succeed(
        *("simulate", folder / "toy.zarr", "--samples", "101", "--variants", "220", "--contigs", "22"),
        *("--traits", "1", "--bed", "--chunk-variants", "64"),
    )
    many = Disk(folder)
    rows = np.fromfile(many.bed, np.uint8)[3:].reshape(220, -1)
    lines = many.bed.with_suffix(".bim").read_text().splitlines(keepends=True)
    contigs = [line.split()[0] for line in lines]
    genotypes: list[str] = []
    for contig in dict.fromkeys(contigs):
        chosen = [i for i, name in enumerate(contigs) if name == contig]
        path = folder / f"chr{contig}.bed"
        path.write_bytes(b"\x6c\x1b\x01" + rows[chosen].tobytes())
        path.with_suffix(".bim").write_text("".join(lines[i] for i in chosen))
        path.with_suffix(".fam").write_bytes(many.bed.with_suffix(".fam").read_bytes())
        genotypes += ["--genotypes", str(path)]
    assert len(genotypes) == 44
    one = many.gwas(tmp_path / "one")
    succeed("gwas", *genotypes, *many.inputs()[2:], "--out", tmp_path / "split")
    assert close_statistics(one, tmp_path / "split")


def test_converting_first_gives_the_same(disk: Disk, results: Path, tmp_path: Path) -> None:
    succeed("convert", disk.bed, tmp_path / "c.zarr", "--chunk-variants", "128")
    out = disk.gwas(tmp_path / "out", genotypes=tmp_path / "c.zarr")
    assert close_statistics(out, results), "the size of chunks must not matter"


def test_fit_then_scan_is_gwas(disk: Disk, results: Path, tmp_path: Path) -> None:
    succeed("fit", *disk.inputs(), "--out", tmp_path / "fit")
    assert (tmp_path / "fit" / "h2.tsv").read_text() == (results / "h2.tsv").read_text()
    succeed("scan", "--genotypes", disk.store, "--model", tmp_path / "fit", "--out", tmp_path / "scan")
    assert same_statistics(tmp_path / "scan", results)
    assert (tmp_path / "scan" / "report.html").is_file()


def test_streamed_fit_then_scan_is_gwas(disk: Disk, streamed: Path, tmp_path: Path) -> None:
    succeed("fit", *disk.inputs(), "--solver", "stochastic", "--out", tmp_path / "fit")
    succeed("scan", "--genotypes", disk.store, "--model", tmp_path / "fit", "--out", tmp_path / "scan")
    assert same_statistics(tmp_path / "scan", streamed)
    succeed("scan", "--genotypes", disk.bed, "--model", tmp_path / "fit", "--out", tmp_path / "bed")
    assert close_statistics(tmp_path / "bed", streamed)


@pytest.mark.parametrize("solver", ["exact", "stochastic"])
def test_a_scan_without_loco_is_gwas_without_loco(disk: Disk, tmp_path: Path, solver: str) -> None:
    """Whether the model was fitted with left-out predictors or not; without saying, a scan does as the model."""
    expected = disk.gwas(tmp_path / "gwas", "--no-loco", "--solver", solver)
    for fitted, options in (("--loco", ["--no-loco"]), ("--no-loco", ["--no-loco"]), ("--no-loco", [])):
        name = "".join((fitted, *options))
        succeed("fit", *disk.inputs(), fitted, "--solver", solver, "--out", tmp_path / f"fit{fitted}")
        scan = ("scan", "--genotypes", disk.store, "--model", tmp_path / f"fit{fitted}", "--out", tmp_path / name)
        succeed(*scan, *options)
        assert pd.read_csv(tmp_path / name / "loco.tsv", sep="\t")["contig"].unique().tolist() == ["*"]
        assert record(tmp_path / name)["parameters"]["fit"]["loco"] is False  # type: ignore[index]
        assert close_statistics(tmp_path / name, expected)
    assert not close_statistics(tmp_path / "gwas", disk.gwas(tmp_path / "loco", "--solver", solver))


def test_a_scan_with_other_predictors_or_another_model_is_another_analysis(disk: Disk, tmp_path: Path) -> None:
    for name, options in (("half", ["--fixed-h2", "0.5"]), ("low", ["--fixed-h2", "0.2"])):
        succeed("fit", *disk.inputs(), *options, "--out", tmp_path / name)
    scan = ("scan", "--genotypes", disk.store, "--out", tmp_path / "out", "--model")
    succeed(*scan, tmp_path / "half")
    succeed(*scan, tmp_path / "half", "--loco")  # the same, said aloud
    for other in ((tmp_path / "half", "--no-loco"), (tmp_path / "low",)):
        done = run_command("--quiet", *scan, *other)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "results of another analysis" in done.err


def test_gwas_ssf_files_are_written(disk: Disk, tmp_path: Path) -> None:
    out = disk.gwas(tmp_path / "out", "--format", "ssf", "--format", "parquet")
    with gzip.open(out / "ssf" / "trait1.tsv.gz", "rt") as file:
        table = pd.read_csv(file, sep="\t")
    assert table.columns.tolist()[:8] == [
        "chromosome", "base_pair_location", "effect_allele", "other_allele", "beta", "standard_error",
        "effect_allele_frequency", "neg_log_10_p_value",
    ]  # fmt: skip
    scan = statistics(out)
    assert len(table) == scan["beta"].notna().sum() or len(table) == len(scan)


def test_the_plain_regression_runs_beside_or_alone(disk: Disk, results: Path, tmp_path: Path) -> None:
    beside = disk.gwas(tmp_path / "beside", "--method", "linear")
    alone = disk.gwas(tmp_path / "alone", "--method", "linear-only")
    assert same_statistics(beside, results)
    one, other = statistics(beside, kind="linear"), statistics(alone)
    pd.testing.assert_frame_equal(one.drop(columns="exact"), other.drop(columns="exact"))
    assert not (alone / "h2.tsv").exists() or pd.read_csv(alone / "h2.tsv", sep="\t").empty


def test_the_plain_regression_is_least_squares(disk: Disk, tmp_path: Path) -> None:
    """β̂ and its error of one variant against the normal equations, missing calls at the mean."""
    from biolmm.store.read import GenotypeStore

    out = disk.gwas(tmp_path / "out", "--method", "linear-only", "--trait", "trait1")
    store = GenotypeStore.open(disk.store)
    traits = pd.read_csv(disk.folder / "toy.traits.tsv", sep="\t").set_index("IID")["trait1"]
    covariates = pd.read_csv(disk.folder / "toy.covariates.tsv", sep="\t").set_index("IID").drop(columns="FID")
    design = pd.get_dummies(covariates, columns=["batch"], drop_first=True).astype(float)
    design.insert(0, "one", 1.0)
    y, X = traits[store.sample_id].to_numpy(), design.loc[store.sample_id].to_numpy()
    packed = store.read_rows(0)
    calls = (packed[5][:, None] >> np.array([0, 2, 4, 6]) & 3).ravel()[: store.n_samples].astype(float)
    calls[calls == 3] = calls[calls != 3].mean()
    seen = ~np.isnan(y)
    A = np.column_stack([calls, X])[seen]
    inverse = np.linalg.inv(A.T @ A)
    estimate = inverse @ A.T @ y[seen]
    residual = y[seen] - A @ estimate
    error = np.sqrt(residual @ residual / (seen.sum() - A.shape[1]) * inverse[0, 0])
    row = statistics(out).iloc[5]
    np.testing.assert_allclose([row["beta"], row["standard_error"]], [estimate[0], error], rtol=1e-4)


def test_components_become_covariates(disk: Disk, results: Path, tmp_path: Path) -> None:
    out = disk.gwas(tmp_path / "out", "--pcs", "3")
    pcs = pd.read_csv(out / "pcs.tsv", sep="\t")
    assert pcs.columns.tolist() == ["sample_id", "PC1", "PC2", "PC3"]
    assert len(pcs) == 180
    vectors = pcs[["PC1", "PC2", "PC3"]].to_numpy()
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-4)
    assert not same_statistics(out, results)


def test_keep_and_remove_choose_the_samples(disk: Disk, tmp_path: Path) -> None:
    ids = pd.read_csv(disk.folder / "toy.traits.tsv", sep="\t")["IID"].tolist()
    (tmp_path / "keep").write_text("\n".join(ids[:150]))
    (tmp_path / "remove").write_text("\n".join(ids[:20]))
    out = disk.gwas(tmp_path / "out", "--keep", f"{tmp_path}/keep", "--remove", f"{tmp_path}/remove")
    assert pd.read_csv(out / "pcs.tsv", sep="\t")["sample_id"].tolist() == ids[20:150]
    (tmp_path / "same").write_text("\n".join(reversed(ids[20:150])))
    assert same_statistics(out, disk.gwas(tmp_path / "again", "--keep", f"{tmp_path}/same"))


def test_extract_chooses_what_is_scanned_and_leaves_the_model_alone(disk: Disk, results: Path, tmp_path: Path) -> None:
    whole = statistics(results)
    (tmp_path / "list").write_text("\n".join(whole["rsid"].iloc[10:300:7]))
    out = disk.gwas(tmp_path / "out", "--extract", f"{tmp_path}/list")
    assert (out / "h2.tsv").read_text() == (results / "h2.tsv").read_text()
    chosen = statistics(out)
    expected = whole.iloc[10:300:7].reset_index(drop=True)
    assert chosen["rsid"].tolist() == expected["rsid"].tolist()
    np.testing.assert_allclose(chosen["chisq"], expected["chisq"], rtol=1e-5, atol=1e-6)


def test_model_extract_and_exclude_choose_the_model(disk: Disk, results: Path, tmp_path: Path) -> None:
    ids = statistics(results)["rsid"].tolist()
    (tmp_path / "model").write_text("\n".join(ids[::2]))
    (tmp_path / "not").write_text("\n".join(ids[:40]))
    out = disk.gwas(tmp_path / "out", "--model-extract", f"{tmp_path}/model", "--exclude", f"{tmp_path}/not")
    counts = record(out)["counts"]["variants"]  # type: ignore[index]
    assert counts["scanned"] == 344
    assert statistics(out)["rsid"].tolist() == ids[40:]
    assert counts["model"] + counts["monomorphic"] <= 172 + counts["monomorphic"]
    assert (out / "h2.tsv").read_text() != (results / "h2.tsv").read_text()


def test_without_loco_there_is_one_predictor(disk: Disk, tmp_path: Path) -> None:
    out = disk.gwas(tmp_path / "out", "--no-loco")
    assert pd.read_csv(out / "loco.tsv", sep="\t")["contig"].unique().tolist() == ["*"]


def test_a_finished_command_does_nothing_heavy_again(disk: Disk, streamed: Path) -> None:
    def files() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in (streamed / "model").rglob("*") if path.is_file()}

    before = files()
    disk.gwas(streamed, "--solver", "stochastic")
    assert files() == before
    stages = {stage["name"]: stage for stage in record(streamed)["stages"]}  # type: ignore[attr-defined]
    assert all(stages[name]["resumed"] for name in ("fit", "loco", "gamma", "scan", "leads"))


def test_another_analysis_is_refused_or_replaces(disk: Disk, tmp_path: Path) -> None:
    out = disk.gwas(tmp_path / "out", "--trait", "trait1", "--method", "linear")
    done = run_command("--quiet", "gwas", *disk.inputs(), "--out", out, "--trait", "trait2")
    assert done.code == 2
    assert "results of another analysis" in done.err
    disk.gwas(out, "--trait", "trait2", "--overwrite")
    assert [path.name for path in (out / "associations").iterdir()] == ["trait=trait2"]
    assert not (out / "linear").exists()


def test_threads_change_rounding_only(disk: Disk, streamed: Path, tmp_path: Path) -> None:
    """Sums over parts have a fixed order; the small dense algebra between passes uses as many threads as it may."""
    out = disk.gwas(tmp_path / "out", "--solver", "stochastic", "--threads", "1")
    assert close_statistics(out, streamed)


def test_the_same_command_gives_the_same_bits(disk: Disk, streamed: Path, tmp_path: Path) -> None:
    assert same_statistics(disk.gwas(tmp_path / "out", "--solver", "stochastic"), streamed)


@pytest.fixture
def client() -> Iterator[Client]:
    """Give a client of a cluster inside this process."""
    options = {"processes": False, "n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as found:
        yield found


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore:Port")
def test_a_distributed_client_does_not_change_a_bit(disk: Disk, streamed: Path, tmp_path: Path, client: Client) -> None:
    out = disk.gwas(tmp_path / "out", "--solver", "stochastic")
    assert same_statistics(out, streamed)
    assert client.scheduler_info()["workers"]
