"""The whole job as a process of its own: time, memory, and what every stage took of them, beside `sgemm`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from biolmm.genotypes.source import clear_cache
from biolmm.store.read import GenotypeStore
from suite.cohorts import cohort, operator_of
from suite.common import BIOLMM, Outcome, Settings, empty_folder, launch
from suite.stages import stage_rows
from suite.tiles import tile_product_rate


def run(settings: Settings) -> Outcome:
    """Run `biolmm gwas` from a .bed on a simulated cohort."""
    settings = settings.sized(*((400, 1_500, 2) if settings.toy else (20_000, 50_000, 10)))
    assert settings.samples and settings.variants and settings.traits
    files = cohort(
        settings.work, settings.samples, settings.variants, settings.traits, settings.missing, settings.missing_calls
    )
    out = empty_folder(settings.work / "gwas")
    solver = ["--solver", "stochastic"] if settings.toy else []
    command: list[str | Path] = [
        *BIOLMM, "gwas", "--genotypes", files.bed, "--traits", files.traits, "--covariates", files.covariates,
        *solver, "--threads", str(settings.threads), "--out", out,
    ]  # fmt: skip
    process = launch(command, settings.work / "gwas.log", settings.limit_seconds)
    outcome = Outcome("gwas", settings.parameters())
    outcome.tables["the whole process"] = [process.row(exit_code=process.exit_code, timed_out=process.timed_out)]
    if not process.timed_out:
        rows = stage_rows(out, process)
        add_sgemm_shares(rows, files.store, settings.threads)
        outcome.tables["stages"] = rows
        outcome.remarks += [
            "outside the stages: start-up, reading tables, counting under masks",
            "columns: the mean width of a stage's passes; sgemm_gflops: the two products of every tile on so many columns "
            "with tiles that are filled already, measured after the run on the same cohort and threads; share_of_sgemm: "
            "what the whole stage reached of it by the clock, dense algebra between the passes included",
        ]
    return outcome


def add_sgemm_shares(rows: list[dict[str, Any]], store: Path, n_threads: int) -> None:
    """Set beside every stage that made passes what `sgemm` reaches on the shapes of its products."""
    clear_cache()
    operator = operator_of(GenotypeStore.open(store))
    rates: dict[int, float] = {}
    for row in rows:
        if not row.get("passes") or not row.get("gflop"):
            continue
        columns = row["gflop"] * 1e9 / (4.0 * operator.n_samples * operator.n_variants * row["passes"])
        width = max(1, int(np.rint(columns)))
        if width not in rates:
            rates[width] = tile_product_rate(operator, width, n_threads)
        row["columns"] = columns
        row["sgemm_gflops"] = rates[width] / 1e9
        row["share_of_sgemm"] = row["gflop"] / row["wall_seconds"] / row["sgemm_gflops"]
    clear_cache()
