"""Summary statistics drawn from LD score regression's own model."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from biolmm.files.ldscore_files import LdScoreTable
from biolmm.sumstats.ldsc.munge import TraitStatistics

M = 1e5
PAIRS = np.array([[0, 1], [0, 2], [1, 0], [2, 0], [3, 2], [1, 3]], np.int8)
"""Alleles that tell the strand."""


def ld_table(n: int, rng: np.random.Generator, n_annotations: int = 1) -> LdScoreTable:
    """Draw LD scores along two chromosomes."""
    scores = rng.gamma(2.0, 20.0, (n, n_annotations)) + 1
    position = np.arange(1, n + 1) * 100
    chromosome = pa.array(np.where(np.arange(n) < n // 2, "1", "2").tolist())
    names = ("base",) if n_annotations == 1 else tuple(f"a{i}" for i in range(n_annotations))
    m = np.full(n_annotations, M)
    return LdScoreTable(
        "prefix", chromosome, position, pa.array([f"rs{i}" for i in range(n)]), names, scores, m, 1.2 * m
    )


def draw_z(ld: NDArray[np.float64], n: NDArray[np.float64], covariance: NDArray[np.float64],
           intercepts: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:  # fmt: skip
    """Draw z (T, n variants) with the covariances of the model; n (T,) or (T, n variants)."""
    size = np.broadcast_to(np.asarray(n, float).reshape(len(covariance), -1), (len(covariance), len(ld)))
    genetic = np.linalg.cholesky(covariance) @ rng.normal(size=size.shape) * np.sqrt(size * ld / M)
    return genetic + np.linalg.cholesky(intercepts) @ rng.normal(size=size.shape)


def trait(
    table: LdScoreTable, z: NDArray[np.float64], n: NDArray[np.float64] | float, name: str = "trait"
) -> TraitStatistics:
    """Make a trait's statistics of all variants."""
    alleles = PAIRS[np.arange(len(table)) % len(PAIRS)]
    size = np.broadcast_to(np.asarray(n, float), z.shape).copy()
    return TraitStatistics(name, f"{name}.sumstats", table.snp, alleles, z.copy(), size)
