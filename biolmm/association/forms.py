"""Exact quadratic forms `vᵀ (h² P K₋c P + (1−h²) P)⁻¹ v` by Lanczos quadrature, with bounds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.operator import GenotypeOperator
from biolmm.linalg.lanczos import Lanczos
from biolmm.linalg.operators import RestrictedOperator, Restriction

LOWER_BOUND = -1e-4
"""Below every eigenvalue of K, with room for rounding."""
MAX_STEPS = 80

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FormRequest:
    """Columns under one restriction and the h² at which their forms are wanted.

    Attributes
    ----------
    restriction
        Samples and covariates.
    start
        (N, r) columns in the range of P.
    left_out
        (r,) contig left out for each column, −1 for none.
    h2
        (q,) values.
    """

    restriction: Restriction
    start: NDArray[np.float32]
    left_out: NDArray[np.int64]
    h2: NDArray[np.float64]


def quadratic_forms(
    operator: GenotypeOperator, requests: Sequence[FormRequest], tolerance: float
) -> list[NDArray[np.float64]]:
    """Evaluate all requests in shared passes.

    Gauss quadrature bounds the form from below and Gauss–Radau from above; a value is the middle of the two at the
    first step where they differ by less than `tolerance`, relatively, so it does not depend on what else is asked.

    Returns
    -------
    list
        A request each: (r, q).

    Notes
    -----
    Cost: one pass a step with one column a form; 6 to 12 steps for tolerances of 1e-2 to 1e-5 without close relatives.
    """
    sizes = [request.start.shape[1] for request in requests]
    recursion = Lanczos(np.concatenate([request.start for request in requests], axis=1))
    owner = np.repeat(np.arange(len(requests)), sizes)
    first = np.cumsum([0, *sizes])
    left_out = np.concatenate([request.left_out for request in requests])
    values = [np.full((size, len(request.h2)), np.nan) for size, request in zip(sizes, requests, strict=True)]
    while recursion.active.size:
        active = recursion.active
        runs, counts = np.unique(owner[active], return_counts=True)
        contigs = left_out[active]
        restricted = RestrictedOperator(
            lambda X, contigs=contigs: operator.matmat(X, contigs),  # type: ignore[misc]
            [requests[run].restriction for run in runs],
            counts.tolist(),
        )
        recursion.advance(restricted)
        going: list[int] = []
        for run in runs:
            columns = active[owner[active] == run]
            local = columns - first[run]
            _take(recursion, columns, local, requests[run].h2, values[run], tolerance)
            going += columns[np.isnan(values[run][local]).any(axis=1)].tolist()
        recursion.retain(np.array(going, dtype=np.intp))
    if recursion.n_steps >= MAX_STEPS:
        log.warning("some exact quadratic forms had not settled after %d steps: they are close, not exact.", MAX_STEPS)
    return values


def _take(
    recursion: Lanczos, columns: NDArray[np.intp], local: NDArray[np.intp], h2: NDArray[np.float64],
    values: NDArray[np.float64], tolerance: float,
) -> None:  # fmt: skip
    """Write down the forms of some columns that are known well enough after this step."""
    gauss, radau = recursion.quadrature(columns), recursion.radau(columns, LOWER_BOUND)
    last = recursion.n_steps >= MAX_STEPS
    for q, at in enumerate(h2):
        lower = (gauss.weights / np.maximum(at * gauss.nodes + 1 - at, 1e-12)).sum(axis=1)
        upper = (radau.weights / np.maximum(at * radau.nodes + 1 - at, 1e-12)).sum(axis=1)
        exhausted = recursion.beta[-1][columns] == 0
        middle = np.where(exhausted, lower, (lower + upper) / 2)
        done = last | exhausted | (np.abs(upper - lower) <= tolerance * np.abs(lower))
        fresh = done & np.isnan(values[local, q])
        values[local[fresh], q] = middle[fresh]
