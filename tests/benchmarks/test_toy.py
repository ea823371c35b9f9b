"""Every benchmark runs at toy size; no figure is judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).parents[2] / "benchmarks" / "run.py"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, Path]:
    """Run all of them in one process; give the JSON, what was printed, and the plot.

    BOLT-LMM and GEMMA take their time at any size: PLINK 2 stands for them.
    """
    work = tmp_path_factory.mktemp("benchmarks")
    out, plot = work / "out.json", work / "shares.png"
    options = ["--threads", "2", "--work", work / "work", "--out", out, "--plot", plot, "--programs", "plink2"]
    environment = {**os.environ, "OPENBLAS_CORETYPE": "Haswell"}
    command = [sys.executable, RUN, "all", "--toy", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text()), done.stdout, plot


def tables_of(record: dict[str, Any], name: str) -> dict[str, list[dict[str, Any]]]:
    """Return the tables of one benchmark."""
    (found,) = [each for each in record["benchmarks"] if each["benchmark"] == name]
    return dict(found["tables"])


@pytest.mark.parametrize(
    "name",
    [
        "kernels",
        "pass",
        "arithmetics",
        "scan",
        "convert",
        "formats",
        "grm",
        "gwas",
        "grid",
        "rivals",
        "meta",
        "scaling",
    ],
)
def test_every_benchmark_has_figures(ran: tuple[dict[str, Any], str, Path], name: str) -> None:
    tables = tables_of(ran[0], name)
    assert tables and all(rows or title.startswith("agreement") for title, rows in tables.items())


def test_says_the_machine_and_its_blas_kernel_and_drops_the_variables_that_choose_another(
    ran: tuple[dict[str, Any], str, Path],
) -> None:
    record, text, _ = ran
    assert record["cpu"] and "numpy" in record["packages"]
    assert f"BLAS kernel {record['blas']}" in text
    assert "OPENBLAS_CORETYPE=Haswell" in record["removed_variables"]


def test_pass_is_measured_beside_sgemm_and_plotted(ran: tuple[dict[str, Any], str, Path]) -> None:
    rows = next(iter(tables_of(ran[0], "pass").values()))
    assert {row["r"] for row in rows} >= {1, 8}
    assert all(row["pass_gflops"] > 0 and row["tiles_gflops"] > 0 for row in rows)
    assert ran[2].stat().st_size > 0


def test_rivals_compares_what_is_installed_and_names_what_is_not(ran: tuple[dict[str, Any], str, Path]) -> None:
    record, text, _ = ran
    tables = tables_of(record, "rivals")
    assert [row["job"] for row in tables["cost"] if row["program"] == "biolmm"]
    assert all(row["peak_mib"] > 0 and row["command"] for row in tables["cost"])
    if record["programs"]["plink2"] is None:
        assert "plink2 is not on PATH" in text
    else:
        (row,) = tables["agreement of the statistics"]
        assert row["correlation"] > 0.99
