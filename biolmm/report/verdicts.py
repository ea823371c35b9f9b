"""How well the approximations held: each one measured, held against a threshold, and said in plain words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from biolmm.errors import named
from biolmm.report.format import fixed, significant

GOOD, FAIR, POOR, NONE = "good", "fair", "poor", "none"

MC_ERROR_SHARE = (0.10, 0.25)
"""Monte-Carlo error of h² as a share of its standard error: good up to the first, fair up to the second."""

LOCO_RESIDUAL = (5e-3, 1.5e-2)
"""Relative residual of the LOCO solves; 5e-3 keeps the z of leads within 0.3 %, 1.3e-2 within 1 %."""

GAMMA_ERROR = (0.01, 0.03)
"""Standard error of γ relative to γ: the relative error it puts on every χ² outside the leads."""

LEAD_CHANGE = (0.05, 0.15)
"""Relative change of the leads' χ² when their denominators are computed exactly."""

EIGEN_RESIDUAL = (1e-2, 5e-2)
"""Residual ‖Ku − θu‖ of the eigenpairs relative to θ."""


LDSC_EXCESS = (0.05, 0.15)
"""LD score intercept minus 1, where it is more than two standard errors from 0."""

LDSC_RATIO = (0.1, 0.2)
"""Share of the inflation that is not by LD; 0.05 to 0.1 is usual for polygenic traits of large cohorts (Loh et al. 2018)."""

LDSC_ERROR = 0.05
"""Standard error of the intercept beyond which it tells nothing."""


@dataclass(frozen=True)
class Verdict:
    """One check: what was measured, what is asked for, how it came out, and what to do if it did not."""

    name: str
    level: str
    measured: str
    wanted: str
    text: str


def judge(
    h2: pd.DataFrame | None,
    gamma: pd.DataFrame | None,
    loco: pd.DataFrame | None,
    leads: pd.DataFrame | None,
    eigen: pd.DataFrame | None,
    ldsc: pd.DataFrame | None = None,
) -> list[Verdict]:
    """Judge every approximation of which the run left a table, in the order of the computation."""
    verdicts = [
        None if eigen is None or eigen.empty else _eigenpairs(eigen),
        None if h2 is None or h2.empty else _monte_carlo(h2),
        None if loco is None or loco.empty else _loco(loco),
        None if gamma is None or gamma.empty else _gamma(gamma),
        None if leads is None or leads.empty else _leads(leads),
        None if ldsc is None or ldsc.empty else _intercept(ldsc),
        None if ldsc is None or ldsc["ratio"].isna().all() else _ratio(ldsc),
    ]
    return [verdict for verdict in verdicts if verdict is not None]


def level_of(value: float, thresholds: tuple[float, float]) -> str:
    """Good up to the first threshold, fair up to the second, poor beyond or when the value is NaN.

    Examples
    --------
    >>> [level_of(value, (0.1, 0.2)) for value in (0.1, 0.15, 3.0, float("nan"))]
    ['good', 'fair', 'poor', 'poor']
    """
    if value <= thresholds[0] * (1 + 1e-9):
        return GOOD
    return FAIR if value <= thresholds[1] else POOR


def _percent(share: float) -> str:
    return f"{significant(100 * share)} %"


def _monte_carlo(h2: pd.DataFrame) -> Verdict:
    name, wanted = "Monte-Carlo error of h²", f"at most {_percent(MC_ERROR_SHARE[0])} of the standard error"
    error = h2["h2_mc_se"].to_numpy(dtype=float)
    unknown = np.isnan(error)
    if unknown.any():
        measured = f"not reported for {int(unknown.sum()):,} of {len(h2):,} traits ({named(h2['trait'][unknown], 2)})"
        return Verdict(name, FAIR, measured, wanted, "Without it nobody can say what another seed would change.")
    if not error.any():
        return Verdict(name, GOOD, "none", wanted, "The heritabilities were computed without random probes.")
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(error == 0, 0.0, error / h2["h2_se"].to_numpy(dtype=float))
    worst = int(np.argmax(np.nan_to_num(share, nan=np.inf)))
    level = level_of(float(share[worst]), MC_ERROR_SHARE)
    text = {
        GOOD: "Another seed would give the same heritabilities for all practical purposes.",
        FAIR: "Another seed would move the heritabilities a little; more probes would settle them.",
        POOR: "Another seed would move the heritabilities noticeably: run again with more probes.",
    }[level]
    measured = f"{_percent(float(share[worst]))} of the standard error at worst ({h2['trait'].iloc[worst]})"
    return Verdict(name, level, measured, wanted, text)


