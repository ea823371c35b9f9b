"""What the numbers mean, and what to do about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from biolmm.contigs import Ploidy
from biolmm.qc import samples as of_samples
from biolmm.qc import variants as of_variants
from biolmm.qc.config import QcConfig
from biolmm.qc.samples import SampleQuality
from biolmm.qc.variants import VariantQuality
from biolmm.report.format import significant
from biolmm.report.verdicts import FAIR, GOOD, NONE, Verdict, level_of

FLAGGED_VARIANTS = (0.02, 0.10)
"""Share of variants flagged for one reason: good up to the first, fair up to the second."""

FLAGGED_SAMPLES = (0.01, 0.05)
"""The same for samples."""

MISMATCHES = (0.0, 0.005)
"""Share of samples whose sex is another: one alone may be a swapped sample."""


@dataclass(frozen=True)
class _Check:
    """One reason to flag: what is wanted, and what it means when nearly nothing, some, or much is flagged."""

    name: str
    reasons: tuple[str, ...]
    thresholds: tuple[float, float]
    wanted: str
    texts: tuple[str, str, str]


def judge(variants: VariantQuality, samples: SampleQuality, config: QcConfig) -> list[Verdict]:
    """Judge every check for which there are data, in the order of the page."""
    columns, table = variants.columns, samples.table
    verdicts = [_verdict(_variant_calls(config), variants.n_flagged, _defined(columns["call_rate"]), "variants")]
    n_tested = _defined(columns["hwe_p"])
    verdicts.append(_verdict(_hwe(config), variants.n_flagged, n_tested, "variants"))
    n_imputed = int((~(np.isnan(columns["info"]) & np.isnan(columns["r2"]))).sum())
    for check, n in (
        (_imputation(config), n_imputed),
        (
            _missing("Missingness, cases and controls", of_variants.MISSING_CASES, config),
            _defined(columns["missing_p_cases"]),
        ),
        (
            _missing("Missingness, men and women", of_variants.MISSING_SEXES, config),
            _defined(columns["missing_p_sexes"]),
        ),
    ):
        if n:
            verdicts.append(_verdict(check, variants.n_flagged, n, "variants"))
    verdicts.append(
        _verdict(_sample_calls(config), samples.n_flagged, _defined(table["call_rate"].to_numpy()), "samples")
    )
    verdicts.append(_verdict(_hets(config), samples.n_flagged, _defined(table["f"].to_numpy()), "samples"))
    verdicts.append(_verdict(_singletons(config), samples.n_flagged, len(table), "samples"))
    verdicts.append(_sex(variants, samples, config))
    return verdicts


def _verdict(check: _Check, n_flagged: dict[str, int], n: int, what: str) -> Verdict:
    """Judge by the share that is flagged."""
    if n == 0:
        return Verdict(check.name, NONE, "not measured", check.wanted, f"None of the {what} has the data for it.")
    flagged = sum(n_flagged[reason] for reason in check.reasons)
    level = level_of(flagged / n, check.thresholds)
    text = check.texts[0 if level == GOOD else 1 if level == FAIR else 2] if flagged else "Nothing to do."
    measured = f"{flagged:,} of {n:,} {what} flagged ({significant(100 * flagged / n)} %)"
    return Verdict(check.name, level, measured, check.wanted, text)


def _variant_calls(config: QcConfig) -> _Check:
    return _Check(
        "Call rate of variants",
        (of_variants.CALL_RATE,),
        FLAGGED_VARIANTS,
        f"at least {config.min_variant_call_rate:g}",
        (
            "Exclude the flagged variants; the others are well called.",
            "More variants fail than usual: exclude them, after removing samples of low call rate, which pull all down.",
            "Many variants fail. Were batches or arrays of different content merged? Restrict to what they share.",
        ),
    )


def _hwe(config: QcConfig) -> _Check:
    return _Check(
        "Hardy–Weinberg proportions",
        (of_variants.HWE,),
        FLAGGED_VARIANTS,
        f"mid-p at least {significant(config.min_hwe_p, 1)}",
        (
            "Exclude the flagged variants: their genotypes are most likely wrong.",
            "Some structure or many badly clustered variants: look at the QQ plot; where it rises evenly it is structure.",
            "So many at once is population structure or relatedness, not error: test within one ancestry, or lower the "
            "threshold, before excluding variants.",
        ),
    )


def _imputation(config: QcConfig) -> _Check:
    return _Check(
        "Imputation quality",
        (of_variants.IMPUTATION,),
        (0.25, 0.75),
        f"INFO or R² at least {config.min_info:g}",
        (
            "Exclude the flagged variants: they hold next to no information.",
            "Usual where the reference panel has many rare variants: exclude the flagged ones.",
            "Most variants are badly imputed: was the panel of the right ancestry, and were strand and build right?",
        ),
    )


def _missing(name: str, reason: str, config: QcConfig) -> _Check:
    return _Check(
        name,
        (reason,),
        (0.001, 0.01),
        f"Fisher's exact p at least {significant(config.min_missing_p, 1)}",
        (
            "Exclude the flagged variants: where calls go missing in one group they make false associations.",
            "The two groups were not called alike at some variants: exclude those, and look at batches.",
            "The two groups were called differently: were they genotyped apart? Associations would follow the batch.",
        ),
    )


def _sample_calls(config: QcConfig) -> _Check:
    return _Check(
        "Call rate of samples",
        (of_samples.CALL_RATE,),
        FLAGGED_SAMPLES,
        f"at least {config.min_sample_call_rate:g}",
        (
            "Remove the flagged samples: little DNA, or badly genotyped.",
            "More samples fail than usual: remove them, and look whether they share a plate or batch.",
            "Many samples fail: a batch went wrong, or variants of one array only are in the data.",
        ),
    )


def _hets(config: QcConfig) -> _Check:
    return _Check(
        "Heterozygosity",
        (of_samples.EXCESS_HETS, of_samples.FEW_HETS),
        FLAGGED_SAMPLES,
        f"|F| at most {config.max_abs_f:g}, within {config.max_f_deviations:g} robust deviations of the median",
        (
            "Remove samples of het_excess: contamination by another's DNA. Those of het_deficit may be children of "
            "relatives, or of another ancestry than the rest, and may stay in a mixed model.",
            "Look at who is flagged: too many heterozygotes mean contamination, too few kinship of the parents or ancestry.",
            "So many at once are a mixture of ancestries, which one expectation does not fit: judge within one ancestry.",
        ),
    )


def _singletons(config: QcConfig) -> _Check:
    return _Check(
        "Singletons",
        (of_samples.SINGLETONS,),
        FLAGGED_SAMPLES,
        f"within {config.max_singleton_deviations:g} robust deviations above the median",
        (
            "Remove the flagged samples where they are flagged for more than this: bad sequencing, or another ancestry.",
            "Rare alleles gather in some samples: another ancestry, or a bad batch.",
            "Rare alleles gather in many samples: several ancestries, or batches called apart.",
        ),
    )


def _sex(variants: VariantQuality, samples: SampleQuality, config: QcConfig) -> Verdict:
    name = "Sex"
    wanted = f"F on X below {config.max_female_x_f:g} for women, above {config.min_male_x_f:g} for men"
    n_x = int((variants.ploidy == Ploidy.X).sum())
    if not samples.tells_sex:
        found = f"{n_x:,} variants on X" if n_x else "no variant on X"
        return Verdict(name, NONE, found, wanted, "Too few variants that vary to tell the sexes apart.")
    known = int((samples.table["sex"] != "unknown").sum())
    if known == 0:
        return Verdict(name, NONE, "no sex is given", wanted, "genetic_sex in samples.tsv is what X says.")
    other, unclear = samples.n_flagged[of_samples.SEX], samples.n_flagged[of_samples.AMBIGUOUS]
    level = level_of((other + unclear) / known, MISMATCHES)
    if other == 0 and level != GOOD:
        level = FAIR  # unclear alone is no proof of a swap
    text = {
        GOOD: "Everyone's X agrees with the sex that was given.",
        FAIR: "Look the flagged samples up: a slip of the pen in the sex, or a swap of samples. If in doubt, remove them.",
    }.get(
        level,
        "Many disagree: are the samples' rows shifted against the genotypes, or is X coded with its pseudo-autosomal "
        "regions (give --build)?",
    )
    measured = f"{other:,} of {known:,} are of the other sex, {unclear:,} unclear"
    return Verdict(name, level, measured, wanted, text)


def _defined(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> int:
    return int((~np.isnan(values)).sum())
