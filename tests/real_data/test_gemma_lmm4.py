"""GEMMA's `-lmm 4` on the same mice, every column: each variant with its own λ, Wald, likelihood-ratio and score test.

GEMMA's λ is in units of its own K. `-gk 1` divides by the number of variants p, biolmm by the sum of the variances Σv of
the genotypes, so that GEMMA's λ is ours times p/Σv; `-gk 2` is ours with α = −1 and the scale of the sample.

Tolerances. GEMMA prints seven digits, and stops its search when λ moves by less than about 1e-5 relative, which is what
`l_remle` and `l_mle` are known to. All else is stationary in λ̂ or nearly so; β̂, which is not, moves by 1e-5 of its
standard error, so that effects of less than a tenth of that are compared with it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biolmm.exact import ExactConfig, ExactScan, run_exact
from biolmm.exact.variant_tests import TraitModel
from biolmm.genotypes.operator import NO_CONTIG
from biolmm.results.associations import COLUMN_NAMES, read_associations
from biolmm.schema import EXACT_COLUMNS

NULL = {  # run: log-likelihoods of REML and ML in the null model, from the logs
    "p1.gk1": (-1584.07, -1584.45),
    "p1.gk2": (-1587.33, -1587.7),
}
RUNS = ["p1.gk1", "p1.gk2", pytest.param("p6.gk1", marks=pytest.mark.slow)]
COLUMNS = [*COLUMN_NAMES, *(column.name for column in EXACT_COLUMNS)]


@pytest.mark.parametrize("name", RUNS)
def test_every_column(mice, tmp_path: Path, name: str) -> None:
    theirs = mice.table(f"gemma/{name}.lmm4.assoc.txt.gz", "rs")
    gk1 = name.endswith("gk1")
    cohort = mice.cohort({"p1": "CD8", "p6": "MCH"}[name[:2]], everybody=not gk1)
    operator = mice.operator(cohort, mice.rows(theirs.index), alpha=0.0 if gk1 else -1.0, scale="sample")
    unit = operator.n_variants / operator.m
    scan = ExactScan.of(operator, cohort, operator.source, ExactConfig(loco=False))
    summary = run_exact(scan, tmp_path, tmp_path / "markers")
    assert summary.n_variants == len(theirs)
    ours = read_associations(tmp_path, cohort.trait_names[0], columns=COLUMNS).set_index("rsid").loc[theirs.index]
    if name in NULL:
        model = TraitModel.fit(scan.bases(NO_CONTIG)[0], cohort.y[:, 0])
        assert model.null_log_likelihood == pytest.approx(NULL[name][1], abs=0.0051)
        assert model.components().log_likelihood < 0
    _compare(ours, theirs, unit)


def _compare(ours: pd.DataFrame, theirs: pd.DataFrame, unit: float) -> None:
    """Hold every column to GEMMA's; print how far the worst is."""
    small = theirs["se"].to_numpy()
    error = {
        "beta": np.abs(ours["beta"] - theirs["beta"]) / np.maximum(np.abs(theirs["beta"]), 0.1 * small),
        "se": np.abs(ours["standard_error"] / theirs["se"] - 1),
        "l_remle": np.abs(ours["l_remle"] * unit / theirs["l_remle"] - 1),
        "l_mle": np.abs(ours["l_mle"] * unit / theirs["l_mle"] - 1),
        "logl_H1": np.abs(ours["log_likelihood"] / theirs["logl_H1"] - 1),
    }
    for column, mine in (("p_wald", "neg_log_10_p_value"), ("p_lrt", "neg_log_10_p_lrt"),
                         ("p_score", "neg_log_10_p_score")):  # fmt: skip
        error[column] = np.abs(10.0 ** -ours[mine] / theirs[column] - 1)
    print({name: f"{np.max(values):.1e} (median {np.median(values):.1e})" for name, values in error.items()})
    for name, values in error.items():
        assert np.max(values) < (1e-6 if name == "logl_H1" else 1e-4), name
