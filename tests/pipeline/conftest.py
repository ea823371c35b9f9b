"""A small cohort on disk, and the results of the main job on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from running import Disk, simulate


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """Give 180 people with families, 384 variants on three contigs, and two traits with missing values."""
    folder = tmp_path_factory.mktemp("disk")
    simulate(folder, "--contigs", "3", "--large", "1", samples=180, variants=384)
    return Disk(folder)


@pytest.fixture(scope="session")
def results(disk: Disk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the results of the main job with its defaults (the exact solver, at this size)."""
    return disk.gwas(tmp_path_factory.mktemp("results") / "out")


@pytest.fixture(scope="session")
def streamed(disk: Disk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the results of the main job with the streaming solver."""
    return disk.gwas(tmp_path_factory.mktemp("streamed") / "out", "--solver", "stochastic")
