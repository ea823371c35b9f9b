"""`gwas --method exact --grm`: a matrix of biolmm, GCTA or PLINK gives what the genotypes give, matched by sample id."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from running import Disk, run_command, same_statistics, simulate, statistics, succeed

COLUMNS = ("beta", "standard_error", "chisq", "neg_log_10_p_value")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """Give 150 people with families, 320 variants on two contigs, and two traits with missing values."""
    folder = tmp_path_factory.mktemp("disk")
    simulate(folder, "--large", "1")
    ids = pd.read_csv(folder / "toy.traits.tsv", sep="\t", dtype=str)["IID"]
    # In another order than the genotypes, and with all people: traits and covariates choose, the matrix is matched.
    (folder / "order.txt").write_text("\n".join(ids[::-1]) + "\n")
    succeed(
        "grm", folder / "toy.zarr", "--out", folder / "m.zarr", "--per-contig", "--format", "gcta", "--format", "plink"
    )
    return Disk(folder)


def h2(out: Path) -> np.ndarray:
    return pd.read_csv(out / "h2.tsv", sep="\t")["h2"].to_numpy()


def close(one: Path, other: Path) -> None:
    """Compare two results whose matrices differ by the rounding of single precision, 6e-8 of values up to 2.

    λ̂ and what depends on it is as flat as the likelihood: a thousand times that.
    """
    np.testing.assert_allclose(h2(one), h2(other), atol=2e-5)
    for trait in ("trait1", "trait2"):
        mine, theirs = statistics(one, trait), statistics(other, trait)
        assert mine["rsid"].tolist() == theirs["rsid"].tolist()
        for name in COLUMNS:
            np.testing.assert_allclose(mine[name], theirs[name], rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("matrix", ["m.zarr", "m.grm.bin", "m", "m.rel.bin"])
def test_a_given_matrix_is_that_of_the_genotypes(disk: Disk, tmp_path: Path, matrix: str) -> None:
    default = disk.gwas(tmp_path / "default", "--method", "exact", "--no-loco")
    given = disk.gwas(tmp_path / "given", "--method", "exact", "--no-loco", "--grm", str(disk.folder / matrix))
    close(given, default)
    record = json.loads((given / "run.json").read_text())
    assert record["inputs"]["grm"]["fingerprint"]
    assert record["parameters"]["grm"] == str(disk.folder / matrix)
    assert record["counts"]["variants"].get("model") == (320 if matrix == "m.zarr" else None)


def test_contigs_are_left_out_of_a_matrix_that_has_them(disk: Disk, tmp_path: Path) -> None:
    default = disk.gwas(tmp_path / "default", "--method", "exact")
    given = disk.gwas(tmp_path / "given", "--method", "exact", "--grm", str(disk.folder / "m.zarr"))
    close(given, default)
    p3d = disk.gwas(tmp_path / "p3d", "--method", "exact-p3d", "--grm", str(disk.folder / "m.zarr"))
    close(p3d, disk.gwas(tmp_path / "p3d_default", "--method", "exact-p3d"))


def test_people_are_matched_by_id(disk: Disk, tmp_path: Path) -> None:
    """A matrix of fewer people in another order: the others are left out, as with --keep."""
    ids = (disk.folder / "order.txt").read_text().split()
    values = np.random.default_rng(0).standard_normal((100, 300))
    K = np.cov(values)
    lower = K[np.tril_indices(100)].astype("<f4")
    lower.tofile(tmp_path / "some.grm.bin")
    (tmp_path / "some.grm.id").write_text("".join(f"{name}\t{name}\n" for name in ids[:100]))
    turn = np.arange(100)[::-1]
    K[np.ix_(turn, turn)][np.tril_indices(100)].astype("<f4").tofile(tmp_path / "turned.grm.bin")
    (tmp_path / "turned.grm.id").write_text("".join(f"{name}\t{name}\n" for name in ids[:100][::-1]))
    runs = [
        disk.gwas(tmp_path / f"{name}_out", "--method", "exact", "--no-loco", "--grm", str(tmp_path / name))
        for name in ("some", "turned")
    ]
    assert same_statistics(*runs)
    record = json.loads((runs[0] / "run.json").read_text())
    assert record["counts"]["samples"]["analysed"] <= 100
    assert any("not in the matrix of --grm" in step["why"] and step["n"] == 50 for step in record["dropped"])


def test_sets_take_a_matrix_too(disk: Disk, tmp_path: Path) -> None:
    from biolmm.store.read import GenotypeStore

    names = GenotypeStore.open(disk.store).variant_id
    (tmp_path / "sets.txt").write_text("".join(f"set{i // 10}\t{name}\n" for i, name in enumerate(names[:30])))
    tables = []
    for name, more in (("default", ()), ("given", ("--grm", str(disk.folder / "m.zarr")))):
        succeed("sets", *disk.inputs(), "--set-file", tmp_path / "sets.txt", "--out", tmp_path / name, *more)
        tables.append(pd.read_csv(tmp_path / name / "sets.tsv", sep="\t").select_dtypes("number"))
    np.testing.assert_allclose(tables[0], tables[1], rtol=2e-4, atol=2e-5)


def test_another_matrix_is_another_analysis(disk: Disk, tmp_path: Path) -> None:
    out = disk.gwas(tmp_path / "out", "--method", "exact", "--no-loco", "--grm", str(disk.folder / "m.grm.bin"))
    again = run_command("gwas", *disk.inputs(), "--out", out, "--method", "exact", "--no-loco")
    assert (again.code, "holds the results of another analysis" in again.err) == (2, True)


def test_what_does_not_fit_is_refused(disk: Disk, tmp_path: Path) -> None:
    np.ones(3, "<f4").tofile(tmp_path / "x.grm.bin")
    (tmp_path / "x.grm.id").write_text("a\ta\nb\tb\n")
    ids = (disk.folder / "order.txt").read_text().split()
    np.full(len(ids) * (len(ids) + 1) // 2, np.nan, "<f4").tofile(tmp_path / "nan.grm.bin")
    (tmp_path / "nan.grm.id").write_text("".join(f"{name}\t{name}\n" for name in ids))
    matrix = str(disk.folder / "m.grm.bin")
    for options, message in (
        (("--grm", matrix), "--grm is for --method exact and exact-p3d: --method mixed makes its matrix"),
        (
            ("--method", "exact", "--grm", matrix),
            "holds no matrix of any contig, so none can be left out: add --no-loco",
        ),
        (("--method", "exact", "--no-loco", "--grm", f"{tmp_path}/none.zarr"), "no such relatedness matrix"),
        (
            ("--method", "exact", "--no-loco", "--grm", f"{tmp_path}/x.grm.bin"),
            "None of the 150 samples of the genotypes",
        ),
        (("--method", "exact", "--no-loco", "--grm", f"{tmp_path}/nan.grm.bin"), "holds NaN or infinite numbers"),
    ):
        done = run_command("gwas", *disk.inputs(), "--out", tmp_path / "out", *options)
        assert (done.code, message in done.err) == (2, True), done.err
    planned = succeed(
        "gwas", *disk.inputs(), "--out", tmp_path / "plan", "--method", "exact", "--no-loco", "--grm", matrix, "--plan"
    )
    assert "eigendecomposition" in planned
    assert not (tmp_path / "plan").exists()
