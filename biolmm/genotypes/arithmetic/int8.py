"""Products in whole numbers of eight bits, exact but for the rounding of what is multiplied: needs AVX-512 VNNI.

Legend: z = s (g − μ); genotypes are bytes u = f g with a whole factor f; columns are whole numbers q times a step.

    z x = s/f · step · (Σ u q − f μ Σ q)                  every sum a whole number, so that the mean cancels exactly
    zᵀ w = step' · (Σ u ω − Σ f μ ω),    ω = s/f · w as whole numbers, rounded for each block of variants

A missing call is at the mean, u = f μ + δ with |δ| ≤ ½. Where that δ matters, its products are taken off again, with columns
of one byte: they are small.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from biolmm.contigs import Ploidy
from biolmm.errors import ParameterError
from biolmm.files.encoding import Encoding, Rows
from biolmm.genotypes.arithmetic import int8_kernels as kernels
from biolmm.genotypes.arithmetic.float32 import Float32Operand
from biolmm.genotypes.arithmetic.packing import Packed, packed_columns
from biolmm.genotypes.arithmetic.protocol import Operand, Tasks
from biolmm.genotypes.arithmetic.vnni import (
    GROUP_BYTES,
    GROUP_SAMPLES,
    LANES,
    missing_features,
    sample_order,
    variant_order,
)
from biolmm.genotypes.source import RowReader
from biolmm.genotypes.standardised import PartitionTask

BLOCK_VARIANTS = 512
"""Variants between two visits to the result; a panel of 64 samples with them, 32 KiB, stays in the first cache."""
MISSING_ERROR = 1e-4
"""What missing calls may add to z, relative to z, in the root mean square of a block, before it is taken off again."""


@dataclass(frozen=True)
class Int8:
    """Bytes, for diploid calls; partitions of anything else are computed in single precision."""

    name: str = "int8"

    def operand(self, X: NDArray[np.float32]) -> Operand:
        """Round the columns to whole numbers of 16 bits, or of 24 where one of them has outliers.

        Columns that are not finite, or none, are multiplied in single precision: what is not finite stays so.

        Raises
        ------
        ParameterError
            When the processor has no such instructions.
        """
        check_processor()
        if X.size == 0 or not np.isfinite(X).all():
            return Float32Operand(np.ascontiguousarray(X, np.float32))
        ones = np.ones(len(X))
        return Int8Operand(len(X), packed_columns(np.ascontiguousarray(X.T), variant_order(len(X)), ones, ones))


def check_processor() -> None:
    """Raise an error that says what to do where this processor cannot multiply bytes.

    Raises
    ------
    ParameterError
        When it cannot.
    """
    if missing := missing_features():
        raise ParameterError(
            f"--precision int8 needs a processor with AVX-512 VNNI; this one has no {', '.join(missing)}: "
            "use --precision float32."
        )


@dataclass(frozen=True)
class Int8Operand:
    """Columns as whole numbers.

    Attributes
    ----------
    n_samples
        N.
    columns
        X.
    """

    n_samples: int
    columns: Packed

    def product(self, tasks: Tasks, reader: RowReader, left_out: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """Return `Σ_p Z_pᵀ Z_p X`, (N, r); 4·N·M·r operations for each plane."""
        check_processor()
        r = self.columns.n_columns
        panels = np.zeros((4 * -(-self.n_samples // GROUP_SAMPLES), r, LANES), np.float32)
        others = []
        for task in tasks:
            if not _is_plain(task, reader):
                others.append(task)
                continue
            absent = np.zeros(r, bool) if left_out is None else left_out == task.partition.contig
            for where, rows in reader.blocks(task.partition):
                self._add_rows(panels, np.ascontiguousarray(rows), task[where], absent)
        rows_of = panels.reshape(-1, r)
        kernels.put_in_order(panels, sample_order(), rows_of)
        total = rows_of[: self.n_samples]
        if others:
            total += Float32Operand(self.rounded).product(others, reader, left_out)
        return total

    def _add_rows(self, Y: NDArray[np.float32], rows: Rows, task: PartitionTask, absent: NDArray[np.bool_]) -> None:
        """Cut rows into blocks of about equal size and add the product of each."""
        n_blocks = -(-len(rows) // BLOCK_VARIANTS)
        step = -(-len(rows) // (n_blocks * LANES)) * LANES
        for start in range(0, len(rows), step):
            where = slice(start, start + step)
            block = _Block.of(rows[where], task.scaling.mean[where], task.scaling.scale[where], self.n_samples)
            block.add_product(Y, self, absent)

    @cached_property
    def rounded(self) -> NDArray[np.float32]:
        """The columns as they were rounded, (N, r)."""
        X = self.columns
        out = np.empty((self.n_samples, X.n_columns), np.float32)
        kernels.unpack_columns(X.bytes, variant_order(self.n_samples), X.steps, X.n_planes, X.starts, out)
        return out

    @cached_property
    def coarse(self) -> Packed:
        """The columns in one plane."""
        ones = np.ones(self.n_samples)
        values = np.ascontiguousarray(self.rounded.T)
        return packed_columns(values, variant_order(self.n_samples), ones, ones, n_planes=1)


@dataclass(frozen=True)
class _Block:
    """Rows with their maps; everything by variant is padded to whole panels.

    Attributes
    ----------
    rows, ends
        (b, n_bytes) packed, and (b, 64) the last, incomplete group of each.
    addresses
        (2, B) of both.
    codes, factor, off
        (B, 4), (B,), (B,) the byte of every call, f, and δ of a missing one.
    missing_error
        Root mean square of what δ adds to z, relative to z.
    mean, scale
        (B,).
    """

    rows: Rows
    ends: NDArray[np.uint8]
    addresses: NDArray[np.int64]
    codes: NDArray[np.uint8]
    factor: NDArray[np.float64]
    off: NDArray[np.float64]
    missing_error: float
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Rows, mean: NDArray[np.float64], scale: NDArray[np.float64], n_samples: int) -> _Block:
        b = len(rows)
        padded = -(-b // LANES) * LANES
        codes, factor, off = np.empty((padded, 4), np.uint8), np.empty(padded), np.empty(padded)
        square = kernels.choose_codes(rows.view(np.uint64), n_samples, mean, scale, codes, factor, off)
        ends = np.zeros((b, GROUP_BYTES), np.uint8)
        rest = rows.shape[1] % GROUP_BYTES
        ends[:, :rest] = rows[:, rows.shape[1] - rest :]
        addresses = np.empty((2, padded), np.int64)
        kernels.row_addresses(rows, addresses[0])
        kernels.row_addresses(ends, addresses[1])
        mean, scale = (np.pad(values, (0, padded - b)) for values in (mean, scale))
        return cls(rows, ends, addresses, codes, factor, off, float(np.sqrt(square)), mean, scale)

    def add_product(self, Y: NDArray[np.float32], operand: Int8Operand, absent: NDArray[np.bool_]) -> None:
        """Add `ZᵀZ X` to Y, (panels, r, 64)."""
        X = operand.columns
        W = self._multiplied(self.codes, X)
        corrected = self.missing_error > MISSING_ERROR
        if corrected:
            coarser = np.divide(operand.coarse.steps, X.steps, out=np.zeros_like(X.steps), where=X.steps > 0)
            W -= self._multiplied(self._missing, operand.coarse) * coarser[:, None] * self.off
        kernels.standardise(W, X.sums, X.steps, self.mean, self.scale, self.factor, absent)
        importance = self.factor**2 * self.mean * (1 - self.mean / 2)
        self._add_transposed(Y, self.codes, W, importance, self.factor * self.mean)
        if corrected:
            self._add_transposed(Y, self._missing, -W * self.off, importance, np.zeros(len(self.mean)), n_planes=1)

    @property
    def _missing(self) -> NDArray[np.uint8]:
        """Codes that tell missing calls from the others."""
        return np.tile(np.array([0, 0, 0, 1], np.uint8), (len(self.codes), 1))

    def _multiplied(self, codes: NDArray[np.uint8], X: Packed) -> NDArray[np.float64]:
        W = np.empty((X.n_columns, len(codes)))
        kernels.multiply(self.rows, self.ends, self.addresses, codes, X.bytes, X.starts, X.n_planes, W)
        return W

    def _add_transposed(
        self,
        Y: NDArray[np.float32],
        codes: NDArray[np.uint8],
        W: NDArray[np.float64],
        importance: NDArray[np.float64],
        weights: NDArray[np.float64],
        n_planes: int | None = None,
    ) -> None:
        V = packed_columns(W.astype(np.float32), np.arange(-(-len(self.rows) // 4) * 4), importance, weights, n_planes)
        kernels.add_transposed(
            self.rows, self.ends, self.addresses, codes, V.bytes, V.starts, V.n_planes, V.steps, V.sums, Y
        )


def _is_plain(task: PartitionTask, reader: RowReader) -> bool:
    """Whether a partition holds calls that count 0, 1 and 2 in everybody."""
    diploid = task.partition.ploidy == Ploidy.DIPLOID and task.male_tables is None
    return diploid and reader.encoding is Encoding.CALLS
