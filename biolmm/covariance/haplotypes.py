"""Parent-of-origin effects: relatedness through the mother's and through the father's haplotypes apart.

Each of the two matrices is `H Hᵀ / M` of standardised alleles inherited from one parent; the third is that of
heterozygotes by which parent ALT came from, whose variance measures imprinting (Laurin et al. 2018,
doi 10.1007/s10519-017-9880-0).

A store keeps no phase and no parent of origin, so these kernels are made of arrays of haplotypes, which phasing with
parents gives, and not of a store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from biolmm.covariance.features import FeatureKernel
from biolmm.errors import ParameterError

Effect = Literal["maternal", "paternal", "difference"]


@dataclass(frozen=True, eq=False)
class Haplotypes:
    """Alleles by parent of origin.

    Attributes
    ----------
    maternal, paternal
        (N, M) copies of ALT, 0 or 1, NaN where unknown.
    """

    maternal: NDArray[np.float64]
    paternal: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.maternal.shape != self.paternal.shape or self.maternal.ndim != 2:
            raise ParameterError(
                f"maternal haplotypes have shape {self.maternal.shape}, paternal {self.paternal.shape}: both must be "
                "samples × variants."
            )

    def kernel(self, effect: Effect) -> FeatureKernel:
        """Return relatedness through one parent, or of heterozygotes by which parent ALT came from (`difference`)."""
        sources = {"maternal": self.maternal, "paternal": self.paternal, "difference": self.paternal - self.maternal}
        return FeatureKernel.standardised(sources[effect], f"the {effect} haplotypes")
