"""Tiles of `ZᵀZ`: the work of one task, and how the work is cut into tasks.

A task is a *panel*: one band of samples against a few others, which share the reading and unpacking of its own. Products
are in single precision over at most `EXACT_EVERY` variants and added up in double precision, in an order given by the
variants alone. Legend: Z (M, N) standardised genotypes; m sum of weights; w the weight of a variant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.source import RowReader
from biolmm.genotypes.standardised import PartitionTask
from biolmm.linalg.blas import add_gram, add_product
from biolmm.relatedness.slabs import Band, Missing, Slab, read_slabs, slab_bytes
from biolmm.store.matrix import PAIR_WEIGHT, RELATEDNESS, TileGrid
from biolmm.store.matrix_write import MatrixWriter, Part

EXACT_EVERY = 8192
"""Variants after which sums go from single to double precision."""

SPARSE_SHARE = 1 / 256
"""Pairs of missing genotypes up to this share of all pairs are added one by one: a product would take longer."""

PROCESS_BYTES = 600 * 2**20
"""The interpreter with its libraries and kernels; a first run, which compiles them, takes the most."""

MissingRule = Literal["mean", "pairwise"]


@dataclass(frozen=True)
class Panel:
    """A band of samples against some others.

    Attributes
    ----------
    row
        Its band.
    columns
        The bands of its tiles, at or after `row`, ascending.
    """

    row: int
    columns: tuple[int, ...]

    @property
    def bands(self) -> tuple[int, ...]:
        """All bands that are unpacked, each once; that of the rows first."""
        return (self.row, *(column for column in self.columns if column != self.row))


@dataclass(frozen=True)
class Layer:
    """Variants that are added up: those of one contig, or all.

    Attributes
    ----------
    tasks
        Their partitions.
    m
        Sum of their weights.
    index
        Layer of the matrix that they are written to; None where only the whole is kept.
    """

    tasks: tuple[PartitionTask, ...]
    m: float
    index: int | None = None


@dataclass(frozen=True)
class GramJob:
    """What every task needs.

    Attributes
    ----------
    reader
        Reads the cohort's rows.
    layers
        What is added up, one after another.
    m
        Sum of all weights.
    missing
        `mean`: missing genotypes count as the mean, and all pairs are divided by m; `pairwise`: each pair is divided by
        the weights of the variants that both have.
    writer
        Where tiles go.
    """

    reader: RowReader
    layers: tuple[Layer, ...]
    m: float
    missing: MissingRule
    writer: MatrixWriter


def plan_panels(tiles: Iterable[tuple[int, int]], max_columns: int) -> list[Panel]:
    """Put tiles of the same row together, at most so many in a panel.

    Examples
    --------
    >>> plan_panels([(0, 0), (0, 1), (0, 2), (1, 1)], 2)
    [Panel(row=0, columns=(0, 1)), Panel(row=0, columns=(2,)), Panel(row=1, columns=(1,))]
    """
    rows: dict[int, list[int]] = {}
    for i, j in sorted(tiles):
        rows.setdefault(i, []).append(j)
    return [
        Panel(row, tuple(columns[start : start + max_columns]))
        for row, columns in rows.items()
        for start in range(0, len(columns), max_columns)
    ]


def panel_bytes(tile_samples: int, max_columns: int, *, pairwise: bool, per_contig: bool) -> int:
    """Give the memory of a task with so many tiles: a slab, the sums, and one tile on its way to the disk."""
    tile = tile_samples**2
    sums = 8 * (2 if pairwise else 1) * (2 if per_contig else 1) + 4 * (2 if pairwise else 1)
    slab = slab_bytes([tile_samples] * (max_columns + 1))
    return slab + max_columns * tile * sums + 16 * tile


def compute_panel(panel: Panel, job: GramJob) -> int:
    """Compute, write and mark every tile of a panel; return how many.

    Notes
    -----
    **Cost**: all rows are read and the panel's bands unpacked once; 2·T²·M flop a tile of T samples, half on the diagonal.
    """
    grid = job.writer.grid
    bands = [grid.band(index) for index in panel.bands]
    place = {band: i for i, band in enumerate(panel.bands)}
    pairwise = job.missing == "pairwise"
    whole = [_Sums.zeros(grid, panel.row, column, pairwise) for column in panel.columns]
    parts: list[list[Part]] = [[] for _ in panel.columns]
    one_layer = len(job.layers) == 1
    lacking = [np.zeros(band.stop - band.start) for band in bands]
    for layer in job.layers:
        sums = whole if one_layer else [_Sums.zeros(grid, panel.row, column, pairwise) for column in panel.columns]
        lacks = [np.zeros_like(each) for each in lacking]
        for slab in read_slabs(job.reader, layer.tasks, bands, with_missing=pairwise):
            for each in sums:
                each.add(slab, place[each.row], place[each.column])
            for lack, missing in zip(lacks, slab.missing, strict=False):
                lack += missing.lacked(len(lack))
        for total, lack in zip(lacking, lacks, strict=True):
            total += lack
        for each, all_of_it, found in zip(sums, whole, parts, strict=True):
            each.settle()
            if layer.index is not None:
                found += _write(job, layer.index, each, layer.m, lacks[0], lacks[place[each.column]])
            if not one_layer:
                all_of_it.include(each)
    for each, found in zip(whole, parts, strict=True):
        found += _write(job, 0, each, job.m, lacking[0], lacking[place[each.column]])
        job.writer.mark(each.row, each.column, found)
    return len(whole)


def _write(
    job: GramJob, layer: int, sums: _Sums, m: float, row_lacks: NDArray[np.float64], column_lacks: NDArray[np.float64]
) -> Iterator[Part]:
    """Divide the sums of a tile by its weights and write both."""
    where = (layer, sums.row, sums.column)
    if sums.both_missing is None:
        # Where no variant varies the sums are zero, and so is the matrix.
        single = np.empty(sums.products.shape, np.float32)
        np.divide(sums.products, m if m > 0 else 1.0, out=single, casting="same_kind")
        yield job.writer.write_part(RELATEDNESS, *where, single)
        return
    relatedness, weight = np.empty((2, *sums.products.shape), np.float32)
    _divide(sums.products, sums.both_missing, m, row_lacks, column_lacks, relatedness, weight)
    yield job.writer.write_part(RELATEDNESS, *where, relatedness)
    yield job.writer.write_part(PAIR_WEIGHT, *where, weight)


@dataclass
class _Sums:
    """The sums of one tile.

    Attributes
    ----------
    row, column
        Its bands.
    products
        Σ z zᵀ, exact so far.
    both_missing
        Σ w over the variants that both lack; None where that is not asked for.
    recent
        What was added since the last `EXACT_EVERY` variants.
    """

    row: int
    column: int
    products: NDArray[np.float64]
    both_missing: NDArray[np.float64] | None
    recent: Band
    n_recent: int = 0

    @classmethod
    def zeros(cls, grid: TileGrid, row: int, column: int, pairwise: bool) -> _Sums:
        shape = grid.shape(row, column)
        return cls(row, column, np.zeros(shape), np.zeros(shape) if pairwise else None, np.zeros(shape, np.float32))

    def add(self, slab: Slab, row: int, column: int) -> None:
        """Add the variants of a slab; `row` and `column` say which of its bands are this tile's."""
        _add_products(self.recent, slab.bands, row, column)
        self.n_recent += len(slab)
        if self.n_recent >= EXACT_EVERY:
            self._flush()
        if self.both_missing is not None:
            _add_missing(self.both_missing, slab.missing[row], slab.missing[column])

    def settle(self) -> None:
        """Finish: everything in double precision, both triangles of a tile on the diagonal."""
        self._flush()
        if self.row == self.column:
            _mirror(self.products)

    def include(self, other: _Sums) -> None:
        """Add another sum of the same tile."""
        self.products += other.products
        if self.both_missing is not None and other.both_missing is not None:
            self.both_missing += other.both_missing

    def _flush(self) -> None:
        if self.n_recent == 0:
            return
        self.products += self.recent
        self.recent[:] = 0.0
        self.n_recent = 0


