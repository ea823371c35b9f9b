"""γ: what the inverse covariance makes of the part of a variant that no leading eigenvector explains.

    γ = mean over sampled variants of ( z̃ᵀH₋c⁻¹z̃ − Σₖ (uₖᵀz̃)²/(h²θₖ+1−h²) ) / ( ‖z̃‖² − Σₖ (uₖᵀz̃)² )

the numerator exactly, by Lanczos quadrature under the left-out matrix of each variant's own contig (GRAMMAR-γ,
Svishcheva et al. 2012, doi 10.1038/ng.2410, with the leading eigenvectors taken out first).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.association.forms import FormRequest, quadratic_forms
from biolmm.association.panel import COLLINEAR, MAF_CLASSES, maf_class_of
from biolmm.genotypes.columns import standardised_columns
from biolmm.genotypes.filters import VariantFilters
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.linalg.probes import row_keys, uniform_bits
from biolmm.reml.model import NullModel
from biolmm.reml.spectrum import Spectrum

N_SAMPLED = 36
"""Variants sampled in each class of allele frequency."""
N_PAIRED = 6
"""Of these, variants on which a mask class is compared with the whole cohort."""
PAIRED_SHARE = 0.8
"""A mask class with fewer of the cohort's samples is measured on every sampled variant."""
CANDIDATES = (512, 4096)
"""Variants that are looked at to find them: more where the first do not fill every class."""
TOLERANCE = 5e-3
SHARE_WARNED = 0.1
"""A larger relative error of γ is worth a warning."""

log = logging.getLogger(__name__)


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
    source: ChosenGenotypes,
    left_values: dict[int, NDArray[np.float64]],
    seed: int = 1,
    filters: VariantFilters | None = None,
) -> GammaEstimate:
    """Estimate γ from up to 3 × 36 variants of the scan.

    Parameters
    ----------
    operator
        K of the model.
    model
        Null model with predictors: a contig without one is not left out.
    source
        The variants that will be scanned, on the model's samples.
    left_values
        For each system, (n_contigs + 1, k) eigenvalues under each left-out contig.
    seed
        Chooses the variants, by position.
    filters
        Variants that fail are not tested, and not sampled.

    Notes
    -----
    Cost: 6 to 12 passes. The whole cohort is measured on every sampled variant; a trait that lacks some samples adds
    the mean difference to the whole cohort on 3 × 6 of them, which varies little; one that lacks more than a fifth of
    them is measured on every sampled variant itself. Variants that do not vary among a trait's samples do not count.
    """
    sample = sample_variants(operator, model, source, seed, filters)
    paired = np.concatenate([np.flatnonzero(sample.maf_class == c)[:N_PAIRED] for c in range(len(MAF_CLASSES))])
    h2 = np.array([model.components(t).h2 for t in range(len(model.trait_names))])
    system_of_trait = model.system_of_trait
    everyone = np.arange(sample.Z.shape[1])
    spectra = {system: model.spectrum(system) for system in sorted({0, *(int(s) for s in system_of_trait)})}
    chosen = {
        system: paired if system and _nearly_whole(spectrum) else everyone for system, spectrum in spectra.items()
    }
    asked = {system: h2[system_of_trait == system] if system else h2 for system in spectra}
    requests = [_request(spectra[system], sample, chosen[system], asked[system]) for system in spectra]
    forms = quadratic_forms(operator, requests, TOLERANCE)
    ratios = {
        system: _ratios(spectra[system], request, found, left_values[system])
        for system, request, found in zip(spectra, requests, forms, strict=True)
    }
    rows = []
    gamma = np.empty((len(h2), len(MAF_CLASSES)))
    for t, name in enumerate(model.trait_names):
        system = int(system_of_trait[t])
        column = int(np.sum(system_of_trait[:t] == system)) if system else t
        values, shift = ratios[system][:, column], np.zeros(0)
        if chosen[system] is paired:
            values, shift = ratios[0][:, t], values - ratios[0][paired, t]
        overall, error = _mean(values, shift)
        if not np.isfinite(overall):
            overall = 1 / (h2[t] * spectra[system].tail_mean + 1 - h2[t])
            log.warning("no sampled variant varies among the samples of %r: its statistics may be mis-scaled.", name)
        elif error > SHARE_WARNED * overall:
            log.warning("γ of %r is %.2f ± %.2f: its statistics may be mis-scaled.", name, overall, error)
        gamma[t] = overall
        for c, label in enumerate(MAF_CLASSES):
            inside = values[sample.maf_class == c]
            if np.isfinite(inside).any():
                gamma[t, c], class_error = _mean(inside, shift)
                rows.append((name, label, int(np.isfinite(inside).sum()), gamma[t, c], class_error))
        rows.append((name, "all", int(np.isfinite(values).sum()), overall, error))
    table = pd.DataFrame(rows, columns=["trait", "maf_class", "n_variants", "gamma", "gamma_se"])
    return GammaEstimate(gamma, table)


