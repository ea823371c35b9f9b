"""The scan alone: variants × traits per second, statistics only and with Parquet, for a model that is made up.

The time of a scan depends on the shapes of its panel, not on what is in it, so the predictors, eigenvectors and
heritabilities are random numbers and nothing has to be fitted. `sets` is how many sets of observed samples the traits
have: 1 when every trait is observed on the same people, T when each misses some of its own (at most ten different sets here).

Beside it, where it is on PATH, `plink2 --glm` of complete data, where it has its fast path.
"""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np

from biolmm.association.classes import CLASSES
from biolmm.association.panel import ScanPanel, SystemColumns
from biolmm.association.run import run_scan
from biolmm.association.score import score_partition
from biolmm.association.setup import ScanConfig, ScanSetup
from biolmm.chunks import map_tasks, threads
from biolmm.cohort import CohortConfig, align_cohort
from biolmm.files.tables import read_table
from biolmm.genotypes.moments import SampleMasks
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import clear_cache
from biolmm.reml.fit import plain_model
from biolmm.store.read import GenotypeStore
from suite.cohorts import cohort, operator_of
from suite.common import BIOLMM, Command, Outcome, Settings, empty_folder, interleaved, launch

PAIRS, COVARIATES = 20, 8


def run(settings: Settings) -> Outcome:
    """Time the scan for several numbers of traits."""
    numbers: tuple[int, ...] = (1, 3) if settings.toy else (1, 10, 50)
    if settings.traits:
        numbers = (settings.traits,)
    settings = settings.sized(*((500, 600) if settings.toy else (20_000, 16_384)), traits=max(numbers))
    assert settings.samples and settings.variants and settings.traits
    files = cohort(settings.work, settings.samples, settings.variants, settings.traits)
    operator = operator_of(GenotypeStore.open(files.store))
    outcome = Outcome("scan", {**settings.parameters(), "pairs": PAIRS, "covariates": COVARIATES})
    rows = outcome.tables["scan"] = []
    with threads(settings.threads):
        for n_traits in numbers:
            for n_sets in sorted({1, min(n_traits, 10)}):
                rows.append(_measure(operator, files.traits, n_traits, n_sets, settings))
                print(f"… {n_traits} traits, {n_sets} sets of observed samples", flush=True)
    clear_cache()
    outcome.tables["against plink2 --glm, complete data"] = _against_plink2(settings, numbers, rows, outcome)
    outcome.remarks.append("packed rows are in memory; a first scan also reads and decompresses them, see `kernels`")
    return outcome


def _measure(operator: GenotypeOperator, table: Any, n_traits: int, n_sets: int, settings: Settings) -> dict[str, Any]:
    """Time the statistics alone, and the whole scan with its files."""
    panel = made_up_panel(operator, n_traits, n_sets)
    names = CohortConfig(trait_names=panel.traits)
    cohort_ = align_cohort(operator.source.store.sample_id, read_table(table), None, names)
    setup = ScanSetup(operator.source, panel, None, plain_model(operator, cohort_), None, ScanConfig())
    partitions = operator.source.partitions
    results = empty_folder(settings.work / "scan-results")

    def statistics() -> None:
        map_tasks(_score, [(part, setup.contig_of(part)) for part in partitions], panel)

    def written() -> None:
        out = results / str(len(list(results.iterdir())))
        (out / "markers").mkdir(parents=True)
        run_scan(setup, out, out / "markers")

    calls = {"statistics": statistics, "written": written}
    clocks = interleaved(calls, settings.repetitions or (1 if settings.toy else 3))
    done = operator.source.n_variants * n_traits
    wide = panel.columns.shape[1] + n_traits
    flop = 2.0 * operator.n_samples * operator.source.n_variants * wide
    size = sum(file.stat().st_size for file in (results / "0").rglob("*.parquet"))
    shutil.rmtree(results)
    return {
        "traits": n_traits,
        "sets": n_sets,
        "columns": wide,
        "statistics_cpu_seconds": clocks["statistics"].cpu,
        "statistics_per_second": done / clocks["statistics"].wall,
        "written_cpu_seconds": clocks["written"].cpu,
        "writing_share": 1 - clocks["statistics"].cpu / clocks["written"].cpu,
        "written_per_second": done / clocks["written"].wall,
        "written_per_cpu_second": done / clocks["written"].cpu,
        "gflops": flop / clocks["statistics"].wall / 1e9,
        "bytes_per_statistic": size / done,
        "nanoseconds_per_statistic": clocks["written"].cpu / done * 1e9,
    }


