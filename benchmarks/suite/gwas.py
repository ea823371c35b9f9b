"""The whole job as a process of its own: time, memory, and what every stage took of them."""

from __future__ import annotations

from pathlib import Path

from suite.cohorts import cohort
from suite.common import BIOLMM, Outcome, Settings, empty_folder, launch
from suite.stages import stage_rows


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
        outcome.tables["stages"] = stage_rows(out, process)
        outcome.remarks.append("outside the stages: start-up, reading tables, counting under masks")
    return outcome
