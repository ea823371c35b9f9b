"""What `biolmm predict` will cost."""

from __future__ import annotations

from biolmm.chunks import n_threads
from biolmm.memory import Need, StagePlan
from biolmm.reml.model import NullModel
from biolmm.store.data import GenotypeData

PROCESS_BYTES = 600 * 2**20
SOLVE_PASSES = 10
"""Passes that a plan reckons with for the predictors of all folds."""


def plan_prediction(model: NullModel, data: GenotypeData, n_folds: int) -> StagePlan:
    """Plan the weights of a model and, with folds, its cross-validation at given heritabilities."""
    n_samples, n_traits = len(model.sample_id), len(model.trait_names)
    n_variants = int(model.dataset.sizes["model_variants"])
    columns = n_traits * n_folds
    chunk = data.chunk_variants * data.encoding.row_bytes(data.n_samples)
    n_passes = 3 + (SOLVE_PASSES + 1 if n_folds else 0)
    n_pairs = int(model.dataset.sizes["components"])
    return StagePlan(
        stage="prediction", n_passes=n_passes, n_tasks=n_passes * max(1, len(data.contig_id)),
        read_bytes=n_passes * n_variants * data.encoding.row_bytes(n_samples),
        written_bytes=n_variants * (30 * n_traits + 60) + 20 * n_samples * n_traits,
        flop=4.0 * n_samples * n_variants * (n_traits + SOLVE_PASSES * columns),
        needs=(
            Need("interpreter and libraries", PROCESS_BYTES),
            Need("chunks of genotypes in hand", 3 * n_threads() * chunk),
            Need("weights", n_variants * (32 * n_traits + 500)),
            Need("model", n_samples * (4 * n_pairs + 32 * n_traits)),
            Need("partial sums", 12 * n_samples * max(n_traits, 1) * (n_threads() + 4)),
            # Traits are taken in batches; one trait's folds is the least.
            Need("blocks of one trait's folds", 40 * n_samples * max(n_folds, 1)),
        ),
    )  # fmt: skip
