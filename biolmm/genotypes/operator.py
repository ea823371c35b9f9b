"""The genetic relatedness matrix as an operator: streaming passes over the genotypes.

Legend: N samples, M variants, r columns; Z (M, N) standardised genotypes; K = ZᵀZ / m; X, Y (N, r).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import map_tasks, n_threads, sum_groups, sum_tasks
from biolmm.genotypes.arithmetic import Arithmetic, Float32, Operand
from biolmm.genotypes.moments import SampleMasks
from biolmm.genotypes.source import RowReader
from biolmm.genotypes.standardised import (
    PartitionTask,
    StandardisedGenotypes,
    coded_rows,
    new_tile,
    read_blocks,
    sums_of_squares,
)
from biolmm.linalg.operators import Restriction
from biolmm.store.checkpoint import Resuming

NO_CONTIG = -1
GRAM_VARIANTS = 256
N_GROUPS = 32
"""A pass adds up about so many partial results, each over partitions of 8 to 256 MiB."""
MIN_GROUP_BYTES, MAX_GROUP_BYTES = 8 * 2**20, 256 * 2**20


@dataclass
class PassCounter:
    """What was spent on the genotypes so far; reading one contig alone counts in bytes and flop, not as a pass."""

    passes: int = 0
    read_bytes: int = 0
    flop: float = 0.0


@dataclass(frozen=True)
class _Shared:
    """What every task of a pass of one product needs: the block of columns."""

    reader: RowReader
    X: NDArray[np.float32]


@dataclass(frozen=True)
class _Multiplied:
    """What every task of a pass of both products needs: the block of columns and the contig each one leaves out."""

    reader: RowReader
    operand: Operand
    left_out: NDArray[np.int64] | None = None


class GenotypeOperator(Resuming):
    """`K = ZᵀZ / m` and its leave-one-contig-out versions, without ever forming K.

    Parameters
    ----------
    genotypes
        Z: the model's variants on the cohort's samples.
    panel_bytes
        Memory granted to the partial results of one pass; wider blocks are cut into several passes.
    arithmetic
        In which numbers `matmat` and `contig_products` are computed; single precision by default, in which all else is.

    Notes
    -----
    Cost of one pass with r columns: every row is read once; 4·N·M·r flop.
    """

    def __init__(
        self, genotypes: StandardisedGenotypes, *, panel_bytes: int = 2**30, arithmetic: Arithmetic | None = None
    ) -> None:
        self.genotypes = genotypes
        self.arithmetic: Arithmetic = Float32() if arithmetic is None else arithmetic
        self.source = genotypes.source
        self.counter = PassCounter()
        self.panel_bytes = panel_bytes
        self._tasks = genotypes.tasks

    @property
    def n_samples(self) -> int:
        """N."""
        return self.source.n_samples

    @property
    def n_variants(self) -> int:
        """Variants that enter Z."""
        return int(np.count_nonzero(self.genotypes.scaling.scale))

    @property
    def n_contigs(self) -> int:
        """Contigs of the store; some may have no model variants."""
        return len(self.source.store.contig_id)

    @cached_property
    def m(self) -> float:
        """Sum of the weights, the m of `K = ZᵀZ / m`."""
        return float(self.genotypes.scaling.weight.sum())

    @cached_property
    def contig_m(self) -> NDArray[np.float64]:
        """(n_contigs,) what each contig adds to m."""
        sums = np.zeros(self.n_contigs)
        stop = 0
        for partition in self.source.partitions:
            start, stop = stop, stop + len(partition.variants)
            sums[partition.contig] += self.genotypes.scaling.weight[start:stop].sum()
        return sums

    def kept(
        self, name: str, compute: Callable[[], tuple[NDArray[Any], ...]], *inputs: Any
    ) -> tuple[NDArray[Any], ...]:
        """Compute the arrays of a pass of others' making, or take them from the checkpoint, where there is one."""
        if self._checkpoint is None:
            return compute()
        return self._checkpoint.products(name, (self.source.reader.key, *inputs), compute)

    def m_without(self, contigs: NDArray[np.int64] | Sequence[int]) -> NDArray[np.float64]:
        """Return the m of `K₋c` for each contig left out, −1 leaving nothing out, (len(contigs),).

        Where no variant is left in, the smallest single-precision number: products, which are zero there, stay zero.
        """
        left_out = np.asarray(contigs, dtype=np.int64)
        remaining = self.m - np.where(left_out >= 0, self.contig_m[left_out], 0.0)
        return np.asarray(np.maximum(remaining, np.finfo(np.float32).tiny))

    def matmat(
        self, X: NDArray[np.float32], left_out: NDArray[np.int64] | None = None, *, exact: bool = False
    ) -> NDArray[np.float32]:
        """Return `K X`, or column by column `K₋c x` without the contig `left_out[column]` (−1: none).

        Parameters
        ----------
        X
            (N, r).
        left_out
            (r,) contig index of each column, or None.
        exact
            In single precision, whatever the operator's arithmetic.

        Returns
        -------
        NDArray[np.float32]
            (N, r); `K₋c` is normalised by the variants left in.
        """
        arithmetic = Float32() if exact else self.arithmetic
        Y = np.empty(X.shape, np.float32)
        for panel in self._panels(X.shape[1]):
            part = np.ascontiguousarray(X[:, panel], np.float32)
            out = None if left_out is None else left_out[panel]
            compute = partial(self._product, arithmetic)
            total = self._kept(f"product-{arithmetic.name}", compute, part, out)
            Y[:, panel] = total / (self.m if out is None else self.m_without(out))
        return Y

    def _product(
        self, arithmetic: Arithmetic, X: NDArray[np.float32], left_out: NDArray[np.int64] | None
    ) -> NDArray[np.float32]:
        """Return `Σ Z_cᵀ Z_c X`, (N, r), of the contigs that each column leaves in: one pass."""
        shared = _Multiplied(self.source.reader, arithmetic.operand(X), left_out)
        total = sum_tasks(_pass, self._groups(self._tasks), shared)
        self._spent(X.shape[1], products=2)
        return total

    def _kept(self, name: str, compute: Callable[..., NDArray[Any]], *inputs: NDArray[Any] | None) -> NDArray[Any]:
        """Compute, or take from the checkpoint what an earlier process computed of the same inputs by that name."""
        if self._checkpoint is None:
            return compute(*inputs)
        key = (self.source.reader.key, *inputs)
        return self._checkpoint.product(name, key, lambda: compute(*inputs))

    def contig_products(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `Z_cᵀ Z_c X` of every contig c, (n_contigs, N, r), not divided by m: one pass."""
        Y = np.zeros((self.n_contigs, *X.shape), np.float32)
        for panel in self._panels(X.shape[1]):
            part = np.ascontiguousarray(X[:, panel], np.float32)
            Y[:, :, panel] = self._kept(f"contigs-{self.arithmetic.name}", self._contig_products, part)
        return Y

    def _contig_products(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        shared = _Multiplied(self.source.reader, self.arithmetic.operand(X))
        Y = np.zeros((self.n_contigs, *X.shape), np.float32)
        contigs = sorted({task.partition.contig for task in self._tasks})
        groups = [self._groups([task for task in self._tasks if task.partition.contig == one]) for one in contigs]
        for contig, total in zip(contigs, sum_groups(_pass, groups, shared), strict=True):
            Y[contig] = total
        self._spent(X.shape[1], products=2)
        return Y

    def contig_forms(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return `‖Z_c x‖²`, (n_contigs, r): the quadratic form of every contig, one pass of one product."""
        return self._kept("forms", self._contig_forms, X)

    def _contig_forms(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        sums = np.zeros((self.n_contigs, X.shape[1]))
        shared = self._share(X)
        for task, part in zip(self._tasks, map_tasks(_squares, self._tasks, shared), strict=True):
            sums[task.partition.contig] += part
        self._spent(X.shape[1], products=1)
        return sums

    def traces(self, restrictions: list[Restriction]) -> NDArray[np.float64]:
        """Return the exact `tr(P K P)` under each restriction, (n_restrictions,): one pass.

        `tr(PKP) = Σᵢ Dᵢᵢ Kᵢᵢ − tr(QᵀKQ)`: the diagonal from moments, the rest from `‖Z Q‖²`.
        """
        masks = SampleMasks(np.array([restriction.observed for restriction in restrictions]))
        Q = np.concatenate([restriction.basis for restriction in restrictions], axis=1).astype(np.float32)
        parts = map_tasks(_diagonal_and_squares, self._tasks, (masks, self._share(Q)))
        diagonal = np.sum([part[0] for part in parts], axis=0)
        squares = np.sum([part[1] for part in parts], axis=0)
        owner = np.repeat(np.arange(len(restrictions)), [r.basis.shape[1] for r in restrictions])
        covariates = np.bincount(owner, weights=squares, minlength=len(restrictions))
        self._spent(Q.shape[1], products=1)
        return np.asarray((diagonal - covariates) / self.m)

    def dense(self, contig: int = NO_CONTIG) -> NDArray[np.float64]:
        """Return `ZᵀZ` of one contig or of all, (N, N), not divided by m: float32 tiles added in float64; one pass."""
        if contig == NO_CONTIG:
            self._spent(self.n_samples / 2, products=1)
            tasks = list(self._tasks)
        else:
            tasks = [task for task in self._tasks if task.partition.contig == contig]
            n_variants = sum(len(task.partition.variants) for task in tasks)
            self.counter.read_bytes += n_variants * self.source.reader.row_bytes
            self.counter.flop += float(self.n_samples) ** 2 * n_variants
        if not tasks:
            return np.zeros((self.n_samples, self.n_samples))
        return np.asarray(sum_tasks(_gram, tasks, self.source.reader))

    def _panels(self, n_columns: int) -> list[slice]:
        """Cut columns so that the partial results of one pass fit in `panel_bytes`."""
        held = n_threads() + 4
        width = max(16, int(self.panel_bytes // (held * self.n_samples * 4)))
        n_panels = max(1, -(-n_columns // width))
        edges = np.linspace(0, n_columns, n_panels + 1).astype(int)
        return [slice(int(a), int(b)) for a, b in pairwise(edges)]

    def _groups(self, tasks: Sequence[PartitionTask]) -> list[tuple[PartitionTask, ...]]:
        """Group neighbouring partitions, so that a pass adds up few partial results; by the data alone."""
        target = np.clip(self.source.n_bytes // N_GROUPS, MIN_GROUP_BYTES, MAX_GROUP_BYTES)
        sizes = [len(task.partition.variants) * self.source.reader.row_bytes for task in tasks]
        group_of = np.concatenate([[0], np.cumsum(sizes)[:-1]]) // target
        return [
            tuple(task for task, group in zip(tasks, group_of, strict=True) if group == one)
            for one in np.unique(group_of)
        ]

    def _share(self, X: NDArray[np.floating]) -> _Shared:
        return _Shared(self.source.reader, np.ascontiguousarray(X, np.float32))

    def _spent(self, n_columns: float, products: int) -> None:
        self.counter.passes += 1
        self.counter.read_bytes += self.source.n_bytes
        self.counter.flop += 2.0 * products * self.n_samples * self.source.n_variants * n_columns


def _pass(group: tuple[PartitionTask, ...], shared: _Multiplied) -> NDArray[np.float32]:
    """Return `Z_gᵀ Z_g X` of a group of partitions, each zero in the columns that leave its contig out."""
    return shared.operand.product(group, shared.reader, shared.left_out)


def _squares(task: PartitionTask, shared: _Shared) -> NDArray[np.float64]:
    """Return `‖Z_p x‖²` of one partition, (r,)."""
    tile = new_tile(shared.X.shape[0])
    total = np.zeros(shared.X.shape[1])
    for block in read_blocks(shared.reader, task, tile):
        W = block.product(shared.X, tile)
        total += np.einsum("ij,ij->j", W, W, dtype=np.float64)
    return total


def _diagonal_and_squares(
    task: PartitionTask, shared: tuple[SampleMasks, _Shared]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Σᵢ Dᵢᵢ zᵢ² under each mask and `‖Z_p q‖²` of each basis column."""
    masks, basis = shared
    reader = basis.reader
    tile = new_tile(basis.X.shape[0])
    squares = np.zeros(basis.X.shape[1])
    diagonal = np.zeros(len(masks.observed))
    for where, rows in reader.blocks(task.partition):
        part = task[where]
        counted = reader.coding.count(rows, reader.encoding, masks, task.partition.ploidy)
        diagonal += sums_of_squares(counted.moments, part.scaling).sum(axis=0)
        for block in coded_rows(rows, reader, part).blocks(tile):
            W = block.product(basis.X, tile)
            squares += np.einsum("ij,ij->j", W, W, dtype=np.float64)
    return diagonal, squares


def _gram(task: PartitionTask, reader: RowReader) -> NDArray[np.float64]:
    """Return `Z_pᵀ Z_p`, (N, N)."""
    N = reader.n_samples
    total = np.zeros((N, N))
    tile = np.empty((GRAM_VARIANTS, N), np.float32)
    for block in read_blocks(reader, task, tile):
        view = block.unpacked(tile, 0, N)
        total += view.T @ view
    return total
