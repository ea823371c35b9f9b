"""τ² by four estimators against dense likelihoods, other software and published figures; Knapp–Hartung."""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.meta_analysis import combine_effects

from biolmm.errors import ParameterError
from biolmm.sumstats.meta.block import StudyBlock
from biolmm.sumstats.meta.fixed_effects import inverse_variance
from biolmm.sumstats.meta.random_effects import random_effects
from oracles.meta import GOLDEN, best_tau2, fixed, log_likelihood, random_block, studies_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ResourceWarning)  # PyMARE leaves a file of its own open while it is imported
    from pymare.estimators import DerSimonianLaird, VarianceBasedLikelihoodEstimator

GOLDEN_FIGURES = {
    "dl": (0.0095312111, 0.1324080785, 0.0524806746),
    "pm": (0.0124337155, 0.1341175557, 0.0579031762),
    "ml": (0.0082676032, 0.1314705727, 0.0499130332),
    "reml": (0.0119422609, 0.1338637832, 0.0570249338),
}


@pytest.mark.parametrize("method", GOLDEN_FIGURES)
def test_golden_figures(method: str) -> None:
    found = random_effects(GOLDEN, method)
    if method in ("ml", "reml"):
        # Made with PyMARE, whose scoring stops at steps of 1e-5: 2e-8 of τ² off, as the exact score below tells.
        np.testing.assert_allclose([found.tau2[0], found.beta[0], found.se[0]], GOLDEN_FIGURES[method], rtol=2e-8)
    else:
        assert (round(found.tau2[0], 10), round(found.beta[0], 10), round(found.se[0], 10)) == GOLDEN_FIGURES[method]
    if method == "dl":
        assert f"{10 ** -found.neg_log10_p[0]:.6e}" == "1.163626e-02"


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_score_changes_sign_at_the_estimate_in_exact_arithmetic(method: str) -> None:
    tau2 = Fraction(float(random_effects(GOLDEN, method).tau2[0]))
    y, v = ([Fraction(float(each)) for each in values] for values in studies_of(GOLDEN, 0))

    def score(at: Fraction) -> Fraction:
        w = [1 / (each + at) for each in v]
        mean = sum(a * b for a, b in zip(w, y, strict=True)) / sum(w)
        value = sum(a * a * (b - mean) ** 2 for a, b in zip(w, y, strict=True)) - sum(w)
        return value + (sum(a * a for a in w) / sum(w) if method == "reml" else 0)

    assert score(tau2 * (1 - Fraction(1, 10**12))) > 0 > score(tau2 * (1 + Fraction(1, 10**12)))


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_likelihood_is_greatest(method: str) -> None:
    """No τ² on a fine grid has a higher dense likelihood, and the grid's best agrees."""
    block = random_block(60, 6, seed=1)
    found = random_effects(block, method)
    restricted = method == "reml"
    assert found.converged.all()
    for row in range(block.n_variants):
        y, v = studies_of(block, row)
        if len(y) < 2:
            continue
        best = best_tau2(y, v, restricted)
        mine, theirs = (log_likelihood(t, y, v, restricted) for t in (found.tau2[row], best))
        assert mine >= theirs - 1e-12 * abs(theirs)
        # Where likelihoods differ by 1e-15 of themselves, τ² does by about the root of that.
        np.testing.assert_allclose(found.tau2[row], best, rtol=1e-5, atol=1e-7 * v.min())


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0.003, 1)), min_size=2, max_size=7),
    st.sampled_from(["ml", "reml"]),
)
def test_likelihood_is_greatest_for_any_studies(cells: list[tuple[float, float]], method: str) -> None:
    y, se = (np.array(each) for each in zip(*cells, strict=True))
    found = random_effects(StudyBlock(y[None], se[None]), method)
    at = lambda t: log_likelihood(t, y, se**2, method == "reml")
    grid = np.r_[0, np.geomspace(1e-3 * se.min() ** 2, 4 * np.ptp(y) ** 2 + se.max() ** 2, 400)]
    best = max(at(t) for t in grid)
    assert found.converged[0]
    assert found.tau2[0] >= 0
    assert at(found.tau2[0]) >= best - 1e-9 * max(1.0, abs(best))


def test_paule_mandel_solves_its_equation() -> None:
    block = random_block(80, 7, seed=2)
    found = random_effects(block, "pm")
    for row in range(block.n_variants):
        y, v = studies_of(block, row)
        if len(y) < 2:
            continue
        excess = lambda t, y=y, v=v: fixed(y, v + t)[2] - (len(y) - 1)
        expected = optimize.brentq(excess, 0, 100, xtol=1e-16, rtol=1e-14) if excess(0.0) > 0 else 0.0
        np.testing.assert_allclose(found.tau2[row], expected, rtol=1e-9, atol=1e-15)


def test_dersimonian_laird_by_its_formula() -> None:
    block = random_block(80, 7, seed=3)
    found = random_effects(block, "dl")
    for row in range(block.n_variants):
        y, v = studies_of(block, row)
        if len(y) < 2:
            continue
        w = 1 / v
        expected = max(0.0, (fixed(y, v)[2] - (len(y) - 1)) / (w.sum() - (w**2).sum() / w.sum()))
        np.testing.assert_allclose(found.tau2[row], expected, rtol=1e-10, atol=1e-16)
        mean, error, _ = fixed(y, v + expected)
        np.testing.assert_allclose([found.beta[row], found.se[row]], [mean, error], rtol=1e-10, atol=1e-15)


