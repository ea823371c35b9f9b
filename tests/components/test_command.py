"""`biolmm components`: files in, tables out."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import biolmm
from biolmm.components.results import COMPONENT_COLUMNS, FIXED_COLUMNS
from biolmm.errors import ParameterError
from biolmm.pipeline.components import components
from running import Disk, run_command, simulate, succeed


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """Simulate a cohort, and an environment that lacks two people."""
    folder = tmp_path_factory.mktemp("disk")
    simulate(folder, "--h2", "0.6")
    ids = pd.read_csv(folder / "toy.traits.tsv", sep="\t")["IID"]
    rng = np.random.default_rng(0)
    environment = pd.DataFrame(
        {"IID": ids, "smoking": rng.standard_normal(len(ids)), "batch": rng.choice(["a", "b"], len(ids))}
    )
    environment.iloc[2:].to_csv(folder / "env.tsv", sep="\t", index=False)
    taxa = pd.DataFrame(rng.standard_normal((len(ids), 10))).rename(columns=lambda i: f"taxon{i}")
    taxa.insert(0, "IID", ids)
    taxa.to_csv(folder / "taxa.tsv", sep="\t", index=False)
    return Disk(folder)


def arguments(disk: Disk, out: Path, formula: str, *more: str) -> tuple[str, ...]:
    tables = ("--environment", f"{disk.folder}/env.tsv", "--features", f"microbiome={disk.folder}/taxa.tsv")
    return ("components", *disk.inputs(), *tables, "--formula", formula, "--out", str(out), *more)


def test_the_command_writes_what_it_prints(disk: Disk, tmp_path: Path) -> None:
    formula = "genetic + genetic:smoking + microbiome + residual:batch"
    text = succeed(*arguments(disk, tmp_path / "out", formula))
    table = pd.read_csv(tmp_path / "out" / "components.tsv", sep="\t")
    fixed = pd.read_csv(tmp_path / "out" / "fixed.tsv", sep="\t")
    record = json.loads((tmp_path / "out" / "fit.json").read_text())
    assert tuple(table.columns) == COMPONENT_COLUMNS
    assert tuple(fixed.columns) == FIXED_COLUMNS
    assert (tmp_path / "out" / "summary.txt").read_text() == text
    names = ["genetic", "genetic:smoking", "microbiome", "residual:batch=a", "residual:batch=b", "total"]
    assert table[table.trait == "trait1"].component.tolist() == names
    single = table[table.kind.isin(["component", "residual"])]
    assert single.groupby("trait").share.sum().to_numpy() == pytest.approx([1.0, 1.0])
    assert record["formula"] == formula
    assert record["samples"]["analysed"] <= 148  # two people have no environment
    assert "smoking" in fixed.covariate.tolist()  # what effects interact with is a covariate
    assert set(record["traits"]) == {"trait1", "trait2"}
    assert np.isfinite(record["traits"]["trait1"]["conditional_aic"])


def test_a_folder_of_other_results_is_left_alone(disk: Disk, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = succeed(*arguments(disk, out, "genetic", "--no-test", "--trait", "trait1"))
    assert succeed(*arguments(disk, out, "genetic", "--no-test", "--trait", "trait1")) == first
    refused = run_command(*arguments(disk, out, "microbiome", "--trait", "trait1"))
    assert refused.code == 2 and "holds the results of another analysis" in refused.err
    succeed(*arguments(disk, out, "microbiome", "--trait", "trait1", "--overwrite"))


def test_a_plan_computes_nothing_and_memory_is_checked(disk: Disk, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "components, exact" in succeed(*arguments(disk, out, "genetic", "--plan"))
    assert "components, stochastic" in succeed(*arguments(disk, out, "genetic", "--plan", "--solver", "stochastic"))
    assert not out.exists()
    refused = run_command(*arguments(disk, out, "genetic + epistasis", "--memory", "100MB"))
    assert refused.code == 2 and "--memory is" in refused.err


def test_both_solvers_and_files_give_the_same(disk: Disk, tmp_path: Path) -> None:
    """Within a tenth of a standard error, and the same from a .bed as from a store."""
    tables = []
    for name, more in (("exact", ()), ("stochastic", ("--solver", "stochastic"))):
        succeed(*arguments(disk, tmp_path / name, "genetic + microbiome", "--no-test", "--trait", "trait1", *more))
        tables.append(pd.read_csv(tmp_path / name / "components.tsv", sep="\t"))
    exact, stochastic = tables
    allowed = 4 * stochastic.share_mc_se + 0.02 * stochastic.share_se
    assert ((exact.share - stochastic.share).abs() < allowed).all()
    files = ["--traits", f"{disk.folder}/toy.traits.tsv", "--covariates", f"{disk.folder}/toy.covariates.tsv"]
    more = ["--features", f"microbiome={disk.folder}/taxa.tsv", "--formula", "genetic + microbiome", "--no-test"]
    succeed("components", "--genotypes", disk.bed, *files, *more, "--trait", "trait1", "--out", tmp_path / "bed")
    found = pd.read_csv(tmp_path / "bed" / "components.tsv", sep="\t")
    np.testing.assert_allclose(found.share, exact.share, atol=1e-6)


def test_a_specification_is_its_formula(disk: Disk, tmp_path: Path) -> None:
    formula = "genetic(contigs) + microbiome + residual:batch"
    succeed(*arguments(disk, tmp_path / "formula", formula, "--trait", "trait1", "--no-test"))
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "terms:\n  - {effect: genetic, sets: [contigs]}\n  - microbiome\n  - {effect: residual, by: batch}\n"
        f"environment: {disk.folder}/env.tsv\nfeatures: {{microbiome: {disk.folder}/taxa.tsv}}\n"
    )
    given = ("components", *disk.inputs(), "--spec", spec, "--trait", "trait1", "--no-test")
    succeed(*given, "--out", tmp_path / "spec")
    one, other = ((tmp_path / name / "components.tsv").read_text() for name in ("formula", "spec"))
    assert one == other
    assert json.loads((tmp_path / "spec" / "fit.json").read_text())["formula"] == formula
    refused = run_command(*given, "--out", tmp_path / "no", "--environment", f"{disk.folder}/env.tsv")
    assert (refused.code, "environment is given twice" in refused.err) == (2, True)
    for more in ((), ("--formula", "genetic", "--spec", str(spec))):
        refused = run_command("components", *disk.inputs(), "--out", tmp_path / "no", *more)
        assert (refused.code, "give the random effects once" in refused.err) == (2, True)


def test_killed_it_goes_on_to_the_same_numbers(disk: Disk, tmp_path: Path) -> None:
    """Of two traits and six ranges, no part that was finished is fitted again."""
    places = pd.read_csv(disk.folder / "env.tsv", sep="\t")
    rng = np.random.default_rng(3)
    places[["x", "y"]] = rng.uniform(0, 1, (len(places), 2))
    places.to_csv(tmp_path / "env.tsv", sep="\t", index=False)
    more = ("--environment", f"{tmp_path}/env.tsv", "--formula", "genetic + microbiome + spatial(x, y)", "--blup")
    given = ["components", *disk.inputs(), "--features", f"microbiome={disk.folder}/taxa.tsv", *more, "--out"]
    whole, out = tmp_path / "whole", tmp_path / "out"
    succeed(*given, whole)
    command = [sys.executable, "-m", "biolmm.cli", *given, str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and len(list(out.glob("parts/*.json"))) < 2:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (out / "fit.json").exists()
    finished = {path: path.stat().st_mtime_ns for path in out.glob("parts/*.done.json")}
    assert finished
    refused = run_command(*arguments(disk, out, "genetic"))
    assert refused.code == 2 and "holds the results of another analysis" in refused.err
    succeed(*given, out)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    for name in ("components.tsv", "fixed.tsv", "blup.tsv", "summary.txt"):
        assert (out / name).read_text() == (whole / name).read_text()
    table = pd.read_csv(out / "blup.tsv", sep="\t")
    assert table.columns.tolist()[3:] == ["genetic", "microbiome", "spatial(x, y)", "total"]
    assert len(table) == 2 * 148
    succeed(*arguments(disk, out, "genetic", "--no-test", "--trait", "trait1", "--overwrite"))
    assert not (out / "blup.tsv").exists()
    assert not any(path.exists() for path in finished)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--features", "taxa.tsv"), "--features 'taxa.tsv' is not NAME=FILE"),
        (("--matrix", "a=x.npy", "--matrix", "a=y.npy"), "--matrix names 'a' twice"),
        (("--annotations", "a.tsv", "--annotations", "b.tsv"), "was given 2 tables"),
        (("--pcs", "400"), "principal components"),
        (("--formula", "spatial(smoking, smoking, range=wide)"), "has no range 'wide': give a positive number"),
        (("--formula", "spatial(smoking, smoking, range=-1)"), "has no range '-1'"),
        (("--categorical", "smokng"), "--categorical smokng: neither the covariates nor --environment"),
    ],
)
def test_mistakes_are_one_line(disk: Disk, tmp_path: Path, more: tuple[str, ...], message: str) -> None:
    done = run_command(*arguments(disk, tmp_path / "out", "genetic", *more))
    assert done.code == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_components_of_tables_in_memory(disk: Disk, tmp_path: Path) -> None:
    succeed(*arguments(disk, tmp_path / "out", "genetic:batch + microbiome", "--trait", "trait1", "--pcs", "0"))
    expected = pd.read_csv(tmp_path / "out" / "components.tsv", sep="\t")

    def read(name: str) -> pd.DataFrame:
        table = pd.read_csv(disk.folder / name, sep="\t", index_col="IID")
        return table.drop(columns="FID", errors="ignore")

    found = components(
        biolmm.open_store(disk.store), read("toy.traits.tsv")[["trait1"]], "genetic:batch + microbiome",
        read("toy.covariates.tsv"), environment=read("env.tsv"), features={"microbiome": read("taxa.tsv")},
    )  # fmt: skip
    np.testing.assert_allclose(found.table.share, expected.share, atol=1e-9)
    with pytest.raises(ParameterError, match="unknown options sover"):
        components(biolmm.open_store(disk.store), read("toy.traits.tsv"), "genetic", sover="exact")


def test_principal_components_are_covariates(disk: Disk, tmp_path: Path) -> None:
    succeed(*arguments(disk, tmp_path / "out", "microbiome", "--trait", "trait1", "--pcs", "2", "--no-test"))
    fixed = pd.read_csv(tmp_path / "out" / "fixed.tsv", sep="\t")
    assert {"PC1", "PC2"} <= set(fixed.covariate)
