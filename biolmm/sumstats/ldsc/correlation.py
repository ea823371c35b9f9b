"""Genetic correlations of all pairs of traits, from one reading of LD scores and statistics.

A pair's heritabilities and covariance are estimated from the variants that both traits have, with weights of their own, as
LDSC does for one pair at a time; where a trait has the same variants in several pairs, its heritability is fitted once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.chunks import sum_tasks
from biolmm.errors import ParameterError
from biolmm.results.diagnostics import neg_log10_p
from biolmm.sumstats.ldsc.heritability import own_fits
from biolmm.sumstats.ldsc.jackknife import covariance, ratio_jackknife, standard_error
from biolmm.sumstats.ldsc.join import Joined
from biolmm.sumstats.ldsc.regression import Fits, Fitted, RegressionConfig, RegressionData, regress

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

BATCH = 2048
"""Pairs at a time: sums of their blocks are held."""


@dataclass(frozen=True, eq=False)
class GeneticCorrelation:
    """One pair's estimates; NaN where there is none.

    Attributes
    ----------
    trait1, trait2, n_variants
        The pair, and the variants of the regression.
    rg, rg_se, z, neg_log_10_p_value
        Correlation, by the jackknife of ratios, and its test against 0.
    covariance, covariance_se
        Genetic covariance, ρ.
    intercept, intercept_se
        √(N₁N₂)⁻¹ N_shared × the phenotypic correlation: sample overlap.
    h2_1, h2_1_se, intercept_1, h2_2, h2_2_se, intercept_2
        Of both traits, over the same variants.
    flags
        What to doubt, or why there is no estimate.
    deleted
        (B, 3) h² of both and covariance without each block.
    """

    trait1: str
    trait2: str
    n_variants: int
    rg: float = np.nan
    rg_se: float = np.nan
    z: float = np.nan
    neg_log_10_p_value: float = np.nan
    covariance: float = np.nan
    covariance_se: float = np.nan
    intercept: float = np.nan
    intercept_se: float = np.nan
    h2_1: float = np.nan
    h2_1_se: float = np.nan
    intercept_1: float = np.nan
    h2_2: float = np.nan
    h2_2_se: float = np.nan
    intercept_2: float = np.nan
    flags: tuple[str, ...] = ()
    deleted: Matrix = field(default_factory=lambda: np.zeros((0, 3)), repr=False)


def estimate_correlations(
    joined: Joined,
    config: RegressionConfig | None = None,
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
    h2_intercept: float | None = None,
    intercept: float | None = None,
) -> list[GeneticCorrelation]:
    """Estimate the genetic correlation of every pair.

    Parameters
    ----------
    joined
        Traits with alleles made equal.
    config
        Blocks and steps; variants are in step one where χ² of both traits are below the limit.
    pairs
        Indices of traits; all pairs by default.
    h2_intercept, intercept
        Fix the intercepts of the heritabilities (1), or of the covariance (0, without sample overlap).

    Returns
    -------
    One a pair, in order; rg is NaN with a reason where a heritability is not above 0.
    """
    chosen = list(pairs) if pairs is not None else list(combinations(range(len(joined.names)), 2))
    if not chosen:
        raise ParameterError(f"a genetic correlation needs two traits, but there are {len(joined.names)}.")
    out: list[GeneticCorrelation] = []
    problem, known = joined.problem, ~np.isnan(joined.Z)
    for start in range(0, len(chosen), BATCH):
        out += _of_batch(
            joined, problem, known, np.array(chosen[start : start + BATCH]), config, h2_intercept, intercept
        )
    return out


def _of_batch(
    joined: Joined,
    problem: RegressionData,
    known: NDArray[np.bool_],
    pairs: NDArray[np.int64],
    config: RegressionConfig | None,
    h2_intercept: float | None,
    intercept: float | None,
) -> list[GeneticCorrelation]:
    wanted: dict[tuple[int, int], int] = {}
    of_pair = np.array([[_own(wanted, known, int(i), int(j)), _own(wanted, known, int(j), int(i))] for i, j in pairs])
    traits, partners = (np.array(column) for column in zip(*wanted, strict=True))
    own = regress(problem, own_fits(traits, h2_intercept, partners), config)
    h, a = own.slope[of_pair], own.intercept[of_pair]
    models = np.column_stack([h[:, 0], a[:, 0], h[:, 1], a[:, 1]])
    able = ~np.isnan(models).any(axis=1)
    models[~able] = [0.0, 1.0, 0.0, 1.0]
    fixed = np.full(len(pairs), np.nan if intercept is None else intercept)
    shared = regress(problem, Fits(np.column_stack([pairs, pairs[:, 0]]), fixed, 0.0, models), config)
    return [_describe(joined, p, pair, own, of_pair[p], shared) for p, pair in enumerate(pairs)]


def _own(wanted: dict[tuple[int, int], int], known: NDArray[np.bool_], trait: int, partner: int) -> int:
    """Number the heritability of a trait over its partner's variants; its own number where the partner has them all."""
    if bool((known[partner] | ~known[trait]).all()):
        partner = trait
    return wanted.setdefault((trait, partner), len(wanted))


