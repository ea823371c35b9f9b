"""`--precision`: what it changes, and that what was computed otherwise is not taken up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biolmm.genotypes.arithmetic import arithmetic_of, vnni
from running import Disk, run_command, same_statistics, statistics

with_vnni = pytest.mark.skipif(bool(vnni.missing_features()), reason="this processor has no AVX-512 VNNI")


def parameters(out: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((out / "run.json").read_text())["parameters"]
    return found


@pytest.fixture(scope="module")
def single(disk: Disk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the results in single precision."""
    out = tmp_path_factory.mktemp("single") / "out"
    return disk.gwas(out, "--solver", "stochastic", "--precision", "float32")


def test_the_record_names_the_arithmetic(streamed: Path, single: Path) -> None:
    assert parameters(single)["arithmetic"] == "float32"
    assert parameters(streamed)["precision"] == "auto"
    assert parameters(streamed)["arithmetic"] == arithmetic_of("auto").name


@with_vnni
def test_bytes_change_results_by_their_rounding(streamed: Path, single: Path) -> None:
    """h² by a hundredth of its standard error, χ² by 5e-3: what the predictors are solved to."""
    h2, other = (pd.read_csv(out / "h2.tsv", sep="\t") for out in (single, streamed))
    assert np.all(np.abs(h2["h2"] - other["h2"]) < 0.01 * h2["h2_se"])
    for trait in ("trait1", "trait2"):
        mine, theirs = statistics(single, trait), statistics(streamed, trait)
        np.testing.assert_allclose(theirs["chisq"], mine["chisq"], rtol=5e-3, atol=5e-3)


@with_vnni
def test_another_precision_is_another_analysis(disk: Disk, single: Path, tmp_path: Path) -> None:
    words = ("--quiet", "gwas", *disk.inputs(), "--out", single, "--solver", "stochastic")
    refused = run_command(*words, "--precision", "int8")
    assert refused.code == 2
    assert "--overwrite" in refused.err
    again = disk.gwas(tmp_path / "again", "--solver", "stochastic", "--precision", "float32")
    assert same_statistics(again, single)


def test_a_processor_without_the_instructions(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vnni, "missing_features", lambda: ("avx512vnni",))
    monkeypatch.setattr("biolmm.genotypes.arithmetic.int8.missing_features", lambda: ("avx512vnni",))
    refused = run_command("--quiet", "gwas", *disk.inputs(), "--out", tmp_path / "out", "--precision", "int8")
    assert refused.code == 2
    assert "use --precision float32" in refused.err
    out = disk.gwas(tmp_path / "auto")
    assert parameters(out)["arithmetic"] == "float32"
