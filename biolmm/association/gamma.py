"""γ: what the inverse covariance makes of the part of a variant that no leading eigenvector explains.

    γ = mean over sampled variants of ( z̃ᵀH₋c⁻¹z̃ − Σₖ (uₖᵀz̃)²/(h²θₖ+1−h²) ) / ( ‖z̃‖² − Σₖ (uₖᵀz̃)² )

the numerator exactly, by Lanczos quadrature under the left-out matrix of each variant's own contig (GRAMMAR-γ,
Svishcheva et al. 2012, doi 10.1038/ng.2410, with the leading eigenvectors taken out first).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.association.forms import FormRequest, quadratic_forms
from biolmm.association.panel import MAF_CLASSES, maf_class_of
from biolmm.genotypes.kernels import unpack_into
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.standardised import StandardisedGenotypes
from biolmm.linalg.probes import row_keys, uniform_bits
from biolmm.reml.model import NullModel
from biolmm.reml.spectrum import Spectrum

N_SAMPLED = 36
"""Variants sampled in each class of allele frequency."""
N_PAIRED = 6
"""Of these, variants on which a mask class is compared with the whole cohort."""
TOLERANCE = 5e-3


@dataclass(frozen=True)
class GammaEstimate:
    """γ of every trait.

    Attributes
    ----------
    gamma
        (T, classes of allele frequency); a class with no variant to measure has the mean of all.
    table
        The columns of `gamma.tsv`: also by class.
    """

    gamma: NDArray[np.float64]
    table: pd.DataFrame


@dataclass(frozen=True)
class _Sample:
    """Sampled variants: (N, v) standardised columns, contig of each (−1: not left out) and class."""

    Z: NDArray[np.float64]
    left_out: NDArray[np.int64]
    maf_class: NDArray[np.int64]


def estimate_gamma(
    operator: GenotypeOperator,
    model: NullModel,
    genotypes: StandardisedGenotypes,
    left_values: dict[int, NDArray[np.float64]],
    seed: int,
) -> GammaEstimate:
    """Estimate γ from up to 3 × 36 variants of the scan.

    Parameters
    ----------
    operator
        K of the model.
    model
        Null model with predictors: a contig without one is not left out.
    genotypes
        The variants that will be scanned, on the model's samples.
    left_values
        For each system, (n_contigs + 1, k) eigenvalues under each left-out contig.
    seed
        Chooses the variants, by position.

    Notes
    -----
    Cost: 6 to 12 passes. The whole cohort is measured on every sampled variant; a trait that lacks some samples adds
    the mean difference to the whole cohort on 3 × 6 of them, which varies little.
    """
    sample = sample_variants(operator, model, genotypes, seed)
    paired = np.concatenate([np.flatnonzero(sample.maf_class == c)[:N_PAIRED] for c in range(len(MAF_CLASSES))])
    h2 = np.array([model.components(t).h2 for t in range(len(model.trait_names))])
    system_of_trait = model.system_of_trait
    everyone = np.arange(sample.Z.shape[1])
    requests = [_request(model.spectrum(0), sample, everyone, h2)]
    others = sorted({int(s) for s in system_of_trait} - {0})
    requests += [_request(model.spectrum(s), sample, paired, h2[system_of_trait == s]) for s in others]
    forms = quadratic_forms(operator, requests, TOLERANCE)
    whole = _ratios(model.spectrum(0), requests[0], forms[0], left_values[0])
    rows = []
    gamma = np.empty((len(h2), len(MAF_CLASSES)))
    for t, name in enumerate(model.trait_names):
        system = int(system_of_trait[t])
        shift = np.zeros(0)
        if system:
            i = others.index(system) + 1
            column = int(np.sum(system_of_trait[:t] == system))
            mine = _ratios(model.spectrum(system), requests[i], forms[i], left_values[system])[:, column]
            shift = mine - whole[paired, t]
        overall, error = _mean(whole[:, t], shift)
        gamma[t] = overall
        for c, label in enumerate(MAF_CLASSES):
            inside = sample.maf_class == c
            if np.isfinite(whole[inside, t]).any():
                gamma[t, c], class_error = _mean(whole[inside, t], shift)
                rows.append((name, label, int(inside.sum()), gamma[t, c], class_error))
        rows.append((name, "all", len(everyone), overall, error))
    table = pd.DataFrame(rows, columns=["trait", "maf_class", "n_variants", "gamma", "gamma_se"])
    return GammaEstimate(gamma, table)


def sample_variants(
    operator: GenotypeOperator, model: NullModel, genotypes: StandardisedGenotypes, seed: int
) -> _Sample:
    """Choose variants by a hash of contig and position, the same whatever the order or coding of the input."""
    source, scaling = genotypes.source, genotypes.scaling
    store = source.store
    variants = source.variants
    contig_keys = row_keys(store.contig_id)
    keys = contig_keys[store.variant_contig[variants]] + store.variant_position[variants].astype(np.uint64)
    order = np.argsort(uniform_bits(keys, f"{seed}/gamma"), kind="stable")
    maf_class = maf_class_of(scaling.frequency)
    usable = scaling.weight > 0
    chosen = [order[(maf_class[order] == c) & usable[order]][:N_SAMPLED] for c in range(len(MAF_CLASSES))]
    rows = np.concatenate(chosen)
    contigs = [store.contig_id[c] for c in store.variant_contig[variants[rows]]]
    return _Sample(read_columns(genotypes, rows), left_out_contigs(operator, model, contigs), maf_class[rows])


def left_out_contigs(operator: GenotypeOperator, model: NullModel, contigs: Sequence[str]) -> NDArray[np.int64]:
    """Return the operator's index of each contig where the model leaves it out, else −1."""
    if model.loco is None:
        raise ValueError("the model has no predictors")
    known = {name: i for i, name in enumerate(operator.source.store.contig_id)}
    left = {str(name) for name in model.loco["contig"].values}
    return np.array([known[c] if c in left and c in known else -1 for c in contigs], dtype=np.int64)


