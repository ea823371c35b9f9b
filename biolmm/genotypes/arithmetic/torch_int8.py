"""Products in 8-bit whole numbers by PyTorch on a processor: for those that `int8` has no instructions for.

Legend: z = s (g − μ); genotypes are signed bytes t = f g − 127 with a whole factor f; x = step · q, a whole number of 16 or
24 bits in two or three signed bytes.

    z x  = s/f · step · (Σ t q + (127 − f μ) Σ q)        every sum a whole number, so that the mean cancels exactly
    zᵀ w = step' · (Σ t ω + Σ (127 − f μ) ω),            step' ω ≈ s/f · w, rounded for each block of variants

A missing call is at the mean, t = f μ − 127 + δ; as in `int8`, the products of δ are taken off again where they matter, with
columns of one byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from biolmm.contigs import Ploidy
from biolmm.files.encoding import SAMPLES_PER_WORD, Encoding, Rows
from biolmm.genotypes.arithmetic import plane_kernels as kernels
from biolmm.genotypes.arithmetic.float32 import Float32Operand
from biolmm.genotypes.arithmetic.int8 import MISSING_ERROR
from biolmm.genotypes.arithmetic.int8_kernels import choose_codes
from biolmm.genotypes.arithmetic.protocol import Tasks
from biolmm.genotypes.arithmetic.torch_library import Tensor, check_bytes, load_torch
from biolmm.genotypes.scaling import Scaling
from biolmm.genotypes.source import RowReader
from biolmm.genotypes.standardised import PartitionTask, new_tile

TILE_SAMPLES = 8_192
"""Samples multiplied at a time: |Σ t q| ≤ 8,192 · 127 · 128 fits in 32 bits, and the sums of hundreds of columns in cache."""
HELD_SAMPLES = 32_768
"""Up to this many samples a block is unpacked once for both products."""
TILE_BYTES = 10 * 2**20
MAX_VARIANTS, MIN_VARIANTS = 1024, 256
"""Variants of a block: many, since every block visits the whole result, but the tile stays in the last cache."""
LARGEST = {1: 127, 2: 32_639, 3: 8_355_711}
"""The largest whole number of so many signed bytes: 127, 127 · 256 + 127, 127 · 65,536 + 127 · 256 + 127."""
MAX_RANGE = 8.0
"""A column whose largest value is further above its root mean square takes a third byte: two would be off by more than
8/(32,639·√12) = 7e-5 of it."""
MIDDLE = 127


@dataclass(frozen=True)
class Digits:
    """Columns as whole numbers, `value ≈ step · q`.

    Attributes
    ----------
    parts
        Signed bytes, (n, D·r) for every tile of samples, the highest in the first r columns.
    n_digits
        D.
    steps, sums
        (r,) the step and Σ q of each column.
    """

    parts: tuple[NDArray[np.int8], ...]
    n_digits: int
    steps: NDArray[np.float64]
    sums: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        values: NDArray[np.floating],
        orders: list[NDArray[np.int64]],
        weight: NDArray[np.float64],
        n_digits: int | None = None,
    ) -> Digits:
        """Round columns (n, r), their rows in the orders of the tiles.

        `weight`, (n,), says how much the error of each row matters, for the choice of digits where none is given.
        """
        r = values.shape[1]
        largest, mean_square = np.empty(r), np.empty(r)
        kernels.column_ranges(values, weight, largest, mean_square)
        # A column that needs two digits leaves the first empty: what it is rounded to does not depend on the others.
        needed = np.full(r, n_digits or 2)
        if n_digits is None:
            needed[largest**2 > MAX_RANGE**2 * mean_square] = 3
            n_digits = int(needed.max(initial=2))
        steps = largest / np.array([LARGEST[digits] for digits in needed.tolist()])
        sums, parts = np.zeros(r), []
        for order in orders:
            digits = np.empty((len(order), n_digits * r), np.int8)
            kernels.split_digits(values, order, steps, n_digits, digits, sums)
            parts.append(digits)
        return cls(tuple(parts), n_digits, steps, sums)

    def whole_numbers(self, part: int = 0) -> NDArray[np.float64]:
        """Put the digits of one tile together, (n, r)."""
        digits = self.parts[part].reshape(-1, self.n_digits, len(self.steps))
        powers = 256.0 ** np.arange(self.n_digits - 1, -1, -1)
        return np.asarray(np.einsum("ndr,d->nr", digits, powers))


@dataclass(frozen=True)
class TorchInt8Operand:
    """A block of columns for products of bytes.

    Attributes
    ----------
    X
        (N, r).
    """

    X: NDArray[np.float32]

    @cached_property
    def digits(self) -> Digits:
        """X rounded, its rows in the order of the tiles."""
        return self._rounded(None)

    @cached_property
    def coarse(self) -> Digits:
        """X rounded to one byte."""
        return self._rounded(1)

    def _rounded(self, n_digits: int | None) -> Digits:
        N = len(self.X)
        return Digits.of(self.X, [plane_order(first, stop) for first, stop in tiles(N)], np.ones(N), n_digits)

    def product(self, tasks: Tasks, reader: RowReader, left_out: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """Return `Σ_p Z_pᵀ Z_p X`, (N, r); 4·N·M·r operations for each byte of a number.

        Raises
        ------
        ParameterError
            When PyTorch is not there, or not exact on this processor.
        """
        check_bytes()
        Y = np.zeros(self.X.shape, np.float32)
        if Y.size == 0:
            return Y
        workplace = _Workplace(self, Y)
        for task in tasks:
            absent = None if left_out is None else left_out == task.partition.contig
            if not is_plain(task, reader):
                Float32Operand(self.X).add_partition(Y, task, reader, absent, new_tile(len(Y)))
            elif absent is None or not absent.all():
                for where, rows in reader.blocks(task.partition):
                    workplace.add_rows(rows, task.scaling[where], absent)
        return Y


def is_plain(task: PartitionTask, reader: RowReader) -> bool:
    """Whether a partition holds calls that count 0, 1 and 2 in everybody."""
    diploid = task.partition.ploidy == Ploidy.DIPLOID and task.male_tables is None
    return diploid and reader.encoding is Encoding.CALLS


def tiles(n_samples: int) -> Iterator[tuple[int, int]]:
    """Cut samples into tiles: where each begins and ends."""
    for first in range(0, n_samples, TILE_SAMPLES):
        yield first, min(first + TILE_SAMPLES, n_samples)


def plane_order(first: int, stop: int) -> NDArray[np.int64]:
    """Return which sample sits in each column of a tile that `unpack_planes` writes; −1 in the padding.

    Examples
    --------
    >>> plane_order(0, 33)[[0, 1, 8, 9, 16]].tolist(), len(plane_order(0, 33))
    ([0, 4, 32, -1, 1], 64)
    """
    n = -(-(stop - first) // SAMPLES_PER_WORD) * SAMPLES_PER_WORD
    order = first + np.arange(n).reshape(-1, 4).T.ravel()
    return np.where(order < stop, order, -1)


class _Workplace:
    """What the blocks of one call share: the columns, the result, and memory that is used again."""

    def __init__(self, operand: TorchInt8Operand, Y: NDArray[np.float32]) -> None:
        self.torch = load_torch()
        self.operand, self.Y = operand, Y
        self.tiles = list(tiles(len(Y)))
        widths = [len(part) for part in operand.digits.parts]
        self.held = len(Y) <= HELD_SAMPLES
        self.edges = np.cumsum([0, *widths]) if self.held else np.repeat([0, max(widths)], [len(widths), 1])
        self.n_variants = int(np.clip(TILE_BYTES // self.edges[-1] // 32 * 32, MIN_VARIANTS, MAX_VARIANTS))
        self.memory: dict[str, NDArray[np.uint8]] = {}
        self.sums = self.torch.empty(0, dtype=self.torch.int32)

    def add_rows(self, rows: Rows, scaling: Scaling, absent: NDArray[np.bool_] | None) -> None:
        """Cut rows into blocks of about equal size and add the products of each."""
        n_blocks = -(-len(rows) // self.n_variants)
        edges = np.linspace(0, len(rows), n_blocks + 1).astype(int)
        for start, stop in pairwise(edges):
            self._add_block(np.ascontiguousarray(rows[start:stop]), scaling[start:stop], absent)

    def _add_block(self, rows: NDArray[np.uint8], scaling: Scaling, absent: NDArray[np.bool_] | None) -> None:
        b, X, coarse = len(rows), self.operand.digits, self.operand.coarse
        codes, factor, off = np.empty((b, 4), np.uint8), np.empty(b), np.empty(b)
        square = choose_codes(rows.view(np.uint64), len(self.Y), scaling.mean, scaling.scale, codes, factor, off)
        codes -= np.uint8(MIDDLE)  # modulo 256: what signed bytes make of it
        marks = np.tile(np.array([0, 0, 0, 1], np.uint8), (b, 1)) if square > MISSING_ERROR**2 else None
        slope, offset = scaling.scale / factor, MIDDLE - factor * scaling.mean
        W = self._multiplied("codes", rows, codes, X) + offset[:, None] * X.sums
        W *= X.steps
        if marks is not None:
            W -= off[:, None] * self._multiplied("marks", rows, marks, coarse) * coarse.steps
        W *= (slope**2)[:, None]
        if absent is not None:
            W[:, absent] = 0.0
        spread = factor**2 * scaling.mean * (1 - scaling.mean / 2)
        whole = [np.arange(b)]
        self._add_transposed("codes", rows, codes, Digits.of(W, whole, spread), offset)
        if marks is not None:
            self._add_transposed("marks", rows, marks, Digits.of(-off[:, None] * W, whole, spread, 1), np.zeros(b))

    def _multiplied(
        self, what: str, rows: NDArray[np.uint8], codes: NDArray[np.uint8], columns: Digits
    ) -> NDArray[np.float64]:
        """Return `Σ t q`, (b, r)."""
        W = np.zeros((len(rows), len(columns.steps)))
        for k, part in enumerate(columns.parts):
            tile = self.torch.from_numpy(self._unpacked(what, rows, codes, k))
            products = self._int_mm(tile, self.torch.from_numpy(part))
            kernels.join_digits(products, columns.n_digits, W)
        return W

    def _add_transposed(
        self,
        what: str,
        rows: NDArray[np.uint8],
        codes: NDArray[np.uint8],
        weights: Digits,
        offset: NDArray[np.float64],
    ) -> None:
        """Add `step (Σ t ω + Σ offset ω)` to the result; tiles that are held are there already."""
        right = self.torch.from_numpy(weights.parts[0])
        shift = (offset @ weights.whole_numbers()).astype(np.float32)
        steps = weights.steps.astype(np.float32)
        for k, (first, stop) in enumerate(self.tiles):
            tile = self._tile(what, len(rows), k) if self.held else self._unpacked(what, rows, codes, k)
            products = self._int_mm(self.torch.from_numpy(tile).t(), right)
            kernels.add_planes(products, weights.n_digits, steps, shift, first, self.Y[:stop])

    def _unpacked(self, what: str, rows: NDArray[np.uint8], codes: NDArray[np.uint8], k: int) -> NDArray[np.int8]:
        """Write the bytes of one tile of samples, (b, 4n)."""
        first, tile = self.tiles[k][0] // 4, self._tile(what, len(rows), k)
        width = tile.shape[1] // 4
        kernels.unpack_planes(rows[:, first : first + width], codes, tile.view(np.uint8))
        return tile

    def _tile(self, what: str, n_variants: int, k: int) -> NDArray[np.int8]:
        """Return the memory of one tile, as it was left."""
        width = len(self.operand.digits.parts[k])
        size = n_variants * int(self.edges[-1])
        if len(self.memory.get(what, ())) < size:
            self.memory[what] = np.empty(size, np.uint8)
        start = n_variants * int(self.edges[k])
        return self.memory[what][start : start + n_variants * width].view(np.int8).reshape(n_variants, width)

    def _int_mm(self, left: Tensor, right: Tensor) -> NDArray[np.int32]:
        """Return a product of bytes, until the next one is asked for."""
        shape = (left.shape[0], right.shape[1])
        if len(self.sums) < shape[0] * shape[1]:
            self.sums = self.torch.empty(shape[0] * shape[1], dtype=self.torch.int32)
        found: NDArray[np.int32] = self.torch._int_mm(
            left, right, out=self.sums[: shape[0] * shape[1]].view(shape)
        ).numpy()
        return found
