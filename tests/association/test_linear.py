"""The plain regression: by definition, and as PLINK 2 computes it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biolmm.association import ScanConfig, prepare_scan
from biolmm.cohort import align_cohort
from biolmm.reml.fit import plain_model
from biolmm.store.convert import convert
from oracles.scan import least_squares, score_everything
from oracles.toy import Toy, operator_of, structured_calls, toy_traits

TRAITS = ("half", "low", "none", "gaps", "holes")


@pytest.fixture(scope="module")
def linear(toy: Toy):
    operator = toy.operator()
    model = plain_model(operator, toy.cohort())
    return score_everything(prepare_scan(operator.source, model, None, ScanConfig(mixed=False, linear=True)))


@pytest.mark.parametrize("name", TRAITS)
def test_least_squares_by_definition(toy: Toy, linear, name: str) -> None:
    found, trait = linear["linear"], TRAITS.index(name)
    truth, p = least_squares(toy.calls, toy.y(name), toy.design)
    np.testing.assert_array_equal(np.isnan(found.beta[:, trait]), np.isnan(truth.beta))
    np.testing.assert_allclose(found.standard_error[:, trait], truth.standard_error, rtol=1e-5)
    t = found.beta[:, trait] / found.standard_error[:, trait]
    # A sum of N products in single precision is off by √N·ε of √N: 2e-5 of t.
    np.testing.assert_allclose(t, truth.beta / truth.standard_error, rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(found.chisq[:, trait], t**2, rtol=1e-10)
    np.testing.assert_allclose(found.neg_log_10_p_value[:, trait], -np.log10(p), rtol=1e-4, atol=2e-5)


def test_alone_and_beside_the_mixed_model(toy: Toy, linear, stochastic) -> None:
    setup = prepare_scan(stochastic.operator.source, stochastic.model, stochastic.operator, ScanConfig(linear=True))
    beside = score_everything(setup)["linear"]
    assert set(linear) == {"linear"}
    for field in ("beta", "standard_error", "neg_log_10_p_value", "frequency"):
        # The same columns in a wider product: sums in another order.
        np.testing.assert_allclose(getattr(beside, field), getattr(linear["linear"], field), rtol=1e-5, atol=2e-5)


def test_equals_plink(tmp_path: Path, write_plink: Callable[..., Path]) -> None:
    """Calls are complete: PLINK drops a sample with a missing call where biolmm sets the call to the mean."""
    plink = shutil.which("plink2")
    if plink is None:
        pytest.skip("plink2 is not installed")
    calls = structured_calls(400, 203, seed=9)
    calls[calls == 3] = 1
    bed = write_plink(calls, contigs=["1"] * 250 + ["2"] * 150)
    ids = [f"S{i}" for i in range(203)]
    traits, covariates = toy_traits(calls, ids)
    for name, table in (("traits", traits), ("covariates", covariates)):
        frame = table.rename_axis("IID").reset_index()
        frame.insert(0, "#FID", [f"F{i}" for i in range(203)])
        frame.to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False, na_rep="NA")
    command = [plink, "--bfile", bed.with_suffix(""), "--pheno", tmp_path / "traits.tsv", "--covar",
               tmp_path / "covariates.tsv", "--glm", "hide-covar", "omit-ref", "--out", tmp_path / "plink"]  # fmt: skip
    subprocess.run([*map(str, command), "--threads", "2", "--memory", "640"], check=True, capture_output=True)
    store = convert([bed], tmp_path / "cohort.zarr")
    operator = operator_of(store)
    model = plain_model(operator, align_cohort(store.sample_id, traits, covariates))
    setup = prepare_scan(operator.source, model, None, ScanConfig(mixed=False, linear=True))
    found = score_everything(setup)["linear"]
    for trait, name in enumerate(TRAITS):
        theirs = pd.read_csv(tmp_path / f"plink.{name}.glm.linear", sep="\t").set_index("ID").loc[store.variant_id]
        assert (theirs["A1"].to_numpy() == store.alt).all()
        assert (theirs["OBS_CT"] == traits[name].notna().sum()).all()
        np.testing.assert_array_equal(np.isnan(found.beta[:, trait]), theirs["BETA"].isna())
        # Six digits are printed.
        t = found.beta[:, trait] / found.standard_error[:, trait]
        np.testing.assert_allclose(found.standard_error[:, trait], theirs["SE"], rtol=1.5e-5)
        np.testing.assert_allclose(t, theirs["T_STAT"], rtol=1.5e-5, atol=2e-5)
        np.testing.assert_allclose(found.neg_log_10_p_value[:, trait], -np.log10(theirs["P"]), rtol=1e-4, atol=2e-5)