def _nearly_whole(spectrum: Spectrum) -> bool:
    """Whether a set of samples is so large that differences to the whole cohort are small and need few variants."""
    return bool(spectrum.restriction.observed.mean() >= PAIRED_SHARE)


def sample_variants(
    operator: GenotypeOperator,
    model: NullModel,
    source: ChosenGenotypes,
    seed: int,
    filters: VariantFilters | None = None,
) -> _Sample:
    """Choose variants by a hash of contig and position, the same whatever the order or coding of the input."""
    store, variants = source.store, source.variants
    contig_keys = row_keys(store.contig_id)
    keys = contig_keys[store.variant_contig[variants]] + store.variant_position[variants].astype(np.uint64)
    order = np.argsort(uniform_bits(keys, f"{seed}/gamma"), kind="stable")
    for count in CANDIDATES:
        candidates = variants[order[:count]]
        columns = standardised_columns(source, candidates, filters, count_only=True)
        maf_class = maf_class_of(columns.frequency)
        usable = columns.passes & (columns.scale > 0)
        places = [np.flatnonzero((maf_class == c) & usable)[:N_SAMPLED] for c in range(len(MAF_CLASSES))]
        if count >= len(variants) or all(len(found) == N_SAMPLED for found in places):
            break
    chosen = np.concatenate(places)
    contigs = [store.contig_id[c] for c in store.variant_contig[candidates[chosen]]]
    Z = standardised_columns(source, candidates[chosen]).Z
    return _Sample(Z, left_out_contigs(operator, model, contigs), maf_class[chosen])


def left_out_contigs(operator: GenotypeOperator, model: NullModel, contigs: Sequence[str]) -> NDArray[np.int64]:
    """Return the operator's index of each contig where the model leaves it out, else −1."""
    if model.loco is None:
        raise ValueError("the model has no predictors")
    known = {name: i for i, name in enumerate(operator.source.store.contig_id)}
    left = {str(name) for name in model.loco["contig"].values}
    return np.array([known[c] if c in left and c in known else -1 for c in contigs], dtype=np.int64)


def _request(spectrum: Spectrum, sample: _Sample, which: NDArray[np.intp], h2: NDArray[np.float64]) -> FormRequest:
    """Ask for the forms of some sampled variants; columns that do not vary among the samples are set to zero."""
    restriction = spectrum.restriction
    Z = sample.Z[:, which]
    start = restriction.project(Z)
    observed = (np.where(restriction.observed[:, None], Z, 0.0) ** 2).sum(axis=0)
    start[:, (start**2).sum(axis=0) <= COLLINEAR * observed] = 0.0
    return FormRequest(restriction, start.astype(np.float32), sample.left_out[which], h2)


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
    usable = (norm2 > 0) & (remainder > 1e-3 * norm2)
    return np.where(usable[:, None], ratio, np.nan)


def _mean(values: NDArray[np.float64], shift: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean of `values` plus the mean of a paired `shift`, and its standard error; NaN where unknown."""
    total, variance = 0.0, 0.0
    for part in (values, shift):
        known = part[np.isfinite(part)]
        if part.size and not known.size:
            return float("nan"), float("nan")
        if known.size:
            total += float(known.mean())
            variance += float(known.var(ddof=1) / known.size) if known.size > 1 else float("nan")
    return total, variance**0.5
