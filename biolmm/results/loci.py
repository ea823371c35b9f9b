"""Loci: the strongest variant of each region and how far the region reaches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.errors import ParameterError
from biolmm.results.diagnostics import GENOME_WIDE_NEG_LOG10_P
from biolmm.results.paths import natural_key

LOCUS_COLUMNS = ("locus_start_bp", "locus_end_bp", "n_significant")


@dataclass(frozen=True)
class _Locus:
    lead: int
    start_bp: int
    end_bp: int
    n_significant: int


def find_loci(
    frame: pd.DataFrame, threshold_neg_log10_p: float = GENOME_WIDE_NEG_LOG10_P, window_bp: int = 500_000
) -> pd.DataFrame:
    """Find one lead per locus, greedily by significance.

    The most significant variant that no locus has claimed becomes a lead and claims every unclaimed significant
    variant of its contig within `window_bp` on either side; and so on until none is left. Ties go to the smaller
    position, then to the earlier row, so the answer does not depend on the order in which parts were read.

    Parameters
    ----------
    frame
        Results of one trait: at least `chromosome`, `base_pair_location` and `neg_log_10_p_value`.
    threshold_neg_log10_p
        Significant is above this value.
    window_bp
        Reach of a lead in base pairs.

    Returns
    -------
    DataFrame
        The leads' rows of `frame` with their index and all their columns, in genome order, and `locus_start_bp`,
        `locus_end_bp` (extent of the claimed variants) and `n_significant`. No row when nothing is significant.

    Raises
    ------
    ParameterError
        When `window_bp` is negative.

    Examples
    --------
    >>> frame = pd.DataFrame({"chromosome": ["1"] * 3, "base_pair_location": [100, 200, 900_000],
    ...                       "neg_log_10_p_value": [8.0, 12.0, 9.0]})
    >>> find_loci(frame)[["base_pair_location", "locus_start_bp", "n_significant"]].values.tolist()
    [[200, 100, 2], [900000, 900000, 1]]
    """
    if window_bp < 0:
        raise ParameterError(f"the window of a locus must not be negative, but it is {window_bp:,} bp.")
    significance = frame["neg_log_10_p_value"].to_numpy(dtype=np.float64, na_value=np.nan)
    rows = np.flatnonzero(significance > threshold_neg_log10_p)
    contig = frame["chromosome"].astype(str).to_numpy(dtype=object)[rows]
    position = frame["base_pair_location"].to_numpy(dtype=np.int64)
    loci: list[_Locus] = []
    for name in sorted(set(contig), key=natural_key):
        loci.extend(_greedy(rows[contig == name], position, significance, window_bp))
    leads = frame.iloc[[locus.lead for locus in loci]].copy()
    leads["locus_start_bp"] = np.array([locus.start_bp for locus in loci], dtype=np.int64)
    leads["locus_end_bp"] = np.array([locus.end_bp for locus in loci], dtype=np.int64)
    leads["n_significant"] = np.array([locus.n_significant for locus in loci], dtype=np.int64)
    return leads


def _greedy(
    rows: NDArray[np.intp], position: NDArray[np.int64], significance: NDArray[np.float64], window_bp: int
) -> list[_Locus]:
    """Loci of one contig, by position of the lead."""
    rows = rows[np.argsort(position[rows], kind="stable")]
    place = position[rows]
    claimed = np.zeros(rows.size, dtype=bool)
    loci: list[_Locus] = []
    for lead in np.argsort(-significance[rows], kind="stable"):
        if claimed[lead]:
            continue
        first = np.searchsorted(place, place[lead] - window_bp, side="left")
        last = np.searchsorted(place, place[lead] + window_bp, side="right")
        members = first + np.flatnonzero(~claimed[first:last])
        claimed[first:last] = True
        loci.append(_Locus(int(rows[lead]), int(place[members[0]]), int(place[members[-1]]), members.size))
    return sorted(loci, key=lambda locus: (int(position[locus.lead]), locus.lead))
