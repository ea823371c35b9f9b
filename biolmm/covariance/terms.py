"""One interface for every covariance matrix: products, diagonal, trace, and the matrix itself where it is small.

A kernel is a matrix as its family defines it; a term is a kernel with a name, scaled so that its mean diagonal is 1.
Only then is a variance component the mean variance that its effect adds to a sample, and a share of the total what
people take it for.

Legend: N samples, r columns; K (N, N); X (N, r).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import ParameterError


class Kernel(Protocol):
    """A symmetric positive semi-definite matrix over samples, as its family defines it."""

    @property
    def n_samples(self) -> int:
        """N."""
        ...

    def product(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `K X`, (N, r)."""
        ...

    def diagonal(self) -> NDArray[np.float64]:
        """Return `diag(K)`, (N,)."""
        ...

    def dense(self) -> NDArray[np.float64]:
        """Return K, (N, N)."""
        ...


@dataclass(frozen=True, eq=False)
class Term:
    """The covariance matrix of one random effect: `scale` times a kernel.

    Attributes
    ----------
    name
        As in the results.
    kernel
        The matrix.
    scale
        What the kernel is multiplied by.
    group
        Terms of one group add up to one row of the results, for example the bins of a partitioned heritability.
    is_residual
        Whether this is noise: independent between samples, and not part of what is explained.
    """

    name: str
    kernel: Kernel
    scale: float = 1.0
    group: str = ""
    is_residual: bool = False

    @classmethod
    def normalised(cls, name: str, kernel: Kernel, *, group: str = "", is_residual: bool = False) -> Term:
        """Scale a kernel so that its mean diagonal is 1.

        Raises
        ------
        ParameterError
            When the kernel is zero: nothing varies.

        Examples
        --------
        >>> term = Term.normalised("noise", DiagonalKernel(np.array([1.0, 3.0])))
        >>> term.scale, term.diagonal().tolist(), term.trace
        (0.5, [0.5, 1.5], 2.0)
        """
        size = float(np.mean(kernel.diagonal()))
        if not np.isfinite(size) or size <= 0:
            raise ParameterError(
                f"the term '{name}' is zero for every sample (mean diagonal {size:g}): nothing in it varies. Leave it "
                "out of the formula, or check its table."
            )
        return cls(name, kernel, 1.0 / size, group or name, is_residual)

    @property
    def n_samples(self) -> int:
        """N."""
        return self.kernel.n_samples

    @property
    def is_diagonal(self) -> bool:
        """Whether samples are independent under this term."""
        return isinstance(self.kernel, DiagonalKernel)

    def matmat(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the product with a block of columns, (N, r)."""
        return np.asarray(np.float32(self.scale) * self.kernel.product(np.ascontiguousarray(X, np.float32)))

    def diagonal(self) -> NDArray[np.float64]:
        """Return the diagonal, (N,)."""
        return self.scale * self.kernel.diagonal()

    @cached_property
    def trace(self) -> float:
        """Sum of the diagonal."""
        return float(self.diagonal().sum())

    def dense(self) -> NDArray[np.float64]:
        """Return the matrix, (N, N)."""
        return self.scale * self.kernel.dense()


@dataclass(frozen=True, eq=False)
class DiagonalKernel:
    """Independent samples with their own variances: residual noise.

    Attributes
    ----------
    values
        (N,) at least 0.
    """

    values: NDArray[np.float64]

    @property
    def n_samples(self) -> int:
        """N."""
        return len(self.values)

    def product(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `diag(values) X`."""
        return np.asarray(self.values.astype(np.float32)[:, None] * X)

    def diagonal(self) -> NDArray[np.float64]:
        """Return the values."""
        return self.values

    def dense(self) -> NDArray[np.float64]:
        """Return the matrix."""
        return np.diag(self.values)


@dataclass(frozen=True, eq=False)
class DenseKernel:
    """A matrix that is held in memory: any that the user brings.

    Attributes
    ----------
    matrix
        (N, N), symmetric.
    """

    matrix: NDArray[np.float64]
    _single: list[NDArray[np.float32]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        check_matrix(self.matrix)

    @property
    def n_samples(self) -> int:
        """N."""
        return len(self.matrix)

    def product(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `K X`; a copy in single precision is made at the first call."""
        if not self._single:
            self._single.append(self.matrix.astype(np.float32))
        return np.asarray(self._single[0] @ X)

    def diagonal(self) -> NDArray[np.float64]:
        """Return the diagonal."""
        return np.diagonal(self.matrix).astype(np.float64)

    def dense(self) -> NDArray[np.float64]:
        """Return the matrix."""
        return np.asarray(self.matrix, dtype=np.float64)


def check_matrix(matrix: NDArray[np.floating], source: str = "the matrix") -> None:
    """Refuse what is no covariance matrix on sight.

    Raises
    ------
    ParameterError
        When the matrix is not square, holds NaN or infinite numbers, a negative diagonal, or is not symmetric to single
        precision.

    Examples
    --------
    >>> check_matrix(np.eye(2))
    >>> check_matrix(np.array([[1.0, 0.5], [0.0, 1.0]]))
    Traceback (most recent call last):
    biolmm.errors.ParameterError: the matrix is not symmetric: entries (0, 1) and (1, 0) are 0.5 and 0.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ParameterError(f"{source} has shape {matrix.shape}: a covariance matrix is square.")
    for start in range(0, len(matrix), 1024):
        rows = matrix[start : start + 1024]
        if not np.isfinite(rows).all():
            raise ParameterError(f"{source} holds NaN or infinite numbers: every pair of samples needs a value.")
        difference = np.abs(rows - matrix[:, start : start + 1024].T)
        worst = np.unravel_index(int(difference.argmax()), difference.shape)
        i, j = int(worst[0]) + start, int(worst[1])
        if difference[worst] > 1e-5 * max(float(np.abs(rows).max()), 1e-30):
            raise ParameterError(
                f"{source} is not symmetric: entries ({i}, {j}) and ({j}, {i}) are {matrix[i, j]:g} and {matrix[j, i]:g}."
            )
    if len(matrix) and float(np.diagonal(matrix).min()) < 0:
        raise ParameterError(f"{source} has {np.diagonal(matrix).min():g} on its diagonal: a variance is at least 0.")
