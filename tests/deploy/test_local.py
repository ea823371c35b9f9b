"""deploy/local and deploy/jupyter run as they stand, as processes of this machine."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    done = call("run.sh", "gwas", *disk.inputs(), "--out", tmp_path / "out", MEMORY="40M")
    assert done.returncode not in (0, 64)


@pytest.mark.parametrize(
    ("words", "settings"),
    [((), {}), (("gwas",), {"MEMORY": "much"}), (("gwas", "--genotypes", "absent.zarr"), {})],
)
def test_the_users_mistake_ends_with_64(words: tuple[str, ...], settings: dict[str, str]) -> None:
    assert call("run.sh", *words, **settings).returncode == 64


def test_releases_follow_one_another_and_a_stopped_one_is_continued(disk: Disk, tmp_path: Path) -> None:
    settings = {"BIOLMM_ARGUMENTS": " ".join(("gwas", *disk.inputs())), "BIOLMM_RELEASES": str(tmp_path)}
    for _ in range(2):
        done = call("reanalysis.sh", **settings)
        assert done.returncode == 0, done.stderr
    first, second = sorted(tmp_path.glob("20*"))
    assert (tmp_path / "latest").resolve() == second
    assert same_statistics(first, second)

    record = json.loads((first / "run.json").read_text())
    (first / "run.json").write_text(json.dumps({**record, "finished": None}, indent=1))
    assert call("reanalysis.sh", **settings).returncode == 0
    assert sorted(tmp_path.glob("20*")) == [first, second]
    assert json.loads((first / "run.json").read_text())["finished"]


def test_two_reanalyses_do_not_overlap(disk: Disk, tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = call("reanalysis.sh", BIOLMM_ARGUMENTS="gwas", BIOLMM_RELEASES=str(tmp_path))
    assert done.returncode == 75
    assert "another reanalysis is running" in done.stderr
    assert list(tmp_path.glob("20*")) == []


def test_the_notebook_runs_as_a_script(tmp_path: Path) -> None:
    script = DEPLOY / "jupyter" / "quickstart.py"
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "2 workers at tcp://127.0.0.1:" in done.stdout
