"""Meta-analysis: METAL's script from text, the same studies from a store, and random effects of many studies.

Four studies, inverse variance with heterogeneity, is what METAL was measured on: 37.2 s and 497 MB for a million variants
(../shared/reference/summary_statistics.md). METAL itself runs beside where it is on PATH.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from scipy import special

from suite.common import BIOLMM, Outcome, Process, Settings, empty_folder, launch

FEW = 4


def run(settings: Settings) -> Outcome:
    """Time text against store, and many studies."""
    n = settings.variants or (2_000 if settings.toy else 1_000_000)
    many, n_many = (8, max(n // 4, 500)) if settings.toy else (100, max(n // 10, 500))
    outcome = Outcome("meta", {**settings.parameters(), "studies": FEW, "many_studies": many, "many_variants": n_many})
    work = settings.work / f"meta-{n}"
    files = _studies(work / "few", FEW, n, text=True)
    threads = ("--threads", str(settings.threads))
    rows = outcome.tables["four studies"] = []

    def step(name: str, *command: str | Path) -> Process:
        done = launch([*BIOLMM, *command], work / f"{name}.log", settings.limit_seconds)
        rows.append(done.row(step=name, us_per_variant=round(1e6 * done.wall_seconds / n, 2)))
        print(f"… {name}: {done.wall_seconds:.1f} s", flush=True)
        return done

    script = _script(work, files)
    out = empty_folder(work / "tables")
    step("start-up and plan", "metal", script, "--plan")
    step("metal, from text", "metal", script, "--out-dir", out)
    store = work / "few.zarr"
    shutil.rmtree(store, ignore_errors=True)
    step("sumstats add", "sumstats", "add", store, *files, *threads)
    for name, options in _analyses().items():
        step(name, "meta", store, "--out", empty_folder(work / "out"), "--overwrite", "--no-plots", *options, *threads)
    if shutil.which("metal"):
        done = launch(["metal", script], work / "metal.log", settings.limit_seconds)
        rows.append(done.row(step="METAL", us_per_variant=round(1e6 * done.wall_seconds / n, 2)))
    else:
        outcome.remarks.append("metal is not on PATH; the reference measured 37.2 s and 497 MB for 1,000,000 variants")
    outcome.tables["many studies"] = _many(settings, work, many, n_many)
    return outcome


def _analyses() -> dict[str, list[str]]:
    return {"meta, from the store": [], "meta with genomic control": ["--gc"], "meta with REML": ["--random", "reml"]}


def _many(settings: Settings, work: Path, k: int, n: int) -> list[dict[str, Any]]:
    """Time fixed and random effects of many studies; what start-up takes is left out of the time a variant."""
    files, store = _studies(work / "many", k, n, text=False), work / "many.zarr"
    threads = ("--threads", str(settings.threads))
    if not store.exists():
        launch([*BIOLMM, "sumstats", "add", store, *files, *threads], work / "add-many.log", settings.limit_seconds)
    rows = []
    idle = launch([*BIOLMM, "meta", store, "--out", work / "none", "--plan"], work / "plan.log", settings.limit_seconds)
    for name, options in {"fixed": [], "DL": ["--random", "dl"], "REML": ["--random", "reml"], "RE2": ["--re2"],
                          "MR-MEGA": ["--mr-mega", "3"]}.items():  # fmt: skip
        out = empty_folder(work / "out")
        command = [*BIOLMM, "meta", store, "--out", out, "--overwrite", "--no-plots", *options, *threads]
        done = launch(command, work / f"many-{name}.log", settings.limit_seconds)
        figures = {
            "us_per_variant": round(1e6 * max(done.wall_seconds - idle.wall_seconds, 0.0) / n, 2),
            "cpu_us_per_variant": round(1e6 * max(done.cpu_seconds - idle.cpu_seconds, 0.0) / n, 2),
        }
        rows.append(done.row(analysis=name, studies=k, variants=n, **figures))
        print(f"… {k} studies, {name}: {done.wall_seconds:.1f} s", flush=True)
    return rows


def _script(work: Path, files: list[Path]) -> Path:
    """Write METAL's script for the studies."""
    lines = ["SEPARATOR TAB", "MARKER SNP", "ALLELE A1 A2", "FREQ EAF", "EFFECT BETA", "STDERR SE", "PVALUE P", "SCHEME STDERR",
             *(f"PROCESS {file}" for file in files), "ANALYZE HETEROGENEITY"]  # fmt: skip
    path = work / "script.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def _studies(folder: Path, k: int, n: int, *, text: bool) -> list[Path]:
    """Make up studies that share 97 % of their variants, alleles in either order; kept from run to run."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"study{at}.{'tsv' if text else 'parquet'}" for at in range(k)]
    if all(file.exists() for file in files):
        return files
    rng = np.random.default_rng(1)
    contig = np.sort(rng.integers(1, 23, n)).astype(np.int32)
    position = 10_000 + 50 * np.arange(n)
    names = np.array([f"rs{i}" for i in rng.permutation(20 * n)[:n]], object)
    pairs = np.array([["A", "G"], ["C", "T"], ["A", "C"], ["G", "T"]], object)[rng.integers(0, 4, n)]
    maf = rng.uniform(0.02, 0.98, n)
    for at, file in enumerate(files):
        own = np.random.default_rng([1, at])
        there, swapped = own.random(n) < 0.97, own.random(n) < 0.5
        size = int(own.integers(3_000, 60_000))
        f = np.clip(maf + own.normal(0, 0.02, n), 0.01, 0.99)
        se = 1 / np.sqrt(2 * size * f * (1 - f))
        beta = se * own.standard_normal(n)
        columns = {
            "SNP": names, "CHR": contig, "BP": position, "A1": np.where(swapped, pairs[:, 1], pairs[:, 0]),
            "A2": np.where(swapped, pairs[:, 0], pairs[:, 1]), "EAF": f.round(4), "BETA": beta.round(5),
            "SE": np.maximum(se, 1e-5).round(5), "P": np.maximum(2 * special.ndtr(-np.abs(beta / se)), 1e-300).round(8).clip(1e-8),
            "N": np.full(n, size),
        }  # fmt: skip
        table = pa.table({name: values[there] for name, values in columns.items()})
        if text:
            pa_csv.write_csv(
                table, file, pa_csv.WriteOptions(delimiter="\t", quoting_style="none", quoting_header="none")
            )
        else:
            pq.write_table(table, file, compression="zstd")
    return files
