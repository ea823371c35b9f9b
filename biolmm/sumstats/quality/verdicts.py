"""Verdicts on one study from its own numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from biolmm.report.format import fixed, significant
from biolmm.sumstats.quality.config import INFO_EDGES, MAF_EDGES, QualityConfig
from biolmm.sumstats.quality.levels import BAD, ENOUGH, GOOD, LOOK, NONE, Verdict, level_of, percent
from biolmm.sumstats.quality.scale import judge_scale
from biolmm.sumstats.quality.study import COLUMNS_OF_LAMBDA, StudyMeasures

_LAMBDA_SD = 2.33
"""Standard deviation of λ of n independent variants is this over √n: 1 / (2 f(m) m) with f the density of χ²₁ at its median m."""


def judge_study(
    meta: Mapping[str, Any], found: StudyMeasures, config: QualityConfig, contigs: Sequence[str]
) -> list[Verdict]:
    """Judge one study by itself, in the order of the page; `contigs` are the store's names."""
    return [
        _records(meta, found),
        _duplicates(meta),
        _columns(found),
        _ranges(meta, found),
        _p_against_z(found),
        _lambda(found),
        *_lambda_by(found),
        _effects(found),
        _slope(found),
        judge_scale(meta, found, config),
        _contigs(found, contigs),
        _info(found),
    ]


def _records(meta: Mapping[str, Any], found: StudyMeasures) -> Verdict:
    counts = meta.get("counts", {})
    n = int(counts.get("records", 0)) or found.n_present
    used = found.n_present / n if n else 0.0
    reasons = {
        name: int(counts[name])
        for name in (
            "no_place",
            "bad_alleles",
            "not_in_reference",
            "ambiguous_indel",
            "unknown_id",
            "other_test",
            "other_alleles",
            "bad_effect",
            "bad_error",
            "bad_p",
            "bad_strand",
        )
        if counts.get(name)
    }
    by_rule = (
        reasons.get("bad_strand", 0) / n if n else 0.0
    )  # palindromic ones in the grey zone are no fault of the file
    level = level_of(max(1 - used - min(by_rule, 0.15), 0.0), 0.05, 0.3)
    text = "Nothing to do."
    if reasons:
        most = max(reasons, key=lambda name: reasons[name])
        text = (
            f"Left out: {', '.join(f'{name.replace(chr(95), chr(32))} {count:,}' for name, count in reasons.items())}. "
        )
        text += (
            "Little is lost."
            if level == GOOD
            else f"Look at records left out for {most.replace('_', ' ')} in the file."
        )
    return Verdict(
        "records",
        "Records used",
        level,
        f"{found.n_present:,} of {n:,} ({percent(found.n_present, n)})",
        "at least 95 %, palindromic ones aside",
        text,
    )


def _duplicates(meta: Mapping[str, Any]) -> Verdict:
    counts = meta.get("counts", {})
    n, repeated = int(counts.get("records", 0)), int(counts.get("duplicate", 0))
    level = level_of(repeated / n, 0.001, 0.02) if n else NONE
    text = (
        "Nothing to do."
        if level in (GOOD, NONE)
        else (
            "The first record of each variant was used. Was the file joined with itself, or are there several tests a variant? "
            "Ask for a file with one line a variant, or add with --duplicates best-p."
        )
    )
    return Verdict("duplicates", "Repeated variants", level, f"{repeated:,} of {n:,} records", "at most 0.1 %", text)


