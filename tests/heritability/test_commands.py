"""`biolmm h2` and `biolmm rg` from files to tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biolmm.heritability.liability import Liability
from biolmm.heritability.tables import TABLES, read_heritability_table
from biolmm.results.tables import read_result_table
from running import run_command, simulate, succeed


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two traits of 150 people, a binary one, and an annotation of every other variant."""
    folder = tmp_path_factory.mktemp("disk")
    simulate(folder)
    traits = pd.read_csv(folder / "toy.traits.tsv", sep="\t")
    traits["case"] = np.where(traits["trait1"].isna(), np.nan, traits["trait1"] > traits["trait1"].quantile(0.7))
    traits["case"] = traits["case"].astype(float)
    traits.to_csv(folder / "traits.tsv", sep="\t", index=False, na_rep="NA")
    bim = pd.read_csv(folder / "toy.bim", sep="\t", header=None)
    pd.DataFrame({"SNP": bim[1], "even": 1 - np.arange(len(bim)) % 2}).to_csv(
        folder / "even.tsv", sep="\t", index=False
    )
    return folder


def given(disk: Path, genotypes: str = "toy.zarr") -> tuple[str | Path, ...]:
    return (disk / genotypes, "--traits", disk / "traits.tsv", "--threads", "1", "--blocks", "20")


def test_h2_writes_its_tables(disk: Path, tmp_path: Path) -> None:
    out = tmp_path / "h2"
    text = succeed("h2", *given(disk), "--annotation", disk / "even.tsv", "--he-regression", "--prevalence", "case=0.05",
                   "--out", out)  # fmt: skip
    assert "h2_liability" in text
    assert "trait1 even" in text
    names = {"h2": 3, "rhe": 3, "partitioned": 6, "he": 6}
    for name, n_rows in names.items():
        table = read_heritability_table(out, name)
        assert tuple(table.columns) == TABLES[name]
        assert len(table) == n_rows
    h2 = read_heritability_table(out, "h2").set_index("trait")
    factor = Liability(0.05, h2.sample_share["case"]).factor
    assert h2.h2_liability["case"] == pytest.approx(factor * h2.h2["case"])
    assert h2.h2_liability_se["case"] == pytest.approx(factor * h2.h2_se["case"])
    assert np.isnan(h2.h2_liability["trait1"])
    known = read_result_table(out, "h2")  # as after `fit`, whose readers know nothing of the liability scale
    assert known is not None
    assert known["h2"].tolist() == h2["h2"].tolist()
    record = json.loads((out / "h2.json").read_text())
    assert {stage["name"]: stage["passes"] for stage in record["stages"]}[
        "haseman-elston"
    ] == 3  # two, and one for the explicit matrix
    shares = read_heritability_table(out, "partitioned").groupby("trait")["h2"].sum()
    total = read_heritability_table(out, "partitioned").groupby("trait")["total_h2"].first()
    np.testing.assert_allclose(shares, total)


def test_h2_is_that_of_fit(disk: Path, tmp_path: Path) -> None:
    succeed("h2", *given(disk), "--out", tmp_path / "h2", "--method", "reml", "--solver", "stochastic")
    succeed("fit", "--genotypes", disk / "toy.zarr", "--traits", disk / "traits.tsv", "--threads", "1", "--solver",
            "stochastic", "--no-loco", "--out", tmp_path / "fit")  # fmt: skip
    ours, theirs = (read_result_table(tmp_path / name, "h2") for name in ("h2", "fit"))
    assert ours is not None
    assert theirs is not None
    pd.testing.assert_frame_equal(ours[list(theirs.columns)], theirs)
    assert not (tmp_path / "h2" / "rhe.tsv").exists()
    assert not (tmp_path / "h2" / "model" / "loco.zarr").exists()


def test_files_are_converted_and_moments_need_no_reml(disk: Path, tmp_path: Path) -> None:
    out = tmp_path / "rhe"
    succeed("h2", *given(disk, "toy.bed"), "--out", out, "--method", "rhe")
    assert (out / "genotypes.zarr").is_dir()
    assert not (out / "h2.tsv").exists()
    assert read_heritability_table(out, "rhe")["h2_reml"].isna().all()


def test_rg_writes_its_table_and_map(disk: Path, tmp_path: Path) -> None:
    out = tmp_path / "rg"
    text = succeed("rg", *given(disk), "--out", out)
    assert "trait1 trait2" in text
    table = read_heritability_table(out, "rg")
    assert tuple(table.columns) == TABLES["rg"]
    assert len(table) == 3
    assert set(table["method"]) <= {"eigen", "dense"}
    assert (out / "rg.png").read_bytes().startswith(b"\x89PNG")
    again = succeed("rg", *given(disk), "--out", out)
    assert again == text
    screened = tmp_path / "screen"
    succeed("rg", *given(disk), "--out", screened, "--method", "rhe", "--pair", "trait1", "case")
    table = read_heritability_table(screened, "rg")
    assert table[["trait_1", "trait_2", "method"]].to_numpy().tolist() == [["trait1", "case", "rhe"]]


def test_a_folder_of_other_results_is_kept(disk: Path, tmp_path: Path) -> None:
    out = tmp_path / "h2"
    succeed("h2", *given(disk), "--out", out, "--method", "rhe")
    done = run_command("h2", *given(disk), "--out", out, "--method", "rhe", "--probes", "20")
    assert done.code == 2
    assert "--overwrite" in done.err
    succeed("h2", *given(disk), "--out", out, "--method", "rhe", "--probes", "20", "--overwrite")


def test_plans_and_refusals(disk: Path, tmp_path: Path) -> None:
    for command in ("h2", "rg"):
        text = succeed(command, *given(disk), "--out", tmp_path / "none", "--plan")
        assert "haseman-elston" in text
    assert not (tmp_path / "none").exists()
    small = run_command("h2", *given(disk), "--out", tmp_path / "none", "--memory", "10MB", "--plan")
    assert small.code == 2
    assert "MemoryBudgetError" in small.err
    wrong = run_command("h2", *given(disk), "--out", tmp_path / "none", "--prevalence", "trait1=0.1")
    assert wrong.code == 2
    assert "instead of 2" in wrong.err
    alone = run_command("rg", *given(disk), "--out", tmp_path / "none", "--trait", "trait1")
    assert alone.code == 2
    assert "needs two traits" in alone.err
    assert len(alone.err.strip().splitlines()) == 1
