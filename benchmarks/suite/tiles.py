"""What `sgemm` reaches on the two products of a pass, with tiles that are filled already: the yardstick of a pass."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.standardised import PartitionTask, new_tile
from biolmm.linalg.blas import add_product
from suite.common import median, timed


def each_thread(pool: ThreadPoolExecutor, n_threads: int, work: Callable[[int], None]) -> None:
    """Run the work of every thread and wait for all."""
    list(pool.map(work, range(n_threads)))


def multiply_tiles(tasks: list[PartitionTask], n_threads: int, X: NDArray[np.float32]) -> Callable[[int], None]:
    """Return the products of every `n_threads`-th task as a pass does them, on one tile that is never refilled."""
    n, r = X.shape

    def work(thread: int) -> None:
        tile = new_tile(n)
        tile[:] = 0.5
        width = tile.shape[1]
        Y = np.zeros((n, r), np.float32)
        for task in tasks[thread::n_threads]:
            for start in range(0, len(task.tables), len(tile)):
                b = min(len(tile), len(task.tables) - start)
                W = np.zeros((b, r), np.float32)
                for left in range(0, n, width):
                    right = min(left + width, n)
                    add_product(W, tile[:b, : right - left], X[left:right])
                for left in range(0, n, width):
                    right = min(left + width, n)
                    add_product(Y[left:right], tile[:b, : right - left], W, transposed=True)

    return work


def tile_product_rate(operator: GenotypeOperator, r: int, n_threads: int, repetitions: int = 3) -> float:
    """Return the flop/s of those products over all tiles of an operator with r columns, median of some repetitions."""
    n = operator.n_samples
    X = np.random.default_rng(0).standard_normal((n, r), dtype=np.float32)
    tasks = list(operator.genotypes.tasks)
    enough = max(1, int(2**28 / (n * len(tasks[0].tables))))  # tiles are all alike: some tell as much as all
    tasks = tasks[: max(n_threads, enough)]
    variants = sum(len(task.tables) for task in tasks)
    with threadpool_limits(1), ThreadPoolExecutor(n_threads) as pool:
        work = multiply_tiles(tasks, n_threads, X)
        each_thread(pool, n_threads, work)
        wall = median([timed(lambda: each_thread(pool, n_threads, work)) for _ in range(repetitions)]).wall
    return 4.0 * n * variants * r / wall
