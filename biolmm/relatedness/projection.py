"""Other people on the components of a reference: genotypes times its loadings."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.matching import MatchedVariants
from biolmm.genotypes.weights import VariantWeights
from biolmm.relatedness.pca import factors_of
from biolmm.store.data import GenotypeData

log = logging.getLogger(__name__)

SHRINKAGE_NOTE = (
    "Projected components of people who were not in the reference lie nearer to the middle than those of people who were, "
    "the more so the later the component and the fewer the reference's samples: do not mix both in one regression."
)
FEW = 0.95
"""Share of a component's squared loadings below which missing variants are warned of."""


@dataclass(frozen=True, eq=False)
class Projection:
    """Components of other people.

    Attributes
    ----------
    sample_id
        (N,) who.
    vectors
        (N, k) their components on the scale of the reference's.
    matched
        Which of the reference's variants were found.
    found
        (k,) share of each component's squared loadings on these variants.
    """

    sample_id: NDArray[np.str_]
    vectors: NDArray[np.float64]
    matched: MatchedVariants
    found: NDArray[np.float64]


def project(data: GenotypeData, loadings: VariantWeights, sample_index: NDArray[np.int64] | None = None) -> Projection:
    """Project people on the components of a reference.

    With every variant there, the reference's own people get their own components back. Where variants are missing,
    the components are the least-squares fit to the others: `(VᵀV) (V_fᵀV_f)⁻¹ V_fᵀ z` instead of `Vᵀz`, f those found.

    Parameters
    ----------
    data
        Genotypes with the reference's variants, in any order and with either allele counted.
    loadings
        Of the reference, from `biolmm pca`.
    sample_index
        Whose; everybody's by default.

    Raises
    ------
    VariantMismatchError
        When no variant is there.

    Notes
    -----
    **Cost**: one pass over the variants found, 2·N·M·k flop.
    """
    applied = loadings.apply(data, sample_index)
    V = loadings.W
    squares = (V**2).sum(axis=0)
    found = np.diag(applied.gram) / squares
    scores = applied.scores
    if applied.matched.n_matched < applied.matched.n_wanted:
        scores = np.linalg.lstsq(applied.gram, scores.T, rcond=None)[0].T @ (V.T @ V)
        if found.min() < FEW:
            log.warning(
                "%s of %s variants with loadings are not in '%s'%s (%.1f %% of the squared loadings of %s are there): "
                "the components are a fit to the others.",
                f"{applied.matched.n_wanted - applied.matched.n_matched:,}", f"{applied.matched.n_wanted:,}", data.path,
                applied.matched.copies_text, 100 * found.min(), loadings.names[int(found.argmin())],
            )  # fmt: skip
    ids = data.sample_id if sample_index is None else data.sample_id[sample_index]
    return Projection(ids, scores * factors_of(loadings), applied.matched, found)
