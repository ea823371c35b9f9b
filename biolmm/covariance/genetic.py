"""Relatedness by sets of variants: many matrices from one reading of the genotypes.

Legend: N samples, M variants, B bins, r columns; Z (M, N) standardised genotypes; X, Y (N, r);
K_b = Zᵀ diag(w_b) Z / m_b with w_b ≥ 0 the weights of bin b, 0 or 1 in most cases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import n_threads, sum_tasks
from biolmm.covariance.dominance import dominance_tables, standardise_bent
from biolmm.errors import ParameterError
from biolmm.files.encoding import Encoding
from biolmm.genotypes.operator import GRAM_VARIANTS, MAX_GROUP_BYTES, MIN_GROUP_BYTES, N_GROUPS, PassCounter
from biolmm.genotypes.source import RowReader
from biolmm.genotypes.standardised import CodedRows, PartitionTask, StandardisedGenotypes, new_tile, read_blocks
from biolmm.linalg.blas import add_product
from biolmm.store.checkpoint import Resuming

Code = Literal["additive", "dominance"]


@dataclass(frozen=True)
class Output:
    """One block of columns that a pass adds up: `Zᵀ diag(weights[:, bins] @ coefficients) Z X[:, columns]`.

    Attributes
    ----------
    code
        How genotypes are coded.
    columns
        Columns of X.
    bins
        Bins that take part.
    coefficients
        (len(bins), r) what each column of X weighs each bin with.
    """

    code: Code
    columns: slice
    bins: NDArray[np.intp]
    coefficients: NDArray[np.float32]

    @property
    def parts(self) -> tuple[Any, ...]:
        """Everything that it depends on, one by one, to be hashed."""
        return self.code, [self.columns.start, self.columns.stop, self.columns.step], self.bins, self.coefficients


class GenotypePanel(Resuming):
    """Genotypes and sets of their variants, whose relatedness matrices share every pass.

    Parameters
    ----------
    genotypes
        Z: the model's variants on the cohort's samples.
    panel_bytes
        Memory granted to the partial results of one pass; wider blocks are cut into several passes.

    Notes
    -----
    **Cost** of a pass: every row is read and unpacked once, twice where there is dominance; 2·N·M flop a column of X and
    2·N flop a column and a variant's bin. Weights take 4·M bytes a bin.
    """

    def __init__(self, genotypes: StandardisedGenotypes, *, panel_bytes: int = 2**30) -> None:
        self.genotypes = genotypes
        self.counter = PassCounter()
        self.panel_bytes = panel_bytes
        self._weights: list[NDArray[np.float32]] = []
        self._stacked = np.empty((0, 0), np.float32)
        self._diagonals: dict[tuple[Code, int], NDArray[np.float64]] = {}

    @property
    def n_samples(self) -> int:
        """N."""
        return self.genotypes.source.n_samples

    @property
    def n_variants(self) -> int:
        """M, in the order of the partitions."""
        return self.genotypes.source.n_variants

    @property
    def weights(self) -> NDArray[np.float32]:
        """(M, B) weights of all bins."""
        if self._stacked.shape[1] != len(self._weights):
            self._stacked = np.column_stack(self._weights)
        return self._stacked

    def kernel(self, weights: NDArray[np.floating] | None = None, code: Code = "additive") -> GenotypeKernel:
        """Return the relatedness by some variants, with weights of at least 0, all of them alike by default.

        Raises
        ------
        ParameterError
            When there are too many or too few weights, or one is negative or not finite.
        """
        given = np.ones(self.n_variants) if weights is None else np.asarray(weights, dtype=np.float64)
        if given.shape != (self.n_variants,) or not np.isfinite(given).all() or (given < 0).any():
            raise ParameterError(
                f"weights of shape {given.shape} were given for {self.n_variants:,} variants: each needs a finite weight of "
                "at least 0."
            )
        single = given.astype(np.float32)
        for index, known in enumerate(self._weights):
            if np.array_equal(known, single):
                return GenotypeKernel(self, index, code)
        self._weights.append(single)
        return GenotypeKernel(self, len(self._weights) - 1, code)

    def size(self, code: Code, index: int) -> float:
        """Return m of a bin: the sum of its variants' expected variances."""
        scaling = self.genotypes.scaling
        expected = scaling.weight if code == "additive" else (scaling.scale > 0).astype(np.float64)
        return float(self._weights[index].astype(np.float64) @ expected)

    def run(self, X: NDArray[np.float32], outputs: Sequence[Output]) -> NDArray[np.float32]:
        """Add up all outputs in one pass, side by side, (N, Σ r); none of them divided by m."""
        shared = _Shared(self._reader, np.ascontiguousarray(X, np.float32), self.weights, tuple(outputs))

        def compute() -> NDArray[np.float32]:
            total = sum_tasks(_pass, self._groups(), shared)
            self._spent(2.0 * X.shape[1] + 2.0 * total.shape[1])
            return total

        Y = self._kept("outputs", compute, shared.X, self.weights, *(part for each in outputs for part in each.parts))
        places = np.argsort(np.argsort([output.code for output in outputs], kind="stable"), kind="stable")
        edges = np.concatenate([[0], np.cumsum([o.coefficients.shape[1] for o in shared.ordered])])
        if np.array_equal(places, np.arange(len(outputs))):
            return np.asarray(Y)
        return np.concatenate([Y[:, edges[place] : edges[place + 1]] for place in places], axis=1)

    def column_panels(self, n_columns: int, held_columns: int) -> list[slice]:
        """Cut columns so that a pass that holds `held_columns` a column of X stays within `panel_bytes`."""
        width = max(4, int(self.panel_bytes // ((n_threads() + 4) * self.n_samples * 4 * max(held_columns, 1))))
        edges = np.linspace(0, n_columns, max(1, -(-n_columns // width)) + 1).astype(int)
        return [slice(int(a), int(b)) for a, b in pairwise(edges)]

    def diagonal(self, code: Code, index: int) -> NDArray[np.float64]:
        """Return the diagonal of a bin's matrix, divided by m, (N,); those of all bins are computed in the same pass."""
        if (code, index) not in self._diagonals:
            shared = _Shared(self._reader, np.empty((self.n_samples, 0), np.float32), self.weights, (), code)

            def compute() -> NDArray[np.float64]:
                self._spent(2.0 * len(self._weights))
                return np.asarray(sum_tasks(_squares, self._groups(), shared))

            found = self._kept("diagonals", compute, self.weights, code)
            for each in range(len(self._weights)):
                self._diagonals[code, each] = found[:, each] / max(self.size(code, each), 1e-300)
        return self._diagonals[code, index]

    def dense(self, code: Code, index: int) -> NDArray[np.float64]:
        """Return a bin's matrix, divided by m, (N, N): float32 tiles added in float64; one pass."""
        weights = self._weights[index][:, None]
        shared = _Shared(self._reader, np.empty((self.n_samples, 0), np.float32), weights, (), code)

        def compute() -> NDArray[np.float64]:
            self._spent(float(self.n_samples))
            return np.asarray(sum_tasks(_gram, self._items(), shared))

        return self._kept("dense", compute, weights, code) / max(self.size(code, index), 1e-300)

    def _kept(self, name: str, compute: Callable[[], NDArray[Any]], *inputs: Any) -> NDArray[Any]:
        """Compute, or take from the checkpoint what an earlier process computed of the same inputs by that name."""
        if self._checkpoint is None:
            return compute()
        return self._checkpoint.product(name, (self._reader.key, *inputs), compute)

    @property
    def _reader(self) -> RowReader:
        return self.genotypes.source.reader

    def _items(self) -> list[_Item]:
        starts = np.cumsum([0, *(len(task.partition.variants) for task in self.genotypes.tasks)])
        return [_Item(task, int(start)) for task, start in zip(self.genotypes.tasks, starts[:-1], strict=True)]

    def _groups(self) -> list[tuple[_Item, ...]]:
        """Group neighbouring partitions, so that a pass adds up few partial results; by the data alone."""
        items = self._items()
        target = int(np.clip(self.genotypes.source.n_bytes // N_GROUPS, MIN_GROUP_BYTES, MAX_GROUP_BYTES))
        group_of = [item.start * self._reader.row_bytes // target for item in items]
        return [
            tuple(item for item, group in zip(items, group_of, strict=True) if group == one)
            for one in dict.fromkeys(group_of)
        ]

    def _spent(self, flop_a_genotype: float) -> None:
        self.counter.passes += 1
        self.counter.read_bytes += self.genotypes.source.n_bytes
        self.counter.flop += flop_a_genotype * self.n_samples * self.n_variants


@dataclass(frozen=True, eq=False)
class GenotypeKernel:
    """The relatedness matrix by one bin of a panel.

    Attributes
    ----------
    panel
        Where it is.
    index
        Of the bin.
    code
        How genotypes are coded.
    """

    panel: GenotypePanel
    index: int
    code: Code = "additive"

    @property
    def n_samples(self) -> int:
        """N."""
        return self.panel.n_samples

    @property
    def m(self) -> float:
        """What the matrix is divided by; 0 where no variant is in the bin."""
        return self.panel.size(self.code, self.index)

    def product(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `K X`; several kernels of one panel are better multiplied by `Covariance`."""
        factor = np.full((1, X.shape[1]), 1 / max(self.m, 1e-30), np.float32)
        bins = np.array([self.index])
        return self.panel.run(X, [Output(self.code, slice(0, X.shape[1]), bins, factor)])

    def diagonal(self) -> NDArray[np.float64]:
        """Return the diagonal."""
        return self.panel.diagonal(self.code, self.index)

    def dense(self) -> NDArray[np.float64]:
        """Return the matrix."""
        return self.panel.dense(self.code, self.index)


@dataclass(frozen=True)
class _Item:
    """A partition and where its variants start among the panel's."""

    task: PartitionTask
    start: int


@dataclass(frozen=True)
class _Shared:
    """What every task of a pass needs."""

    reader: RowReader
    X: NDArray[np.float32]
    weights: NDArray[np.float32]
    outputs: tuple[Output, ...]
    code: Code = "additive"

    @property
    def ordered(self) -> list[Output]:
        """The outputs, those of one code together."""
        return sorted(self.outputs, key=lambda output: output.code)


def _recoded(block: CodedRows, code: Code) -> CodedRows:
    """Give the same rows with the tables of another code; dominance is of diploid variants only."""
    if code == "additive":
        return block
    tables = dominance_tables(block.task.scaling)
    return replace(block, task=replace(block.task, tables=tables, male_tables=None))


def _unpacked(block: CodedRows, code: Code, tile: NDArray[np.float32], left: int, right: int) -> NDArray[np.float32]:
    """Standardise samples left:right into the tile."""
    if code == "additive" or block.encoding is Encoding.CALLS:
        return np.asarray(block.unpacked(tile, left, right), dtype=np.float32)
    view = tile[: len(block.rows), : right - left]
    encoding = block.encoding
    standardise_bent(block.rows[:, left:right], block.task.tables, encoding.steps, encoding.missing, view)
    return view


def _pass(group: tuple[_Item, ...], shared: _Shared) -> NDArray[np.float32]:
    """Return the outputs of a group of partitions."""
    N = shared.X.shape[0]
    ordered = shared.ordered
    Y = np.zeros((N, sum(output.coefficients.shape[1] for output in ordered)), np.float32)
    tile = new_tile(N)
    for item in group:
        at = item.start
        for block in read_blocks(shared.reader, item.task, tile):
            weights = shared.weights[at : at + len(block)]
            at += len(block)
            first = 0
            for code in dict.fromkeys(output.code for output in ordered):
                mine = [output for output in ordered if output.code == code]
                width = sum(output.coefficients.shape[1] for output in mine)
                _add_outputs(Y[:, first : first + width], _recoded(block, code), code, weights, mine, shared.X, tile)
                first += width
    return Y


def _add_outputs(
    Y: NDArray[np.float32],
    block: CodedRows,
    code: Code,
    weights: NDArray[np.float32],
    outputs: list[Output],
    X: NDArray[np.float32],
    tile: NDArray[np.float32],
) -> None:
    """Add what one block of rows gives the outputs of one code."""
    N, width = X.shape[0], tile.shape[1]
    W = np.zeros((len(block), X.shape[1]), np.float32)
    for left in range(0, N, width):
        right = min(left + width, N)
        add_product(W, _unpacked(block, code, tile, left, right), X[left:right])
    parts, present = [], []
    for output in outputs:
        mine = weights[:, output.bins]
        parts.append(W[:, output.columns] * (mine @ output.coefficients))
        present.append(np.flatnonzero(mine.any(axis=1)))
    # Where most variants are in few bins, a product a bin with its own rows is less work than one with all.
    widths = [part.shape[1] for part in parts]
    sparse = sum(len(rows) * r for rows, r in zip(present, widths, strict=True)) < 0.5 * len(block) * sum(widths)
    joined = None if sparse else np.concatenate(parts, axis=1)
    for left in range(0, N, width):
        right = min(left + width, N)
        # A tile that holds whole rows still does.
        view = tile[: len(block), :N] if width == N else _unpacked(block, code, tile, left, right)
        if joined is not None:
            add_product(Y[left:right], view, joined, transposed=True)
            continue
        first = 0
        for rows, part in zip(present, parts, strict=True):
            columns = slice(first, first + part.shape[1])
            first = columns.stop
            if len(rows):
                add_product(Y[left:right, columns], view[rows], part[rows], transposed=True)


def _squares(group: tuple[_Item, ...], shared: _Shared) -> NDArray[np.float64]:
    """Return `Σ_j w_jb z_ij²` of a group of partitions, (N, B)."""
    N = shared.X.shape[0]
    total = np.zeros((N, shared.weights.shape[1]))
    tile = new_tile(N)
    width = tile.shape[1]
    for item in group:
        at = item.start
        for block in read_blocks(shared.reader, item.task, tile):
            weights = shared.weights[at : at + len(block)]
            at += len(block)
            coded = _recoded(block, shared.code)
            for left in range(0, N, width):
                right = min(left + width, N)
                view = _unpacked(coded, shared.code, tile, left, right)
                total[left:right] += np.square(view).T @ weights
    return total


def _gram(item: _Item, shared: _Shared) -> NDArray[np.float64]:
    """Return `Zᵀ diag(w) Z` of one partition, (N, N)."""
    N = shared.X.shape[0]
    total = np.zeros((N, N))
    tile = np.empty((GRAM_VARIANTS, N), np.float32)
    at = item.start
    for block in read_blocks(shared.reader, item.task, tile):
        weights = shared.weights[at : at + len(block), 0]
        at += len(block)
        rows = np.flatnonzero(weights)
        if not len(rows):
            continue
        view = _unpacked(_recoded(block, shared.code), shared.code, tile, 0, N)
        if len(rows) < len(view):
            view = view[rows]
        if not np.all(weights[rows] == 1.0):
            view = view * np.sqrt(weights[rows])[:, None]
        total += view.T @ view
    return total
