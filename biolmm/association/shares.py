"""How much of an eigenvector of K is still one when a contig is left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from biolmm.reml.spectrum import Spectrum


def shares_left(spectrum: Spectrum, left_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of every eigenvector that stays one under each left-out contig, (n_contigs + 1, k).

        share = 1 − (θ − θ_c) / (θ − τ_c), between 0 and 1,      τ_c = (tr PKP − Σ_k θ_c) / (n − C − k)

    with θ = uᵀKu, θ_c = uᵀK₋c u and τ_c the mean of the other eigenvalues of K₋c. Ancestry and families are in all contigs:
    θ_c ≈ θ and the share is 1. Where variants in long linkage disequilibrium make u and their contig is left out, u falls
    into the bulk: θ_c ≈ τ_c, and the share is 0.

    Parameters
    ----------
    spectrum
        Of K under one restriction.
    left_values
        (n_contigs + 1, k) Rayleigh quotients θ_c; the last row, θ, leaves nothing out.
    """
    rest = max(spectrum.restriction.rank - left_values.shape[1], 1)
    bulk = np.maximum(spectrum.whole_trace - left_values.sum(axis=1, keepdims=True), 0.0) / rest
    above = left_values[-1] - bulk
    fallen = np.where(above > 0, (left_values[-1] - left_values) / np.where(above > 0, above, 1.0), 0.0)
    return np.asarray(1 - np.clip(fallen, 0.0, 1.0))
