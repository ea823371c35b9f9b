"""A Bayesian partition model of effects over ancestries, of MANTRA's type (Morris 2011, 10.1002/gepi.20630), by enumeration.

Studies are split into clusters that share an effect: some of them are centres, every other joins the centre nearest in
allele frequencies (of equals the first). With distances fixed a set C of centres determines a partition, and

    number of centres    P(|C| = m) ∝ pᵐ⁻¹, all sets of m equally likely             p = ½ by default
    effects              one a cluster, N(0, σ²), σ on a grid with equal weights
    Bayes factor         Σ_C P(C) mean over σ of Π_clusters (1+σ²W)^−½ exp(½σ²M²/(1+σ²W)),  W = Σ1/v, M = Σβ/v
    heterogeneity        1 − P(one cluster | data)

is a finite sum: at most 4,095 sets for 12 studies, fewer different partitions, made once for each pattern of missing
studies. MANTRA itself samples, its program is not public and its priors are not fully known: this is a model of its type,
and its numbers are not MANTRA's. `PartitionPrior.over_sets` weighs every set by p^{|C|−1} instead, under which many clusters are
likely beforehand, as there are many large sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import special

from biolmm.errors import ParameterError
from biolmm.sumstats.meta.block import Matrix, StudyBlock, Vector, missingness_patterns
from biolmm.sumstats.meta.m_values import subsets

MAX_STUDIES = 12
_LN10 = float(np.log(10.0))


@dataclass(frozen=True)
class PartitionPrior:
    """What is believed of clusters and effects before the data.

    Attributes
    ----------
    p
        Each further cluster is so much less likely, above 0 and at most 1.
    sigmas
        Standard deviations of effects, equally likely.
    over_sets
        Weigh every set of centres by p^{|C|−1}, rather than their number.
    """

    p: float = 0.5
    sigmas: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    over_sets: bool = False

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises
        ------
        ParameterError
            When one is out of range.
        """
        if not 0 < self.p <= 1:
            raise ParameterError(f"The prior's p is {self.p} but must be above 0 and at most 1.")
        if not self.sigmas or not all(sigma > 0 for sigma in self.sigmas):
            raise ParameterError(f"Standard deviations of effects {self.sigmas} must be above 0, at least one.")


@dataclass(frozen=True, eq=False)
class Partitions:
    """Different partitions of k studies with their prior, and the different clusters in them.

    Attributes
    ----------
    log_prior
        (P,) of each partition, a probability; the first is the one cluster of all.
    clusters
        (C, k) members, 1 or 0.
    starts, members
        Partition i consists of clusters `members[starts[i]:starts[i + 1]]`.
    """

    log_prior: Vector
    clusters: Matrix
    starts: NDArray[np.int64]
    members: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PartitionModel:
    """The partition model of each variant; NaN where no study has it.

    Attributes
    ----------
    log10_bayes_factor
        Of association against no effect in any study.
    posterior_heterogeneity
        Probability of more than one cluster, given association; 0 for one study.
    prior_heterogeneity
        The same before the data.
    n_clusters
        Posterior mean of their number.
    """

    log10_bayes_factor: Vector
    posterior_heterogeneity: Vector
    prior_heterogeneity: Vector
    n_clusters: Vector


