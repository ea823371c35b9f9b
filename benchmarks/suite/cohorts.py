"""Simulated cohorts, made once in the work folder and found there again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from biolmm.chunks import map_tasks, threads
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.genotypes.standardised import standardise
from biolmm.simulate import SimulateConfig, simulate
from biolmm.simulate.tables import SimulatedFiles
from biolmm.store.read import GenotypeStore

SEED = 1


def cohort(
    work: Path, samples: int, variants: int, traits: int = 1, missing: float = 0.0, missing_calls: float = 0.005
) -> SimulatedFiles:
    """Simulate a cohort with PLINK files, or find it where an earlier call with these sizes has put it."""
    name = f"n{samples}_m{variants}_t{traits}_missing{missing:g}_{missing_calls:g}"
    out = work / f"{name}.zarr"
    files = SimulatedFiles.beside(out)
    if not files.truth_json.exists():
        work.mkdir(parents=True, exist_ok=True)
        config = SimulateConfig(
            n_samples=samples, n_variants=variants, n_traits=traits, missing_traits=missing,
            missing_genotypes=missing_calls, bed=True, seed=SEED,
        )  # fmt: skip
        with threads(None):
            simulate(config, out, map_tasks=map_tasks)
    return files


def operator_of(store: GenotypeStore) -> GenotypeOperator:
    """Return K of all samples and variants of a store; its packed rows stay in memory from the first pass on."""
    source = ChosenGenotypes.choose(store, np.arange(store.n_samples), cache_bytes=2**40)
    return GenotypeOperator(standardise(source), panel_bytes=2**40)
