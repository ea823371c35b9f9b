"""sgkit's functions run lazily on our stores and agree with our numbers, as far as both mean the same.

They do not where nothing is said: sgkit has no exact mid-p test, and its relationship matrix of uniform weights per variant
(GCTA's) is not among its estimators, so that K is compared for α = 0, which is VanRaden's, and by its eigenvectors.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import biolmm
from biolmm.errors import InputFileError, OutputError, ParameterError
from biolmm.files.encoding import Encoding, dosages_from_rows
from biolmm.files.vcf import open_vcf
from biolmm.hwe import hwe_exact_p
from biolmm.store.convert import convert_sources
from biolmm.store.from_sgkit import from_sgkit, sgkit_source
from biolmm.store.read import GenotypeStore
from oracles.toy import operator_of
from oracles.vcf_text import Record, vcf_text
from running import Disk, simulate, statistics

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about optional parts of its own
    import sgkit

pytestmark = pytest.mark.filterwarnings("ignore")  # sgkit's and Dask's about each other's future

N_SAMPLES = 150


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """A cohort whose traits are complete: sgkit's regression knows no missing ones."""
    folder = tmp_path_factory.mktemp("sgkit")
    simulate(folder, "--missing", "0", "--missing-genotypes", "0.03", samples=N_SAMPLES)
    return Disk(folder)


@pytest.fixture(scope="module")
def store(disk: Disk) -> GenotypeStore:
    return GenotypeStore.open(disk.store)


@pytest.fixture(scope="module")
def dataset(disk: Disk) -> xr.Dataset:
    lazy = biolmm.to_sgkit(biolmm.open_store(disk.store))
    assert lazy.chunks["variants"][0] == 64  # nothing is computed
    return lazy


@pytest.fixture(scope="module")
def dosages(store: GenotypeStore) -> np.ndarray:
    """(M, N) copies of ALT, NaN = missing."""
    rows = np.concatenate([store.read_rows(chunk) for chunk in range(store.n_chunks)])
    return dosages_from_rows(rows, store.encoding, store.n_samples)


def imputed(dataset: xr.Dataset) -> xr.Dataset:
    """Set missing dosages to the mean of the variant, as biolmm does, in double precision."""
    dosage = dataset.call_dosage.astype(np.float64)
    return dataset.assign(call_dosage=dosage.fillna(dosage.mean("samples")))


