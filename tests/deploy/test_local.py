"""deploy/local and deploy/jupyter run as they stand, as processes of this machine."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from biolmm.cluster import exits
from deploy.conftest import DEPLOY
from running import Disk, same_statistics, simulate

BIOLMM = str(Path(sys.executable).parent / "biolmm")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """Simulate a small cohort."""
    folder = tmp_path_factory.mktemp("local")
    simulate(folder)
    return Disk(folder)


def call(script: str, *words: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a script of deploy/local with two workers and 3 GB."""
    given = {"BIOLMM": BIOLMM, "WORKERS": "2", "MEMORY": "3000M", **settings}
    return subprocess.run(
        [str(DEPLOY / "local" / script), *map(str, words)],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_limited_run_gives_the_results_of_one_process(disk: Disk, tmp_path: Path) -> None:
    done = call("run.sh", "gwas", *disk.inputs(), "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "2 workers of 1 threads, 900.0 MiB each" in done.stderr
    assert same_statistics(tmp_path / "out", disk.gwas(tmp_path / "one"))
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0


def test_the_limit_holds(disk: Disk, tmp_path: Path) -> None:
    """The command's own budget does not: its plan would refuse before."""
    done = call("run.sh", "gwas", *disk.inputs(), "--memory", "2GiB", "--out", tmp_path / "out", MEMORY="40M")
    assert done.returncode not in (0, 64)


def test_the_driver_has_the_share_of_a_worker(tmp_path: Path) -> None:
    """Without --memory it would plan with three quarters of what all of them have together."""
    said = tmp_path / "biolmm"
    said.write_text('#!/bin/sh\necho "$BIOLMM_MEMORY $*"\n')
    said.chmod(0o755)
    done = call("run.sh", "info", BIOLMM=str(said))
    assert done.stdout == "900MiB run --cluster local --workers 2 --worker-memory 900MiB -- info\n"


@pytest.mark.parametrize(
    ("words", "settings"),
    [((), {}), (("gwas",), {"MEMORY": "much"}), (("gwas", "--genotypes", "absent.zarr"), {})],
)
def test_the_users_mistake_ends_with_64(words: tuple[str, ...], settings: dict[str, str]) -> None:
    assert call("run.sh", *words, **settings).returncode == 64


def plan_of(disk: Disk, folder: Path, *lines: str) -> dict[str, str]:
    """Write a plan of releases below a folder; return the settings that name it."""
    tables = (f"traits: {folder}/traits.tsv", f"covariates: {disk.folder}/toy.covariates.tsv")
    options = (f"genotypes: {disk.store}", *tables, "method: linear-only", *lines)
    folder.joinpath("plan.yaml").write_text("\n  ".join(["out: releases\ngwas:", *options]) + "\n")
    return {"BIOLMM_PLAN": str(folder / "plan.yaml")}


def releases_of(folder: Path) -> list[Path]:
    """Return the releases in the order of their names."""
    return sorted(path.parent for path in folder.glob("releases/*/release.json") if path.parent.name != "latest")


def test_releases_follow_one_another(disk: Disk, tmp_path: Path) -> None:
    table = (disk.folder / "toy.traits.tsv").read_text().splitlines()
    (tmp_path / "traits.tsv").write_text("\n".join(table) + "\n")
    settings = plan_of(disk, tmp_path)
    for _ in range(2):  # the second finds nothing to do
        done = call("reanalysis.sh", **settings)
        assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout
    (first,) = releases_of(tmp_path)
    assert same_statistics(first, disk.gwas(tmp_path / "one", "--method", "linear-only"))
    assert first.stat().st_mode & 0o077 == 0

    added = [f"{line}\tconstant" if i == 0 else f"{line}\t1" for i, line in enumerate(table)]
    (tmp_path / "traits.tsv").write_text("\n".join(added) + "\n")
    done = call("reanalysis.sh", **settings)
    assert done.returncode == exits.PARTIAL, done.stderr
    assert releases_of(tmp_path)[0] == first
    second = releases_of(tmp_path)[1]
    assert (tmp_path / "releases" / "latest").resolve() == second
    assert same_statistics(first, second)


def test_a_reanalysis_without_a_plan_is_the_users_mistake() -> None:
    assert call("reanalysis.sh").returncode == exits.USER_NEVER_RETRY


def test_two_reanalyses_do_not_overlap(disk: Disk, tmp_path: Path) -> None:
    settings = plan_of(disk, tmp_path)
    (tmp_path / "releases").mkdir()
    with (tmp_path / "releases" / ".reanalysis.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = call("reanalysis.sh", **settings)
    assert done.returncode == exits.BUSY
    assert "another reanalysis is running" in done.stderr
    assert releases_of(tmp_path) == []


def test_the_notebook_runs_as_a_script(tmp_path: Path) -> None:
    script = DEPLOY / "jupyter" / "quickstart.py"
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "2 workers at tcp://127.0.0.1:" in done.stdout
