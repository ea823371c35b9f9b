"""The null model of every trait: against the definition, between solvers, and under changes that must not matter."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from biolmm.chunks import threads
from biolmm.cohort import align_cohort
from biolmm.errors import DamagedStoreError, ParameterError, UserError
from biolmm.genotypes.arithmetic import Float32
from biolmm.linalg.probes import row_keys
from biolmm.reml import traits as traits_module
from biolmm.reml.density import MAX_PROBES, MIN_PROBES, N_MOMENTS
from biolmm.reml.fit import FitConfig, fit_null_model
from biolmm.reml.likelihood import VarianceComponents
from biolmm.reml.model import MODEL_FORMAT, NullModel, open_model
from biolmm.reml.spectrum import START_COLUMNS, SpectrumConfig, leading_pairs
from biolmm.reml.traits import TraitProgress
from oracles import dense
from oracles.toy import Toy, operator_of, write_store

TRAITS = ("half", "low", "none", "gaps", "holes")
EXACT = FitConfig(solver="exact", spectrum=SpectrumConfig(n_pairs=5))
STOCHASTIC = replace(EXACT, solver="stochastic")


@pytest.fixture(scope="module")
def exact(toy: Toy) -> NullModel:
    return fit_null_model(toy.operator(), toy.cohort(), EXACT)


@pytest.fixture(scope="module")
def stochastic(toy: Toy) -> NullModel:
    return fit_null_model(toy.operator(), toy.cohort(), STOCHASTIC)


def trait_of(model: NullModel, name: str) -> dict[str, float]:
    return dict(vars(model.components(model.trait_names.index(name))))


def check_same(found: NullModel, expected: NullModel, *names: str) -> None:
    """Compare estimates of some traits within 1e-5, relative to the total variance where it is split."""
    for name in names or TRAITS:
        one, other = trait_of(found, name), trait_of(expected, name)
        assert one["h2"] == pytest.approx(other["h2"], rel=1e-5, abs=1e-5)
        total = other["sigma2_g"] + other["sigma2_e"]
        for component in ("sigma2_g", "sigma2_e"):
            assert one[component] == pytest.approx(other[component], abs=1e-5 * total)
        assert one["h2_se"] == pytest.approx(other["h2_se"], rel=1e-4)
        assert one["log_likelihood"] == pytest.approx(other["log_likelihood"], rel=1e-5)


# Against the definition


@pytest.mark.parametrize("name", TRAITS)
def test_exact_solver_is_reml_by_definition(toy: Toy, exact: NullModel, name: str) -> None:
    K = toy.K
    h2, variance = dense.reml(K, toy.y(name), toy.design)
    found = trait_of(exact, name)
    # The matrix is added up from float32 tiles: 1e-7 of K, and as much of h².
    assert found["h2"] == pytest.approx(h2, abs=1e-6)
    assert found["sigma2_g"] + found["sigma2_e"] == pytest.approx(variance, rel=1e-5)
    observed = ~np.isnan(toy.y(name))
    assert found["h2_se"] == pytest.approx(dense.h2_standard_error(h2, K, observed, toy.design), rel=1e-4)


@pytest.mark.parametrize("name", TRAITS)
def test_exact_solution_solves_the_equations_at_the_estimate(toy: Toy, exact: NullModel, name: str) -> None:
    K = toy.K
    h2 = trait_of(exact, name)["h2"]
    x = dense.projected_solve(h2 * K + (1 - h2) * np.eye(len(K)), toy.y(name), toy.design)
    solution = exact.dataset["solution"].values[exact.trait_names.index(name)]
    np.testing.assert_allclose(solution, x, atol=1e-5 * np.abs(x).max())


def test_components_are_eigenvectors_of_the_projected_matrix(toy: Toy, exact: NullModel, stochastic: NullModel) -> None:
    K, A = toy.K, dense.complement(np.ones(toy.store.n_samples, dtype=bool), toy.design)
    values = np.linalg.eigvalsh(A.T @ K @ A)[::-1][:2]
    for model in (exact, stochastic):
        pairs = model.spectrum(0).pairs
        # Two axes of ancestry stand out; a residual of 2 % leaves an error of its square over the gap.
        np.testing.assert_allclose(pairs.values[:2], values, rtol=1e-3)
        assert model.pcs.index.tolist() == toy.store.sample_id.tolist()
    assert len(stochastic.spectrum(0).pairs.values) >= 2
    both = np.abs(exact.pcs.to_numpy()[:, :2].T @ stochastic.pcs.to_numpy()[:, :2])
    np.testing.assert_allclose(np.linalg.svd(both)[1], 1, atol=2e-3)


# Between solvers


@pytest.mark.parametrize("name", TRAITS)
def test_stochastic_solver_agrees_within_its_own_error(exact: NullModel, stochastic: NullModel, name: str) -> None:
    """Quadrature is cut where ĥ² moves by 1 % of its standard error; the rest is Monte Carlo as reported."""
    truth, found = trait_of(exact, name), trait_of(stochastic, name)
    assert found["h2_mc_se"] < 0.1 * found["h2_se"]
    assert abs(found["h2"] - truth["h2"]) < 4 * found["h2_mc_se"] + 0.02 * found["h2_se"]
    # The standard error's own Monte-Carlo error is of the same relative size as the score's.
    assert found["h2_se"] == pytest.approx(truth["h2_se"], rel=0.1)
    assert abs(found["log_likelihood"] - truth["log_likelihood"]) < 1
    assert found["lrt"] == pytest.approx(truth["lrt"], abs=0.5)


def test_stochastic_trace_is_exact(exact: NullModel, stochastic: NullModel) -> None:
    np.testing.assert_allclose(stochastic.dataset["trace"].values, exact.dataset["trace"].values, rtol=1e-5)


def test_another_seed_moves_the_estimate_by_no_more_than_it_says(toy: Toy, stochastic: NullModel) -> None:
    other = replace(STOCHASTIC, spectrum=SpectrumConfig(n_pairs=5, seed=2))
    again = fit_null_model(toy.operator(), toy.cohort(), other)
    for name in TRAITS:
        one, two = trait_of(stochastic, name), trait_of(again, name)
        assert abs(one["h2"] - two["h2"]) < 4 * np.hypot(one["h2_mc_se"], two["h2_mc_se"]) + 0.02 * one["h2_se"]
    assert any(trait_of(stochastic, name)["h2"] != trait_of(again, name)["h2"] for name in TRAITS)


def test_probes_are_added_where_the_error_is_too_large(
    toy: Toy, stochastic: NullModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ask for half the error that the first probes reach at worst: some traits need more, and more only helps them."""
    table = stochastic.h2.set_index("trait")
    share = 0.5 * float((table.h2_mc_se / table.h2_se).max())
    monkeypatch.setattr(traits_module, "MC_SHARE", share)
    model = fit_null_model(toy.operator(), toy.cohort(), STOCHASTIC)
    used = dict(zip(model.trait_names, model.dataset["n_probes_used"].values.tolist(), strict=True))
    assert max(used.values()) > MIN_PROBES
    for name in TRAITS:
        found = trait_of(model, name)
        assert found["h2_mc_se"] <= share * found["h2_se"]
        assert used[name] < MAX_PROBES  # half the error takes about four times the probes
        alone = fit_null_model(toy.operator(), toy.cohort(name), STOCHASTIC)
        check_same(alone, model, name)
        assert alone.dataset["n_probes_used"].values.tolist() == [used[name]]
    # A known spectrum with more probes than a trait needs is used as far as the trait needs it.
    again = fit_null_model(toy.operator(), toy.cohort(), STOCHASTIC, known=model)
    check_same(again, model)
    assert again.dataset["n_probes_used"].values.tolist() == list(used.values())


