"""γ: what the inverse covariance makes of the part of a variant that no leading eigenvector explains.

    γ = mean over sampled variants of ( z̃ᵀH₋c⁻¹z̃ − Σₖ sₖ(uₖᵀz̃)²/(h²θₖ+1−h²) ) / ( ‖z̃‖² − Σₖ sₖ(uₖᵀz̃)² )

where sₖ is the share of uₖ that is left without the contig; the form by a Lanczos recursion under the left-out matrix of
each variant's own contig (GRAMMAR-γ, Svishcheva et al. 2012, doi 10.1038/ng.2410, with the leading eigenvectors taken out
first).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.association.classes import CLASSES, MAF_CLASSES, RELATIONS, class_of, left_out_contigs, relations
from biolmm.association.forms import FormRequest, remainder_forms
from biolmm.association.panel import COLLINEAR
from biolmm.association.shares import shares_left
from biolmm.genotypes.columns import standardised_columns
from biolmm.genotypes.filters import VariantFilters
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.linalg.operators import column_dots
from biolmm.linalg.probes import row_keys, uniform_bits
from biolmm.reml.model import NullModel
from biolmm.reml.spectrum import Spectrum

N_SAMPLED = 36
"""Most variants that are measured in a class."""
N_FIRST = 16
"""Those that are measured whatever comes out."""
N_MORE = 10
"""Those that are added at a time: every time takes passes of its own."""
SETTLED = 0.003
"""Relative standard error of a class's γ at which no more are: the slope of χ² may be 0.01 off."""
N_PAIRED = 3
"""Of the first, variants on which a mask class is compared with the whole cohort."""
PAIRED_SHARE = 0.8
"""A mask class with fewer of the cohort's samples is measured on every sampled variant."""
CANDIDATES = (512, 4096)
"""Variants that are looked at to find them: more where the first do not fill every class."""
TOLERANCE = 1e-2
"""A form is finished when the steps not taken add less than this share, see `remainder_forms`."""
N_ALONE = 3
"""A class with fewer has the mean of all frequencies."""
LEFT_OVER = 0.5
"""Variants with less of their variance beside the leading eigenvectors do not count: their ratios are not known well, see
`remainder_forms`, and are not those of others."""
SHARE_WARNED = 0.1
"""A larger relative error of γ is worth a warning."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GammaEstimate:
    """γ of every trait.

    Attributes
    ----------
    gamma
        (T, `CLASSES`); one with no variant to measure has the mean of those in the same relation to the matrix, or of all.
    table
        The columns of `gamma.tsv`: also by class.
    """

    gamma: NDArray[np.float64]
    table: pd.DataFrame


@dataclass(frozen=True)
class _Sample:
    """Variants to measure, by class and in the order of their hashes: store indices, classes, and contigs left out."""

    variants: NDArray[np.int64]
    kind: NDArray[np.int64]
    left_out: NDArray[np.int64]

    @cached_property
    def rank(self) -> NDArray[np.int64]:
        """Place of every variant within its class."""
        return np.array([np.count_nonzero(self.kind[:i] == c) for i, c in enumerate(self.kind)], np.int64)


@dataclass(frozen=True)
class _System:
    """A set of observed samples: its spectrum, eigenvalues by left-out contig, the h² wanted, and the variants asked for."""

    spectrum: Spectrum
    left_values: NDArray[np.float64]
    h2: NDArray[np.float64]
    wanted: NDArray[np.bool_]


def estimate_gamma(
    operator: GenotypeOperator,
    model: NullModel,
    source: ChosenGenotypes,
    left_values: dict[int, NDArray[np.float64]],
    seed: int = 1,
    filters: VariantFilters | None = None,
) -> GammaEstimate:
    """Estimate γ from 3 × 16 to 3 × 36 variants of the scan, and again of each relation to the matrix that there is.

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
    Cost: 2 to 5 passes with 48 columns, and again with more variants of the classes whose mean is not yet known to
    0.3 % of itself: where N is below some 20,000 or h² is high. The whole cohort is measured on every sampled variant;
    a trait that lacks some samples adds the mean difference to the whole cohort on 3 × 3 of them, which varies little;
    one that lacks more than a fifth of them is measured on every sampled variant itself. Variants that do not vary
    among a trait's samples do not count.
    """
    sample = sample_variants(operator, model, source, seed, filters)
    h2 = np.array([model.components(t).h2 for t in range(len(model.trait_names))])
    owner = model.system_of_trait
    paired = sample.rank < N_PAIRED
    systems = {}
    for system in sorted({0, *(int(s) for s in owner)}):
        spectrum = model.spectrum(system)
        whole = system == 0 or not _nearly_whole(spectrum)
        wanted = np.ones_like(paired) if whole else paired
        systems[system] = _System(spectrum, left_values[system], h2[owner == system] if system else h2, wanted)
    ratios = _measure(operator, source, sample, systems)
    rows = []
    gamma = np.empty((len(h2), len(CLASSES)))
    for t, name in enumerate(model.trait_names):
        system = int(owner[t])
        column = int(np.sum(owner[:t] == system)) if system else t
        values, shift = ratios[system][:, column], np.zeros_like(paired, dtype=np.float64)
        if not systems[system].wanted.all():
            values, shift = ratios[0][:, t], np.where(paired, values - ratios[0][:, t], np.nan)
        overall, error = _mean(values, shift)
        if not np.isfinite(overall):
            overall = 1 / (h2[t] * systems[system].spectrum.tail_mean + 1 - h2[t])
            log.warning(
                "too few sampled variants vary among the samples of %r: its statistics may be mis-scaled.", name
            )
        elif error > SHARE_WARNED * overall:
            log.warning("γ of %r is %.2f ± %.2f: its statistics may be mis-scaled.", name, overall, error)
        gamma[t] = overall
        rows += [(name, *row) for row in _by_class(sample.kind, values, shift, gamma[t])]
    table = pd.DataFrame(rows, columns=["trait", "maf_class", "n_variants", "gamma", "gamma_se"])
    return GammaEstimate(gamma, table)


def _by_class(
    kind: NDArray[np.int64], values: NDArray[np.float64], shift: NDArray[np.float64], gamma: NDArray[np.float64]
) -> list[tuple[str, int, float, float]]:
    """Write one trait's γ of every class that was measured, (`CLASSES`,); return label, variants, mean and error of each."""
    rows: list[tuple[str, int, float, float]] = []
    for first, to_matrix in zip(range(0, len(CLASSES), len(MAF_CLASSES)), RELATIONS, strict=True):
        last = first + len(MAF_CLASSES)
        found = []
        for label, start, stop in [
            ("all" + to_matrix, first, last),
            *((CLASSES[c], c, c + 1) for c in range(first, last)),
        ]:
            inside = (kind >= start) & (kind < stop)
            n = int(np.isfinite(values[inside]).sum())
            if n >= (N_ALONE if stop - start == 1 else 1):
                # Differences to the whole cohort are averaged over all frequencies: there are few of them.
                near = shift[(kind >= first) & (kind < last)]
                mean, error = _mean(values[inside], near)
                if np.isfinite(mean):
                    gamma[start:stop] = mean
                    found.append((label, n, mean, error))
        rows += found[1:] + found[:1]
    return rows


