"""Annotations of variants: tables, BED files, bins."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from biolmm.covariance.dominance import dominance_tables, standardise_bent
from biolmm.covariance.variant_sets import (
    VariantSets,
    bed_set,
    contig_sets,
    crossed,
    ld_scores,
    ld_sets,
    maf_sets,
    read_annotations,
    table_sets,
)
from biolmm.errors import InputFileError, VariantMismatchError
from biolmm.genotypes.scaling import Scaling

IDS = np.array(["rs1", "rs2", "rs3"])


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_annotations_are_matched_by_id(tmp_path: Path) -> None:
    table = read_annotations(
        write(tmp_path / "a.annot", "CHR\tBP\tSNP\tCM\tcoding\tL2\n1\t5\trs3\t0\t1\t2.5\n1\t6\trs9\t0\t1\t1\n")
    )
    assert list(table.columns) == ["coding", "L2"]
    sets = table_sets(table, ("coding",), IDS).with_rest()
    assert sets.names == ("coding", "other")
    assert sets.weights.tolist() == [[0, 1], [0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SNP\tcoding\nrs1\tyes\n", "line 2: 'yes' is not a number"),
        ("SNP\tcoding\nrs1\t1\nrs1\t0\n", "repeats variants: rs1"),
        ("name\tcoding\nrs1\t1\n", "needs one column ID"),
        ("SNP\tCHR\nrs1\t1\n", "at least one annotation"),
        ("SNP\tcoding\nrs1\n", "1 fields instead of 2"),
        ("SNP\tcoding\n", "no variants below its header"),
    ],
)
def test_damaged_annotations_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputFileError, match=message):
        read_annotations(write(tmp_path / "a.tsv", text))


def test_annotations_of_other_variants_are_refused(tmp_path: Path) -> None:
    table = read_annotations(write(tmp_path / "a.tsv", "SNP\tcoding\nrs7\t1\n"))
    with pytest.raises(VariantMismatchError, match="None of the 1 variants"):
        table_sets(table, ("coding",), IDS)
    table = read_annotations(write(tmp_path / "b.tsv", "SNP\tcoding\nrs1\t-1\n"))
    with pytest.raises(InputFileError, match="negative"):
        table_sets(table, ("coding",), IDS)


def test_variants_without_a_row_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ids = np.array([f"rs{i}" for i in range(20)])
    for absent, level in ((2, "INFO"), (3, "WARNING")):
        rows = "".join(f"{name}\t1\n" for name in ids[absent:])
        table_sets(read_annotations(write(tmp_path / "a.tsv", f"SNP\tcoding\n{rows}")), ("coding",), ids)
        assert caplog.records[-1].levelname == level
        assert f"{absent} of 20 variants of the model have no value" in caplog.messages[-1]


def test_variants_without_an_ld_score_are_a_set_of_their_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = read_annotations(write(tmp_path / "a.tsv", "SNP\tA1\tL2\nrs3\tG\t-0.5\nrs1\tC\t2.5\nrs9\tA\t1\n"))
    score = ld_scores(table, "L2", IDS)
    np.testing.assert_array_equal(score, [2.5, np.nan, -0.5])
    sets = ld_sets(score, n_bins=2)
    assert sets.names == ("ld:q1", "ld:q2", "ld:unknown")
    assert sets.weights.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert caplog.messages == ["1 of 3 variants have no LD score: they are the set ld:unknown."]
    with pytest.raises(VariantMismatchError, match="None of the 1 variants"):
        ld_scores(table.iloc[2:], "L2", IDS)
    infinite = read_annotations(write(tmp_path / "b.tsv", "SNP\tL2\nrs1\tinf\n"))
    with pytest.raises(InputFileError, match="infinite LD scores"):
        ld_scores(infinite, "L2", IDS)


def test_variants_that_do_not_vary_take_no_place_among_the_quantiles() -> None:
    rng = np.random.default_rng(1)
    score, varies = rng.exponential(size=80), np.arange(80) >= 40
    score[:40] /= 1000  # without one another's ranks these would fill the lower quarters
    score[3] = np.nan
    sets = ld_sets(score, varies=varies)
    assert sets.names == ("ld:q1", "ld:q2", "ld:q3", "ld:q4")
    assert sets.weights[varies].sum(axis=0).tolist() == [10, 10, 10, 10]
    assert not sets.weights[~varies].any()


def test_bins_partition_the_variants() -> None:
    rng = np.random.default_rng(0)
    maf, score = rng.uniform(0, 0.5, 400), rng.exponential(size=400)
    sets = crossed(maf_sets(maf), ld_sets(score))
    assert np.all(sets.weights.sum(axis=1) == 1)
    assert np.all(ld_sets(score).weights.sum(axis=0) == 100)
    assert len(sets.without_empty().names) == 28
    low = maf_sets(maf).weights[:, 0] == 1
    assert maf[low].max() <= 0.01 < maf[~low].min()


def test_regions_and_contigs(tmp_path: Path) -> None:
    path = write(tmp_path / "r.bed", "chr1\t10\t20\n")
    contig, position = np.array([0, 0, 1]), np.array([10, 11, 15])
    assert bed_set(path, "r", ("1", "2"), contig, position).weights.ravel().tolist() == [0, 1, 0]
    assert contig_sets(("1", "2"), contig).names == ("chr:1", "chr:2")
    assert VariantSets(("all",), np.ones((3, 1))).with_rest().names == ("all",)


def test_dominance_is_orthogonal_to_the_additive_code_and_straight_between_calls() -> None:
    p = np.array([0.1, 0.5, 0.8])
    tables = dominance_tables(Scaling(2 * p, np.ones(3), np.ones(3)))
    expected = np.column_stack([(1 - p) ** 2, 2 * p * (1 - p), p**2])
    np.testing.assert_allclose((tables[:, :3] * expected).sum(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose((tables[:, :3] * expected * np.arange(3)).sum(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose((tables[:, :3] ** 2 * expected).sum(axis=1), 1, rtol=1e-6)
    tile = np.empty((1, 5), np.float32)
    standardise_bent(np.array([[0, 50, 100, 150, 255]], np.uint8), tables[:1], 100, 255, tile)
    low, middle, high = tables[0, :3]
    np.testing.assert_allclose(tile[0], [low, (low + middle) / 2, middle, (middle + high) / 2, 0], rtol=1e-6)
