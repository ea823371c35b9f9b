"""The stages of a run, from its `run.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from biolmm.results.record import read_record
from suite.common import Process


def stage_rows(results: Path, process: Process) -> list[dict[str, Any]]:
    """Return a row a stage, and one for what the process did outside of them."""
    stages = read_record(results)["stages"]
    rows = [_row(stage, process.cpu_seconds) for stage in stages]
    wall = process.wall_seconds - sum(stage["wall_seconds"] for stage in stages)
    cpu = process.cpu_seconds - sum(stage["cpu_seconds"] for stage in stages)
    rest = {"stage": "(outside)", "wall_seconds": wall, "cpu_seconds": cpu, "cpu_share": cpu / process.cpu_seconds}
    return [*rows, rest]


def _row(stage: dict[str, Any], whole_cpu: float) -> dict[str, Any]:
    return {
        "stage": stage["name"],
        "passes": stage["passes"],
        "wall_seconds": stage["wall_seconds"],
        "cpu_seconds": stage["cpu_seconds"],
        "cpu_share": stage["cpu_seconds"] / whole_cpu,
        "read_gb": stage["read_bytes"] / 1e9,
        "gflop": stage["flop"] / 1e9,
        "gflops_per_cpu_second": stage["flop"] / 1e9 / max(stage["cpu_seconds"], 1e-9),
        "peak_mib": round(stage["peak_bytes"] / 2**20),
    }
