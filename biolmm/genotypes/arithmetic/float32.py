"""Products in single precision: tiles are unpacked, standardised and given to BLAS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.arithmetic.protocol import Tasks
from biolmm.genotypes.source import RowReader
from biolmm.genotypes.standardised import PartitionTask, new_tile, read_blocks
from biolmm.linalg.blas import add_product


@dataclass(frozen=True)
class Float32:
    """Single precision: what every processor has."""

    name: str = "float32"

    def operand(self, X: NDArray[np.float32]) -> Float32Operand:
        """Take the columns as they are."""
        return Float32Operand(np.ascontiguousarray(X, np.float32))


@dataclass(frozen=True)
class Float32Operand:
    """Columns in single precision.

    Attributes
    ----------
    X
        (N, r).
    """

    X: NDArray[np.float32]

    def product(self, tasks: Tasks, reader: RowReader, left_out: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """Return `Σ_p Z_pᵀ Z_p X`, (N, r); 4·N·M·r flop."""
        Y = np.zeros(self.X.shape, np.float32)
        tile = new_tile(len(Y))
        for task in tasks:
            self.add_partition(Y, task, reader, None if left_out is None else left_out == task.partition.contig, tile)
        return Y

    def add_partition(
        self,
        Y: NDArray[np.float32],
        task: PartitionTask,
        reader: RowReader,
        absent: NDArray[np.bool_] | None,
        tile: NDArray[np.float32],
    ) -> None:
        """Add `Z_pᵀ Z_p X` to Y except in the columns `absent`, (r,)."""
        N, width = len(Y), tile.shape[1]
        for block in read_blocks(reader, task, tile):
            W = block.product(self.X, tile)
            if absent is not None:
                W[:, absent] = 0.0
            for left in range(0, N, width):
                right = min(left + width, N)
                # A tile that holds whole rows still does.
                view = tile[: len(block), :N] if width == N else block.unpacked(tile, left, right)
                add_product(Y[left:right], view, W, transposed=True)
