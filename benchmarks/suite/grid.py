"""The whole job over N, M and T, beside every rival on PATH: one figure a size."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from suite.cohorts import cohort
from suite.common import Outcome, Process, Settings
from suite.gwas import add_sgemm_shares
from suite.rivals import Contest, bolt_command, plink2_command
from suite.stages import stage_rows

SIZES = {
    "samples": (2_500, 5_000, 10_000, 20_000, 40_000),
    "variants": (10_000, 20_000, 40_000, 80_000),
    "traits": (1, 5, 10, 25, 50),
}
BASE = {"samples": 10_000, "variants": 40_000, "traits": 5}
TOY_SIZES = {"samples": (300, 400), "variants": (1_000, 1_500), "traits": (1, 2)}
TOY_BASE = {"samples": 300, "variants": 1_000, "traits": 1}


def run(settings: Settings) -> Outcome:
    """Vary one size at a time around a middle one."""
    sizes, base = (TOY_SIZES, TOY_BASE) if settings.toy else (SIZES, BASE)
    asked = {name: getattr(settings, name) for name in base}
    base = {name: asked[name] or size for name, size in base.items()}
    outcome = Outcome("grid", {**settings.parameters(), "base": base, "sizes": sizes})
    rows: list[dict[str, Any]] = []
    outcome.tables["whole processes"] = rows
    stages: list[dict[str, Any]] = []
    outcome.tables["stages of biolmm gwas"] = stages
    _point(replace(settings, samples=300, variants=1_000, traits=1, programs=("none",)))  # compiles what is not yet
    done: set[tuple[int, ...]] = set()
    for name, values in sizes.items():
        for value in values:
            point = {**base, name: value}
            if tuple(point.values()) in done:
                continue
            done.add(tuple(point.values()))
            found, its_stages = _point(replace(settings, **point))
            rows += [{**point, **row} for row in found]
            stages += [{**point, **row} for row in its_stages]
    outcome.remarks.append(
        "biolmm gwas converts the .bed, fits, scans with each contig left out, recomputes leads and writes the report; plink2 "
        "--glm is a plain regression of all traits; BOLT-LMM --lmmInfOnly runs one trait, so many traits cost it so many runs"
    )
    return outcome


def _point(settings: Settings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run every program at one size; return a row a program, and our stages."""
    assert settings.samples and settings.variants and settings.traits
    files = cohort(
        settings.work, settings.samples, settings.variants, settings.traits, settings.missing, settings.missing_calls
    )
    contest = Contest(files, settings.work / "grid", settings)
    print(f"{settings.samples:,} × {settings.variants:,}, {settings.traits} traits", flush=True)
    solver = ["--solver", "stochastic"]
    ours = contest.ours("biolmm", files.bed, *solver)
    stages = stage_rows(contest.folder / "biolmm", ours)
    add_sgemm_shares(stages, files.store, settings.threads)
    rows = [_row("biolmm", ours)]
    programs = settings.programs or ("plink2", "bolt")
    if "plink2" in programs and shutil.which("plink2"):
        rows.append(_row("plink2 --glm", contest.run("plink2", plink2_command(contest, _folder(contest, "plink2")))))
    if "bolt" in programs and shutil.which("bolt"):
        rows.append(_row("BOLT-LMM, one trait", contest.run("bolt", bolt_command(contest, _folder(contest, "bolt")))))
    for row in rows[1:]:
        row["cpu_over_ours"] = row["cpu_seconds"] / rows[0]["cpu_seconds"]
    shutil.rmtree(contest.folder, ignore_errors=True)
    return rows, stages


def _folder(contest: Contest, name: str) -> Path:
    folder = contest.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _row(program: str, process: Process) -> dict[str, Any]:
    return {"program": program, "finished": not process.timed_out, **process.row()}
