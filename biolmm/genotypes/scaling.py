"""How genotypes are standardised: one affine map a variant, estimated on the cohort in use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.moments import VARIES, Moments

Scale = Literal["hwe", "sample"]


@dataclass(frozen=True)
class Scaling:
    """`z = (d − mean) · scale`, missing → 0.

    Attributes
    ----------
    mean
        (M,) mean dosage.
    scale
        (M,) factor; 0 for variants that do not vary, which never enter Z.
    weight
        (M,) expected variance of z; the sum over variants is the m of `K = Z Zᵀ / m`.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weight: NDArray[np.float64]

    def tables(self, factor: float = 1.0) -> NDArray[np.float64]:
        """Return (M, 4): the standardised value of `factor` times the dosages 0, 1 and 2, and of a missing one."""
        tables = (factor * np.array([0.0, 1.0, 2.0, 0.0]) - self.mean[:, None]) * self.scale[:, None]
        tables[:, 3] = 0.0
        return tables

    def __getitem__(self, variants: NDArray[np.bool_] | slice) -> Scaling:
        return Scaling(self.mean[variants], self.scale[variants], self.weight[variants])

    @classmethod
    def joined(cls, parts: Sequence[Scaling]) -> Scaling:
        """Put the scalings of parts one after another."""
        empty = [np.zeros(0)]
        return cls(*(np.concatenate([getattr(p, f) for p in parts] or empty) for f in ("mean", "scale", "weight")))


def scaling_from_moments(moments: Moments, alpha: float = -1.0, by: Scale = "hwe") -> Scaling:
    """Standardise from moments: `scale = [2p(1−p)]^{α/2}` (Speed et al. 2012), or one over the sample's s.d.

    Parameters
    ----------
    moments
        Of M variants under one set of samples, each (M,).
    alpha
        −1 gives every variant the same variance (GCTA, PLINK), 0 leaves genotypes centred only (GEMMA's `-gk 1`).
    by
        `hwe`: the variance under Hardy–Weinberg proportions, 2p(1−p) with p half the mean; `sample`: the variance
        observed (GEMMA's `-gk 2` with α = −1).

    Examples
    --------
    >>> called, total, squares = np.array([4.0, 4.0]), np.array([4.0, 0.0]), np.array([6.0, 0.0])
    >>> s = scaling_from_moments(Moments(called, total, squares))
    >>> s.mean.tolist(), round(float(s.scale[0]), 4), float(s.scale[1])
    ([1.0, 0.0], 1.4142, 0.0)
    """
    mean, observed = moments.mean, moments.variance
    varies = observed > VARIES
    variance = mean * (1 - mean / 2) if by == "hwe" else observed
    # A variant that varies has 0 < mean < 2.
    power = np.where(varies, variance, 1.0)
    scale = np.where(varies, power ** (alpha / 2), 0.0)
    return Scaling(mean, scale, np.where(varies, power ** (1 + alpha), 0.0))
