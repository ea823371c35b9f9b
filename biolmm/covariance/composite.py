"""Several terms at once: what an algorithm multiplies with.

Terms that read the same genotypes, interactions with environments among them, share one pass, whether their sum is
wanted or each by itself.

Legend: q terms, N samples, r columns; θ coefficients, a column a column of X.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.covariance.genetic import GenotypeKernel, GenotypePanel, Output
from biolmm.covariance.interaction import InteractionKernel
from biolmm.covariance.terms import Kernel, Term
from biolmm.errors import SampleMismatchError


@dataclass(frozen=True, eq=False)
class _Piece:
    """A genotype term taken apart: its kernel, and the diagonal that is multiplied to both sides (None: nothing)."""

    term: int
    kernel: GenotypeKernel
    side: NDArray[np.float32] | None
    scale: float


class Covariance:
    """The terms `K_1 … K_q` of one model.

    Parameters
    ----------
    terms
        Over the same samples.

    Raises
    ------
    SampleMismatchError
        When they are not.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = tuple(terms)
        sizes = {term.n_samples for term in terms}
        if len(sizes) != 1:
            found = ", ".join(f"{term.name}: {term.n_samples:,}" for term in terms)
            raise SampleMismatchError(f"The terms of one model must have the same samples, but have {found}.")
        self._pieces: dict[int, list[_Piece]] = {}
        self._panels: dict[int, GenotypePanel] = {}
        self._plain: list[int] = []
        for index, term in enumerate(self.terms):
            pieces = _pieces(index, term.kernel, term.scale)
            if not pieces:
                self._plain.append(index)
                continue
            panel = pieces[0].kernel.panel
            self._panels[id(panel)] = panel
            self._pieces.setdefault(id(panel), []).extend(pieces)

    @property
    def n_samples(self) -> int:
        """N."""
        return self.terms[0].n_samples

    @property
    def n_terms(self) -> int:
        """Terms, q."""
        return len(self.terms)

    @property
    def n_passes(self) -> int:
        """Passes over genotypes so far."""
        return sum(panel.counter.passes for panel in self._panels.values())

    def products(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `K_i X` of every term, (q, N, r), genotypes in one pass."""
        Y = np.zeros((self.n_terms, *X.shape), np.float32)
        for key, pieces in self._pieces.items():
            panel = self._panels[key]
            for columns in panel.column_panels(X.shape[1], 2 * len(pieces)):
                r = columns.stop - columns.start
                sides, stacked = _sides(pieces, X[:, columns])
                outputs = [
                    Output(
                        piece.kernel.code, slice(side * r, (side + 1) * r), np.array([piece.kernel.index]),
                        np.full((1, r), piece.scale / max(piece.kernel.m, 1e-30), np.float32),
                    )
                    for piece, side in zip(pieces, sides, strict=True)
                ]  # fmt: skip
                found = panel.run(stacked, outputs)
                for i, piece in enumerate(pieces):
                    Y[piece.term][:, columns] += _times(piece.side, found[:, i * r : (i + 1) * r])
        for index in self._plain:
            Y[index] = self.terms[index].matmat(X)
        return Y

    def weighted(self, theta: NDArray[np.float64], X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `Σ_i θ_i K_i X`, (N, r), genotypes in one pass of as many columns as there are environments.

        Parameters
        ----------
        theta
            (q, r): every column has coefficients of its own; terms whose coefficients are all 0 are not computed.
        X
            (N, r).
        """
        Y = np.zeros(X.shape, np.float32)
        for key, pieces in self._pieces.items():
            used = [piece for piece in pieces if theta[piece.term].any()]
            panel = self._panels[key]
            for columns in panel.column_panels(X.shape[1], 2 * len(used)) if used else []:
                Y[:, columns] += _weighted(panel, used, theta[:, columns], X[:, columns])
        for index in self._plain:
            if theta[index].any():
                Y += theta[index].astype(np.float32) * self.terms[index].matmat(X)
        return Y

    def diagonals(self) -> NDArray[np.float64]:
        """Return `diag(K_i)` of every term, (q, N)."""
        return np.stack([term.diagonal() for term in self.terms])


def _weighted(
    panel: GenotypePanel, pieces: list[_Piece], theta: NDArray[np.float64], X: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the weighted sum of some pieces of one panel: an output for every pair of side and code."""
    r = X.shape[1]
    sides, stacked = _sides(pieces, X)
    together: dict[tuple[int, str], list[_Piece]] = {}
    for piece, side in zip(pieces, sides, strict=True):
        together.setdefault((side, piece.kernel.code), []).append(piece)
    outputs = [
        Output(
            mine[0].kernel.code, slice(side * r, (side + 1) * r), np.array([piece.kernel.index for piece in mine]),
            np.stack([theta[p.term] * p.scale / max(p.kernel.m, 1e-30) for p in mine]).astype(np.float32),
        )
        for (side, _), mine in together.items()
    ]  # fmt: skip
    found = panel.run(stacked, outputs)
    Y = np.zeros(X.shape, np.float32)
    for i, mine in enumerate(together.values()):
        Y += _times(mine[0].side, found[:, i * r : (i + 1) * r])
    return Y


def _pieces(index: int, kernel: Kernel, scale: float) -> list[_Piece]:
    """Take a genotype kernel, or its interaction with an environment, apart; nothing for other kernels."""
    if isinstance(kernel, GenotypeKernel):
        return [_Piece(index, kernel, None, scale)]
    if isinstance(kernel, InteractionKernel) and isinstance(kernel.kernel, GenotypeKernel):
        return [_Piece(index, kernel.kernel, side, scale) for side in kernel.environment.T]
    return []


def _sides(pieces: list[_Piece], X: NDArray[np.float32]) -> tuple[list[int], NDArray[np.float32]]:
    """Return which block of the stacked columns each piece multiplies, and `[D_1 X, D_2 X, …]`, each D once."""
    known: dict[bytes, int] = {}
    blocks: list[NDArray[np.float32]] = []
    places = []
    for piece in pieces:
        key = b"" if piece.side is None else piece.side.tobytes()
        if key not in known:
            known[key] = len(blocks)
            blocks.append(_times(piece.side, X))
        places.append(known[key])
    return places, np.concatenate(blocks, axis=1)


def _times(side: NDArray[np.float32] | None, X: NDArray[np.float32]) -> NDArray[np.float32]:
    return X if side is None else np.asarray(side[:, None] * X)
