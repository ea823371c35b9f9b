"""Exact quadratic forms and γ against matrices written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.association import gamma as gamma_module
from biolmm.association.classes import MAF_CLASSES, maf_class_of
from biolmm.association.forms import FormRequest, remainder_forms
from biolmm.association.gamma import N_FIRST, N_SAMPLED, SETTLED, TOLERANCE, estimate_gamma, sample_variants
from biolmm.genotypes.columns import standardised_columns
from biolmm.loco.systems import left_out_values
from oracles import dense
from oracles.scan import imputed, vary

TRAITS = ("half", "low", "none", "gaps", "holes")
H2 = np.array([0.0, 0.2, 0.8, 0.99])


def request_of(fitted, system: int, rows: NDArray[np.intp], left_out: NDArray[np.int64]) -> FormRequest:
    spectrum = fitted.model.spectrum(system)
    Z = standardised_columns(fitted.operator.source, rows).Z
    U = spectrum.pairs.vectors.astype(np.float64)
    values = np.stack([np.einsum("ik,ij,jk->k", U, fitted.toy.left_out_K[c], U) for c in left_out], axis=1)
    start = spectrum.restriction.project(Z).astype(np.float32)
    return FormRequest(spectrum.restriction, spectrum.pairs.vectors, values, start, left_out, H2)


def forms_by_definition(fitted, request: FormRequest) -> NDArray[np.float64]:
    """Return vᵀ(h²·AᵀK₋cA + (1−h²)I)⁻¹v − Σ (uᵀv)²/(h²θ+1−h²) of every column v and h²."""
    restriction, left_K = request.restriction, fitted.toy.left_out_K
    A = dense.complement(restriction.observed, restriction.basis)
    along = (request.vectors.astype(np.float64).T @ request.start) ** 2
    values = np.empty((request.start.shape[1], len(request.h2)))
    for contig in np.unique(request.left_out):
        mine = request.left_out == contig
        V, K = A.T @ request.start[:, mine].astype(np.float64), A.T @ left_K[contig] @ A
        for q, h2 in enumerate(request.h2):
            known = (along[:, mine] / (h2 * request.values[:, mine] + 1 - h2)).sum(axis=0)
            values[mine, q] = (V * np.linalg.solve(h2 * K + (1 - h2) * np.eye(len(K)), V)).sum(axis=0) - known
    return values


@pytest.fixture(scope="module")
def requests(stochastic) -> list[FormRequest]:
    """Ask under two restrictions, every contig left out and none, at four h²."""
    rows = np.array([2, 40, 300, 500, 700, 900, 1100])
    left_out = np.array([0, 0, -1, 1, 2, 3, -1])
    return [request_of(stochastic, system, rows, left_out) for system in (0, 2)]


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3])
def test_forms_are_near(stochastic, tolerance: float) -> None:
    """Under the eigenvectors' own matrix what is added for the steps not taken is known to a quarter."""
    rows = np.arange(0, 1200, 60)
    asked = [request_of(stochastic, system, rows, np.full(len(rows), -1)) for system in (0, 2)]
    assert all(request.vectors.shape[1] > 1 for request in asked)
    found = remainder_forms(stochastic.operator, asked, tolerance)
    for request, values in zip(asked, found, strict=True):
        truth = forms_by_definition(stochastic, request)
        # Pairs have residuals up to 0.02, which count squared; products in single precision are off by √(N+M)·ε of the
        # matrix, times its condition (below 5 but for h² near 1).
        np.testing.assert_allclose(values[:, :3], truth[:, :3], rtol=tolerance / 4 + 1e-4)
        np.testing.assert_allclose(values[:, 3], truth[:, 3], rtol=tolerance / 4 + 5e-4)


def test_forms_without_a_contig_are_near_too(stochastic) -> None:
    """Eigenvectors of K are not quite those of K₋c: with 300 people and a quarter of the genome left out, per milles."""
    toy = stochastic.toy
    rows = np.flatnonzero(vary(toy.calls, np.ones(toy.store.n_samples, bool)))[::6]
    request = request_of(stochastic, 0, rows, toy.contigs[rows].astype(np.int64))
    found = remainder_forms(stochastic.operator, [request], 1e-4)[0]
    error = (found / forms_by_definition(stochastic, request) - 1)[:, :3]
    assert np.abs(error).max() < 1e-2
    assert np.abs(error.mean(axis=0)).max() < 2e-3


