"""Verdicts on studies held against each other: frequencies, flips, scales, gaps, the same study twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import named
from biolmm.report.format import fixed, significant
from biolmm.sumstats.quality.across import AcrossMeasures, Matrix
from biolmm.sumstats.quality.config import WINDOW_BP
from biolmm.sumstats.quality.levels import BAD, ENOUGH, GOOD, LOOK, NONE, Verdict, level_of, percent
from biolmm.sumstats.quality.study import StudyMeasures

_EXPECTED = 20
"""A window is missing of a study where so many variants were expected of it and there is none."""

_LEADS = 5


def judge_between(
    names: Sequence[str],
    metas: Sequence[Mapping[str, Any]],
    found: Sequence[StudyMeasures],
    across: AcrossMeasures,
    contigs: Sequence[str],
    *,
    has_reference: bool,
) -> list[list[Verdict]]:
    """Judge every study by the others; the verdicts of each."""
    scales = _scales(metas, found)
    out = []
    for study in range(len(names)):
        verdicts = [_frequency(study, across, len(names), has_reference=has_reference)]
        if len(names) > 1:
            verdicts += [
                _flips(study, names, across),
                _scale(study, metas, scales),
                _coverage(study, across, contigs),
                _same(study, names, across),
            ]
        out.append(verdicts)
    return out


def _frequency(study: int, across: AcrossMeasures, k: int, *, has_reference: bool) -> Verdict:
    name, wanted = "Allele frequencies", "correlation at least 0.95, outliers at most 1 %"
    against = "the reference" if has_reference else "the other studies"
    n = float(across.frequency[study, 0])
    if n < ENOUGH:
        why = "one study and no reference" if k == 1 and not has_reference else f"{n:,.0f} frequencies to compare"
        return Verdict(
            "frequency",
            name,
            NONE,
            why,
            wanted,
            "Give --frequencies, a table of a reference panel." if k == 1 else "Too few.",
        )
    r, outliers = float(across.frequency_correlation()[study]), int(across.outliers[study])
    counts = across.flipped[study].astype(float)
    flipped = counts[..., 1].sum() / max(counts.sum(), 1)
    measured = f"correlation {fixed(r)} with {against}; {percent(outliers, n)} outliers, "
    measured += f"{percent(flipped, 1)} nearer to the other allele's"
    with np.errstate(invalid="ignore", divide="ignore"):
        by_strand = counts[..., 1].sum(axis=1) / counts.sum(axis=(1, 2))  # ordinary, palindromic
        by_major = counts[..., 1].sum(axis=0) / counts.sum(axis=(0, 2))  # effect allele minor, major
    level = level_of(flipped, 0.01, 0.05)
    if r < 0.8 or outliers > 0.2 * n:
        level = BAD
    elif level == GOOD and (r < 0.95 or outliers > 0.01 * n):
        level = LOOK
    if by_strand[0] > 0.8:
        text = (
            "Frequencies are of the other allele: name the column with --map COLUMN=other_allele_frequency when adding, or, "
            "where effects are flipped as well, exchange effect_allele and other_allele."
        )
        return Verdict("frequency", name, BAD, measured, wanted, text)
    if by_strand[1] > 0.05 and by_strand[1] > 5 * max(by_strand[0], 0.002):
        return Verdict(
            "frequency",
            name,
            BAD if by_strand[1] > 0.1 else LOOK,
            f"{measured}; {percent(by_strand[1], 1)} of palindromic ones",
            wanted,
            "Palindromic variants (A/T, C/G) are on the other strand: add the study with --palindromic frequency, or "
            "drop.",
        )
    if by_major[1] > 0.5 and by_major[0] < 0.05:
        return Verdict(
            "frequency",
            name,
            BAD,
            measured,
            wanted,
            "Frequencies are minor allele frequencies, not those of the effect "
            "allele: add again with --map COLUMN=ignore and --palindromic drop.",
        )
    text = {
        GOOD: "Nothing to do.",
        LOOK: "Outliers are another ancestry's, or variants with alleles mislabelled: set --max-eaf-difference to leave them out.",
    }.get(level, "Frequencies are of another ancestry or panel, or of other variants: were columns joined by row?")
    return Verdict("frequency", name, level, measured, wanted, text)


def _opposite(across: AcrossMeasures) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Matrix]:
    """Tell which pairs share enough signals, which of them are opposite, and the share of equal signs."""
    n, same, total = (across.lead[at] + across.lead[at].T for at in range(3))
    with np.errstate(invalid="ignore", divide="ignore"):
        share, score = same / n, total / np.sqrt(n)
        # With nothing associated in j the score is about normal; a flipped study with power lies far below 0.
        opposite = (share < 0.35) & (score < -3)
    enough = n >= _LEADS
    np.fill_diagonal(enough, False)
    return enough, opposite & enough, share


def _flips(study: int, names: Sequence[str], across: AcrossMeasures) -> Verdict:
    name, wanted = "Direction of effects", "strong signals have the same sign elsewhere"
    enough, opposite, share = _opposite(across)
    if not enough[study].any():
        return Verdict(
            "flips", name, NONE, f"fewer than {_LEADS} shared signals", wanted, "No signal strong enough to compare."
        )
    flipped = opposite.sum(axis=1) > 0.5 * enough.sum(axis=1)
    against = np.flatnonzero(opposite[study])
    measured = f"{percent(float(np.nanmean(share[study, enough[study]])), 1)} of strong signals agree"
    if not against.size:
        return Verdict("flips", name, GOOD, measured, wanted, "Nothing to do.")
    listed = named([names[other] for other in against.tolist()])
    if not flipped[study]:
        text = f"Nothing to do here: {listed} {'is' if against.size == 1 else 'are'} flipped."
        level = GOOD if flipped[against].all() else LOOK
        return Verdict(
            "flips",
            name,
            level,
            f"{measured}; opposite to {listed}",
            wanted,
            text if level == GOOD else f"Opposite to {listed}, it is not clear which is flipped.",
        )
    eaf = across.eaf_correlation()[study, against]
    alleles = bool(np.isfinite(eaf).any()) and float(np.nanmean(eaf)) < -0.5
    what = (
        "effect allele and other allele are exchanged (frequencies are too)"
        if alleles
        else "effects are of the other allele, or the sign of β is turned"
    )
    if len(names) == 2:
        text = f"Of the two studies one is flipped: {what}. Compare a known locus with the literature."
    else:
        text = f"This study is flipped: {what}. Exchange effect_allele and other_allele with --map when adding."
    return Verdict("flips", name, BAD, f"{measured}; opposite to {listed}", wanted, text)


def _scales(metas: Sequence[Mapping[str, Any]], found: Sequence[StudyMeasures]) -> list[float]:
    """Give the standard deviation of the trait in each study; NaN where it cannot be told or the trait is binary."""
    out = []
    for meta, each in zip(metas, found, strict=True):
        known = each.visscher.n >= ENOUGH and meta.get("trait_type") != "binary"
        out.append(each.visscher.quantile(0.5) ** 0.5 if known else float("nan"))
    return out


def _scale(study: int, metas: Sequence[Mapping[str, Any]], scales: Sequence[float]) -> Verdict:
    name, wanted = (
        "Scale, against the other studies",
        "the same standard deviation of the trait within a factor of 1.25",
    )
    mine, others = scales[study], [s for at, s in enumerate(scales) if at != study and not np.isnan(s)]
    if metas[study].get("trait_type") == "binary":
        return Verdict("scale_between", name, NONE, "a binary trait", wanted, "See the meaning of N.")
    if np.isnan(mine) or not others:
        return Verdict("scale_between", name, NONE, "not known", wanted, "Needs SE, frequency and N.")
    middle = float(np.median([*others, mine] if len(others) > 1 else others))
    ratio = mine / middle
    level = level_of(abs(float(np.log(ratio))), float(np.log(1.25)), float(np.log(1.6)))
    measured = f"{significant(mine, 3)}, {significant(ratio)} times that of the others"
    text = (
        "Nothing to do."
        if level == GOOD
        else (
            f"Another unit or transformation of the trait (divide β and SE by {significant(ratio)}), standard errors that are "
            f"wrong by {significant(ratio)}, or N wrong by {significant(ratio**2)}. Combine by p-values (SAMPLESIZE) if units "
            "cannot be had."
        )
    )
    if level != GOOD and len(scales) == 2:
        text = "One of the two studies: " + text[0].lower() + text[1:]
    return Verdict("scale_between", name, level, measured, wanted, text)


def _coverage(study: int, across: AcrossMeasures, contigs: Sequence[str]) -> Verdict:
    name, wanted = (
        "Coverage of the genome",
        f"variants in every window of {WINDOW_BP // 1_000_000} Mb that others cover",
    )
    total = np.sum(list(across.windows.values()), axis=0)
    share = total[study] / max(total[-1], 1)
    missing: dict[str, int] = {}
    windows: dict[str, int] = {}
    for (contig, _), counts in across.windows.items():
        if counts[-1] * share < _EXPECTED:
            continue
        windows[contigs[contig]] = windows.get(contigs[contig], 0) + 1
        if counts[study] == 0:
            missing[contigs[contig]] = missing.get(contigs[contig], 0) + 1
    n, whole = sum(missing.values()), sum(windows.values())
    if not whole:
        return Verdict("coverage", name, NONE, "too few variants", wanted, "Too few variants to tell.")
    gone = [contig for contig, count in missing.items() if count == windows[contig]]
    level = (
        GOOD
        if n == 0
        else BAD
        if gone or max(missing[c] / windows[c] for c in missing) > 0.2 or n > 0.02 * whole
        else LOOK
    )
    measured = f"{n:,} of {whole:,} windows without a variant" + (f" (contigs {named(missing)})" if n else "")
    text = "Nothing to do."
    if gone:
        text = f"Contigs {named(gone)} are missing: was a file of the study left out, or is X not analysed?"
    elif n:
        text = "Parts of contigs are missing: was the file cut off, or a part of it lost? Ask for it again."
    return Verdict("coverage", name, level, measured, wanted, text)


def _same(study: int, names: Sequence[str], across: AcrossMeasures) -> Verdict:
    name, wanted = "Overlap with other studies", "correlation of z below 0.1, no identical numbers"
    looked, same = across.identical[:, study]
    r = across.z_correlation()[study]
    others = [at for at in range(len(names)) if at != study]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(looked >= 30, same / looked, 0.0)
    twin = max(others, key=lambda at: share[at])
    near = max(others, key=lambda at: -1.0 if np.isnan(r[at]) else abs(r[at]))
    if share[twin] > 0.3 or abs(np.nan_to_num(r[near])) > 0.9:
        other = twin if share[twin] > 0.3 else near
        return Verdict(
            "overlap",
            name,
            BAD,
            f"{percent(share[other], 1)} identical to {names[other]}, correlation of z {fixed(r[other])}",
            wanted,
            f"{names[study]} and {names[other]} are the same study, or one holds the other: remove one.",
        )
    if np.isnan(r[near]):
        return Verdict("overlap", name, NONE, "too few shared variants", wanted, "Too few variants to tell.")
    margin = 3 / np.sqrt(across.pair_z[0, study, near])
    level = GOOD if abs(r[near]) <= 0.1 + margin else LOOK
    text = (
        "Nothing to do."
        if level == GOOD
        else (
            "Shared samples, or a very polygenic trait: the intercept of cross-trait LD score regression tells which. Combine with "
            "sample overlap taken into account."
        )
    )
    return Verdict(
        "overlap", name, level, f"correlation of z {fixed(r[near])} with {names[near]} at most", wanted, text
    )
