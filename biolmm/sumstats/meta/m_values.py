"""m-values: the posterior probability that a study has an effect at all (Han & Eskin 2012, 10.1371/journal.pgen.1002555).

A subset T of the k studies shares one effect μ ~ N(0, σ²), the others have none, and P(T) = B(|T|+a, k−|T|+b) / B(a, b):

    P(T | data) ∝ P(T) (1 + σ²W)^−½ exp(½ σ²M² / (1 + σ²W)),   W = Σ_T 1/v,  M = Σ_T β/v,      m_i = Σ_{T∋i} P(T | data)

Up to 15 studies the sum runs over all 2^k subsets, as products of matrices of their bits. Beyond, METASOFT samples; here
the same sum is turned inside out. Given μ and the chance π ~ Beta(a, b) of having an effect, studies are independent, so

    Σ_T … = ∫∫ Π_i [1 − π + π exp((β_i μ − μ²/2) / v_i)] N(μ; 0, σ²) Beta(π; a, b) dμ dπ

A polynomial of degree k in π is integrated exactly by ⌈(k+1)/2⌉ Gauss–Jacobi nodes. In μ it is a mixture of normals, whose
narrowest has the standard deviation d = (Σ1/v + σ⁻²)^−½: the trapezium rule with steps of ¾ d is wrong by 2 exp(−2π²/0.75²)
= 1e-15 of each. The empty subset, alone as wide as the prior, is taken out and put back exactly. Nothing is sampled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import special

from biolmm.errors import ParameterError
from biolmm.sumstats.meta.block import Matrix, StudyBlock, Vector, missingness_patterns

MAX_ENUMERATED = 15
"""Studies up to which subsets are enumerated."""

_CELLS = 1 << 22
_STEP = 0.75
_REACH = 9.0


@dataclass(frozen=True)
class EffectPrior:
    """What is believed of effects before the data.

    Attributes
    ----------
    sigma
        Standard deviation of the shared effect.
    a, b
        Beta distribution of the share of studies with an effect; 1, 1 is uniform.
    """

    sigma: float = 0.2
    a: float = 1.0
    b: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises
        ------
        ParameterError
            When one is not above 0.
        """
        if not (self.sigma > 0 and self.a > 0 and self.b > 0):
            raise ParameterError(f"A prior with sigma {self.sigma}, a {self.a}, b {self.b} needs all above 0.")


@dataclass(frozen=True, eq=False)
class MValues:
    """Posterior probabilities (b, k) that an effect exists, and log₁₀ of the Bayes factor against no effect anywhere.

    NaN where a study lacks the variant. The Bayes factor's alternative includes the empty subset, with its prior.
    """

    m_values: Matrix
    log10_bayes_factor: Vector


def m_values(block: StudyBlock, prior: EffectPrior | None = None, *, enumerate_up_to: int = MAX_ENUMERATED) -> MValues:
    """Compute the posterior probability of an effect in each study.

    Parameters
    ----------
    block
        Studies with `beta` and `se`: the variants of interest, as METASOFT computes them where p < 1e-7.
    prior
        METASOFT's by default: σ = 0.2, uniform.
    enumerate_up_to
        Enumerate subsets for at most so many studies and integrate beyond; both give the same.

    Raises
    ------
    ParameterError
        When the block has no standard errors or more than 20 studies are to be enumerated.

    Notes
    -----
    **Cost** k 2^k multiplications a variant by enumeration (2 ms for 15 studies); by quadrature ½ k² logarithms for each of
    some hundred values of μ (20 ms for 50 studies).

    Examples
    --------
    >>> block = StudyBlock([[0.10, 0.30, -0.05, 0.22, 0.15]], se=[[0.05, 0.08, 0.06, 0.10, 0.04]])
    >>> m_values(block).m_values.round(6).tolist()
    [[0.835946, 0.996558, 0.041708, 0.939377, 0.998765]]
    """
    prior = prior or EffectPrior()
    if enumerate_up_to > 20:
        raise ParameterError(f"Subsets of {enumerate_up_to} studies are too many to enumerate; 20 is the most.")
    beta, se = block.effects()
    out, factor = np.full(beta.shape, np.nan), np.full(len(beta), np.nan)
    for studies, rows in missingness_patterns(~np.isnan(se)):
        cells = np.ix_(rows, studies)
        y, v = beta[cells], se[cells] ** 2
        method = _enumerated if studies.size <= enumerate_up_to else _integrated
        found, factor[rows] = method(y, v, prior)
        out[cells] = found
    return MValues(out, factor / np.log(10.0))


def subsets(k: int) -> Matrix:
    """Write the bits of all 2^k subsets, a subset a row."""
    return ((np.arange(1 << k)[:, None] >> np.arange(k)) & 1).astype(np.float64)