def _nearly_whole(spectrum: Spectrum) -> bool:
    """Whether a set of samples is so large that differences to the whole cohort are small and need few variants."""
    return bool(spectrum.restriction.observed.mean() >= PAIRED_SHARE)


def _measure(
    operator: GenotypeOperator, source: ChosenGenotypes, sample: _Sample, systems: Mapping[int, _System]
) -> dict[int, NDArray[np.float64]]:
    """Return every system's ratios, (v, q): NaN for variants that a column does not use or that do not vary.

    How many variants a column uses depends on its own ratios alone, and so not on the other traits in the run.
    """
    rank = sample.rank
    ratios = {key: np.full((len(rank), len(system.h2)), np.nan) for key, system in systems.items()}
    counts = {key: np.full((len(CLASSES), len(system.h2)), N_FIRST) for key, system in systems.items()}
    measured = np.zeros(len(rank), dtype=bool)
    while True:
        most = np.concatenate(list(counts.values()), axis=1).max(axis=1)
        fresh = (rank < most[sample.kind]) & ~measured
        if not fresh.any():
            break
        _measure_some(operator, source, sample, systems, fresh, ratios)
        measured |= fresh
        for key, system in systems.items():
            if system.wanted.all():
                _count(ratios[key], sample, counts[key])
    used = {key: rank[:, None] < count[sample.kind] for key, count in counts.items()}
    return {key: np.where(used[key], values, np.nan) for key, values in ratios.items()}


