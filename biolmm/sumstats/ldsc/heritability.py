"""SNP heritability and confounding of traits, from LD score regression."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from biolmm.errors import ParameterError
from biolmm.results.diagnostics import MEDIAN_CHISQ_1
from biolmm.sumstats.ldsc.jackknife import standard_error
from biolmm.sumstats.ldsc.join import Joined
from biolmm.sumstats.ldsc.regression import Fits, Fitted, RegressionConfig, RegressionData, regress

Vector = NDArray[np.float64]

MANY_LEFT_OUT = 0.01
"""A share of variants beyond the limit of step one above this is flagged."""

LITTLE_SIGNAL = 1.02
"""A mean χ² below this is flagged: there is hardly any signal to divide."""


@dataclass(frozen=True, eq=False)
class Heritability:
    """One trait's estimates; NaN where there is none.

    Attributes
    ----------
    trait, n_variants, mean_n
        Name, variants in the regression, their mean sample size.
    h2, h2_se
        On the scale of the statistics (observed, of a binary trait), and by the jackknife.
    intercept, intercept_se
        1 + confounding; the standard error is NaN where it was fixed.
    mean_chisq, lambda_gc
        Of the same variants.
    ratio, ratio_se
        (intercept − 1) / (mean χ² − 1): the share of inflation that is not by LD.
    h2_liability, h2_liability_se
        On the scale of liability, where prevalences were given.
    flags
        What to doubt, in words.
    h2_deleted, intercept_deleted
        (B,) without each block.
    """

    trait: str
    n_variants: int
    mean_n: float
    h2: float
    h2_se: float
    intercept: float
    intercept_se: float
    mean_chisq: float
    lambda_gc: float
    ratio: float
    ratio_se: float
    h2_liability: float = np.nan
    h2_liability_se: float = np.nan
    flags: tuple[str, ...] = ()
    h2_deleted: Vector = field(default_factory=lambda: np.zeros(0), repr=False)
    intercept_deleted: Vector = field(default_factory=lambda: np.zeros(0), repr=False)


def liability_factor(prevalence: float, case_fraction: float) -> float:
    """Convert h² of 0 and 1 in a sample to that of liability: K²(1−K)² / (P (1−P) φ(Φ⁻¹(1−K))²).

    Lee et al. 2011, doi 10.1016/j.ajhg.2011.02.002.

    Parameters
    ----------
    prevalence
        K, in the population.
    case_fraction
        P, in the sample.

    Raises
    ------
    ParameterError
        When one of them is not between 0 and 1.

    Examples
    --------
    >>> round(liability_factor(0.01, 0.5), 12)
    0.551907298063
    """
    for name, value in (("the prevalence", prevalence), ("the fraction of cases", case_fraction)):
        if not 0 < value < 1:
            raise ParameterError(f"{name} is {value:g} but must be between 0 and 1.")
    density = np.exp(-(special.ndtri(prevalence) ** 2) / 2) / np.sqrt(2 * np.pi)
    return float((prevalence * (1 - prevalence) / density) ** 2 / (case_fraction * (1 - case_fraction)))


def estimate_heritability(
    joined: Joined,
    config: RegressionConfig | None = None,
    *,
    intercept: float | None = None,
    prevalence: tuple[float, float] | None = None,
) -> list[Heritability]:
    """Estimate h² and intercept of every trait, each from all of its variants.

    Parameters
    ----------
    joined
        Traits beside LD scores; of several annotations the sum is used.
    config
        Blocks and steps.
    intercept
        Fix it, for example at 1; None: estimate it.
    prevalence
        In the population, and the fraction of cases in the samples: for the scale of liability.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> ld = rng.gamma(2, 20, 4000)
    >>> z = rng.normal(size=(1, 4000)) * np.sqrt(1.1 + 20_000 * 0.3 * ld / 1e5)
    >>> joined = Joined(("a",), z, np.full(z.shape, 20_000.0), ld[:, None], ld, np.array([1e5]), ("base",), (0,), ((),))
    >>> found = estimate_heritability(joined)[0]
    >>> abs(found.h2 - 0.3) < 3 * found.h2_se, abs(found.intercept - 1.1) < 3 * found.intercept_se
    (True, True)
    """
    T = len(joined.names)
    factor = 1.0 if prevalence is None else liability_factor(*prevalence)
    fitted = regress(joined.problem, own_fits(np.arange(T), intercept), config)
    out = []
    for t in range(T):
        found = summarise(joined.problem, t, fitted, t, joined.names[t], joined.flags[t])
        if prevalence is not None:
            found = replace(found, h2_liability=factor * found.h2, h2_liability_se=factor * found.h2_se)
        out.append(found)
    return out


def own_fits(traits: NDArray[np.int64], intercept: float | None, partners: NDArray[np.int64] | None = None) -> Fits:
    """Set up heritabilities of traits, over the variants that their partners have as well."""
    P = len(traits)
    fixed = np.full(P, np.nan if intercept is None else intercept)
    return Fits(
        np.column_stack([traits, traits, traits if partners is None else partners]), fixed, 1.0, np.full((P, 4), np.nan)
    )


def summarise(
    data: RegressionData, trait: int, fitted: Fitted, p: int, name: str, flags: tuple[str, ...]
) -> Heritability:
    """Describe fit p, the heritability of a trait."""
    z, n = data.Z[trait], data.N[trait]
    known = ~np.isnan(z)
    chisq = z[known] ** 2
    mean = float(fitted.mean[p])
    h2, intercept = float(fitted.slope[p]), float(fitted.intercept[p])
    h2_se = standard_error(h2, fitted.slopes[p])
    intercept_se = standard_error(intercept, fitted.intercepts[p]) if fitted.free[p] else np.nan
    known_ratio = mean > 1 and bool(fitted.free[p])
    return Heritability(
        trait=name,
        n_variants=int(fitted.n_variants[p]),
        mean_n=float(n[known].mean()),
        h2=h2,
        h2_se=h2_se,
        intercept=intercept,
        intercept_se=intercept_se,
        mean_chisq=mean,
        lambda_gc=float(np.median(chisq)) / MEDIAN_CHISQ_1,
        ratio=(intercept - 1) / (mean - 1) if known_ratio else np.nan,
        ratio_se=intercept_se / (mean - 1) if known_ratio else np.nan,
        flags=(*flags, *_doubts(h2, h2_se, intercept, mean, bool(fitted.free[p])), *_many_left_out(fitted, p)),
        h2_deleted=fitted.slopes[p],
        intercept_deleted=fitted.intercepts[p],
    )


def _doubts(h2: float, h2_se: float, intercept: float, mean: float, free: bool) -> tuple[str, ...]:
    """Say what is out of range."""
    found = []
    if np.isnan(h2):
        return ("too few variants for a regression",)
    if h2 < 0:
        found.append("h2 is negative" + (", within two standard errors of 0" if h2 > -2 * h2_se else ""))
    if h2 > 1:
        found.append("h2 is above 1" + (", within two standard errors" if h2 - 2 * h2_se < 1 else ": is N right?"))
    if mean < LITTLE_SIGNAL:
        found.append(f"mean chi-squared is {mean:.3f}: hardly any signal")
    if free and mean > 1 and intercept < 1:
        found.append("the ratio is negative: the intercept is below 1, as after genomic control")
    return tuple(found)


def _many_left_out(fitted: Fitted, p: int) -> tuple[str, ...]:
    """Say when the first step leaves out more than a few outliers, which makes its slope too small."""
    share = 1 - fitted.n_first[p] / max(fitted.n_variants[p], 1)
    if share <= MANY_LEFT_OUT:
        return ()
    return (
        f"{100 * share:.1f} % of the variants are above the limit of step one, so that h2 is too low: use one step",
    )


def heritability_table(found: list[Heritability]) -> pd.DataFrame:
    """Make a table, a row a trait; flags with semicolons between."""
    rows = []
    for each in found:
        row = asdict(each)
        row["flags"] = "; ".join(each.flags)
        rows.append({name: value for name, value in row.items() if not name.endswith("_deleted")})
    return pd.DataFrame(rows)