def test_products_of_lower_precision_do_not_matter(
    toy: Toy, stochastic: NullModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of 2e-4 of ‖Kx‖ in every product: the estimates keep what the recursions promise, 1 % of their error."""
    operator, rng = toy.operator(), np.random.default_rng(0)
    exactly = operator.matmat

    def noisy(X: NDArray[np.float32]) -> NDArray[np.float32]:
        Y = exactly(X)
        error = rng.standard_normal(Y.shape)
        return np.asarray(Y + 2e-4 * np.linalg.norm(Y, axis=0) * error / np.sqrt(len(Y)), np.float32)

    monkeypatch.setattr(operator, "matmat", noisy)
    found = fit_null_model(operator, toy.cohort(), STOCHASTIC)
    assert found.dataset["n_pairs"].values.tolist() == stochastic.dataset["n_pairs"].values.tolist()
    for name in TRAITS:
        one, other = trait_of(found, name), trait_of(stochastic, name)
        assert abs(one["h2"] - other["h2"]) < 0.01 * other["h2_se"]
        assert one["h2_mc_se"] == pytest.approx(other["h2_mc_se"], rel=0.01)


# What must not matter


@pytest.mark.parametrize("config", [EXACT, STOCHASTIC], ids=["exact", "stochastic"])
@pytest.mark.parametrize("names", [("half",), ("holes",), ("none", "gaps")])
def test_other_traits_in_the_run(
    toy: Toy, exact: NullModel, stochastic: NullModel, config: FitConfig, names: tuple[str, ...]
) -> None:
    alone = fit_null_model(toy.operator(), toy.cohort(*names), config)
    together = exact if config is EXACT else stochastic
    check_same(alone, together, *names)
    for name in names:
        probes = [m.dataset["n_probes_used"].values[m.trait_names.index(name)] for m in (alone, together)]
        assert probes[0] == probes[1]


@pytest.mark.parametrize("config", [EXACT, STOCHASTIC], ids=["exact", "stochastic"])
def test_order_of_samples_alleles_chunks_and_threads(
    toy: Toy, exact: NullModel, stochastic: NullModel, config: FitConfig, tmp_path: Path
) -> None:
    order = np.random.default_rng(0).permutation(toy.store.n_samples)
    swapped = np.array([2, 1, 0, 3], np.uint8)[toy.calls[:, order]]
    contigs = [toy.store.contig_id[c] for c in toy.contigs]
    ids = toy.store.sample_id[order].tolist()
    store = write_store(tmp_path / "other.zarr", swapped, contigs, ids, chunk_variants=256)
    with threads(1):
        found = fit_null_model(operator_of(store), replace(toy, store=store).cohort(), config)
    check_same(found, exact if config is EXACT else stochastic)


def test_a_subset_of_the_store_is_a_cohort_of_its_own(toy: Toy, tmp_path: Path) -> None:
    """Frequencies, too, are those of the cohort."""
    chosen = np.arange(0, toy.store.n_samples, 2)
    traits = toy.traits.iloc[chosen][["half"]]
    cohort = align_cohort(toy.store.sample_id, traits, toy.covariates)
    found = fit_null_model(operator_of(toy.store, cohort.sample_index), cohort, EXACT)
    h2, _ = dense.reml(dense.relatedness(toy.calls[:, chosen]), traits["half"].to_numpy(), toy.design[chosen])
    assert trait_of(found, "half")["h2"] == pytest.approx(h2, abs=1e-6)


# Cost


@pytest.mark.parametrize("names", [("half",), ("half", "low", "none"), ("half", "gaps", "holes")])
def test_passes_and_columns_are_within_what_the_docstring_says(
    toy: Toy, reads: Counter[int], names: tuple[str, ...]
) -> None:
    operator = toy.operator()
    reads.clear()
    model = fit_null_model(operator, toy.cohort(*names), STOCHASTIC)
    passes = operator.counter.passes
    assert reads[0] == passes  # chunk 0 holds one contig: it is read once a pass
    used, steps = model.dataset["n_probes_used"].values, model.dataset["n_steps"].values
    masked = model.n_systems - 1
    n_doubled = np.log2(used / MIN_PROBES)
    # Probes that are added start at the fourth step at the latest where the estimate foresees them.
    assert passes <= 6 + 3 * (masked > 0) + 1 + (steps * (1 + n_doubled)).max()
    columns = operator.counter.flop / (4 * operator.n_samples * operator.source.n_variants)
    pairs = 6 * START_COLUMNS + 3 * masked * 5
    traces = sum(model.restriction(system).basis.shape[1] for system in range(model.n_systems)) / 2
    moments = N_MOMENTS * 2 ** int(n_doubled.max()) * model.n_systems
    probes = sum(used[model.system_of_trait == s].max(initial=0) for s in range(model.n_systems)) * steps.max()
    assert columns <= pairs + traces + moments + probes + steps.sum()


def test_exact_solver_reads_the_genotypes_once(toy: Toy, reads: Counter[int]) -> None:
    operator = toy.operator()
    reads.clear()
    fit_null_model(operator, toy.cohort(), EXACT)
    assert reads[0] == operator.counter.passes == 1


# Reuse


def test_a_known_spectrum_gives_new_traits_the_same_answer_in_fewer_passes(toy: Toy, stochastic: NullModel) -> None:
    names = ("low", "holes")
    fresh, reusing = toy.operator(), toy.operator()
    first = fit_null_model(fresh, toy.cohort(*names), STOCHASTIC)
    known = fit_null_model(reusing, toy.cohort(*names), STOCHASTIC, known=stochastic)
    check_same(known, first, *names)
    assert reusing.counter.passes == known.dataset["n_steps"].values.max()
    assert reusing.counter.flop < fresh.counter.flop / 10


def test_a_known_spectrum_that_was_not_measured_so_far_is_measured_again(
    toy: Toy, caplog: pytest.LogCaptureFixture
) -> None:
    """A trait settled early; one that is mostly genetic needs more steps, and gets what it gets alone."""
    rng = np.random.default_rng(0)
    values, vectors = np.linalg.eigh(toy.K)
    genetic = vectors @ (np.sqrt(np.maximum(values, 0)) * rng.standard_normal(len(values)))
    noise = rng.standard_normal(len(values))
    traits = toy.traits[["low"]].assign(genetic=np.sqrt(0.8) * genetic + np.sqrt(0.2) * noise)
    toy = replace(toy, traits=traits)
    known = fit_null_model(toy.operator(), toy.cohort("low"), STOCHASTIC)
    fresh, reusing = toy.operator(), toy.operator()
    first = fit_null_model(fresh, toy.cohort("genetic"), STOCHASTIC)
    with caplog.at_level("INFO"):
        again = fit_null_model(reusing, toy.cohort("genetic"), STOCHASTIC, known=known)
    assert "too few steps" in caplog.text
    check_same(again, first, "genetic")
    assert reusing.counter.passes <= fresh.counter.passes
    # The model now serves the steps that each of them wants.
    third = toy.operator()
    both = fit_null_model(third, toy.cohort(), STOCHASTIC, known=again)
    check_same(both, first, "genetic")
    check_same(both, known, "low")
    few, many = both.dataset["n_steps"].values.tolist()
    assert few == 4 < many == third.counter.passes


def test_a_spectrum_of_other_settings_is_not_reused(toy: Toy, stochastic: NullModel) -> None:
    other = replace(STOCHASTIC, spectrum=SpectrumConfig(n_pairs=5, seed=2))
    fresh, offered = toy.operator(), toy.operator()
    fit_null_model(fresh, toy.cohort("low"), other)
    fit_null_model(offered, toy.cohort("low"), other, known=stochastic)
    assert offered.counter.passes == fresh.counter.passes


def test_a_spectrum_of_another_arithmetic_is_not_reused(
    toy: Toy, stochastic: NullModel, caplog: pytest.LogCaptureFixture
) -> None:
    fresh, offered = toy.operator(), toy.operator()
    fresh.arithmetic = offered.arithmetic = Float32(name="another")
    known = fit_null_model(fresh, toy.cohort("low"), STOCHASTIC)
    fit_null_model(offered, toy.cohort("low"), STOCHASTIC, known=stochastic)
    assert offered.counter.passes == fresh.counter.passes
    assert "precision" in caplog.text
    again = toy.operator()
    again.arithmetic = Float32(name="another")
    fit_null_model(again, toy.cohort("low"), STOCHASTIC, known=known)
    assert again.counter.passes < fresh.counter.passes


def test_an_estimate_that_turns_round_has_not_settled() -> None:
    """Moves of 2, 1 and 0.03 standard errors: the last is small by chance, and falls by a half are what is to be expected."""
    progress = TraitProgress.__new__(TraitProgress)
    progress.fixed_h2, progress._moved, progress._fall = None, None, 0.0
    settled = []
    for h2 in (0.5, 0.6, 0.55, 0.5515, 0.5516):
        before = getattr(progress, "components", None)
        progress.components = VarianceComponents(h2, 0.05, 0.001, h2, 1 - h2, 1.0, 0.1, 0.0)
        settled.append(progress._has_settled(before))
    assert settled == [False, False, False, False, True]


def test_a_spectrum_without_the_new_traits_mask_serves_as_a_start(toy: Toy) -> None:
    """The whole cohort's pairs are known; only the new set of samples is decomposed."""
    known = fit_null_model(toy.operator(), toy.cohort("half"), STOCHASTIC)
    fresh, reusing = toy.operator(), toy.operator()
    first = fit_null_model(fresh, toy.cohort("gaps"), STOCHASTIC)
    again = fit_null_model(reusing, toy.cohort("gaps"), STOCHASTIC, known=known)
    check_same(again, first, "gaps")
    assert reusing.counter.passes < fresh.counter.passes


# Choices


@pytest.mark.parametrize("config", [EXACT, STOCHASTIC], ids=["exact", "stochastic"])
@pytest.mark.parametrize("h2", [0.0, 0.3])
def test_a_fixed_h2_is_taken(toy: Toy, config: FitConfig, h2: float) -> None:
    model = fit_null_model(toy.operator(), toy.cohort("half", "gaps"), replace(config, fixed_h2=h2))
    K = toy.K
    for name in ("half", "gaps"):
        found, y = trait_of(model, name), toy.y(name)
        assert found["h2"] == h2
        A = dense.complement(~np.isnan(y), toy.design)
        u = A.T @ np.nan_to_num(y)
        variance = u @ np.linalg.solve(A.T @ (h2 * K + (1 - h2) * np.eye(len(K))) @ A, u) / len(u)
        # Steps go on until the total settles to 1 % of the standard error of h², twice.
        rel = 1e-6 if config is EXACT else 1e-2 * found["h2_se"]
        assert found["sigma2_g"] + found["sigma2_e"] == pytest.approx(variance, rel=rel)


@pytest.mark.parametrize(
    "wrong",
    [{"fixed_h2": 1.0}, {"fixed_h2": -0.1}, {"loco_tolerance": 1.0}, {"alpha": -3}, {"spectrum": SpectrumConfig(0)}],
)
def test_impossible_choices_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="must be"):
        FitConfig(**wrong)


