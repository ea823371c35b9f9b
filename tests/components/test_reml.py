"""Variance components against a maximisation of the dense restricted likelihood, and under limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from biolmm.cohort import Cohort
from biolmm.components import ComponentConfig, ComponentFit, ComponentResults, Problem, fit_components
from biolmm.components.ascent import Ascent
from biolmm.components.dense import DenseEngine
from biolmm.components.fit import choose_solver
from biolmm.components.iterative import MAX_PROBES, IterativeEngine
from biolmm.components.likelihood_ratio import _gain, _gain_by_row, cone_p, half_mixture_p
from biolmm.components.preconditioner import LowRankPreconditioner
from biolmm.components.problem import Evaluation, Task
from biolmm.covariance import Term
from biolmm.covariance.genetic import GenotypePanel
from biolmm.covariance.groups import GroupKernel
from biolmm.covariance.interaction import InteractionKernel, standardised_environment
from biolmm.covariance.noise import category_noise, common_noise
from biolmm.covariance.terms import DenseKernel, DiagonalKernel
from biolmm.errors import ParameterError, SampleMismatchError
from biolmm.reml.fit import FitConfig, fit_null_model
from oracles import dense
from oracles.toy import Toy

TRAITS = ("half", "low", "none", "gaps", "holes")
EXACT = ComponentConfig(solver="exact")
STOCHASTIC = ComponentConfig(solver="stochastic")

Matrix = NDArray[np.float64]


@pytest.fixture(scope="module")
def terms(toy: Toy) -> list[Term]:
    """Two bins, families of about five, a random slope, and noise."""
    rng = np.random.default_rng(1)
    panel = GenotypePanel(toy.operator().genotypes)
    first = (np.arange(panel.n_variants) % 3 == 0).astype(float)
    n = toy.store.n_samples
    slope = standardised_environment(rng.standard_normal(n))
    return [
        Term.normalised("first", panel.kernel(first), group="genetic"),
        Term.normalised("rest", panel.kernel(1 - first), group="genetic"),
        Term.normalised("family", GroupKernel(rng.integers(0, 60, n))),
        Term.normalised("slope", InteractionKernel(panel.kernel(), slope)),
        common_noise(n),
    ]


@pytest.fixture(scope="module")
def exact(toy: Toy, terms: list[Term]) -> ComponentResults:
    return fit_components(Problem.of(terms, toy.cohort()), EXACT)


@pytest.fixture(scope="module")
def stochastic(toy: Toy, terms: list[Term]) -> ComponentResults:
    return fit_components(Problem.of(terms, toy.cohort("half", "gaps")), STOCHASTIC)


def maximum(matrices: list[Matrix], y: Matrix, X: Matrix, floor: float) -> tuple[Matrix, float]:
    """Maximise the restricted likelihood of the error contrasts over θ ≥ 0, noise (the last) ≥ floor, by L-BFGS-B."""
    A = dense.complement(~np.isnan(y), X)
    S, u = [A.T @ K @ A for K in matrices], A.T @ np.nan_to_num(y)

    def minus_log_likelihood(theta: Matrix) -> tuple[float, Matrix]:
        V = np.einsum("q,qij->ij", theta, np.array(S))
        inverse = np.linalg.inv(V)
        white = inverse @ u
        value = (len(u) * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + u @ white) / 2
        return float(value), np.array([(np.vdot(inverse, K) - white @ K @ white) / 2 for K in S])

    size = u @ u / len(u)
    bounds = [(0, None)] * (len(S) - 1) + [(floor, None)]
    found = minimize(
        minus_log_likelihood, np.full(len(S), size / len(S)), jac=True, bounds=bounds, method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 2000},
    )  # fmt: skip
    return found.x, -float(found.fun)


# Against the definition


@pytest.mark.parametrize("name", TRAITS)
def test_components_maximise_the_restricted_likelihood(
    toy: Toy, terms: list[Term], exact: ComponentResults, name: str
) -> None:
    matrices = [term.dense() for term in terms]
    y = toy.y(name)
    theta, log_likelihood = maximum(matrices, y, toy.design, 1e-8)
    found = exact.fit(name)
    assert found.converged
    np.testing.assert_allclose(found.theta / theta.sum(), theta / theta.sum(), atol=1e-6)
    assert found.log_likelihood == pytest.approx(log_likelihood, abs=1e-7)
    for i, term in enumerate(terms[:-1]):
        _, without = maximum(matrices[:i] + matrices[i + 1 :], y, toy.design, 1e-8)
        assert found.component(term.name).lrt == pytest.approx(max(2 * (log_likelihood - without), 0), abs=1e-6)
    _, without = maximum(matrices[2:], y, toy.design, 1e-8)
    assert found.component("genetic").lrt == pytest.approx(2 * (log_likelihood - without), abs=1e-6)


def test_one_genetic_term_is_the_null_model(toy: Toy) -> None:
    operator, cohort = toy.operator(), toy.cohort()
    panel = GenotypePanel(operator.genotypes)
    kernel = panel.kernel()
    found = fit_components(Problem.of([Term("genetic", kernel), common_noise(cohort.n_samples)], cohort), EXACT)
    scaled = fit_components(
        Problem.of([Term.normalised("genetic", kernel), common_noise(cohort.n_samples)], cohort), EXACT
    )
    known = fit_null_model(operator, cohort, FitConfig(solver="exact"))
    for trait, name in enumerate(cohort.trait_names):
        fit, expected = found.fit(name), known.components(trait)
        assert fit.component("genetic").share == pytest.approx(expected.h2, abs=1e-6)
        assert fit.log_likelihood == pytest.approx(expected.log_likelihood, abs=1e-8)
        assert fit.component("genetic").lrt == pytest.approx(expected.lrt, abs=1e-8)
        assert fit.component("genetic").lrt_p == pytest.approx(expected.lrt_p, rel=1e-6)
        # Scaled to mean diagonal 1, the component is as many times larger as the diagonal was.
        variance = scaled.fit(name).component("genetic").variance
        total = expected.sigma2_g + expected.sigma2_e
        assert variance / total == pytest.approx(expected.sigma2_g * np.mean(kernel.diagonal()) / total, abs=1e-6)


@pytest.mark.parametrize("name", ["half", "gaps"])
def test_what_is_reported_is_its_definition(toy: Toy, terms: list[Term], exact: ComponentResults, name: str) -> None:
    fit = exact.fit(name)
    y, X = toy.y(name), toy.design
    seen = ~np.isnan(y)
    matrices = [term.dense()[np.ix_(seen, seen)] for term in terms]
    y, X = y[seen], X[seen]
    V = np.einsum("q,qij->ij", fit.theta, np.array(matrices))
    inverse = np.linalg.inv(V)
    covariance = np.linalg.inv(X.T @ inverse @ X)
    P = inverse - inverse @ X @ covariance @ X.T @ inverse
    information = np.array([[y @ P @ A @ P @ B @ P @ y / 2 for B in matrices] for A in matrices])
    np.testing.assert_allclose(fit.covariance, np.linalg.inv(information), rtol=1e-5)
    gradient = np.full(len(terms), -fit.theta[0] / fit.theta.sum() ** 2)
    gradient[0] += 1 / fit.theta.sum()
    error = np.sqrt(gradient @ np.linalg.inv(information) @ gradient)
    assert fit.component("first").share_se == pytest.approx(error, rel=1e-6)
    # Fixed effects are of covariates with mean 0 and variance 1 over the cohort.
    Z = np.column_stack(
        [np.ones(len(toy.design)), (toy.design[:, 1:] - toy.design[:, 1:].mean(0)) / toy.design[:, 1:].std(0)]
    )
    Z = Z[seen]
    spread = np.linalg.inv(Z.T @ inverse @ Z)
    np.testing.assert_allclose([e for e, _ in fit.fixed.values()], spread @ Z.T @ inverse @ y, rtol=1e-6)
    np.testing.assert_allclose([s for _, s in fit.fixed.values()], np.sqrt(np.diag(spread)), rtol=1e-6)
    # The hat matrix: what the fitted values are of y.
    noise = fit.theta[-1]
    hat = np.eye(len(y)) - noise * P
    assert fit.effective_df == pytest.approx(np.trace(hat), rel=1e-8)
    left = y - hat @ y
    minus_two_log = len(y) * np.log(2 * np.pi * noise) + left @ left / noise
    assert fit.conditional_aic == pytest.approx(minus_two_log + 2 * (np.trace(hat) + 1), rel=1e-8)
    assert fit.aic == pytest.approx(-2 * fit.log_likelihood + 2 * len(terms))
    for term, matrix, value in zip(terms, matrices, fit.theta, strict=True):
        assert fit.component(term.name).effective_df == pytest.approx(value * np.trace(P @ matrix), abs=1e-6)


# The stochastic solver


@pytest.mark.parametrize("name", ["half", "gaps"])
def test_the_solvers_agree_within_the_reported_error(
    exact: ComponentResults, stochastic: ComponentResults, name: str
) -> None:
    one, other = exact.fit(name), stochastic.fit(name)
    assert other.converged
    for expected, found in zip(one.components, other.components, strict=True):
        # Four Monte-Carlo standard errors; a maximisation stops within a hundredth of a standard error.
        allowed = 4 * found.share_mc_se + 0.02 * found.share_se
        assert abs(found.share - expected.share) < allowed, (found.name, found.share, expected.share)
        if not found.at_boundary and found.kind == "component" and other.n_probes < MAX_PROBES:
            assert found.share_mc_se <= 0.1 * found.share_se
        if expected.kind != "residual":
            assert abs(found.lrt - expected.lrt) < 4 * found.lrt_mc_se + 0.1, (found.name, found.lrt, expected.lrt)
    assert other.log_likelihood == pytest.approx(one.log_likelihood, abs=1.0)
    for covariate, (effect, error) in one.fixed.items():
        assert other.fixed[covariate][0] == pytest.approx(effect, abs=0.1 * error)
        assert other.fixed[covariate][1] == pytest.approx(error, rel=0.1)


def test_score_and_information_of_the_solvers_agree(toy: Toy, terms: list[Term]) -> None:
    problem = Problem.of(terms, toy.cohort("half", "gaps"))
    one, other = DenseEngine(problem), IterativeEngine(problem, n_probes=64)
    tasks = [Task(trait, (True,) * 5) for trait in range(2)]
    thetas = [np.array([0.2, 0.3, 0.1, 0.1, 0.5]), np.array([0.0, 0.5, 0.0, 0.2, 0.4])]
    for expected, found in zip(one.evaluate(tasks, thetas), other.evaluate(tasks, thetas), strict=True):
        np.testing.assert_allclose(found.forms, expected.forms, rtol=1e-3)
        np.testing.assert_allclose(found.information, expected.information, rtol=2e-3, atol=1e-3)
        error = np.sqrt(np.diag(found.trace_covariance))
        assert np.all(np.abs(found.traces - expected.traces) < 4.5 * error + 1e-3 * expected.traces)
    for expected, found in zip(one.log_likelihoods(tasks, thetas), other.log_likelihoods(tasks, thetas), strict=True):
        assert found.value == pytest.approx(expected.value, abs=1.0)


def test_the_preconditioner_is_exact_where_its_model_is() -> None:
    """Give it G of rank 3: with more probes than that, diagonal plus low rank is V itself."""
    rng = np.random.default_rng(0)
    F = rng.standard_normal((200, 3))
    U = rng.choice([-1.0, 1.0], (200, 8)).astype(np.float32)
    noise = rng.uniform(0.5, 2.0, 200)
    V = F @ F.T + np.diag(noise)
    X = rng.standard_normal((200, 2))
    made = LowRankPreconditioner(np.diag(V).copy(), U, F @ (F.T @ U.astype(float)), noise)
    np.testing.assert_allclose(made((V @ X).astype(np.float32)), X, atol=1e-2)
    plain = LowRankPreconditioner(noise, U, np.zeros((200, 8)), noise)
    np.testing.assert_allclose(plain(X.astype(np.float32)), X / noise[:, None], rtol=1e-6)


# Limits


def simulated(matrix: Matrix, value: float, seed: int) -> Matrix:
    rng = np.random.default_rng(seed)
    return np.linalg.cholesky(value * matrix + (1 - value) * np.eye(len(matrix))) @ rng.standard_normal(len(matrix))


def cohort_of(y: Matrix) -> Cohort:
    import pandas as pd

    from biolmm.cohort import align_cohort

    ids = [f"S{i}" for i in range(len(y))]
    return align_cohort(ids, pd.DataFrame({"y": y}, index=ids))


def test_a_component_at_zero_is_a_result(toy: Toy, exact: ComponentResults) -> None:
    fit = exact.fit("none")
    at_zero = [one for one in fit.components if one.at_boundary and one.kind == "component"]
    assert at_zero
    for one in at_zero:
        assert (one.variance, one.share, one.lrt, one.lrt_p) == (0.0, 0.0, 0.0, 1.0)
        assert one.share_se > 0


def test_terms_alone_at_zero_leave_least_squares(toy: Toy) -> None:
    """Groups that vary less between than within: the maximum is at 0, and the noise variance that of the residuals."""
    n = 120
    rng = np.random.default_rng(0)
    y = rng.standard_normal(n)
    codes = np.arange(n) % 30
    y -= np.bincount(codes, y)[codes] / 4  # no difference between groups at all
    fit = fit_components(
        Problem.of([Term.normalised("g", GroupKernel(codes)), common_noise(n)], cohort_of(y)), EXACT
    ).fits[0]
    assert fit.component("g").at_boundary
    assert fit.component("residual").variance == pytest.approx(np.sum((y - y.mean()) ** 2) / (n - 1))


def test_a_trait_without_noise_is_held_at_its_bound() -> None:
    n = 60
    rng = np.random.default_rng(0)
    codes = np.arange(n) % 12
    y = rng.standard_normal(12)[codes]
    fit = fit_components(
        Problem.of([Term.normalised("g", GroupKernel(codes)), common_noise(n)], cohort_of(y)), EXACT
    ).fits[0]
    assert fit.converged
    assert fit.component("residual").at_boundary
    assert fit.component("g").share > 0.999


def test_terms_that_cannot_be_told_apart_are_said_to_be() -> None:
    n = 80
    rng = np.random.default_rng(0)
    A = rng.standard_normal((n, n))
    K = A @ A.T / n
    y = simulated(K / np.mean(np.diag(K)), 0.5, 1)
    same = K + 1e-9 * np.diag(rng.random(n))
    terms = [Term.normalised("one", DenseKernel(K)), Term.normalised("two", DenseKernel(same)), common_noise(n)]
    fit = fit_components(Problem.of(terms, cohort_of(y)), EXACT).fits[0]
    alone = fit_components(Problem.of([terms[0], terms[2]], cohort_of(y)), EXACT).fits[0]
    assert fit.log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-6)
    assert any("told apart" in message for message in fit.warnings)


def test_noise_of_categories_is_found() -> None:
    n = 900
    rng = np.random.default_rng(0)
    codes = np.arange(n) % 3
    y = rng.standard_normal(n) * np.sqrt([0.5, 1.0, 2.0])[codes]
    fit = fit_components(Problem.of(category_noise("batch", codes, ["a", "b", "c"]), cohort_of(y)), EXACT).fits[0]
    for level, variance in zip("abc", (0.5, 1.0, 2.0), strict=True):
        found = fit.component(f"residual:batch={level}")
        assert abs(3 * found.variance - variance) < 4 * 3 * found.variance_se


def test_results_do_not_depend_on_the_order_of_terms(toy: Toy, terms: list[Term], exact: ComponentResults) -> None:
    again = fit_components(Problem.of([terms[i] for i in (4, 2, 0, 3, 1)], toy.cohort("half")), EXACT).fits[0]
    for term in terms:
        assert again.component(term.name).share == pytest.approx(exact.fit("half").component(term.name).share, abs=1e-6)


def test_the_same_seed_gives_the_same_and_other_traits_do_not_matter(
    toy: Toy, stochastic: ComponentResults, terms: list[Term]
) -> None:
    alone = fit_components(Problem.of(terms, toy.cohort("half")), replace(STOCHASTIC, test=False)).fits[0]
    for one, other in zip(alone.components, stochastic.fit("half").components, strict=True):
        assert one.share == pytest.approx(other.share, abs=0.02 * other.share_se + other.share_mc_se)
    again = fit_components(Problem.of(terms, toy.cohort("half")), replace(STOCHASTIC, test=False)).fits[0]
    assert np.array_equal(again.theta, alone.theta)


def test_untested_components_have_no_ratio(toy: Toy, terms: list[Term], exact: ComponentResults) -> None:
    fit = fit_components(Problem.of(terms, toy.cohort("half")), replace(EXACT, test=False)).fits[0]
    np.testing.assert_allclose(fit.theta, exact.fit("half").theta)
    assert all(np.isnan(one.lrt) for one in fit.components)


# The ascent by itself


def quadratic(theta: Matrix, centre: Matrix, H: Matrix, known: bool) -> Evaluation:
    """Return a likelihood that is a paraboloid whose information is four times too small, so that steps go too far."""
    score = -H @ (theta - centre)
    value = -0.5 * (theta - centre) @ H @ (theta - centre) if known else np.nan
    return Evaluation(score, H / 4, np.ones(len(theta)), np.ones(len(theta)), np.zeros_like(H), value)


@pytest.mark.parametrize("known", [True, False])
def test_steps_that_go_too_far_are_halved(known: bool) -> None:
    H = np.array([[2.0, 0.5], [0.5, 1.0]])
    centre = np.array([1.0, 2.0])
    ascent = Ascent(np.array([5.0, 5.0]), np.zeros(2), np.ones(2, dtype=bool), tolerance=1e-12, max_iterations=200)
    while not ascent.finished:
        ascent.take(quadratic(ascent.candidate, centre, H, known))
    assert ascent.n_halved > 0
    np.testing.assert_allclose(ascent.theta, centre, atol=0.01)


def test_where_steps_fail_expectation_maximisation_takes_over() -> None:
    """Say that every step but a tiny one is worse."""
    ascent = Ascent(np.array([1.0]), np.zeros(1), np.ones(1, dtype=bool), tolerance=1e-12, max_iterations=5)
    good = Evaluation(np.array([1.0]), np.eye(1), np.array([100.0]), np.array([100.0]), np.zeros((1, 1)), 0.0)
    ascent.take(good)
    while ascent.n_em == 0:
        ascent.take(replace(good, log_likelihood=-1.0))
    assert 1.0 < ascent.candidate[0] < 1.1
    ascent.take(replace(good, log_likelihood=-1.0))
    assert ascent.finished and not ascent.converged


def test_a_start_that_is_no_covariance_is_refused() -> None:
    n = 20
    terms = [Term("bad", DenseKernel(np.eye(n) * 0.0 + 50 * (np.eye(n, k=1) + np.eye(n, k=-1)))), common_noise(n)]
    y = np.random.default_rng(0).standard_normal(n)
    with pytest.raises(ParameterError, match="not positive definite"):
        fit_components(Problem.of(terms, cohort_of(y)), EXACT)


# p-values


def test_p_values_at_the_boundary() -> None:
    free, tested = np.array([False, False]), np.array([True, False])
    assert cone_p(2.7055, np.eye(2), tested, free) == pytest.approx(0.05, abs=1e-4)
    # With independent information a component at zero beside the tested one does not matter.
    for statistic in (1.0, 2.7055, 25.0):
        found = cone_p(statistic, np.eye(2), tested, np.array([False, True]))
        assert found == pytest.approx(half_mixture_p(statistic), rel=0.15)
    both = np.array([True, True])
    correlated = np.array([[1.0, 0.9], [0.9, 1.0]])
    # ω = acos(ρ) / 2π of two half-planes (Self & Liang 1987, case 7): ρ of the estimates is −0.9.
    weight = np.arccos(-0.9) / (2 * np.pi)
    from scipy.stats import chi2

    expected = 0.5 * chi2.sf(3.0, 1) + (0.5 - weight) * chi2.sf(3.0, 2)
    assert cone_p(3.0, correlated, both, free) == pytest.approx(expected, abs=0.005)
    assert cone_p(0.0, correlated, both, free) == 1.0


@pytest.mark.parametrize("k", [8, 9, 10, 11, 22])
def test_p_values_of_many_components(k: int) -> None:
    """Independent components: j of k are above zero with the binomial's probability, and others at zero do not matter."""
    from scipy.stats import binom, chi2

    def mixture(statistic: float, n: int) -> float:
        return sum(binom.pmf(j, n, 0.5) * chi2.sf(statistic, j) for j in range(1, n + 1))

    everyone, nobody = np.ones(k, dtype=bool), np.zeros(k, dtype=bool)
    for statistic in (5.0, 25.0, 40.0):
        assert cone_p(statistic, np.eye(k), everyone, nobody) == pytest.approx(mixture(statistic, k), rel=0.1)
    # The share beyond a ratio, of 8,000 draws or 1 % of them: four standard errors.
    for n_tested in (1, 3):
        tested = np.arange(k) < n_tested
        for statistic in (3.0, 10.0, 25.0):
            expected = mixture(statistic, n_tested)
            assert cone_p(statistic, np.eye(k), tested, ~tested) == pytest.approx(expected, rel=0.45)


