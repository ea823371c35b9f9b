"""GEMMA itself, run here on a cohort of ours with covariates, missing calls and missing traits: every column of `-lmm 4`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biolmm.cohort import CohortConfig, align_cohort
from biolmm.exact import ExactConfig, ExactScan, run_exact
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.results.associations import COLUMN_NAMES, read_associations
from biolmm.schema import EXACT_COLUMNS
from biolmm.store.convert import convert
from oracles import dense
from oracles.toy import structured_calls, toy_traits


@pytest.fixture(scope="module")
def gemma() -> str:
    """Find GEMMA; skip where it is not installed."""
    found = shutil.which("gemma")
    if found is None:
        pytest.skip("gemma is not installed")
    return found


def test_every_column_with_covariates(gemma: str, write_plink, tmp_path: Path) -> None:
    calls = structured_calls(400, 150, seed=11)[2:]
    ids = [f"S{i}" for i in range(150)]
    bed = write_plink(calls, sample_ids=ids)
    traits, covariates = toy_traits(calls, ids)
    y = traits["gaps"]
    # GEMMA takes the mean of a missing call over the samples with the trait: our cohort is those.
    keep = tuple(y.index[y.notna()])
    K = dense.relatedness(calls)
    np.savetxt(tmp_path / "K.txt", K, fmt="%.17g")
    fam = pd.read_csv(bed.with_suffix(".fam"), sep=" ", header=None)
    fam[5] = ["NA" if np.isnan(one) else repr(float(one)) for one in y]
    fam.to_csv(bed.with_suffix(".fam"), sep=" ", header=False, index=False)
    design = covariates.assign(one=1.0)[["one", "age", "sex"]]
    np.savetxt(tmp_path / "X.txt", design.to_numpy(), fmt="%.17g")
    files = ["-k", "K.txt", "-c", "X.txt", "-miss", "1", "-maf", "0", "-outdir", str(tmp_path), "-o", "run"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    command = [gemma, "-bfile", str(bed.with_suffix("")), *files, "-lmm", "4"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env=environment)
    theirs = pd.read_csv(tmp_path / "run.assoc.txt", sep="\t").set_index("rs")

    store = convert([bed], tmp_path / "store.zarr", chunk_variants=64)
    cohort = align_cohort(store.sample_id, traits[["gaps"]], covariates, CohortConfig(keep=keep))
    source = ChosenGenotypes.choose(store, cohort.sample_index)
    chosen = np.ix_(cohort.sample_index, cohort.sample_index)
    run_exact(ExactScan.of_matrix(K[chosen], cohort, source, ExactConfig(loco=False)), tmp_path, tmp_path / "m")
    columns = [*COLUMN_NAMES, *(column.name for column in EXACT_COLUMNS)]
    ours = read_associations(tmp_path, "gaps", columns=columns).set_index("rsid").loc[theirs.index]
    assert len(theirs) == len(calls)
    known = np.maximum(np.abs(theirs["beta"]), 0.1 * theirs["se"])
    assert (np.abs(ours["beta"] - theirs["beta"]) < 1e-4 * known).all()
    np.testing.assert_allclose(ours["standard_error"], theirs["se"], rtol=1e-4)
    np.testing.assert_allclose(ours["log_likelihood"], theirs["logl_H1"], rtol=1e-6)
    for column in ("l_remle", "l_mle"):
        np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-4, err_msg=column)
    pairs = (("neg_log_10_p_value", "p_wald"), ("neg_log_10_p_lrt", "p_lrt"), ("neg_log_10_p_score", "p_score"))
    for mine, column in pairs:
        np.testing.assert_allclose(10.0 ** -ours[mine], theirs[column], rtol=1e-4, err_msg=column)