def test_auto_takes_the_exact_solver_for_a_toy(toy: Toy, exact: NullModel) -> None:
    model = fit_null_model(toy.operator(), toy.cohort("half"), replace(EXACT, solver="auto"))
    assert model.settings["solver"] == "exact"
    check_same(model, exact, "half")


def test_a_model_without_variants_is_refused(toy: Toy) -> None:
    """The first two variants are monomorphic and never called."""
    with pytest.raises(UserError, match="no variant"):
        fit_null_model(operator_of(toy.store, variants=np.arange(2)), toy.cohort("half"), EXACT)


@pytest.mark.parametrize("n_samples", [12, 40])
def test_cohorts_smaller_than_the_number_of_pairs(toy: Toy, n_samples: int) -> None:
    """Nothing is left for the probes: pairs are all there is, or nearly, and both solvers still answer."""
    traits = toy.traits.iloc[:n_samples][["half", "holes"]]
    cohort = align_cohort(toy.store.sample_id, traits, None)
    models = [
        fit_null_model(operator_of(toy.store, cohort.sample_index), cohort, FitConfig(solver=solver))
        for solver in ("exact", "stochastic")
    ]
    truth, found = (trait_of(model, "half") for model in models)
    assert abs(found["h2"] - truth["h2"]) < 0.1 * truth["h2_se"]


