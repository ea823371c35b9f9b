"""The delete-a-block jackknife for blocks of unequal size.

Busing, Meijer & van der Leeden 1999 (Statistics and Computing 9, 3–8).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MIN_BLOCKS = 2


def jackknife_se(
    whole: NDArray[np.float64], without: NDArray[np.float64], sizes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the standard error of estimates from what they are without each block.

    With h_j = n / m_j, pseudo-values τ_j = h_j θ̂ − (h_j − 1) θ̂₋j and θ_J = g θ̂ − Σ (1 − m_j/n) θ̂₋j,

        var = (1/g) Σ (τ_j − θ_J)² / (h_j − 1)

    Parameters
    ----------
    whole
        (…) estimates from everything.
    without
        (g, …) estimates without each block.
    sizes
        (g,) m_j, positive.

    Returns
    -------
    NDArray[np.float64]
        (…); NaN with fewer than two blocks, and where an estimate without some block does not exist.

    Examples
    --------
    Of a mean of equal blocks it is the textbook's s/√n:

    >>> x = np.array([1.0, 2.0, 4.0, 9.0])
    >>> without = (x.sum() - x) / 3
    >>> bool(np.isclose(jackknife_se(x.mean(), without, np.ones(4)), x.std(ddof=1) / 2))
    True
    """
    whole, without = np.asarray(whole, dtype=np.float64), np.asarray(without, dtype=np.float64)
    if len(sizes) < MIN_BLOCKS:
        return np.full(whole.shape, np.nan)
    shape = (-1, *[1] * whole.ndim)
    share = (sizes / sizes.sum()).reshape(shape)
    ratio = 1 / share
    joined = len(sizes) * whole - ((1 - share) * without).sum(axis=0)
    pseudo = ratio * whole - (ratio - 1) * without
    return np.asarray(np.sqrt(np.mean((pseudo - joined) ** 2 / (ratio - 1), axis=0)))
