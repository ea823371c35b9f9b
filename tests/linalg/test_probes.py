"""Random columns tied to row names."""

from __future__ import annotations

import numpy as np

from biolmm.linalg.probes import rademacher, row_keys

NAMES = [f"S{i}" for i in range(4000)]
KEYS = row_keys(NAMES)


def test_a_row_keeps_its_draw_in_any_order_and_company() -> None:
    everybody = rademacher(KEYS, "probes", range(5), seed=7)
    order = np.random.default_rng(0).permutation(len(NAMES))[:50]
    some = rademacher(row_keys(NAMES[i] for i in order), "probes", range(5), seed=7)
    np.testing.assert_array_equal(some, everybody[order])


def test_columns_do_not_depend_on_which_are_asked_for() -> None:
    np.testing.assert_array_equal(
        rademacher(KEYS, "probes", range(3, 6), 1), rademacher(KEYS, "probes", range(10), 1)[:, 3:6]
    )


def test_draws_are_signs_without_bias_or_correlation() -> None:
    """Rows, columns, purposes and seeds: means and correlations are sums of n signs, below 5/√n but once in 10⁶."""
    blocks = [rademacher(KEYS, purpose, range(6), seed) for purpose in ("probes", "eigenpairs") for seed in (1, 2)]
    X = np.concatenate(blocks, axis=1)
    assert set(np.unique(X).tolist()) == {-1.0, 1.0}
    products = X.T @ X / len(X)
    limit = 5 / np.sqrt(len(X))
    assert np.abs(products - np.eye(X.shape[1])).max() < limit
    assert np.abs(X.mean(axis=0)).max() < limit
    neighbours = (X[:-1] * X[1:]).mean(axis=0)
    assert np.abs(neighbours).max() < limit


def test_draws_stay_the_same_from_version_to_version() -> None:
    """A saved spectrum is continued with later columns: the generator is part of the format."""
    assert rademacher(row_keys(["a", "b", "c", "d"]), "probes", range(2), 1).tolist() == PINNED


PINNED = [[1.0, 1.0], [1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]
