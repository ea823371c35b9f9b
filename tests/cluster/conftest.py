"""A small cohort, its results without any cluster, and processes of the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults import Start
from running import Disk, simulate

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def no_figures() -> Iterator[None]:
    """Draw nothing in this process: figures are made of tables, and take longer than these small analyses."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("biolmm.report.write_report", lambda folder, **_: folder)
        for module in ("plots.style", "qc.run", "relatedness.pca_files"):
            patched.setattr(f"biolmm.{module}.to_png", lambda *_: b"")
        yield


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """Give a cohort of 150 people, 320 variants and two traits."""
    folder = tmp_path_factory.mktemp("cluster")
    simulate(folder)
    return Disk(folder)


@pytest.fixture(scope="session")
def alone(disk: Disk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the results of the streaming solver, computed by this process."""
    return disk.gwas(tmp_path_factory.mktemp("alone") / "out", "--solver", "stochastic")


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `biolmm ARGUMENTS` in a process of its own; what is left of it at the end is killed."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "biolmm.cli", *map(str, arguments)]
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "JOB_COMPLETION"))}
        found = {**plain, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=found)
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
