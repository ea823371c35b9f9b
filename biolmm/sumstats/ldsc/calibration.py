"""Calibration of a scan: how much of the inflation of its χ² is polygenic, and how much is not."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from biolmm.files.ldscore_files import LdScoreTable, read_ld_scores
from biolmm.results.paths import ASSOCIATIONS, LINEAR
from biolmm.sumstats.ldsc.heritability import estimate_heritability, heritability_table
from biolmm.sumstats.ldsc.join import join
from biolmm.sumstats.ldsc.munge import MungeConfig
from biolmm.sumstats.ldsc.regression import RegressionConfig
from biolmm.sumstats.ldsc.sources import read_traits


def calibration(
    results_dir: Path,
    ld_scores: str | LdScoreTable,
    weights: str | LdScoreTable | None = None,
    *,
    munging: MungeConfig | None = None,
    config: RegressionConfig | None = None,
    common: bool = True,
    effective_n: bool = True,
) -> pd.DataFrame:
    """Regress every trait's χ² of a results folder on LD scores: intercept, ratio, h².

    Parameters
    ----------
    results_dir
        Written by `biolmm gwas`.
    ld_scores, weights
        Prefixes, or tables that were read.
    munging, config, common
        As `munge`, `regress` and `join`; alleles do not matter.
    effective_n
        As `read_traits`.

    Returns
    -------
    DataFrame
        A row a trait and kind (`associations`, the mixed model; `linear`), and the columns of `heritability_table`.
    """
    table = read_ld_scores(ld_scores) if isinstance(ld_scores, str) else ld_scores
    regression = read_ld_scores(weights) if isinstance(weights, str) else weights
    found = []
    for kind in (ASSOCIATIONS, LINEAR):
        if not (results_dir / kind).is_dir():
            continue
        traits = read_traits(results_dir, munging, keep=table, kind=kind, effective_n=effective_n)
        # One at a time: the variants of all traits need not be held together.
        estimates = [
            estimate_heritability(join([trait], table, regression, common=common), config)[0] for trait in traits
        ]
        frame = heritability_table(estimates)
        frame.insert(1, "kind", kind)
        found.append(frame)
    return pd.concat(found, ignore_index=True)
