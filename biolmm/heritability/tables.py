"""The tables of this room: tab-separated, every float with all its digits, NA where missing."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from biolmm.atomic import atomic_path
from biolmm.results.tables import MISSING
from biolmm.schema import H2_COLUMNS

LIABILITY_COLUMNS = ("prevalence", "sample_share", "h2_liability", "h2_liability_se")
TABLES: dict[str, tuple[str, ...]] = {
    "h2": (*H2_COLUMNS, "lrt", "log_likelihood", *LIABILITY_COLUMNS),
    "rhe": (
        "trait", "n", "h2", "h2_se", "h2_se_normal", "h2_mc_se", "sigma2_g", "sigma2_e", "n_blocks", "h2_reml", "z_reml",
        "flag", *LIABILITY_COLUMNS,
    ),
    "partitioned": (
        "trait", "annotation", "n_variants", "share_of_variants", "h2", "h2_se", "share_of_h2", "share_of_h2_se",
        "enrichment", "enrichment_se", "enrichment_p", "coefficient", "coefficient_se", "total_h2", "flag",
    ),
    "he": (
        "trait", "n", "kind", "intercept", "intercept_se_ols", "intercept_se_jackknife", "slope", "slope_se_ols",
        "slope_se_jackknife",
    ),
    "rg": (
        "trait_1", "trait_2", "n_1", "n_2", "n_both", "method", "rg", "rg_se", "rg_mc_se", "rg_bounded", "rg0_lrt", "rg0_p",
        "rg1_lrt", "rg1_p", "re", "re_se", "h2_1", "h2_1_se", "h2_2", "h2_2_se", "sigma2_g_1", "sigma2_g_1_se", "cov_g",
        "cov_g_se", "sigma2_g_2", "sigma2_g_2_se", "sigma2_e_1", "sigma2_e_1_se", "cov_e", "cov_e_se", "sigma2_e_2",
        "sigma2_e_2_se", "log_likelihood", "rg_rhe", "rg_rhe_se", "flag",
    ),
}  # fmt: skip
"""Columns by table, in order. A `trait_2` and everything that is not known is NA."""


def write_table(out: Path, name: str, frame: pd.DataFrame) -> Path:
    """Write `out/NAME.tsv` atomically, columns in their fixed order.

    Raises
    ------
    ValueError
        When a column is missing or unknown.
    OutputError
        When the table cannot be written.
    """
    columns = list(TABLES[name])
    if sorted(frame.columns) != sorted(columns):
        raise ValueError(f"{name}.tsv: columns {sorted(set(columns) ^ set(frame.columns))} are missing or unknown")
    path = out / f"{name}.tsv"
    with atomic_path(path) as aside:
        frame[columns].to_csv(aside, sep="\t", index=False, na_rep=MISSING, lineterminator="\n")
    return path


def read_heritability_table(out: Path, name: str) -> pd.DataFrame:
    """Read one of the tables; columns of numbers as numbers."""
    return pd.read_csv(out / f"{name}.tsv", sep="\t", na_values=[MISSING], keep_default_na=False, dtype=_text(name))


def _text(name: str) -> dict[str, type]:
    return {column: str for column in ("trait", "trait_1", "trait_2", "annotation", "method", "kind", "flag")
            if column in TABLES[name]}  # fmt: skip
