"""The columns of a result: every analysis that was asked for, of a stretch of variants.

Numbers that do not exist are NaN here and null in the files. Columns of the fixed-effects analysis have the names of
GWAS-SSF; those of others begin with the analysis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.sumstats.analysis.options import MetaOptions
from biolmm.sumstats.analysis.reading import takes_part
from biolmm.sumstats.analysis.scalars import Scalars
from biolmm.sumstats.meta.ancestry import ChisqTest, ancestry_regression
from biolmm.sumstats.meta.binary_effects import binary_effects
from biolmm.sumstats.meta.block import StudyBlock
from biolmm.sumstats.meta.fixed_effects import (
    FixedEffects,
    Heterogeneity,
    SampleSize,
    frequencies,
    heterogeneity_of,
    inverse_variance,
    inverse_variance_weights,
    sample_size,
    summed,
)
from biolmm.sumstats.meta.genomic_control import control_result
from biolmm.sumstats.meta.groups import leave_one_out, subgroups
from biolmm.sumstats.meta.han_eskin import han_eskin
from biolmm.sumstats.meta.m_values import m_values
from biolmm.sumstats.meta.overlap import inverse_variance_with_overlap, sample_size_with_overlap
from biolmm.sumstats.meta.partition import partition_model
from biolmm.sumstats.meta.random_effects import random_effects
from biolmm.sumstats.meta.sexes import sex_tests

Columns = dict[str, NDArray[Any]]
P = "neg_log_10_p_value"


@dataclass(frozen=True, eq=False)
class Found:
    """Results of the variants of a block that are in enough studies: their rows, and columns by name."""

    rows: NDArray[np.int64]
    columns: Columns


def analyse(block: StudyBlock, options: MetaOptions, studies: tuple[str, ...], scalars: Scalars) -> Found:
    """Run every analysis on a block.

    Parameters
    ----------
    block
        With standard errors, frequencies and sample sizes, NaN where missing.
    options, studies
        What to compute, and the names of the block's studies.
    scalars
        What spans variants.
    """
    there = takes_part(block, options.scheme)
    rows = np.flatnonzero(there.sum(axis=1) >= options.min_studies)
    block, there = block.rows(rows), there[rows]
    columns = dict(_fixed(block, options, scalars))
    columns |= _frequencies(block, options, there, scalars)
    columns["n"] = _total_n(block, there)
    if options.leave_one_out and options.scheme == "samplesize":
        columns |= dict(_left_out_by_size(block, studies, scalars))
    if options.needs_effects():
        controlled = _controlled(block, scalars)
        for analysis in (_random, _han_eskin, _ancestry, _partition, _sexes, _left_out, _groups):
            columns |= dict(analysis(controlled, options, studies, scalars))
        columns |= _of_interest(controlled, options, studies, columns)
    return Found(rows, columns)


def _controlled(block: StudyBlock, scalars: Scalars) -> StudyBlock:
    """Give effects with standard errors under genomic control of each study."""
    beta, se = block.effects(scalars.lambda_gc)
    return StudyBlock(beta, se=se, eaf=block.eaf, n=block.n)


def _fixed(block: StudyBlock, options: MetaOptions, scalars: Scalars) -> Iterator[tuple[str, NDArray[Any]]]:
    nothing = np.full(block.n_variants, np.nan)
    found: FixedEffects | SampleSize
    if options.scheme == "ivw":
        found = inverse_variance(block, scalars.lambda_gc)
        beta, se = found.beta, found.se
    else:
        found = sample_size(block, scalars.lambda_gc)
        beta, se = nothing, nothing
    z, tail, q = found.z, found.neg_log10_p, found.heterogeneity
    effective: NDArray[np.float64] | None = None
    if scalars.overlap is not None:
        correlation = scalars.overlap.correlation
        if options.scheme == "ivw":
            by_error = inverse_variance_with_overlap(block, correlation, scalars.lambda_gc)
            beta, se, z, tail = by_error.beta, by_error.se, by_error.z, by_error.neg_log10_p
            q = heterogeneity_of(by_error.q, by_error.n_studies)
        else:
            by_size = sample_size_with_overlap(block, correlation, scalars.lambda_gc)
            z, tail, effective = by_size.z, by_size.neg_log10_p, by_size.n_effective
    if options.result_control:
        controlled = control_result(z, scalars.result_lambda if scalars.result_lambda > 0 else 1.0)
        z, se, tail = controlled.z, se * controlled.se_factor, controlled.neg_log10_p
    yield from {"beta": beta, "standard_error": se, P: tail, "z": z, "n_studies": found.n_studies,
                "direction": found.direction}.items()  # fmt: skip
    if effective is not None:
        yield "n_effective", effective
    yield from _heterogeneity(q)


def _heterogeneity(q: Heterogeneity) -> Iterator[tuple[str, NDArray[Any]]]:
    yield from {"het_i2": q.i2, "het_q": q.q, "het_df": q.df, f"het_{P}": q.neg_log10_p}.items()


def _frequencies(block: StudyBlock, options: MetaOptions, there: NDArray[np.bool_], scalars: Scalars) -> Columns:
    """Average frequencies with the weights of the analysis, of the studies that take part."""
    if options.scheme == "ivw":
        weights = inverse_variance_weights(block, scalars.lambda_gc)
    else:
        assert block.n is not None
        weights = np.where(there, block.n, np.nan)
    found = frequencies(block, weights)
    return {
        "effect_allele_frequency": found.mean,
        "eaf_sd": found.spread,
        "eaf_min": found.minimum,
        "eaf_max": found.maximum,
    }


def _total_n(block: StudyBlock, there: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Add up sample sizes; missing where no study says one."""
    assert block.n is not None
    total = summed(block.n, there)
    return np.where(total > 0, total, np.nan)