def _loco(loco: pd.DataFrame) -> Verdict:
    residual = loco["relative_residual"].to_numpy(dtype=float)
    worst = int(np.argmax(np.nan_to_num(residual, nan=np.inf)))
    row = loco.iloc[worst]
    level = level_of(float(residual[worst]), LOCO_RESIDUAL)
    unfinished = int((~loco["converged"]).sum())
    if unfinished and level == GOOD:
        level = FAIR
    text = {
        GOOD: "The left-out predictors are accurate enough that the solver adds nothing to the statistics.",
        FAIR: "The strongest statistics may be off by about one per cent; a tighter tolerance would mend it.",
        POOR: "The strongest statistics may be off by several per cent: run again with more iterations.",
    }[level]
    if unfinished:
        text = f"{unfinished:,} of {len(loco):,} solves stopped before the tolerance asked for. {text}"
    measured = f"{significant(float(residual[worst]))} at worst ({row['trait']}, contig {row['contig']})"
    wanted = f"relative residual at most {significant(LOCO_RESIDUAL[0], 1)}"
    return Verdict("LOCO solves", level, measured, wanted, text)


def _gamma(gamma: pd.DataFrame) -> Verdict:
    error = (gamma["gamma_se"] / gamma["gamma"]).abs().to_numpy(dtype=float)
    wanted = f"relative error of γ at most {_percent(GAMMA_ERROR[0])}"
    worst = int(np.argmax(np.nan_to_num(error, nan=np.inf)))
    row = gamma.iloc[worst]
    level = level_of(float(error[worst]), GAMMA_ERROR)
    text = {
        GOOD: "The approximate denominators are calibrated; they move no χ² by more than this error on average.",
        FAIR: "Statistics of variants that are not leads may be scaled by up to this error.",
        POOR: "Statistics of variants that are not leads may be mis-scaled: sample more variants for γ.",
    }[level]
    measured = f"{_percent(float(error[worst]))} at worst ({row['trait']}, MAF {row['maf_class']})"
    return Verdict("Denominators of the scan (γ)", level, measured, wanted, text)


def _leads(leads: pd.DataFrame) -> Verdict:
    change = (leads["chisq_scan"] / leads["chisq"] - 1.0).to_numpy(dtype=float)
    wanted = f"χ² of the leads changes by at most {_percent(LEAD_CHANGE[0])}"
    worst = int(np.argmax(np.abs(np.nan_to_num(change, nan=np.inf))))
    level = level_of(abs(float(change[worst])), LEAD_CHANGE)
    if not np.any(change):
        return Verdict(
            "Leads, scan against exact", GOOD, "no change", wanted, "The scan's statistics were exact already."
        )
    text = {
        GOOD: "Scan and exact recomputation agree; the table of loci shows the exact values.",
        FAIR: "The exact values differ visibly from the scan's; the table of loci shows the exact ones.",
        POOR: "The scan's approximation is poor for some lead; neighbours of that lead deserve a second look.",
    }[level]
    measured = (
        f"median {fixed(100 * float(np.nanmedian(change)), 2)} %, at worst {fixed(100 * float(change[worst]), 2)} % "
        f"({leads['trait'].iloc[worst]}, {leads['rsid'].iloc[worst]})"
    )
    return Verdict("Leads, scan against exact", level, measured, wanted, text)


def _eigenpairs(eigen: pd.DataFrame) -> Verdict:
    residual = eigen["residual"].to_numpy(dtype=float)
    worst = int(np.argmax(np.nan_to_num(residual, nan=np.inf)))
    level = level_of(float(residual[worst]), EIGEN_RESIDUAL)
    text = {
        GOOD: "The principal components are eigenvectors to the accuracy that anything here needs.",
        FAIR: "The last components are approximate; the statistics stay correct, only slightly noisier.",
        POOR: "Some components are not eigenvectors: do not read them as ancestry; more iterations would help.",
    }[level]
    measured = f"{significant(float(residual[worst]))} at worst (component {eigen['component'].iloc[worst]})"
    wanted = f"relative residual at most {significant(EIGEN_RESIDUAL[0], 1)}"
    return Verdict("Eigenpairs", level, measured, wanted, text)


