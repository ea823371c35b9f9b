"""What every operator has to obey, whatever it computes (PyLops' dot test, and two more)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

EPS32 = float(np.finfo(np.float32).eps)


def draw(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    """Draw a block of columns."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def check_operator(matmat: Callable[[NDArray[np.float32]], NDArray[Any]], X: NDArray[np.float32]) -> None:
    """Check symmetry, linearity and that columns do not depend on their company, for columns X of the domain.

    Single precision: sums of n products are off by at most a small multiple of √n·ε relative to the norms.
    """
    allowed = 8 * np.sqrt(len(X)) * EPS32
    Y = matmat(X).astype(np.float64)
    size = np.linalg.norm(Y, axis=0)
    dots = X.T.astype(np.float64) @ Y
    assert np.all(np.abs(dots - dots.T) <= allowed * np.outer(np.linalg.norm(X, axis=0), size).max()), "not symmetric"
    weights = np.linspace(-1, 2, X.shape[1]).astype(np.float32)
    mixed = matmat((X @ weights)[:, None])[:, 0]
    assert np.linalg.norm(mixed - Y @ weights) <= allowed * (size @ np.abs(weights)), "not linear"
    for column in (0, X.shape[1] - 1):
        alone = matmat(np.ascontiguousarray(X[:, [column]]))[:, 0]
        assert np.linalg.norm(alone - Y[:, column]) <= allowed * size[column], "a column depends on its company"
