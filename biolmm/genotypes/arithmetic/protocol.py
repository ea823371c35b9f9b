"""The seam of a pass: who multiplies packed genotypes with a block of columns, and in which numbers.

Legend: N samples, r columns; Z_p (b, N) standardised genotypes of a partition; X (N, r).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.source import RowReader
from biolmm.genotypes.standardised import PartitionTask

Tasks = Sequence[PartitionTask]


class Operand(Protocol):
    """A block of columns as an arithmetic wants it: prepared once a pass, sent to every worker, shared by its threads."""

    def product(self, tasks: Tasks, reader: RowReader, left_out: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """Return `Σ_p Z_pᵀ Z_p X` over partitions, (N, r).

        Parameters
        ----------
        tasks
            The partitions.
        reader
            Reads their rows.
        left_out
            (r,) contig that each column leaves out, −1 for none: the partitions of that contig add nothing to it.
        """


class Arithmetic(Protocol):
    """How products of a pass are computed; small, and pickled with the operand where there are workers."""

    @property
    def name(self) -> str:
        """What records and keys call it: results of different arithmetics are never mixed."""

    def operand(self, X: NDArray[np.float32]) -> Operand:
        """Prepare the columns X, (N, r), for one pass."""
