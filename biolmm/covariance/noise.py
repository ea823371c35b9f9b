"""Residual noise: the same for everybody, of each category its own, or growing with a covariate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from biolmm.covariance.terms import DiagonalKernel, Term

RESIDUAL = "residual"


def common_noise(n_samples: int) -> Term:
    """Return the identity: independent noise of one variance."""
    return Term(RESIDUAL, DiagonalKernel(np.ones(n_samples)), group=RESIDUAL, is_residual=True)


def category_noise(column: str, codes: NDArray[np.int64], levels: Sequence[str]) -> list[Term]:
    """Return one noise term a category, in place of the common one: each category has a variance of its own.

    Each is scaled to mean diagonal 1 over all samples, as every term is; the noise variance of a sample in the category is
    the component times N over the category's size.

    Examples
    --------
    >>> [term.name for term in category_noise("batch", np.array([0, 1, 1]), ["a", "b"])]
    ['residual:batch=a', 'residual:batch=b']
    """
    return [
        Term.normalised(
            f"{RESIDUAL}:{column}={level}", DiagonalKernel((codes == i).astype(np.float64)), group=RESIDUAL,
            is_residual=True,
        )
        for i, level in enumerate(levels)
    ]  # fmt: skip


def covariate_noise(column: str, values: NDArray[np.float64]) -> Term:
    """Return noise beside the common one whose variance grows with the square of the standardised covariate."""
    centred = (values - values.mean()) / max(float(values.std()), 1e-300)
    return Term.normalised(f"{RESIDUAL}:{column}", DiagonalKernel(centred**2), group=RESIDUAL, is_residual=True)