def _add_products(total: Band, bands: Sequence[Band], row: int, column: int) -> None:
    """Add `AᵀB`; of a tile on the diagonal the upper triangle."""
    if row == column:
        add_gram(total, bands[row])
    else:
        add_product(total, bands[row], bands[column], transposed=True)


def _add_missing(total: NDArray[np.float64], left: Missing, right: Missing) -> None:
    """Add the weight of every variant to the pairs that both lack it."""
    n_pairs = int(left.counts @ right.counts)
    if n_pairs == 0:
        return
    if n_pairs <= SPARSE_SHARE * len(left.weight) * total.size:
        _add_pairs(left.samples, left.offsets, right.samples, right.offsets, left.weight, total)
        return
    product = np.zeros(total.shape, np.float32)
    add_product(product, left.dense(total.shape[0]), right.dense(total.shape[1]), transposed=True)
    total += product


@numba.njit(nogil=True, cache=True)
def _divide(products, both_missing, m, row_lacks, column_lacks, relatedness, weight):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Divide the products of each pair by the weights of the variants that both have; NaN where there are none."""
    for i in range(products.shape[0]):
        for j in range(products.shape[1]):
            w = m - row_lacks[i] - column_lacks[j] + both_missing[i, j]
            if w > 1e-9 * m:  # else rounding
                relatedness[i, j] = products[i, j] / w
                weight[i, j] = w
            else:
                relatedness[i, j] = np.nan if m > 0 else 0.0
                weight[i, j] = 0.0


@numba.njit(nogil=True, cache=True)
def _mirror(square):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Copy what is above the diagonal below it, in blocks that stay in cache."""
    n, side = square.shape[0], 64
    for i0 in range(0, n, side):
        for j0 in range(i0, n, side):
            for j in range(j0, min(j0 + side, n)):
                for i in range(i0, min(i0 + side, j)):
                    square[j, i] = square[i, j]


@numba.njit(nogil=True, cache=True)
def _add_pairs(left, left_offsets, right, right_offsets, weight, total):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add the weight of every variant v to `total[i, j]` for the i and j that are listed for it."""
    for v in range(weight.shape[0]):
        for a in range(left_offsets[v], left_offsets[v + 1]):
            here = total[left[a]]
            for c in range(right_offsets[v], right_offsets[v + 1]):
                here[right[c]] += weight[v]