def _describe(
    joined: Joined, p: int, pair: NDArray[np.int64], own: Fitted, of_pair: NDArray[np.int64], shared: Fitted
) -> GeneticCorrelation:
    one, two = of_pair
    h1, h2, rho = float(own.slope[one]), float(own.slope[two]), float(shared.slope[p])
    first, second = joined.names[pair[0]], joined.names[pair[1]]
    n_variants = int(shared.n_variants[p])
    if own.slopes.shape[1] != shared.slopes.shape[1] or np.isnan([h1, h2, rho]).any():
        return GeneticCorrelation(first, second, n_variants, flags=("too few shared variants for a regression",))
    deleted = np.column_stack([own.slopes[one], own.slopes[two], shared.slopes[p]])
    rg, rg_se, flags = _ratio(h1, h2, rho, deleted)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = rg / rg_se if rg_se > 0 else np.nan
    return GeneticCorrelation(
        trait1=first, trait2=second, n_variants=n_variants, rg=rg, rg_se=rg_se, z=z,
        neg_log_10_p_value=float(neg_log10_p(z)), covariance=rho, covariance_se=standard_error(rho, shared.slopes[p]),
        intercept=float(shared.intercept[p]),
        intercept_se=standard_error(shared.intercept[p], shared.intercepts[p]) if shared.free[p] else np.nan,
        h2_1=h1, h2_1_se=standard_error(h1, own.slopes[one]), intercept_1=float(own.intercept[one]),
        h2_2=h2, h2_2_se=standard_error(h2, own.slopes[two]), intercept_2=float(own.intercept[two]),
        flags=flags, deleted=deleted,
    )  # fmt: skip


def _ratio(h1: float, h2: float, rho: float, deleted: Matrix) -> tuple[float, float, tuple[str, ...]]:
    """Estimate ρ / √(h₁² h₂²) with its standard error, and what to doubt."""
    low = [name for name, h in (("the first", h1), ("the second", h2)) if h <= 0]
    if low:
        return np.nan, np.nan, (f"no correlation: h2 of {' and '.join(low)} trait is not above 0",)
    scale = float(np.sqrt(h1 * h2))
    flags: list[str] = []
    if (deleted[:, :2] > 0).all():
        found = ratio_jackknife(rho, scale, deleted[:, 2], np.sqrt(deleted[:, 0] * deleted[:, 1]))
        rg, se = found.value, found.se
    else:
        rg = rho / scale
        slope = np.array([-rg / (2 * h1), -rg / (2 * h2), 1 / scale])
        se = float(np.sqrt(slope @ covariance(np.array([h1, h2, rho]), deleted) @ slope))
        flags.append("h2 is not above 0 without some block: the standard error is that of the delta method")
    if abs(rg) > 1:
        flags.append("rg is out of bounds" + ("" if abs(rg) - 2 * se > 1 else ", within two standard errors of 1"))
    return rg, se, tuple(flags)


def correlation_table(found: Sequence[GeneticCorrelation]) -> pd.DataFrame:
    """Make a table, a row a pair; flags with semicolons between."""
    rows = [{name: value for name, value in asdict(each).items() if name != "deleted"} for each in found]
    return pd.DataFrame([{**row, "flags": "; ".join(row["flags"])} for row in rows])


def screen_correlations(joined: Joined) -> tuple[Matrix, Matrix]:
    """Estimate heritabilities (diagonal) and genetic covariances of all pairs with weights common to all: fast, and less precise.

    `E[z_i z_j] = √(N_i N_j) ρ_ij ℓ / M + a_ij` by one weighted least squares with each trait's mean N, over the variants
    that all traits have; weights 1 / (ℓ^w (1 + x̄)²) with x̄ the mean trait's excess χ² at ℓ.

    Returns
    -------
    Covariances and intercepts, (T, T) each.

    Notes
    -----
    **Cost**: one pass and two matrix products, 4 n T² operations. For screening thousands of traits; estimate the pairs
    that matter with `estimate_correlations`.
    """
    complete = ~np.isnan(joined.Z).any(axis=0)
    if np.count_nonzero(complete) < 2:
        raise ParameterError(f"the {len(joined.names)} traits have {np.count_nonzero(complete)} variants in common.")
    data = joined.problem
    ld = data.ld[complete]
    n = joined.N[:, complete].mean(axis=1)
    excess = max(float(np.mean(joined.Z[:, complete] ** 2)) - 1, 0.0)
    weight = 1 / (np.maximum(data.w_ld[complete], 1) * (1 + excess * np.maximum(ld, 1) / ld.mean()) ** 2)
    rows = np.array_split(np.flatnonzero(complete), max(1, len(ld) // 20_000))
    x = np.zeros(joined.Z.shape[1])
    w = np.zeros_like(x)
    x[complete], w[complete] = ld / data.m, weight
    cross, plain = sum_tasks(_products, rows, (joined.Z, x, w))
    s0, sx, sxx = w.sum(), w @ x, w @ x**2
    slope = (s0 * cross - sx * plain) / (s0 * sxx - sx**2)
    return slope / np.sqrt(np.outer(n, n)), (plain - slope * sx) / s0


def _products(rows: NDArray[np.int64], shared: tuple[Matrix, Vector, Vector]) -> tuple[Matrix, Matrix]:
    Z, x, w = shared
    mine = Z[:, rows]
    return (mine * (w * x)[rows]) @ mine.T, (mine * w[rows]) @ mine.T
