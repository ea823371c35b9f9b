"""Moments and genetic correlations over many simulated traits: bias, and whether the errors are what they say.

Traits are drawn from the model itself. Seeds are fixed; limits are 99.9 % intervals, so that a correct program fails one seed
in a thousand.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, norm

from biolmm.cohort import Cohort, align_cohort
from biolmm.heritability.annotations import Annotations
from biolmm.heritability.config import HeritabilityConfig
from biolmm.heritability.liability import Liability
from biolmm.heritability.pairs import chosen_pairs, cross_estimates, fit_pairs, rg_table
from biolmm.heritability.run import collect_moments, densities, h2_table, partitioned_table, rhe_table
from biolmm.reml.fit import FitConfig, fit_null_model
from biolmm.reml.spectrum import SpectrumConfig
from biolmm.store.read import GenotypeStore
from oracles import dense
from oracles.toy import operator_of, toy_contigs, write_store

pytestmark = pytest.mark.slow

N, M = 600, 1200
EXACT = FitConfig(solver="exact", loco=False, spectrum=SpectrumConfig(n_pairs=5))
CONFIG = HeritabilityConfig(fit=EXACT)
Z999 = norm.ppf(0.9995)


class People:
    """Unrelated people: genotypes in Hardy–Weinberg proportions, independent variants."""

    def __init__(self, store: GenotypeStore, calls: NDArray[np.uint8]) -> None:
        self.store = store
        self.Z, self.weight = dense.standardised(calls)

    def operator(self):
        return operator_of(self.store, cache_bytes=2**30)

    def genetic(self, effects: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.Z.T @ effects / np.sqrt(self.weight.sum())

    def cohort(self, y: NDArray[np.float64]) -> Cohort:
        names = [f"t{i}" for i in range(y.shape[1])]
        return align_cohort(self.store.sample_id, pd.DataFrame(y, columns=names, index=self.store.sample_id.tolist()))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    rng = np.random.default_rng(0)
    calls = rng.binomial(2, rng.uniform(0.05, 0.5, (M, 1)), (M, N)).astype(np.uint8)
    return People(write_store(tmp_path_factory.mktemp("people") / "p.zarr", calls, toy_contigs(M)), calls)


def check_share(hits: NDArray[np.bool_], expected: float) -> None:
    low, high = binom.interval(0.999, len(hits), expected)
    assert low <= hits.sum() <= high, f"{hits.mean():.4f} of {len(hits)}, expected {expected}"


@pytest.mark.parametrize("h2", [0.0, 0.4])
def test_moments_are_unbiased_with_honest_errors(people: People, h2: float) -> None:
    rng, n_traits = np.random.default_rng(1), 300
    effects = rng.standard_normal((M, n_traits))
    y = np.sqrt(h2) * people.genetic(effects) + np.sqrt(1 - h2) * rng.standard_normal((N, n_traits))
    cohort = people.cohort(y)
    model = fit_null_model(people.operator(), cohort, EXACT)
    moments = collect_moments(people.operator(), cohort, CONFIG, model)
    table = rhe_table(moments, cohort, [None] * n_traits, model, densities(people.operator(), model))
    spread = table.h2.std()
    assert abs(table.h2.mean() - h2) < Z999 * spread / np.sqrt(n_traits) + spread / 20
    # Over n traits a spread has an error of 1/√(2n); the jackknife of 100 blocks has one of about 1/√200 itself.
    assert spread / table.h2_se_normal.mean() == pytest.approx(1, abs=Z999 / np.sqrt(2 * n_traits) + 0.06)
    assert spread / table.h2_se.mean() == pytest.approx(1, abs=Z999 / np.sqrt(2 * n_traits) + 0.15)
    assert (table.h2_mc_se < 0.2 * table.h2_se_normal).all()
    # At 3 errors one in 370; the difference is not quite normal.
    assert table.flag.str.contains("disagree").mean() < 0.03


def test_enrichment_is_found(people: People) -> None:
    """A fifth of the variants has half of h²: enrichment 2.5."""
    rng, n_traits = np.random.default_rng(2), 120
    inside = np.arange(M) % 5 == 0
    size = np.where(inside, np.sqrt(0.5 / 0.2), np.sqrt(0.5 / 0.8))
    y = np.sqrt(0.6) * people.genetic(size[:, None] * rng.standard_normal((M, n_traits)))
    cohort = people.cohort(y + np.sqrt(0.4) * rng.standard_normal((N, n_traits)))
    annotations = Annotations(("fifth", "rest"), np.column_stack([inside, ~inside]).astype(float))
    operator = people.operator()
    assert operator.source.n_variants == M
    config = HeritabilityConfig(fit=EXACT, method="rhe", n_probes=60)
    moments = collect_moments(operator, cohort, config, None, annotations)
    table = partitioned_table(moments, cohort, annotations)
    fifth = table[table.annotation == "fifth"]
    spread = fifth.share_of_h2.std()
    # A ratio: its bias is of the order of the squared relative error of the total, a tenth of the spread here.
    assert abs(fifth.share_of_h2.mean() - 0.5) < Z999 * spread / np.sqrt(n_traits) + spread / 5
    assert fifth.share_of_variants.iloc[0] == pytest.approx(0.2, abs=1e-6)
    errors = fifth.h2_se.mean() / fifth.h2.std()
    assert 0.75 < errors < 1.35


@pytest.mark.parametrize("rg", [0.0, 0.6])
def test_genetic_correlations_on_the_same_samples(people: People, rg: float) -> None:
    """100 pairs: no bias, coverage, and level of the test of 0."""
    n_pairs = 100
    rng = np.random.default_rng(3)
    one, other = rng.standard_normal((2, M, n_pairs))
    e1, e2 = rng.standard_normal((2, N, n_pairs))
    y = np.empty((N, 2 * n_pairs))
    y[:, ::2] = np.sqrt(0.7) * people.genetic(one) + np.sqrt(0.3) * e1
    y[:, 1::2] = np.sqrt(0.7) * people.genetic(rg * one + np.sqrt(1 - rg**2) * other) + np.sqrt(0.3) * e2
    cohort = people.cohort(y)
    model = fit_null_model(people.operator(), cohort, EXACT)
    names = [(f"t{2 * i}", f"t{2 * i + 1}") for i in range(n_pairs)]
    pairs = chosen_pairs(cohort.trait_names, names)
    fits = fit_pairs(people.operator(), cohort, model, CONFIG, pairs)
    crossed = cross_estimates(collect_moments(people.operator(), cohort, CONFIG, model))
    table = rg_table(cohort, pairs, fits, crossed)
    assert (table.method == "eigen").all()
    spread = table.rg.std()
    assert abs(table.rg.mean() - rg) < Z999 * spread / np.sqrt(n_pairs) + spread / 10
    assert spread / table.rg_se.mean() == pytest.approx(1, abs=Z999 / np.sqrt(2 * n_pairs) + 0.1)
    check_share((np.abs(table.rg - rg) < norm.ppf(0.975) * table.rg_se).to_numpy(), 0.95)
    screened = table.rg_rhe.dropna()
    assert abs(screened.mean() - rg) < Z999 * screened.std() / np.sqrt(len(screened)) + screened.std() / 5
    assert abs(table.cov_e.mean()) < Z999 * table.cov_e.std() / np.sqrt(n_pairs) + table.cov_e.std() / 10
    if rg == 0:
        check_share((table.rg0_p < 0.1).to_numpy(), 0.1)
    else:
        assert (table.rg0_p < 0.05).mean() > 0.5


@pytest.mark.parametrize("overlap", ["partial", "none"])
def test_genetic_correlations_on_different_samples(people: People, overlap: str) -> None:
    """60 pairs on 400 people each, 200 of them the same, or on 300 others each."""
    n_pairs, rg = 60, 0.5
    rng = np.random.default_rng(4)
    one, other = rng.standard_normal((2, M, n_pairs))
    y = np.empty((N, 2 * n_pairs))
    y[:, ::2] = np.sqrt(0.8) * people.genetic(one)
    y[:, 1::2] = np.sqrt(0.8) * people.genetic(rg * one + np.sqrt(1 - rg**2) * other)
    y += np.sqrt(0.2) * rng.standard_normal(y.shape)
    edge = 400 if overlap == "partial" else 300
    y[edge:, ::2] = np.nan
    y[: N - edge, 1::2] = np.nan
    cohort = people.cohort(y)
    model = fit_null_model(people.operator(), cohort, EXACT)
    pairs = chosen_pairs(cohort.trait_names, [(f"t{2 * i}", f"t{2 * i + 1}") for i in range(n_pairs)])
    table = rg_table(cohort, pairs, fit_pairs(people.operator(), cohort, model, CONFIG, pairs), None)
    assert (table.method == "dense").all()
    assert (table.n_both == (200 if overlap == "partial" else 0)).all()
    known = table.dropna(subset=["rg"])
    assert len(known) > 0.9 * n_pairs
    # Few people: r_g is a ratio with heavy tails, so the median is compared.
    spread = (known.rg.quantile(0.84) - known.rg.quantile(0.16)) / 2
    assert abs(known.rg.median() - rg) < Z999 * 1.2533 * spread / np.sqrt(len(known)) + spread / 5
    check_share((np.abs(known.rg - rg) < norm.ppf(0.975) * known.rg_se).to_numpy(), 0.95)
    assert abs(known.cov_g.mean() - 0.8 * rg) < Z999 * known.cov_g.std() / np.sqrt(len(known)) + known.cov_g.std() / 10


def test_liability_of_a_threshold(people: People) -> None:
    """Cases above a threshold of a liability with h² = 0.5, nobody chosen: the observed scale is lower, liability is not."""
    rng, n_traits, K = np.random.default_rng(5), 200, 0.3
    liability = np.sqrt(0.5) * people.genetic(rng.standard_normal((M, n_traits)))
    liability += np.sqrt(0.5) * rng.standard_normal((N, n_traits))
    y = (liability > norm.isf(K)).astype(float)
    cohort = people.cohort(y)
    model = fit_null_model(people.operator(), cohort, EXACT)
    sampled = [Liability(K, float(column.mean())) for column in y.T]
    table = h2_table(model, sampled)
    spread = table.h2_liability.std()
    assert table.h2.mean() < 0.4
    assert abs(table.h2_liability.mean() - 0.5) < Z999 * spread / np.sqrt(n_traits) + spread / 10
