"""The relatedness matrix beside `sgemm` and `ssyrk` in the same run, and beside `plink2 --make-rel`.

    grm      build_grm from a store: count, unpack, multiply, write tiles with their checksums
    sgemm    2,048 × 1,024 by 1,024 × 2,048, added to a matrix: what a tile off the diagonal is made of
    ssyrk    the same on the diagonal
    plink2   `--make-rel bin4 triangle` from the `.bed` of the same cohort, as a program
    command  `biolmm grm` from the store, as a program

Rates count N²·M flop: a symmetric matrix.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from biolmm.chunks import threads
from biolmm.genotypes.source import ChosenGenotypes, clear_cache
from biolmm.linalg.blas import add_gram, add_product
from biolmm.relatedness.build import TILE_SAMPLES, GrmConfig, build_grm
from biolmm.relatedness.grm import Grm
from biolmm.relatedness.slabs import SLAB_VARIANTS
from biolmm.store.read import GenotypeStore
from suite.cohorts import cohort
from suite.common import BIOLMM, Outcome, Settings, empty_folder, interleaved, launch, timed

MEMORY_BYTES = 2**32
COMPARED = 500
"""Samples whose entries are compared."""


def run(settings: Settings) -> Outcome:
    """Measure both rules of missing genotypes at one size."""
    settings = settings.sized(*((300, 400) if settings.toy else (20_000, 20_000)))
    assert settings.samples and settings.variants
    files = cohort(settings.work, settings.samples, settings.variants, missing_calls=settings.missing_calls)
    outcome = Outcome("grm", settings.parameters())
    out = empty_folder(settings.work / "grm")
    configs = GrmConfig(missing="mean"), GrmConfig(missing="pairwise")
    outcome.tables["relatedness matrix"] = [_measure(settings, files.store, out, config) for config in configs]
    programs = outcome.tables["programs"] = []
    for name, command in _commands(settings, files.store, files.bed, out).items():
        process = launch(command, out / f"{name}.log", settings.limit_seconds)
        programs.append(process.row(program=name, gflops=_flop(settings) / process.wall_seconds / 1e9))
    if (out / "plink2.rel.bin").exists():
        outcome.tables["agreement with plink2"] = [_agreement(out, settings.samples)]
    outcome.remarks.append("share: of the rate of sgemm on as many threads; cpu_share: the same per CPU-second")
    return outcome


def _flop(settings: Settings) -> float:
    assert settings.samples and settings.variants
    return float(settings.samples) ** 2 * settings.variants


def _measure(settings: Settings, path: Path, out: Path, config: GrmConfig) -> dict[str, Any]:
    """Build the matrix with products of the same shapes before and after."""
    store = GenotypeStore.open(path)
    source = ChosenGenotypes.choose(store, np.arange(store.n_samples), cache_bytes=MEMORY_BYTES // 2)

    def build() -> None:
        clear_cache()
        build_grm(source, out / f"{config.missing}.zarr", config, memory_bytes=MEMORY_BYTES, overwrite=True)

    peaks, peaks_per_cpu = [], []
    with threads(settings.threads):
        for _ in range(2):
            wall, cpu = _products(settings)
            peaks.append(wall)
            peaks_per_cpu.append(cpu)
            clock = timed(build)  # the second time kernels are compiled
        wall, cpu = _products(settings)
    clear_cache()
    peak, peak_per_cpu = max(*peaks, wall), max(*peaks_per_cpu, cpu)
    rate = _flop(settings) / clock.wall / 1e9
    return {
        "missing": config.missing,
        "samples": settings.samples,
        "variants": settings.variants,
        "threads": settings.threads,
        "seconds": clock.wall,
        "cpu_seconds": clock.cpu,
        "gflops": rate,
        "sgemm_gflops": peak,
        "share": rate / peak,
        "cpu_share": _flop(settings) / clock.cpu / 1e9 / peak_per_cpu,
    }


def _products(settings: Settings) -> tuple[float, float]:
    """Return the rate of sgemm, of all threads together and of a CPU-second."""
    side, b = (64, 64) if settings.toy else (TILE_SAMPLES, SLAB_VARIANTS)
    n = settings.threads
    rng = np.random.default_rng(1)
    A = rng.standard_normal((b, side), dtype=np.float32)
    totals = [np.zeros((side, side), np.float32) for _ in range(n)]
    repeats = 1 if settings.toy else 8

    def gemm(total: np.ndarray[Any, Any]) -> None:
        for _ in range(repeats):
            add_product(total, A, A, transposed=True)

    def syrk(total: np.ndarray[Any, Any]) -> None:
        for _ in range(2 * repeats):
            add_gram(total, A)

    flop = 2.0 * side**2 * b * repeats * n
    with threadpool_limits(1), ThreadPoolExecutor(n) as pool:
        clocks = interleaved(
            {"sgemm": lambda: list(pool.map(gemm, totals)), "ssyrk": lambda: list(pool.map(syrk, totals))}, 3
        )
    return flop / clocks["sgemm"].wall / 1e9, flop / clocks["sgemm"].cpu / 1e9


def _commands(settings: Settings, store: Path, bed: Path, out: Path) -> dict[str, list[str | Path]]:
    n = str(settings.threads)
    commands: dict[str, list[str | Path]] = {
        "biolmm": [*BIOLMM, "grm", store, "--out", out / "command.zarr", "--missing", "pairwise", "--threads", n]
    }
    if shutil.which("plink2") and (not settings.programs or "plink2" in settings.programs):
        options = ["--make-rel", "bin4", "triangle", "--threads", n, "--memory", str(MEMORY_BYTES // 2**20)]
        commands["plink2"] = ["plink2", "--bfile", bed.with_suffix(""), *options, "--out", out / "plink2"]
    return commands


def _agreement(out: Path, n_samples: int) -> dict[str, Any]:
    """Compare entries of the first samples and of the last."""
    some = np.unique(np.r_[: min(COMPARED, n_samples), max(0, n_samples - COMPARED) : n_samples])
    mine, theirs = (Grm.open(out / name).dense(some) for name in ("command.zarr", "plink2.rel.bin"))
    return {"samples": len(some), "largest_difference": float(np.abs(mine - theirs).max())}
