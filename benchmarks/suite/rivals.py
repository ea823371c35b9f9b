"""Head to head on one simulated cohort: PLINK 2, BOLT-LMM and GEMMA, where they are on PATH, against `biolmm gwas`."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from biolmm.results.associations import read_associations
from biolmm.results.diagnostics import lambda_gc
from biolmm.simulate.tables import SimulatedFiles
from biolmm.store.read import GenotypeStore
from suite.cohorts import cohort
from suite.common import BIOLMM, Command, Outcome, Process, Settings, empty_folder, launch
from suite.stages import stage_rows

PROGRAMS = ("plink2", "bolt", "gemma")
GEMMA_SAMPLES, GEMMA_VARIANTS = 2_000, 20_000
"""GEMMA's work and memory grow with N² and N³: it runs on the first samples and every so many-th variant."""


@dataclass(frozen=True)
class Contest:
    """One cohort, and where everything goes."""

    files: SimulatedFiles
    folder: Path
    settings: Settings

    @property
    def traits(self) -> int:
        """How many traits the many-trait jobs run."""
        return self.settings.traits or 1

    def run(self, name: str, command: Command) -> Process:
        """Run a program under the time limit, printing what is run and what it used."""
        print(f"… {name}", end="", flush=True)
        process = launch(command, self.folder / f"{name}.log", self.settings.limit_seconds)
        state = "STOPPED AT THE LIMIT" if process.timed_out else "done"
        print(f": {state}, {process.cpu_seconds:.1f} CPU-seconds, {process.wall_seconds:.1f} s", flush=True)
        return process

    def ours(self, name: str, genotypes: Path, *options: str, tables: SimulatedFiles | None = None) -> Process:
        """Run `biolmm gwas` into a new folder of that name."""
        out = empty_folder(self.folder / name)
        tables = tables or self.files
        inputs: list[str | Path] = [
            "--genotypes",
            genotypes,
            "--traits",
            tables.traits,
            "--covariates",
            tables.covariates,
        ]
        fixed: list[str | Path] = ["--threads", str(self.settings.threads), "--out", out]
        return self.run(name, [*BIOLMM, "gwas", *inputs, *options, *fixed])


def run(settings: Settings) -> Outcome:
    """Run everything there is and compare time, memory and statistics."""
    settings = settings.sized(*((400, 1_500, 1) if settings.toy else (20_000, 50_000, 10)))
    assert settings.samples and settings.variants and settings.traits
    files = cohort(
        settings.work, settings.samples, settings.variants, settings.traits, settings.missing, settings.missing_calls
    )
    contest = Contest(files, settings.work / "rivals", settings)
    outcome = Outcome("rivals", settings.parameters())
    wanted = [name for name in settings.programs or PROGRAMS if name in PROGRAMS]
    absent = [name for name in wanted if shutil.which(name) is None]
    outcome.remarks += [f"{name} is not on PATH and was left out" for name in absent]
    present = [name for name in wanted if name not in absent]

    costs, agreement = _ours(contest, outcome), []
    if "plink2" in present:
        agreement += _plink2(contest, costs)
    if "bolt" in present:
        agreement += _bolt(contest, costs, outcome)
    if "gemma" in present:
        agreement += _gemma(contest, costs, outcome)
    _add_ratios(costs)
    outcome.tables["cost"] = costs
    outcome.tables["agreement of the statistics"] = agreement
    return outcome


def _ours(contest: Contest, outcome: Outcome) -> list[dict[str, Any]]:
    """Run our jobs, each from the .bed: conversion and report are in their times."""
    many, bed = contest.traits, contest.files.bed
    jobs = {
        "biolmm-1": (1, "gwas", ["--trait", "trait1"]),
        f"biolmm-{many}": (many, "gwas", []),
        f"biolmm-linear-{many}": (many, "linear regression", ["--method", "linear-only"]),
    }
    rows = []
    for name, (traits, job, options) in jobs.items():
        process = contest.ours(name, bed, *options)
        rows.append(process.row(program="biolmm", job=job, traits=traits))
        if not process.timed_out:
            outcome.tables[f"stages of {name}"] = stage_rows(contest.folder / name, process)
        shutil.rmtree(contest.folder / name / "genotypes.zarr", ignore_errors=True)
    return rows


def plink2_command(contest: Contest, out: Path) -> Command:
    """Return the plain regression of all traits by PLINK 2."""
    return [
        "plink2", "--bfile", contest.files.bed.with_suffix(""), "--pheno", contest.files.traits,
        "--covar", contest.files.covariates, "--covar-variance-standardize", "--glm", "hide-covar",
        "--threads", str(contest.settings.threads), "--out", out / "glm",
    ]  # fmt: skip