def _columns(found: StudyMeasures) -> Verdict:
    n = found.n_present
    missing = {name: found.n_missing.get(name, 0) / n if n else 1.0 for name in ("se", "eaf", "n", "info")}
    parts = [f"{name} {percent(share, 1)}" for name, share in missing.items() if share > 0]
    lacks = [name for name in ("se", "eaf", "n") if missing[name] > 0.01]
    level = GOOD if not lacks else LOOK
    why = {
        "se": "without standard errors only p-values can be combined (SAMPLESIZE), and effects not at all",
        "eaf": "without frequencies neither strands, scales nor filters by frequency can be checked",
        "n": "without N there is no weight for p-values, and scales cannot be checked: give --n when adding",
    }
    text = "Nothing to do." if not lacks else "; ".join(why[name] for name in lacks).capitalize() + "."
    return Verdict("columns", "Missing numbers", level, ", ".join(parts) or "none", "SE, frequency and N of all", text)


def _ranges(meta: Mapping[str, Any], found: StudyMeasures) -> Verdict:
    warnings = [str(each) for each in meta.get("warnings", [])]
    removed, zero = found.n_status.get("value_removed", 0), found.n_status.get("p_zero", 0)
    level = level_of(removed / max(found.n_present, 1), 0.001, 0.2)
    if warnings and level == GOOD:
        level = LOOK
    measured = f"{removed:,} impossible frequencies, INFO or N; {zero:,} p-values of 0"
    text = "; ".join(warnings).capitalize() + "." if warnings else "Nothing to do."
    if level == BAD:
        text += " A column is not what its name says: name it with --map when adding."
    return Verdict("ranges", "Ranges of numbers", level, measured, "none", text)


def _p_against_z(found: StudyMeasures) -> Verdict:
    name, wanted = "P against β / SE", "p that follow from β / SE"
    n, differs = found.n_present - found.n_missing.get("se", 0), found.n_status.get("p_disagrees", 0)
    if n <= 0:
        return Verdict("p_z", name, NONE, "no standard errors", wanted, "Nothing to compare.")
    share = differs / n
    level = level_of(share, 0.001, 0.02)
    measured = f"{differs:,} of {n:,} disagree ({percent(differs, n)})"
    if level == GOOD:
        return Verdict("p_z", name, GOOD, measured, wanted, "Nothing to do.")
    ratio, low, high = (found.z_ratio.quantile(q) for q in (0.5, 0.1, 0.9))
    steady = found.z_ratio.n >= 30 and high / max(low, 1e-9) < 1.15
    if found.n_beyond_largest > max(20, 0.5 * differs):
        return Verdict(
            "p_z",
            name,
            LOOK,
            f"{measured}; {found.n_beyond_largest:,} stop at 10^−{found.largest_tail:.0f}",
            wanted,
            f"p-values were cut off at 10^−{found.largest_tail:.0f}: combine by β and SE, not by p.",
        )
    if steady and 0.6 < ratio < 0.995:
        factor = 1 / ratio**2
        return Verdict(
            "p_z",
            name,
            LOOK,
            f"{measured}; z of p is {ratio:.3f} of β / SE",
            wanted,
            f"p has been corrected by genomic control (λ = {factor:.3f}) but SE has not: use one of them only, and "
            "do not correct the study again.",
        )
    if steady:
        which = "too small" if ratio < 1 else "too large"
        more = f"SE is {which} by the factor {max(ratio, 1 / ratio):.2f}, or p is of another test"
        return Verdict(
            "p_z",
            name,
            BAD,
            f"{measured}; z of p is {ratio:.3f} of β / SE",
            wanted,
            f"{more}. Ask the study which is right; until then leave it out.",
        )
    return Verdict(
        "p_z",
        name,
        level,
        measured,
        wanted,
        "p is of another test than β and SE (a likelihood ratio, Firth, SPA), where they differ at rare variants "
        "only; or a column is not what its name says (log10 p or z as p). Look at the picture of p against z.",
    )


def lambda_margin(n: float) -> float:
    """Three standard deviations of λ of n independent variants."""
    return 3 * _LAMBDA_SD / float(np.sqrt(max(n, 1)))


