"""Tables of any layout that `biolmm sumstats add` reads, by its rules, as rows to draw or export."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.results.diagnostics import neg_log10_p
from biolmm.sumstats.export.spelling import spell_alleles
from biolmm.sumstats.ingest.alleles import are_valid
from biolmm.sumstats.ingest.effects import read_statistics
from biolmm.sumstats.ingest.fields import Fields
from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.ingest.records import Reader
from biolmm.sumstats.ingest.sources import open_study
from biolmm.sumstats.meta.tails import z_from_neg_log10_p
from biolmm.sumstats.places import Contigs, position_of, rank_of

OTHER_TEST, NO_PLACE, NO_ALLELES = "another test than ADD", "no contig and position", "not two different alleles"

_NO_IDS = (np.array([-1], np.int64), np.array([0], np.uint64))
"""A catalogue without identifiers: places come from the file alone."""


def read_table(path: Path, left_out: Counter[str]) -> Iterator[pd.DataFrame]:
    """Read a table block by block, in its order.

    Parameters
    ----------
    path
        A table, Parquet file or GWAS-VCF.
    left_out
        Is emptied, and counts the lines without a row: of other tests, without a place, without two alleles.

    Raises
    ------
    InputFileError
        When the file is malformed, what is needed is not there, or columns are not what their names say.

    Notes
    -----
    Alleles are the file's, whichever strand. What is impossible in a line is missing, and so is all else of its statistics.
    A statistic without an effect is in the column `z`.
    """
    source = open_study(path)
    rules = Rules(palindromic="trust", exact=True)
    reader = Reader(StudyInput(path), rules, source.layout, Contigs(), _NO_IDS)
    left_out.clear()
    for fields in source.blocks():
        frame = _frame_of(fields, reader, left_out)
        if len(frame):
            yield frame
    reader.ranges.check(str(path))


def _frame_of(fields: Fields, reader: Reader, left_out: Counter[str]) -> pd.DataFrame:
    """Make the rows of a block."""
    found = read_statistics(fields, reader.ranges, n_given=None, exact=True, effects_from_z=False)
    place = reader.places(fields, np.zeros(fields.n, np.int64))
    if fields.n and not fields.has("position") and not place.any():
        raise InputFileError(f"{reader.study.path} has no contig and position, which figures and exports need.")
    alleles = reader.alleles(fields)[0]
    good = np.ones(fields.n, bool)
    for reason, passes in (
        (OTHER_TEST, reader.additive(fields)), (NO_PLACE, place > 0), (NO_ALLELES, are_valid(alleles)),
    ):  # fmt: skip
        if count := int(np.count_nonzero(good & ~passes)):
            left_out[reason] += count
        good &= passes
    rows = np.flatnonzero(good)
    place, alleles = place[rows], alleles.take(rows)
    ranks, contig = np.unique(rank_of(place), return_inverse=True)
    names = np.array([reader.contigs.name(int(rank)) for rank in ranks], object)
    beta, se, tail = found.beta[rows], found.se[rows], found.neg_log10_p[rows]
    only_direction = np.isnan(se)  # its beta is then a sign
    values: dict[str, Any] = {
        "chromosome": names[contig.ravel()], "base_pair_location": position_of(place),
        "effect_allele": spell_alleles(alleles, 0), "other_allele": spell_alleles(alleles, 1),
        "beta": np.where(only_direction, np.nan, beta), "standard_error": se,
        "effect_allele_frequency": found.eaf[rows],
        "neg_log_10_p_value": np.where(np.isnan(tail), neg_log10_p(beta / se), tail),
        "n": found.n[rows], "info": found.info[rows],
    }  # fmt: skip
    if not (fields.has("se") or fields.has("ci_lower")):
        values["z"] = np.copysign(z_from_neg_log10_p(tail), beta)
    if fields.has("rsid"):
        values["rsid"] = _identifiers(fields, rows)
    return pd.DataFrame(values)


def _identifiers(fields: Fields, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Spell identifiers; None where there is none."""
    data, spans = fields.words("rsid")
    words = (data[start:stop].tobytes().decode("utf-8", "replace") for start, stop in spans[rows].tolist())
    return np.array([None if word in ("", ".", "NA", "#NA") else word for word in words], object)
