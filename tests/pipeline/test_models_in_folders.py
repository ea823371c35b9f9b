"""Models and the folders they are in: moved, damaged, or asked to be overwritten by what needs them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from biolmm.pipeline.analysis import Analysis
from biolmm.pipeline.config import AnalysisConfig, Inputs
from biolmm.store.arrays import save_dataset
from running import run_command, simulate, statistics, succeed


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort as PLINK files."""
    return simulate(tmp_path_factory.mktemp("models")).with_suffix(".bed")


def tables(bed: Path) -> tuple[str | Path, ...]:
    return ("--traits", bed.with_name("toy.traits.tsv"))


def test_a_scan_does_not_overwrite_its_own_model(bed: Path, tmp_path: Path) -> None:
    succeed("fit", "--genotypes", bed, *tables(bed), "--out", tmp_path / "m")
    for model in (tmp_path / "m", tmp_path / "m" / "model"):
        done = run_command("scan", "--model", model, "--genotypes", bed, "--out", tmp_path / "m", "--overwrite")
        assert done.code == 2
        assert "holds the model that is used: choose another --out" in done.err
    assert (tmp_path / "m" / "model" / "null.zarr").is_dir()


def test_a_moved_results_folder_still_scans(bed: Path, tmp_path: Path) -> None:
    succeed("gwas", "--genotypes", bed, *tables(bed), "--out", tmp_path / "before")
    (tmp_path / "before").rename(tmp_path / "after")
    succeed("scan", "--model", tmp_path / "after", "--genotypes", bed, "--out", tmp_path / "scan")
    pd.testing.assert_frame_equal(statistics(tmp_path / "scan"), statistics(tmp_path / "after"))
    assert (tmp_path / "scan" / "pcs.tsv").read_bytes() == (tmp_path / "after" / "pcs.tsv").read_bytes()


def test_overwrite_mends_a_damaged_model(bed: Path, tmp_path: Path) -> None:
    command = ("gwas", "--genotypes", bed, *tables(bed), "--out", tmp_path / "r")
    succeed(*command)
    whole = statistics(tmp_path / "r")
    part = tmp_path / "r" / "model" / "null.zarr" / "y" / "c" / "0" / "0"
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    done = run_command(*command)
    assert done.code == 2
    assert "--overwrite" in done.err
    succeed(*command, "--overwrite")
    pd.testing.assert_frame_equal(statistics(tmp_path / "r"), whole)


def test_a_known_model_that_does_not_fit_is_said_to_be_of_no_use(bed: Path, tmp_path: Path) -> None:
    fit = ("fit", "--genotypes", bed, *tables(bed), "--solver", "stochastic")
    succeed(*fit, "--out", tmp_path / "one")
    succeed(*fit, "--out", tmp_path / "two", "--known-model", tmp_path / "one", "--seed", "2")
    assert "spectra are not reused" in (tmp_path / "two" / "run.json").read_text()
    succeed(*fit, "--out", tmp_path / "three", "--known-model", tmp_path / "one")
    assert "spectra are not reused" not in (tmp_path / "three" / "run.json").read_text()


def test_what_a_scan_depends_on_has_the_gamma_it_was_given(tmp_path: Path) -> None:
    """By its values, wherever they lie."""
    for name, gamma in (("one", 1.0), ("copy", 1.0), ("other", 1.1)):
        save_dataset(
            xr.Dataset({"gamma": (("traits", "maf_classes"), [[gamma]])}), tmp_path / name / "model/gamma.zarr"
        )
    config = AnalysisConfig(inputs=Inputs(genotypes=()), out=tmp_path / "out")
    scanned = SimpleNamespace(reader=SimpleNamespace(key="key"))

    def key(name: str | None) -> str:
        given = replace(config, known_gamma=None if name is None else tmp_path / name)
        return Analysis.scan_key.fget(SimpleNamespace(config=given, loco_key="key", scanned=scanned))

    assert key("one") == key("copy")
    assert len({key(None), key("one"), key("other")}) == 3
    assert key("none") == key(None)


def test_a_trait_of_few_people_with_rare_variants_is_calibrated(tmp_path: Path) -> None:
    """Variants that do not vary among a trait's people must not enter γ; the exact solver has no γ."""
    store = simulate(tmp_path, "--maf-min", "0.002", "--h2", "0.5", samples=600, variants=1280)
    path = tmp_path / "toy.traits.tsv"
    traits = pd.read_csv(path, sep="\t")
    few = np.random.default_rng(1).random(len(traits)) < 0.15
    traits.loc[~few, "trait1"] = np.nan
    traits.to_csv(path, sep="\t", index=False, na_rep="NA")
    found = {}
    for solver in ("exact", "stochastic"):
        out = tmp_path / solver
        succeed("gwas", "--genotypes", store, "--traits", path, "--trait", "trait1", "--solver", solver, "--out", out)
        found[solver] = statistics(out)["chisq"].median()
    assert found["stochastic"] == pytest.approx(found["exact"], rel=0.05)


@pytest.mark.parametrize("command", ["simulate", "convert"])
def test_threads_must_be_positive(bed: Path, tmp_path: Path, command: str) -> None:
    words = {
        "simulate": ("simulate", tmp_path / "s.zarr", "--samples", "20", "--variants", "64"),
        "convert": ("convert", bed, tmp_path / "c.zarr"),
    }[command]
    done = run_command(*words, "--threads", "-3")
    assert done.code == 2
    assert done.err.startswith("ParameterError: threads is -3 but must be at least 1.")


def test_the_plan_of_a_fit_has_no_stage_of_the_scan(bed: Path, tmp_path: Path) -> None:
    fit = ("--genotypes", bed, *tables(bed), "--out", tmp_path / "m", "--solver", "stochastic", "--plan")
    stages = {line.split()[0] for line in succeed("fit", *fit).splitlines() if line}
    assert {"eigenpairs", "loco"} <= stages
    assert not {"gamma", "scan"} & stages
    assert {"gamma", "scan"} <= {line.split()[0] for line in succeed("gwas", *fit).splitlines() if line}