def partition_model(block: StudyBlock, distances: Matrix, prior: PartitionPrior | None = None) -> PartitionModel:
    """Compute Bayes factor and posterior of heterogeneity of each variant.

    Parameters
    ----------
    block
        At most 12 studies with `beta` and `se`.
    distances
        (k, k) between studies, as `ancestry.DistanceSums.mean` gives; any increasing function of them does the same.
    prior
        Of clusters and effects.

    Raises
    ------
    ParameterError
        When there are more than 12 studies or the distances do not fit.

    Notes
    -----
    **Cost** different clusters + partitions × their clusters, for each σ: 0.1 ms a variant of 8 studies, some ms of 12.
    """
    prior = prior or PartitionPrior()
    k = block.n_studies
    d = np.asarray(distances, dtype=np.float64)
    if k > MAX_STUDIES:
        raise ParameterError(f"The partition model enumerates clusters of at most {MAX_STUDIES} studies, found {k}.")
    if d.shape != (k, k) or not np.array_equal(d, d.T):
        raise ParameterError(f"Distances have shape {d.shape}; give a symmetric matrix of {k} × {k} studies.")
    beta, se = block.effects()
    out = np.full((4, len(beta)), np.nan)
    for studies, rows in missingness_patterns(~np.isnan(se)):
        found = partitions_of(d[np.ix_(studies, studies)], prior)
        v = se[np.ix_(rows, studies)] ** 2
        y = beta[np.ix_(rows, studies)]
        weight, moment = (1.0 / v) @ found.clusters.T, (y / v) @ found.clusters.T
        here = np.empty((3, len(rows)))
        _combine(weight, moment, np.array(prior.sigmas), found.log_prior, found.starts, found.members, here)
        out[:3, rows] = here
        out[3, rows] = -np.expm1(found.log_prior[0]) if studies.size > 1 else 0.0
    return PartitionModel(out[0] / _LN10, out[1], out[3], out[2])


def partitions_of(distances: Matrix, prior: PartitionPrior) -> Partitions:
    """Enumerate the partitions that sets of centres make, with the prior of all sets that make the same."""
    k = len(distances)
    centres = subsets(k)[1:]
    size = centres.sum(axis=1).astype(int)
    log_weight = (size - 1) * np.log(prior.p)
    if not prior.over_sets:
        log_weight = log_weight - np.log(special.comb(k, size))
    mass: dict[tuple[int, ...], list[float]] = {}
    bit = 1 << np.arange(k)
    for chosen, value in zip(centres.astype(bool), log_weight.tolist(), strict=True):
        mass.setdefault(_partition(distances, chosen, bit), []).append(value)
    ordered = sorted(mass, key=lambda clusters: (len(clusters), clusters))
    log_prior = np.array([special.logsumexp(mass[each]) for each in ordered])
    number = {cluster: i for i, cluster in enumerate(sorted({c for each in ordered for c in each}))}
    members = np.array([number[cluster] for each in ordered for cluster in each])
    bits = ((np.array(list(number))[:, None] >> np.arange(k)) & 1).astype(np.float64)
    starts = np.r_[0, np.cumsum([len(each) for each in ordered])].astype(np.int64)
    return Partitions(log_prior - special.logsumexp(log_prior), bits, starts, members)


def _partition(distances: Matrix, chosen: NDArray[np.bool_], bit: NDArray[np.int64]) -> tuple[int, ...]:
    """Let every study join its nearest centre, a centre itself; clusters as sorted bit masks."""
    centres = np.flatnonzero(chosen)
    nearest = centres[distances[:, centres].argmin(axis=1)]
    nearest[centres] = centres
    return tuple(sorted(int(bit[nearest == centre].sum()) for centre in centres))


@numba.njit(nogil=True, cache=True)
def _combine(weight, moment, sigmas, log_prior, starts, members, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    n_variants, n_clusters = weight.shape
    n_partitions = len(log_prior)
    factor, joint = np.empty(n_clusters), np.empty((len(sigmas), n_partitions))
    for i in range(n_variants):
        top = -np.inf
        for g in range(len(sigmas)):
            square = sigmas[g] * sigmas[g]
            for c in range(n_clusters):
                spread = 1.0 + square * weight[i, c]
                factor[c] = 0.5 * (square * moment[i, c] * moment[i, c] / spread - np.log(spread))
            for p in range(n_partitions):
                value = log_prior[p]
                for m in range(starts[p], starts[p + 1]):
                    value += factor[members[m]]
                joint[g, p] = value
                top = max(top, value)
        total, several, clusters = 0.0, 0.0, 0.0
        for g in range(len(sigmas)):
            for p in range(n_partitions):
                mass = np.exp(joint[g, p] - top)
                total += mass
                clusters += mass * (starts[p + 1] - starts[p])
                if p > 0:
                    several += mass  # what is not one cluster: added up itself, so that a small chance keeps its digits
        out[0, i] = top + np.log(total / len(sigmas))
        out[1, i] = several / total
        out[2, i] = clusters / total
