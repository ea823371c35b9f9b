"""The left-out systems `H = h² P K₋c P + (1−h²) P` of every (trait, contig), column by column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.operator import GenotypeOperator
from biolmm.linalg.operators import RestrictedOperator, Restriction
from biolmm.reml.spectrum import Spectrum


@dataclass(frozen=True)
class LeftOutSystems:
    """Columns j = (trait, left-out contig), traits in runs.

    Attributes
    ----------
    operator
        K and K₋c.
    spectra
        Spectrum of each trait, for its restriction and its preconditioner.
    h2
        (T,) heritability of each trait.
    left_out
        (r,) contig index of each column; −1 leaves nothing out.
    trait
        (r,) trait of each column, ascending.
    left_values
        (T, n_contigs) list of eigenvalues `uᵀ K₋c u`, see `left_out_values`.
    """

    operator: GenotypeOperator
    spectra: Sequence[Spectrum]
    h2: NDArray[np.float64]
    left_out: NDArray[np.int64]
    trait: NDArray[np.int64]
    left_values: Sequence[NDArray[np.float64]]

    def products(self, X: NDArray[np.float32], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return `H_j x_j` for the chosen columns: one pass."""
        traits, counts = np.unique(self.trait[columns], return_counts=True)
        restrictions: list[Restriction] = [self.spectra[t].restriction for t in traits]
        contigs = self.left_out[columns]
        operator = RestrictedOperator(lambda block: self.operator.matmat(block, contigs), restrictions, counts.tolist())
        h2 = self.h2[self.trait[columns]].astype(np.float32)
        return np.asarray(h2 * operator(X) + (1 - h2) * X, dtype=np.float32)

    def precondition(self, X: NDArray[np.float32], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return an approximate `H_j⁻¹ x_j`: exact on the leading eigenvectors, the mean of the tail elsewhere."""
        out = np.empty_like(X)
        owners = self.trait[columns]
        for t in np.unique(owners):
            mine = np.flatnonzero(owners == t)
            spectrum, h2 = self.spectra[t], self.h2[t]
            U = spectrum.pairs.vectors
            tail = h2 * spectrum.tail_mean + 1 - h2
            values = self.left_values[t][self.left_out[columns[mine]]].T  # (k, columns); the last row stands for −1
            factor = 1 / (h2 * values + 1 - h2) - 1 / tail
            block = X[:, mine]
            out[:, mine] = block / np.float32(tail) + U @ (factor * (U.T @ block)).astype(np.float32)
        return out


def left_out_values(operator: GenotypeOperator, spectra: Sequence[Spectrum]) -> list[NDArray[np.float64]]:
    """Return `uᵀ K₋c u` of every eigenvector under every left-out contig: one pass of one product.

    Returns
    -------
    list
        A spectrum each: (n_contigs + 1, k); the last row leaves nothing out.
    """
    vectors = [spectrum.pairs.vectors for spectrum in spectra]
    forms = operator.contig_forms(np.concatenate(vectors, axis=1))
    stops = np.cumsum([v.shape[1] for v in vectors])[:-1]
    remaining = operator.m_without([*range(operator.n_contigs), -1])[:, None]
    out = []
    for part in np.split(forms, stops, axis=1):
        left_in = np.vstack([part.sum(axis=0) - part, part.sum(axis=0)])
        out.append(left_in / remaining)
    return out
