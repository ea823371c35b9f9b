"""Run the command line inside the test's process, and the small cohort that it is run on."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from biolmm.cli import main
from biolmm.results.associations import read_associations


@dataclass(frozen=True)
class Outcome:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def run_command(*arguments: str | Path) -> Outcome:
    """Run `biolmm ARGUMENTS` in this process; the loggers are put back as they were."""
    out, err = StringIO(), StringIO()
    code = 0
    words = [str(argument) for argument in arguments]
    with _same_logger(), _command_line(words), redirect_stdout(out), redirect_stderr(err):
        try:
            main(words)
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def succeed(*arguments: str | Path) -> str:
    """Run a command that must end well; return what it printed."""
    done = run_command("--quiet", *arguments)
    assert done.code == 0, done.err
    return done.out


def simulate(folder: Path, *options: str, samples: int = 150, variants: int = 320, name: str = "toy") -> Path:
    """Simulate a small cohort of two traits with its PLINK files; return the path of the store."""
    size = ("--samples", str(samples), "--variants", str(variants), "--contigs", "2", "--chunk-variants", "64")
    succeed("simulate", folder / f"{name}.zarr", *size, "--traits", "2", "--bed", *options)
    return folder / f"{name}.zarr"


@dataclass(frozen=True)
class Disk:
    """A simulated cohort below a folder: `toy.zarr`, `toy.bed`, `toy.traits.tsv`, `toy.covariates.tsv`."""

    folder: Path

    @property
    def store(self) -> Path:
        """The store."""
        return self.folder / "toy.zarr"

    @property
    def bed(self) -> Path:
        """The PLINK file."""
        return self.folder / "toy.bed"

    def inputs(self, genotypes: Path | None = None) -> tuple[str, ...]:
        """Give the options that name the inputs."""
        tables = ("--traits", f"{self.folder}/toy.traits.tsv", "--covariates", f"{self.folder}/toy.covariates.tsv")
        return ("--genotypes", str(genotypes or self.store), *tables)

    def gwas(self, out: Path, *options: str, genotypes: Path | None = None) -> Path:
        """Run the main job into `out`."""
        succeed("gwas", *self.inputs(genotypes), "--out", out, *options)
        return out


def statistics(out: Path, trait: str = "trait1", kind: str = "associations") -> pd.DataFrame:
    """Read a trait's results in genome order."""
    return read_associations(out, trait, kind=kind)


def same_statistics(one: Path, other: Path, kinds: tuple[str, ...] = ("associations",)) -> bool:
    """Whether two results hold the same Parquet files with the same values, bit by bit."""
    for kind in kinds:
        mine, theirs = (
            sorted(p.relative_to(out / kind) for p in (out / kind).rglob("*.parquet")) for out in (one, other)
        )
        if mine != theirs or not mine:
            return False
        for part in mine:
            a, b = (pq.ParquetFile(out / kind / part).read() for out in (one, other))
            if not a.equals(b) and not a.to_pandas().equals(b.to_pandas()):
                return False
    return True


def close_statistics(one: Path, other: Path, trait: str = "trait1") -> bool:
    """Whether two results agree but for rounding: single precision, a thousand times its ε on χ² of about 1."""
    mine, theirs = statistics(one, trait), statistics(other, trait)
    if mine["rsid"].tolist() != theirs["rsid"].tolist():
        return False
    return bool(np.allclose(mine["chisq"], theirs["chisq"], rtol=2e-4, atol=2e-4, equal_nan=True))


@contextmanager
def _same_logger() -> Iterator[None]:
    logger = logging.getLogger("biolmm")
    before = (logger.handlers[:], logger.level, logger.propagate)
    try:
        yield
    finally:
        logger.handlers[:], logger.level, logger.propagate = before


@contextmanager
def _command_line(words: Sequence[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = ["biolmm", *words]
    try:
        yield
    finally:
        sys.argv = before
