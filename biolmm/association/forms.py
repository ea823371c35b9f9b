"""Quadratic forms `vᵀ (h² P K₋c P + (1−h²) P)⁻¹ v` at every h² at once, from a few products.

Legend: U (N, k) leading eigenvectors of PKP, θ (k,) their Rayleigh quotients under K₋c, D = h²θ + 1 − h²; a = Uᵀv; T the
tridiagonal matrix of a Lanczos recursion that is started at v − U a and kept orthogonal to U; B = UᵀK₋cQ of its vectors.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.operator import GenotypeOperator
from biolmm.linalg.lanczos import Lanczos
from biolmm.linalg.operators import RestrictedOperator, Restriction

MAX_STEPS = 80
LEFT = 0.5
"""An eigenvector of which less is left under a column's matrix is no eigenvector for that column."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FormRequest:
    """Columns under one restriction and the h² at which their forms are wanted.

    Attributes
    ----------
    restriction
        Samples and covariates.
    vectors
        (N, k) leading eigenvectors U.
    values
        (k, r) Rayleigh quotients θ of every eigenvector under each column's matrix.
    start
        (N, r) columns in the range of P.
    left_out
        (r,) contig left out for each column, −1 for none.
    h2
        (q,) values.
    shares
        (k, r) how much of an eigenvector is left under each column's matrix, see `shares_left`; by default all.
    """

    restriction: Restriction
    vectors: NDArray[np.float32]
    values: NDArray[np.float64]
    start: NDArray[np.float32]
    left_out: NDArray[np.int64]
    h2: NDArray[np.float64]
    shares: NDArray[np.float64] | None = None

    @property
    def used(self) -> NDArray[np.bool_]:
        """(k, r): whether an eigenvector is eliminated for a column; one that has mostly fallen into the bulk is not."""
        return np.ones(self.values.shape, dtype=bool) if self.shares is None else self.shares > LEFT

    def along(self) -> NDArray[np.float64]:
        """Return `Uᵀv`, (k, r)."""
        return np.asarray(self.vectors.T.astype(np.float64) @ self.start)


def remainder_forms(
    operator: GenotypeOperator, requests: Sequence[FormRequest], tolerance: float
) -> list[NDArray[np.float64]]:
    """Evaluate `vᵀH⁻¹v − Σₖ (uₖᵀv)² / (h²θₖ + 1−h²)`: what the eigenvectors in use leave over.

    The sum is over the eigenvectors that `FormRequest.used` has for the column; the others are left to the recursion. On
    the space of U and s Lanczos vectors, the eigenvectors eliminated,

        form = bᵀ (h²T + 1−h² − h⁴BᵀD⁻¹B)⁻¹ b,      b = ‖v − Ua‖ e₁ − h²BᵀD⁻¹a

    to which the steps that are not taken add as if they all had the coefficients of the last one: a tridiagonal
    matrix that goes on with constants has a resolvent in closed form (Haydock, Heine & Kelly 1972,
    doi 10.1088/0022-3719/5/20/004). A value is taken at the first step where that adds less than `tolerance`,
    relatively; its error is a tenth to a quarter of what is added. It does not depend on what else is asked.

    That U are not quite eigenvectors of K₋c is made good as far as the Lanczos vectors reach: in cohorts of thousands
    1e-5 of the form are left, and per milles where a few hundred people share few contigs. A recursion that is started
    where next to nothing is left over does not reach far: the form of a column in the span of U is not to be used.

    Returns
    -------
    list
        A request each: (r, q).

    Notes
    -----
    Cost: one pass a step with one column a form; for a tolerance of 1e-2, 2 steps to h² = 0.5 and 3 to 5 at 0.8.
    """
    sizes = [request.start.shape[1] for request in requests]
    along = [request.along() * request.used for request in requests]
    rest = [r.start - r.vectors @ a.astype(np.float32) for r, a in zip(requests, along, strict=True)]
    recursion = Lanczos(np.concatenate(rest, axis=1))
    owner = np.repeat(np.arange(len(requests)), sizes)
    first = np.cumsum([0, *sizes])
    left_out = np.concatenate([request.left_out for request in requests])
    values = [np.full((size, len(request.h2)), np.nan) for size, request in zip(sizes, requests, strict=True)]
    coupling: list[list[NDArray[np.float64]]] = [[] for _ in requests]
    while recursion.active.size:
        active = recursion.active
        columns = {run: np.flatnonzero(owner[active] == run) for run in np.unique(owner[active]).tolist()}
        local = {run: active[places] - first[run] for run, places in columns.items()}
        used = {run: requests[run].used[:, which] for run, which in local.items()}
        product = _Deflated(operator, requests, columns, left_out[active], used)
        recursion.advance(product)
        for run, inside in product.inside.items():
            coupling[run].append(np.zeros((len(inside), sizes[run])))
            coupling[run][-1][:, local[run]] = inside
        going: list[int] = []
        for run, which in local.items():
            mine = which + first[run]
            _take(recursion, mine, which, requests[run], along[run], coupling[run], values[run], tolerance)
            going += mine[np.isnan(values[run][which]).any(axis=1)].tolist()
        recursion.retain(np.array(going, dtype=np.intp))
    if recursion.n_steps >= MAX_STEPS:
        log.warning("some quadratic forms had not settled after %d steps: γ is close, not exact.", MAX_STEPS)
    return values