def bolt_command(contest: Contest, out: Path) -> Command:
    """Return BOLT-LMM's infinitesimal model of the first trait."""
    names = pd.read_csv(contest.files.covariates, sep="\t", nrows=1_000).drop(columns=["FID", "IID"])
    kinds = {n: "--qCovarCol" if pd.api.types.is_numeric_dtype(names[n]) else "--covarCol" for n in names}
    covariates = [str(word) for name, kind in kinds.items() for word in (kind, name)]
    return [
        "bolt", "--bfile", contest.files.bed.with_suffix(""), "--phenoFile", contest.files.traits,
        "--phenoCol", "trait1", "--covarFile", contest.files.covariates, *covariates, "--lmmInfOnly",
        "--verboseStats", f"--numThreads={contest.settings.threads}", "--statsFile", out / "stats.tsv",
    ]  # fmt: skip


def _plink2(contest: Contest, costs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Plain regression of all traits, and how its T² agree with our linear regression."""
    out = empty_folder(contest.folder / "plink2")
    process = contest.run("plink2-glm", plink2_command(contest, out))
    costs.append(process.row(program="plink2", job="linear regression", traits=contest.traits))
    theirs = pd.read_csv(out / "glm.trait1.glm.linear", sep="\t", usecols=["ID", "T_STAT"])
    ours = _chisq(contest.folder / f"biolmm-linear-{contest.traits}")
    chisq = theirs.set_index("ID")["T_STAT"] ** 2
    return [{"pair": "plink2 --glm T² : biolmm linear", **_compare(chisq, ours)}]


def _bolt(contest: Contest, costs: list[dict[str, Any]], outcome: Outcome) -> list[dict[str, Any]]:
    """Run BOLT-LMM's infinitesimal model on one trait, and compare its χ² with ours."""
    out = empty_folder(contest.folder / "bolt")
    process = contest.run("bolt", bolt_command(contest, out))
    row = process.row(program="BOLT-LMM", job="--lmmInfOnly", traits=1)
    costs.append({**row, "job": "--lmmInfOnly (stopped at the limit)"} if process.timed_out else row)
    if process.timed_out:
        return []
    theirs = pd.read_csv(out / "stats.tsv", sep=r"\s+").set_index("SNP")
    ours = contest.folder / "biolmm-1"
    for line in process.output.splitlines():
        if re.search(r"h2g =|Calibration:|good SNPs", line):
            outcome.remarks.append(f"BOLT-LMM: {line.strip()}")
    h2 = pd.read_csv(ours / "h2.tsv", sep="\t").iloc[0]
    outcome.remarks.append(f"biolmm: h2 = {h2['h2']:.4f} ± {h2['h2_se']:.4f} (Monte Carlo {h2['h2_mc_se']:.4f})")
    inf = theirs["CHISQ_BOLT_LMM_INF"]
    rows = [
        {"pair": "BOLT-LMM-inf χ² : biolmm", **_compare(inf, _chisq(ours))},
        {"pair": "BOLT-LMM-inf χ² : biolmm, constant ratio", **_compare(inf, _constant_ratio(ours, contest.files))},
    ]
    linear = _chisq(contest.folder / f"biolmm-linear-{contest.traits}")
    return [*rows, {"pair": "BOLT-LMM linreg χ² : biolmm linear", **_compare(theirs["CHISQ_LINREG"], linear)}]


def _gemma(contest: Contest, costs: list[dict[str, Any]], outcome: Outcome) -> list[dict[str, Any]]:
    """GEMMA on a subset, against our exact solver on the same subset and the same matrix, nothing left out."""
    if shutil.which("plink2") is None:
        outcome.remarks.append("GEMMA was left out: plink2 is needed to cut the subset")
        return []
    out = empty_folder(contest.folder / "gemma")
    subset = _gemma_subset(contest, out)
    kinship: Command = ["gemma", "-bfile", subset, "-gk", "2", "-o", "k", "-outdir", out, "-miss", "1", "-maf", "0"]
    test: Command = [
        "gemma", "-bfile", subset, "-k", out / "k.sXX.txt", "-c", out / "covariates.txt", "-lmm", "4", "-o", "lmm",
        "-outdir", out, "-miss", "1", "-maf", "0",
    ]  # fmt: skip
    parts = [contest.run("gemma-gk", kinship), contest.run("gemma-lmm", test)]
    size = {"samples": len(subset.with_suffix(".fam").read_text().splitlines()), "variants": _n_lines(subset, ".bim")}
    for part, job in zip(parts, ("-gk 2", "-lmm 4"), strict=True):
        costs.append(part.row(program="GEMMA", job=job, traits=1, **size))
    tables = SimulatedFiles.beside(out / "subset.zarr")
    options = ("--trait", "trait1", "--no-loco", "--solver", "exact", "--scale", "sample")
    mine = contest.ours("biolmm-gemma", subset.with_suffix(".bed"), *options, tables=tables)
    costs.append(mine.row(program="biolmm", job="gwas, exact, no LOCO", traits=1, **size))
    outcome.remarks.append(
        f"GEMMA and biolmm beside it ran on {size['samples']:,} samples × {size['variants']:,} variants"
    )
    theirs = pd.read_csv(out / "lmm.assoc.txt", sep="\t").set_index("rs")
    ours, rows = _chisq(contest.folder / "biolmm-gemma"), []
    for column in ("p_wald", "p_lrt", "p_score"):
        chisq = pd.Series(stats.chi2.isf(theirs[column], 1), theirs.index)
        rows.append({"pair": f"GEMMA {column} as χ² : biolmm exact", **_compare(chisq, ours)})
    return rows


def _gemma_subset(contest: Contest, out: Path) -> Path:
    """Cut samples that have the trait and every so many-th variant; the trait goes into the .fam, covariates beside."""
    files = contest.files
    traits = pd.read_csv(files.traits, sep="\t", dtype={"FID": str, "IID": str}).dropna(subset=["trait1"])
    traits = traits.head(GEMMA_SAMPLES)
    covariates = pd.read_csv(files.covariates, sep="\t", dtype={"FID": str, "IID": str}).set_index("IID")
    covariates = covariates.loc[traits["IID"]].reset_index()
    tables = SimulatedFiles.beside(out / "subset.zarr")
    traits.to_csv(tables.traits, sep="\t", index=False, na_rep="NA")
    covariates[["FID", *[c for c in covariates if c != "FID"]]].to_csv(tables.covariates, sep="\t", index=False)
    traits[["FID", "IID"]].to_csv(out / "keep.txt", sep="\t", index=False, header=False)
    step = max(1, (contest.settings.variants or 1) // GEMMA_VARIANTS)
    names = pd.read_csv(files.bed.with_suffix(".bim"), sep="\t", header=None)[1].iloc[::step]
    names.to_csv(out / "extract.txt", index=False, header=False)
    cut: Command = [
        "plink2", "--bfile", files.bed.with_suffix(""), "--keep", out / "keep.txt", "--extract", out / "extract.txt",
        "--min-ac", "1", "--make-bed", "--out", out / "subset",
    ]  # fmt: skip
    contest.run("gemma-subset", cut)
    fam = pd.read_csv(out / "subset.fam", sep=r"\s+", header=None, dtype=str)
    fam[5] = traits.set_index("IID").loc[fam[1], "trait1"].to_numpy()
    fam.to_csv(out / "subset.fam", sep="\t", index=False, header=False)
    numbers = pd.get_dummies(covariates.drop(columns=["FID", "IID"]), drop_first=True, dtype=float)
    numbers.insert(0, "intercept", 1.0)
    numbers.to_csv(out / "covariates.txt", sep="\t", index=False, header=False)
    return out / "subset"


def _chisq(results: Path, trait: str = "trait1") -> pd.Series:
    """Our χ² of one trait by variant name."""
    return read_associations(results, trait, columns=["rsid", "chisq"]).set_index("rsid")["chisq"]


def _constant_ratio(results: Path, files: SimulatedFiles) -> pd.Series:
    """Our χ² with BOLT-LMM's denominator: the variant's variance times one ratio that all variants share."""
    table = read_associations(results, "trait1", columns=["rsid", "beta", "standard_error", "chisq"]).set_index("rsid")
    store = GenotypeStore.open(files.store)
    called = store.n_samples - store.missing_count
    mean = store.alt_count / called
    squares = store.het_count + 4 * ((store.alt_count - store.het_count) // 2)
    sums = (squares / called - mean**2) * called  # a missing call is at the mean
    ratio = table["standard_error"] ** -2.0 / pd.Series(sums, index=store.variant_id.tolist()).loc[table.index]
    constant: pd.Series = table["chisq"] * ratio / ratio.median()
    return constant


def _compare(theirs: pd.Series, ours: pd.Series) -> dict[str, Any]:
    """Say how two sets of χ² agree: correlation, slope through the origin, inflation of each, largest statistics."""
    both = pd.concat([theirs.rename("theirs"), ours.rename("ours")], axis=1, join="inner").dropna()
    x, y = both["theirs"].to_numpy(), both["ours"].to_numpy()
    spread = (y - x * (x @ y) / (x @ x)) / np.sqrt(np.maximum(x, 1.0))
    return {
        "variants": len(both),
        "correlation": float(np.corrcoef(x, y)[0, 1]),
        "slope": float((x @ y) / (x @ x)),
        "rms_scaled_difference": float(np.sqrt(np.mean(spread**2))),
        "theirs_lambda_gc": lambda_gc(x),
        "ours_lambda_gc": lambda_gc(y),
        "theirs_max": float(x.max()),
        "ours_at_their_max": float(y[x.argmax()]),
    }


def _add_ratios(costs: list[dict[str, Any]]) -> None:
    """Add each program's CPU and memory over ours for the same job: the plain regression, or the mixed model."""
    for row in costs:
        if row["program"] == "biolmm":
            continue
        if row["program"] == "GEMMA":
            mine = next(r for r in costs if r["job"] == "gwas, exact, no LOCO")
        else:
            job = "linear regression" if row["program"] == "plink2" else "gwas"
            mine = next(r for r in costs if r["job"] == job and r["traits"] == row["traits"])
        for name, column in (("cpu_over_ours", "cpu_seconds"), ("memory_over_ours", "peak_mib")):
            row[name] = row[column] / mine[column]


def _n_lines(prefix: Path, suffix: str) -> int:
    with prefix.with_suffix(suffix).open() as file:
        return sum(1 for _ in file)
