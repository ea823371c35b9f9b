"""Simulated cohorts on disk: traits, truth, determinism, resuming, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from biolmm.errors import OutputError, ParameterError
from biolmm.files.bed import bed_files, check_bed, read_bim, read_fam, read_packed_rows
from biolmm.simulate import SimulateConfig, SimulatedFiles, plan_simulate, simulate
from biolmm.simulate.people import make_people
from biolmm.store.read import GenotypeStore

CONFIG = SimulateConfig(
    n_samples=150, n_variants=1000, n_traits=3, h2=(0.0, 0.3, 0.8), missing_genotypes=0.0, n_contigs=5,
    chunk_variants=64, seed=11,
)  # fmt: skip


def calls(path: Path) -> NDArray[np.float64]:
    store = GenotypeStore.open(path)
    packed = np.concatenate([store.read_rows(i) for i in range(store.n_chunks)])
    unpacked = np.stack([packed >> shift & 3 for shift in (0, 2, 4, 6)], axis=-1)
    return unpacked.reshape(len(packed), -1)[:, : store.n_samples].astype(np.float64)


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", dtype={"IID": str, "FID": str, "contig": str})


def tables(files: SimulatedFiles) -> list[bytes]:
    return [p.read_bytes() for p in (files.traits, files.covariates, files.samples, files.truth, files.truth_json)]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> SimulatedFiles:
    return simulate(CONFIG, tmp_path_factory.mktemp("cohort") / "c.zarr")


def test_store_and_tables_agree_on_samples_and_variants(cohort: SimulatedFiles) -> None:
    store = GenotypeStore.open(cohort.store)
    assert (store.n_samples, store.n_variants, store.chunk_variants) == (150, 1000, 64)
    for path in (cohort.traits, cohort.covariates, cohort.samples):
        table = read(path)
        assert table["IID"].tolist() == store.sample_id.tolist()
        assert table["FID"].tolist() == store.family_id.tolist()
    assert read(cohort.traits).columns.tolist() == ["FID", "IID", "trait1", "trait2", "trait3"]
    assert read(cohort.covariates).columns.tolist() == ["FID", "IID", "age", "sex", "batch"]


def test_truth_reproduces_the_genetic_values(cohort: SimulatedFiles) -> None:
    G, store, truth = calls(cohort.store), GenotypeStore.open(cohort.store), read(cohort.truth)
    row = {name: i for i, name in enumerate(store.variant_id.tolist())}
    samples = read(cohort.samples)
    for trait, h2 in zip(CONFIG.trait_names, CONFIG.h2_of_traits, strict=True):
        effects = truth[truth["trait"] == trait]
        rows = effects["variant_id"].map(row).to_numpy(dtype=np.int64)
        assert (store.alt[rows] == effects["effect_allele"].to_numpy()).all()
        assert (store.variant_position[rows] == effects["position"].to_numpy()).all()
        value = effects["beta"].to_numpy() @ G[rows]
        np.testing.assert_allclose(value - value.mean(), samples[f"genetic_{trait}"], rtol=1e-6, atol=1e-7)
        assert value.var() == pytest.approx(h2, rel=1e-9)


def test_realised_heritability_is_what_was_asked(cohort: SimulatedFiles) -> None:
    truth = json.loads(cohort.truth_json.read_text())
    for trait, h2 in zip(CONFIG.trait_names, CONFIG.h2_of_traits, strict=True):
        assert truth["traits"][trait]["realised_h2"] == pytest.approx(h2, abs=1e-9)
    assert truth["config"]["seed"] == 11


def test_environment_follows_ancestry_and_covariates(tmp_path: Path) -> None:
    config = replace(CONFIG, n_samples=600, h2=0.0, n_traits=1, stratification=1.0, covariate_variance=1.0)
    files = simulate(config, tmp_path / "c.zarr")
    y = read(files.traits)["trait1"]
    covariates = read(files.covariates)
    design = np.column_stack(
        [make_people(config).ancestry, covariates["age"], covariates["sex"], pd.get_dummies(covariates["batch"])]
    ).astype(np.float64)[y.notna()]
    y = y[y.notna()]
    residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    assert y.var() == pytest.approx(3, rel=0.25)
    assert residual.var() == pytest.approx(1, rel=0.1)


def test_shared_environment_makes_families_alike(tmp_path: Path) -> None:
    config = replace(CONFIG, n_samples=900, n_traits=1, h2=0.0, shared_environment=0.6, family_fraction=1.0,
                     stratification=0.0, covariate_variance=0.0, missing_traits=0.0)  # fmt: skip
    table = read(simulate(config, tmp_path / "c.zarr").traits)
    within = table.groupby("FID")["trait1"].agg(["var", "size"])
    within = within[within["size"] > 1]
    assert np.average(within["var"], weights=within["size"] - 1) == pytest.approx(0.4, rel=0.2)


def test_missing_traits_have_their_rate(tmp_path: Path) -> None:
    config = replace(CONFIG, n_samples=2000, n_variants=100, missing_traits=0.1)
    table = read(simulate(config, tmp_path / "c.zarr").traits)[list(CONFIG.trait_names)]
    assert table.isna().to_numpy().mean() == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 6000))
    assert table.isna().all(axis=1).mean() < 0.01


def test_sparse_traits_have_so_many_effects_and_even_contigs_none(tmp_path: Path) -> None:
    config = replace(CONFIG, h2=0.3, n_causal=7, n_large=2, causal_contigs="odd")
    truth = read(simulate(config, tmp_path / "c.zarr").truth)
    assert set(truth["contig"]) <= {"1", "3", "5"}
    counts = truth.groupby("trait").size()
    assert len(counts) == 3
    assert counts.between(7, 9).all()


def test_large_effects_explain_their_share(tmp_path: Path) -> None:
    config = replace(CONFIG, n_traits=1, h2=0.5, n_large=5, large_share=0.5)
    files = simulate(config, tmp_path / "c.zarr")
    truth, G = read(files.truth), calls(files.store)
    each = truth["beta"].to_numpy() ** 2 * G.var(axis=1)
    assert np.sort(each)[-5:].sum() / each.sum() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("order", ["reversed", "threads"])
def test_the_cohort_depends_on_neither_chunks_nor_order(cohort: SimulatedFiles, tmp_path: Path, order: str) -> None:
    def mapped(function: Callable[[Any], Any], items: Sequence[Any], /) -> list[Any]:
        if order == "threads":
            with ThreadPoolExecutor(3) as pool:
                return list(pool.map(function, items))
        return [function(item) for item in items[::-1]][::-1]

    other = simulate(replace(CONFIG, chunk_variants=192), tmp_path / "c.zarr", map_tasks=mapped)
    np.testing.assert_array_equal(calls(other.store), calls(cohort.store))
    assert tables(other) == tables(cohort)


def test_killed_and_run_again_it_continues(cohort: SimulatedFiles, tmp_path: Path) -> None:
    def killed(function: Callable[[Any], Any], items: Sequence[Any], /) -> list[Any]:
        for item in items[:3]:
            function(item)
        raise KeyboardInterrupt

    made: list[int] = []

    def watched(function: Callable[[Any], Any], items: Sequence[Any], /) -> list[Any]:
        made.extend(item.index for item in items)
        return [function(item) for item in items]

    out = tmp_path / "c.zarr"
    with pytest.raises(KeyboardInterrupt):
        simulate(CONFIG, out, map_tasks=killed)
    assert not out.exists()
    files = simulate(CONFIG, out, map_tasks=watched)
    assert 0 < len(made) <= 13
    assert min(made) == 3
    assert tables(files) == tables(cohort)
    np.testing.assert_array_equal(calls(files.store), calls(cohort.store))
    assert not list(tmp_path.glob("*.partial"))


def test_bed_files_hold_the_same_calls(tmp_path: Path) -> None:
    config = replace(CONFIG, missing_genotypes=0.05, bed=True)
    files = simulate(config, tmp_path / "c.zarr")
    bed = bed_files(files.bed)
    samples, variants = read_fam(bed.fam), read_bim(bed.bim)
    check_bed(bed, samples.n, variants)
    store = GenotypeStore.open(files.store)
    packed = np.concatenate([store.read_rows(i) for i in range(store.n_chunks)])
    np.testing.assert_array_equal(read_packed_rows(bed.bed, samples.n, 0, variants.n), packed)
    assert samples.sample_id.tolist() == store.sample_id.tolist()
    assert variants.alt.tolist() == store.alt.tolist()


def test_existing_files_are_not_overwritten(cohort: SimulatedFiles, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"c\.zarr.* would be overwritten"):
        simulate(CONFIG, cohort.store)
    (tmp_path / "d.traits.tsv").write_text("mine")
    with pytest.raises(OutputError, match=r"d\.traits\.tsv would be overwritten"):
        simulate(CONFIG, tmp_path / "d.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["d.traits.tsv"]


def test_the_plan_does_not_grow_with_samples_times_variants() -> None:
    small = plan_simulate(SimulateConfig(n_samples=200_000, n_variants=100_000))
    large = plan_simulate(SimulateConfig(n_samples=200_000, n_variants=1_000_000))
    assert large.peak_bytes - small.peak_bytes < 1000 * 900_000
    assert large.written_bytes > 9 * small.written_bytes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"h2": 1.0}, r"h2 of trait1 is 1: it must lie in \[0, 1\)"),
        ({"h2": -0.1}, r"h2 of trait1 is -0\.1"),
        ({"h2": float("nan")}, r"h2 of trait1 is nan"),
        ({"h2": (0.1, 0.2)}, r"h2 has 2 values for 3 traits"),
        ({"h2": 0.5, "shared_environment": 0.5}, r"sum below 1"),
        ({"n_samples": 1}, r"n_samples is 1: it must lie in \[2, "),
        ({"n_variants": 4}, r"4 variants cannot fill 5 contigs"),
        ({"n_traits": 0}, r"n_traits is 0"),
        ({"n_contigs": 23}, r"n_contigs is 23: it must lie in \[1, 22\]"),
        ({"missing_genotypes": 0.7}, r"missing_genotypes is 0\.7"),
        ({"missing_traits": 1.0}, r"missing_traits is 1\.0: it must lie in \[0, 1\)"),
        ({"family_fraction": -0.2}, r"family_fraction is -0\.2"),
        ({"maf_min": 0.5}, r"maf_min is 0\.5"),
        ({"n_causal": 0}, r"n_causal is 0: it must lie in \[1, 1,000\]"),
        ({"n_large": 1001}, r"n_large is 1,001"),
        ({"causal_contigs": "even"}, r"causal_contigs is 'even'"),
        ({"population_weights": (0.5, 0.5)}, r"give 3 positive numbers"),
        ({"ld_bp": 0.0}, r"ld_bp is 0"),
        ({"chunk_variants": 0}, r"chunk_variants is 0"),
        ({"seed": -1}, r"seed is -1"),
    ],
)
def test_values_that_cannot_be_used_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        replace(CONFIG, **changes)


def test_heritable_traits_need_variants_that_vary(tmp_path: Path) -> None:
    config = SimulateConfig(n_samples=2, n_variants=22, n_causal=1, n_traits=20, family_fraction=0.0)
    with pytest.raises(ParameterError, match="none of its causal variants varies among the 2 samples"):
        simulate(config, tmp_path / "c.zarr")
