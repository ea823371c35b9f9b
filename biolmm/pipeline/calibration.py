"""The calibration table of a scan: every trait's statistics regressed on LD scores, written as `ldsc.tsv` for the report."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from biolmm.errors import VariantMismatchError
from biolmm.results.paths import ASSOCIATIONS
from biolmm.results.tables import LDSC_COLUMNS, write_result_table
from biolmm.sumstats.ldsc.calibration import calibration

log = logging.getLogger(__name__)


def write_calibration(results_dir: Path, ld_scores: str) -> pd.DataFrame:
    """Regress the statistics of a results folder on LD scores and write `ldsc.tsv`.

    Parameters
    ----------
    results_dir
        Written by `biolmm gwas` or `scan`.
    ld_scores
        Their prefix, `@` for the chromosome.

    Returns
    -------
    DataFrame
        The table.

    Raises
    ------
    InputFileError
        When there are no LD scores, or no results.
    VariantMismatchError
        When a trait shares too few variants with the LD scores.

    Notes
    -----
    **Cost** one read of the associations and of the LD scores; memory of the variants of the LD scores, a trait at a time.
    """
    found = calibration(results_dir, ld_scores)
    table = found[found["kind"] == ASSOCIATIONS] if (found["kind"] == ASSOCIATIONS).any() else found
    table = table[list(LDSC_COLUMNS)]
    write_result_table(results_dir, "ldsc", table)
    return table


def calibrate_scan(results_dir: Path, ld_scores: str) -> None:
    """Write `ldsc.tsv` at the end of a scan; variants that are not those of the LD scores are a warning by then."""
    try:
        write_calibration(results_dir, ld_scores)
    except VariantMismatchError as error:
        log.warning("no regression on LD scores: %s", error)