def log_subset_prior(sizes: NDArray[np.float64], k: int, prior: EffectPrior) -> Vector:
    """Give log P(T) of one subset of each size."""
    return np.asarray(special.betaln(sizes + prior.a, k - sizes + prior.b) - special.betaln(prior.a, prior.b))


def log_shared_effect_factor(weight: Matrix, moment: Matrix, sigma: float) -> Matrix:
    """Give the log Bayes factor of one shared effect against none: −½ log(1 + σ²W) + ½ σ²M² / (1 + σ²W)."""
    spread = 1.0 + sigma**2 * weight
    return np.asarray(0.5 * (sigma**2 * moment**2 / spread - np.log(spread)))


def _enumerated(y: Matrix, v: Matrix, prior: EffectPrior) -> tuple[Matrix, Vector]:
    """Sum over all subsets; give m-values and the log Bayes factor."""
    k = y.shape[1]
    bits = subsets(k)
    log_prior = log_subset_prior(bits.sum(axis=1), k, prior)
    found, factor = np.empty(y.shape), np.empty(len(y))
    step = max(1, _CELLS >> k)
    for start in range(0, len(y), step):
        here = slice(start, start + step)
        w = 1.0 / v[here]
        joint = log_shared_effect_factor(w @ bits.T, (w * y[here]) @ bits.T, prior.sigma) + log_prior
        factor[here] = special.logsumexp(joint, axis=1)
        found[here] = np.exp(joint - factor[here, None]) @ bits
    return np.minimum(found, 1.0), factor


def _integrated(y: Matrix, v: Matrix, prior: EffectPrior) -> tuple[Matrix, Vector]:
    """Integrate over the shared effect and the share of studies."""
    k = y.shape[1]
    nodes, weights = special.roots_jacobi(k // 2 + 1, prior.b - 1.0, prior.a - 1.0)
    log_odds = np.log1p(nodes) - np.log1p(-nodes)
    log_none = k * (np.log1p(-nodes) - np.log(2.0))  # log (1 − π)^k, π = (1 + x)/2
    log_weights = np.log(weights) - special.logsumexp(np.log(weights))
    log_empty = float(log_subset_prior(np.zeros(1), k, prior)[0])
    found, factor = np.empty(y.shape), np.empty(len(y))
    _integrate(y, v, prior.sigma, log_odds, log_none + log_weights, log_empty, found, factor)
    return np.minimum(found, 1.0), factor


@numba.njit(nogil=True, cache=True)
def _integrate(y, v, sigma, log_odds, log_none, log_empty, found, factor):  # type: ignore[no-untyped-def]  # pragma: no cover
    n_variants, k = y.shape
    ratio, posterior = np.empty(k), np.empty(k)
    for i in range(n_variants):
        weight, widest, low, high = sigma**-2.0, math.inf, 0.0, 0.0
        for j in range(k):
            weight += 1.0 / v[i, j]
            widest = min(widest, 1.0 / v[i, j])
            low, high = min(low, y[i, j]), max(high, y[i, j])
        margin = _REACH / math.sqrt(widest + sigma**-2.0)
        step = _STEP / math.sqrt(weight)
        n_points = math.ceil((high - low + 2.0 * margin) / step) + 1
        top, total = log_empty, 1.0  # sums are in units of e^top; the empty subset is there from the start
        for j in range(k):
            posterior[j] = 0.0
        for point in range(n_points):
            mu = low - margin + point * step
            log_point = math.log(step / sigma) - 0.5 * math.log(2.0 * math.pi) - 0.5 * (mu / sigma) ** 2
            for j in range(k):
                ratio[j] = (y[i, j] * mu - 0.5 * mu * mu) / v[i, j]
            for node in range(len(log_odds)):
                gain = 0.0
                for j in range(k):
                    x = ratio[j] + log_odds[node]
                    gain += max(x, 0.0) + math.log1p(math.exp(-abs(x)))
                # gain = Σ log(1 + odds · ratio) ≥ 0; without the empty subset, log(e^gain − 1).
                here = log_point + log_none[node]
                value = here + (gain + math.log(-math.expm1(-gain)) if gain > 0.0 else -math.inf)
                full = here + gain
                if full > top:
                    scale = math.exp(top - full)
                    total *= scale
                    for j in range(k):
                        posterior[j] *= scale
                    top = full
                total += math.exp(value - top)
                mass = math.exp(full - top)
                if mass > 0.0:
                    for j in range(k):
                        posterior[j] += mass / (1.0 + math.exp(-(ratio[j] + log_odds[node])))
        for j in range(k):
            found[i, j] = posterior[j] / total
        factor[i] = top + math.log(total)
