"""Heritability of every trait: REML, Haseman–Elston beside it, liability scale, annotations; as tables."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from biolmm.chunks import check_stop
from biolmm.cohort import Cohort
from biolmm.genotypes.dense import DenseRelatedness
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.heritability.annotations import Annotations
from biolmm.heritability.blocks import BlockMoments, VariantBlocks, block_moments
from biolmm.heritability.config import HeritabilityConfig
from biolmm.heritability.haseman_elston import (
    block_sizes,
    equations,
    normal_theory_se,
    partition,
    solve_moments,
    total_h2,
    trace_columns,
)
from biolmm.heritability.he_regression import HeKind, he_regression
from biolmm.heritability.jackknife import jackknife_se
from biolmm.heritability.liability import Liability, binary_values, liabilities
from biolmm.linalg.operators import Restriction
from biolmm.linalg.probes import row_keys
from biolmm.reml.likelihood import TraceMeasure
from biolmm.reml.model import NullModel
from biolmm.schema import H2_COLUMNS

log = logging.getLogger(__name__)

DISAGREE = 3.0
"""REML and Haseman–Elston disagree when they are this many standard errors of their difference apart."""
FEW_DIRECTIONS = 2.0
"""Where structure or families leave few eigenvectors that matter, blocks of variants all show the same chance: the jackknife
over them is then this much smaller than the error of a normal trait, or more."""
SMALLEST_SHARE = 0.05
"""The difference of two estimates has at least this share of the variance of the noisier one."""


@dataclass(frozen=True)
class Moments:
    """Haseman–Elston moments of a cohort and the systems that they are about.

    Attributes
    ----------
    sums
        What the two passes added up.
    systems
        Which systems of the model they are; without a model, the classes of the cohort.
    """

    sums: BlockMoments
    systems: tuple[int, ...]


def collect_moments(
    operator: GenotypeOperator,
    cohort: Cohort,
    config: HeritabilityConfig,
    model: NullModel | None,
    annotations: Annotations | None = None,
) -> Moments:
    """Run the two passes; the eigenvectors of a model take their part of the traces out of chance."""
    keys = row_keys(cohort.sample_id.tolist())
    if model is None:
        systems = tuple(range(len(cohort.classes)))
        restrictions = [Restriction(mask.observed, mask.basis) for mask in cohort.classes]
        vectors = [np.zeros((cohort.n_samples, 0), np.float32)] * len(systems)
        owner = cohort.class_of_trait
    else:
        systems = tuple(sorted({int(s) for s in model.system_of_trait}))
        spectra = [model.spectrum(s) for s in systems]
        restrictions = [spectrum.restriction for spectrum in spectra]
        vectors = [spectrum.pairs.vectors for spectrum in spectra]
        owner = np.array([systems.index(int(s)) for s in model.system_of_trait])
    seed = config.fit.spectrum.seed
    columns = [trace_columns(r, v, keys, config.n_probes, seed) for r, v in zip(restrictions, vectors, strict=True)]
    ones = np.ones((operator.source.n_variants, 1))
    weights = ones if annotations is None else np.column_stack([ones, annotations.weights])
    blocks = VariantBlocks.cut(operator.genotypes, config.n_blocks, weights)
    sums = block_moments(operator, blocks, cohort.y, restrictions, owner, columns, config.memory_bytes)
    return Moments(sums, systems)


def h2_table(model: NullModel, sampled: Sequence[Liability | None]) -> pd.DataFrame:
    """Return `h2.tsv`: the REML estimates with their likelihood-ratio statistic and the liability scale."""
    table = model.h2[list(H2_COLUMNS)].copy()
    table["lrt"] = model.dataset["lrt"].values
    table["log_likelihood"] = model.dataset["log_likelihood"].values
    return _with_liability(table, sampled)


def densities(operator: GenotypeOperator, model: NullModel) -> dict[int, TraceMeasure]:
    """Return the density of each system's spectrum: as the model has it, or all eigenvalues where it was fitted exactly.

    Notes
    -----
    **Cost**: nothing, or one pass and 4/3·n³ flop a system.
    """
    systems = sorted({int(s) for s in model.system_of_trait})
    if model.settings["solver"] != "exact":
        return {s: model.spectrum(s).measure for s in systems}
    K = DenseRelatedness(operator).left_out()
    nothing = np.zeros((0, 0))
    found = {}
    for s in systems:
        check_stop()
        restriction = model.restriction(s)
        values = np.linalg.eigvalsh(restriction.project(restriction.project(K).T))[-restriction.rank :]
        found[s] = TraceMeasure(np.maximum(values, 0.0), nothing, nothing, 0, 0.0)
    return found


def rhe_table(
    moments: Moments,
    cohort: Cohort,
    sampled: Sequence[Liability | None],
    model: NullModel | None = None,
    spectra: Mapping[int, TraceMeasure] | None = None,
) -> pd.DataFrame:
    """Return `rhe.tsv`: Haseman–Elston with its errors, and whether REML agrees.

    REML is the efficient one of the two, so the variance of their difference is the difference of their variances
    (Hausman 1978), that of Haseman–Elston for a normal trait at REML's h²; chance of the probes comes on top.

    Parameters
    ----------
    moments, cohort
        What was measured, on whom.
    sampled
        How each binary trait was sampled.
    model, spectra
        REML and its `densities`, where it was done.
    """
    sums = moments.sums
    found = equations(sums, [0])
    estimates = solve_moments(sums, found, [0])
    h2 = total_h2(estimates.sigma2)
    errors = jackknife_se(h2, total_h2(estimates.sigma2_without), block_sizes(sums))
    table = pd.DataFrame({
        "trait": list(cohort.trait_names), "n": (~np.isnan(cohort.y)).sum(axis=0), "h2": h2, "h2_se": errors,
        "h2_se_normal": np.nan, "h2_mc_se": estimates.h2_mc_se, "sigma2_g": estimates.sigma2[:, 0],
        "sigma2_e": estimates.sigma2[:, 1], "n_blocks": sums.blocks.n_blocks, "h2_reml": np.nan, "z_reml": np.nan,
        "flag": "",
    })  # fmt: skip
    for t in range(len(table)):
        flags = [] if 0 <= h2[t] <= 1 else ["outside 0 to 1"]
        if model is not None and spectra is not None:
            components, system = model.components(t), int(model.system_of_trait[t])
            normal = normal_theory_se(spectra[system], model.restriction(system).rank, components.h2)
            variance = max(normal**2 - components.h2_se**2, SMALLEST_SHARE * normal**2)
            # REML stays between 0 and 1: beyond them only the bound is compared.
            apart = float(np.clip(h2[t], 0, 1)) - components.h2
            error = np.sqrt(variance + estimates.h2_mc_se[t] ** 2 + components.h2_mc_se**2)
            table.loc[t, ["h2_se_normal", "h2_reml", "z_reml"]] = normal, components.h2, apart / error
            if normal > FEW_DIRECTIONS * errors[t]:
                flags.append("few directions carry the relatedness: the jackknife error is too small, see h2_se_normal")
            if abs(apart) > DISAGREE * error:
                flags.append("REML and Haseman-Elston disagree")
        table.loc[t, "flag"] = "; ".join(flags)
    _warn(table)
    return _with_liability(table, sampled)


def _warn(table: pd.DataFrame) -> None:
    apart = table[table["flag"].str.contains("disagree")]
    if len(apart):
        log.warning(
            "REML and Haseman-Elston disagree for %d of %d traits (first '%s': %.3f and %.3f). Close relatives, large "
            "effects, structure that covariates leave in, and ascertainment of cases do this; see rhe.tsv.",
            len(apart), len(table), apart["trait"].iloc[0], apart["h2_reml"].iloc[0], apart["h2"].iloc[0],
        )  # fmt: skip


def _with_liability(table: pd.DataFrame, sampled: Sequence[Liability | None]) -> pd.DataFrame:
    factor = np.array([np.nan if each is None else each.factor for each in sampled])
    return table.assign(
        prevalence=[np.nan if each is None else each.prevalence for each in sampled],
        sample_share=[np.nan if each is None else each.sample_share for each in sampled],
        h2_liability=table["h2"] * factor,
        h2_liability_se=table["h2_se"] * factor,
    )


def partitioned_table(moments: Moments, cohort: Cohort, annotations: Annotations) -> pd.DataFrame:
    """Return `partitioned.tsv`: h² of every annotation, its share, and enrichment with jackknife errors.

    `enrichment_p` tests that the share of h² is the share of variants, two-sided, by the jackknife error.
    """
    sums, A = moments.sums, len(annotations.names)
    components = list(range(1, A + 1))
    found = equations(sums, components)
    estimates = solve_moments(sums, found, components)
    members = np.column_stack([sums.blocks.overlap[:, 1:, 0], sums.blocks.m[:, 0]])
    parts = partition(sums, found, estimates, members)
    counts = (annotations.weights > 0).sum(axis=0)
    rows = []
    for t, trait in enumerate(cohort.trait_names):
        total = float(total_h2(estimates.sigma2[t]))
        for a, name in enumerate(annotations.names):
            flag = "" if np.isfinite(parts.h2_se[t, a]) else "one block holds all of an annotation: no standard error"
            if not np.isfinite(parts.h2[t, a]):
                flag = "the annotations cannot be told apart"
            error = parts.share_se[t, a]
            z = (parts.share[t, a] - parts.size[a]) / error if error > 1e-9 else np.nan
            rows.append({
                "trait": trait, "annotation": name, "n_variants": int(counts[a]), "share_of_variants": parts.size[a],
                "h2": parts.h2[t, a], "h2_se": parts.h2_se[t, a], "share_of_h2": parts.share[t, a],
                "share_of_h2_se": error, "enrichment": parts.enrichment[t, a],
                "enrichment_se": parts.enrichment_se[t, a], "enrichment_p": 2 * norm.sf(abs(z)),
                "coefficient": parts.coefficient[t, a], "coefficient_se": parts.coefficient_se[t, a],
                "total_h2": total, "flag": flag,
            })  # fmt: skip
    return pd.DataFrame(rows)


def he_table(operator: GenotypeOperator, cohort: Cohort) -> pd.DataFrame:
    """Return `he.tsv`: Haseman–Elston regression on all pairs, covariates taken out of the trait, as GCTA's `--HEreg`."""
    K = DenseRelatedness(operator).left_out()
    rows = []
    for t, trait in enumerate(cohort.trait_names):
        mask = cohort.classes[cohort.class_of_trait[t]]
        seen = np.flatnonzero(mask.observed)
        y = Restriction(mask.observed, mask.basis).project(np.nan_to_num(cohort.y[:, [t]]))[seen, 0]
        for kind in _KINDS:
            found = he_regression(K[np.ix_(seen, seen)], y, kind)
            row: dict[str, object] = {"trait": trait, "n": len(seen), "kind": kind}
            for i, name in enumerate(("intercept", "slope")):
                row |= {name: found.estimate[i], f"{name}_se_ols": found.se_ols[i],
                        f"{name}_se_jackknife": found.se_jackknife[i]}  # fmt: skip
            rows.append(row)
    return pd.DataFrame(rows)


_KINDS: tuple[HeKind, ...] = ("cross-product", "squared-difference")


def sampling_of(cohort: Cohort, config: HeritabilityConfig) -> list[Liability | None]:
    """Return how binary traits were sampled, and say which ones lack a prevalence.

    Raises
    ------
    UserError
        As `liabilities`.
    """
    found = liabilities(cohort.trait_names, cohort.y, config.prevalences)
    for name, values, liability in zip(cohort.trait_names, cohort.y.T, found, strict=True):
        if liability is None and binary_values(values) is not None:
            log.warning(
                "'%s' takes two values: its h2 is on the observed scale; --prevalence %s=K gives liability.", name, name
            )
    return found


def enriched(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Say which rows of `partitioned.tsv` are enriched or depleted at 5 % after Bonferroni."""
    return np.asarray(table["enrichment_p"] < 0.05 / max(len(table), 1))
