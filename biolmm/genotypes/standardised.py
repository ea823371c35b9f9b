"""Packed genotypes with their standardisation: what the operator and the scan read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import map_tasks
from biolmm.genotypes.kernels import count_masked, pack_masks, unpack_into
from biolmm.genotypes.scaling import Scale, Scaling, scaling_from_counts
from biolmm.genotypes.source import PackedGenotypes, Partition, RowReader
from biolmm.linalg.blas import add_product

TILE_BYTES = 10 * 2**20
FULL_WIDTH_SAMPLES = 24_576
"""Up to this many samples a tile of whole rows stays in cache between two products and is unpacked once."""
SQUARE_TILE = 1024
"""Side of the tile of larger cohorts: unpacked twice, which is cheaper than a trip to memory."""


@dataclass(frozen=True)
class PartitionTask:
    """One partition and the standardised values (b, 4) of its calls."""

    partition: Partition
    tables: NDArray[np.float32]


@dataclass(frozen=True)
class StandardisedGenotypes:
    """Z: packed rows, the affine map of every variant, and the tasks that one pass consists of."""

    source: PackedGenotypes
    scaling: Scaling
    tasks: tuple[PartitionTask, ...]


def standardise(source: PackedGenotypes, alpha: float = -1.0, scale: Scale = "hwe") -> StandardisedGenotypes:
    """Estimate frequencies on the cohort and set up the tasks of a pass.

    Notes
    -----
    Cost: nothing when the cohort is the whole store, whose counts were made while converting; otherwise one quick
    pass that counts packed calls.
    """
    scaling = scaling_from_counts(_count(source), source.n_samples, alpha, scale)
    tables = scaling.tables.astype(np.float32)
    tasks, stop = [], 0
    for partition in source.partitions:
        start, stop = stop, stop + len(partition.variants)
        tasks.append(PartitionTask(partition, tables[start:stop]))
    return StandardisedGenotypes(source, scaling, tuple(tasks))


def _count(source: PackedGenotypes) -> NDArray[np.int32]:
    """Return heterozygotes, ALT homozygotes and missing calls of every chosen variant over the cohort, (M, 3)."""
    store = source.store
    if source.reader.is_whole:
        chosen = source.variants
        het, missing = store.het_count[chosen], store.missing_count[chosen]
        return np.stack([het, (store.alt_count[chosen] - het) // 2, missing], axis=1)
    masks = pack_masks(np.ones((1, source.n_samples), dtype=bool))
    parts = map_tasks(_count_partition, source.partitions, (source.reader, masks))
    return np.concatenate(parts) if parts else np.zeros((0, 3), np.int32)


def _count_partition(partition: Partition, shared: tuple[RowReader, NDArray[np.uint64]]) -> NDArray[np.int32]:
    reader, masks = shared
    return np.asarray(count_masked(reader.rows(partition), masks)[:, 0])


def new_tile(n_samples: int) -> NDArray[np.float32]:
    """Allocate the tile that `unpacked` and `product` work in, (variants, samples)."""
    if n_samples > FULL_WIDTH_SAMPLES:
        return np.empty((SQUARE_TILE, SQUARE_TILE), np.float32)
    n_variants = int(np.clip(TILE_BYTES // (4 * n_samples) // 32 * 32, 64, 512))
    return np.empty((n_variants, n_samples), np.float32)


def row_blocks(
    packed: NDArray[np.uint8], tables: NDArray[np.float32], tile: NDArray[np.float32]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Cut packed rows and their tables into blocks that fit the tile."""
    for start in range(0, len(packed), len(tile)):
        yield packed[start : start + len(tile)], tables[start : start + len(tile)]


def unpacked(
    packed: NDArray[np.uint8], tables: NDArray[np.float32], tile: NDArray[np.float32], left: int, right: int
) -> NDArray[np.float32]:
    """Standardise samples left:right of some rows into the tile, (b, right − left); `left` is a multiple of 4."""
    view = tile[: len(packed), : right - left]
    unpack_into(packed[:, left // 4 : (right + 3) // 4], tables, view)
    return view


def product(
    packed: NDArray[np.uint8], tables: NDArray[np.float32], X: NDArray[np.float32], tile: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return `Z_b X`, (b, r), for one block of rows; a tile that holds whole rows is left filled."""
    N, width = X.shape[0], tile.shape[1]
    W = np.empty((len(packed), X.shape[1]), np.float32)
    for left in range(0, N, width):
        right = min(left + width, N)
        view = unpacked(packed, tables, tile, left, right)
        if left == 0:
            np.matmul(view, X[left:right], out=W)
        else:
            add_product(W, view, X[left:right])
    return W


def sums_of_squares(
    counts: NDArray[np.int32], n_observed: NDArray[np.int64], tables: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return `Σᵢ Dᵢᵢ zᵢ²`, (b, k), from the counts (b, k, 3) of each variant under each mask."""
    het, hom, missing = (counts[:, :, i].astype(np.float64) for i in range(3))
    ref = n_observed - het - hom - missing
    squares = tables**2
    return np.asarray(ref * squares[:, 0:1] + het * squares[:, 1:2] + hom * squares[:, 2:3])
