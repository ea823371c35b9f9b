from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biolmm.errors import ParameterError
from biolmm.results.loci import find_loci


def frame(rows: list[tuple[str, int, float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["chromosome", "base_pair_location", "neg_log_10_p_value"])


def oracle(table: pd.DataFrame, threshold: float, window_bp: int) -> list[tuple[str, int, int, int, int]]:
    """The definition: take the best of what is left, remove what it reaches, repeat."""
    left = table[table["neg_log_10_p_value"] > threshold]
    loci = []
    while len(left):
        best = left.sort_values(
            ["neg_log_10_p_value", "chromosome", "base_pair_location"], ascending=[False, True, True]
        ).iloc[0]
        near = (left["chromosome"] == best["chromosome"]) & (
            (left["base_pair_location"] - best["base_pair_location"]).abs() <= window_bp
        )
        place = left.loc[near, "base_pair_location"]
        loci.append(
            (best["chromosome"], int(best["base_pair_location"]), int(place.min()), int(place.max()), int(near.sum()))
        )
        left = left[~near]
    return sorted(loci)


ROWS = st.lists(
    st.tuples(st.sampled_from(["1", "2"]), st.integers(1, 60), st.sampled_from([0.0, 8.0, 9.0, 10.0])), max_size=40
)


@given(ROWS, st.integers(0, 20))
def test_loci_follow_the_greedy_definition_in_any_row_order(rows: list[tuple[str, int, float]], window_bp: int) -> None:
    table = frame(rows).drop_duplicates(["chromosome", "base_pair_location"])
    wanted = oracle(table, 7.0, window_bp)
    for seed in (0, 1):
        loci = find_loci(table.sample(frac=1.0, random_state=seed), 7.0, window_bp)
        found = loci[["chromosome", "base_pair_location", "locus_start_bp", "locus_end_bp", "n_significant"]]
        assert sorted(map(tuple, found.itertuples(index=False))) == wanted


def test_leads_keep_their_index_and_columns_in_genome_order() -> None:
    table = frame([("10", 5, 9.0), ("2", 7, 8.0), ("X", 1, 20.0)]).assign(rsid=["a", "b", "c"])
    table.index = pd.Index([100, 200, 300])
    loci = find_loci(table, 7.3)
    assert loci.index.tolist() == [200, 100, 300]
    assert loci["rsid"].tolist() == ["b", "a", "c"]


def test_ties_go_to_the_smaller_position() -> None:
    loci = find_loci(frame([("1", 300, 9.0), ("1", 100, 9.0), ("1", 200, 9.0)]), 7.3, 500)
    assert loci["base_pair_location"].tolist() == [100]
    assert loci["n_significant"].tolist() == [3]


def test_threshold_is_exclusive_and_missing_values_are_no_hits() -> None:
    assert len(find_loci(frame([("1", 1, 8.0), ("1", 2, np.nan)]), 8.0)) == 0
    empty = find_loci(frame([]))
    assert {"locus_start_bp", "locus_end_bp", "n_significant"} <= set(empty.columns)


def test_negative_window_is_refused() -> None:
    with pytest.raises(ParameterError, match="must not be negative"):
        find_loci(frame([]), window_bp=-1)
