"""Many variance components over simulated traits: every family of terms is recovered within its standard error.

Traits are drawn from the model itself. Seeds are fixed; limits are 99.9 % intervals, so that a correct program fails one seed
in a thousand.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, norm

from biolmm.cohort import Cohort, align_cohort
from biolmm.components import ComponentConfig, ComponentFit, Problem, fit_components
from biolmm.covariance import Kernel, Term
from biolmm.covariance.epistasis import epistasis_kernel
from biolmm.covariance.features import FeatureKernel
from biolmm.covariance.genetic import GenotypePanel
from biolmm.covariance.groups import GroupKernel, RepeatedKernel
from biolmm.covariance.haplotypes import Haplotypes
from biolmm.covariance.interaction import InteractionKernel, category_columns, standardised_environment
from biolmm.covariance.noise import category_noise, common_noise, covariate_noise
from biolmm.covariance.pedigree import Pedigree, PedigreeKernel
from biolmm.covariance.spatial import SpatialKernel
from biolmm.covariance.terms import DenseKernel
from oracles.toy import Toy, make_toy

pytestmark = pytest.mark.slow

N, REPLICATES = 400, 60
UNTESTED = ComponentConfig(solver="exact", test=False)


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> GenotypePanel:
    """Give few variants, so that relatedness differs much between pairs and components are well determined."""
    toy: Toy = make_toy(tmp_path_factory.mktemp("panel"), n_variants=120, n_samples=N)
    return GenotypePanel(toy.operator().genotypes)


def family_pedigree() -> PedigreeKernel:
    """Return 100 families of four children, half of whom have their mother's sister's family next door."""
    parents: dict[str, tuple[str, str]] = {}
    for family in range(100):
        aunt = f"g{family // 2}"
        parents[f"m{family}"] = (f"{aunt}f", f"{aunt}m")
        for child in range(4):
            parents[f"c{family}.{child}"] = (f"f{family}", f"m{family}")
    children = [f"c{family}.{child}" for family in range(100) for child in range(4)]
    return PedigreeKernel.among(Pedigree.from_parents(parents), children)


def kernels(panel: GenotypePanel) -> dict[str, Callable[[], Kernel]]:
    rng = np.random.default_rng(0)
    half = (np.arange(panel.n_variants) % 2).astype(float)
    genetic = panel.kernel()
    slope = standardised_environment(rng.standard_normal(N))
    labels = category_columns(rng.integers(0, 2, N))
    alleles = rng.integers(0, 2, (2, N, 60)).astype(float)
    people = DenseKernel(np.eye(N // 4) + 0.0)
    return {
        "bin": lambda: panel.kernel(half),
        "dominance": lambda: panel.kernel(code="dominance"),
        "epistasis": lambda: epistasis_kernel(panel.kernel(half), 2**40),
        "slope": lambda: InteractionKernel(genetic, slope),
        "categories": lambda: InteractionKernel(genetic, labels),
        "group": lambda: GroupKernel(rng.integers(0, 80, N)),
        "repeated": lambda: RepeatedKernel(people, np.arange(N) // 4),
        "features": lambda: FeatureKernel.standardised(rng.standard_normal((N, 60))),
        "spatial": lambda: SpatialKernel(rng.uniform(0, 10, (N, 2)), 1.0),
        "pedigree": family_pedigree,
        "maternal": lambda: Haplotypes(*alleles).kernel("maternal"),
        "imprinting": lambda: Haplotypes(*alleles).kernel("difference"),
    }


def draw(terms: list[Term], theta: list[float], n_traits: int, seed: int) -> Cohort:
    """Draw traits with these components."""
    V = sum(value * term.dense() for value, term in zip(theta, terms, strict=True))
    y = np.linalg.cholesky(V) @ np.random.default_rng(seed).standard_normal((N, n_traits))
    ids = [f"S{i}" for i in range(N)]
    return align_cohort(ids, pd.DataFrame(y + 1.0, index=ids).rename(columns="t{}".format))


def fitted(
    terms: list[Term], theta: list[float], n_traits: int = REPLICATES, seed: int = 1
) -> tuple[ComponentFit, ...]:
    return fit_components(Problem.of(terms, draw(terms, theta, n_traits, seed)), UNTESTED).fits


def check_recovered(fits: tuple[ComponentFit, ...], terms: list[Term], theta: list[float]) -> None:
    """Means are the truth, spreads what the standard errors say, and intervals cover as often as they claim."""
    assert all(fit.converged for fit in fits)
    for term, truth in zip(terms, theta, strict=True):
        found = np.array([fit.component(term.name).variance for fit in fits])
        errors = np.array([fit.component(term.name).variance_se for fit in fits])
        spread = found.std(ddof=1)
        # Restricted likelihood of components is unbiased off the boundary, up to a tenth of the spread.
        assert abs(found.mean() - truth) < norm.ppf(0.9995) * spread / np.sqrt(len(fits)) + spread / 10, (
            term.name,
            found.mean(),
        )
        # A standard deviation over n draws is off by 1/√(2n); the average information varies as well.
        assert spread / np.sqrt(np.mean(errors**2)) == pytest.approx(
            1, abs=norm.ppf(0.9995) / np.sqrt(2 * len(fits)) + 0.1
        )
        covered = int((np.abs(found - truth) < norm.ppf(0.975) * errors).sum())
        assert covered >= binom.ppf(0.0005, len(fits), 0.93), (term.name, covered)


@pytest.mark.parametrize("name", [
    "bin", "dominance", "epistasis", "slope", "categories", "group", "repeated", "features", "spatial", "pedigree", "maternal",
    "imprinting",
])  # fmt: skip
def test_a_component_is_recovered(panel: GenotypePanel, name: str) -> None:
    terms = [Term.normalised(name, kernels(panel)[name]()), common_noise(N)]
    theta = [0.5, 0.5]
    check_recovered(fitted(terms, theta), terms, theta)


def test_noise_of_categories_and_of_a_covariate_is_recovered() -> None:
    rng = np.random.default_rng(0)
    codes, values = rng.integers(0, 3, N), rng.standard_normal(N)
    terms = category_noise("batch", codes, ["a", "b", "c"])
    check_recovered(fitted(terms, [0.2, 0.4, 0.8]), terms, [0.2, 0.4, 0.8])
    terms = [common_noise(N), covariate_noise("age", values)]
    check_recovered(fitted(terms, [0.6, 0.6]), terms, [0.6, 0.6])


def test_several_components_are_recovered_together(panel: GenotypePanel) -> None:
    made = kernels(panel)
    names = ["bin", "slope", "group", "features", "spatial"]
    terms = [*(Term.normalised(name, made[name]()) for name in names), common_noise(N)]
    theta = [0.3, 0.3, 0.3, 0.3, 0.3, 0.4]
    check_recovered(fitted(terms, theta, n_traits=100), terms, theta)


def test_without_an_effect_the_test_keeps_its_level(panel: GenotypePanel) -> None:
    """The mixture is asymptotic; on real matrices the test is at most a little conservative."""
    made = kernels(panel)
    terms = [Term.normalised("bin", made["bin"]()), Term.normalised("features", made["features"]()), common_noise(N)]
    cohort = draw(terms, [0.4, 0.0, 0.6], 300, 5)
    fits = fit_components(Problem.of(terms, cohort), ComponentConfig(solver="exact")).fits
    p = np.array([fit.component("features").lrt_p for fit in fits])
    for level in (0.1, 0.05):
        low, high = binom.ppf(0.0005, len(p), level / 2), binom.ppf(0.9995, len(p), level)
        assert low <= (p < level).sum() <= high, (level, (p < level).mean())


def test_the_monte_carlo_error_is_what_it_says(panel: GenotypePanel) -> None:
    """Over 20 seeds of the probes, against the exact estimate."""
    made = kernels(panel)
    terms = [Term.normalised(name, made[name]()) for name in ("bin", "features")] + [common_noise(N)]
    problem = Problem.of(terms, draw(terms, [0.4, 0.3, 0.4], 2, 7))
    exact = fit_components(problem, UNTESTED).fits
    ratios: list[float] = []
    for seed in range(20):
        found = fit_components(problem, ComponentConfig(solver="stochastic", test=False, seed=seed)).fits
        for one, other in zip(exact, found, strict=True):
            for name in ("bin", "features"):
                error = other.component(name).share_mc_se
                assert error <= 0.1 * other.component(name).share_se
                ratios.append((other.component(name).share - one.component(name).share) / error)
    # A root mean square over 20 seeds is off by 16 %; traits and components share their probes.
    size: NDArray[np.float64] = np.sqrt(np.mean(np.square(ratios)))
    assert 0.5 < size < 1.6, size
