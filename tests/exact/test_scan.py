"""Whole scans of the exact model: against the definition, the scan of the null model, and themselves in other pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biolmm.cohort import Cohort, align_cohort
from biolmm.errors import ParameterError
from biolmm.exact import ExactConfig, ExactScan, check_size, run_exact
from biolmm.exact import run as exact_run
from biolmm.exact.plan import MAX_SAMPLES, ExactShape, plan_exact
from biolmm.genotypes.filters import VariantFilters
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.reml.fit import FitConfig, fit_null_model
from biolmm.results.associations import COLUMN_NAMES, read_associations
from biolmm.schema import EXACT_COLUMNS
from oracles import exact as oracle
from oracles.scan import imputed, scan_everything, with_predictors
from oracles.toy import Toy, operator_of, structured_calls, toy_traits, write_store

COLUMNS = [*COLUMN_NAMES, *(column.name for column in EXACT_COLUMNS)]
STATISTICS = [name for name in COLUMNS[4:] if name not in ("variant_id", "rsid", "info", "exact")]


def scan_toy(toy: Toy, cohort: Cohort, out: Path, **config: object) -> ExactScan:
    """Run the exact model on everything of a toy."""
    operator = toy.operator()
    scan = ExactScan.of(operator, cohort, operator.source, ExactConfig(**config))  # type: ignore[arg-type]
    h2 = [one.h2 for one in scan.components()] if config.get("fixed_ratio") else ()
    run_exact(scan, out, out / "markers", h2)
    return scan


def results(out: Path, trait: str) -> pd.DataFrame:
    return read_associations(out, trait, columns=COLUMNS)


@pytest.fixture(scope="module")
def scanned(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the results of two traits with LOCO, one with missing values."""
    out = tmp_path_factory.mktemp("exact")
    scan_toy(toy, toy.cohort("half", "gaps"), out)
    return out


@pytest.mark.parametrize("trait", ["half", "gaps"])
def test_variants_are_tested_by_the_definition(toy: Toy, scanned: Path, trait: str) -> None:
    """A few variants of every contig, with K₋c, missing calls at the mean of the cohort, samples without the trait left out."""
    found = results(scanned, trait)
    y = toy.y(trait)
    o = ~np.isnan(y)
    G, X = imputed(toy.calls)[:, o], toy.design[o]
    df = o.sum() - X.shape[1] - 1
    for j in (5, 300, 700, 1000, 1199):
        K = oracle.centred(toy.left_out_K[toy.contigs[j]][np.ix_(o, o)])
        with_g = np.column_stack([G[j], X])
        row = found.iloc[j]
        assert oracle.log_likelihood(np.log(row["l_remle"]), K, y[o], with_g, True) == pytest.approx(
            oracle.maximum(K, y[o], with_g, True)[1], abs=1e-7
        )
        b, inverse, form = oracle.least_squares(row["l_remle"] * K + np.eye(o.sum()), y[o], with_g)
        error = np.sqrt(inverse[0, 0] * form / df)
        # K is summed in single precision.
        np.testing.assert_allclose([row["beta"], row["standard_error"]], [b[0], error], rtol=1e-5, atol=1e-6 * error)
        assert row["log_likelihood"] == pytest.approx(oracle.maximum(K, y[o], with_g, False)[1], abs=1e-4)


def test_variants_without_variance_have_no_statistics(toy: Toy, scanned: Path) -> None:
    found = results(scanned, "half")
    assert found.loc[[0, 1], ["beta", "chisq", "l_remle", "neg_log_10_p_lrt"]].isna().all(axis=None)
    assert found.loc[2:, STATISTICS].notna().all(axis=None)


def test_a_variant_among_the_covariates_has_no_statistics(toy: Toy, tmp_path: Path) -> None:
    ids = toy.store.sample_id.tolist()
    covariates = pd.DataFrame({"g": imputed(toy.calls)[9]}, index=ids)
    scan_toy(toy, align_cohort(ids, toy.traits[["half"]], covariates), tmp_path, loco=False)
    found = results(tmp_path, "half")
    assert np.isnan(found["chisq"][9])
    assert found["chisq"].isna().sum() == 3


