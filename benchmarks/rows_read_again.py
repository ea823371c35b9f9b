"""What share of its rows a cluster of two workers reads again in every pass.

    biolmm simulate c.zarr --samples 6000 --variants 60000
    python benchmarks/rows_read_again.py c.zarr

Where tasks run does not change what they give: the digest of the last product is printed too.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from biolmm.cluster import connect, processes
from biolmm.genotypes import source
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import ChosenGenotypes, RowReader
from biolmm.genotypes.standardised import standardise
from biolmm.store.open import genotype_store

N_COLUMNS, N_PASSES = 8, 6


def count_rows() -> None:
    """Count the rows that this worker reads from the store."""
    read = RowReader._read
    counter: list[int] = []

    def counted(self: RowReader, variants: Any) -> Any:
        counter.append(len(variants))
        return read(self, variants)

    RowReader._read = counted  # type: ignore[method-assign]
    source.rows_read = counter  # type: ignore[attr-defined]


def taken() -> int:
    """Return how many rows this worker has read since the last call."""
    counter: list[int] = source.rows_read  # type: ignore[attr-defined]
    total = sum(counter)
    counter.clear()
    return total


def shares(path: Path, room: float) -> tuple[list[float], str]:
    """Return the share read in each pass, and a digest of the last product, where each worker keeps `room` of all rows."""
    store = genotype_store(path)
    chosen = ChosenGenotypes.choose(store, np.arange(store.n_samples), cache_bytes=2**62)
    X = np.random.default_rng(1).standard_normal((store.n_samples, N_COLUMNS)).astype(np.float32)
    environment = {**processes.worker_environment(1), processes.CACHE_VARIABLE: str(int(room * chosen.n_bytes))}
    found = []
    with (
        patch.object(processes, "worker_environment", lambda _: environment),
        connect("local", workers=2, memory_bytes=10**9) as client,
    ):
        client.wait_for_workers(2)
        client.run(count_rows)
        operator = GenotypeOperator(standardise(chosen))
        client.run(taken)
        for _ in range(N_PASSES):
            Y = operator.matmat(X)
            found.append(sum(client.run(taken).values()) / store.n_variants)
    return found, hashlib.md5(Y.tobytes()).hexdigest()[:8]


def main() -> None:
    """Print a line for each amount of room."""
    for room in (0.55, 1.0):
        found, digest = shares(Path(sys.argv[1]), room)
        print(f"{room:.0%}", *(f"{x:.2f}" for x in found), digest)


if __name__ == "__main__":
    main()
