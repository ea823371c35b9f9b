"""Changes that must not matter: at most 1e-5, in units of z and relative for the standard error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biolmm.association import ScanConfig, prepare_scan
from biolmm.association.score import Statistics
from biolmm.chunks import threads
from biolmm.cohort import align_cohort
from biolmm.files.genotypes import SampleTable, VariantTable, as_strings
from biolmm.pipeline.interactive import fit, scan
from biolmm.reml.fit import FitConfig, fit_null_model
from biolmm.reml.spectrum import SpectrumConfig
from biolmm.store.read import GenotypeStore
from biolmm.store.write import StoreWriter
from oracles.scan import score_everything, with_predictors
from oracles.toy import Calls, operator_of, pack_rows, structured_calls, toy_contigs, toy_traits

CALLS = structured_calls(700, 230, seed=21)
IDS = np.array([f"S{i}" for i in range(230)])
TRAITS, COVARIATES = toy_traits(CALLS, IDS.tolist())
SOLVERS = ["exact", "stochastic"]


@dataclass(frozen=True)
class Genotypes:
    """A cohort that can be turned over."""

    calls: Calls
    variants: np.ndarray
    samples: np.ndarray
    chunk_variants: int = 64

    def write(self, path: Path) -> GenotypeStore:
        """Write a store: contigs of unequal length, every variant with its own position whatever its row."""
        contigs = np.array(toy_contigs(len(CALLS)))
        names = tuple(dict.fromkeys(contigs))
        index = np.array([names.index(c) for c in contigs[self.variants]], np.int32)
        ids = IDS[self.samples]
        text = {a: as_strings([f"{a}{j}" for j in self.variants]) for a in ("rs", "R", "A")}
        table = VariantTable(index, names, 10 * self.variants.astype(np.int64) + 1, text["rs"], text["R"], text["A"])
        samples = SampleTable(ids, ids, np.zeros(len(ids), np.int8))
        writer = StoreWriter.begin(path, samples, table, provenance={}, chunk_variants=self.chunk_variants)
        calls = self.calls[np.ix_(self.variants, self.samples)]
        for chunk in range(writer.n_chunks):
            writer.write_chunk(chunk, pack_rows(calls[slice(*writer.chunk_range(chunk))]))
        return GenotypeStore.open(writer.publish())


BASE = Genotypes(CALLS, np.arange(700), np.arange(230))


def scan_of(store: GenotypeStore, solver: str, traits: pd.DataFrame = TRAITS) -> dict[str, Statistics]:
    """Fit and scan from nothing; statistics in the order of the store."""
    operator = operator_of(store)
    cohort = align_cohort(store.sample_id, traits, COVARIATES)
    config = FitConfig(solver=solver, spectrum=SpectrumConfig(n_pairs=5))  # type: ignore[arg-type]
    model = with_predictors(operator, fit_null_model(operator, cohort, config))
    return score_everything(prepare_scan(operator.source, model, operator, ScanConfig(linear=True)))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Statistics]]:
    store = BASE.write(tmp_path_factory.mktemp("base") / "base.zarr")
    return {solver: scan_of(store, solver) for solver in SOLVERS}


def check_same(
    found: dict[str, Statistics], expected: dict[str, Statistics], *, rows: np.ndarray | None = None,
    traits: list[int] | None = None, sign: float = 1.0,
) -> None:  # fmt: skip
    """Compare rows of `found` with the rows `rows` and the traits `traits` of `expected`."""
    for kind in ("associations", "linear"):
        one, other = found[kind], expected[kind]
        rows = np.arange(len(other.beta)) if rows is None else rows
        where = np.ix_(rows, traits if traits is not None else range(other.beta.shape[1]))
        np.testing.assert_array_equal(np.isnan(one.chisq), np.isnan(other.chisq[where]))
        np.testing.assert_allclose(one.standard_error, other.standard_error[where], rtol=1e-5)
        z, expected_z = one.beta / one.standard_error, (other.beta / other.standard_error)[where]
        np.testing.assert_allclose(z, sign * expected_z, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_swapped_alleles(tmp_path: Path, reference, solver: str) -> None:
    swapped = Genotypes(np.choose(CALLS, [2, 1, 0, 3]).astype(np.uint8), BASE.variants, BASE.samples)
    found = scan_of(swapped.write(tmp_path / "swapped.zarr"), solver)
    check_same(found, reference[solver], sign=-1)
    frequency = reference[solver]["associations"].frequency
    np.testing.assert_allclose(found["associations"].frequency, 1 - frequency, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_order_of_samples(tmp_path: Path, reference, solver: str) -> None:
    shuffled = Genotypes(CALLS, BASE.variants, np.random.default_rng(1).permutation(230))
    check_same(scan_of(shuffled.write(tmp_path / "samples.zarr"), solver), reference[solver])


@pytest.mark.parametrize("solver", SOLVERS)
def test_order_of_variants(tmp_path: Path, reference, solver: str) -> None:
    """Within contigs, and of the contigs."""
    rng = np.random.default_rng(2)
    contigs = np.array(toy_contigs(700))
    variants = np.concatenate([rng.permutation(np.flatnonzero(contigs == c)) for c in ("c0", "c1", "c2", "c3")])
    found = scan_of(Genotypes(CALLS, variants, BASE.samples).write(tmp_path / "variants.zarr"), solver)
    check_same(found, reference[solver], rows=variants)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("chunk_variants", [128, 1024])
def test_size_of_chunks(tmp_path: Path, reference, solver: str, chunk_variants: int) -> None:
    store = Genotypes(CALLS, BASE.variants, BASE.samples, chunk_variants).write(tmp_path / "chunks.zarr")
    check_same(scan_of(store, solver), reference[solver])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("count", [1, 2])
def test_threads(tmp_path: Path, reference, solver: str, count: int) -> None:
    with threads(count):
        found = scan_of(BASE.write(tmp_path / "threads.zarr"), solver)
    check_same(found, reference[solver])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["low", "gaps"])
def test_other_traits_in_the_run(tmp_path: Path, reference, solver: str, name: str) -> None:
    found = scan_of(BASE.write(tmp_path / "alone.zarr"), solver, TRAITS[[name]])
    check_same(found, reference[solver], traits=[list(TRAITS.columns).index(name)])


@pytest.mark.parametrize("solver", SOLVERS)
def test_scan_of_another_store(tmp_path: Path, reference, solver: str) -> None:
    """A store with some of the variants and the samples, and more, in another order gives the same."""
    fitted = BASE.write(tmp_path / "fitted.zarr")
    # The reference is in single precision, too.
    options = {"solver": solver, "n_pairs": 5, "precision": "float32"}
    model = fit(fitted.path, TRAITS, COVARIATES, **options)
    rng = np.random.default_rng(3)
    variants = np.sort(rng.choice(700, 300, replace=False))
    other = Genotypes(CALLS, variants, rng.permutation(230)).write(tmp_path / "other.zarr")
    found, same = (scan(path, model, precision="float32").compute() for path in (other.path, fitted.path))
    assert found["rsid"].values.tolist() == [f"rs{j}" for j in variants]
    z = (found["beta"] / found["standard_error"]).values
    own = (same["beta"] / same["standard_error"]).values
    if solver == "exact":
        np.testing.assert_allclose(z, own[variants], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found["standard_error"], same["standard_error"][variants], rtol=1e-5)
    else:
        # γ is measured on other variants: the same for all variants of a trait and class of frequency.
        ratio = np.log(found["standard_error"].values / same["standard_error"].values[variants])
        assert np.nanmax(np.abs(ratio)) < 0.01
        np.testing.assert_allclose(
            found["beta"] / found["standard_error"] ** 2, (same["beta"] / same["standard_error"] ** 2)[variants],
            rtol=1e-5, atol=1e-5 * float(np.nanmax(1 / same["standard_error"])),
        )  # fmt: skip
    check_same({"associations": _statistics(same), "linear": reference[solver]["linear"]}, reference[solver])


def _statistics(scanned) -> Statistics:
    names = ("beta", "standard_error", "chisq", "neg_log_10_p_value", "effect_allele_frequency")
    return Statistics(*(scanned[name].values for name in names))
