"""Studies of one trait as tables, clean or with one thing wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from biolmm.results.diagnostics import neg_log10_p
from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.matrix.change import Sizes, add_studies
from biolmm.sumstats.matrix.read import SumstatsStore

Wrong = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]

SIZES = Sizes(chunk_variants=1500)
"""Small chunks, so that everything is added up over several."""

N_VARIANTS = 6000
N_CONTIGS = 4
PAIRS = (("A", "G"), ("C", "T"), ("G", "T"), ("A", "C"), ("A", "T"), ("C", "G"))


def variants(seed: int = 1, n: int = N_VARIANTS) -> pd.DataFrame:
    """Make variants of four contigs with frequencies and, at some, effects that all studies share."""
    rng = np.random.default_rng(seed)
    each = n // N_CONTIGS
    pair = rng.integers(0, len(PAIRS), n)
    frame = pd.DataFrame(
        {
            "CHR": np.repeat(np.arange(1, N_CONTIGS + 1), each),
            "BP": np.concatenate([np.sort(rng.choice(60_000_000, each, replace=False)) + 1 for _ in range(N_CONTIGS)]),
            "SNP": [f"rs{i + 1000}" for i in range(n)],
            "A1": [PAIRS[at][1] for at in pair],
            "A2": [PAIRS[at][0] for at in pair],
            "frequency": rng.beta(0.8, 0.8, n).clip(0.002, 0.998),
        }
    )
    frame["effect"] = np.where(rng.random(n) < 0.006, rng.normal(0, 0.12, n), 0.0)
    return frame


def study(frame: pd.DataFrame, n: int, seed: int, *, sd: float = 1.0, unit: float = 1.0) -> pd.DataFrame:
    """Make a study of the variants: `sd` of the trait, `unit` times 1/(2p(1−p)·N·INFO) the variance of β."""
    rng = np.random.default_rng(seed)
    m = len(frame)
    p = rng.binomial(2 * n, frame["frequency"]).clip(1, 2 * n - 1) / (2 * n)
    info = rng.beta(12, 1.2, m).clip(0.31, 1)
    se = sd * np.sqrt(unit / (2 * p * (1 - p) * n * info)) * rng.normal(1, 0.01, m)
    beta = sd * frame["effect"].to_numpy() + rng.normal(0, 1, m) * se
    out = frame[["CHR", "BP", "SNP", "A1", "A2"]].copy()
    out["EAF"], out["BETA"], out["SE"], out["N"], out["INFO"] = p, beta, se, n, info
    return set_p(out)


def set_p(table: pd.DataFrame) -> pd.DataFrame:
    """Compute p from β and SE, as text, of any size."""
    return table.assign(P=texts(neg_log10_p(table["BETA"] / table["SE"])))


def texts(tail: np.ndarray) -> list[str]:
    """Write p-values given as −log₁₀ p."""
    out = []
    for value in tail:
        exponent = int(np.floor(-value))
        out.append(f"{10 ** (-value - exponent):.6f}e{exponent}")
    return out


def flip_alleles(table: pd.DataFrame) -> pd.DataFrame:
    """Exchange the names of the alleles and nothing else."""
    return table.rename(columns={"A1": "A2", "A2": "A1"})[list(table.columns)]


def write(table: pd.DataFrame, path: Path) -> StudyInput:
    """Write a table as a file."""
    table.to_csv(path, sep="\t", index=False, na_rep="NA", float_format="%.8g")
    return StudyInput(path, name=path.name.split(".")[0])


def make_store(folder: Path, tables: Sequence[pd.DataFrame], rules: Rules | None = None, *,
               trait_type: str | None = None) -> SumstatsStore:  # fmt: skip
    """Make a store of tables, called s0, s1, …"""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = []
    for at, table in enumerate(tables):
        given = write(table, folder / f"s{at}.tsv")
        inputs.append(StudyInput(given.path, name=f"s{at}", trait_type=trait_type))
    return add_studies(folder / "store", inputs, rules, sizes=SIZES)


def clean(k: int = 4, **options: float) -> list[pd.DataFrame]:
    """Make clean studies of different sizes."""
    frame = variants()
    return [study(frame, 20_000 + 8000 * at, 100 + at, **options) for at in range(k)]
