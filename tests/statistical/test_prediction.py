"""Cross-validated accuracy is what theory says; predictions have the right spread."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biolmm.cohort import align_cohort
from biolmm.loco import solve_predictors
from biolmm.prediction.accuracy import cross_validate
from biolmm.prediction.folds import assign_folds
from biolmm.reml.fit import FitConfig, fit_null_model
from oracles import dense
from oracles.toy import operator_of, write_store

N, M, TRAITS, FOLDS, H2 = 1200, 600, 60, 5, 0.5

pytestmark = pytest.mark.slow


def test_accuracy_is_that_of_theory(tmp_path: Path) -> None:
    """60 traits on independent variants, all of them causal.

    A prediction ĝ = C V⁻¹ y has Var(ĝ) = Cov(ĝ, y) = C V⁻¹ Cᵀ, so r² = mean(C V⁻¹ Cᵀ) / Var(y), and the slope is 1.
    """
    rng = np.random.default_rng(11)
    calls = rng.binomial(2, rng.uniform(0.1, 0.9, (M, 1)), (M, N)).astype(np.uint8)
    store = write_store(tmp_path / "s.zarr", calls, ["1"] * (M // 2) + ["2"] * (M - M // 2))
    Z, weight = dense.standardised(calls)
    genetic = np.sqrt(H2) * Z.T @ rng.standard_normal((M, TRAITS)) / np.sqrt(weight.sum())
    y = genetic + np.sqrt(1 - H2) * rng.standard_normal((N, TRAITS))
    names = [f"t{i}" for i in range(TRAITS)]
    cohort = align_cohort(store.sample_id, pd.DataFrame(y, columns=names, index=store.sample_id.tolist()))
    operator = operator_of(store)
    model = fit_null_model(operator, cohort, FitConfig(solver="stochastic", loco=False))
    model = replace(model, loco=solve_predictors(operator, model, loco=False))
    fold = assign_folds(store.sample_id.tolist(), ["0"] * N, FOLDS)
    K = Z.T @ Z / weight.sum()
    expected = []
    for f in range(FOLDS):
        inside = fold == f
        V = H2 * K[np.ix_(~inside, ~inside)] + (1 - H2) * np.eye((~inside).sum())
        C = H2 * K[np.ix_(inside, ~inside)]
        explained = np.diag(C @ np.linalg.solve(V, C.T)).mean()
        expected.append(explained / (H2 * K.diagonal()[inside].mean() + 1 - H2))
    for refit in (False, True):
        found = cross_validate(model, operator, fold, refit=refit).accuracy
        r2, slope = found["r2"], found["slope"]
        # The spread over traits holds sampling of people and of traits; r² is biased upwards by (1 − r²)² / N.
        error = r2.std() / np.sqrt(TRAITS)
        assert abs(r2.mean() - np.mean(expected) - (1 - np.mean(expected)) ** 2 / N) < 3 * error
        assert abs(slope.mean() - 1) < 3 * slope.std() / np.sqrt(TRAITS)
        # The standard error that is printed is that of people, genotypes given, within its own factor of two.
        assert 0.5 < found["r2_se"].mean() / r2.std() < 2
        print(
            f"refit={refit}: r² {r2.mean():.4f} ± {error:.4f}, theory {np.mean(expected):.4f}; slope {slope.mean():.3f}"
        )
