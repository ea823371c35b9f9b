"""Effects that members of a group share: families, batches, sites, people measured several times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.covariance.terms import Kernel


@dataclass(frozen=True, eq=False)
class GroupKernel:
    """`Z Zᵀ` of the incidence Z: 1 for two samples of one group, 0 otherwise; Z is never formed.

    Attributes
    ----------
    codes
        (N,) the group of each sample, 0 … k − 1.
    """

    codes: NDArray[np.int64]

    @property
    def n_samples(self) -> int:
        """N."""
        return len(self.codes)

    def product(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return every sample's sum over its group: N·r additions."""
        sums = np.zeros((int(self.codes.max()) + 1, X.shape[1]))
        np.add.at(sums, self.codes, X)
        return np.asarray(sums[self.codes], dtype=np.float32)

    def diagonal(self) -> NDArray[np.float64]:
        """Return ones."""
        return np.ones(len(self.codes))

    def dense(self) -> NDArray[np.float64]:
        """Return the matrix."""
        return np.asarray(self.codes[:, None] == self.codes[None, :], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class RepeatedKernel:
    """`Z K Zᵀ`: several records of one individual share its effect.

    Attributes
    ----------
    kernel
        K, over individuals.
    individual
        (N,) the individual that each record is of.
    """

    kernel: Kernel
    individual: NDArray[np.int64]

    @property
    def n_samples(self) -> int:
        """Records, N."""
        return len(self.individual)

    def product(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the product: sums over an individual's records, K, and a copy for each record."""
        sums = np.zeros((self.kernel.n_samples, X.shape[1]))
        np.add.at(sums, self.individual, X)
        return np.asarray(self.kernel.product(sums.astype(np.float32))[self.individual])

    def diagonal(self) -> NDArray[np.float64]:
        """Return the diagonal."""
        return np.asarray(self.kernel.diagonal()[self.individual])

    def dense(self) -> NDArray[np.float64]:
        """Return the matrix."""
        return np.asarray(self.kernel.dense()[np.ix_(self.individual, self.individual)])
