"""The binary-effects test: some studies have the effect, the others none (Han & Eskin 2012, 10.1371/journal.pgen.1002555).

    S = Σ h_i z_i / se_i / √Σ h_i² / se_i²

weighs each z by h_i, a quick stand-in for the m-value: the posterior, prior ½, that β_i comes from the effect seen in the
*other* studies (β̂₋ᵢ and its standard error s₋ᵢ, fixed effects) and not from none,

    h_i = f₁ / (f₀ + f₁),   f₁ = N(β_i; β̂₋ᵢ, se_i² + s₋ᵢ²),   f₀ = N(β_i; 0, se_i²)

METASOFT leaves the factors (2πσ²)^−½ out of both, which is kept as an option. S is not normal, as h follows the data. Its
p-value is two-sided and by importance sampling: z of studies without any effect are drawn from a mixture of normals, each
shifted by about ±s along one of all subsets of the studies, which puts half of the draws beyond s, and weighed by the ratio
of densities.
The estimate is unbiased at every size of p; its relative standard error is given. Each variant uses the same stream of
random numbers, so that its p does not depend on its neighbours. What is approximated, then: h in place of the m-value
(as in the paper's program), and p by sampling. One study alone has h = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import special

from biolmm.errors import ParameterError
from biolmm.results.diagnostics import neg_log10_p
from biolmm.sumstats.meta.block import Matrix, StudyBlock, Vector
from biolmm.sumstats.meta.m_values import subsets

_MOST_LISTED = 9
_LN10 = float(np.log(10.0))


@dataclass(frozen=True, eq=False)
class BinaryEffects:
    """The binary-effects test of each variant; NaN where no study has it.

    Attributes
    ----------
    statistic
        S, signed.
    neg_log10_p
        Two-sided, by importance sampling; exact for one study.
    relative_error
        Standard error of p over p; that of −log₁₀ p is 0.43 times it.
    h_values
        The weights (b, k).
    """

    statistic: Vector
    neg_log10_p: Vector
    relative_error: Vector
    h_values: Matrix


def binary_effects(
    block: StudyBlock, *, n_samples: int = 20_000, seed: int = 1, metasoft_weights: bool = False
) -> BinaryEffects:
    """Test for an effect in some of the studies.

    Parameters
    ----------
    block
        Studies with `beta` and `se`: the variants of interest.
    n_samples
        Draws a variant; the relative error of p is about 2/√n.
    seed
        Of the draws.
    metasoft_weights
        Leave the densities' constants out, as METASOFT does.

    Raises
    ------
    ParameterError
        When there are fewer than 100 draws or the block has no standard errors.

    Notes
    -----
    **Cost** at 20,000 draws 0.1 s a variant of 9 studies, 1 s of 30: this is for leads.

    **Randomness** NumPy's PCG64 from `seed`, the same numbers for every variant with as many studies.
    """
    if n_samples < 100:
        raise ParameterError(f"{n_samples} draws are too few to estimate a p-value; give at least 100.")
    beta, se = block.effects()
    statistic, h = binary_effects_statistic(beta, se, metasoft_weights)
    tested, error = np.full(len(beta), np.nan), np.full(len(beta), np.nan)
    for i in range(len(beta)):
        present = ~np.isnan(se[i])
        if present.sum() == 1:
            tested[i], error[i] = neg_log10_p(statistic[i]), 0.0
        elif present.any():
            tested[i], error[i] = _sampled_tail(
                abs(float(statistic[i])), se[i, present], n_samples, seed, metasoft_weights
            )
    return BinaryEffects(statistic, tested, error, h)


def binary_effects_statistic(beta: Matrix, se: Matrix, metasoft_weights: bool = False) -> tuple[Vector, Matrix]:
    """Compute S and h of each row of effects, NaN cells left out."""
    there = ~np.isnan(se)
    w = np.where(there, 1.0 / np.where(there, se, 1.0) ** 2, 0.0)
    y = np.where(there, beta, 0.0)
    v = np.where(there, se, 1.0) ** 2
    others = w @ (1.0 - np.eye(w.shape[1]))  # sums without the study itself: no cancellation
    total = (w * y) @ (1.0 - np.eye(w.shape[1]))
    alone = others <= 0
    with np.errstate(divide="ignore", invalid="ignore"):
        wide = v + 1.0 / others
        log_odds = -((y - total / others) ** 2) / (2 * wide) + y**2 / (2 * v)
        if not metasoft_weights:
            log_odds = log_odds + 0.5 * np.log(v / wide)
        h = np.where(there, np.where(alone, 1.0, special.expit(log_odds)), np.nan)
        weight = np.where(there, h * np.sqrt(w), 0.0)
        z = y * np.sqrt(w)
        # Of weights that all underflow only the ratios matter.
        largest = weight.max(axis=1, keepdims=True)
        weight = weight / largest
        statistic = (weight * z).sum(axis=1) / np.sqrt((weight**2).sum(axis=1))
    return np.where(there.any(axis=1), statistic, np.nan), h


def _sampled_tail(size: float, se: Vector, n_samples: int, seed: int, metasoft: bool) -> tuple[float, float]:
    """Estimate −log₁₀ P(|S| ≥ size) and the relative error of P."""
    rng = np.random.default_rng([seed, se.size])
    proposal = _AllSubsets(size, se) if se.size <= _MOST_LISTED else _SubsetsBySize(size, se)
    z = rng.standard_normal((n_samples, se.size)) + proposal.shifts(rng, n_samples)
    statistic, _ = binary_effects_statistic(z * se, np.broadcast_to(se, z.shape), metasoft)
    beyond = z[np.abs(statistic) >= size]
    if not len(beyond):
        return float("inf"), float("inf")
    log_ratio = -proposal.log_density_gain(beyond)
    top = float(log_ratio.max())
    ratio: NDArray[np.float64] = np.exp(log_ratio - top)
    mean = ratio.sum() / n_samples
    variance = max((ratio**2).sum() / n_samples - mean**2, 0.0) / n_samples
    return max(-(top + float(np.log(mean))) / _LN10, 0.0), float(np.sqrt(variance) / mean)


class _AllSubsets:
    """Normals shifted by ±s along every subset of few studies, in the direction of S's weights."""

    def __init__(self, size: float, se: Vector) -> None:
        along = subsets(se.size)[1:] / se
        self.shift = size * along / np.linalg.norm(along, axis=1, keepdims=True)
        self.size = size

    def shifts(self, rng: np.random.Generator, n: int) -> Matrix:
        """Draw the shifts of n draws."""
        chosen = self.shift[rng.integers(0, len(self.shift), n)]
        return np.asarray(rng.choice(np.array([-1.0, 1.0]), n)[:, None] * chosen)

    def log_density_gain(self, z: Matrix) -> Vector:
        """Give the log of mixture over null density, mean cosh(shift·z) e^{−s²/2}."""
        projected = np.abs(z @ self.shift.T)
        log_cosh = projected + np.log1p(np.exp(-2 * projected)) - np.log(2.0)
        return np.asarray(special.logsumexp(log_cosh, axis=1) - np.log(len(self.shift)) - 0.5 * self.size**2)


