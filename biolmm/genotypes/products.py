"""Products with Z on one side: what a vector over samples is over variants, and back.

Legend: N samples, M variants, r columns; Z (M, N) standardised genotypes; X, Y (N, r); W (M, r).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import map_tasks, n_threads, sum_tasks
from biolmm.genotypes.scaling import Scaling
from biolmm.genotypes.source import ChosenGenotypes, RowReader
from biolmm.genotypes.standardised import PartitionTask, StandardisedGenotypes, new_tile, partition_task, read_blocks
from biolmm.linalg.blas import add_product

PANEL_BYTES = 2**30
"""Memory of the partial sums over variants; more columns are taken in several passes."""


def with_scaling(source: ChosenGenotypes, scaling: Scaling) -> StandardisedGenotypes:
    """Standardise genotypes by given maps, for example those of another cohort; nothing is read.

    Parameters
    ----------
    source
        Samples and variants.
    scaling
        (M,) a map a variant, in the order of `source.variants`.
    """
    tasks, stop = [], 0
    for partition in source.partitions:
        start, stop = stop, stop + len(partition.variants)
        tasks.append(partition_task(partition, scaling[start:stop], source.reader.coding))
    return StandardisedGenotypes(source, scaling, tuple(tasks), {})


def variant_products(genotypes: StandardisedGenotypes, X: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return `Z X`, (M, r), rows in the order of `genotypes.source.variants`.

    Notes
    -----
    **Cost**: one pass, 2·N·M·r flop; the result is held whole.
    """
    shared = (genotypes.source.reader, np.ascontiguousarray(X, np.float32))
    parts = map_tasks(_variant_products, genotypes.tasks, shared)
    return np.concatenate([np.zeros((0, X.shape[1]), np.float32), *parts])


def sample_products(genotypes: StandardisedGenotypes, W: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return `Zᵀ W`, (N, r): the sum over variants of each sample's standardised genotypes times the weights.

    Parameters
    ----------
    genotypes
        Z.
    W
        (M, r) rows in the order of `genotypes.source.variants`.

    Notes
    -----
    **Cost**: one pass, 2·N·M·r flop, more passes where the partial sums take more than 1 GiB. Single precision within
    a partition, double between them.
    """
    n_samples, n_columns = genotypes.source.n_samples, W.shape[1]
    Y = np.zeros((n_samples, n_columns))
    if not genotypes.tasks:
        return Y
    width = max(1, PANEL_BYTES // (8 * max(n_samples, 1) * (n_threads() + 4)))
    for left in range(0, n_columns, width):
        items, stop = [], 0
        for task in genotypes.tasks:
            start, stop = stop, stop + len(task.partition.variants)
            items.append(_Weighted(task, np.ascontiguousarray(W[start:stop, left : left + width], np.float32)))
        Y[:, left : left + width] = sum_tasks(_sample_products, items, genotypes.source.reader)
    return Y


@dataclass(frozen=True)
class _Weighted:
    """A partition and the weights of its variants."""

    task: PartitionTask
    W: NDArray[np.float32]


def _variant_products(task: PartitionTask, shared: tuple[RowReader, NDArray[np.float32]]) -> NDArray[np.float32]:
    reader, X = shared
    tile = new_tile(reader.n_samples)
    parts = [block.product(X, tile) for block in read_blocks(reader, task, tile)]
    return np.concatenate([np.zeros((0, X.shape[1]), np.float32), *parts])


def _sample_products(item: _Weighted, reader: RowReader) -> NDArray[np.float64]:
    N = reader.n_samples
    Y = np.zeros((N, item.W.shape[1]), np.float32)
    tile = new_tile(N)
    width = tile.shape[1]
    stop = 0
    for block in read_blocks(reader, item.task, tile):
        start, stop = stop, stop + len(block)
        for left in range(0, N, width):
            right = min(left + width, N)
            view = np.asarray(block.unpacked(tile, left, right), dtype=np.float32)
            add_product(Y[left:right], view, item.W[start:stop], transposed=True)
    return Y.astype(np.float64)
