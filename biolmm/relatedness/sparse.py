"""The relatedness matrix of close relatives only: what is below a cutoff is zero."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from biolmm.atomic import atomic_path
from biolmm.chunks import map_tasks
from biolmm.errors import InputFileError, ParameterError
from biolmm.files.gcta_grm import SparseGrm
from biolmm.relatedness.grm import Grm

_ARRAYS = ("data", "indices", "indptr", "sample_id", "family_id")


def sparse_grm(grm: Grm, cutoff: float = 0.05) -> SparseGrm:
    """Keep the diagonal and the pairs whose relatedness is at least `cutoff`.

    Parameters
    ----------
    grm
        The matrix.
    cutoff
        Positive; 0.05 keeps about third-degree relatives and closer (fastGWA's default).

    Raises
    ------
    ParameterError
        When the cutoff is not positive.

    Notes
    -----
    **Cost**: every tile is read once; memory for the pairs that are kept.
    """
    if not cutoff > 0:
        raise ParameterError(f"the cutoff of a sparse matrix is {cutoff:g} but must be positive.")
    found = map_tasks(_above, grm.grid.tiles(), (grm, cutoff))
    row, column, value = (np.concatenate([part[k] for part in found]) for k in range(3))
    off = row != column
    values = np.concatenate([value, value[off]])
    places = (np.concatenate([row, column[off]]), np.concatenate([column, row[off]]))
    matrix = sparse.csr_array((values, places), shape=(grm.n_samples, grm.n_samples))
    matrix.sort_indices()
    return SparseGrm(matrix, grm.sample_id, grm.family_id)


Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def _above(tile: tuple[int, int], shared: tuple[Grm, float]) -> Found:
    """Return rows, columns and values of the pairs of a tile that are kept, each once."""
    grm, cutoff = shared
    i, j = tile
    values = grm.tile(i, j)
    kept = values >= cutoff
    if i == j:
        kept = np.triu(kept)
        np.fill_diagonal(kept, True)
    row, column = np.nonzero(kept)
    return row + grm.grid.band(i).start, column + grm.grid.band(j).start, values[row, column].astype(np.float64)


def save_sparse(grm: SparseGrm, path: Path) -> Path:
    """Write a sparse matrix with its samples as `.npz`, atomically.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    with atomic_path(path) as aside, aside.open("wb") as file:
        np.savez_compressed(
            file, data=grm.matrix.data, indices=grm.matrix.indices, indptr=grm.matrix.indptr,
            sample_id=grm.sample_id, family_id=grm.family_id,
        )  # fmt: skip
    return path


def open_sparse(path: Path) -> SparseGrm:
    """Open what `save_sparse` wrote.

    Raises
    ------
    InputFileError
        When it is missing, damaged or something else.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as saved:
            found = {name: saved[name] for name in _ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputFileError(f"'{path}' cannot be read as a sparse relatedness matrix: {error}.") from error
    n = len(found["sample_id"])
    matrix = sparse.csr_array((found["data"], found["indices"], found["indptr"]), shape=(n, n))
    return SparseGrm(matrix, found["sample_id"], found["family_id"])