def _score(item: Any, panel: ScanPanel) -> None:
    score_partition(item[0], panel, item[1])


def _against_plink2(
    settings: Settings, numbers: tuple[int, ...], scans: list[dict[str, Any]], outcome: Outcome
) -> list[dict[str, Any]]:
    """Run `plink2 --glm` and our plain regression as whole processes, and set the scan with its files beside them."""
    if shutil.which("plink2") is None:
        outcome.remarks.append("plink2 is not on PATH and was left out")
        return []
    assert settings.samples and settings.variants
    rows: list[dict[str, Any]] = []
    for n_traits in numbers:
        done = settings.variants * n_traits
        files = cohort(settings.work, settings.samples, settings.variants, n_traits, 0.0, 0.0)
        out = empty_folder(settings.work / "scan-plink2")
        theirs: Command = [
            "plink2", "--bfile", files.bed.with_suffix(""), "--pheno", files.traits, "--covar", files.covariates,
            "--covar-variance-standardize", "--glm", "omit-ref", "hide-covar", "--threads", str(settings.threads),
            "--out", out / "glm",
        ]  # fmt: skip
        ours: Command = [
            *BIOLMM, "gwas", "--genotypes", files.store, "--traits", files.traits, "--covariates", files.covariates,
            "--method", "linear-only", "--threads", str(settings.threads), "--out", out / "ours",
        ]  # fmt: skip
        process = launch(theirs, out / "plink2.log", settings.limit_seconds)
        scan = next(row for row in scans if (row["traits"], row["sets"]) == (n_traits, 1))
        costs = {
            ("plink2 --glm", "whole process"): process.cpu_seconds,
            ("biolmm --method linear-only", "whole process"): launch(
                ours, out / "biolmm.log", settings.limit_seconds
            ).cpu_seconds,
            ("biolmm, mixed model", "scan with its files"): scan["written_cpu_seconds"],
        }
        rows += [
            {
                "traits": n_traits,
                "program": program,
                "what": what,
                "cpu_seconds": seconds,
                "nanoseconds_per_statistic": seconds / done * 1e9,
                "plink2_over_this": process.cpu_seconds / seconds,
            }
            for (program, what), seconds in costs.items()
        ]
        shutil.rmtree(out)
    return rows


def made_up_panel(operator: GenotypeOperator, n_traits: int, n_sets: int) -> ScanPanel:
    """Return a panel of the right shapes with random numbers in it."""
    rng = np.random.default_rng(0)
    n, contigs = operator.n_samples, operator.source.store.contig_id
    observed = rng.random((n_sets, n)) < 0.98 if n_sets > 1 else np.ones((1, n), dtype=bool)
    step = PAIRS + COVARIATES
    starts = [s * step for s in range(n_sets)]
    return ScanPanel(
        reader=operator.source.reader,
        traits=tuple(f"trait{t + 1}" for t in range(n_traits)),
        system_of_trait=np.arange(n_traits, dtype=np.int64) % n_sets,
        systems=tuple(SystemColumns(slice(a, a + PAIRS), slice(a + PAIRS, a + step)) for a in starts),
        columns=rng.standard_normal((n, step * n_sets), dtype=np.float32) / np.float32(np.sqrt(n)),
        masks=SampleMasks(np.concatenate([np.ones((1, n), dtype=bool), observed])),
        n_observed=observed.sum(axis=1),
        predictors=rng.standard_normal((len(contigs), n_traits, n), dtype=np.float32),
        group_of_contig={name: i for i, name in enumerate(contigs)},
        values=tuple(np.full((n_traits, PAIRS), 2.0) for _ in contigs),
        shares=tuple(np.ones((n_sets, PAIRS)) for _ in contigs),
        h2=np.full(n_traits, 0.3),
        total_variance=np.ones((len(contigs), n_traits)),
        gamma=np.ones((n_traits, len(CLASSES))),
        linear=False,
    )
