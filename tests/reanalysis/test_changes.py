"""What is said to differ between two releases: loci, h², people, and the tables and page that say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from biolmm.reanalysis.assemble import merged_leads
from biolmm.reanalysis.changes import Changes, compare, expected_sd, verdict
from biolmm.reanalysis.release import Release, TraitRecord
from biolmm.reanalysis.report import page
from biolmm.reanalysis.state import GenotypeState, State
from biolmm.results.associations import write_part
from biolmm.results.tables import write_result_table
from biolmm.schema import LEAD_COLUMNS

WINDOW = 500_000
PLACE = GenotypeState("g.zarr", "f", 10, 5, 64)


def lead(
    position: int, height: float, chromosome: str = "1", n_significant: int = 3, reach: int = 1000
) -> dict[str, Any]:
    """Describe a locus; χ² grows with its height."""
    return {
        "trait": "t", "chromosome": chromosome, "base_pair_location": position, "effect_allele": "A",
        "other_allele": "G", "rsid": f"rs{position}", "effect_allele_frequency": 0.3, "beta": height / 100,
        "standard_error": 0.01, "neg_log_10_p_value": height, "chisq": 4 * height, "chisq_scan": 4 * height,
        "locus_start_bp": position - reach, "locus_end_bp": position + reach, "n_significant": n_significant,
    }  # fmt: skip


def release(
    folder: Path, name: str, leads: list[dict[str, Any]], h2: float = 0.4, se: float = 0.05,
    people: tuple[str, ...] = ("p1", "p2", "p3"), status: str = "computed", variants: tuple[int, ...] = (),
    settings: dict[str, Any] | None = None,
) -> Release:  # fmt: skip
    """Write a release of one trait."""
    path = folder / name
    write_result_table(path, "leads", pd.DataFrame(leads, columns=list(LEAD_COLUMNS)))
    row = {
        "trait": "t",
        "n": len(people),
        "h2": h2,
        "h2_se": se,
        "h2_mc_se": 0.0,
        "sigma2_g": h2,
        "sigma2_e": 1 - h2,
        "lrt_p": 0,
    }
    write_result_table(path, "h2", pd.DataFrame([row]))
    pd.DataFrame({"trait:t": 1.0}, index=pd.Index(people, name="sample_id")).to_parquet(path / "tables.parquet")
    n = len(variants)
    columns = {
        "base_pair_location": np.array(variants, np.int64), "effect_allele": np.array(["A"] * n), "rsid": np.array(["x"] * n),
        "other_allele": np.array(["G"] * n), "n": np.full(n, 3, np.int32), "exact": np.zeros(n, bool),
        **{each: np.full(n, 7.0) for each in ("beta", "standard_error", "effect_allele_frequency", "neg_log_10_p_value", "chisq")},
    }  # fmt: skip
    write_part(path / "associations", "t", "1", 0, columns)
    place = GenotypeState("g.zarr", name, 10, 5, 64)
    state = State("1", "gwas", settings or {"method": "mixed"}, len(people), "", (), "", place, PLACE, {"t": name}, {})
    return Release(path, 1, state, {"t": TraitRecord(status, "because")})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ([lead(10_000, 9)], [lead(10_000, 9.5)], [("same", None)]),
        ([lead(10_000, 9)], [lead(400_000, 9.5)], [("moved", "another lead in the locus")]),
        ([lead(10_000, 9)], [lead(700_000, 9)], [("lost", "crossed"), ("gained", "a new variant")]),
        ([lead(10_000, 9, reach=400_000)], [lead(800_000, 9, reach=400_000)], [("moved", "another lead")]),
        ([lead(10_000, 9)], [lead(10_000, 9, chromosome="2")], [("lost", "crossed"), ("gained", "a new variant")]),
        ([lead(10_000, 9)], [lead(10_000, 7, n_significant=0)], [("lost", "crossed")]),
        # Each lead has one partner, the nearest.
        ([lead(10_000, 9), lead(300_000, 8)], [lead(290_000, 9)], [("lost", "crossed"), ("moved", "another lead")]),
        ([], [], []),
    ],
)  # fmt: skip
def test_loci(tmp_path: Path, before: list[Any], now: list[Any], expected: list[tuple[str, str | None]]) -> None:
    old, new = release(tmp_path, "r1", before, variants=(5,)), release(tmp_path, "r2", now, variants=(10_000,))
    found = compare(new, old, WINDOW).loci
    assert found["status"].tolist() == [status for status, _ in expected]
    for why, (_, part) in zip(found["why"], expected, strict=True):
        assert pd.isna(why) if part is None else part in why


def test_a_lost_locus_says_what_became_of_its_lead(tmp_path: Path) -> None:
    old = release(tmp_path, "r1", [lead(10_000, 9), lead(9_000_000, 8)], variants=(10_000, 9_000_000))
    new = release(tmp_path, "r2", [], variants=(10_000,))
    found = compare(new, old, WINDOW).loci.set_index("position_before")
    assert found.loc[10_000, ["neg_log_10_p_before", "neg_log_10_p"]].tolist() == [9, 7]
    assert found.loc[9_000_000, "why"] == "the variant is not there any more"


def test_traits_that_are_taken_over_are_not_compared(tmp_path: Path) -> None:
    old = release(tmp_path, "r1", [lead(10_000, 9)])
    new = release(tmp_path, "r2", [], status="taken over")
    assert compare(new, old, WINDOW).loci.empty


def test_people_variants_and_settings_are_counted(tmp_path: Path) -> None:
    old = release(tmp_path, "r1", [], people=("p1", "p2"), variants=(1, 2, 3))
    new = release(tmp_path, "r2", [], people=("p2", "p3", "p4"), variants=(2, 3, 4, 5), settings={"method": "linear"})
    found = compare(new, old, WINDOW)
    counts = found.counts.set_index("what")
    assert counts.loc["people", ["before", "now", "added", "removed"]].tolist() == [2, 3, 2, 1]
    assert counts.loc["people", "examples"] == "+p3 +p4 -p1"
    assert counts.loc["variants of contig 1", ["before", "now", "added", "removed"]].tolist() == [3, 4, 2, 1]
    assert found.settings.to_numpy().tolist() == [["method", "mixed", "linear"]]


def test_the_expected_spread_of_h2_is_that_of_efficient_estimates() -> None:
    """Nested people: se₀² − se₁². None in common: the sum. The same: none. Always symmetric."""
    assert expected_sd(0.05, 0.04, 0, 0, 800, 1000, 800) == pytest.approx(np.sqrt(0.05**2 - 0.04**2))
    assert expected_sd(0.05, 0.04, 0, 0, 800, 1000, 0) == pytest.approx(np.hypot(0.05, 0.04))
    assert expected_sd(0.05, 0.05, 0.01, 0.02, 800, 800, 800) == pytest.approx(np.hypot(0.01, 0.02))
    assert expected_sd(0.05, 0.03, 0, 0, 800, 900, 600) == pytest.approx(expected_sd(0.03, 0.05, 0, 0, 900, 800, 600))
    shared = [expected_sd(0.05, 0.04, 0, 0, 800, 1000, n) for n in (0, 200, 400, 800)]
    assert shared == sorted(shared, reverse=True)
    assert verdict(0.1, float("nan")) == "no standard error"
    for se in (float("inf"), float("nan"), 0.0):
        assert verdict(0.1, expected_sd(0.05, se, 0, 0, 800, 1000, 800)) == "no standard error"
        assert verdict(0.1, expected_sd(se, 0.05, 0, 0, 800, 800, 800)) == "no standard error"


@pytest.mark.parametrize(
    ("h2", "expected"), [(0.4, "unchanged"), (0.43, "as expected"), (0.7, "more than new people explain")]
)
def test_changes_of_h2(tmp_path: Path, h2: float, expected: str) -> None:
    old = release(tmp_path, "r1", [], people=("p1", "p2"))
    new = release(tmp_path, "r2", [], h2=h2, se=0.04, people=("p1", "p2", "p3"))
    (row,) = compare(new, old, WINDOW).h2.to_dict("records")
    assert row["verdict"] == expected
    assert row["expected_sd"] == pytest.approx(np.sqrt(0.05**2 - 0.04**2))


def merged(*tables: list[dict[str, Any]]) -> list[tuple[int, int, int, int]]:
    """Merge leads of pieces and return place, extent and size of the loci."""
    found = merged_leads([pd.DataFrame(table, columns=list(LEAD_COLUMNS)) for table in tables], WINDOW)
    assert found is not None
    names = ["base_pair_location", "locus_start_bp", "locus_end_bp", "n_significant"]
    return [tuple(int(value) for value in row) for row in found[names].to_numpy()]  # type: ignore[misc]


def test_leads_of_pieces_are_put_together() -> None:
    far = [lead(10_000, 9)], [lead(10_000, 8, chromosome="X"), lead(5_000_000, 8)]
    assert merged(*far) == [
        (10_000, 9_000, 11_000, 3),
        (5_000_000, 4_999_000, 5_001_000, 3),
        (10_000, 9_000, 11_000, 3),
    ]
    # Within the window the stronger one holds both; two of one piece stay, as that piece decided.
    assert merged([lead(10_000, 9), lead(50_000, 8)], [lead(500_000, 12)]) == [(500_000, 9_000, 501_000, 9)]
    assert merged([lead(10_000, 9), lead(50_000, 8)], []) == [(10_000, 9_000, 11_000, 3), (50_000, 49_000, 51_000, 3)]
    # Without any locus the best variant is named, as one run on everything does.
    none = [lead(10_000, 5, n_significant=0)], [lead(500_000, 6, n_significant=0)]
    assert [place for place, *_ in merged(*none)] == [500_000]
    assert [place for place, *_ in merged(none[0], [lead(9_000_000, 9)])] == [9_000_000]
    assert merged_leads([], WINDOW) is None


def test_the_page_escapes_what_it_quotes(tmp_path: Path) -> None:
    old, new = release(tmp_path, "r1", []), release(tmp_path, "r2", [])
    names = dict.fromkeys(("traits", "loci", "h2", "counts", "settings"), pd.DataFrame())
    changes = compare(new, old, WINDOW)
    settings = pd.DataFrame({"setting": ["a|b"], "before": ["<i>"], "now": ["two\nlines"]})
    text = page(new, old, Changes(**{**{name: getattr(changes, name) for name in names}, "settings": settings}))
    assert "| a\\|b | &lt;i> | two lines |" in text
