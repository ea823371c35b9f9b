"""Two passes over blocks of variants: everything that Haseman–Elston regression of all traits is made of.

Legend: N samples, M variants, A components (weights of variants), J blocks, S systems (restrictions P_s), T traits;
Z (M, N) standardised genotypes; K_a = Zᵀ diag(w_a) Z / m_a; X (N, c) columns with weights ω that stand for the identity on
the range of P_s: `tr f(P_s) = E Σ ω xᵀ f x`.

The first pass adds up `Zᵀ diag(w_a) Z X` and, block by block, quadratic forms of traits and covariates. The second repeats
the product block by block and takes its inner products with the sums, so that what is held does not grow with J:

    tr(P K_a P K_b) without block j  ∝  ⟨S_a − U_aj, P (S_b − U_bj)⟩ = ⟨S_a, PS_b⟩ − ⟨U_aj, PS_b⟩ − ⟨S_a, PU_bj⟩ + ⟨U_aj, PU_bj⟩
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.chunks import map_tasks, n_threads, sum_tasks
from biolmm.genotypes.moments import SampleMasks
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import RowReader
from biolmm.genotypes.standardised import (
    CodedRows,
    PartitionTask,
    StandardisedGenotypes,
    coded_rows,
    new_tile,
    sums_of_squares,
)
from biolmm.linalg.blas import add_product
from biolmm.linalg.operators import Restriction, column_dots

N_GROUPS = 16
"""The sums of a pass are held for about so many groups of partitions."""


@dataclass(frozen=True)
class TraceColumns:
    """Columns that stand for the identity on the range of one P.

    Attributes
    ----------
    X
        (N, c) columns in the range of P: first those that count fully, orthonormal, then random ones orthogonal to them.
    n_exact
        How many count fully; the others count as the mean over them.
    """

    X: NDArray[np.float32]
    n_exact: int

    @property
    def n_probes(self) -> int:
        """Random columns."""
        return int(self.X.shape[1]) - self.n_exact

    @property
    def weights(self) -> NDArray[np.float64]:
        """(c,) ω."""
        weights = np.ones(self.X.shape[1])
        weights[self.n_exact :] = 1 / max(self.n_probes, 1)
        return weights


@dataclass(frozen=True)
class BlockTask:
    """One partition, where its blocks begin and end, and the weights of its variants.

    Attributes
    ----------
    task
        The partition and its maps.
    edges
        Boundaries of blocks within it.
    first
        Index of its first block.
    weights
        (b, A).
    """

    task: PartitionTask
    edges: NDArray[np.int64]
    first: int
    weights: NDArray[np.float32]

    def pieces(self, reader: RowReader, tile: NDArray[np.float32]) -> Iterator[tuple[int, CodedRows, slice]]:
        """Yield block, coded rows that fit the tile, and where they are in the partition; blocks in order."""
        for where, rows in reader.blocks(self.task.partition):
            inside = self.edges[(self.edges > where.start) & (self.edges < where.start + len(rows))] - where.start
            for start, stop in pairwise([0, *inside.tolist(), len(rows)]):
                block = self.first + int(np.searchsorted(self.edges, where.start + start, side="right")) - 1
                left = where.start + start
                part = coded_rows(rows[start:stop], reader, self.task[left : left + stop - start])
                for coded in part.blocks(tile):
                    yield block, coded, slice(left, left + len(coded))
                    left += len(coded)


@dataclass(frozen=True)
class VariantBlocks:
    """The variants cut into blocks of consecutive ones on one contig, by the data alone.

    Attributes
    ----------
    tasks
        One a partition.
    n_blocks
        J.
    m
        (J, A) Σ w_a · weight of each block.
    overlap
        (J, A, A) `[j, a, b]`: what the variants of a (w_a > 0) add to m_b.
    """

    tasks: tuple[BlockTask, ...]
    n_blocks: int
    m: NDArray[np.float64]
    overlap: NDArray[np.float64]

    @property
    def n_components(self) -> int:
        """A."""
        return int(self.m.shape[1])

    @property
    def groups(self) -> list[tuple[BlockTask, ...]]:
        """Neighbouring partitions whose sums are added up in place."""
        edges = np.unique(np.linspace(0, len(self.tasks), N_GROUPS + 1).astype(int))
        return [self.tasks[a:b] for a, b in pairwise(edges)]

    @classmethod
    def cut(
        cls, genotypes: StandardisedGenotypes, n_blocks: int, weights: NDArray[np.float64] | None = None
    ) -> VariantBlocks:
        """Cut into about `n_blocks` blocks, at least one a partition.

        Parameters
        ----------
        genotypes
            Z.
        n_blocks
            Wanted; a block never spans two partitions.
        weights
            (M, A) of variants in each component, in the order of `genotypes.source.variants`; one of ones by default.
        """
        M = genotypes.source.n_variants
        given = np.ones((M, 1)) if weights is None else weights
        size = max(M / max(n_blocks, 1), 1.0)
        tasks: list[BlockTask] = []
        m: list[NDArray[np.float64]] = []
        overlap: list[NDArray[np.float64]] = []
        stop = 0
        for task in genotypes.tasks:
            start, stop = stop, stop + len(task.partition.variants)
            n_pieces = min(max(1, round((stop - start) / size)), stop - start)
            edges = np.linspace(0, stop - start, n_pieces + 1).round().astype(np.int64)
            tasks.append(BlockTask(task, edges, len(m), given[start:stop].astype(np.float32)))
            for a, b in pairwise(edges.tolist()):
                mine = given[start + a : start + b] * task.scaling.weight[a:b, None]
                m.append(mine.sum(axis=0))
                overlap.append((given[start + a : start + b] > 0).T.astype(np.float64) @ mine)
        return cls(tuple(tasks), len(m), np.array(m), np.array(overlap))


@dataclass
class BlockMoments:
    """Sums over blocks; nothing is divided by m.

    Attributes
    ----------
    blocks
        The blocks.
    rank, norm
        (S,) rank of P_s; Σ ω ‖x‖², an estimate of it.
    trace
        (J, S, A) exact tr(P Z_jᵀ w_a Z_j P).
    forms
        (J, T, A) yᵀ Z_jᵀ w_a Z_j y of y projected.
    cross
        (J, T, T) the same between traits, of the first component.
    squares
        (T, T) yᵀy of traits projected.
    linear
        (J, S, A) Σ ω xᵀ Z_jᵀ w_a Z_j x.
    mixed, inner
        (J, S, A, A) Σ ω ⟨U_aj, P S_b⟩ and Σ ω ⟨U_aj, P U_bj⟩.
    probe_inner, probe_linear, probe_norm
        Of each random column alone, lists of S: (A, A, B), (A, B), (B,).
    pair_inner, pair_linear
        (S, S) `[s, t]`: Σ ω ‖P_t S x‖² and Σ ω ⟨P_t x, S x⟩ over the columns of s, of the first component.
    system_of_trait
        (T,).
    """

    blocks: VariantBlocks
    restrictions: Sequence[Restriction]
    system_of_trait: NDArray[np.int64]
    rank: NDArray[np.float64]
    squares: NDArray[np.float64]
    norm: NDArray[np.float64]
    trace: NDArray[np.float64]
    forms: NDArray[np.float64]
    cross: NDArray[np.float64]
    linear: NDArray[np.float64]
    mixed: NDArray[np.float64]
    inner: NDArray[np.float64]
    pair_inner: NDArray[np.float64]
    pair_linear: NDArray[np.float64]
    probe_inner: list[NDArray[np.float64]] = field(default_factory=list)
    probe_linear: list[NDArray[np.float64]] = field(default_factory=list)
    probe_norm: list[NDArray[np.float64]] = field(default_factory=list)


def block_moments(
    operator: GenotypeOperator,
    blocks: VariantBlocks,
    y: NDArray[np.float64],
    restrictions: Sequence[Restriction],
    system_of_trait: NDArray[np.int64],
    columns: Sequence[TraceColumns],
    memory_bytes: int = 2**31,
) -> BlockMoments:
    """Run the two passes.

    Parameters
    ----------
    operator
        Counts the passes; its genotypes are those of `blocks`.
    blocks
        Blocks and components.
    y
        (N, T) traits, NaN where unobserved.
    restrictions, system_of_trait
        Samples and covariates, and which of them each trait belongs to.
    columns
        Of each restriction.
    memory_bytes
        Columns are taken in panels that fit, two passes each.

    Notes
    -----
    **Cost**: two passes with c columns for each system, 2·N·M·c·(1 + A) flop each (less where annotations are sparse).
    Memory: 4·N·c·A bytes for each thread and three more, whatever J.
    """
    T, S, A, J = y.shape[1], len(restrictions), blocks.n_components, blocks.n_blocks
    Y: NDArray[np.float64] = np.stack(
        [restrictions[s].project(np.nan_to_num(y[:, [t]]))[:, 0] for t, s in enumerate(system_of_trait)], axis=1
    ) if T else np.zeros((operator.n_samples, 0))  # fmt: skip
    found = BlockMoments(
        blocks, restrictions, system_of_trait, np.array([float(r.rank) for r in restrictions]), Y.T @ Y,
        np.array([float(c.weights @ column_dots(c.X, c.X)) for c in columns]), np.zeros((J, S, A)),
        np.zeros((J, T, A)), np.zeros((J, T, T)), np.zeros((J, S, A)), np.zeros((J, S, A, A)),
        np.zeros((J, S, A, A)), np.zeros((S, S)), np.zeros((S, S)),
    )  # fmt: skip
    basis = np.concatenate([r.basis for r in restrictions], axis=1)
    masks = SampleMasks(np.array([r.observed for r in restrictions]))
    owner = np.repeat(np.arange(S), [c.X.shape[1] for c in columns])
    X = np.concatenate([c.X for c in columns], axis=1)
    weights = np.concatenate([c.weights for c in columns])
    exact = np.concatenate([np.arange(c.X.shape[1]) < c.n_exact for c in columns])
    probes: list[list[NDArray[np.float64]]] = [[] for _ in range(S)]
    width = max(1, int(memory_bytes // ((n_threads() + 4) * 4 * operator.n_samples * A)))
    edges = np.linspace(0, X.shape[1], max(1, -(-X.shape[1] // width)) + 1).astype(int)
    for position, (start, stop) in enumerate(pairwise(edges)):
        panel = slice(int(start), int(stop))
        first = position == 0
        shared = _Shared(
            operator.source.reader, X[:, panel], Y if first else Y[:, :0], basis if first else basis[:, :0],
            masks if first else None, J, restrictions, owner[panel],
        ).packed()  # fmt: skip

        def add_up(shared: _Shared = shared, n_columns: int = int(stop - start)) -> tuple[NDArray[Any], ...]:
            _spend(operator, shared.packed_columns.shape[1] * 1.0 + n_columns * A)
            return sum_tasks(_first_pass, blocks.groups, shared)

        sums, diagonal, basis_squares, forms, cross = operator.kept(
            "first", add_up, shared.packed_columns, owner[panel], first
        )
        if first:
            who = np.repeat(np.arange(S), [r.basis.shape[1] for r in restrictions])
            for s in range(S):
                found.trace[:, s] = diagonal[:, :, s] - basis_squares[:, :, who == s].sum(axis=2)
            found.forms, found.cross = forms.transpose(0, 2, 1), cross
        projected = _project(sums, restrictions, owner[panel])
        _take_whole(found, sums, projected, X[:, panel], owner[panel], weights[panel], exact[panel], probes)
        second = _Second(operator.source.reader, X[:, panel], projected, restrictions, owner[panel], weights[panel])
        for whole, part in zip(
            (found.linear, found.mixed, found.inner),
            operator.kept("second", partial(_second_sums, operator, blocks, second, found), second.X, projected),
            strict=True,
        ):
            whole += part
    for s in range(S):
        table = np.array(probes[s]).reshape(-1, A * A + A + 1).T
        found.probe_inner.append(table[: A * A].reshape(A, A, -1))
        found.probe_linear.append(table[A * A : -1].reshape(A, -1))
        found.probe_norm.append(table[-1])
    return found


def _second_sums(
    operator: GenotypeOperator, blocks: VariantBlocks, second: _Second, found: BlockMoments
) -> tuple[NDArray[np.float64], ...]:
    """Run the second pass; return what it adds to `linear`, `mixed` and `inner`."""
    linear, mixed, inner = (np.zeros_like(whole) for whole in (found.linear, found.mixed, found.inner))
    for task, part in zip(blocks.tasks, map_tasks(_second_pass, blocks.tasks, second), strict=True):
        where = slice(task.first, task.first + len(task.edges) - 1)
        linear[where] += part.linear
        mixed[where] += part.mixed
        inner[where] += part.inner
    _spend(operator, second.X.shape[1] * (1.0 + blocks.n_components))
    return linear, mixed, inner


def _spend(operator: GenotypeOperator, n_columns: float) -> None:
    counter = operator.counter
    counter.passes += 1
    counter.read_bytes += operator.source.n_bytes
    counter.flop += 2.0 * operator.n_samples * operator.source.n_variants * n_columns


@dataclass(frozen=True)
class _Shared:
    """What the first pass needs."""

    reader: RowReader
    X: NDArray[np.float32]
    Y: NDArray[np.float64]
    Q: NDArray[np.float64]
    masks: SampleMasks | None
    n_blocks: int
    restrictions: Sequence[Restriction]
    owner: NDArray[np.int64]
    packed_columns: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def packed(self) -> _Shared:
        """Put all columns side by side."""
        both = np.ascontiguousarray(np.concatenate([self.X, self.Y, self.Q], axis=1), np.float32)
        return _Shared(
            self.reader, self.X, self.Y, self.Q, self.masks, self.n_blocks, self.restrictions, self.owner, both
        )


def _first_pass(group: tuple[BlockTask, ...], shared: _Shared) -> tuple[NDArray[Any], ...]:
    """Return the sums `Zᵀ w_a Z X` of a group, (A, N, c), and the forms of its blocks, zero in the others."""
    reader, (c, T, q) = shared.reader, (shared.X.shape[1], shared.Y.shape[1], shared.Q.shape[1])
    N, J, A = reader.n_samples, shared.n_blocks, group[0].weights.shape[1]
    n_masks = 0 if shared.masks is None else len(shared.masks.observed)
    sums = np.zeros((A, N, c), np.float32)
    diagonal, squares = np.zeros((J, A, n_masks)), np.zeros((J, A, q))
    forms, cross = np.zeros((J, A, T)), np.zeros((J, T, T))
    tile = new_tile(N)
    for item in group:
        for block, coded, where in item.pieces(reader, tile):
            w = item.weights[where]
            W = coded.product(shared.packed_columns, tile)
            add_weighted(sums, coded, tile, W[:, :c], w)
            Wy, Wq = W[:, c : c + T].astype(np.float64), W[:, c + T :].astype(np.float64)
            squares[block] += w.T @ Wq**2
            forms[block] += w.T @ Wy**2
            cross[block] += Wy.T @ (w[:, :1] * Wy)
            if shared.masks is not None:
                counted = reader.coding.count(coded.rows, reader.encoding, shared.masks, item.task.partition.ploidy)
                diagonal[block] += w.T @ sums_of_squares(counted.moments, coded.task.scaling)
    return sums, diagonal, squares, forms, cross


def add_weighted(
    sums: NDArray[np.float32],
    coded: CodedRows,
    tile: NDArray[np.float32],
    W: NDArray[np.float32],
    weights: NDArray[np.float32],
) -> None:
    """Add `Z_bᵀ diag(w_a) W` to each `sums[a]`, (A, N, c); the tile holds the rows where it holds whole ones."""
    N, width = sums.shape[1], tile.shape[1]
    for left in range(0, N, width):
        right = min(left + width, N)
        whole = width == N
        view = np.asarray(tile[: len(coded), :N] if whole else coded.unpacked(tile, left, right), dtype=np.float32)
        for a in range(len(sums)):
            mine = np.flatnonzero(weights[:, a])
            if len(mine) == 0:
                continue
            if 2 * len(mine) < len(coded):  # cheaper to gather the rows than to multiply by zeros
                rows, right_side = np.ascontiguousarray(view[mine]), weights[mine, a, None] * W[mine]
            else:
                rows, right_side = view, weights[:, a, None] * W
            add_product(sums[a, left:right], rows, np.ascontiguousarray(right_side), transposed=True)


def _project(
    sums: NDArray[np.float32], restrictions: Sequence[Restriction], owner: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return `P_s U` of every component, each column under its own restriction."""
    out = np.empty_like(sums)
    for s in np.unique(owner):
        for a in range(len(sums)):
            out[a][:, owner == s] = restrictions[s].project(sums[a][:, owner == s])
    return out


