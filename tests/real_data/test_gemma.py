"""GEMMA 0.98.5 on the same mice: the mixed model without LOCO, and the plain regression.

Which of GEMMA's columns is ours. GEMMA's `-lmm 4` prints three tests. `p_wald` and `p_lrt` estimate the ratio of
variances anew for every variant, under the alternative; `p_score` keeps the one of the null model, as biolmm does and
every program that is to run on a biobank: **`p_score` is the column that applies**. Two details differ. GEMMA's null
ratio is that of maximum likelihood, not of REML, and it refers n·P_xy²/(P_yy·P_xx) to F(1, n − C − 1) with P at that
ratio, where biolmm refers χ² = (n − C)·P_xy²/(P_yy·P_xx) to χ²(1). With h² fixed at the ML estimate (found below by a
dense oracle) and the conversion F = χ²·n/(n − C) the two are the same statistic.

GEMMA's K. `-gk 1` sums centred genotypes; α = 0 and the scale of the sample give it, divided by its mean diagonal, so
that h² is GEMMA's pve. `-gk 2` divides by standard deviations that GEMMA takes over **all** 1,940 mice, with or without
the trait (its variants are those that pass the filters among the mice with the trait): K has to be made on everybody.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import minimize_scalar

from biolmm.association import ScanConfig, prepare_scan
from biolmm.reml.fit import FitConfig, fit_null_model, plain_model
from biolmm.reml.likelihood import VarianceComponents
from oracles.scan import scan_everything, score_everything, with_predictors

PUBLISHED = {  # run: pve, vg, ve in the null model, from the logs
    "p1.gk1": (0.609672, 1.47914, 0.340552),
    "p1.gk2": (0.601486, 0.512974, 0.339858),
    "p6.gk1": (0.635863, 2.08764, 0.431933),
}
RUNS = [
    "p1.gk1",
    pytest.param("p1.gk2", marks=pytest.mark.slow),
    pytest.param("p6.gk1", marks=pytest.mark.slow),
]


@dataclass(frozen=True)
class Run:
    """One run of GEMMA and the same with biolmm, h² at REML and at ML."""

    name: str
    theirs: pd.DataFrame
    n: int
    reml: VarianceComponents
    mean_diagonal: float
    chisq: NDArray[np.float64]
    beta: NDArray[np.float64]
    standard_error: NDArray[np.float64]


def maximum_likelihood(K: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the h² that maximises the likelihood of y ~ N(μ, σ²(h²K + (1−h²)I)), μ and σ² profiled."""
    values, vectors = np.linalg.eigh(K)
    rotated, ones = vectors.T @ y, vectors.sum(axis=0)

    def deviance(h2: float) -> float:
        weight = 1 / (h2 * values + 1 - h2)
        residual = rotated - ones * (weight @ (ones * rotated)) / (weight @ ones**2)
        return float(len(y) * np.log(weight @ residual**2) - np.log(weight).sum())

    found = minimize_scalar(deviance, bounds=(0.01, 0.99), method="bounded", options={"xatol": 1e-10})
    return float(found.x)


@pytest.fixture(scope="module", params=RUNS)
def run(mice, request: pytest.FixtureRequest) -> Run:
    name = request.param
    theirs = mice.table(f"gemma/{name}.lmm4.assoc.txt.gz", "rs")
    gk1 = name.endswith("gk1")
    cohort = mice.cohort({"p1": "CD8", "p6": "MCH"}[name[:2]], everybody=not gk1)
    operator = mice.operator(cohort, mice.rows(theirs.index), alpha=0.0 if gk1 else -1.0, scale="sample")
    observed = ~np.isnan(cohort.y[:, 0])
    K = operator.dense()[np.ix_(observed, observed)] / operator.m
    K -= K.mean(axis=0)
    K -= K.mean(axis=1)[:, None]
    config = {"solver": "exact", "loco": False}
    reml = fit_null_model(operator, cohort, FitConfig(**config)).components(0)  # type: ignore[arg-type]
    at_ml = FitConfig(**config, fixed_h2=maximum_likelihood(K, cohort.y[observed, 0]))  # type: ignore[arg-type]
    model = with_predictors(operator, fit_null_model(operator, cohort, at_ml), loco=False)
    found = scan_everything(operator, model)
    columns = (found.chisq, found.beta, found.standard_error)
    return Run(name, theirs, int(observed.sum()), reml, float(np.trace(K) / len(K)), *(c[:, 0] for c in columns))


