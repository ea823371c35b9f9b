"""Exact quadratic forms and γ against matrices written out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.association.forms import FormRequest, quadratic_forms
from biolmm.association.gamma import TOLERANCE, estimate_gamma, sample_variants
from biolmm.association.panel import MAF_CLASSES, maf_class_of
from biolmm.genotypes.columns import standardised_columns
from biolmm.linalg.operators import Restriction
from biolmm.loco.systems import left_out_values
from oracles import dense
from oracles.scan import imputed, vary

TRAITS = ("half", "low", "none", "gaps", "holes")
H2 = np.array([0.0, 0.2, 0.8, 0.99])


def request_of(fitted, system: int, rows: NDArray[np.intp], left_out: NDArray[np.int64]) -> FormRequest:
    restriction: Restriction = fitted.model.restriction(system)
    Z = standardised_columns(fitted.operator.source, rows).Z
    return FormRequest(restriction, restriction.project(Z).astype(np.float32), left_out, H2)


def forms_by_definition(fitted, request: FormRequest) -> NDArray[np.float64]:
    """Return vᵀ(h²·AᵀK₋cA + (1−h²)I)⁻¹v of every column v and h²."""
    restriction, left_K = request.restriction, fitted.toy.left_out_K
    A = dense.complement(restriction.observed, restriction.basis)
    values = np.empty((request.start.shape[1], len(request.h2)))
    for j, contig in enumerate(request.left_out):
        v, K = A.T @ request.start[:, j].astype(np.float64), A.T @ left_K[contig] @ A
        values[j] = [v @ np.linalg.solve(h2 * K + (1 - h2) * np.eye(len(v)), v) for h2 in request.h2]
    return values


@pytest.fixture(scope="module")
def requests(stochastic) -> list[FormRequest]:
    """Ask under two restrictions, every contig left out and none, at four h²."""
    rows = np.array([2, 40, 300, 500, 700, 900, 1100])
    left_out = np.array([0, 0, -1, 1, 2, 3, -1])
    return [request_of(stochastic, system, rows, left_out) for system in (0, 2)]


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-3, 1e-5])
def test_forms_are_within_their_bounds(stochastic, requests: list[FormRequest], tolerance: float) -> None:
    """The truth lies between bounds that differ by `tolerance`: their middle is off by half of it at most."""
    found = quadratic_forms(stochastic.operator, requests, tolerance)
    for request, values in zip(requests, found, strict=True):
        truth = forms_by_definition(stochastic, request)
        # Products in single precision: √(N+M)·ε of the matrix, times its condition (below 5 but for h² near 1).
        np.testing.assert_allclose(values[:, :3], truth[:, :3], rtol=tolerance / 2 * 1.01 + 1e-5)
        np.testing.assert_allclose(values[:, 3], truth[:, 3], rtol=tolerance / 2 * 1.01 + 2e-4)


def test_a_form_does_not_depend_on_its_company(stochastic, requests: list[FormRequest]) -> None:
    together = quadratic_forms(stochastic.operator, requests, 1e-3)
    alone = quadratic_forms(stochastic.operator, requests[1:], 1e-3)[0]
    np.testing.assert_allclose(together[1][:, :3], alone[:, :3], rtol=1e-6)
    # Close to singular, rounding may decide at which step the bounds are near enough: both answers are within them.
    np.testing.assert_allclose(together[1], alone, rtol=1e-3)


def test_without_relatedness_a_form_is_a_square(stochastic, requests: list[FormRequest]) -> None:
    passes = stochastic.operator.counter.passes
    nothing = FormRequest(requests[0].restriction, requests[0].start, requests[0].left_out, np.zeros(1))
    values = quadratic_forms(stochastic.operator, [nothing], 1e-5)[0]
    np.testing.assert_allclose(values[:, 0], (requests[0].start.astype(np.float64) ** 2).sum(axis=0), rtol=1e-6)
    assert stochastic.operator.counter.passes == passes + 1


def test_zero_columns_give_zero(stochastic, requests: list[FormRequest]) -> None:
    request = requests[0]
    start = request.start.copy()
    start[:, 0] = 0
    values = quadratic_forms(stochastic.operator, [FormRequest(request.restriction, start, request.left_out, H2)], 1e-3)
    assert (values[0][0] == 0).all()
    assert (values[0][1:] > 0).all()


def exact_ratios(fitted, trait: int) -> NDArray[np.float64]:
    """Return the ratio that γ is the mean of, for every variant, by definition; NaN where there is none."""
    toy, model = fitted.toy, fitted.model
    spectrum = model.spectrum(int(model.system_of_trait[trait]))
    A = dense.complement(spectrum.restriction.observed, spectrum.restriction.basis)
    U = A.T @ spectrum.pairs.vectors
    h2 = model.components(trait).h2
    ratios = np.full(len(toy.calls), np.nan)
    scale = fitted.operator.genotypes.scaling.scale[:, None]
    Z = (imputed(toy.calls) * scale) @ A
    for contig in range(len(toy.store.contig_id)):
        K = A.T @ toy.left_out_K[contig] @ A
        H = h2 * K + (1 - h2) * np.eye(len(K))
        rows = np.flatnonzero((toy.contigs == contig) & vary(toy.calls, spectrum.restriction.observed))
        along = (Z[rows] @ U) ** 2
        known = (along / (h2 * np.einsum("ik,ij,jk->k", U, K, U) + 1 - h2)).sum(axis=1)
        form = np.einsum("ij,ji->i", Z[rows], np.linalg.solve(H, Z[rows].T))
        ratios[rows] = (form - known) / ((Z[rows] ** 2).sum(axis=1) - along.sum(axis=1))
    return ratios


@pytest.fixture(scope="module")
def gamma(stochastic):
    model, operator = stochastic.model, stochastic.operator
    systems = range(model.n_systems)
    values = dict(zip(systems, left_out_values(operator, [model.spectrum(s) for s in systems]), strict=True))
    return estimate_gamma(operator, model, operator.source, values, seed=1)


@pytest.mark.parametrize("name", TRAITS)
def test_gamma_is_the_mean_ratio_within_its_error(stochastic, gamma, name: str) -> None:
    """All variants' mean of exact ratios lies within 4 of the reported standard errors (15 comparisons: p = 1e-3)."""
    truth = exact_ratios(stochastic, TRAITS.index(name))
    classes = maf_class_of(stochastic.operator.genotypes.scaling.mean / 2)
    table = gamma.table[gamma.table["trait"] == name].set_index("maf_class")
    for label, row in table.iterrows():
        expected = np.nanmean(truth if label == "all" else truth[classes == MAF_CLASSES.index(str(label))])
        assert abs(row["gamma"] - expected) < 4 * row["gamma_se"] + TOLERANCE / 2 * expected
        assert 0 < row["gamma_se"] < 0.02 * row["gamma"]


def test_gamma_of_the_whole_cohort_is_exact_on_its_sample(stochastic, gamma) -> None:
    truth = exact_ratios(stochastic, 0)
    source = stochastic.operator.source
    sample = sample_variants(stochastic.operator, stochastic.model, source, seed=1)
    everything = standardised_columns(source, np.arange(len(truth))).Z
    rows = [int(np.flatnonzero((everything == z[:, None]).all(axis=0))[0]) for z in sample.Z.T]
    row = gamma.table[(gamma.table["trait"] == "half") & (gamma.table["maf_class"] == "all")].iloc[0]
    assert row["n_variants"] == len(set(rows))
    assert row["gamma"] == pytest.approx(np.nanmean(truth[rows]), rel=TOLERANCE / 2)
    assert row["gamma_se"] == pytest.approx(np.nanstd(truth[rows], ddof=1) / len(rows) ** 0.5, rel=0.05)


def test_gamma_is_one_where_nothing_is_heritable(stochastic, gamma) -> None:
    trait = TRAITS.index("none")
    h2 = stochastic.model.components(trait).h2
    assert h2 < 0.05
    np.testing.assert_allclose(gamma.gamma[trait], 1, atol=2 * h2 + 1e-6)