@dataclass
class _Deflated:
    """`(I − UUᵀ) P K₋c P` of the active columns of all requests, which are in runs, and what was taken out.

    Attributes
    ----------
    columns
        Places of every request's columns in the block.
    inside
        `UᵀK₋c x` of every request after the product, zero for eigenvectors not in use.
    used
        (k, columns) of every request: which are.
    """

    operator: GenotypeOperator
    requests: Sequence[FormRequest]
    columns: dict[int, NDArray[np.intp]]
    left_out: NDArray[np.int64]
    used: dict[int, NDArray[np.bool_]]
    inside: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def __call__(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Multiply (N, r): one pass."""
        restricted = RestrictedOperator(
            lambda block: self.operator.matmat(block, self.left_out),
            [self.requests[run].restriction for run in self.columns],
            [len(places) for places in self.columns.values()],
        )
        W = restricted(X)
        for run, places in self.columns.items():
            U = self.requests[run].vectors
            self.inside[run] = (U.T @ W[:, places]) * self.used[run]
            W[:, places] -= U @ self.inside[run]
        return W


def _take(
    recursion: Lanczos, columns: NDArray[np.intp], local: NDArray[np.intp], request: FormRequest,
    along: NDArray[np.float64], coupling: Sequence[NDArray[np.float64]], values: NDArray[np.float64], tolerance: float,
) -> None:  # fmt: skip
    """Write down the forms of some columns that are known well enough after this step."""
    T, last = _tridiagonal(recursion, columns), recursion.beta[-1][columns] ** 2
    B = np.stack([step[:, local] for step in coupling]).transpose(2, 1, 0)  # (columns, k, steps)
    a, theta, size = along[:, local].T, request.values[:, local].T, recursion.norms[columns]
    unit = np.eye(recursion.n_steps)
    for q, h2 in enumerate(request.h2):
        inverse = 1 / (h2 * theta + 1 - h2)
        inner = h2 * T + (1 - h2) * unit - h2**2 * np.einsum("cki,ck,ckj->cij", B, inverse, B)
        right = size[:, None] * unit[0] - h2 * np.einsum("cki,ck,ck->ci", B, inverse, a)
        known = _form(inner, right)
        inner[:, -1, -1] -= _continued(h2 * T[:, -1, -1] + 1 - h2, h2**2 * last)
        form = _form(inner, right)
        settled = (last == 0) | (np.abs(form - known) <= tolerance * np.abs(form))
        fresh = (settled | (recursion.n_steps >= MAX_STEPS)) & np.isnan(values[local, q])
        values[local[fresh], q] = form[fresh]


def _tridiagonal(recursion: Lanczos, columns: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return T of every column, (c, s, s)."""
    steps = np.arange(recursion.n_steps)
    T = np.zeros((len(columns), len(steps), len(steps)))
    T[:, steps, steps] = np.stack(recursion.alpha, axis=1)[columns]
    beside = np.stack(recursion.beta, axis=1)[columns][:, :-1]
    T[:, steps[:-1], steps[1:]] = T[:, steps[1:], steps[:-1]] = beside
    return T


def _continued(diagonal: NDArray[np.float64], square: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return t = b² / (d − t), what a tridiagonal matrix that goes on with d and b for ever takes from its last entry.

    Where no such matrix is positive definite (d < 2b), the smallest one that is.

    Examples
    --------
    >>> t = _continued(np.array([1.0]), np.array([0.21]))
    >>> round(float(t[0]), 6), round(float(0.21 / (1.0 - t[0])), 6)
    (0.3, 0.3)
    """
    return np.asarray((diagonal - np.sqrt(np.maximum(diagonal**2 - 4 * square, 0.0))) / 2)


def _form(inner: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `bᵀA⁻¹b` of every column, (c,)."""
    return np.asarray(np.einsum("ci,ci->c", right, np.linalg.solve(inner, right[:, :, None])[:, :, 0]))
