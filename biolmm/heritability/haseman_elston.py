"""Randomised Haseman–Elston regression: variance components of all traits from the moments of two passes.

    minimise ‖ Pyyᵀ P − Σ_a σ²_a P K_a P − σ²_e P ‖²_F

With κ_a = tr(PK_a)/rank P and σ²_e eliminated, the normal equations are

    Σ_b tr( (PK_aP − κ_aP)(PK_bP − κ_bP) ) σ²_b = yᵀ(K_a − κ_a)y,     σ²_e = yᵀy / rank P − Σ_a κ_a σ²_a

κ is exact. The traces are exact on the columns that count fully (leading eigenvectors) and the mean over random ones
elsewhere (Hutchinson; deflated as in Meyer et al. 2021, Hutch++); because K is centred at κ they are of the size of what
varies, not of the rank, and so is their error.

Wu & Sankararaman 2018 (doi 10.1093/bioinformatics/bty253); several components and their enrichment: Pazokitoroudi et al.
2020 (doi 10.1038/s41467-020-17576-9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.heritability.blocks import BlockMoments, TraceColumns
from biolmm.heritability.jackknife import jackknife_se
from biolmm.linalg.operators import Restriction
from biolmm.linalg.probes import rademacher
from biolmm.reml.likelihood import TraceMeasure


def trace_columns(
    restriction: Restriction,
    vectors: NDArray[np.float32],
    keys: NDArray[np.uint64],
    n_probes: int,
    seed: int,
) -> TraceColumns:
    """Return eigenvectors that count fully and random signs beside them.

    Parameters
    ----------
    restriction
        P.
    vectors
        (N, k) orthonormal columns in the range of P.
    keys
        (N,) row keys.
    n_probes
        Random columns; none where the vectors span the range.
    seed
        Of the random columns.
    """
    k = vectors.shape[1]
    count = n_probes if restriction.rank > k else 0
    projected = restriction.project(rademacher(keys, "haseman-elston", range(count), seed))
    U = vectors.astype(np.float64)
    rest = projected - U @ (U.T @ projected)
    return TraceColumns(np.concatenate([vectors, rest.astype(np.float32)], axis=1), k)


@dataclass(frozen=True)
class Equations:
    """The normal equations, first of everything, then without each block.

    Attributes
    ----------
    kappa
        (1 + J, S, A).
    centred
        (1 + J, S, A, A) tr((PK_aP − κ_aP)(PK_bP − κ_bP)).
    forms
        (1 + J, T, A) yᵀK_a y.
    m
        (1 + J, A).
    overlap
        (1 + J, A, A).
    """

    kappa: NDArray[np.float64]
    centred: NDArray[np.float64]
    forms: NDArray[np.float64]
    m: NDArray[np.float64]
    overlap: NDArray[np.float64]


def equations(moments: BlockMoments, components: Sequence[int]) -> Equations:
    """Set up the normal equations of some components; NaN where a block holds all of one of them."""
    at = np.array(components)
    square = np.ix_(np.arange(moments.blocks.n_blocks), np.arange(len(moments.rank)), at, at)

    def with_left_out(parts: NDArray[np.float64]) -> NDArray[np.float64]:
        total = parts.sum(axis=0)
        return np.concatenate([total[None], total - parts])

    m = with_left_out(moments.blocks.m[:, at])
    m = np.where(m > 1e-9 * m[0], m, np.nan)
    trace = with_left_out(moments.trace[:, :, at]) / m[:, None]
    linear = with_left_out(moments.linear[:, :, at]) / m[:, None]
    kappa = trace / moments.rank[:, None]
    mixed, inner = moments.mixed[square], moments.inner[square]
    total = mixed.sum(axis=0)
    without = total - mixed - mixed.swapaxes(2, 3) + inner
    products = np.concatenate([total[None], without]) / (m[:, None, :, None] * m[:, None, None, :])
    crossed = kappa[..., :, None] * linear[..., None, :]
    centred = products - crossed - crossed.swapaxes(2, 3)
    centred += kappa[..., :, None] * kappa[..., None, :] * moments.norm[:, None, None]
    forms = with_left_out(moments.forms[:, :, at]) / m[:, None]
    overlap = with_left_out(moments.blocks.overlap[:, at][:, :, at])
    return Equations(kappa, (centred + centred.swapaxes(2, 3)) / 2, forms, m, overlap)


@dataclass(frozen=True)
class MomentEstimates:
    """Variance components of every trait; `without` are those without each block.

    Attributes
    ----------
    sigma2, sigma2_without
        (T, A + 1) and (J, T, A + 1); the last is σ²_e.
    mc_se
        (T, A + 1) standard error from the random columns alone; 0 where there are none.
    """

    sigma2: NDArray[np.float64]
    sigma2_without: NDArray[np.float64]
    mc_se: NDArray[np.float64]
    h2_mc_se: NDArray[np.float64]


def solve_moments(moments: BlockMoments, found: Equations, components: Sequence[int]) -> MomentEstimates:
    """Solve the normal equations of every trait, with and without each block."""
    systems = moments.system_of_trait
    power = np.diag(moments.squares)
    kappa = found.kappa[:, systems]
    right = found.forms - kappa * power[:, None]
    genetic = _solve(found.centred[:, systems], right)
    noise = power / moments.rank[systems] - (kappa * genetic).sum(axis=2)
    sigma2 = np.concatenate([genetic, noise[..., None]], axis=2)
    mc_se, h2_mc_se = np.zeros(sigma2.shape[1:]), np.zeros(len(systems))
    for t, s in enumerate(systems):
        mc_se[t], h2_mc_se[t] = _probe_error(moments, found, components, int(s), sigma2[0, t])
    return MomentEstimates(sigma2[0], sigma2[1:], mc_se, h2_mc_se)


def _solve(matrices: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve many small systems; NaN where a matrix is singular or not known."""
    out = np.full(right.shape, np.nan)
    scale = np.sqrt(np.abs(np.einsum("...ii->...i", matrices)))
    scale = np.where(scale > 0, scale, 1.0)
    scaled = matrices / (scale[..., :, None] * scale[..., None, :])
    known = np.isfinite(scaled).all(axis=(-1, -2))
    known[known] = np.linalg.cond(scaled[known]) < 1e10
    out[known] = np.linalg.solve(scaled[known], (right / scale)[known][..., None])[..., 0] / scale[known]
    return out


