"""Similarity by measured features: taxa of the gut, methylation sites, transcripts, metabolites.

`W Wᵀ / p` with W the features standardised to mean 0 and variance 1, as in OSCA (Zhang et al. 2019,
doi 10.1186/s13059-019-1718-z); of the microbiome, the share of its component is the microbiability (Difford et al. 2018,
doi 10.1371/journal.pgen.1007580). The N × N matrix is never formed unless it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError


@dataclass(frozen=True, eq=False)
class FeatureKernel:
    """`W Wᵀ / p`.

    Attributes
    ----------
    W
        (N, p) standardised features.

    Notes
    -----
    **Cost**: W in memory, 4·N·p bytes; a product takes 4·N·p·r flop.
    """

    W: NDArray[np.float32]

    @classmethod
    def standardised(cls, values: NDArray[np.float64], source: str = "the features") -> FeatureKernel:
        """Standardise features, (N, p) with NaN where missing, which becomes the mean; constant features are left out.

        Raises
        ------
        InputFileError
            When a value is infinite or no feature varies.

        Examples
        --------
        >>> FeatureKernel.standardised(np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0]])).W.ravel().tolist()
        [-1.0, 1.0, 0.0]
        """
        if np.isinf(values).any():
            raise InputFileError(f"{source} hold infinite values in {int(np.isinf(values).sum()):,} places: use NA.")
        present = ~np.isnan(values)
        n = np.maximum(present.sum(axis=0), 1)
        mean = np.where(present, values, 0.0).sum(axis=0) / n
        centred = np.where(present, values - mean, 0.0)
        deviation = np.sqrt((centred**2).sum(axis=0) / n)
        varies = deviation > 1e-9 * np.maximum(np.abs(mean), 1e-300)
        if not varies.any():
            raise InputFileError(f"None of the {values.shape[1]:,} columns of {source} varies among the samples.")
        return cls(np.ascontiguousarray(centred[:, varies] / deviation[varies], dtype=np.float32))

    @property
    def n_samples(self) -> int:
        """N."""
        return len(self.W)

    @property
    def n_features(self) -> int:
        """Features that vary, p."""
        return int(self.W.shape[1])

    def product(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `W (Wᵀ X) / p`."""
        return np.asarray(self.W @ (self.W.T @ X) / np.float32(self.n_features))

    def diagonal(self) -> NDArray[np.float64]:
        """Return the diagonal."""
        return np.asarray(np.einsum("ij,ij->i", self.W, self.W, dtype=np.float64) / self.n_features)

    def dense(self) -> NDArray[np.float64]:
        """Return the matrix."""
        W = self.W.astype(np.float64)
        return np.asarray(W @ W.T / self.n_features)
