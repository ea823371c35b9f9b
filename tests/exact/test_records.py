"""Several records an individual: likelihood, variances and tests against explicit R × R matrices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biolmm.errors import SampleMismatchError, TraitError
from biolmm.exact import ExactConfig, ExactScan, run_exact
from biolmm.exact.records import Records, fit_records, fixed_records
from biolmm.results.associations import read_associations
from oracles import exact as oracle
from oracles.scan import Array, imputed
from oracles.toy import Toy, operator_of


def table_of(toy: Toy, n_records: Array, seed: int) -> pd.DataFrame:
    """Draw records: genetic, permanent and residual variance 1, 0.7 and 1.5, a covariate that changes between records."""
    rng = np.random.default_rng(seed)
    N = toy.store.n_samples
    genetic = np.linalg.cholesky(toy.K + 1e-9 * np.eye(N)) @ rng.standard_normal(N)
    level = genetic + np.sqrt(0.7) * rng.standard_normal(N)
    who = rng.permutation(np.repeat(np.arange(N), n_records))
    age = rng.uniform(20, 60, len(who))
    y = 3 + 0.05 * age + level[who] + np.sqrt(1.5) * rng.standard_normal(len(who))
    return pd.DataFrame({"weight": y, "age": age}, index=toy.store.sample_id[who])


def explicit(records: Records, K: Array, sigma2: Array) -> tuple[Array, Array, Array]:
    """Return V, X and Z as they are written down."""
    Z = np.eye(records.cohort.n_samples)[records.individual]
    V = Z @ (sigma2[0] * K + sigma2[1] * np.eye(len(K))) @ Z.T + sigma2[2] * np.eye(len(Z))
    return V, records.design, Z


@pytest.fixture(scope="module", params=["balanced", "unbalanced"])
def drawn(request: pytest.FixtureRequest, toy: Toy) -> Records:
    rng = np.random.default_rng(4)
    counts = np.full(toy.store.n_samples, 3) if request.param == "balanced" else rng.integers(0, 5, toy.store.n_samples)
    return Records.align(toy.store.sample_id, table_of(toy, counts, 5), "weight", ["age"])


def restricted(records: Records, K: Array, sigma2: Array) -> float:
    """Return the restricted log-likelihood at given variances."""
    V, X, _ = explicit(records, K, sigma2)
    _, inverse, form = oracle.least_squares(V, records.y, X)
    degrees = len(records.y) - X.shape[1]
    return float(-0.5 * (degrees * np.log(2 * np.pi) + form + np.linalg.slogdet(V)[1] - np.linalg.slogdet(inverse)[1]))


def test_variances_are_the_top_of_the_likelihood(toy: Toy, drawn: Records) -> None:
    K = toy.K[np.ix_(drawn.cohort.sample_index, drawn.cohort.sample_index)]
    found = fit_records(K, drawn).components
    best = np.array([found.sigma2_g, found.sigma2_p, found.sigma2_e])
    assert found.log_likelihood == pytest.approx(restricted(drawn, K, best), abs=1e-7)
    assert 0.3 < found.repeatability < 0.8
    for k in range(3):
        for factor in (0.98, 1.02):
            moved = best.copy()
            moved[k] *= factor
            assert restricted(drawn, K, moved) < found.log_likelihood
        step = np.zeros(3)
        step[k] = 1e-4 * max(best[k], 0.1)
        slope = (restricted(drawn, K, best + step) - restricted(drawn, K, best - step)) / (2 * step[k])
        # A Newton step from here would go less than a thousandth of the variance.
        assert abs(slope) * best[k] < 1e-3 * len(drawn.y) or best[k] == 0


def test_tests_are_generalised_least_squares(toy: Toy, drawn: Records) -> None:
    chosen = drawn.cohort.sample_index
    K, G = toy.K[np.ix_(chosen, chosen)], imputed(toy.calls)[2:12][:, chosen]
    model = fixed_records(K, drawn, np.array([0.6, 0.4]))
    found = model.tests(G, np.ones(len(G), dtype=bool))
    s2e = model.components.sigma2_e
    V, X, Z = explicit(drawn, K, s2e * np.array([0.6, 0.4, 1.0]))
    assert s2e == pytest.approx(s2e * oracle.least_squares(V, drawn.y, X)[2] / (len(drawn.y) - X.shape[1]), rel=1e-10)
    for j, g in enumerate(G):
        b, inverse, _ = oracle.least_squares(V, drawn.y, np.column_stack([Z @ g, X]))
        assert found.beta[j] == pytest.approx(b[0], rel=1e-8, abs=1e-12)
        assert found.standard_error[j] == pytest.approx(np.sqrt(inverse[0, 0]), rel=1e-8)
        assert found.chisq[j] == pytest.approx(b[0] ** 2 / inverse[0, 0], rel=1e-7)


def test_one_record_each_is_the_ordinary_model(toy: Toy) -> None:
    """Permanent environment and residual are one then: tests at the same V are those of the P3D scan."""
    table = toy.traits[["half"]]
    records = Records.align(toy.store.sample_id, table, "half")
    model = fixed_records(toy.K, records, np.array([0.8, 0.3]))
    other = fixed_records(toy.K, records, np.array([0.8 / 1.3, 0.0]))
    G = imputed(toy.calls)[2:30]
    one, two = (each.tests(G, np.ones(len(G), dtype=bool)) for each in (model, other))
    np.testing.assert_allclose(one.chisq, two.chisq, rtol=1e-9)
    assert model.components.log_likelihood == pytest.approx(other.components.log_likelihood, abs=1e-8)


def test_the_scan_of_records(toy: Toy, drawn: Records, tmp_path: Path) -> None:
    operator = operator_of(toy.store, drawn.cohort.sample_index)
    scan = ExactScan.of_records(operator, drawn, operator.source, ExactConfig(loco=False))
    run_exact(scan, tmp_path, tmp_path / "m")
    found = read_associations(tmp_path, "weight")
    K = operator.dense() / operator.m
    expected = fixed_records(K, drawn, scan.record_components.ratios)  # type: ignore[union-attr]
    G = imputed(toy.calls[:, drawn.cohort.sample_index])[2:]
    np.testing.assert_allclose(
        found["chisq"][2:], expected.tests(G, np.ones(len(G), dtype=bool)).chisq, rtol=1e-6, atol=1e-9
    )
    assert found["chisq"][:2].isna().all()
    assert (found["n"] == drawn.cohort.n_samples).all()


def test_mistakes_in_the_records(toy: Toy) -> None:
    table = table_of(toy, np.full(toy.store.n_samples, 2), 1)
    ids = toy.store.sample_id
    with pytest.raises(TraitError, match="no column 'height'"):
        Records.align(ids, table, "height")
    with pytest.raises(SampleMismatchError, match="of a genotyped individual"):
        Records.align(ids, table.rename(index=lambda name: f"x{name}"), "weight")
    with pytest.raises(TraitError, match="is no number"):
        Records.align(ids, table.assign(age="old"), "weight", ["age"])