def test_many_components_are_solved_as_few_are() -> None:
    """The same draws by all sets of coordinates, and row by row: correlated, and with a component there twice."""
    rng = np.random.default_rng(3)
    loadings = rng.standard_normal((6, 9))
    loadings[5] = loadings[4]
    information = loadings @ loadings.T
    scores = rng.standard_normal((300, 9)) @ loadings.T
    few, many = (gain(scores, information) for gain in (_gain, _gain_by_row))
    np.testing.assert_allclose(many[0], few[0], rtol=1e-6, atol=1e-6)
    assert np.all(np.abs(many[1] - few[1]) <= 1)  # of what is there twice, one part or both


# Refusals


def test_models_that_make_no_sense_are_refused(toy: Toy) -> None:
    cohort = toy.cohort("half")
    n = cohort.n_samples
    noise = common_noise(n)
    with pytest.raises(SampleMismatchError, match="3 samples, the cohort has 317"):
        Problem.of([common_noise(3)], cohort)
    with pytest.raises(ParameterError, match="no residual noise"):
        Problem.of([Term("a", DiagonalKernel(np.ones(n)))], cohort)
    with pytest.raises(ParameterError, match="'residual' is in the model 2 times"):
        Problem.of([noise, noise], cohort)
    with pytest.raises(ParameterError, match="independent between samples"):
        Problem.of([Term("a", DenseKernel(np.eye(n)), is_residual=True)], cohort)
    with pytest.raises(ParameterError, match="no solver"):
        ComponentConfig(solver="magic")  # type: ignore[arg-type]
    assert choose_solver(EXACT, 10**6, 2, 1) == "exact"


def test_results_are_found_by_name(exact: ComponentResults) -> None:
    fit: ComponentFit = exact.fit("half")
    assert fit.component("total").share == pytest.approx(1 - fit.component("residual").share)
    with pytest.raises(KeyError, match="there is no component 'x'"):
        fit.component("x")