def test_nearly_no_variants_make_a_matrix_of_low_rank(toy: Toy) -> None:
    """Rank 20 of 317: fewer steps than asked for exhaust the space, and nothing becomes NaN."""
    operator = operator_of(toy.store, variants=np.arange(2, 22))
    models = [fit_null_model(operator, toy.cohort("half"), replace(c, loco=False)) for c in (EXACT, STOCHASTIC)]
    truth, found = (trait_of(model, "half") for model in models)
    assert abs(found["h2"] - truth["h2"]) < 0.1 * truth["h2_se"]


# On disk


@pytest.fixture(params=["exact", "stochastic"])
def model(request: pytest.FixtureRequest) -> NullModel:
    return request.getfixturevalue(request.param)


def test_a_saved_model_opens_as_it_was(model: NullModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    opened = open_model(tmp_path)
    pd.testing.assert_frame_equal(opened.h2, model.h2)
    assert opened.settings == model.settings
    assert opened.dataset.attrs == model.dataset.attrs
    assert set(opened.dataset.variables) == set(model.dataset.variables)
    for name in model.dataset.variables:
        np.testing.assert_array_equal(opened.dataset[name].values, model.dataset[name].values)
    for system in range(model.n_systems):
        one, other = opened.spectrum(system), model.spectrum(system)
        np.testing.assert_array_equal(one.pairs.vectors, other.pairs.vectors)
        np.testing.assert_array_equal(one.measure.nodes, other.measure.nodes)
        assert one.measure.trace == other.measure.trace


def test_an_opened_spectrum_is_reused(toy: Toy, stochastic: NullModel, tmp_path: Path) -> None:
    stochastic.save(tmp_path)
    operator = toy.operator()
    found = fit_null_model(operator, toy.cohort("low"), STOCHASTIC, known=open_model(tmp_path))
    check_same(found, stochastic, "low")
    assert operator.counter.passes == found.dataset["n_steps"].values.max()


def test_a_model_of_an_older_format_is_refused(stochastic: NullModel, tmp_path: Path) -> None:
    older = replace(stochastic, dataset=stochastic.dataset.assign_attrs(biolmm_model_format=MODEL_FORMAT - 1))
    older.save(tmp_path)
    with pytest.raises(DamagedStoreError, match=r"format 1 .*fit it again"):
        open_model(tmp_path)


def test_damage_is_named(model: NullModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    file = tmp_path / "null.zarr" / "h2" / "c" / "0"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedStoreError, match="h2"):
        open_model(tmp_path)
    file.unlink()
    with pytest.raises(DamagedStoreError, match="missing"):
        open_model(tmp_path)


def test_no_model_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DamagedStoreError, match="no fitted model"):
        open_model(tmp_path)


def test_converged_pairs_only(toy: Toy) -> None:
    """With one product few pairs converge: those that did not are not used."""
    operator, cohort = toy.operator(), toy.cohort("half")
    spectrum = fit_null_model(operator, cohort, EXACT).spectrum(0)
    config = SpectrumConfig(n_pairs=20, tolerance=0.02, max_products=1)
    [pairs] = leading_pairs(operator, row_keys(cohort.sample_id.tolist()), [spectrum.restriction], config)
    assert len(pairs.values) < 20
    assert np.all(pairs.residuals < 0.02)


def test_probes_are_bounded(stochastic: NullModel) -> None:
    assert stochastic.dataset["n_probes_used"].values.max() <= MAX_PROBES
