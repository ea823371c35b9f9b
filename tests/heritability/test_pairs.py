"""Pairs of traits by passes: against explicit matrices on the same cohort."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from biolmm.cohort import Cohort, align_cohort
from biolmm.errors import ParameterError, TraitError
from biolmm.heritability.bivariate import PairEstimate
from biolmm.heritability.config import HeritabilityConfig
from biolmm.heritability.overlap import fit_dense
from biolmm.heritability.overlap_streaming import StreamingPair, fit_streaming, pair_probes
from biolmm.heritability.pairs import chosen_pairs, cross_estimates, fit_pairs, rg_table
from biolmm.heritability.run import collect_moments
from biolmm.heritability.tables import TABLES
from biolmm.linalg.probes import row_keys
from biolmm.reml.fit import FitConfig, fit_null_model
from biolmm.reml.model import NullModel
from biolmm.reml.spectrum import SpectrumConfig
from oracles import dense
from oracles.toy import Toy, make_toy

EXACT = FitConfig(solver="exact", loco=False)
STREAMING = FitConfig(solver="stochastic", loco=False, spectrum=SpectrumConfig(n_pairs=10, seed=3))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Toy, Cohort]:
    """Four correlated traits on 400 people: two on everybody, one on most, and one on the others."""
    toy = make_toy(tmp_path_factory.mktemp("pairs"), n_variants=500, n_samples=400)
    rng = np.random.default_rng(11)
    Z, weight = dense.standardised(toy.calls)
    N = toy.store.n_samples
    effects = rng.standard_normal((len(Z), 2))
    g = Z.T @ (effects @ [[1, 0.6], [0, 0.8]]) / np.sqrt(weight.sum())
    e = rng.standard_normal((N, 2))
    e[:, 1] = 0.3 * e[:, 0] + np.sqrt(0.91) * e[:, 1]
    y = np.sqrt(0.6) * g + np.sqrt(0.4) * e
    most, others = y[:, 1].copy(), y[:, 1].copy()
    most[rng.random(N) < 0.3] = np.nan
    others[::2] = np.nan
    one = y[:, 0].copy()
    one[1::2] = np.nan
    frame = pd.DataFrame(
        {"a": y[:, 0], "b": 5 * y[:, 1], "most": most, "even": one, "odd": others}, index=toy.store.sample_id
    )
    return toy, align_cohort(toy.store.sample_id, frame, toy.covariates)


def modelled(two: tuple[Toy, Cohort], config: FitConfig) -> NullModel:
    return fit_null_model(two[0].operator(), two[1], config)


@pytest.fixture(scope="module")
def exact(two: tuple[Toy, Cohort]) -> NullModel:
    return modelled(two, EXACT)


@pytest.fixture(scope="module")
def streamed(two: tuple[Toy, Cohort]) -> NullModel:
    return modelled(two, STREAMING)


def definition(two: tuple[Toy, Cohort], model: NullModel, one: int, other: int) -> PairEstimate:
    toy, cohort = two
    restrictions = [model.restriction(int(model.system_of_trait[t])) for t in (one, other)]
    return fit_dense(toy.K, [cohort.y[:, t] for t in (one, other)], restrictions)


def test_every_pair_exactly(two, exact: NullModel) -> None:
    toy, cohort = two
    pairs = [(0, 1), (0, 2), (3, 4)]
    found = fit_pairs(toy.operator(), cohort, exact, HeritabilityConfig(fit=EXACT), pairs)
    assert {pair: found[pair][0] for pair in ((0, 1), (0, 2), (3, 4))} == {
        (0, 1): "eigen",
        (0, 2): "dense",
        (3, 4): "dense",
    }
    for one, other in ((0, 1), (0, 2), (3, 4)):
        expected = definition(two, exact, one, other)
        ours = found[one, other][1]
        assert ours.rg == pytest.approx(expected.rg, abs=2e-5)
        assert ours.rg_se == pytest.approx(expected.rg_se, rel=1e-4)
        assert ours.rg0_lrt == pytest.approx(expected.rg0_lrt, rel=1e-4, abs=1e-5)


def test_one_block_recursion_serves_pairs_on_the_same_samples(two, streamed: NullModel) -> None:
    """Against explicit matrices: within a tenth of the standard error, and the reported error of the probes is small."""
    toy, cohort = two
    operator = toy.operator()
    name, found = fit_pairs(operator, cohort, streamed, HeritabilityConfig(fit=STREAMING), [(0, 1)])[0, 1]
    expected = definition(two, streamed, 0, 1)
    assert name == "lanczos"
    assert 0 < found.rg_mc_se < 0.2 * found.rg_se
    assert abs(found.rg - expected.rg) < 0.15 * expected.rg_se + 3 * found.rg_mc_se
    assert found.rg_se == pytest.approx(expected.rg_se, rel=0.05)
    assert found.rg0_lrt == pytest.approx(expected.rg0_lrt, rel=0.05, abs=0.2)
    assert operator.counter.passes <= 30


@pytest.mark.parametrize(("one", "other"), [(0, 2), (3, 4)])
def test_different_samples_by_products_alone(two, streamed: NullModel, one: int, other: int) -> None:
    """With every direction among the probes the traces are exact: then the estimate is that of explicit matrices."""
    toy, cohort = two
    expected = definition(two, streamed, one, other)
    spectra = tuple(streamed.spectrum(int(streamed.system_of_trait[t])) for t in (one, other))
    projected = [streamed.projected_trait(t) for t in (one, other)]
    scale = [np.sqrt(y @ y / s.restriction.rank) for y, s in zip(projected, spectra, strict=True)]
    y = np.concatenate([p / s for p, s in zip(projected, scale, strict=True)]).astype(np.float32)
    N = toy.store.n_samples
    start = np.array([0.5, 0.1, 0.5, 0.5, 0.0, 0.5])
    K = toy.K.astype(np.float32)

    class _Counted:
        n_samples = N

        @staticmethod
        def matmat(X):
            return K @ X

    whole = np.sqrt(2 * N).astype(np.float32) * np.eye(2 * N, dtype=np.float32)
    shares = one == 0
    found = fit_streaming(StreamingPair(_Counted(), spectra, y, whole, shares), start)
    assert found.flag == ""
    # The search ends within √(2·0.001) standard errors of the maximum, or closer.
    assert abs(found.rg - expected.rg) < 0.05 * expected.rg_se
    assert found.rg_se == pytest.approx(expected.rg_se, rel=0.05)
    assert np.isnan(found.theta[4]) == (not shares)
    probes = pair_probes(row_keys(cohort.sample_id.tolist()), 48, 1)
    random = fit_streaming(StreamingPair(_Counted(), spectra, y, probes, shares), start)
    assert 0 < random.rg_mc_se < 0.35 * expected.rg_se
    assert abs(random.rg - expected.rg) < 4 * random.rg_mc_se + 0.05 * expected.rg_se


def test_pairs_on_different_samples_stream_when_they_are_many(two, streamed: NullModel, monkeypatch) -> None:
    monkeypatch.setattr("biolmm.heritability.pairs.DENSE_CONTRASTS", 100)
    toy, cohort = two
    name, found = fit_pairs(toy.operator(), cohort, streamed, HeritabilityConfig(fit=STREAMING), [(1, 2)])[1, 2]
    assert name == "pcg"
    assert np.isnan(found.rg0_lrt)
    assert abs(found.rg) <= 1.2  # `most` is part of `b`
    assert found.rg > 0.8


def test_the_table_has_every_column_whatever_was_done(two, exact: NullModel) -> None:
    toy, cohort = two
    pairs = chosen_pairs(cohort.trait_names, [("a", "b"), ("even", "odd")])
    moments = collect_moments(toy.operator(), cohort, HeritabilityConfig(method="rhe", n_probes=40), None)
    crossed = cross_estimates(moments)
    alone = rg_table(cohort, pairs, {}, crossed)
    fits = fit_pairs(toy.operator(), cohort, exact, HeritabilityConfig(fit=EXACT), pairs)
    both = rg_table(cohort, pairs, fits, crossed)
    for table in (alone, both, rg_table(cohort, pairs, fits, None)):
        assert sorted(table.columns) == sorted(TABLES["rg"])
    assert both["n_both"].tolist() == [400, 0]
    assert alone["method"].tolist() == ["rhe", "rhe"]
    # The screen and REML are estimates of the same number; of the same data, so closer than two errors.
    assert abs(both["rg"][0] - both["rg_rhe"][0]) < 2 * both["rg_se"][0]


def test_pairs_must_name_traits() -> None:
    with pytest.raises(TraitError, match="needs two traits"):
        chosen_pairs(["a"])
    with pytest.raises(TraitError, match="names x"):
        chosen_pairs(["a", "b"], [("a", "x")])
    with pytest.raises(ParameterError, match="with itself"):
        chosen_pairs(["a", "b"], [("a", "a")])