@pytest.mark.parametrize("loco", [True, False])
def test_fixed_ratios_are_the_scan_of_the_null_model(toy: Toy, tmp_path: Path, loco: bool) -> None:
    """EMMAX is what `--solver exact` computes by Cholesky factors, whose genotypes are in single precision."""
    cohort, operator = toy.cohort("half", "holes"), toy.operator()
    scan_toy(toy, cohort, tmp_path, loco=loco, fixed_ratio=True)
    model = fit_null_model(operator, cohort, FitConfig(solver="exact", loco=loco))
    expected = scan_everything(operator, with_predictors(operator, model, loco=loco))
    for t, trait in enumerate(cohort.trait_names):
        found = results(tmp_path, trait)
        np.testing.assert_allclose(found["chisq"], expected.chisq[:, t], rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(found["standard_error"], expected.standard_error[:, t], rtol=1e-6)
        np.testing.assert_allclose(found["effect_allele_frequency"], expected.frequency[:, t])


def test_results_do_not_depend_on_chunks_traits_or_order(toy: Toy, scanned: Path, tmp_path: Path) -> None:
    order = np.random.default_rng(3).permutation(toy.store.n_samples)
    ids = toy.store.sample_id[order].tolist()
    contigs = [str(toy.store.contig_id[c]) for c in toy.contigs]
    store = write_store(tmp_path / "other.zarr", toy.calls[:, order], contigs, ids, chunk_variants=1024)
    other = Toy(toy.calls[:, order], toy.contigs, store, toy.traits, toy.covariates)
    scan_toy(other, other.cohort("gaps"), tmp_path / "out")
    one, two = results(scanned, "gaps"), results(tmp_path / "out", "gaps")
    for name in STATISTICS:
        np.testing.assert_allclose(two[name], one[name], rtol=5e-5, atol=1e-6, err_msg=name)


def test_swapped_alleles_swap_the_sign(tmp_path: Path) -> None:
    calls = structured_calls(80, 90)
    found = []
    for name, these in (("one", calls), ("two", np.where(calls == 3, 3, 2 - calls).astype(np.uint8))):
        store = write_store(tmp_path / f"{name}.zarr", these)
        traits, covariates = toy_traits(calls, store.sample_id.tolist())
        toy = Toy(these, store.variant_contig.astype(np.int64), store, traits, covariates)
        scan_toy(toy, toy.cohort("low"), tmp_path / name, loco=False)
        found.append(results(tmp_path / name, "low"))
    np.testing.assert_allclose(found[0]["beta"], -found[1]["beta"], rtol=1e-6)
    np.testing.assert_allclose(found[0]["neg_log_10_p_value"], found[1]["neg_log_10_p_value"], rtol=1e-6)


def test_a_given_matrix_is_used_as_it_is(toy: Toy, tmp_path: Path) -> None:
    """GEMMA's λ is in units of its own K: twice the matrix, half the λ."""
    cohort = toy.cohort("half")
    source = ChosenGenotypes.choose(toy.store, cohort.sample_index, np.arange(2, 40))
    for factor in (1.0, 2.0):
        scan = ExactScan.of_matrix(factor * toy.K, cohort, source, ExactConfig())
        run_exact(scan, tmp_path / str(factor), tmp_path / str(factor) / "m")
    one, two = results(tmp_path / "1.0", "half"), results(tmp_path / "2.0", "half")
    np.testing.assert_allclose(two["l_remle"], one["l_remle"] / 2, rtol=1e-6)
    np.testing.assert_allclose(two["chisq"], one["chisq"], rtol=1e-6)


def test_finished_parts_are_not_tested_again(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan_toy(toy, toy.cohort("half"), tmp_path, loco=False)
    before = results(tmp_path, "half")
    markers = sorted((tmp_path / "markers").iterdir())
    markers[0].unlink()
    next((tmp_path / "associations").rglob("part-00001.parquet")).unlink()
    tested: list[int] = []
    real = exact_run.partition_tests
    monkeypatch.setattr(
        exact_run, "partition_tests", lambda part, panel: tested.append(part.index) or real(part, panel)
    )
    operator = toy.operator()
    scan = ExactScan.of(operator, toy.cohort("half"), operator.source, ExactConfig(loco=False))
    summary = run_exact(scan, tmp_path, tmp_path / "markers")
    assert len(tested) == 2
    assert summary.n_parts - summary.n_resumed == 2
    pd.testing.assert_frame_equal(results(tmp_path, "half"), before)
    monkeypatch.setattr(exact_run, "decompose", lambda *_: pytest.fail("nothing is left to do"))
    again = ExactScan.of(operator, toy.cohort("half"), operator.source, ExactConfig(loco=False))
    assert run_exact(again, tmp_path, tmp_path / "markers").n_resumed == summary.n_parts


def test_filters_and_counts(toy: Toy, tmp_path: Path) -> None:
    operator, cohort = operator_of(toy.store), toy.cohort("half", "gaps")
    config = ExactConfig(loco=False, filters=VariantFilters(min_maf=0.2))
    summary = run_exact(ExactScan.of(operator, cohort, operator.source, config), tmp_path, tmp_path / "m")
    called = toy.calls < 3
    alt, n = np.where(called, toy.calls, 0).sum(axis=1, dtype=int), 2 * called.sum(axis=1)
    kept = 5 * np.minimum(alt, n - alt) >= n  # the variant that nobody has a genotype of passes: nothing is known of it
    assert summary.n_variants == kept.sum()
    assert summary.removed == {"--min-maf": int((~kept).sum())}
    assert summary.n_without_statistics == {"half": 1, "gaps": 1}


def test_large_cohorts_are_refused_with_what_they_would_cost() -> None:
    shape = ExactShape(25_000, 10_000, 10_000, 1, 1, 23, 10**9, 10**9)
    with pytest.raises(
        ParameterError, match=r"at most 20,000 samples, but there are 25,000: 23 eigendecompositions .* hours"
    ):
        check_size(shape)
    plans = plan_exact(ExactShape(MAX_SAMPLES, 10_000, 10_000, 1, 1, 1, 10**9, 10**9))
    assert plans[0].flop > 9 * MAX_SAMPLES**3
    assert plans[0].peak_bytes > 6 * 8 * MAX_SAMPLES**2
