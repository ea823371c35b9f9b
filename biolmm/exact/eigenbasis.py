"""The contrasts of one set of observed samples in which relatedness is diagonal.

    P K P = U S Uᵀ,   Uᵀ U = I,   Uᵀ Q = 0        Var(Uᵀ y) = σ²_e (λ S + I)

Legend: N samples, n observed, C covariates (intercept included), Q their basis; U (n, n − C), S (n − C,).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, eigvalsh

from biolmm.chunks import check_stop
from biolmm.exact.axis import inverse_coefficients, log_determinant_coefficients
from biolmm.linalg.operators import Restriction

log = logging.getLogger(__name__)

NEGATIVE = 1e-6
"""Negative eigenvalues beyond this share of the largest one are more than rounding."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Eigenbasis:
    """Everything about a set of observed samples and a relatedness matrix that no trait and no variant changes.

    Attributes
    ----------
    rows
        (n,) the observed samples.
    vectors
        (n, n − C) U.
    values
        (n − C,) S, ascending, none below 0.
    inverse
        (n − C, W·D) coefficients of `1/(λs+1)`, see `axis`.
    full_values
        (n,) or (n − 1,) eigenvalues of the centred K itself.
    restricted, full
        (W·D,) coefficients of `Σ log(λs+1)` over S, and over `full_values`: those of the
        restricted and of the full likelihood.
    """

    rows: NDArray[np.int64]
    vectors: Array
    values: Array
    full_values: Array
    inverse: Array
    restricted: Array
    full: Array

    @property
    def n(self) -> int:
        """Observed samples."""
        return len(self.rows)

    @property
    def n_covariates(self) -> int:
        """C."""
        return self.n - len(self.values)

    @property
    def n_bytes(self) -> int:
        """Bytes that it holds."""
        return self.vectors.nbytes + self.inverse.nbytes

    def rotate(self, Z: Array) -> Array:
        """Return `Z_o U`, (b, n − C), for rows Z (b, N) of everybody."""
        return np.asarray((Z if len(self.rows) == Z.shape[1] else Z[:, self.rows]) @ self.vectors)


def decompose(K: Array, restriction: Restriction) -> Eigenbasis:
    """Compute the eigenbasis of `P K P` on the observed samples.

    Parameters
    ----------
    K
        (N, N) relatedness matrix.
    restriction
        Observed samples and covariates.

    Notes
    -----
    The covariates are turned into eigenvectors of a negative value, below all others, by which they are recognised: K
    may have null vectors of its own. Directions in which a given matrix is negative count as 0.

    **Cost**: about 9·n³ flop and five n × n matrices; 4/3·n³ more where there are covariates beside the intercept.
    """
    rows = np.flatnonzero(restriction.observed)
    Q = restriction.basis[rows]
    part = K[np.ix_(rows, rows)]
    full = None
    check_stop()
    if Q.shape[1] > 1:
        ones = np.full((len(rows), 1), len(rows) ** -0.5)
        full = _clipped(eigvalsh(_project(part, ones), overwrite_a=True, check_finite=False))
    check_stop()
    projected = _project(part, Q)
    del part
    apart = max(float(np.abs(np.diag(projected)).sum()), 1e-300)
    projected -= apart * (Q @ Q.T)
    # The transpose of a symmetric matrix is itself, in the order of LAPACK, which then needs no copy.
    values, vectors = eigh(projected.T, overwrite_a=True, check_finite=False, driver="evd")
    C = Q.shape[1]
    values, vectors = _clipped(values[C:]), np.ascontiguousarray(vectors[:, C:])
    whole = values if full is None else full  # the zero of the intercept adds log 1
    return Eigenbasis(
        rows, vectors, values, whole, inverse_coefficients(values), log_determinant_coefficients(values),
        log_determinant_coefficients(whole),
    )  # fmt: skip


def _project(K: Array, Q: Array) -> Array:
    """Return `(I − QQᵀ) K (I − QQᵀ)`."""
    KQ = K @ Q
    half = KQ - 0.5 * Q @ (Q.T @ KQ)
    taken = half @ Q.T
    projected = K - taken
    projected -= taken.T
    return np.asarray(projected)


def _clipped(values: Array) -> Array:
    """Put negative eigenvalues at 0, and say so when they are more than rounding."""
    if len(values) and values[0] < -NEGATIVE * max(values[-1], 1e-300):
        negative = values[values < 0]
        log.warning(
            "the relatedness matrix is not positive semi-definite: %d eigenvalues are negative, down to %.3g (the largest is "
            "%.3g); they count as 0.",
            len(negative), values[0], values[-1],
        )  # fmt: skip
    return np.maximum(values, 0.0)