def read_columns(genotypes: StandardisedGenotypes, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return standardised variants as columns, (N, v); `rows` count through the scan's variants."""
    source = genotypes.source
    Z = np.empty((source.n_samples, len(rows)))
    stops = np.cumsum([len(partition.variants) for partition in source.partitions])
    part_of = np.searchsorted(stops, rows, side="right")
    for part in np.unique(part_of):
        inside = np.flatnonzero(part_of == part)
        task = genotypes.tasks[part]
        start = stops[part] - len(task.partition.variants)
        local = rows[inside] - start
        tile = np.empty((len(local), source.n_samples))
        unpack_into(source.reader.rows(task.partition)[local], genotypes.scaling.tables[rows[inside]], tile)
        Z[:, inside] = tile.T
    return Z


def _request(spectrum: Spectrum, sample: _Sample, which: NDArray[np.intp], h2: NDArray[np.float64]) -> FormRequest:
    start = spectrum.restriction.project(sample.Z[:, which]).astype(np.float32)
    return FormRequest(spectrum.restriction, start, sample.left_out[which], h2)


def _ratios(
    spectrum: Spectrum, request: FormRequest, forms: NDArray[np.float64], left_values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the ratio of the remainder of every sampled variant at every h², (v, q)."""
    along = (spectrum.pairs.vectors.astype(np.float64).T @ request.start) ** 2  # (k, v)
    values = left_values[request.left_out].T  # (k, v)
    norm2 = np.einsum("ij,ij->j", request.start, request.start, dtype=np.float64)
    h2 = request.h2[:, None, None]
    known = (along / (h2 * values + 1 - h2)).sum(axis=1)  # (q, v)
    remainder = norm2 - along.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (forms - known.T) / remainder[:, None]
    return np.where((remainder > 1e-3 * norm2)[:, None], ratio, np.nan)


def _mean(values: NDArray[np.float64], shift: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean of `values` plus the mean of a paired `shift`, and its standard error."""
    total, variance = 0.0, 0.0
    for part in (values, shift):
        part = part[np.isfinite(part)]
        if part.size:
            total += float(part.mean())
            variance += float(part.var(ddof=1) / part.size) if part.size > 1 else 0.0
    return total, variance**0.5