def test_two_or_three_steps_suffice(stochastic, requests: list[FormRequest]) -> None:
    passes = stochastic.operator.counter.passes
    remainder_forms(stochastic.operator, [replace(request, h2=np.array([0.3])) for request in requests], 1e-2)
    assert stochastic.operator.counter.passes - passes <= 3


def test_a_form_does_not_depend_on_its_company(stochastic, requests: list[FormRequest]) -> None:
    together = remainder_forms(stochastic.operator, requests, 1e-3)
    alone = remainder_forms(stochastic.operator, requests[1:], 1e-3)[0]
    np.testing.assert_allclose(together[1][:, :3], alone[:, :3], rtol=1e-5)
    # Close to singular, rounding may decide at which step little enough is added: both answers are near.
    np.testing.assert_allclose(together[1], alone, rtol=1e-3)


def test_without_relatedness_a_form_is_a_square(stochastic, requests: list[FormRequest]) -> None:
    passes = stochastic.operator.counter.passes
    nothing = replace(requests[0], h2=np.zeros(1))
    values = remainder_forms(stochastic.operator, [nothing], 1e-5)[0]
    rest = requests[0].start - requests[0].vectors @ requests[0].along()
    np.testing.assert_allclose(values[:, 0], (rest**2).sum(axis=0), rtol=1e-5)
    assert stochastic.operator.counter.passes == passes + 1


def test_zero_columns_give_zero(stochastic, requests: list[FormRequest]) -> None:
    request = requests[0]
    start = request.start.copy()
    start[:, 0] = 0
    values = remainder_forms(stochastic.operator, [replace(request, start=start)], 1e-3)
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
        assert abs(row["gamma"] - expected) < 4 * row["gamma_se"] + TOLERANCE / 4 * expected
        assert 0 < row["gamma_se"] < 0.02 * row["gamma"]


def test_gamma_of_the_whole_cohort_is_exact_on_its_sample(stochastic, gamma) -> None:
    truth = exact_ratios(stochastic, 0)
    sample = sample_variants(stochastic.operator, stochastic.model, stochastic.operator.source, seed=1)
    rows = gamma.table[gamma.table["trait"] == "half"].set_index("maf_class")
    used = []
    for c, label in enumerate(MAF_CLASSES):
        if label in rows.index:
            used += sample.variants[(sample.kind == c) & (sample.rank < rows["n_variants"][label])].tolist()
    assert rows["n_variants"]["all"] == len(used)
    assert rows["gamma"]["all"] == pytest.approx(np.nanmean(truth[used]), rel=TOLERANCE / 4)
    assert rows["gamma_se"]["all"] == pytest.approx(np.nanstd(truth[used], ddof=1) / len(used) ** 0.5, rel=0.05)


def test_no_more_variants_are_measured_than_the_error_asks_for(stochastic, gamma) -> None:
    """A class has all there are, or its mean is known to 0.3 %; one that varies little needs the first sixteen only."""
    sample = sample_variants(stochastic.operator, stochastic.model, stochastic.operator.source, seed=1)
    there = {label: np.count_nonzero(sample.kind == c) for c, label in enumerate(MAF_CLASSES)}
    table = gamma.table[(gamma.table["maf_class"] != "all") & ~gamma.table["trait"].isin(["gaps", "holes"])]
    error = table["gamma_se"] / table["gamma"]
    all_used = table["n_variants"] == table["maf_class"].map(there).clip(upper=N_SAMPLED)
    assert ((error <= SETTLED) | all_used).all()
    none = table[table["trait"] == "none"]
    assert (none["n_variants"] == np.minimum(none["maf_class"].map(there), N_FIRST)).all()
    assert not all_used.all()


def test_variants_are_added_until_the_mean_is_known(stochastic, gamma, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for ten times less, every class stops at its first sixteen."""
    monkeypatch.setattr(gamma_module, "SETTLED", 0.04)
    model, operator = stochastic.model, stochastic.operator
    systems = range(model.n_systems)
    values = dict(zip(systems, left_out_values(operator, [model.spectrum(s) for s in systems]), strict=True))
    found = estimate_gamma(operator, model, operator.source, values, seed=1).table
    counts = found.loc[found["maf_class"] != "all", "n_variants"]
    assert counts.max() <= N_FIRST < gamma.table.loc[gamma.table["maf_class"] != "all", "n_variants"].max()


def test_gamma_is_one_where_nothing_is_heritable(stochastic, gamma) -> None:
    trait = TRAITS.index("none")
    h2 = stochastic.model.components(trait).h2
    assert h2 < 0.05
    np.testing.assert_allclose(gamma.gamma[trait], 1, atol=2 * h2 + 1e-6)
