"""`kill -9` at any moment loses at most what was in hand: the same command continues to the same bits."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from running import Disk, same_statistics

MOMENTS = (
    "genotypes.zarr.partial/markers/*",
    "genotypes.zarr",
    "analysis.json",
    "model/null.zarr.partial",
    "model/null.zarr.done.json",
    "model/loco.zarr.partial/predictor",
    "model/loco.zarr.done.json",
    "model/gamma.zarr.done.json",
    "associations/trait=*/contig=*/.*.partial",
    "associations/trait=trait1/contig=2/part-*.parquet",
    "model/leads.parquet.partial",
    "leads.tsv",
)
"""What appears, in this order, in a results folder while the main job runs."""


def killed_when(pattern: str, command: list[str], out: Path) -> bool:
    """Start the command and kill it as soon as a file of this name is there; False when it was faster."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if any(out.glob(pattern)):
                break
            time.sleep(0.0005)
    finally:
        process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.fixture(scope="module")
def uninterrupted(disk: Disk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the results of the same command left alone."""
    return disk.gwas(tmp_path_factory.mktemp("alone") / "out", "--solver", "stochastic", genotypes=disk.bed)


@pytest.mark.parametrize("moments", [MOMENTS[::3], MOMENTS[1::3], MOMENTS[2::3]], ids=["a", "b", "c"])
def test_killed_again_and_again_the_same_command_ends_with_the_same_bits(
    disk: Disk, uninterrupted: Path, tmp_path: Path, moments: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    arguments = ["gwas", *disk.inputs(disk.bed), "--solver", "stochastic", "--out", str(out)]
    command = [sys.executable, "-m", "biolmm.cli", *arguments]
    n_kills = sum(killed_when(moment, command, out) for moment in moments)
    assert n_kills >= 2
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert same_statistics(out, uninterrupted)
    assert (out / "h2.tsv").read_text() == (uninterrupted / "h2.tsv").read_text()
    assert (out / "leads.tsv").read_text() == (uninterrupted / "leads.tsv").read_text()
    assert (out / "report.html").is_file()
    assert not list((out / "model").glob("*.partial"))
