"""Variance components over many simulated traits: bias, coverage, null distribution, honest Monte-Carlo error.

Traits are drawn from the model itself on one structured cohort. Seeds are fixed; limits are 99.9 % intervals, so that
a correct program fails one seed in a thousand.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, norm

from biolmm.cohort import align_cohort
from biolmm.reml.fit import FitConfig, fit_null_model
from biolmm.reml.spectrum import SpectrumConfig
from oracles import dense
from oracles.toy import Toy, make_toy

pytestmark = pytest.mark.slow

N_TRAITS = 600
EXACT = FitConfig(solver="exact", spectrum=SpectrumConfig(n_pairs=5))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Give 700 samples and 1,000 variants: enough for ĥ² to stay off its boundaries at h² = 0.5."""
    return make_toy(tmp_path_factory.mktemp("cohort"), n_variants=1000, n_samples=700)


def draw_traits(toy: Toy, h2: float, n_traits: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    Z, weight = dense.standardised(toy.calls)
    genetic = Z.T @ rng.standard_normal((len(Z), n_traits)) / np.sqrt(weight.sum())
    noise = rng.standard_normal((toy.store.n_samples, n_traits))
    values = np.sqrt(h2) * genetic + np.sqrt(1 - h2) * noise
    return pd.DataFrame(values, columns=[f"t{i}" for i in range(n_traits)], index=toy.store.sample_id.tolist())


def fitted(toy: Toy, traits: pd.DataFrame, config: FitConfig = EXACT) -> pd.DataFrame:
    return fit_null_model(toy.operator(), align_cohort(toy.store.sample_id, traits, toy.covariates), config).h2


def curvature(toy: Toy, trait: pd.Series, h2: float, standard_error: float) -> float:
    """Return expected over observed information: an error of the score moves ĥ² by one over the observed."""
    step = 0.02
    y = trait.to_numpy()
    around = [dense.deviance(h2 + move, toy.K, y, toy.design) for move in (-step, 0, step)]
    return float(2 * step**2 / (around[0] - 2 * around[1] + around[2]) / standard_error**2)


def check_share(hits: NDArray[np.bool_], expected: float) -> None:
    low, high = binom.interval(0.999, len(hits), expected)
    assert low <= hits.sum() <= high, f"{hits.mean():.4f} of {len(hits)}, expected {expected}"


@pytest.mark.parametrize("h2", [0.3, 0.5, 0.7])
def test_estimates_are_unbiased_and_their_errors_are_what_they_say(cohort: Toy, h2: float) -> None:
    found = fitted(cohort, draw_traits(cohort, h2, N_TRAITS, seed=1))
    assert (found.h2 > 0).all()
    spread = found.h2.std()
    # Maximum likelihood of a ratio: the bias is of the order of the information's inverse, a twentieth of the spread.
    assert abs(found.h2.mean() - h2) < norm.ppf(0.9995) * spread / np.sqrt(N_TRAITS) + spread / 20
    # The standard deviation of N(0, 1) over n draws has itself a standard error of 1/√(2n).
    assert spread / found.h2_se.mean() == pytest.approx(1, abs=norm.ppf(0.9995) / np.sqrt(2 * N_TRAITS) + 0.05)
    check_share((np.abs(found.h2 - h2) < norm.ppf(0.975) * found.h2_se).to_numpy(), 0.95)
    totals = found.sigma2_g + found.sigma2_e
    assert abs(totals.mean() - 1) < norm.ppf(0.9995) * totals.std() / np.sqrt(N_TRAITS)


def test_without_heritability_the_estimate_is_zero_as_often_as_the_score_is_negative(cohort: Toy) -> None:
    """At h² = 0 the score is Σ(λ − λ̄)u², u ~ N(0, 1): its sign decides (Crainiceanu & Ruppert 2004)."""
    found = fitted(cohort, draw_traits(cohort, 0.0, 4 * N_TRAITS, seed=2))
    A = dense.complement(np.ones(cohort.store.n_samples, dtype=bool), cohort.design)
    values = np.linalg.eigvalsh(A.T @ cohort.K @ A)
    draws = np.random.default_rng(0).chisquare(1, (50_000, len(values))) @ (values - values.mean())
    check_share((found.h2 < 1e-6).to_numpy(), float((draws < 0).mean()))


def test_without_heritability_the_test_keeps_its_level(cohort: Toy) -> None:
    """The mixture of χ² is its limit; on few eigenvalues away from their mean the test is conservative."""
    found = fitted(cohort, draw_traits(cohort, 0.0, 4 * N_TRAITS, seed=2))
    for level in (0.1, 0.05, 0.01):
        hits = int((found.lrt_p < level).sum())
        low, high = binom.ppf(0.0005, len(found), level / 2), binom.ppf(0.9995, len(found), level)
        assert low <= hits <= high, f"{hits} of {len(found)} at {level}"


@pytest.mark.parametrize("missing", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("h2", [0.2, 0.7])
def test_the_monte_carlo_error_is_what_it_says(cohort: Toy, h2: float, missing: float) -> None:
    """Over 30 seeds of the probes, against the exact estimate; with missing values probes are paired with the cohort's."""
    traits = draw_traits(cohort, h2, 3, seed=3)
    traits = traits.mask(np.random.default_rng(1).random(traits.shape) < missing)
    truth = fitted(cohort, traits)
    errors, reported = [], []
    for seed in range(30):
        config = replace(EXACT, solver="stochastic", spectrum=SpectrumConfig(n_pairs=5, seed=seed))
        found = fitted(cohort, traits, config)
        errors.append(found.h2 - truth.h2)
        reported.append(found.h2_mc_se)
    ratio = np.sqrt(np.mean(np.square(errors), axis=0) / np.mean(np.square(reported), axis=0))
    ratio /= [curvature(cohort, traits[name], at.h2, at.h2_se) for name, at in truth.set_index("trait").iterrows()]
    # A root mean square over 30 is off by 13 %; the three traits share their probes, so they do not average it out.
    assert np.all((ratio > 0.5) & (ratio < 1.5)), ratio
    assert np.all(np.mean(reported, axis=0) < 0.1 * truth.h2_se)
