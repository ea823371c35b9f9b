"""Effects that change with the environment: `K ∘ (E Eᵀ) = Σ_k D_k K D_k`, D_k the diagonal of column k of E.

A continuous environment has one column, its standardised value: the effect of a sample's genome grows with it (a random
slope). A categorical one has a column of 0 and 1 for every category: effects are independent between categories.
Yang, Lee, Goddard & Visscher 2011 (GCTA, doi 10.1016/j.ajhg.2010.11.011); Kerin & Marchini 2020 (LEMMA,
doi 10.1016/j.ajhg.2020.08.009).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.covariance.terms import Kernel


@dataclass(frozen=True, eq=False)
class InteractionKernel:
    """`K ∘ (E Eᵀ)`.

    Attributes
    ----------
    kernel
        K.
    environment
        (N, k) E.
    """

    kernel: Kernel
    environment: NDArray[np.float32]

    @property
    def n_samples(self) -> int:
        """N."""
        return self.kernel.n_samples

    def product(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `Σ_k D_k K D_k X`: one product with k times as many columns."""
        k, r = self.environment.shape[1], X.shape[1]
        stacked = (self.environment[:, :, None] * X[:, None, :]).reshape(len(X), k * r)
        Y = self.kernel.product(stacked).reshape(len(X), k, r)
        return np.asarray(np.einsum("nk,nkr->nr", self.environment, Y))

    def diagonal(self) -> NDArray[np.float64]:
        """Return the diagonal."""
        return np.asarray(self.kernel.diagonal() * (self.environment.astype(np.float64) ** 2).sum(axis=1))

    def dense(self) -> NDArray[np.float64]:
        """Return the matrix."""
        E = self.environment.astype(np.float64)
        return self.kernel.dense() * (E @ E.T)


def standardised_environment(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return one column of mean 0 and variance 1, (N, 1); zero where nothing varies.

    Examples
    --------
    >>> standardised_environment(np.array([1.0, 3.0])).ravel().tolist()
    [-1.0, 1.0]
    """
    centred = values - values.mean()
    deviation = centred.std()
    return np.asarray((centred / deviation if deviation > 0 else centred)[:, None], dtype=np.float32)


def category_columns(codes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return a column of 0 and 1 a category, (N, k), for codes 0 … k − 1.

    Examples
    --------
    >>> category_columns(np.array([1, 0, 1])).tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """
    return np.eye(int(codes.max()) + 1, dtype=np.float32)[codes]
