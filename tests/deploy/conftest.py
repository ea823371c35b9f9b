"""A SLURM cluster for the tests marked `slurm`, and the analysis that they interrupt."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.slurm_cluster import SlurmCluster, missing, wait_for
from running import succeed

DEPLOY = Path(__file__).parents[2] / "deploy"


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark here: it belongs to these tests alone."""
    config.addinivalue_line("markers", "slurm: need SLURM's daemons, root and a minute or more")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """Give a running cluster of three nodes of two processors; skip where SLURM is not installed."""
    why = missing()
    if why:
        pytest.skip(why)
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    # Jobs find the biolmm that is under test.
    cluster.environment["PATH"] = f"{Path(sys.executable).parent}:{cluster.environment['PATH']}"
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


@dataclass(frozen=True)
class Analysis:
    """An analysis of some seconds in many parts, which tests interrupt."""

    folder: Path

    @property
    def inputs(self) -> tuple[str, ...]:
        """Words that name genotypes and tables."""
        tables = ("--traits", f"{self.folder}/long.traits.tsv", "--covariates", f"{self.folder}/long.covariates.tsv")
        return ("--genotypes", f"{self.folder}/long.zarr", *tables)

    @property
    def words(self) -> tuple[str, ...]:
        """The command, without --out."""
        return ("gwas", *self.inputs, "--method", "exact", "--threads", "1", "--memory", "1GiB")


@pytest.fixture(scope="session")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """Simulate a cohort."""
    folder = tmp_path_factory.mktemp("analysis")
    size = ("--variants", "25600", "--samples", "400")
    succeed("simulate", folder / "long.zarr", *size, "--contigs", "4", "--chunk-variants", "64", "--traits", "2")
    return Analysis(folder)


def receipts(out: Path) -> int:
    """Count the parts of a scan that are finished."""
    return len(list(out.glob("model/*/0*.json")))


def wait_for_parts(out: Path, count: int, seconds: float = 90) -> None:
    """Wait until so many parts of a scan are finished."""
    wait_for(lambda: receipts(out) >= count, seconds, f"{count} finished parts in {out}")
