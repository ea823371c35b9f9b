"""The relatedness matrix written out, for cohorts small enough."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.operator import NO_CONTIG, GenotypeOperator


class DenseRelatedness:
    """K and K₋c as (N, N) matrices: the whole is computed once, a contig when it is left out.

    Notes
    -----
    Cost: one pass for the whole and one through each contig that is left out; three N × N matrices in double
    precision.
    """

    def __init__(self, operator: GenotypeOperator) -> None:
        self.operator = operator
        self._total = operator.dense()

    def left_out(self, contig: int = NO_CONTIG) -> NDArray[np.float64]:
        """Return `K₋c`, normalised by the variants left in; K for `NO_CONTIG`."""
        if contig == NO_CONTIG:
            return self._total / self.operator.m
        # Where the model has one contig only, nothing is left: K₋c = 0.
        return np.asarray((self._total - self.operator.dense(contig)) / self.operator.m_without([contig]))