def _random(
    block: StudyBlock, options: MetaOptions, _: tuple[str, ...], __: Scalars
) -> Iterator[tuple[str, NDArray[Any]]]:
    if options.random is None:
        return
    found = random_effects(block, options.random, options.knapp_hartung)
    yield from {"random_beta": found.beta, "random_standard_error": found.se, f"random_{P}": found.neg_log10_p,
                "random_statistic": found.statistic, "random_tau2": found.tau2, "random_low": found.prediction_low,
                "random_high": found.prediction_high, "random_converged": found.converged}.items()  # fmt: skip
    if options.knapp_hartung != "off":
        yield "random_df", found.df


def _han_eskin(block: StudyBlock, options: MetaOptions, _: tuple[str, ...], __: Scalars
               ) -> Iterator[tuple[str, NDArray[Any]]]:  # fmt: skip
    if options.re2:
        found = han_eskin(block)
        yield from {"re2_mean_part": found.mean_part, "re2_heterogeneity_part": found.heterogeneity_part,
                    "re2_tau2": found.tau2, f"re2_{P}": found.neg_log10_p,
                    f"re2_{P}_asymptotic": found.neg_log10_p_asymptotic}.items()  # fmt: skip


def _ancestry(block: StudyBlock, options: MetaOptions, _: tuple[str, ...], scalars: Scalars
              ) -> Iterator[tuple[str, NDArray[Any]]]:  # fmt: skip
    if scalars.coordinates is None:
        return
    found = ancestry_regression(block, scalars.coordinates)
    for axis in range(options.axes + 1):
        yield f"mr_mega_beta_{axis}", found.beta[:, axis]
        yield f"mr_mega_se_{axis}", found.se[:, axis]
    tests: dict[str, ChisqTest] = {
        "association": found.association,
        "ancestry": found.ancestry,
        "residual": found.residual,
    }
    for name, test in tests.items():
        yield f"mr_mega_{name}_chisq", test.chisq
        yield f"mr_mega_{name}_df", test.df
        yield f"mr_mega_{name}_{P}", test.neg_log10_p
    yield "mr_mega_log_bayes_factor", found.log_bayes_factor


def _partition(block: StudyBlock, options: MetaOptions, _: tuple[str, ...], scalars: Scalars
               ) -> Iterator[tuple[str, NDArray[Any]]]:  # fmt: skip
    if options.partition:
        assert scalars.distances is not None
        found = partition_model(block, scalars.distances)
        yield from {"partition_log10_bayes_factor": found.log10_bayes_factor,
                    "partition_posterior_heterogeneity": found.posterior_heterogeneity,
                    "partition_prior_heterogeneity": found.prior_heterogeneity,
                    "partition_n_clusters": found.n_clusters}.items()  # fmt: skip