_LEVELS = (GOOD, FAIR, POOR)


def _worst(levels: list[str], sizes: list[float]) -> int:
    """Find the trait of the worst level, the one furthest out among several."""
    return max(range(len(levels)), key=lambda i: (_LEVELS.index(levels[i]), abs(np.nan_to_num(sizes[i]))))


def _intercept(ldsc: pd.DataFrame) -> Verdict:
    """Judge confounding and deflation by the LD score intercept; one that grows with a polygenic signal alone is good."""
    name, wanted = "LD score intercept", f"within two standard errors or {LDSC_EXCESS[0]:g} of 1, or a small ratio"
    columns = (ldsc[each].to_numpy(dtype=float).tolist() for each in ("intercept", "intercept_se", "ratio"))
    rows = [(intercept - 1, error, ratio) for intercept, error, ratio in zip(*columns, strict=True)]
    levels = [_intercept_level(*row) for row in rows]
    worst = _worst(levels, [row[0] for row in rows])
    excess, error, _ = rows[worst]
    trait, level = str(ldsc["trait"].iloc[worst]), levels[worst]
    if np.isnan(excess):
        return Verdict(name, level, f"not estimated for {trait}", wanted, "The regression had too few variants.")
    measured = f"{fixed(1 + excess, 3)} ± {fixed(error, 3)}{'' if len(ldsc) == 1 else f' at worst ({trait})'}"
    if level == GOOD:
        text = "No sign of confounding: what inflates the statistics grows with LD, as a polygenic trait does."
    elif abs(excess) <= 2 * error:
        text = (
            "The standard error is too large to show or exclude confounding: use LD scores that share more variants "
            "with the scan."
        )
    elif excess < 0:
        text = (
            "The statistics are too small: was genomic control applied before, are the LD scores of another ancestry, "
            "or is N not what it says?"
        )
    else:
        text = (
            "Inflation that does not grow with LD, as by structure or relatives the model does not carry: add "
            "principal components (--pcs 10), look for relatives and batches (biolmm qc), and take LD scores of the "
            "cohort's ancestry."
        )
    return Verdict(name, level, measured, wanted, text)


def _intercept_level(excess: float, error: float, ratio: float) -> str:
    if np.isnan(excess):
        return FAIR
    if abs(excess) <= 2 * error:
        return GOOD if error <= LDSC_ERROR else FAIR
    if abs(excess) <= LDSC_EXCESS[0]:
        return GOOD
    if excess > 0 and ratio <= LDSC_RATIO[0]:
        return GOOD
    return FAIR if abs(excess) <= LDSC_EXCESS[1] else POOR


def _ratio(ldsc: pd.DataFrame) -> Verdict:
    """Judge the share of inflation that is not by LD, of traits that have a share at all."""
    known = ldsc[ldsc["ratio"].notna()]
    ratios, errors = (known[column].to_numpy(dtype=float).tolist() for column in ("ratio", "ratio_se"))
    levels = [
        GOOD if ratio <= 2 * error else level_of(ratio, LDSC_RATIO) for ratio, error in zip(ratios, errors, strict=True)
    ]
    worst = _worst(levels, [max(ratio, 0.0) for ratio in ratios])
    level, trait = levels[worst], str(known["trait"].iloc[worst])
    text = {
        GOOD: "Of the inflation nothing, or no more than usual, is by something else than LD.",
        FAIR: "More of the inflation than usual is not by LD; check structure, relatives and the ancestry of the LD scores.",
        POOR: "Much of the inflation is not by LD: look at structure, relatives, batches and the ancestry of the LD "
        "scores before you believe weak associations.",
    }[level]
    measured = (
        f"{fixed(ratios[worst], 3)} ± {fixed(errors[worst], 3)}{'' if len(ldsc) == 1 else f' at worst ({trait})'}"
    )
    wanted = f"at most {LDSC_RATIO[0]:g}, or within two standard errors of 0"
    return Verdict("LD score ratio", level, measured, wanted, text)
