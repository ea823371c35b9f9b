"""Matrices that users bring: of biolmm, GCTA or PLINK, or a NumPy array with a list of ids beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biolmm.covariance.terms import DenseKernel, Kernel, check_matrix
from biolmm.errors import InputFileError, SampleMismatchError, named
from biolmm.files.lists import read_id_list
from biolmm.relatedness.grm import Grm


@dataclass(frozen=True, eq=False)
class UserMatrix:
    """A matrix and whose it is.

    Attributes
    ----------
    sample_id
        Ids of its rows.
    source
        An array, or a matrix on disk of which only what is asked for is read.
    name
        For messages.
    """

    sample_id: tuple[str, ...]
    source: NDArray[np.float64] | Grm
    name: str = "the matrix"

    @classmethod
    def open(cls, path: Path) -> UserMatrix:
        """Open a matrix: `.npy` with ids in `NAME.id` beside it, `.grm.bin`, `.rel.bin`, or what `biolmm grm` wrote.

        Raises
        ------
        InputFileError
            When a file cannot be read, or ids and rows differ in number.
        """
        if path.suffix != ".npy":
            grm = Grm.open(path)
            return cls(tuple(grm.sample_id.tolist()), grm, f"'{path}'")
        try:
            matrix = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputFileError(f"'{path}' cannot be read as a NumPy array: {str(error).splitlines()[0]}.") from None
        ids = read_id_list(path.with_suffix(".id"))
        if matrix.ndim != 2 or matrix.dtype.kind != "f" or len(ids) != len(matrix):
            raise InputFileError(
                f"'{path}' holds {matrix.dtype} of shape {matrix.shape}, '{path.with_suffix('.id')}' {len(ids):,} ids: a "
                "square array of real numbers and an id a row are needed."
            )
        return cls(ids, matrix.astype(np.float64), f"'{path}'")

    def kernel(self, sample_id: list[str]) -> Kernel:
        """Return the matrix of some samples in their order.

        Raises
        ------
        SampleMismatchError
            When some are not in it.
        """
        place = {name: i for i, name in enumerate(self.sample_id)}
        absent = [name for name in sample_id if name not in place]
        if absent:
            raise SampleMismatchError(
                f"{self.name} lacks {len(absent):,} of {len(sample_id):,} samples: {named(absent)}. Leave them out with "
                "--remove, or bring a matrix of everybody."
            )
        index = np.array([place[name] for name in sample_id], np.int64)
        if isinstance(self.source, Grm):
            return GrmKernel(self.source, index)
        part = self.source[np.ix_(index, index)]
        check_matrix(part, self.name)
        return DenseKernel(part)


@dataclass(frozen=True, eq=False)
class GrmKernel:
    """A matrix on disk, of some of its samples.

    Attributes
    ----------
    grm
        The matrix.
    index
        (N,) rows.

    Notes
    -----
    **Cost**: a product reads every tile once.
    """

    grm: Grm
    index: NDArray[np.int64]

    @property
    def n_samples(self) -> int:
        """N."""
        return len(self.index)

    def product(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `K X`."""
        whole = np.zeros((self.grm.n_samples, X.shape[1]), np.float32)
        whole[self.index] = X
        return np.asarray(self.grm.matmat(whole)[self.index], dtype=np.float32)

    def diagonal(self) -> NDArray[np.float64]:
        """Return the diagonal."""
        return self.grm.diagonal()[self.index]

    def dense(self) -> NDArray[np.float64]:
        """Return the matrix."""
        return self.grm.dense(self.index)