def _take_whole(
    found: BlockMoments,
    sums: NDArray[np.float32],
    projected: NDArray[np.float32],
    X: NDArray[np.float32],
    owner: NDArray[np.int64],
    weights: NDArray[np.float64],
    exact: NDArray[np.bool_],
    probes: list[list[NDArray[np.float64]]],
) -> None:
    """Take in what the sums of all blocks tell: each random column alone, and pairs of systems."""
    A = len(sums)
    inner = np.array([[column_dots(projected[a], projected[b]) for b in range(A)] for a in range(A)])
    linear = np.array([column_dots(X, sums[a]) for a in range(A)])
    norm = column_dots(X, X)
    for column in np.flatnonzero(~exact):
        row = np.concatenate([inner[:, :, column].ravel(), linear[:, column], [norm[column]]])
        probes[owner[column]].append(row)
    for s in np.unique(owner):
        mine = owner == s
        for t, restriction in enumerate(found.restrictions):
            other = projected[0][:, mine] if t == s else restriction.project(sums[0][:, mine])
            found.pair_inner[s, t] += weights[mine] @ column_dots(other, other)
            # P_t is a projection: ⟨P_t x, S x⟩ = ⟨x, P_t S x⟩.
            found.pair_linear[s, t] += weights[mine] @ column_dots(X[:, mine], other)


