"""Conversion of a .bed to a store, beside `plink2 --make-pgen` of the same file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from suite.cohorts import cohort
from suite.common import BIOLMM, Outcome, Process, Settings, empty_folder, launch


def run(settings: Settings) -> Outcome:
    """Convert with every program there is, in turn."""
    settings = settings.sized(*((500, 600) if settings.toy else (20_000, 50_000)))
    assert settings.samples and settings.variants
    files = cohort(settings.work, settings.samples, settings.variants)
    outcome = Outcome("convert", settings.parameters())
    rows = outcome.tables["conversion, whole process"] = []
    genotypes = settings.samples * settings.variants
    for repetition in range(settings.repetitions or (1 if settings.toy else 3)):
        out = empty_folder(settings.work / "convert")
        few: list[str | Path] = ["--threads", str(settings.threads)]
        command: list[str | Path] = [*BIOLMM, "convert", files.bed, out / "store.zarr", *few]
        rows.append(_row("biolmm", launch(command, out / "biolmm.log", settings.limit_seconds), genotypes, repetition))
        rows[-1]["bits_per_genotype"] = 8 * _size(out / "store.zarr") / genotypes
        if shutil.which("plink2"):
            command = ["plink2", "--bfile", files.bed.with_suffix(""), "--make-pgen", "--out", out / "plink2", *few]
            ran = launch(command, out / "plink2.launched", settings.limit_seconds)
            rows.append(_row("plink2 --make-pgen", ran, genotypes, repetition))
            rows[-1]["bits_per_genotype"] = 8 * _size(out / "plink2.pgen") / genotypes
        shutil.rmtree(out)
    rows.sort(key=lambda row: (row["program"], row["cpu_seconds"]))
    outcome.remarks.append("start-up is in these times; the rate without it is in `kernels`")
    return outcome


def _row(program: str, process: Process, genotypes: int, repetition: int) -> dict[str, Any]:
    rate = genotypes / process.cpu_seconds / 1e9
    return process.row(program=program, repetition=repetition, billion_genotypes_per_cpu_second=rate)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(int(file.stat().st_size) for file in files)