def test_heritability_is_gemmas_pve(run: Run) -> None:
    pve, vg, ve = PUBLISHED[run.name]
    d = run.mean_diagonal
    found = d * run.reml.sigma2_g / (d * run.reml.sigma2_g + run.reml.sigma2_e)
    # GEMMA's search for λ stops at about 1e-5; six digits are printed.
    assert found == pytest.approx(pve, abs=5e-6)
    assert run.reml.sigma2_e == pytest.approx(ve, rel=1e-5)
    if run.name.endswith("gk2"):  # for gk1 GEMMA's vg is in units of its own K, whose mean diagonal is not printed
        assert run.reml.sigma2_g == pytest.approx(vg, rel=1e-5)


def test_score_test_is_gemmas(run: Run) -> None:
    """−log₁₀p to 1e-3, relative, where p is printed precisely enough to say so (the last of 7 digits is 2e-7)."""
    F = run.chisq * run.n / (run.n - 1)
    ours = -stats.f.logsf(F, 1, run.n - 2) / np.log(10)
    theirs = -np.log10(run.theirs["p_score"].to_numpy())
    print(f"\n{run.name}: largest relative difference of −log₁₀p {np.abs(ours / theirs - 1)[theirs > 0.01].max():.1e} "
          f"(p < 0.977), largest difference {np.abs(ours - theirs).max():.1e}")  # fmt: skip
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_chisq_is_near_every_column_of_gemmas(run: Run) -> None:
    """What a user sees: χ²(1) at the null's variances. F(1, n−C−1) has longer tails by 1 % of −log₁₀p at p = 1e-16.

    The Wald test and the likelihood ratio let the variant's own effect out of the variances: they exceed the score
    test by up to z²/n of itself or so (4 to 6 % at −log₁₀p = 16).
    """
    ours = stats.chi2.logsf(run.chisq, 1) / -np.log(10)
    for column, slack in (("p_score", 0.03), ("p_lrt", 0.06), ("p_wald", 0.11)):
        theirs = -np.log10(run.theirs[column].to_numpy())
        large = theirs > 1
        correlation = np.corrcoef(ours, theirs)[0, 1]
        worst = np.abs(ours / theirs - 1)[large].max()
        print(f"\n{run.name} {column}: correlation {correlation:.6f}, largest relative difference where p < 0.1 "
              f"{worst:.3f}; strongest {theirs.max():.2f}, ours there {ours[theirs.argmax()]:.2f}", end="")  # fmt: skip
        assert correlation > 0.999
        assert worst < slack


def test_effects_are_near_gemmas(run: Run) -> None:
    """GEMMA's β and s.e. are at each variant's own REML ratio, ours at the null's: near, equal for most variants."""
    error = np.abs(run.beta - run.theirs["beta"]) / run.theirs["se"]
    print(f"\n{run.name}: β differs by {np.median(error):.1e} s.e. (median), {error.max():.3f} (largest); s.e. by at "
          f"most {np.abs(run.standard_error / run.theirs['se'] - 1).max():.3f}")  # fmt: skip
    assert np.corrcoef(run.beta, run.theirs["beta"])[0, 1] > 0.9999
    assert np.median(error) < 1e-3
    assert error.max() < 0.2
    np.testing.assert_allclose(run.standard_error, run.theirs["se"], rtol=0.07)


def test_plain_regression_is_gemmas(mice) -> None:
    """`-lm 4`: `p_wald` is the t-test, which is ours."""
    theirs = mice.table("gemma/p1.lm4.assoc.txt.gz", "rs")
    cohort = mice.cohort("CD8", everybody=False)
    operator = mice.operator(cohort, mice.rows(theirs.index))
    model = plain_model(operator, cohort)
    setup = prepare_scan(operator.source, model, None, ScanConfig(mixed=False, linear=True))
    found = score_everything(setup)["linear"]
    np.testing.assert_allclose(found.standard_error[:, 0], theirs["se"], rtol=1e-5)
    t = found.beta[:, 0] / found.standard_error[:, 0]
    np.testing.assert_allclose(t, theirs["beta"] / theirs["se"], rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(found.neg_log_10_p_value[:, 0], -np.log10(theirs["p_wald"]), rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(found.frequency[:, 0], theirs["af"], atol=5.1e-4)
