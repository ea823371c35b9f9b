"""Heritability and genetic correlation: the definition with brute-force refits, invariances, limit cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from biolmm.chunks import threads
from biolmm.errors import ParameterError, VariantMismatchError
from biolmm.sumstats.ldsc.correlation import correlation_table, estimate_correlations, screen_correlations
from biolmm.sumstats.ldsc.heritability import estimate_heritability, heritability_table, liability_factor
from biolmm.sumstats.ldsc.jackknife import covariance
from biolmm.sumstats.ldsc.join import join
from biolmm.sumstats.ldsc.regression import RegressionConfig
from oracles import ldsc as oracle
from oracles.ldsc_model import M, draw_z, ld_table, trait

Vector = NDArray[np.float64]
EXACT = {"rtol": 1e-8, "atol": 1e-11}
"""Normal equations in double precision against an orthogonal solution."""


@pytest.fixture(scope="module")
def two():  # type: ignore[no-untyped-def]
    """Give LD scores and two correlated traits with sizes that vary from variant to variant, some variants missing."""
    rng = np.random.default_rng(1)
    table = ld_table(3000, rng)
    ld = table.scores[:, 0]
    n = rng.uniform(2e4, 5e4, (2, 3000))
    z = draw_z(ld, n, np.array([[0.4, 0.2], [0.2, 0.3]]), np.array([[1.1, 0.1], [0.1, 1.0]]), rng)
    w_ld = replace(table, scores=np.maximum(table.scores / 3, 0.5))
    one, other = trait(table, z[0], n[0], "one"), trait(table, z[1], n[1], "other")
    return (
        table,
        w_ld,
        one.take(np.flatnonzero(rng.random(3000) < 0.9)),
        other.take(np.flatnonzero(rng.random(3000) < 0.8)),
    )


def dense_h2(z: Vector, n: Vector, ld: Vector, w_ld: Vector, n_blocks: int):  # type: ignore[no-untyped-def]
    def weigh(h: float, a: float) -> Vector:
        return oracle.weights(ld, w_ld, (n, n), M, (h, h, h), (a, a, a))

    return oracle.regress(z**2, ld, w_ld, (n, n), M, weigh, 1.0, z**2 < 30, n_blocks)


@pytest.mark.parametrize("n_blocks", [7, 200])
def test_heritability_is_the_definition(two, n_blocks: int) -> None:  # type: ignore[no-untyped-def]
    table, w_ld, one, _ = two
    joined = join([one], table, w_ld)
    found = estimate_heritability(joined, RegressionConfig(n_blocks=n_blocks))[0]
    z, n = joined.Z[0], joined.N[0]
    estimate, deleted = dense_h2(z, n, joined.scores[:, 0], joined.w_ld, n_blocks)
    assert len(z) == found.n_variants == len(one)
    np.testing.assert_allclose([found.h2, found.intercept], estimate, **EXACT)
    np.testing.assert_allclose(found.h2_deleted, deleted[:, 0], **EXACT)
    np.testing.assert_allclose(found.intercept_deleted, deleted[:, 1], **EXACT)
    np.testing.assert_allclose(found.h2_se, oracle.jackknife_se(estimate[0], deleted[:, 0]), rtol=1e-6)
    np.testing.assert_allclose(found.intercept_se, oracle.jackknife_se(estimate[1], deleted[:, 1]), rtol=1e-6)
    mean = np.mean(z**2)
    np.testing.assert_allclose([found.mean_chisq, found.lambda_gc], [mean, np.median(z**2) / 0.454936423], rtol=1e-8)
    np.testing.assert_allclose(found.ratio, (estimate[1] - 1) / (mean - 1), rtol=1e-7)


def test_correlation_is_the_definition(two) -> None:  # type: ignore[no-untyped-def]
    """Of a pair: heritabilities over the variants of both, weights with both, and the jackknife of the ratio."""
    table, w_ld, one, other = two
    joined = join([one, other], table, w_ld, alleles=True)
    found = estimate_correlations(joined, RegressionConfig(n_blocks=20))[0]
    both = ~np.isnan(joined.Z).any(axis=0)
    (z1, z2), (n1, n2) = joined.Z[:, both], joined.N[:, both]
    ld, w = joined.scores[both, 0], joined.w_ld[both]
    (h1, a1), first = dense_h2(z1, n1, ld, w, 20)
    (h2, a2), second = dense_h2(z2, n2, ld, w, 20)

    def weigh(rho: float, a12: float) -> Vector:
        return oracle.weights(ld, w, (n1, n2), M, (h1, h2, rho), (a1, a2, a12))

    (rho, a12), third = oracle.regress(z1 * z2, ld, w, (n1, n2), M, weigh, 0.0, (z1**2 < 30) & (z2**2 < 30), 20)
    np.testing.assert_allclose(
        [found.h2_1, found.intercept_1, found.h2_2, found.intercept_2], [h1, a1, h2, a2], **EXACT
    )
    np.testing.assert_allclose([found.covariance, found.intercept], [rho, a12], **EXACT)
    np.testing.assert_allclose(found.rg, rho / np.sqrt(h1 * h2), **EXACT)
    deleted = third[:, 0] / np.sqrt(first[:, 0] * second[:, 0])
    np.testing.assert_allclose(found.rg_se, oracle.jackknife_se(found.rg, deleted), rtol=1e-6)
    np.testing.assert_allclose(found.covariance_se, oracle.jackknife_se(rho, third[:, 0]), rtol=1e-6)
    assert found.n_variants == both.sum() < min(len(one), len(other))


def test_fixed_intercepts_and_one_step(two) -> None:  # type: ignore[no-untyped-def]
    table, _, one, other = two
    joined = join([one, other], table, alleles=True)
    fixed = estimate_heritability(joined, intercept=1.0)[0]
    z, n, ld = joined.Z[0], joined.N[0], joined.scores[:, 0]
    z, n, ld = (each[~np.isnan(z)] for each in (z, n, ld))
    x = n * ld / M
    w = oracle.weights(ld, ld, (n, n), M, (h := np.mean(z**2 - 1) / x.mean(), h, h), (1, 1, 1))
    for _ in range(2):
        h = oracle.least_squares(x[:, None], z**2 - 1, w)[0]
        w = oracle.weights(ld, ld, (n, n), M, (h, h, h), (1, 1, 1))
    np.testing.assert_allclose(fixed.h2, oracle.least_squares(x[:, None], z**2 - 1, w)[0], **EXACT)
    assert np.isnan(fixed.intercept_se) and np.isnan(fixed.ratio) and fixed.intercept == 1
    free = estimate_heritability(joined, RegressionConfig(two_step=None))[0]
    X = np.column_stack([x, np.ones_like(x)])
    w = oracle.weights(ld, ld, (n, n), M, (h := np.mean(z**2 - 1) / x.mean(), h, h), (1, 1, 1))
    for _ in range(2):
        h, a = oracle.least_squares(X, z**2, w)
        w = oracle.weights(ld, ld, (n, n), M, (h, h, h), (a, a, a))
    np.testing.assert_allclose([free.h2, free.intercept], oracle.least_squares(X, z**2, w), **EXACT)
    pair = estimate_correlations(joined, h2_intercept=1.0, intercept=0.0)[0]
    assert pair.intercept == 0 and pair.intercept_1 == 1 and np.isnan(pair.intercept_se) and pair.rg_se > 0


def test_order_alleles_strands_and_workers_do_not_matter(two) -> None:  # type: ignore[no-untyped-def]
    table, w_ld, one, other = two
    rng = np.random.default_rng(2)
    expected = estimate_correlations(join([one, other], table, w_ld, alleles=True))[0]
    swap, complement = rng.random(len(other)) < 0.5, rng.random(len(other)) < 0.5
    alleles = np.where(swap[:, None], other.alleles[:, ::-1], other.alleles)
    alleles = np.where(complement[:, None], 3 - alleles, alleles).astype(np.int8)
    changed = replace(other, alleles=alleles, z=np.where(swap, -other.z, other.z)).take(rng.permutation(len(other)))
    for count in (1, 3):
        with threads(count):
            joined = join([one.take(rng.permutation(len(one))), changed], table, w_ld, alleles=True)
            found = estimate_correlations(joined)[0]
        assert correlation_table([found]).equals(correlation_table([expected]))
    back = estimate_correlations(join([changed, one], table, w_ld, alleles=True))[0]
    np.testing.assert_allclose([back.rg, back.rg_se], [expected.rg, expected.rg_se], rtol=1e-9)
    wrong = replace(
        other, alleles=np.where(np.arange(len(other))[:, None] < 300, [[0, 3]], other.alleles).astype(np.int8)
    )
    assert join([one, wrong], table, alleles=True).mismatched == (0, 300)


def test_all_pairs_at_once_are_the_pairs_one_by_one() -> None:
    rng = np.random.default_rng(3)
    table = ld_table(2500, rng)
    C = 0.3 * np.array([[1, 0.5, 0, -0.3], [0.5, 1, 0.2, 0], [0, 0.2, 1, 0], [-0.3, 0, 0, 1]])
    z = draw_z(table.scores[:, 0], np.full(4, 3e4), C, np.eye(4) + 0.05, rng)
    traits = [trait(table, row, 3e4, f"t{i}") for i, row in enumerate(z)]
    traits[2] = traits[2].take(np.flatnonzero(rng.random(2500) < 0.7))
    together = estimate_correlations(join(traits, table, alleles=True))
    assert [(each.trait1, each.trait2) for each in together] == [
        (f"t{i}", f"t{j}") for i in range(4) for j in range(i + 1, 4)
    ]
    for each in together:
        pair = [traits[int(each.trait1[1])], traits[int(each.trait2[1])]]
        alone = correlation_table(estimate_correlations(join(pair, table, alleles=True)))
        mine = correlation_table([each])
        for name in mine.columns[2:-1]:
            np.testing.assert_allclose(mine[name], alone[name], rtol=1e-12, err_msg=name)
    screened, intercepts = screen_correlations(join(traits, table, alleles=True))
    by_pair = {(int(e.trait1[1]), int(e.trait2[1])): e for e in together}
    for (i, j), each in by_pair.items():
        assert abs(screened[i, j] - each.covariance) < 3 * each.covariance_se
        assert abs(intercepts[i, j] - each.intercept) < 3 * each.intercept_se


def test_screening_is_weighted_least_squares(two) -> None:  # type: ignore[no-untyped-def]
    table, _, one, other = two
    joined = join([one, other], table, alleles=True)
    both = ~np.isnan(joined.Z).any(axis=0)
    Z, ld, n = joined.Z[:, both], joined.scores[both, 0], joined.N[:, both].mean(axis=1)
    w = 1 / (ld * (1 + (np.mean(Z**2) - 1) * ld / ld.mean()) ** 2)
    covariances, intercepts = screen_correlations(joined)
    for i, j in ((0, 0), (0, 1), (1, 1)):
        X = np.column_stack([np.sqrt(n[i] * n[j]) * ld / M, np.ones_like(ld)])
        np.testing.assert_allclose(
            (covariances[i, j], intercepts[i, j]), oracle.least_squares(X, Z[i] * Z[j], w), **EXACT
        )


def test_estimates_out_of_range_are_flagged() -> None:
    """No signal, too much of it, and h² that is negative without some block: numbers and reasons, never an exception."""
    rng = np.random.default_rng(4)
    table = ld_table(2000, rng)
    ld = table.scores[:, 0]
    null = trait(table, rng.normal(size=2000) * np.sqrt(np.maximum(1.2 - ld / 150, 0.3)), 1e3, "null")
    much = trait(table, draw_z(ld, np.array([1e4]), np.array([[3.0]]), np.eye(1), rng)[0], 1e4, "much")
    edge = trait(table, draw_z(ld, np.array([2e2]), np.array([[0.3]]), np.eye(1), rng)[0], 2e2, "edge")
    good = trait(table, draw_z(ld, np.array([5e4]), np.array([[0.4]]), np.eye(1), rng)[0], 5e4, "good")
    joined = join([null, much, edge, good], table, alleles=True)
    found = estimate_heritability(joined)
    text = heritability_table(found).set_index("trait")["flags"]
    assert "h2 is negative" in text["null"] and "hardly any signal" in text["null"]
    assert "% of the variants are above the limit" in text["much"] and "limit of step" not in text["null"]
    assert "h2 is above 1" in text["much"] and "2,000 variants, fewer" in text["good"]
    pairs = {(each.trait1, each.trait2): each for each in estimate_correlations(joined, RegressionConfig(n_blocks=10))}
    assert np.isnan(pairs["null", "good"].rg)
    assert pairs["null", "good"].flags == ("no correlation: h2 of the first trait is not above 0",)
    assert np.isfinite(pairs["null", "good"].covariance_se)
    # Some h² without a block is negative: the delta method stands in for the jackknife of the ratio.
    few = join([replace(edge, name="edge"), good], table, alleles=True)
    for seed in range(60):
        z = draw_z(ld, np.array([2e2]), np.array([[0.1]]), np.eye(1), np.random.default_rng(seed))[0]
        few = join([trait(table, z, 2e2, "edge"), good], table, alleles=True)
        pair = estimate_correlations(few, RegressionConfig(n_blocks=10))[0]
        if pair.h2_1 > 0 and (pair.deleted[:, 0] < 0).any():
            break
    else:
        pytest.fail("no trait at the edge was drawn")
    assert "delta method" in pair.flags[0] and pair.rg_se > 0
    C = covariance(np.array([pair.h2_1, pair.h2_2, pair.covariance]), pair.deleted)
    d = np.array([-pair.rg / 2 / pair.h2_1, -pair.rg / 2 / pair.h2_2, pair.rg / pair.covariance])
    np.testing.assert_allclose(pair.rg_se, np.sqrt(d @ C @ d), rtol=1e-6)
    same = estimate_correlations(join([good, replace(good, name="again")], table, alleles=True))[0]
    np.testing.assert_allclose([same.rg, same.rg_se], [1.0, 0.0], atol=0.02)


def test_few_variants_give_no_estimate_but_a_reason() -> None:
    rng = np.random.default_rng(5)
    table = ld_table(400, rng)
    z = rng.normal(size=(2, 400))
    one = trait(table, z[0], 1e4, "one").take(np.arange(220))
    two = trait(table, z[1], 1e4, "two").take(np.arange(190, 400))
    pair = estimate_correlations(join([one, two], table, alleles=True))[0]
    assert pair.n_variants == 30 and np.isnan(pair.rg) and "too few" in pair.flags[0]
    with pytest.raises(VariantMismatchError, match=r"share 10 variants"):
        join([one.take(np.arange(10))], table)
    with pytest.raises(VariantMismatchError, match=r"rs0, rs1 in the LD scores"):
        join([replace(one, snp=pa.array([f"x{i}" for i in range(220)]))], table)
    with pytest.raises(ParameterError, match="two traits"):
        estimate_correlations(join([one], table))


def test_liability() -> None:
    """0.551907298063 is LDSC's own test value, of a balanced study of a trait that one in a hundred has."""
    assert liability_factor(0.01, 0.5) == pytest.approx(0.551907298063, abs=5e-13)
    rng = np.random.default_rng(6)
    table = ld_table(1000, rng)
    z = draw_z(table.scores[:, 0], np.array([4e4]), np.array([[0.4]]), np.eye(1), rng)[0]
    found = estimate_heritability(join([trait(table, z, 4e4)], table), prevalence=(0.01, 0.5))[0]
    assert found.h2_liability == pytest.approx(0.551907298063 * found.h2)
    assert found.h2_liability_se == pytest.approx(0.551907298063 * found.h2_se)
    with pytest.raises(ParameterError, match="prevalence is 1"):
        liability_factor(1.0, 0.5)