class _SubsetsBySize:
    """All subsets of many studies: a size m, uniform, then m of k studies; each shifted by s √(k/m) of its weight.

    That shift does not depend on the others chosen, so the sum over all subsets of a size is an elementary symmetric
    polynomial, e_m(exp(a_i z_i − a_i²/2)) / C(k, m).
    """

    def __init__(self, size: float, se: Vector) -> None:
        self.k = se.size
        weight = 1 / se
        self.shift = size * weight / np.linalg.norm(weight)

    def shifts(self, rng: np.random.Generator, n: int) -> Matrix:
        """Draw the shifts of n draws."""
        m = rng.integers(1, self.k + 1, n)
        chosen = rng.random((n, self.k)).argsort(axis=1).argsort(axis=1) < m[:, None]
        sign = rng.choice(np.array([-1.0, 1.0]), n)
        return np.asarray(sign[:, None] * chosen * self.shift * np.sqrt(self.k / m)[:, None])

    def log_density_gain(self, z: Matrix) -> Vector:
        """Give the log of mixture over null density."""
        out = np.empty(len(z))
        log_choices = np.array([float(-np.log(special.comb(self.k, m))) for m in range(self.k + 1)])
        _mean_over_subsets(np.ascontiguousarray(z), self.shift, log_choices, out)
        return out


@numba.njit(nogil=True, cache=True)
def _mean_over_subsets(z, shift, log_choices, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    n, k = z.shape
    x, e, terms = np.empty(k), np.empty(k + 1), np.empty(2 * k)
    for i in range(n):
        for m in range(1, k + 1):
            scale = math.sqrt(k / m)
            for which in range(2):
                top = -math.inf
                for j in range(k):
                    a = shift[j] * scale
                    x[j] = (a if which else -a) * z[i, j] - 0.5 * a * a
                    top = max(top, x[j])
                # e_m of x / max x by its recurrence over studies; what underflows is nothing beside smaller sizes
                e[:] = 0.0
                e[0] = 1.0
                for j in range(k):
                    value = math.exp(x[j] - top)
                    for c in range(min(j + 1, m), 0, -1):
                        e[c] += value * e[c - 1]
                terms[2 * (m - 1) + which] = (math.log(e[m]) if e[m] > 0.0 else -math.inf) + m * top + log_choices[m]
        best, total = terms.max(), 0.0
        for t in range(2 * k):
            total += math.exp(terms[t] - best)
        out[i] = best + math.log(total / (2 * k))
