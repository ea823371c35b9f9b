"""Stratified regression: refits without each block, the definitions of enrichment, and recovery of what was simulated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from biolmm.chunks import threads
from biolmm.errors import InputFileError, ParameterError
from biolmm.files.ldscore_files import LdScoreTable, Overlap, beside
from biolmm.sumstats.ldsc.heritability import estimate_heritability
from biolmm.sumstats.ldsc.join import Joined, join
from biolmm.sumstats.ldsc.partitioned import PartitionedConfig, fit_partitioned, partitioned_table, rank_cell_types
from biolmm.sumstats.ldsc.regression import RegressionConfig
from oracles import ldsc as oracle
from oracles.ldsc_model import draw_z, ld_table, trait

N = 4e4


@pytest.fixture(scope="module")
def annotated():  # type: ignore[no-untyped-def]
    """Give a base annotation of 100,000 variants and two in it, of 20,000 and 40,000; τ of the second is 5 times the base's."""
    rng = np.random.default_rng(1)
    table = ld_table(4000, rng, 3)
    scores = table.scores.copy()
    scores[:, 1] = rng.beta(1, 4, 4000) * scores[:, 0]
    scores[:, 2] = rng.beta(2, 3, 4000) * scores[:, 0]
    table = replace(table, scores=scores, m_common=np.array([1e5, 2e4, 4e4]))
    tau = np.array([1e-6, 5e-6, 0.0])
    variance = 1.05 + N * scores @ tau
    statistics = trait(table, rng.normal(size=4000) * np.sqrt(variance), N)
    overlap = Overlap(table.names, np.array([[1e5, 2e4, 4e4], [2e4, 2e4, 1e4], [4e4, 1e4, 4e4]]), 100_000)
    return table, statistics, overlap, tau


def dense(joined: Joined, limit: float, B: int):  # type: ignore[no-untyped-def]
    """Fit by least squares, and again without each block."""
    z, n = joined.Z[0], joined.N[0]
    keep = z**2 < limit
    y, n, L, w_ld = z[keep] ** 2, n[keep], joined.scores[keep], joined.w_ld[keep]
    ld, m = L.sum(axis=1), joined.m.sum()
    h = m * (y.mean() - 1) / (n * ld).mean()
    w = oracle.weights(ld, w_ld, (n, n), m, (h, h, h), (1, 1, 1))
    X = np.column_stack([L * n[:, None], np.ones(len(y))])
    blocks = np.searchsorted(np.floor(np.linspace(0, len(y), B + 1))[1:-1], np.arange(len(y)), side="right")
    deleted = [oracle.least_squares(X[blocks != b], y[blocks != b], w[blocks != b]) for b in range(B)]
    return oracle.least_squares(X, y, w), np.array(deleted)


def test_coefficients_are_the_definition(annotated) -> None:  # type: ignore[no-untyped-def]
    table, statistics, _, tau = annotated
    joined = join([statistics], table)
    for limit, config in ((80.0, PartitionedConfig(n_blocks=50)), (20.0, PartitionedConfig(n_blocks=13, chisq_max=20))):
        found = fit_partitioned(joined, config)
        expected, deleted = dense(joined, limit, config.n_blocks)
        # Scores of annotations are close to each other: a condition of 1e3 squared, in double precision.
        np.testing.assert_allclose([*found.tau, found.intercept], expected, rtol=1e-7, atol=1e-14)
        np.testing.assert_allclose(found.tau_deleted, deleted[:, :3], rtol=1e-6, atol=1e-13)
        np.testing.assert_allclose(found.intercept_se, oracle.jackknife_se(expected[3], deleted[:, 3]), rtol=1e-6)
        np.testing.assert_allclose(found.h2, joined.m @ expected[:3], rtol=1e-7)
        np.testing.assert_allclose(found.h2_se, oracle.jackknife_se(found.h2, deleted[:, :3] @ joined.m), rtol=1e-5)
    found = fit_partitioned(joined)
    assert (np.abs(found.tau - tau) < 4 * np.sqrt(np.diag(found.tau_covariance))).all()
    with threads(3):
        assert np.array_equal(fit_partitioned(joined).tau, found.tau)
    fixed = fit_partitioned(joined, PartitionedConfig(intercept=1.05))
    assert fixed.intercept == 1.05 and np.isnan(fixed.intercept_se) and len(fixed.tau) == 3


