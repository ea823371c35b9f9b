"""Variance components of the mice: GCTA's REML with GCTA's own matrix, and two halves of the genome by definition.

GCTA was run with one matrix only, so that two components are held to a maximisation of the likelihood written out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from biolmm.cohort import CohortConfig, align_cohort
from biolmm.components import ComponentConfig, Problem, fit_components
from biolmm.components.matrices import UserMatrix
from biolmm.covariance import Term
from biolmm.covariance.genetic import GenotypePanel
from biolmm.covariance.noise import common_noise
from oracles import dense

EXACT = ComponentConfig(solver="exact")


def published(folder: Path, name: str) -> dict[str, tuple[float, ...]]:
    """Read an `.hsq`."""
    lines = (folder / "gcta" / f"{name}.reml.hsq").read_text().splitlines()[1:]
    return {key: tuple(float(value) for value in values) for key, *values in (line.split("\t") for line in lines)}


@pytest.mark.parametrize(("trait", "name"), [("CD8", "p1"), ("MCH", "p6")])
def test_one_component_of_gctas_matrix(mice, trait: str, name: str) -> None:
    """GCTA stops when the log-likelihood moves by less than 1e-4: within 1e-2·√2e-4·SE; its errors are of average information."""
    theirs = published(mice.folder, name)
    cohort = mice.cohort(trait, everybody=False)
    kernel = UserMatrix.open(mice.folder / "gcta" / "m.grm.bin").kernel(cohort.sample_id.tolist())
    terms = (Term("genetic", kernel), common_noise(cohort.n_samples))  # as it is: not to mean diagonal 1
    fit = fit_components(Problem.of(terms, cohort), EXACT).fits[0]
    genetic = fit.component("genetic")
    assert fit.n == theirs["n"][0]
    assert genetic.variance == pytest.approx(theirs["V(G)"][0], abs=1e-5)
    assert fit.component("residual").variance == pytest.approx(theirs["V(e)"][0], abs=5e-6)
    assert genetic.share == pytest.approx(theirs["V(G)/Vp"][0], abs=5e-6)
    assert genetic.lrt == pytest.approx(theirs["LRT"][0], abs=2e-3)
    assert genetic.variance_se == pytest.approx(theirs["V(G)"][1], rel=1e-3)
    assert genetic.share_se == pytest.approx(theirs["V(G)/Vp"][1], rel=1e-3)
    # GCTA leaves out −(n−C)/2·log 2π, and ½ log det XᵀX, here ½ log n, which makes ours a density of orthonormal contrasts.
    constant = -0.5 * (fit.n - 1) * np.log(2 * np.pi) + 0.5 * np.log(fit.n)
    assert fit.log_likelihood - constant == pytest.approx(theirs["logL"][0], abs=1e-3)


def test_two_halves_of_the_genome(mice) -> None:
    """Chromosomes 1–9 and 10–19 of 800 mice: components, log-likelihood and tests against the definition."""
    chosen = tuple(map(str, mice.traits.index[mice.traits["CD8"].notna()][:800]))
    config = CohortConfig(trait_names=("CD8",), keep=chosen)
    cohort = align_cohort(mice.store.sample_id, mice.traits, None, config)
    operator = mice.operator(cohort, mice.mapped)
    source = operator.source
    contigs = np.array(source.store.contig_id, dtype=np.int64)  # all that are mapped have a number
    names = contigs[source.store.variant_contig[source.variants]]
    panel = GenotypePanel(operator.genotypes)
    terms = (
        Term.normalised("first", panel.kernel((names < 10).astype(float))),
        Term.normalised("second", panel.kernel((names >= 10).astype(float))),
        common_noise(cohort.n_samples),
    )
    fit = fit_components(Problem.of(terms, cohort), EXACT).fits[0]
    theta, best = maximum([term.dense() for term in terms], cohort.y[:, 0])
    np.testing.assert_allclose(fit.theta / theta.sum(), theta / theta.sum(), atol=1e-6)
    assert fit.log_likelihood == pytest.approx(best, abs=1e-6)
    for i, name in enumerate(("first", "second")):
        assert fit.component(name).lrt > 10  # both halves matter
        _, without = maximum([term.dense() for j, term in enumerate(terms) if j != i], cohort.y[:, 0])
        assert fit.component(name).lrt == pytest.approx(2 * (best - without), abs=2e-6)


def maximum(matrices: list[np.ndarray], y: np.ndarray) -> tuple[np.ndarray, float]:
    """Maximise the restricted likelihood of the error contrasts, written out, over θ > 0 by L-BFGS-B."""
    A = dense.complement(~np.isnan(y), np.ones((len(y), 1)))
    S, u = [A.T @ K @ A for K in matrices], A.T @ y

    def minus_log_likelihood(theta: np.ndarray) -> tuple[float, np.ndarray]:
        V = sum(value * K for value, K in zip(theta, S, strict=True))
        inverse = np.linalg.inv(V)
        white = inverse @ u
        value = 0.5 * (len(u) * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + u @ white)
        return float(value), np.array([0.5 * (np.vdot(inverse, K) - white @ K @ white) for K in S])

    start = np.full(len(S), u @ u / len(u) / len(S))
    found = minimize(
        minus_log_likelihood, start, jac=True, method="L-BFGS-B", bounds=[(1e-8, None)] * len(S),
        options={"ftol": 1e-15, "gtol": 1e-7, "maxiter": 200},
    )  # fmt: skip
    return found.x, -float(found.fun)
