"""What the tests of relatedness share: cohorts with many missing calls, matrices by definition."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.genotypes.source import ChosenGenotypes
from biolmm.store.read import GenotypeStore
from oracles.toy import Calls, write_store

CONTIGS = ["1"] * 130 + ["2"] * 1 + ["3"] * 169


@pytest.fixture(scope="session")
def plink() -> str:
    """Find PLINK 2; CI must have it."""
    found = shutil.which("plink2")
    if found is None:
        pytest.skip("plink2 is not installed")
    return found


def draw_calls(n_variants: int = 300, n_samples: int = 203, missing: float = 0.1, seed: int = 5) -> Calls:
    """Draw calls with families of four (two founders, two children) and missing ones, more in some variants than in others."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.05, 0.95, (n_variants, 1))
    haplotypes = rng.random((2, n_variants, n_samples)) < p[None]
    for first in range(0, n_samples - 3, 8):
        for child in (first + 2, first + 3):
            for k, parent in enumerate((first, first + 1)):
                which = rng.integers(0, 2, n_variants)
                haplotypes[k, :, child] = haplotypes[which, np.arange(n_variants), parent]
    calls = haplotypes.sum(axis=0).astype(np.uint8)
    rate = missing * rng.choice([0.0, 0.5, 3.0], (n_variants, 1))
    calls[rng.random(calls.shape) < rate] = 3
    calls[7], calls[11] = 2, 3
    return calls


def chosen(store: GenotypeStore, index: NDArray[np.int64] | None = None, cache_bytes: int = 0) -> ChosenGenotypes:
    """Choose samples of a store, all by default, and all variants."""
    return ChosenGenotypes.choose(store, np.arange(store.n_samples) if index is None else index, None, cache_bytes)


@pytest.fixture(scope="session")
def calls() -> Calls:
    """Give 300 variants of 203 samples, a tenth missing."""
    return draw_calls()


@pytest.fixture(scope="session")
def store(calls: Calls, tmp_path_factory: pytest.TempPathFactory) -> GenotypeStore:
    """Write them on three contigs, one of a single variant."""
    return write_store(tmp_path_factory.mktemp("grm") / "c.zarr", calls, CONTIGS)


def write_bed(stem: Path, calls: Calls, contigs: list[str]) -> None:
    """Write a PLINK file set: 2 copies of A1 = 00, missing = 01, 1 copy = 10, none = 11."""
    n = calls.shape[1]
    stem.with_suffix(".fam").write_text("".join(f"F{i} S{i} 0 0 0 -9\n" for i in range(n)))
    lines = (f"{name}\tv{i}\t0\t{10_000_000 + i}\tA\tG\n" for i, name in enumerate(contigs))
    stem.with_suffix(".bim").write_text("".join(lines))
    padded = np.full((len(calls), -(-n // 4) * 4), 0, np.uint8)
    padded[:, :n] = np.array([3, 2, 0, 1], np.uint8)[calls]
    packed = (padded.reshape(len(calls), -1, 4) << np.array([0, 2, 4, 6], np.uint8)).sum(axis=2).astype(np.uint8)
    stem.with_suffix(".bed").write_bytes(b"\x6c\x1b\x01" + packed.tobytes())