@dataclass(frozen=True)
class _Second:
    """What the second pass needs."""

    reader: RowReader
    X: NDArray[np.float32]
    projected: NDArray[np.float32]
    restrictions: Sequence[Restriction]
    owner: NDArray[np.int64]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class _Inner:
    """Inner products of the blocks of one partition, by system."""

    linear: NDArray[np.float64]
    mixed: NDArray[np.float64]
    inner: NDArray[np.float64]


def _second_pass(item: BlockTask, shared: _Second) -> _Inner:
    reader, (N, c) = shared.reader, shared.X.shape
    A, S, n = item.weights.shape[1], len(shared.restrictions), len(item.edges) - 1
    found = _Inner(np.zeros((n, S, A)), np.zeros((n, S, A, A)), np.zeros((n, S, A, A)))
    X = np.ascontiguousarray(shared.X)
    tile = new_tile(N)
    sums = np.zeros((A, N, c), np.float32)
    current = item.first
    for block, coded, where in item.pieces(reader, tile):
        if block != current:
            _close(found, current - item.first, sums, shared)
            sums[:] = 0.0
            current = block
        W = coded.product(X, tile)
        add_weighted(sums, coded, tile, W, item.weights[where])
    _close(found, current - item.first, sums, shared)
    return found


def _close(found: _Inner, block: int, sums: NDArray[np.float32], shared: _Second) -> None:
    """Take the inner products of one block's product U."""
    A, S = len(sums), len(shared.restrictions)
    by_system = np.zeros((S, sums.shape[2]))
    by_system[shared.owner, np.arange(sums.shape[2])] = shared.weights
    projected = _project(sums, shared.restrictions, shared.owner)
    for a in range(A):
        found.linear[block, :, a] = by_system @ column_dots(shared.X, sums[a])
        for b in range(A):
            found.mixed[block, :, a, b] = by_system @ column_dots(projected[a], shared.projected[b])
            if b >= a:
                found.inner[block, :, a, b] = by_system @ column_dots(projected[a], projected[b])
                found.inner[block, :, b, a] = found.inner[block, :, a, b]