def _measure_some(
    operator: GenotypeOperator,
    source: ChosenGenotypes,
    sample: _Sample,
    systems: Mapping[int, _System],
    fresh: NDArray[np.bool_],
    ratios: Mapping[int, NDArray[np.float64]],
) -> None:
    """Measure some variants in all systems that ask for them, in shared passes."""
    Z = standardised_columns(source, sample.variants[fresh]).Z
    place = np.cumsum(fresh) - 1
    asked = {key: np.flatnonzero(fresh & system.wanted) for key, system in systems.items()}
    asked = {key: which for key, which in asked.items() if which.size}
    requests = [_request(systems[key], Z[:, place[which]], sample.left_out[which]) for key, which in asked.items()]
    forms = remainder_forms(operator, requests, TOLERANCE)
    for (key, which), request, found in zip(asked.items(), requests, forms, strict=True):
        ratios[key][which] = _ratios(request, found)


def _count(ratios: NDArray[np.float64], sample: _Sample, counts: NDArray[np.int64]) -> None:
    """Raise the number of variants, (classes, q), of the columns whose mean is not yet known well enough."""
    for c, column in np.ndindex(*counts.shape):
        values = ratios[(sample.kind == c) & (sample.rank < counts[c, column]), column]
        known = values[np.isfinite(values)]
        if known.size > 1:
            needed = (known.std(ddof=1) / (SETTLED * known.mean())) ** 2
            rounded = N_FIRST + N_MORE * np.ceil((needed - N_FIRST) / N_MORE)
            counts[c, column] = max(counts[c, column], min(rounded, N_SAMPLED))


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
    relation = relations(operator, model, source)
    there = [0] if relation is None else np.unique(relation[variants]).tolist()
    kinds = [c for c in range(len(CLASSES)) if c // len(MAF_CLASSES) in there]
    order = np.argsort(uniform_bits(keys, f"{seed}/gamma"), kind="stable")
    for count in CANDIDATES:
        candidates = variants[order[:count]]
        columns = standardised_columns(source, candidates, filters, count_only=True)
        kind = class_of(columns.frequency, 0 if relation is None else relation[candidates])
        usable = columns.passes & (columns.scale > 0)
        places = [np.flatnonzero((kind == c) & usable)[:N_SAMPLED] for c in kinds]
        if count >= len(variants) or all(len(found) == N_SAMPLED for found in places):
            break
    chosen = np.concatenate(places)
    contigs = [store.contig_id[c] for c in store.variant_contig[candidates[chosen]]]
    return _Sample(candidates[chosen], kind[chosen], left_out_contigs(operator, model, contigs))


def _request(system: _System, Z: NDArray[np.float64], left_out: NDArray[np.int64]) -> FormRequest:
    """Ask for the forms of some variants; columns that do not vary among the samples are set to zero."""
    spectrum = system.spectrum
    restriction = spectrum.restriction
    start = restriction.project(Z)
    observed = (np.where(restriction.observed[:, None], Z, 0.0) ** 2).sum(axis=0)
    start[:, (start**2).sum(axis=0) <= COLLINEAR * observed] = 0.0
    values = system.left_values[left_out].T
    shares = shares_left(spectrum, system.left_values)[left_out].T
    return FormRequest(
        restriction, spectrum.pairs.vectors, values, start.astype(np.float32), left_out, system.h2, shares
    )


def _ratios(request: FormRequest, forms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ratio of the remainder of every variant at every h², (v, q); NaN where less than half remains."""
    norm2, squares = column_dots(request.start, request.start), request.along() ** 2
    shares = np.ones_like(squares) if request.shares is None else request.shares
    remainder = norm2 - (shares * squares).sum(axis=0)
    usable = (norm2 > 0) & (remainder > LEFT_OVER * norm2)
    denominators = request.h2 * request.values[:, :, None] + 1 - request.h2
    known = (((request.used - shares) * squares)[:, :, None] / denominators).sum(
        axis=0
    )  # taken out, but not by the scan
    return np.where(usable[:, None], (forms + known) / np.where(usable, remainder, 1.0)[:, None], np.nan)


def _mean(values: NDArray[np.float64], shift: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean of `values` plus the mean of a paired `shift`, and its standard error; NaN where unknown."""
    total, variance = 0.0, 0.0
    for part in (values, shift):
        known = part[np.isfinite(part)]
        if not known.size and (part.size or part is values):
            return float("nan"), float("nan")
        if known.size:
            total += float(known.mean())
            variance += float(known.var(ddof=1) / known.size) if known.size > 1 else float("nan")
    return total, variance**0.5