def _sexes(block: StudyBlock, options: MetaOptions, studies: tuple[str, ...], _: Scalars
           ) -> Iterator[tuple[str, NDArray[Any]]]:  # fmt: skip
    if not options.male:
        return
    found = sex_tests(
        block, ["M" if name in options.male else "F" for name in studies], correlation=options.sex_correlation
    )
    for name, sex in (("male", found.male), ("female", found.female)):
        yield f"{name}_beta", sex.beta
        yield f"{name}_standard_error", sex.se
        yield f"{name}_{P}", sex.neg_log10_p
        yield f"{name}_n_studies", sex.n_studies
    yield "sex_differentiated_chisq", found.differentiated_chisq
    yield f"sex_differentiated_{P}", found.differentiated_neg_log10_p
    yield "sex_heterogeneity_z", found.heterogeneity_z
    yield f"sex_heterogeneity_{P}", found.heterogeneity_neg_log10_p


def _left_out(block: StudyBlock, options: MetaOptions, studies: tuple[str, ...], _: Scalars
              ) -> Iterator[tuple[str, NDArray[Any]]]:  # fmt: skip
    if options.leave_one_out and options.scheme == "ivw":
        found = leave_one_out(block)
        for at, name in enumerate(studies):
            yield f"without_{name}_beta", found.beta[:, at]
            yield f"without_{name}_standard_error", found.se[:, at]
            yield f"without_{name}_{P}", found.neg_log10_p[:, at]


def _left_out_by_size(
    block: StudyBlock, studies: tuple[str, ...], scalars: Scalars
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Repeat the sample-size analysis without each study, summed afresh."""
    for at, name in enumerate(studies):
        others = np.delete(np.arange(len(studies)), at)
        if not others.size:
            z = tail = np.full(block.n_variants, np.nan)
        else:
            found = sample_size(block.studies(others), scalars.lambda_gc[others])
            z, tail = found.z, found.neg_log10_p
        yield f"without_{name}_z", z
        yield f"without_{name}_{P}", tail


def _groups(block: StudyBlock, options: MetaOptions, studies: tuple[str, ...], _: Scalars
            ) -> Iterator[tuple[str, NDArray[Any]]]:  # fmt: skip
    if not options.groups:
        return
    found = subgroups(block, [options.groups.get(name, "") for name in studies])
    for name, group in found.groups.items():
        yield f"group_{name}_beta", group.beta
        yield f"group_{name}_standard_error", group.se
        yield f"group_{name}_{P}", group.neg_log10_p
        yield f"group_{name}_n_studies", group.n_studies
    yield "between_groups_q", found.between_q
    yield "between_groups_df", found.between_df
    yield f"between_groups_{P}", found.between_neg_log10_p


def _of_interest(block: StudyBlock, options: MetaOptions, studies: tuple[str, ...], columns: Columns) -> Columns:
    """Test binary effects, and find m-values, where any test so far is strong enough."""
    if not (options.binary_effects or options.m_values):
        return {}
    tests = [columns[name] for name in (P, f"random_{P}", f"re2_{P}", f"mr_mega_association_{P}") if name in columns]
    strongest = np.nanmax(np.where(np.isnan(tests), -1.0, tests), axis=0)
    rows = np.flatnonzero(strongest >= options.interesting_neg_log10_p)
    chosen, out = block.rows(rows), {}

    def filled(values: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = np.full(block.n_variants, np.nan)
        whole[rows] = values
        return whole

    if options.binary_effects:
        found = binary_effects(chosen, seed=options.seed)
        out["be_statistic"], out[f"be_{P}"] = filled(found.statistic), filled(found.neg_log10_p)
        out["be_relative_error"] = filled(found.relative_error)
    if options.m_values:
        posterior = m_values(chosen)
        for at, name in enumerate(studies):
            out[f"m_value_{name}"] = filled(posterior.m_values[:, at])
        out["m_value_log10_bayes_factor"] = filled(posterior.log10_bayes_factor)
    return out