def _lambda(found: StudyMeasures) -> Verdict:
    name, wanted = "Inflation λ", "near 1; polygenic traits rise with N"
    column = found.lambda_column
    value, n = found.lambda_gc(column), found.n_lambda(column)
    if n < ENOUGH:
        return Verdict("lambda", name, NONE, f"{n:,} variants", wanted, "Too few variants.")
    margin, size = lambda_margin(n), found.n.quantile(0.5)
    # Polygenic inflation grows with N: what it would be of 10,000 samples does not.
    scaled = 1 + (value - 1) * 10_000 / size if size > 10_000 else value
    measured = f"λ = {fixed(value)} ({found.n_lambda(column):,} variants)"
    if size > 10_000:
        measured += f", {fixed(scaled)} scaled to N = 10,000"
    if value < 1:
        level = level_of(1 - value - margin, 0.05, 0.15)
        text = (
            "Standard errors are too large, or genomic control was applied already: do not correct again."
            if level != GOOD
            else ""
        )
    else:
        level = level_of(scaled - 1 - margin, 0.1, 0.25)
        text = {
            LOOK: "Compare with the intercept of LD score regression: if that is near 1, it is polygenicity; else correct by "
            "it (or --genomic-control).",
            BAD: "Far more than polygenicity gives: structure or relatedness that the study did not correct for, or standard "
            "errors that are too small. Ask the study; at least correct by the LD score intercept.",
        }.get(level, "")
    return Verdict("lambda", name, level, measured, wanted, text or "Nothing to do.")


def _lambda_by(found: StudyMeasures) -> Iterator[Verdict]:
    n_maf = len(MAF_EDGES) - 1
    for key, name, first, count, remedy in (
        (
            "lambda_maf",
            "λ by frequency",
            2,
            n_maf,
            "Rare variants are not calibrated: set --min-maf (or --min-mac) above the bin, or ask for another test.",
        ),
        (
            "lambda_info",
            "λ by imputation quality",
            2 + n_maf,
            len(INFO_EDGES) - 1,
            "Badly imputed variants are not calibrated: set --min-info above the bin.",
        ),
    ):
        overall = found.lambda_gc(0)
        rows = [(COLUMNS_OF_LAMBDA[at], found.lambda_gc(at), found.n_lambda(at)) for at in range(first, first + count)]
        rows = [row for row in rows if row[2] >= ENOUGH]
        wanted = "within 0.15 of λ of all"
        if not rows or np.isnan(overall):
            yield Verdict(key, name, NONE, "too few variants", wanted, "Nothing to compare.")
            continue
        away = [(abs(value - overall) - lambda_margin(n), bin_name, value) for bin_name, value, n in rows]
        most, bin_name, value = max(away)
        level = level_of(most / max(overall, 1.0), 0.15, 0.4)
        measured = f"{fixed(value)} at {bin_name}, {fixed(overall)} in all"
        yield Verdict(key, name, level, measured, wanted, "Nothing to do." if level == GOOD else remedy)


def _effects(found: StudyMeasures) -> Verdict:
    name, wanted = "Distribution of effects", "as many up as down, centred on 0"
    n = found.n_signed
    if n < ENOUGH:
        return Verdict("effects", name, NONE, f"{n:,} effects", wanted, "Too few variants.")
    up = found.n_positive / n
    median = found.abs_beta.quantile(0.5)
    shape = f"median |β| {significant(median)}, skewness {fixed(found.beta.skewness, 2)}, kurtosis {fixed(found.beta.kurtosis, 1)}"
    measured = f"{percent(up, 1)} positive; {shape}"
    near_one = found.n_beta_near_one / max(found.beta.n, 1)
    if near_one > 0.8 and found.lambda_gc(0) > 10:
        return Verdict(
            "effects",
            name,
            BAD,
            measured,
            wanted,
            "Effects lie around 1, not 0: odds ratios were taken for β. Add again with --map COLUMN=odds_ratio.",
        )
    away = abs(up - 0.5) - 3 * 0.5 / np.sqrt(n)
    level = level_of(float(away), 0.05, 0.2)
    text = {
        LOOK: "More effects point one way than chance gives: is the effect allele always the minor one of a rare-variant burden, "
        "or were signs lost for some variants?",
        BAD: "Nearly all effects point one way: signs were lost (|β|), or odds ratios taken for β. Name the column with --map.",
    }.get(level, "Nothing to do.")
    if level == GOOD and abs(found.beta.skewness) > 5:
        level, text = LOOK, "A few huge effects pull the distribution: set --max-abs-beta, --max-se or --min-mac."
    return Verdict("effects", name, level, measured, wanted, text)