def test_statsmodels() -> None:
    block = random_block(40, 8, seed=4, missing=0.0).rows(slice(3, None))
    assert block.se is not None
    block = block.rows(~np.isnan(block.beta).any(axis=1))
    for ours, theirs in (("dl", "dl"), ("pm", "iterated")):
        found = random_effects(block, ours)
        for row in np.flatnonzero(random_effects(block, "dl").tau2 > 0):  # theirs goes below 0
            v = block.se[row] ** 2
            fit = combine_effects(block.beta[row], v, method_re=theirs)
            # Their Paule–Mandel ends where Q − (k−1) < 1e-5; Q's slope is at least (k−1) / (max v + τ²).
            slack = 1e-5 * (v.max() + fit.tau2) / 7 if theirs == "iterated" else 1e-15
            np.testing.assert_allclose(found.tau2[row], fit.tau2, rtol=1e-10, atol=slack)


def test_pymare() -> None:
    block = random_block(15, 8, seed=5, missing=0.0).rows(slice(3, None))
    block = block.rows(~np.isnan(block.beta).any(axis=1))
    assert block.se is not None
    for row in range(block.n_variants):
        y, v, x = block.beta[row][:, None], block.se[row][:, None] ** 2, np.ones((8, 1))
        fits = {
            "dl": DerSimonianLaird().fit(y=y, v=v, X=x).params_,
            "ml": VarianceBasedLikelihoodEstimator(method="ml").fit(y=y, v=v, X=x).params_,
            "reml": VarianceBasedLikelihoodEstimator(method="reml").fit(y=y, v=v, X=x).params_,
        }
        for method, params in fits.items():
            tau2 = random_effects(block.rows(slice(row, row + 1)), method).tau2[0]
            # PyMARE stops scoring when τ² moves by less than 1e-5
            np.testing.assert_allclose(tau2, np.ravel(params["tau2"])[0], rtol=1e-8 if method == "dl" else 0, atol=1e-5)


def test_knapp_hartung() -> None:
    block = random_block(60, 6, seed=6)
    plain, on, modified = (random_effects(block, "reml", each) for each in ("off", "on", "modified"))
    for row in range(block.n_variants):
        y, v = studies_of(block, row)
        k = len(y)
        if k < 2:
            assert np.isnan([on.se[row], on.neg_log10_p[row]]).all()
            continue
        ratio = fixed(y, v + plain.tau2[row])[2] / (k - 1)
        np.testing.assert_allclose(on.se[row], plain.se[row] * np.sqrt(ratio), rtol=1e-10)
        np.testing.assert_allclose(modified.se[row], plain.se[row] * np.sqrt(max(1, ratio)), rtol=1e-10)
        assert on.df[row] == k - 1
        p = 2 * stats.t.sf(abs(on.beta[row] / on.se[row]), k - 1)
        np.testing.assert_allclose(10 ** -on.neg_log10_p[row], p, rtol=1e-9)
    fixed_se = inverse_variance(block).se
    several = plain.n_studies > 1
    assert np.all(modified.se[several] >= fixed_se[several] * (1 - 1e-12))


def test_prediction_interval() -> None:
    found = random_effects(GOLDEN, "reml", level=0.9)
    half = stats.t.ppf(0.95, 3) * np.sqrt(found.tau2[0] + found.se[0] ** 2)
    np.testing.assert_allclose(
        [found.prediction_low[0], found.prediction_high[0]], found.beta[0] + half * np.array([-1, 1])
    )
    assert np.isnan(random_effects(GOLDEN.studies([0, 1])).prediction_low[0])


@pytest.mark.parametrize("method", ["dl", "pm", "ml", "reml"])
def test_few_studies_order_and_alleles(method: str) -> None:
    block = random_block(60, 6, seed=7)
    found = random_effects(block, method)
    none, one = found.n_studies == 0, found.n_studies == 1
    assert none.any()
    assert one.any()
    assert np.isnan(found.beta[none]).all()
    alone = inverse_variance(block)
    np.testing.assert_array_equal(found.beta[one], alone.beta[one])
    assert (found.tau2[one] == 0).all()
    homogeneous = found.tau2 == 0
    np.testing.assert_allclose(found.beta[homogeneous], alone.beta[homogeneous], rtol=1e-12, atol=1e-15)
    swapped = random_effects(StudyBlock(-block.beta, block.se), method)
    np.testing.assert_allclose(swapped.tau2, found.tau2, rtol=1e-12, atol=0)
    reordered = random_effects(block.studies([3, 1, 5, 0, 2, 4]), method)
    # A score that is within rounding of 0 at τ² = 0 may give 0 or next to it.
    np.testing.assert_allclose(reordered.tau2, found.tau2, rtol=1e-8, atol=1e-14)
    np.testing.assert_allclose(reordered.beta, found.beta, rtol=1e-9, atol=1e-14)


def test_refusals() -> None:
    with pytest.raises(ParameterError, match="choose from dl, pm, ml, reml"):
        random_effects(GOLDEN, "eb")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="off, on or modified"):
        random_effects(GOLDEN, "dl", "yes")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="between 0 and 1"):
        random_effects(GOLDEN, level=95)
