"""Matrices with invented spectra."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from biolmm.linalg.operators import Matmat


def with_spectrum(values: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Return a symmetric matrix with these eigenvalues and random eigenvectors."""
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))[0]
    return (rotation * values) @ rotation.T


def single(A: NDArray[np.float64]) -> Matmat:
    """Return X to A X in single precision, as genotype products are."""
    A32 = A.astype(np.float32)
    return lambda X: A32 @ X
