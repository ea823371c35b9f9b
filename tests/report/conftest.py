"""A results directory as `gwas` would leave it, invented: two traits, five contigs, a few strong loci."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from biolmm.results.associations import patch_rows, read_associations, write_part
from biolmm.results.diagnostics import neg_log10_p, neg_log10_p_chisq
from biolmm.results.loci import find_loci
from biolmm.results.record import RunRecord
from biolmm.results.tables import write_result_table

CONTIGS = ("1", "2", "10", "22", "X")


def build_results(directory: Path, traits: tuple[str, ...], n_per_contig: int = 300, strongest_z: float = 12.0) -> Path:
    """Write every file of a results directory."""
    rng = np.random.default_rng(7)
    for kind, inflation in (("associations", 1.02), ("linear", 1.35)):
        for trait in traits:
            for contig in CONTIGS:
                columns = _associations(rng, n_per_contig, inflation, strongest_z)
                half = n_per_contig // 2
                write_part(directory / kind, trait, contig, 0, {k: v[:half] for k, v in columns.items()})
                write_part(directory / kind, trait, contig, 1, {k: v[half:] for k, v in columns.items()})
    _tables(directory, traits, rng)
    _record(directory, traits)
    return directory


def _associations(rng: np.random.Generator, n: int, inflation: float, strongest_z: float) -> dict[str, np.ndarray]:
    position = np.sort(rng.choice(240_000_000, n, replace=False)).astype(np.int64) + 1
    z = rng.normal(size=n) * np.sqrt(inflation)
    centre = int(rng.integers(n))
    near = np.arange(max(0, centre - 4), min(n, centre + 5))
    position[near] = position[centre] + 9_000 * (near - centre)
    position.sort()
    z[near] = strongest_z * rng.uniform(0.4, 1.0) * 0.8 ** np.abs(near - centre)
    standard_error = rng.uniform(0.01, 0.03, n)
    z[n // 3] = np.nan
    return {
        "base_pair_location": position,
        "effect_allele": rng.choice(np.array(list("ACGT"), dtype=object), n),
        "other_allele": rng.choice(np.array(list("ACGT"), dtype=object), n),
        "beta": z * standard_error,
        "standard_error": np.where(np.isnan(z), np.nan, standard_error),
        "effect_allele_frequency": rng.uniform(0.01, 0.99, n),
        "neg_log_10_p_value": neg_log10_p(z),
        "rsid": np.array([f"rs{number}" for number in rng.integers(1_000, 9_000_000, n)], dtype=object),
        "n": np.full(n, 9_500, dtype=np.int32),
        "chisq": z**2,
        "exact": np.zeros(n, dtype=bool),
    }


def _tables(directory: Path, traits: tuple[str, ...], rng: np.random.Generator) -> None:
    h2 = rng.uniform(0.05, 0.7, len(traits))
    frame: dict[str, Any] = {"trait": list(traits), "n": 9_500, "h2": h2, "h2_se": 0.021, "h2_mc_se": 0.0012}
    frame |= {"sigma2_g": h2, "sigma2_e": 1 - h2, "lrt_p": 10.0 ** -rng.uniform(2, 40, len(traits))}
    write_result_table(directory, "h2", pd.DataFrame(frame))
    gamma = [(t, c, 60, 0.8 + 0.01 * i, 0.002) for t in traits for i, c in enumerate(("0.01-0.05", "0.05-0.5"))]
    write_result_table(
        directory, "gamma", pd.DataFrame(gamma, columns=["trait", "maf_class", "n_variants", "gamma", "gamma_se"])
    )
    loco = [(t, c, 3, rng.uniform(1e-3, 5e-3), True) for t in traits for c in CONTIGS]
    write_result_table(
        directory,
        "loco",
        pd.DataFrame(loco, columns=["trait", "contig", "iterations", "relative_residual", "converged"]),
    )
    k = 10
    eigen = {"component": np.arange(1, k + 1), "eigenvalue": 1.5 + 40 / np.arange(1, k + 1) ** 2, "residual": 1e-4}
    write_result_table(directory, "eigen", pd.DataFrame(eigen))
    ldsc: dict[str, Any] = {"trait": list(traits), "n_variants": 1_050_000, "mean_chisq": 1.31, "lambda_gc": 1.24}
    ldsc |= {"h2": h2, "h2_se": 0.03, "intercept": [1.02 + 0.1 * i for i in range(len(traits))], "intercept_se": 0.009}
    ldsc |= {"ratio": (np.array(ldsc["intercept"]) - 1) / 0.31, "ratio_se": 0.03}
    ldsc["flags"] = ["", *["h2 is above 1"] * (len(traits) - 1)]
    write_result_table(directory, "ldsc", pd.DataFrame(ldsc))
    group = rng.integers(0, 3, 400)
    pcs = {"sample_id": [f"S{i:05d}" for i in range(400)]}
    pcs |= {f"PC{j + 1}": rng.normal(size=400) * 0.004 + 0.03 * np.cos(group * 2.1 + j) / (j + 1) for j in range(4)}
    write_result_table(directory, "pcs", pd.DataFrame(pcs))
    write_result_table(directory, "leads", pd.concat([_leads(directory, t) for t in traits], ignore_index=True))


def _leads(directory: Path, trait: str) -> pd.DataFrame:
    leads = find_loci(read_associations(directory, trait, locate=True))
    scan = leads["chisq"].to_numpy(copy=True)
    leads["chisq"] = scan * np.linspace(0.995, 1.012, len(scan))
    leads["neg_log_10_p_value"] = neg_log10_p_chisq(leads["chisq"])
    for part, rows in leads.groupby("part"):
        values = {name: rows[name].to_numpy() for name in ("chisq", "neg_log_10_p_value")}
        patch_rows(Path(str(part)), rows["row"].to_numpy(), values | {"exact": np.ones(len(rows), dtype=bool)})
    leads = leads.assign(trait=trait, chisq_scan=scan)
    return leads.drop(columns=["part", "row", "variant_id", "n", "info", "exact"])


def _record(directory: Path, traits: tuple[str, ...]) -> None:
    record = RunRecord.start(
        "biolmm gwas --genotypes cohort.bed --traits traits.tsv --out results --method linear",
        seed=1, parameters={"loco": True, "transform": "rint", "pcs": 4, "memory": "4 GiB"},
    )  # fmt: skip
    record.inputs = {"genotypes": {"path": "cohort.bed", "fingerprint": "9f2b5c0d1e", "n_bytes": 1_340_000_000}}
    record.counts = {
        "samples": {"genotypes": 10_000, "traits": 9_900, "covariates": 9_870, "analysed": 9_812},
        "variants": {"genotypes": 1_520, "model": 1_490, "scanned": 1_500, "monomorphic": 5},
    }
    record.add_dropped("samples", "no covariates", [f"S{i:05d}" for i in range(30)])
    record.add_dropped("covariates", "collinear with the intercept and sex", ["batch=<b>7"])
    record.traits = {t: {"n": 9_500, "solver": "stochastic", "n_probes": 16, "lanczos_steps": 15} for t in traits}
    stages = ("convert", "spectrum", "fit", "loco", "scan", "linear", "leads", "report")
    for index, name in enumerate(stages):
        record.add_stage(
            name, 3.7 * (index + 1), 7.1 * (index + 1), passes=index, read_bytes=10**8 * index, flop=1e11 * index,
            peak_bytes=2**29, resumed=index == 0,
        )  # fmt: skip
    record.warn("trait 'bmi <script>alert(1)</script>' has 3 outliers beyond 8 standard deviations.")
    record.write(directory)


@pytest.fixture
def make_results(tmp_path: Path) -> Callable[..., Path]:
    """Build a results directory below `tmp_path`."""
    return lambda traits=("height",), **options: build_results(tmp_path / "results", traits, **options)