def test_enrichment_is_the_definition(annotated) -> None:  # type: ignore[no-untyped-def]
    table, statistics, overlap, _ = annotated
    found = fit_partitioned(join([statistics], table), PartitionedConfig(n_blocks=40))
    result = partitioned_table(found, overlap)
    tau, B = found.tau, 40
    for c in range(3):
        h2 = sum(overlap.shared[c, d] * tau[d] for d in range(3))
        share = h2 / found.h2
        of_variants = overlap.shared[c, c] / 100_000
        deleted = [overlap.shared[c] @ t / (found.m @ t) for t in found.tau_deleted]
        row = result.iloc[c]
        np.testing.assert_allclose([row["h2"], row["share_of_h2"], row["enrichment"]], [h2, share, share / of_variants])
        se = oracle.jackknife_se(share, np.array(deleted))
        np.testing.assert_allclose(
            [row["share_of_h2_se"], row["enrichment_se"]], [se, se / of_variants], rtol=1e-6, atol=1e-12
        )
        z = tau[c] / np.sqrt(found.tau_covariance[c, c])
        np.testing.assert_allclose([row["coefficient_z"], row["coefficient_p"]], [z, stats.norm.sf(z)], rtol=1e-9)
        if c == 0:
            assert row["enrichment"] == pytest.approx(1) and np.isnan(row["enrichment_p"])
            continue
        inside, outside = overlap.shared[c] / found.m[c], (found.m - overlap.shared[c]) / (1e5 - found.m[c])
        difference = (inside - outside) @ tau
        se = np.sqrt((inside - outside) @ found.tau_covariance @ (inside - outside))
        np.testing.assert_allclose(row["enrichment_p"], 2 * stats.t.sf(abs(difference / se), B), rtol=1e-9)
    assert result["enrichment"][1] > 1.5 and result["enrichment_p"][1] < 0.01
    disjoint = partitioned_table(found)
    np.testing.assert_allclose(disjoint["share_of_h2"], found.m * tau / found.h2)
    assert disjoint["share_of_variants"].sum() == pytest.approx(1)


def test_one_annotation_is_a_heritability() -> None:
    """Of one step and all variants, but for the second weighting; the same to a standard error."""
    rng = np.random.default_rng(2)
    table = ld_table(3000, rng)
    z = draw_z(table.scores[:, 0], np.array([N]), np.array([[0.4]]), np.eye(1), rng)[0]
    joined = join([trait(table, z, N)], table)
    plain = estimate_heritability(joined, RegressionConfig(two_step=None))[0]
    found = fit_partitioned(joined, PartitionedConfig(chisq_max=1e9))
    assert abs(found.h2 - plain.h2) < plain.h2_se
    np.testing.assert_allclose(found.h2_se, plain.h2_se, rtol=0.3)


def test_cell_types_are_ranked_by_their_coefficients(annotated) -> None:  # type: ignore[no-untyped-def]
    table, statistics, _, _ = annotated

    def column(c: int) -> LdScoreTable:
        m = table.counts()[[c]]
        return replace(table, names=(f"a{c}",), scores=table.scores[:, [c]], m_common=m, m_all=m)

    found = rank_cell_types(statistics, column(0), [("null", column(2)), ("enriched", column(1))])
    assert found["cell_type"].tolist() == ["enriched", "null"]
    alone = fit_partitioned(join([statistics], beside([column(1), column(0)])))
    assert found["coefficient"][0] == alone.tau[0] and found["coefficient_p"][0] < 1e-3
    assert found["coefficient_p"][1] > 0.01


def test_what_cannot_be_fitted_is_refused(annotated) -> None:  # type: ignore[no-untyped-def]
    table, statistics, overlap, _ = annotated
    twice = replace(table, scores=np.column_stack([table.scores[:, :2], table.scores[:, 0] - table.scores[:, 1]]))
    with pytest.raises(InputFileError, match="add up to each other"):
        fit_partitioned(join([statistics], twice))
    empty = replace(table, scores=table.scores * [1, 1, 0])
    with pytest.raises(InputFileError, match="0 throughout in a2"):
        fit_partitioned(join([statistics], empty))
    with pytest.raises(ParameterError, match="too few for 3 annotations"):
        fit_partitioned(join([statistics], table), PartitionedConfig(chisq_max=1e-9))
    with pytest.raises(InputFileError, match="overlap is of x"):
        partitioned_table(fit_partitioned(join([statistics], table)), replace(overlap, names=("x", "y", "z")))
    flipped = replace(statistics, z=statistics.z / 4)
    found = fit_partitioned(join([flipped], table))
    if found.h2 < 0:
        assert "out of range" in found.flags[-1]