def test_variants_are_counted_alike(store: GenotypeStore, dataset: xr.Dataset) -> None:
    stats = sgkit.variant_stats(dataset, merge=False).compute()
    np.testing.assert_array_equal(stats.variant_allele_count[:, 1], store.alt_count)
    np.testing.assert_array_equal(stats.variant_n_het, store.het_count)
    np.testing.assert_array_equal(stats.variant_n_called, N_SAMPLES - store.missing_count)
    np.testing.assert_array_equal(stats.variant_n_hom_alt, (store.alt_count - store.het_count) // 2)
    frequency = store.alt_count / (2 * (N_SAMPLES - store.missing_count))
    np.testing.assert_allclose(stats.variant_allele_frequency[:, 1], frequency, rtol=1e-12)


def test_samples_are_counted_alike(dataset: xr.Dataset, dosages: np.ndarray) -> None:
    stats = sgkit.sample_stats(dataset, merge=False).compute()
    for name, value in (("hom_ref", 0), ("het", 1), ("hom_alt", 2)):
        np.testing.assert_array_equal(stats[f"sample_n_{name}"], (dosages == value).sum(axis=0))
    np.testing.assert_array_equal(stats.sample_n_called, (~np.isnan(dosages)).sum(axis=0))


def test_hardy_weinberg_p_values_are_the_same(store: GenotypeStore, dataset: xr.Dataset) -> None:
    copies = dataset.call_genotype.sum("ploidy")  # −2 where missing; sgkit's own counter takes seconds to compile
    counts = xr.concat([(copies == k).sum("samples") for k in range(3)], "genotypes").T.astype(np.uint64)
    given = dataset.assign(variant_genotype_count=counts).assign_coords(genotypes=["0/0", "0/1", "1/1"])
    found = sgkit.hardy_weinberg_test(given, merge=False).variant_hwe_p_value.values
    hom_alt = (store.alt_count - store.het_count) // 2
    hom_ref = N_SAMPLES - store.missing_count - store.het_count - hom_alt
    expected = hwe_exact_p(hom_ref, store.het_count, hom_alt, midp=False)
    # sgkit sums up to 75 terms and takes those within its own rounding for equal.
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_relatedness_is_vanradens_where_variants_are_only_centred(store: GenotypeStore, dataset: xr.Dataset) -> None:
    given = imputed(dataset)
    given["frequency"] = given.call_dosage.mean("samples") / 2
    found = sgkit.genomic_relationship(given, ancestral_frequency="frequency", merge=False)
    operator = operator_of(store, alpha=0.0)
    dense = operator.dense() / operator.m
    # Ours multiplies in single precision: sums of 320 products.
    np.testing.assert_allclose(found.stat_genomic_relationship.values, dense, rtol=0, atol=320 * 2.0**-24 * dense.max())


def test_principal_components_are_eigenvectors_of_k(store: GenotypeStore, dataset: xr.Dataset) -> None:
    varies = (store.dosage_squares - store.dosage_sum**2 / (N_SAMPLES - store.missing_count)) > 0
    counts = imputed(dataset).call_dosage[np.flatnonzero(varies)]
    given = xr.Dataset({"call_alternate_allele_count": counts.chunk(variants=-1)})
    found = sgkit.pca(given, n_components=5, ploidy=2, scaler="patterson", algorithm="tsqr", merge=False).compute()
    operator = operator_of(store)
    # Patterson's scale is √(p(1−p)), ours √(2p(1−p)); and the variance is over N.
    ZZ = operator.dense()
    values, vectors = np.linalg.eigh(ZZ)
    variance = 2 * values[::-1][:5] / N_SAMPLES
    np.testing.assert_allclose(found.sample_pca_explained_variance, variance, rtol=1e-4)
    gaps = -np.diff(values[::-1][:6])
    scores = found.sample_pca_projection.values / np.linalg.norm(found.sample_pca_projection.values, axis=0)
    cosine = np.abs(np.sum(scores * vectors[:, ::-1][:, :5], axis=0))
    # Davis & Kahan: the angle is at most the error of ZZᵀ over the distance of the eigenvalues.
    error = N_SAMPLES * operator.n_variants * 2.0**-24 * np.abs(ZZ).max()
    assert (1 - cosine < np.maximum((error / np.minimum(gaps, np.append(np.inf, gaps[:-1]))) ** 2, 1e-9)).all()


def test_regressions_are_the_same(disk: Disk, store: GenotypeStore, dataset: xr.Dataset, tmp_path: Path) -> None:
    out = disk.gwas(tmp_path / "out", "--method", "linear-only")
    tables = [
        pd.read_csv(disk.folder / f"toy.{name}.tsv", sep="\t").set_index("IID") for name in ("traits", "covariates")
    ]
    traits, covariates = (table.loc[store.sample_id].drop(columns="FID") for table in tables)
    design = pd.get_dummies(covariates, drop_first=True, dtype=float)
    given = imputed(dataset)
    given["traits"] = (("samples", "trait"), traits.to_numpy())
    given["design"] = (("samples", "covariate"), ((design - design.mean()) / design.std()).to_numpy())
    found = sgkit.gwas_linear_regression(
        given, dosage="call_dosage", covariates="design", traits="traits", merge=False
    ).compute()
    for i, name in enumerate(traits):
        mine = statistics(out, name).set_index("rsid").loc[store.variant_id.tolist()]
        tested = mine["beta"].notna().to_numpy()
        assert tested.sum() > 250
        theirs_t = found.variant_linreg_t_value.values[tested, i]
        # A sum of N products in single precision is off by √N·ε of √N: 2e-5 of t.
        np.testing.assert_allclose(
            (mine["beta"] / mine["standard_error"]).to_numpy()[tested], theirs_t, rtol=2e-5, atol=2e-5
        )
        error = mine["standard_error"].to_numpy()[tested]
        np.testing.assert_allclose(
            mine["beta"].to_numpy()[tested] / error,
            found.variant_linreg_beta.values[tested, i] / error,
            rtol=2e-5,
            atol=4e-5,
        )
        p = -np.log10(found.variant_linreg_p_value.values[tested, i])
        np.testing.assert_allclose(mine["neg_log_10_p_value"].to_numpy()[tested], p, rtol=1e-4, atol=4e-5)


@pytest.fixture(scope="module", params=["dosage8", "dosage16"])
def dosage_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GenotypeStore:
    rng, folder = np.random.default_rng(4), tmp_path_factory.mktemp("dosages")
    values = rng.choice(["0", "0.05", "0.94", "1.5", "2", "."], (90, 11)).tolist()
    records = [Record("X", i + 1, f"v{i}", "A", "C", "DS", row) for i, row in enumerate(values)]
    (folder / "x.vcf").write_text(vcf_text(records))
    return convert_sources([open_vcf(folder / "x.vcf")], folder / "x.zarr", encoding=request.param, chunk_variants=64)


def test_dosages_are_handed_over(dosage_store: GenotypeStore) -> None:
    lazy = biolmm.to_sgkit(biolmm.open_store(dosage_store.path))
    rows = np.concatenate([dosage_store.read_rows(chunk) for chunk in range(dosage_store.n_chunks)])
    expected = dosages_from_rows(rows, dosage_store.encoding, dosage_store.n_samples)
    np.testing.assert_array_equal(lazy.call_dosage.values, expected)
    np.testing.assert_array_equal(lazy.call_dosage_mask.values, np.isnan(expected))
    near = np.abs(expected - np.rint(expected)) < 0.2
    np.testing.assert_array_equal(lazy.call_genotype.sum("ploidy").values, np.where(near, np.rint(expected), -2))
    stats = sgkit.variant_stats(lazy, merge=False)
    np.testing.assert_array_equal(stats.variant_n_called.values, near.sum(axis=1))


@pytest.mark.parametrize("which", ["calls", "dosages"])
def test_there_and_back(which: str, store: GenotypeStore, dosage_store: GenotypeStore, tmp_path: Path) -> None:
    given = store if which == "calls" else dosage_store
    lazy = biolmm.to_sgkit(biolmm.open_store(given.path))
    if which == "calls":
        lazy = lazy.drop_vars(["call_dosage", "call_dosage_mask"])
    back = from_sgkit(lazy, tmp_path / "back.zarr", encoding=given.encoding.value, chunk_variants=64)
    assert back.sample_id.tolist() == given.sample_id.tolist()
    for name in ("contig_id", "variant_contig", "variant_position", "variant_id", "ref", "alt"):
        assert list(getattr(back, name)) == list(getattr(given, name))
    for chunk in range(given.n_chunks):
        np.testing.assert_array_equal(back.read_rows(chunk), given.read_rows(chunk))


def test_a_dataset_that_sgkit_simulates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three alleles, missing and half-missing calls, blocks of one variant."""
    simulated = sgkit.simulate_genotype_call_dataset(
        n_variant=40, n_sample=9, n_allele=3, n_contig=3, missing_pct=0.2, seed=0
    )
    simulated["contig_id"] = (("contigs",), np.array(["7", "8", "X"]))
    simulated["variant_allele"] = ((*simulated.variant_allele.dims,), np.array([["A", "C", "G"]] * 40))
    monkeypatch.setattr("biolmm.store.from_sgkit.MAX_BLOCK_BYTES", 1)
    source = sgkit_source(simulated)
    store = from_sgkit(simulated, tmp_path / "x.zarr")
    genotype = simulated.call_genotype.values
    missing = (genotype < 0).any(axis=2)
    expected = np.stack([np.where(missing, np.nan, (genotype == k).sum(axis=2)) for k in (1, 2)], axis=1).reshape(80, 9)
    found = dosages_from_rows(store.read_rows(0), Encoding.CALLS, 9)
    np.testing.assert_array_equal(found, expected)
    part = source.decoder.read(3, 10, Encoding.DOSAGE8)
    np.testing.assert_array_equal(dosages_from_rows(part.rows, Encoding.DOSAGE8, 9), expected[3:10])


def test_what_is_missing_or_does_not_fit_is_said(tmp_path: Path) -> None:
    simulated = sgkit.simulate_genotype_call_dataset(n_variant=4, n_sample=3, seed=0)
    with pytest.raises(ParameterError, match=r"the Dataset has no variant_position: sgkit's readers make them"):
        from_sgkit(simulated.drop_vars("variant_position"), tmp_path / "x.zarr")
    with pytest.raises(ParameterError, match="no call_genotype, call_dosage or call_genotype_probability"):
        from_sgkit(simulated.drop_vars("call_genotype"), tmp_path / "x.zarr")
    odd = simulated.assign(call_genotype=simulated.call_genotype + 5)
    with pytest.raises(InputFileError, match="variant 1, sample 1: an allele number that is none of its alleles"):
        from_sgkit(odd, tmp_path / "x.zarr")
    from_sgkit(simulated, tmp_path / "y.zarr")
    with pytest.raises(OutputError, match=r"y\.zarr"):
        from_sgkit(simulated, tmp_path / "y.zarr")
    assert from_sgkit(simulated, tmp_path / "y.zarr", overwrite=True).n_variants == 4
