"""Leading eigenpairs by randomised block Krylov iteration, several systems in the same products.

Halko, Martinsson & Tropp 2011 (doi 10.1137/090771806); Musco & Musco 2015 (arXiv 1504.05477).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from biolmm.linalg.operators import Matmat, RestrictedOperator, Restriction
from biolmm.linalg.probes import rademacher

OVERSAMPLING = 10
"""Columns of a random start block beyond the pairs wanted."""


@dataclass(frozen=True)
class Eigenpairs:
    """Leading eigenpairs `A U ≈ U diag(values)`, largest first.

    Attributes
    ----------
    values
        (k,) Ritz values.
    vectors
        (n, k) orthonormal columns.
    residuals
        (k,) `‖A u − θ u‖ / θ`.
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float32]
    residuals: NDArray[np.float64]

    def leading(self, keep: NDArray[np.bool_]) -> Eigenpairs:
        """Return the pairs chosen by a mask."""
        return Eigenpairs(self.values[keep], np.ascontiguousarray(self.vectors[:, keep]), self.residuals[keep])


@dataclass
class _System:
    """One operator's growing Krylov basis B and the products A B."""

    restriction: Restriction
    n_pairs: int
    basis: NDArray[np.float32]
    products: list[NDArray[np.float32]] = field(default_factory=list)
    next_block: NDArray[np.float32] | None = None
    pairs: Eigenpairs | None = None


def block_krylov_eigenpairs(
    matmat: Matmat,
    restrictions: Sequence[Restriction],
    starts: Sequence[NDArray[np.float32]],
    n_pairs: Sequence[int],
    *,
    tolerance: float = 1e-2,
    max_products: int = 5,
    give_up: bool = False,
) -> list[Eigenpairs]:
    """Find the leading eigenpairs of `P_s K P_s` for every system s.

    Parameters
    ----------
    matmat
        X to K X.
    restrictions
        The projection P_s of each system.
    starts
        (n, b_s) start block of each system; a few columns more than pairs wanted.
    n_pairs
        Pairs wanted of each system.
    tolerance
        A pair has converged when `‖A u − θ u‖ < tolerance · θ`.
    max_products
        A system stops after this many products even when pairs are left unconverged.
    give_up
        Stop earlier when no further pair is on the way to converge: those of a bulk without gaps never do.

    Returns
    -------
    list[Eigenpairs]
        A system each; every pair carries its residual, converged or not.

    Notes
    -----
    Cost: one call of `matmat` per iteration, with the columns of all unfinished systems side by side.
    """
    systems = [
        _System(restriction, count, _orthonormal(restriction.project(start)))
        for restriction, start, count in zip(restrictions, starts, n_pairs, strict=True)
    ]
    for system in systems:
        system.next_block = system.basis
    for step in range(max_products):
        active = [system for system in systems if system.next_block is not None]
        if not active:
            break
        blocks = [system.next_block for system in active if system.next_block is not None]
        operator = RestrictedOperator(matmat, [s.restriction for s in active], [b.shape[1] for b in blocks])
        product = operator(np.concatenate(blocks, axis=1))
        stops = np.cumsum([block.shape[1] for block in blocks])
        for system, part in zip(active, np.split(product, stops[:-1], axis=1), strict=True):
            before = None if system.pairs is None else system.pairs.residuals
            _advance(system, part, tolerance, last=step == max_products - 1)
            if give_up and before is not None and _hopeless(system, before, tolerance, max_products - 1 - step):
                system.next_block = None
    return [_finished(system) for system in systems]


def leading_components(
    matmat: Matmat,
    keys: NDArray[np.uint64],
    restriction: Restriction,
    n_components: int,
    seed: int,
    *,
    tolerance: float = 1e-3,
    max_products: int = 10,
) -> Eigenpairs:
    """Return exactly `n_components` leading eigenpairs of PKP, with their residuals, converged or not.

    Parameters
    ----------
    matmat
        X to K X.
    keys
        (n,) row keys, see `probes.row_keys`: the start block does not depend on the order of rows.
    restriction
        P.
    n_components
        At most the rank of P.
    seed
        Of the start block.
    tolerance, max_products
        As `block_krylov_eigenpairs`.

    Notes
    -----
    Cost: at most `max_products` products with n_components + 10 columns.
    """
    start = rademacher(keys, "eigenpairs", range(n_components + OVERSAMPLING), seed)
    return block_krylov_eigenpairs(
        matmat, [restriction], [start], [n_components], tolerance=tolerance, max_products=max_products
    )[0]


def _advance(system: _System, product: NDArray[np.float32], tolerance: float, *, last: bool) -> None:
    """Take in `A · block`, update the Ritz pairs, and prepare the next block unless the system is finished."""
    system.products.append(product)
    products = np.concatenate(system.products, axis=1)
    gram = system.basis.T.astype(np.float64) @ products
    values, rotation = np.linalg.eigh((gram + gram.T) / 2)
    order = np.argsort(values)[::-1][: system.n_pairs]
    values, rotation = values[order], rotation[:, order]
    vectors = (system.basis @ rotation.astype(np.float32)).astype(np.float32)
    misfit = products @ rotation.astype(np.float32) - vectors * values.astype(np.float32)
    residuals = np.linalg.norm(misfit, axis=0) / np.maximum(np.abs(values), np.finfo(np.float64).tiny)
    system.pairs = Eigenpairs(values, vectors, residuals.astype(np.float64))
    system.next_block = None
    if last or np.all(residuals < tolerance):
        return
    fresh = _orthonormal(product, against=system.basis)
    if fresh.shape[1] > 0:
        system.next_block = fresh
        system.basis = np.concatenate([system.basis, fresh], axis=1)


def _hopeless(system: _System, before: NDArray[np.float64], tolerance: float, n_left: int) -> bool:
    """Whether no open pair reaches the tolerance in `n_left` products, each lowering its residual as the last one did.

    Residuals in a bulk fall more slowly with every product, those of pairs with a gap faster.
    """
    if system.pairs is None or len(before) != len(system.pairs.residuals):
        return False
    now = system.pairs.residuals
    fall = np.minimum(now / np.maximum(before, np.finfo(np.float64).tiny), 1.0)
    return bool(np.all((now < tolerance) | (now * fall**n_left >= tolerance)))


def _finished(system: _System) -> Eigenpairs:
    if system.pairs is None:
        raise ValueError("at least one product is needed")
    return system.pairs


def _orthonormal(X: NDArray[np.floating], against: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Return an orthonormal basis of the columns of X, orthogonal to `against`; dependent columns are dropped."""
    block = np.asarray(X, dtype=np.float64)
    norms = np.linalg.norm(block, axis=0)
    block = block[:, norms > 0] / norms[norms > 0]
    if against is not None:
        for _ in range(2):
            block = block - against @ (against.T @ block)
    left, sizes, _ = np.linalg.svd(block, full_matrices=False)
    return np.ascontiguousarray(left[:, sizes > 1e-4], dtype=np.float32)
