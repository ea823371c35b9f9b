"""The main job with everything on an object store, and requests that fail on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import biolmm
from biolmm.places import ObjectPath
from object_stores.conftest import Flaky
from running import Disk, close_statistics, run_command, same_statistics, simulate, succeed


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """Give 120 people, 192 variants on two contigs, two traits."""
    folder = tmp_path_factory.mktemp("s3")
    simulate(folder, samples=120, variants=192)
    return Disk(folder)


def upload(disk: Disk, bucket: ObjectPath) -> None:
    """Put the PLINK files and the tables on the store."""
    for name in ("toy.bed", "toy.bim", "toy.fam", "toy.traits.tsv", "toy.covariates.tsv"):
        (bucket / name).write_bytes((disk.folder / name).read_bytes())


def download(bucket: ObjectPath, folder: Path) -> Path:
    """Fetch a folder of results."""
    for path in bucket.files():
        target = folder / str(path.relative_to(bucket))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder


def test_the_main_job_on_an_object_store_is_the_local_one(
    disk: Disk, bucket: ObjectPath, flaky: Flaky, tmp_path: Path
) -> None:
    """Convert, gwas, and a scan with the model that it wrote, while one request in five fails."""
    upload(disk, bucket)
    local = disk.gwas(tmp_path / "local")
    scratch = ("--scratch", tmp_path / "scratch")
    tables = ("--traits", f"{bucket}/toy.traits.tsv", "--covariates", f"{bucket}/toy.covariates.tsv")
    with flaky(seed=3):
        succeed("convert", f"{bucket}/toy.bed", f"{bucket}/toy.zarr", "--chunk-variants", "64")
        succeed("verify", f"{bucket}/toy.zarr")
        succeed("gwas", "--genotypes", f"{bucket}/toy.zarr", *tables, "--out", f"{bucket}/results", *scratch)
        succeed(
            "scan",
            "--model",
            f"{bucket}/results",
            "--genotypes",
            f"{bucket}/toy.bed",
            "--out",
            f"{bucket}/scan",
            *scratch,
        )
    gwas, scan = (download(bucket / name, tmp_path / name) for name in ("results", "scan"))
    assert same_statistics(gwas, local)
    assert close_statistics(scan, local)  # other chunks, other rounding
    assert (gwas / "report.html").stat().st_size > 10_000


def test_results_open_from_the_store(disk: Disk, bucket: ObjectPath, tmp_path: Path) -> None:
    upload(disk, bucket)
    local = disk.gwas(tmp_path / "local")
    for path in (local / "associations").rglob("*.parquet"):
        (bucket / "r" / str(path.relative_to(local))).write_bytes(path.read_bytes())
    mine, theirs = (biolmm.open_results(where) for where in (f"{bucket}/r", local))
    np.testing.assert_array_equal(mine["beta"].values, theirs["beta"].values)


def test_another_machine_continues(disk: Disk, bucket: ObjectPath, tmp_path: Path) -> None:
    """With another scratch folder, finished stages are recognised from the store."""
    command = ("gwas", *disk.inputs(), "--out", f"{bucket}/results", "--scratch")
    succeed(*command, tmp_path / "one")
    done = run_command(*command, tmp_path / "two")
    assert done.code == 0
    assert "fit: done before" in done.err and "scan: done before" in done.err


def test_what_needs_a_local_file_says_so(bucket: ObjectPath, disk: Disk) -> None:
    for suffix in ("pgen", "vcf.gz"):
        (bucket / f"x.{suffix}").write_bytes(b"nothing")
        done = run_command("gwas", "--genotypes", f"{bucket}/x.{suffix}", "--traits", disk.folder / "toy.traits.tsv",
                           "--out", "unused")  # fmt: skip
        assert done.code == 2
        assert "copy" in done.err.lower()
        assert "AKIA" not in done.err


def test_components_are_the_local_ones(disk: Disk, bucket: ObjectPath, tmp_path: Path) -> None:
    """Parts that are finished are on the store too: what is there is not fitted again."""
    given = (
        "components",
        *disk.inputs(),
        "--formula",
        "genetic",
        "--no-test",
        "--blup",
        "--scratch",
        tmp_path / "scratch",
    )
    succeed(*given, "--out", tmp_path / "local")
    succeed(*given, "--out", f"{bucket}/components")
    again = succeed(*given, "--out", f"{bucket}/components")
    found = download(bucket / "components", tmp_path / "found")
    assert again == (tmp_path / "local" / "summary.txt").read_text()
    for name in ("components.tsv", "blup.tsv"):
        assert (found / name).read_text() == (tmp_path / "local" / name).read_text()
    assert len(list((found / "parts").glob("*.done.json"))) == 2
