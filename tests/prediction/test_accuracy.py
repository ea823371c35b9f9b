"""Cross-validation against one dense model a fold; folds that keep families whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biolmm.errors import ParameterError, TraitError
from biolmm.prediction.accuracy import cross_validate
from biolmm.prediction.folds import assign_folds
from biolmm.reml.model import NullModel
from oracles import dense
from oracles.toy import Toy

FOLDS = 3


def folds_of(toy: Toy) -> np.ndarray:
    return assign_folds(toy.store.sample_id.tolist(), toy.store.family_id.tolist(), FOLDS)


def dense_prediction(toy: Toy, name: str, h2: float, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return predicted genetic values of a fold's people and their trait less covariates, from the others."""
    y = np.where(inside, np.nan, toy.y(name))
    X, seen = toy.design, ~np.isnan(y)
    V = dense.covariance(h2, toy.K, y, X)
    sigma2_g = h2 * V[0, 0] / (h2 * toy.K[0, 0] + 1 - h2)
    genetic = sigma2_g * toy.K @ dense.projected_solve(V, y, X)
    inverse = np.linalg.inv(V[np.ix_(seen, seen)])
    beta = np.linalg.solve(X[seen].T @ inverse @ X[seen], X[seen].T @ inverse @ y[seen])
    return genetic[inside], (toy.y(name) - X @ beta)[inside]


def test_every_fold_is_predicted_as_by_a_model_of_the_others(model: NullModel, toy: Toy) -> None:
    fold = folds_of(toy)
    found = cross_validate(model, toy.operator(), fold, tolerance=1e-6)
    assert not np.isnan(found.predicted).any()
    for t, name in enumerate(model.trait_names):
        pairs = []
        for f in range(FOLDS):
            genetic, rest = dense_prediction(toy, name, model.components(t).h2, fold == f)
            np.testing.assert_allclose(found.predicted[fold == f, t], genetic, atol=1e-4 * np.abs(genetic).max())
            seen = ~np.isnan(rest)
            row = found.folds.query("trait == @name and fold == @f + 1").iloc[0]
            assert row["n"] == seen.sum()
            np.testing.assert_allclose(row["r"], np.corrcoef(genetic[seen], rest[seen])[0, 1], atol=1e-3)
            np.testing.assert_allclose(row["slope"], np.polyfit(genetic[seen], rest[seen], 1)[0], atol=1e-3)
            pairs.append((genetic[seen] - genetic[seen].mean(), rest[seen] - rest[seen].mean()))
        p, y = (np.concatenate(part) for part in zip(*pairs, strict=True))
        row = found.accuracy.set_index("trait").loc[name]
        np.testing.assert_allclose(row["r2"], (p @ y) ** 2 / (p @ p) / (y @ y), atol=1e-3)


def test_batches_of_traits_change_nothing(toy: Toy, model: NullModel) -> None:
    fold = folds_of(toy)
    one = cross_validate(model, toy.operator(), fold, tolerance=1e-6)
    other = cross_validate(model, toy.operator(), fold, tolerance=1e-6, memory_bytes=1)
    np.testing.assert_allclose(one.predicted, other.predicted, atol=1e-5)


def test_refitting_estimates_h2_without_the_fold(model: NullModel, toy: Toy) -> None:
    fold = folds_of(toy)
    found = cross_validate(model, toy.operator(), fold, refit=True)
    for row in found.folds.itertuples():
        y = np.where(fold == row.fold - 1, np.nan, toy.y(row.trait))
        exact = dense.reml(toy.K, y, toy.design)[0]
        error = dense.h2_standard_error(exact, toy.K, ~np.isnan(y), toy.design)
        # Monte-Carlo error is held below a tenth of the standard error; three of those.
        assert abs(row.h2 - exact) < 0.3 * error + 1e-3
    inside = fold == 0
    h2 = float(found.folds.query("trait == 'half' and fold == 1")["h2"].iloc[0])
    genetic, _ = dense_prediction(toy, "half", h2, inside)
    # Predictors are solved to 0.005.
    np.testing.assert_allclose(found.predicted[inside, 0], genetic, atol=0.03 * np.abs(genetic).max())


def test_too_few_samples_are_refused(model: NullModel, toy: Toy) -> None:
    cohort = model.cohort()
    fold = np.zeros(cohort.n_samples, dtype=np.int64)
    fold[:3] = 1
    with pytest.raises(TraitError, match="without fold 1"):
        cross_validate(model, toy.operator(), fold)


@given(st.lists(st.integers(0, 30), min_size=12, max_size=80), st.integers(2, 5), st.integers(0, 3))
def test_families_stay_whole_and_folds_even(families: list[int], n_folds: int, seed: int) -> None:
    names = [f"F{family}" if family < 8 else "0" for family in families]
    people = [f"P{i}" for i in range(len(families))]
    sizes = [names.count(name) for name in set(names) - {"0"}]
    if max(sizes, default=0) > len(names) / 2 or len(sizes) + names.count("0") < n_folds:
        with pytest.raises(ParameterError, match="families"):
            assign_folds(people, names, n_folds, seed)
        return
    fold = assign_folds(people, names, n_folds, seed)
    counts = np.bincount(fold, minlength=n_folds)
    assert counts.max() - counts.min() <= max(sizes, default=1)
    for name in set(names) - {"0"}:
        assert len(set(fold[[i for i, other in enumerate(names) if other == name]])) == 1


def test_folds_do_not_depend_on_the_order_of_people() -> None:
    people, families = [f"P{i}" for i in range(50)], [f"F{i // 3}" for i in range(50)]
    fold = dict(zip(people, assign_folds(people, families, 4), strict=True))
    order = np.random.default_rng(1).permutation(50)
    again = assign_folds([people[i] for i in order], [families[i] for i in order], 4)
    assert [fold[people[i]] for i in order] == again.tolist()
    assert assign_folds(people, families, 4, seed=2).tolist() != assign_folds(people, families, 4, seed=1).tolist()


@pytest.mark.parametrize("n_folds", [1, 101])
def test_a_number_of_folds_must_make_sense(n_folds: int) -> None:
    with pytest.raises(ParameterError, match="folds"):
        assign_folds(["a", "b"], ["0", "0"], n_folds)
