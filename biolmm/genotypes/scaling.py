"""How genotypes are standardised: one affine map a variant, estimated on the cohort in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scale = Literal["hwe", "sample"]


@dataclass(frozen=True)
class Scaling:
    """`z = (g − 2p) · scale`, missing → 0.

    Attributes
    ----------
    frequency
        (M,) ALT frequency p among the called genotypes.
    scale
        (M,) factor; 0 for variants that do not vary, which never enter Z.
    weight
        (M,) expected variance of z; the sum over variants is the m of `K = Z Zᵀ / m`.
    """

    frequency: NDArray[np.float64]
    scale: NDArray[np.float64]
    weight: NDArray[np.float64]

    @property
    def tables(self) -> NDArray[np.float64]:
        """(M, 4) standardised value of the calls 0, 1, 2 and missing."""
        tables = (np.array([0.0, 1.0, 2.0, 0.0]) - 2 * self.frequency[:, None]) * self.scale[:, None]
        tables[:, 3] = 0.0
        return tables


def scaling_from_counts(counts: NDArray[np.int32], n_samples: int, alpha: float = -1.0, by: Scale = "hwe") -> Scaling:
    """Standardise from counts: `scale = [2p(1−p)]^{α/2}` (Speed et al. 2012), or one over the sample's s.d.

    Parameters
    ----------
    counts
        (M, 3) heterozygotes, ALT homozygotes, missing calls.
    n_samples
        Samples counted.
    alpha
        −1 gives every variant the same variance (GCTA, PLINK), 0 leaves genotypes centred only (GEMMA's `-gk 1`).
    by
        `hwe`: the variance under Hardy–Weinberg proportions, 2p(1−p); `sample`: the variance observed (GEMMA's
        `-gk 2` with α = −1).

    Examples
    --------
    >>> s = scaling_from_counts(np.array([[2, 1, 0], [0, 0, 0]]), n_samples=4)
    >>> s.frequency.tolist(), round(float(s.scale[0]), 4), float(s.scale[1])
    ([0.5, 0.0], 1.4142, 0.0)
    """
    het, hom, missing = counts.astype(np.float64).T
    called = n_samples - missing
    safe = np.maximum(called, 1.0)
    mean = (het + 2 * hom) / safe
    frequency = mean / 2
    observed = (het + 4 * hom) / safe - mean**2
    varies = observed > 1e-12
    variance = np.where(by == "hwe", 2 * frequency * (1 - frequency), observed)
    # A variant that varies has 0 < p < 1 except when every call is heterozygous, and then `observed` is 0.
    power = np.where(varies, variance, 1.0)
    scale = np.where(varies, power ** (alpha / 2), 0.0)
    return Scaling(frequency, scale, np.where(varies, power ** (1 + alpha), 0.0))
