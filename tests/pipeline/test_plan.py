"""`--plan` says what a run will cost, writes nothing, and is not exceeded."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from biolmm.memory import parse_bytes
from running import Disk, succeed


def planned(text: str) -> dict[str, dict[str, float]]:
    """Read the printed plan; its time follows after an empty line."""
    table = text.strip().split("\n\n")[0]
    header, *lines = (re.split(r"\s{2,}", line.strip()) for line in table.splitlines())
    assert header == ["stage", "passes", "tasks", "read", "flop", "written", "memory"]
    return {
        line[0]: {"passes": float(line[1].replace(",", "")), "memory": float(parse_bytes(line[6]))} for line in lines
    }


@pytest.mark.parametrize("command", ["gwas", "fit", "scan", "convert", "simulate"])
def test_a_plan_writes_nothing(disk: Disk, tmp_path: Path, results: Path, command: str) -> None:
    out = tmp_path / "out"
    arguments: tuple[str | Path, ...] = {
        "gwas": ("gwas", *disk.inputs(disk.bed), "--out", out),
        "fit": ("fit", *disk.inputs(), "--out", out),
        "scan": ("scan", "--genotypes", disk.bed, "--model", results, "--out", out),
        "convert": ("convert", disk.bed, out),
        "simulate": ("simulate", out, "--samples", "100000", "--variants", "500000"),
    }[command]
    stages = planned(succeed(*arguments, "--plan"))
    assert stages
    assert list(tmp_path.iterdir()) == []
    assert {"gwas": "convert", "scan": "scan", "convert": "convert"}.get(command, next(iter(stages))) in stages


@pytest.mark.parametrize("solver", ["exact", "stochastic"])
def test_what_is_measured_is_not_more_than_what_was_planned(disk: Disk, tmp_path: Path, solver: str) -> None:
    """Passes in all, and the peak memory of the process (which a fresh process measures)."""
    arguments = ["gwas", *disk.inputs(), "--solver", solver, "--out", str(tmp_path / "out")]
    plan = planned(succeed(*arguments, "--plan"))
    command = [sys.executable, "-m", "biolmm.cli", "--quiet", *arguments]
    subprocess.run(command, check=True, capture_output=True)
    stages = json.loads((tmp_path / "out" / "run.json").read_text())["stages"]
    assert 0 < sum(stage["passes"] for stage in stages) <= sum(stage["passes"] for stage in plan.values())
    assert max(stage["peak_bytes"] for stage in stages) <= max(stage["memory"] for stage in plan.values())