def _slope(found: StudyMeasures) -> Verdict:
    name, wanted = "SE against 2p(1−p)·N", "slope −1 of log SE² on log 2p(1−p)·N·INFO"
    slope, r = found.precision.slope, found.precision.correlation
    if found.precision.n < ENOUGH or np.isnan(slope):
        return Verdict(
            "se_slope",
            name,
            NONE,
            f"{found.precision.n:,} common variants with SE, frequency and N",
            wanted,
            "Too few variants to tell.",
        )
    measured = f"slope {fixed(slope, 2)}, correlation {fixed(r, 3)} ({found.precision.n:,} variants)"
    level = level_of(abs(slope + 1), 0.15, 0.4)
    if level == GOOD and r > -0.8:
        level = LOOK
    text = {
        LOOK: "Standard errors do not quite follow frequency and N: is N that of each variant, and INFO of this imputation?",
        BAD: "Standard errors do not follow frequency and N: z-scores and 1 taken for β and SE, SE of something else, or "
        "frequencies (or N) of other variants. Do not combine by β and SE before this is clear.",
    }.get(level, "Nothing to do.")
    return Verdict("se_slope", name, level, measured, wanted, text)


def _contigs(found: StudyMeasures, contigs: Sequence[str]) -> Verdict:
    name, wanted = "One scale on all contigs", "the same trait variance within a factor of 1.3"
    scales = {
        contig: counted.quantile(0.5) for contig, counted in found.visscher_by_contig.items() if counted.n >= ENOUGH
    }
    if len(scales) < 2:
        return Verdict("scale_contigs", name, NONE, "one contig with enough variants", wanted, "Nothing to compare.")
    middle = float(np.median(list(scales.values())))
    away = {contig: float(abs(np.log(value / middle))) for contig, value in scales.items()}
    odd = [contig for contig, value in away.items() if value > np.log(1.3)]
    level = level_of(max(away.values()), float(np.log(1.3)), float(np.log(1.7)))
    far = max(away, key=lambda contig: away[contig])
    measured = f"factor {significant(scales[far] / middle)} at worst (contig {contigs[far]})"
    text = (
        "Nothing to do."
        if level == GOOD
        else (
            f"{len(odd)} of {len(scales)} contigs are on another scale or of another N: the file was put together from different "
            "analyses. Ask for one analysis of all contigs. (X is coded 0/2 or 0/1 in males: a factor of up to 2 there is that.)"
        )
    )
    return Verdict("scale_contigs", name, level, measured, wanted, text)


def _info(found: StudyMeasures) -> Verdict:
    name, wanted = "Imputation quality", "at most 5 % of variants below 0.3"
    n = found.info.n
    if not n:
        return Verdict("info", name, NONE, "no INFO", wanted, "Variants cannot be filtered by imputation quality.")
    share = found.n_info_low / n
    level = level_of(share, 0.05, 0.5)
    text = "Nothing to do." if level == GOOD else "Set --min-info 0.3 or higher before combining."
    if found.info.quantile(0.01) >= 0.9999 and n >= ENOUGH:
        text = "All are 1: genotyped variants, or no imputation quality at all."
    return Verdict(
        "info",
        name,
        level,
        f"median {fixed(found.info.quantile(0.5), 3)}; {percent(found.n_info_low, n)} below 0.3",
        wanted,
        text,
    )
