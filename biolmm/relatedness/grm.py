"""A relatedness matrix that lies on disk, whoever wrote it: opened, read in parts, multiplied with.

Legend: N samples, r columns; K (N, N) relatedness; K₋c without contig c = (m K − m_c K_c) / (m − m_c).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from biolmm.chunks import sum_tasks
from biolmm.errors import ParameterError, named
from biolmm.files.gcta_grm import GctaGrm, is_gcta_grm
from biolmm.files.plink_rel import PlinkRel, is_plink_rel
from biolmm.linalg.blas import add_product
from biolmm.store.matrix import PAIR_WEIGHT, RELATEDNESS, MatrixStore, TileGrid

GROUPS = 32
"""A product adds up about so many partial results."""

Tile = NDArray[Any]


class TileSource(Protocol):
    """Where tiles are; can be sent to other processes cheaply."""

    @property
    def grid(self) -> TileGrid:
        """How the matrix is cut."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its numbers."""
        ...

    def read_tile(self, array: str, layer: int, row: int, column: int) -> Tile:
        """Read a tile on or above the diagonal."""
        ...


@dataclass(frozen=True, eq=False)
class Grm:
    """`K`, symmetric, of which only what is asked for is read.

    Attributes
    ----------
    path
        Where it is.
    sample_id, family_id
        (N,).
    contigs
        Those whose own matrices are there, so that they can be left out.
    m
        Sum of the variants' weights; NaN where the file does not say.
    contig_m
        (n_contigs,) what each contig adds to m.
    n_variants
        Variants that vary; −1 where the file does not say.
    has_pair_weights
        Whether each pair was divided by the weights of the variants that both have.
    source
        The tiles.
    left_out
        The contig that is left out; None leaves nothing out.
    """

    path: Path
    sample_id: NDArray[np.str_]
    family_id: NDArray[np.str_]
    contigs: tuple[str, ...]
    m: float
    contig_m: NDArray[np.float64]
    n_variants: int
    has_pair_weights: bool
    source: TileSource
    left_out: str | None = None

    @classmethod
    def open(cls, path: Path | str) -> Grm:
        """Open a matrix that biolmm, GCTA (`.grm.bin`) or PLINK (`.rel.bin`) has written.

        Raises
        ------
        InputFileError
            When a file is missing or does not fit the others.
        StoreFormatError, DamagedStoreError
            When it is no matrix, or its metadata are damaged.
        """
        path = Path(path)
        if is_gcta_grm(path):
            gcta = GctaGrm.open(path)
            n, m = -1, float("nan")
            return cls(
                path,
                gcta.sample_id,
                gcta.family_id,
                (),
                m,
                np.zeros(0),
                n,
                gcta.has_counts,
                _Triangle(gcta, gcta.n_samples),
            )
        if is_plink_rel(path):
            rel = PlinkRel.open(path)
            triangle = _Triangle(rel, rel.n_samples)
            return cls(path, rel.sample_id, rel.family_id, (), float("nan"), np.zeros(0), -1, False, triangle)
        store = MatrixStore.open(path)
        return cls(
            store.path, store.sample_id, store.family_id, store.layers[1:], float(store.layer_m[0]), store.layer_m[1:],
            int(store.layer_n_variants[0]), store.has_pair_weights, store,
        )  # fmt: skip

    @property
    def n_samples(self) -> int:
        """N."""
        return self.source.grid.n_samples

    @property
    def grid(self) -> TileGrid:
        """How it is cut."""
        return self.source.grid

    def without(self, contig: str) -> Grm:
        """Return `K₋c`, of the variants that are on no other contig than `contig`; nothing is computed yet.

        Raises
        ------
        ParameterError
            When the matrix of that contig is not there, or is all there is.
        """
        if contig not in self.contigs:
            there = f"it has {named(self.contigs)}" if self.contigs else "it was made without --per-contig"
            raise ParameterError(f"'{self.path}' cannot leave out contig {contig!r}: {there}.")
        if self.m - self.contig_m[self.contigs.index(contig)] <= 1e-9 * self.m:
            raise ParameterError(
                f"'{self.path}' has no variants beside those of contig {contig!r}: nothing would be left."
            )
        return replace(self, left_out=contig)

    def tile(self, row: int, column: int) -> Tile:
        """Read a tile on or above the diagonal, (samples of band `row`, samples of band `column`)."""
        whole = self.source.read_tile(RELATEDNESS, 0, row, column)
        if self.left_out is None:
            return whole
        index = self.contigs.index(self.left_out)
        contig = self.source.read_tile(RELATEDNESS, index + 1, row, column)
        total: Any = self.m
        part: Any = self.contig_m[index]
        if self.has_pair_weights:
            total = self.source.read_tile(PAIR_WEIGHT, 0, row, column).astype(np.float64)
            part = self.source.read_tile(PAIR_WEIGHT, index + 1, row, column).astype(np.float64)
        # A pair that shares no variant of the contig is unknown there and loses nothing.
        sums = whole.astype(np.float64) * total - np.nan_to_num(contig) * part
        with np.errstate(divide="ignore", invalid="ignore"):
            left: NDArray[np.float64] = sums / (total - part)
        return left.astype(whole.dtype)

    def weights(self, rows: ArrayLike, columns: ArrayLike) -> Tile:
        """Return what pairs were divided by, for indices of samples in any order; m where it is the same for all."""
        chosen = np.asarray(rows, np.int64), np.asarray(columns, np.int64)
        if not self.has_pair_weights:
            return np.full((len(chosen[0]), len(chosen[1])), self.m)
        return _gather(lambda i, j: self.source.read_tile(PAIR_WEIGHT, 0, i, j), self.grid, *chosen)

    def submatrix(self, rows: ArrayLike, columns: ArrayLike) -> Tile:
        """Return `K[rows][:, columns]` for indices of samples in any order.

        Notes
        -----
        **Cost**: the tiles that hold them are read once each.
        """
        return _gather(self.tile, self.grid, np.asarray(rows, np.int64), np.asarray(columns, np.int64))

    def rows(self, start: int, stop: int) -> Tile:
        """Return rows `start` to `stop`, (stop − start, N)."""
        return self.submatrix(np.arange(start, stop), np.arange(self.n_samples))

    def dense(self, index: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the matrix of some samples, all by default, in double precision and in their order.

        Notes
        -----
        **Cost**: 8·n² bytes, and the tiles that hold them are read once.
        """
        chosen = np.arange(self.n_samples) if index is None else np.asarray(index, np.int64)
        out = np.empty((len(chosen), len(chosen)))
        side = self.grid.tile_samples
        places = [np.flatnonzero(chosen // side == band) for band in range(self.grid.n_bands)]
        for i, j in self.grid.tiles():
            if len(places[i]) and len(places[j]):
                part = self.tile(i, j)[np.ix_(chosen[places[i]] - i * side, chosen[places[j]] - j * side)]
                out[np.ix_(places[i], places[j])] = part
                out[np.ix_(places[j], places[i])] = part.T
        return out

    def diagonal(self) -> NDArray[np.float64]:
        """Return `diag K`, (N,): one and inbreeding."""
        parts = [np.diagonal(self.tile(i, i)).astype(np.float64) for i in range(self.grid.n_bands)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def matmat(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return `K X`, (N, r), in the precision of X.

        Raises
        ------
        ValueError
            When X has not N rows.

        Notes
        -----
        **Cost**: every tile is read once, 2·N²·r flop; tasks run over rows of tiles.
        """
        if X.ndim != 2 or len(X) != self.n_samples:
            raise ValueError(f"X has shape {X.shape}, not {self.n_samples:,} rows of columns")
        dtype = np.dtype(np.float32 if X.dtype == np.float32 else np.float64)
        tiles = self.grid.tiles()
        step = max(1, -(-len(tiles) // GROUPS))
        groups = [tiles[start : start + step] for start in range(0, len(tiles), step)]
        return np.asarray(sum_tasks(_multiply, groups, (self, np.ascontiguousarray(X, dtype))))


def _multiply(tiles: list[tuple[int, int]], shared: tuple[Grm, NDArray[Any]]) -> NDArray[Any]:
    """Return what some tiles and their mirror images add to `K X`."""
    grm, X = shared
    Y = np.zeros(X.shape, X.dtype)
    for i, j in tiles:
        tile = np.ascontiguousarray(grm.tile(i, j), X.dtype)
        rows, columns = grm.grid.band(i), grm.grid.band(j)
        add_product(Y[rows], tile, X[columns])
        if i != j:
            add_product(Y[columns], tile, X[rows], transposed=True)
    return Y


def _gather(
    read: Any, grid: TileGrid, rows: NDArray[np.int64], columns: NDArray[np.int64], dtype: Any = np.float32
) -> Tile:
    """Take rows and columns out of the tiles that hold them."""
    side = grid.tile_samples
    out: Tile | None = None
    row_band, column_band = rows // side, columns // side
    for i in np.unique(row_band).tolist():
        for j in np.unique(column_band).tolist():
            here = np.ix_(row_band == i, column_band == j)
            tile = read(i, j) if i <= j else read(j, i).T
            if out is None:
                out = np.empty((len(rows), len(columns)), tile.dtype)
            out[here] = tile[np.ix_(rows[row_band == i] - i * side, columns[column_band == j] - j * side)]
    return np.empty((len(rows), len(columns)), dtype) if out is None else out


@dataclass(frozen=True, eq=False)
class _Triangle:
    """A lower triangle in a file of another program, seen as tiles."""

    file: GctaGrm | PlinkRel
    n_samples: int
    tile_samples: int = 2048

    @property
    def grid(self) -> TileGrid:
        return TileGrid(self.n_samples, self.tile_samples)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64 if getattr(self.file, "dtype", "<f4") == "<f8" else np.float32)

    def read_tile(self, array: str, layer: int, row: int, column: int) -> Tile:
        """Read a tile above the diagonal: below it, transposed."""
        lower = self.file.read_block(self.grid.band(column), self.grid.band(row), counts=array == PAIR_WEIGHT)
        if row == column:
            above = np.triu_indices(len(lower), 1)
            lower[above] = lower.T[above]
        return np.ascontiguousarray(lower.T)


def open_grm(path: Path | str) -> xr.Dataset:
    """Open a relatedness matrix as a lazy Dataset: symmetric, every tile checked when it is read.

    Parameters
    ----------
    path
        A Zarr group of `biolmm grm`, or a `.grm.bin` or `.rel.bin` file.

    Returns
    -------
    Dataset with `relatedness` (samples_0 × samples_1) as a Dask array in tiles; `pair_weight` where pairs were divided by
    weights of their own; where there are matrices of contigs, `contig_relatedness` (contigs × samples_0 × samples_1) and
    `contig_m`. `sample_id_0` and `sample_id_1` are coordinates.

    Raises
    ------
    InputFileError, StoreFormatError, DamagedStoreError
        As `Grm.open`; also when a part is read that is damaged.
    """
    grm = Grm.open(path)
    dims = ("samples_0", "samples_1")
    chunks = dict.fromkeys(dims, grm.grid.tile_samples)
    variables: dict[str, Any] = {RELATEDNESS: _lazy(grm, RELATEDNESS, dims, chunks)}
    if grm.has_pair_weights:
        variables[PAIR_WEIGHT] = _lazy(grm, PAIR_WEIGHT, dims, chunks)
    coords: dict[str, Any] = {f"sample_id_{k}": (dims[k], grm.sample_id.astype(object)) for k in (0, 1)}
    if grm.contigs:
        variables[f"contig_{RELATEDNESS}"] = _lazy(grm, RELATEDNESS, ("contigs", *dims), {"contigs": 1, **chunks})
        variables["contig_m"] = ("contigs", grm.contig_m)
        coords["contig_id"] = ("contigs", np.array(grm.contigs, object))
    attributes = {"m": grm.m, "n_variants": grm.n_variants, "path": str(grm.path)}
    return xr.Dataset(variables, coords=coords, attrs=attributes)


def _lazy(grm: Grm, array: str, dims: tuple[str, ...], chunks: dict[str, int]) -> xr.Variable:
    n = grm.n_samples
    per_contig = len(dims) == 3
    shape = (len(grm.contigs), n, n) if per_contig else (n, n)
    layers = tuple(range(1, len(grm.contigs) + 1)) if per_contig else (0,)
    lazy = indexing.LazilyIndexedArray(_Symmetric(grm.source, array, layers, shape, grm.source.dtype))
    return xr.Variable(dims, lazy).chunk(chunks)


@dataclass
class _Symmetric(BackendArray):
    """Both triangles of an array, read from the tiles of one."""

    source: TileSource
    array: str
    layers: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        picked = [np.arange(size)[each] for size, each in zip(self.shape, key, strict=True)]
        rows, columns = (np.atleast_1d(each) for each in picked[-2:])
        chosen = np.atleast_1d(picked[0]) if len(self.shape) == 3 else np.zeros(1, np.int64)
        values = np.empty((len(chosen), len(rows), len(columns)), self.dtype)
        for place, which in enumerate(chosen.tolist()):
            layer = self.layers[which]
            values[place] = _gather(
                lambda i, j, layer=layer: self.source.read_tile(self.array, layer, i, j),
                self.source.grid, rows, columns, self.dtype,
            )  # fmt: skip
        scalar = [np.ndim(each) == 0 for each in picked]
        if len(self.shape) == 2:
            scalar = [True, *scalar]
        return values[tuple(0 if each else slice(None) for each in scalar)]
