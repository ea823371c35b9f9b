"""Real mice, other software: GCTA 1.94.1's matrix and REML estimates (see the README beside the data)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from biolmm.cohort import Cohort, CohortConfig, align_cohort
from biolmm.files.lists import read_variant_list
from biolmm.files.tables import read_table
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.reml.fit import FitConfig, fit_null_model
from biolmm.reml.model import NullModel
from biolmm.store.convert import convert
from oracles.toy import operator_of

TRAITS = {"CD8": "p1", "MCH": "p6"}


@pytest.fixture(scope="module")
def mice(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[GenotypeOperator, Cohort, Path]:
    folder = shared_data / "mouse_hs1940"
    store = convert([folder / "mouse_hs1940.bed"], tmp_path_factory.mktemp("mouse") / "mouse.zarr")
    traits = read_table(folder / "traits.tsv")
    cohort = align_cohort(store.sample_id, traits, None, CohortConfig(trait_names=tuple(TRAITS)))
    mapped = np.flatnonzero(np.isin(store.variant_id, read_variant_list(folder / "mapped_variants.txt")))
    return operator_of(store, cohort.sample_index, mapped, cache_bytes=2**27), cohort, folder / "gcta"


@pytest.fixture(scope="module")
def exact(mice: tuple[GenotypeOperator, Cohort, Path]) -> NullModel:
    return fit_null_model(mice[0], mice[1], FitConfig(solver="exact"))


def gcta_estimates(folder: Path, trait: str) -> dict[str, tuple[float, ...]]:
    lines = (folder / f"{TRAITS[trait]}.reml.hsq").read_text().splitlines()[1:]
    return {name: tuple(float(value) for value in values) for name, *values in (line.split("\t") for line in lines)}


def test_relatedness_is_gctas(mice: tuple[GenotypeOperator, Cohort, Path]) -> None:
    operator, cohort, folder = mice
    lower = np.fromfile(folder / "m.grm.bin", np.float32)
    ids = [line.split()[1] for line in (folder / "m.grm.id").read_text().splitlines()]
    assert ids == cohort.sample_id.tolist()
    K = operator.dense() / operator.m
    # Both add float32 products: GCTA's file itself is rounded to 6e-8 of values up to 2.
    assert np.abs(K[np.tril_indices(len(ids))] - lower).max() < 1e-5


@pytest.mark.parametrize("trait", TRAITS)
def test_estimates_are_gctas(mice: tuple[GenotypeOperator, Cohort, Path], exact: NullModel, trait: str) -> None:
    """GCTA stops when the log-likelihood moves by less than 1e-4: ĥ² then is within about 1e-2·√2e-4·SE = 5e-6."""
    published = gcta_estimates(mice[2], trait)
    found = exact.components(exact.trait_names.index(trait))
    assert exact.n_observed[exact.trait_names.index(trait)] == published["n"][0]
    assert found.h2 == pytest.approx(published["V(G)/Vp"][0], abs=5e-6)
    assert found.sigma2_g == pytest.approx(published["V(G)"][0], abs=1e-5)
    assert found.sigma2_e == pytest.approx(published["V(e)"][0], abs=5e-6)
    assert found.lrt == pytest.approx(published["LRT"][0], abs=2e-3)
    # GCTA's standard error comes from the average information, ours from the expected: alike, not equal.
    assert found.h2_se == pytest.approx(published["V(G)/Vp"][1], rel=0.06)


def test_stochastic_estimates_of_close_relatives(mice: tuple[GenotypeOperator, Cohort, Path], exact: NullModel) -> None:
    stochastic = fit_null_model(mice[0], mice[1], FitConfig(solver="stochastic"))
    for trait in range(2):
        truth, found = exact.components(trait), stochastic.components(trait)
        assert found.h2_mc_se < 0.1 * found.h2_se
        assert abs(found.h2 - truth.h2) < 4 * found.h2_mc_se + 0.02 * found.h2_se
