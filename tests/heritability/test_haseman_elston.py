"""Haseman–Elston regression by blocks: against explicit matrices, and the definition on pairs against GCTA."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from biolmm.cohort import Cohort
from biolmm.errors import ParameterError
from biolmm.files.gcta_grm import GctaGrm
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.heritability.blocks import BlockMoments, TraceColumns, VariantBlocks, block_moments
from biolmm.heritability.haseman_elston import (
    cross_trait,
    equations,
    normal_theory_se,
    partition,
    solve_moments,
    total_h2,
    trace_columns,
)
from biolmm.heritability.he_regression import he_regression
from biolmm.heritability.jackknife import jackknife_se
from biolmm.linalg.operators import Restriction
from biolmm.linalg.probes import row_keys
from biolmm.reml.likelihood import TraceMeasure
from oracles import dense
from oracles.toy import Toy

TRAITS = ("half", "low", "gaps")
N_BLOCKS = 12


def restrictions_of(cohort: Cohort) -> list[Restriction]:
    return [Restriction(mask.observed, mask.basis) for mask in cohort.classes]


def whole_basis(restriction: Restriction) -> TraceColumns:
    """Count every direction of the range of P fully: nothing is random."""
    vectors = np.linalg.eigh(restriction.project(np.eye(len(restriction.observed))))[1][:, -restriction.rank :]
    return TraceColumns(vectors.astype(np.float32), restriction.rank)


def annotation(n_variants: int) -> NDArray[np.float64]:
    """Give every variant, two annotations that overlap, and one that is a number."""
    rng = np.random.default_rng(5)
    sets = np.column_stack([rng.random(n_variants) < 0.7, rng.random(n_variants) < 0.2, rng.random(n_variants)])
    return np.column_stack([np.ones(n_variants), sets])


@dataclass
class Case:
    """Moments with nothing random, and the matrices that they are made of."""

    toy: Toy
    cohort: Cohort
    operator: GenotypeOperator
    weights: NDArray[np.float64]
    blocks: VariantBlocks
    moments: BlockMoments

    def matrices(self, left_out: int | None, components: list[int]) -> list[NDArray[np.float64]]:
        """Return K_a without a block by definition."""
        Z, weight = dense.standardised(self.toy.calls)
        keep = np.ones(len(Z), dtype=bool)
        if left_out is not None:
            start = 0
            for task in self.blocks.tasks:
                if task.first <= left_out < task.first + len(task.edges) - 1:
                    a, b = task.edges[left_out - task.first : left_out - task.first + 2]
                    keep[start + a : start + b] = False
                start += task.edges[-1]
        found = []
        for a in components:
            w = self.weights[:, a] * keep
            found.append(Z.T @ (w[:, None] * Z) / (w @ weight))
        return found

    def by_definition(self, trait: int, left_out: int | None, components: list[int]) -> NDArray[np.float64]:
        """Minimise the squared distance of yyᵀ to its expectation, by least squares over all entries."""
        y = self.cohort.y[:, trait]
        A = dense.complement(~np.isnan(y), self.toy.design)
        parts = [A.T @ K @ A for K in self.matrices(left_out, components)] + [np.eye(A.shape[1])]
        u = A.T @ np.nan_to_num(y)
        design = np.stack([part.ravel() for part in parts], axis=1)
        return np.linalg.lstsq(design, np.outer(u, u).ravel(), rcond=None)[0]


@pytest.fixture(scope="module")
def case(toy: Toy) -> Case:
    cohort = toy.cohort(*TRAITS)
    operator = toy.operator()
    weights = annotation(operator.source.n_variants)
    blocks = VariantBlocks.cut(operator.genotypes, N_BLOCKS, weights)
    restrictions = restrictions_of(cohort)
    columns = [whole_basis(r) for r in restrictions]
    moments = block_moments(operator, blocks, cohort.y, restrictions, cohort.class_of_trait, columns)
    return Case(toy, cohort, operator, weights, blocks, moments)


@pytest.mark.parametrize("components", [[0], [1, 2, 3]])
def test_estimates_are_least_squares_with_and_without_every_block(case: Case, components: list[int]) -> None:
    found = equations(case.moments, components)
    estimates = solve_moments(case.moments, found, components)
    assert case.blocks.n_blocks >= N_BLOCKS
    for trait in range(len(TRAITS)):
        expected = case.by_definition(trait, None, components)
        np.testing.assert_allclose(estimates.sigma2[trait], expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())
        for block in (0, 5, case.blocks.n_blocks - 1):
            expected = case.by_definition(trait, block, components)
            np.testing.assert_allclose(
                estimates.sigma2_without[block, trait], expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max()
            )
    assert (estimates.mc_se == 0).all()


def test_annotations_share_out_all_of_h2(case: Case) -> None:
    """Each variant's part is Σ_c w_c σ²_c / m_c; an annotation has those of its variants."""
    components = [1, 2, 3]
    found = equations(case.moments, components)
    estimates = solve_moments(case.moments, found, components)
    weight = dense.standardised(case.toy.calls)[1]
    w = case.weights[:, 1:]
    member_m = np.column_stack(
        [
            case.blocks.overlap[:, 1:, 0],
            case.blocks.m[:, 0],
        ]
    )
    shared = partition(case.moments, found, estimates, member_m)
    for trait in range(len(TRAITS)):
        sigma2 = estimates.sigma2[trait]
        parts = (w @ (sigma2[:-1] / (weight @ w))) * weight
        h2 = np.array([parts[w[:, a] > 0].sum() for a in range(3)]) / sigma2.sum()
        np.testing.assert_allclose(shared.h2[trait], h2, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(shared.size, [weight[w[:, a] > 0].sum() / weight.sum() for a in range(3)], rtol=1e-6)
        # The third annotation holds every variant.
        assert shared.h2[trait, 2] == pytest.approx(total_h2(sigma2), rel=1e-6)
        assert shared.enrichment[trait, 2] == pytest.approx(1, rel=1e-6)
        assert shared.share_se[trait, 2] < 1e-6
    assert np.isfinite(shared.h2_se).all() and (shared.h2_se > 0).all()


def test_pairs_of_traits_are_least_squares(case: Case) -> None:
    """Over all entries of y_s y_tᵀ, also where the samples differ; the traces of such pairs are exact here."""
    found = cross_trait(case.moments, equations(case.moments, [0]))
    K = case.matrices(None, [0])[0]
    for s in range(len(TRAITS)):
        for t in range(len(TRAITS)):
            y = [np.nan_to_num(case.cohort.y[:, k]) for k in (s, t)]
            P = [case.moments.restrictions[case.cohort.class_of_trait[k]].project(np.eye(len(K))) for k in (s, t)]
            design = np.stack([(P[0] @ K @ P[1]).ravel(), (P[0] @ P[1]).ravel()], axis=1)
            expected = np.linalg.lstsq(design, np.outer(P[0] @ y[0], P[1] @ y[1]).ravel(), rcond=None)[0]
            scale = np.abs(expected).max()
            np.testing.assert_allclose([found.cov_g[s, t], found.cov_e[s, t]], expected, rtol=1e-3, atol=1e-3 * scale)
    np.testing.assert_allclose(np.diag(found.rg), 1)
    np.testing.assert_allclose(np.diag(found.rg_se), 0, atol=1e-9)
    assert found.rg[0, 2] == pytest.approx(1, abs=0.2)  # `gaps` is `half` with a tenth missing


def test_probes_estimate_the_traces_with_the_error_they_report(case: Case) -> None:
    """Over seeds: h² with random columns scatters around h² without, as `h2_mc_se` says."""
    restrictions = restrictions_of(case.cohort)
    truth = total_h2(solve_moments(case.moments, equations(case.moments, [0]), [0]).sigma2)
    keys = row_keys(case.cohort.sample_id.tolist())
    blocks = VariantBlocks.cut(case.operator.genotypes, 2)
    errors, reported = [], []
    for seed in range(25):
        columns = [trace_columns(r, np.zeros((len(keys), 0), np.float32), keys, 12, seed) for r in restrictions]
        moments = block_moments(case.operator, blocks, case.cohort.y, restrictions, case.cohort.class_of_trait, columns)
        estimates = solve_moments(moments, equations(moments, [0]), [0])
        errors.append(total_h2(estimates.sigma2) - truth)
        reported.append(estimates.h2_mc_se)
    ratio = np.sqrt(np.mean(np.square(errors), axis=0) / np.mean(np.square(reported), axis=0))
    assert np.all((ratio > 0.6) & (ratio < 1.5)), ratio


def test_eigenvectors_among_the_columns_take_the_error_down(case: Case) -> None:
    restriction = restrictions_of(case.cohort)[0]
    keys = row_keys(case.cohort.sample_id.tolist())
    P = restriction.project(np.eye(len(keys)))
    vectors = np.linalg.eigh(P @ case.matrices(None, [0])[0] @ P)[1][:, :-4:-1].astype(np.float32)
    blocks = VariantBlocks.cut(case.operator.genotypes, 2)
    errors = []
    for basis in (vectors[:, :0], vectors):
        columns = [trace_columns(restriction, basis, keys, 12, 1)]
        moments = block_moments(case.operator, blocks, case.cohort.y[:, :1], [restriction], np.zeros(1, int), columns)
        errors.append(solve_moments(moments, equations(moments, [0]), [0]).h2_mc_se[0])
    assert errors[1] < 0.5 * errors[0]


def test_panels_of_columns_change_nothing(case: Case) -> None:
    restrictions = restrictions_of(case.cohort)
    columns = [whole_basis(r) for r in restrictions]
    again = block_moments(
        case.operator, case.blocks, case.cohort.y, restrictions, case.cohort.class_of_trait, columns, 3_000_000
    )
    for name in ("trace", "forms", "cross", "linear", "mixed", "inner", "pair_inner", "pair_linear"):
        ours, theirs = getattr(again, name), getattr(case.moments, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_the_error_of_normal_traits_is_that_of_two_quadratic_forms(case: Case) -> None:
    """Var of the least-squares estimate of u ~ N(0, h²S + (1−h²)I): each component is a linear function of uuᵀ."""
    h2 = 0.4
    A = dense.complement(np.ones(len(case.cohort.y), dtype=bool), case.toy.design)
    S = A.T @ case.toy.K @ A
    n = len(S)
    V = h2 * S + (1 - h2) * np.eye(n)
    gram = np.array([[np.sum(S * S), np.trace(S)], [np.trace(S), n]])
    maps = np.einsum("ij,jkl->ikl", np.linalg.inv(gram), np.stack([S, np.eye(n)]))
    covariance = np.array([[2 * np.trace(a @ V @ b @ V) for b in maps] for a in maps])
    gradient = np.array([1 - h2, -h2])
    nothing = np.zeros((0, 0))
    measure = TraceMeasure(np.linalg.eigvalsh(S), nothing, nothing, 0, 0.0)
    assert normal_theory_se(measure, n, h2) == pytest.approx(np.sqrt(gradient @ covariance @ gradient), rel=1e-8)


def test_a_block_that_holds_all_of_an_annotation_leaves_the_error_unknown(case: Case) -> None:
    weights = np.zeros((case.operator.source.n_variants, 2))
    weights[:, 0] = 1
    weights[10:20, 1] = 1
    blocks = VariantBlocks.cut(case.operator.genotypes, N_BLOCKS, weights)
    restriction = restrictions_of(case.cohort)[0]
    moments = block_moments(
        case.operator, blocks, case.cohort.y[:, :1], [restriction], np.zeros(1, int), [whole_basis(restriction)]
    )
    estimates = solve_moments(moments, equations(moments, [0, 1]), [0, 1])
    assert np.isfinite(estimates.sigma2).all()
    without = np.isnan(estimates.sigma2_without).any(axis=(1, 2))
    assert without.sum() == 1


def test_the_jackknife_of_a_mean_of_unequal_blocks_has_the_variance_of_that_mean() -> None:
    rng = np.random.default_rng(1)
    sizes = np.array([5, 10, 20, 40, 25, 8, 12, 30])
    squares, spread = [], []
    for _ in range(4000):
        blocks = [rng.standard_normal(k) for k in sizes]
        total = sum(b.sum() for b in blocks)
        whole = total / sizes.sum()
        without = np.array([(total - b.sum()) / (sizes.sum() - len(b)) for b in blocks])
        squares.append(jackknife_se(whole, without, sizes.astype(float)) ** 2)
        spread.append(whole**2)
    assert np.mean(squares) == pytest.approx(np.mean(spread), rel=0.1)
    assert np.isnan(jackknife_se(np.zeros(3), np.zeros((1, 3)), np.ones(1))).all()


def test_pairs_are_regressed_as_gcta_does(shared_data) -> None:
    """`--HEreg` of CD8 with GCTA's own matrix: estimates and both standard errors to the digits it prints."""
    folder = shared_data / "mouse_hs1940"
    grm = GctaGrm.open(folder / "gcta" / "m.grm.bin")
    lower = grm.read_block(slice(0, grm.n_samples), slice(0, grm.n_samples)).astype(np.float64)
    K = lower + np.tril(lower, -1).T
    y = pd.read_csv(folder / "traits.tsv", sep=r"\s+").set_index("IID").loc[grm.sample_id, "CD8"].to_numpy()
    seen = ~np.isnan(y)
    text = (folder / "gcta" / "p1.he.HEreg").read_text().splitlines()
    for kind, label in (("cross-product", "HE-CP"), ("squared-difference", "HE-SD")):
        found = he_regression(K[np.ix_(seen, seen)], y[seen], kind)
        start = text.index(label)
        printed = np.array([[float(word) for word in line.split()[1:4]] for line in text[start + 2 : start + 4]])
        ours = np.column_stack([found.estimate, found.se_ols, found.se_jackknife])
        np.testing.assert_allclose(ours, printed, rtol=6e-6)


def test_pairs_by_ordinary_least_squares() -> None:
    """The estimate and its two errors by a regression that lists the pairs."""
    rng = np.random.default_rng(3)
    K = rng.standard_normal((9, 9))
    K, y = K + K.T, rng.standard_normal(9)
    z = (y - y.mean()) / y.std(ddof=1)

    def fit(keep: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        i, j = np.triu_indices(len(keep), 1)
        X = np.column_stack([np.ones(len(i)), K[keep[i], keep[j]]])
        t = z[keep[i]] * z[keep[j]]
        b, residual, *_ = np.linalg.lstsq(X, t, rcond=None)
        return b, np.sqrt(np.diag(np.linalg.inv(X.T @ X)) * residual[0] / (len(i) - 2))

    found = he_regression(K, y)
    b, se = fit(np.arange(9))
    np.testing.assert_allclose(found.estimate, b)
    np.testing.assert_allclose(found.se_ols, se)
    left = np.array([fit(np.delete(np.arange(9), k))[0] for k in range(9)])
    np.testing.assert_allclose(found.se_jackknife, np.sqrt(8 / 9 * ((left - left.mean(axis=0)) ** 2).sum(axis=0)))


def test_pairs_refuse_what_has_no_slope() -> None:
    with pytest.raises(ParameterError, match="does not vary"):
        he_regression(np.ones((6, 6)), np.arange(6.0))
    with pytest.raises(ParameterError, match="at least 4"):
        he_regression(np.eye(3), np.arange(3.0))
