"""Made-up studies of one trait with places, and stores of them: each with gaps, its own alleles' order and strand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import special

from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.matrix.change import Sizes, add_studies
from biolmm.sumstats.matrix.read import SumstatsStore

NAMES = ("anna", "ben", "cleo", "dora", "emil")
_PAIRS = (("A", "C"), ("A", "G"), ("C", "T"), ("G", "T"), ("A", "G"), ("AT", "A"))
_COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A"}


def write_meta_studies(folder: Path, names: Sequence[str] = NAMES, n: int = 300, *, swapped: Sequence[str] = (),
                       complemented: Sequence[str] = (), seed: int = 1, missing: float = 0.15) -> list[Path]:  # fmt: skip
    """Write the studies; `swapped` ones tell all effects for the other allele, `complemented` ones of the other strand.

    The first has all variants, so that they are spelled as it does.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    contig = np.sort(rng.integers(1, 5, n))
    position = np.array([1000 + 250_000 * (i % 97) + i for i in range(n)])
    pairs, maf = rng.integers(0, len(_PAIRS), n), rng.uniform(0.05, 0.95, n)
    truth = rng.normal(0, 0.01, n) + 0.12 * (rng.random(n) < 0.02)
    written = []
    for at, name in enumerate(names):
        own = np.random.default_rng([seed, at])
        size = int(own.integers(2_000, 20_000))
        f = np.clip(maf + own.normal(0, 0.04, n), 0.02, 0.98).round(4)
        se = (1.1 / np.sqrt(2 * size * f * (1 - f))).round(6)
        beta = (truth + se * own.standard_normal(n) * 1.1).round(6)
        lines = ["SNP\tCHR\tBP\tA1\tA2\tEAF\tBETA\tSE\tP\tN\tINFO"]
        there = own.random(n) > (missing if at else -1)
        info = own.uniform(0.2, 1, n)
        for i in np.flatnonzero(there):
            other, effect = _PAIRS[pairs[i]]
            b, freq = float(beta[i]), float(f[i])
            if name in swapped:
                other, effect, b, freq = effect, other, -b, round(1 - freq, 4)
            if name in complemented and len(other + effect) == 2:
                other, effect = _COMPLEMENT[other], _COMPLEMENT[effect]
            p = 2 * float(special.ndtr(-abs(b / se[i])))
            lines.append(f"rs{i + 1}\t{contig[i]}\t{position[i]}\t{effect}\t{other}\t{freq:.4f}\t{b:.6f}\t{se[i]:.6f}\t{p:.12g}\t"
                         f"{size - i % 7}\t{info[i]:.3f}")  # fmt: skip
        written.append(folder / f"{name}.tsv")
        written[-1].write_text("\n".join(lines) + "\n")
    return written


def make_store(path: Path, files: Sequence[Path], *, chunk_variants: int = 64, exact: bool = True) -> SumstatsStore:
    """Add studies to a new store of small chunks."""
    sizes = Sizes(chunk_variants=chunk_variants)
    return add_studies(path, [StudyInput(file) for file in files], Rules(exact=exact), sizes=sizes)