def _probe_error(
    moments: BlockMoments, found: Equations, components: Sequence[int], system: int, sigma2: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Return how far the components and h² move with the random columns: the delta method on the traces."""
    n_probes = len(moments.probe_norm[system])
    if n_probes < 2 or not np.isfinite(sigma2).all():
        unknown = np.nan if n_probes == 1 or not np.isfinite(sigma2).all() else 0.0
        return np.full(len(sigma2), unknown), unknown
    at = np.array(components)
    kappa, m = found.kappa[0, system], found.m[0]
    inner = moments.probe_inner[system][np.ix_(at, at)] / (m[:, None] * m)[..., None]
    linear = moments.probe_linear[system][at] / m[:, None]
    crossed = kappa[:, None, None] * linear[None]
    centred = inner - crossed - crossed.swapaxes(0, 1)
    centred += (kappa[:, None] * kappa)[..., None] * moments.probe_norm[system]
    moved = -np.linalg.solve(found.centred[0, system], np.einsum("abp,b->ap", centred, sigma2[:-1]))
    moved = np.vstack([moved, -(kappa @ moved)])
    total = sigma2.sum()
    on_h2 = (moved[:-1].sum(axis=0) * sigma2[-1] - moved[-1] * sigma2[:-1].sum()) / total**2
    root = np.sqrt(n_probes)
    return moved.std(axis=1, ddof=1) / root, float(on_h2.std(ddof=1) / root)


def total_h2(sigma2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Σ σ²_a / (Σ σ²_a + σ²_e) from components in the last axis, σ²_e last."""
    return np.asarray(sigma2[..., :-1].sum(axis=-1) / sigma2.sum(axis=-1))


def block_sizes(moments: BlockMoments) -> NDArray[np.float64]:
    """Return the variants' weight in each block, which the jackknife goes by."""
    return np.asarray(np.maximum(moments.blocks.m.sum(axis=1), 1e-12))


@dataclass(frozen=True)
class Partition:
    """What the variants of each annotation add, (T, A) each.

    Attributes
    ----------
    h2, h2_se
        Of the variants with w_a > 0, from all components that they have part in.
    share, share_se
        Of the total h².
    enrichment, enrichment_se
        Share of h² over share of variants.
    coefficient, coefficient_se
        σ²_a over the total variance.
    size
        (A,) share of variants (by weight).
    """

    h2: NDArray[np.float64]
    h2_se: NDArray[np.float64]
    share: NDArray[np.float64]
    share_se: NDArray[np.float64]
    enrichment: NDArray[np.float64]
    enrichment_se: NDArray[np.float64]
    coefficient: NDArray[np.float64]
    coefficient_se: NDArray[np.float64]
    size: NDArray[np.float64]


def partition(
    moments: BlockMoments, found: Equations, estimates: MomentEstimates, member_m: NDArray[np.float64]
) -> Partition:
    """Share h² out among annotations, which may overlap.

    A variant's part is Σ_c w_c σ²_c / m_c; an annotation's h² is the sum over its variants.

    Parameters
    ----------
    moments, found, estimates
        Of the components that are annotations.
    member_m
        (J, A + 1) weight of the variants in each annotation, and of all of them, by block.
    """
    sigma2 = np.concatenate([estimates.sigma2[None], estimates.sigma2_without])
    per_unit = sigma2[..., :-1] / found.m[:, None]
    members = member_m.sum(axis=0) - np.concatenate([np.zeros((1, member_m.shape[1])), member_m])
    size = members[:, :-1] / members[:, -1:]
    total = sigma2.sum(axis=2, keepdims=True)
    h2 = np.einsum("jac,jtc->jta", found.overlap, per_unit) / total
    share = h2 / (sigma2[..., :-1].sum(axis=2, keepdims=True) / total)
    enrichment = share / size[:, None]
    coefficient = sigma2[..., :-1] / total
    sizes = block_sizes(moments)
    errors = [jackknife_se(x[0], x[1:], sizes) for x in (h2, share, enrichment, coefficient)]
    return Partition(
        h2[0], errors[0], share[0], errors[1], enrichment[0], errors[2], coefficient[0], errors[3], size[0]
    )


def normal_theory_se(trace: TraceMeasure, rank: int, h2: float) -> float:
    """Return the standard error of the moment estimate of h² of a normal trait, from the spectrum of PKP.

    σ̂²_g and σ̂²_e are quadratic forms `yᵀ A y` with A functions of PKP, so `cov = 2 tr(A_i V A_j V)`.

    Parameters
    ----------
    trace
        Density of the spectrum.
    rank
        Of P.
    h2
        Where the variance is evaluated.
    """

    def forms(values: NDArray[np.float64], kappa: float, size: float) -> NDArray[np.float64]:
        V = h2 * values + 1 - h2
        genetic = (values - kappa) / size
        noise = 1 / rank - kappa * genetic
        return np.stack([genetic**2 * V**2, genetic * noise * V**2, noise**2 * V**2])

    kappa = float((trace.trace + trace.values.sum()) / rank)
    spread, _ = trace.estimate((trace.values - kappa)[None] ** 2, (trace.nodes - kappa)[None] ** 2)
    size = float(spread[0])
    if size <= 0:
        return float("nan")
    covariance, _ = trace.estimate(forms(trace.values, kappa, size), forms(trace.nodes, kappa, size))
    gradient = np.array([1 - h2, -h2])
    matrix = 2 * np.array([[covariance[0], covariance[1]], [covariance[1], covariance[2]]])
    return float(np.sqrt(max(gradient @ matrix @ gradient, 0.0)))


@dataclass(frozen=True)
class CrossEstimates:
    """Genetic correlations of every pair of traits by moments, (T, T) each.

    Attributes
    ----------
    cov_g, cov_e
        Covariances in units of the traits; cov_e is NaN where no sample is shared.
    rg, rg_se
        Genetic correlation with its jackknife error; NaN where an h² is not above 0.
    """

    cov_g: NDArray[np.float64]
    cov_e: NDArray[np.float64]
    rg: NDArray[np.float64]
    rg_se: NDArray[np.float64]


def cross_trait(moments: BlockMoments, found: Equations) -> CrossEstimates:
    """Estimate covariances of every pair of traits from the first component's moments.

    minimise ‖ P_s y_s y_tᵀ P_t − ρ_g P_s K P_t − ρ_e P_s P_t ‖²_F

    Where the samples differ, the traces of the pair without a block are those of the pair times what the block changes
    in the two systems' own traces (geometric mean).
    """
    systems, restrictions = moments.system_of_trait, moments.restrictions
    S = len(restrictions)
    overlap = np.array([[_trace_of_product(a, b) for b in restrictions] for a in restrictions])
    m = found.m[:, 0]
    kappa = np.zeros((len(m), S, S))
    centred = np.zeros((len(m), S, S))
    own_kappa, own = found.kappa[:, :, 0], found.centred[:, :, 0, 0]
    for s in range(S):
        for t in range(S):
            if s == t:
                kappa[:, s, t], centred[:, s, t] = own_kappa[:, s], own[:, s]
                continue
            inner = (moments.pair_inner[s, t] + moments.pair_inner[t, s]) / 2 / m[0] ** 2
            linear = (moments.pair_linear[s, t] + moments.pair_linear[t, s]) / 2 / m[0]
            if overlap[s, t] > 0:
                kappa[:, s, t] = linear / overlap[s, t]
                kappa[1:, s, t] *= np.sqrt(own_kappa[1:, s] * own_kappa[1:, t] / (own_kappa[0, s] * own_kappa[0, t]))
            value = inner - linear**2 / overlap[s, t] if overlap[s, t] > 0 else inner
            with np.errstate(invalid="ignore"):
                change = np.sqrt(np.maximum(own[:, s] * own[:, t] / (own[0, s] * own[0, t]), 0.0))
            centred[:, s, t] = value * change
    total = moments.cross.sum(axis=0)
    forms = np.concatenate([total[None], total - moments.cross]) / m[:, None, None]
    pair = np.ix_(np.arange(len(m)), systems, systems)
    with np.errstate(invalid="ignore", divide="ignore"):
        genetic = (forms - kappa[pair] * moments.squares) / centred[pair]
        shared = overlap[np.ix_(systems, systems)]
        noise = np.where(shared > 0, moments.squares / shared - kappa[0][np.ix_(systems, systems)] * genetic[0], np.nan)
        variances = np.einsum("jtt->jt", genetic)
        rg = genetic / np.sqrt(variances[:, :, None] * variances[:, None, :])
        rg[(variances <= 0)[:, :, None] | (variances <= 0)[:, None, :]] = np.nan
    return CrossEstimates(genetic[0], noise, rg[0], jackknife_se(rg[0], rg[1:], block_sizes(moments)))


def _trace_of_product(one: Restriction, other: Restriction) -> float:
    """Return tr(P_s P_t); 0 where the two have no sample in common."""
    both = one.observed & other.observed
    if not both.any():
        return 0.0
    left, right = one.basis[both], other.basis[both]
    inner = one.basis.T @ other.basis
    return float(both.sum() - (left**2).sum() - (right**2).sum() + (inner**2).sum())
