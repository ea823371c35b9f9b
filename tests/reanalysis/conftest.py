"""A cohort whose data grow: two contigs and four traits at first, a third contig and other traits later."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import biolmm.report.page
from biolmm.report.gather import gather
from running import Outcome, run_command, simulate, succeed

N_SAMPLES, N_VARIANTS = 100, 224


@dataclass(frozen=True)
class World:
    """A folder with a growing cohort, a plan, and releases.

    Attributes
    ----------
    folder
        `cohort.zarr` (contigs 1 and 2), `first.bed`, `more.bed` (contig 3), `traits.tsv`, `covariates.tsv`, `plan.yaml`.
    """

    folder: Path

    @property
    def out(self) -> Path:
        """Folder of the releases."""
        return self.folder / "releases"

    @property
    def traits(self) -> pd.DataFrame:
        """Table of traits."""
        return pd.read_csv(self.folder / "traits.tsv", sep="\t", index_col="IID")

    @property
    def covariates(self) -> pd.DataFrame:
        """Table of covariates."""
        return pd.read_csv(self.folder / "covariates.tsv", sep="\t", index_col="IID")

    def write(self, table: pd.DataFrame, name: str = "traits") -> None:
        """Replace a table."""
        table.to_csv(self.folder / f"{name}.tsv", sep="\t", na_rep="NA", index_label="IID")

    def plan(
        self, release: str, *lines: str, head: tuple[str, ...] = (), command: str = "gwas", **options: Any
    ) -> Path:
        """Write a plan of a release with these options and return it."""
        given = {"genotypes": "cohort.zarr", "traits": "traits.tsv", "covariates": "covariates.tsv", **options}
        below = [f"  {name.replace('_', '-')}: {value}" for name, value in given.items() if value is not None]
        text = [f"release: {release}", "out: releases", *head, f"{command}:", *below, *lines]
        path = self.folder / "plan.yaml"
        path.write_text("\n".join(text) + "\n")
        return path

    def run(self, release: str, *lines: str, code: int = 0, **options: Any) -> Path:
        """Make a release; return its folder."""
        done = self.call(release, *lines, **options)
        assert done.code == code, done.err
        return self.out / release

    def call(self, release: str, *lines: str, words: tuple[str, ...] = (), **options: Any) -> Outcome:
        """Run `biolmm reanalyse`."""
        return run_command("reanalyse", self.plan(release, *lines, **options), *words)

    def append(self) -> None:
        """Append the third contig to the store."""
        succeed("convert", self.folder / "more.bed", self.folder / "cohort.zarr", "--append")

    def fresh(self, name: str, *options: str | Path, command: str = "gwas") -> Path:
        """Run the command itself on the data as they are."""
        out = self.folder / name
        tables = ("--traits", self.folder / "traits.tsv", "--covariates", self.folder / "covariates.tsv")
        succeed(command, "--genotypes", self.folder / "cohort.zarr", *tables, "--out", out, *options)
        return out


def split_bed(bed: Path, contigs: set[str], name: str) -> None:
    """Write the variants of some contigs of a BED beside it."""
    lines = bed.with_suffix(".bim").read_text().splitlines()
    n_samples = len(bed.with_suffix(".fam").read_text().splitlines())
    rows = np.frombuffer(bed.read_bytes()[3:], np.uint8).reshape(len(lines), -1)
    assert rows.shape[1] == -(-n_samples // 4)
    chosen = [i for i, line in enumerate(lines) if line.split("\t")[0] in contigs]
    target = bed.with_name(f"{name}.bed")
    target.write_bytes(bed.read_bytes()[:3] + rows[chosen].tobytes())
    target.with_suffix(".bim").write_text("".join(f"{lines[i]}\n" for i in chosen))
    shutil.copy(bed.with_suffix(".fam"), target.with_suffix(".fam"))


def copies(bed: Path, variant: int) -> np.ndarray:
    """Return the copies of the first allele of one variant, the mean where it is missing."""
    n_samples = len(bed.with_suffix(".fam").read_text().splitlines())
    row = np.frombuffer(bed.read_bytes()[3:], np.uint8).reshape(-1, -(-n_samples // 4))[variant]
    codes = (row[:, None] >> np.array([0, 2, 4, 6], np.uint8) & 3).reshape(-1)[:n_samples]
    found = np.array([2.0, np.nan, 1.0, 0.0])[codes]
    return np.nan_to_num(found, nan=float(np.nanmean(found)))


@pytest.fixture(scope="module", autouse=True)
def no_figures() -> Iterator[None]:
    """Write reports without figures, which take most of the time of such small releases."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(biolmm.report.page, "gather", lambda folder, _: gather(folder, 0))
        yield


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Give the cohort as it is at first; nobody changes it."""
    folder = tmp_path_factory.mktemp("world")
    simulate(folder, "--contigs", "3", "--large", "1", "--traits", "4", samples=N_SAMPLES, variants=N_VARIANTS)
    split_bed(folder / "toy.bed", {"1", "2"}, "first")
    split_bed(folder / "toy.bed", {"3"}, "more")
    succeed("convert", folder / "first.bed", folder / "cohort.zarr", "--chunk-variants", "64")
    traits = pd.read_csv(folder / "toy.traits.tsv", sep="\t").set_index("IID").drop(columns="FID", errors="ignore")
    rng = np.random.default_rng(5)
    filled = traits.fillna(traits.mean())
    filled["trait1"] += 2 * (copies(folder / "first.bed", 40) + copies(folder / "more.bed", 30))
    covariates = pd.read_csv(folder / "toy.covariates.tsv", sep="\t").set_index("IID")
    world = World(folder)
    table = pd.DataFrame({"a": filled["trait1"], "b": filled["trait2"].where(rng.random(len(filled)) > 0.1)})
    world.write(table)
    world.write(pd.DataFrame({"age": rng.normal(50, 10, len(filled)).round(2)}, index=covariates.index), "covariates")
    world.write(filled[["trait3", "trait4"]], "later")
    for leftover in folder.glob("toy.*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    return world


@pytest.fixture(scope="session")
def released(start: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Give the cohort with a first release `r1` by streaming passes; nobody changes it."""
    world = copied(start, tmp_path_factory.mktemp("released"))
    world.run("r1", solver="stochastic")
    return world


def copied(world: World, folder: Path) -> World:
    """Copy a world; what is recorded of where its files were stays true of the original only."""
    shutil.copytree(world.folder, folder, dirs_exist_ok=True, symlinks=True)
    return World(folder)


@pytest.fixture
def world(start: World, tmp_path: Path) -> World:
    """Give the cohort as it is at first."""
    return copied(start, tmp_path / "w")


@pytest.fixture
def later(released: World, tmp_path: Path) -> World:
    """Give the cohort with the first release."""
    return copied(released, tmp_path / "w")


def stages(release: Path) -> dict[str, dict[str, Any]]:
    """Return what was computed for a release, by the names of the stages."""
    found = json.loads((release / "run.json").read_text())["stages"]
    return {stage["name"]: stage for stage in found}


def statuses(release: Path) -> dict[str, str]:
    """Return what became of each trait."""
    return dict(pd.read_csv(release / "traits.tsv", sep="\t").set_index("trait")["status"])
