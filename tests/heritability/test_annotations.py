"""Annotation files: tables in the forms that people have, regions, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from biolmm.covariance.variant_sets import LD_COLUMNS
from biolmm.covariance.variant_sets import read_annotations as by_variant
from biolmm.errors import InputFileError, ParameterError, VariantMismatchError
from biolmm.heritability.annotations import read_annotations
from oracles.toy import Toy


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_tables_and_regions_side_by_side(toy: Toy, tmp_path: Path) -> None:
    """Variants are rs0, rs1, …, at positions 1, 2, …; contigs c0 to c3."""
    variants = np.arange(2, 12)
    table = write(tmp_path / "a.annot", "CHR\tBP\tSNP\tCM\tcoding\tscore\n" + "".join(
        f"c0\t{i + 1}\trs{i}\t0\t{int(i < 5)}\t{i / 10}\n" for i in range(9, -1, -1)))  # fmt: skip
    region = write(tmp_path / "gene.bed", "c0\t9\t11\n")
    found = read_annotations([table, region], toy.store, variants)
    assert found.names == ("coding", "score", "gene", "rest")
    np.testing.assert_allclose(found.weights[:, 0], [1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(found.weights[:, 1], [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0, 0])
    np.testing.assert_allclose(found.weights[:, 2], [0, 0, 0, 0, 0, 0, 0, 1, 1, 0])
    np.testing.assert_allclose(found.weights[:, 3], [0] * 9 + [1])
    assert found.n_without_row == 2


def test_without_variants_outside_there_is_no_rest(toy: Toy, tmp_path: Path) -> None:
    table = write(tmp_path / "a.txt", "ID all\n" + "".join(f"rs{i} 1\n" for i in range(5)))
    assert read_annotations([table], toy.store, np.arange(5)).names == ("all",)


def test_columns_of_place_and_ld_scores_are_passed_over_as_by_components(toy: Toy, tmp_path: Path) -> None:
    text = "SNP\tbase\tL2\tA1\tcoding\n" + "".join(f"rs{i}\t1\t{i + 0.5}\tC\t{i % 2}\n" for i in range(5))
    table = write(tmp_path / "a.txt", text)
    assert read_annotations([table], toy.store, np.arange(5)).names == ("coding", "rest")
    assert [c for c in by_variant(table).columns if c.lower() not in LD_COLUMNS] == ["coding"]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", InputFileError, "is empty"),
        ("SNP\n", InputFileError, "no annotation beside"),
        ("SNP\tL2\nrs1\t2\n", InputFileError, "no annotation beside"),
        ("SNP\ta\n", InputFileError, "no variants below"),
        ("name\ta\nrs1\t1\n", InputFileError, "no column of variant ids"),
        ("SNP\ta\nrs1\t1\nrs1\t0\n", InputFileError, "more than once: rs1"),
        ("SNP\ta\nrs1\tx\n", InputFileError, "line 2: annotation 'a' is 'x'"),
        ("SNP\ta\nrs1\t-1\n", InputFileError, "at least 0"),
        ("SNP\ta\nrs1\tinf\n", InputFileError, "at least 0"),
        ("SNP\ta\nrs1\t1\t2\n", InputFileError, "line 2: 3 columns instead of 2"),
        ("SNP\ta\ta\nrs1\t1\t2\n", InputFileError, "names a column twice"),
        ("SNP\ta\nrs1\t0\n", VariantMismatchError, "annotation a"),
        ("SNP\ta\nother\t1\n", VariantMismatchError, "annotation a"),
    ],
)
def test_what_is_refused(toy: Toy, tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_annotations([write(tmp_path / "a.tsv", text)], toy.store, np.arange(10))


def test_names_must_differ(toy: Toy, tmp_path: Path) -> None:
    files = [write(tmp_path / name, "SNP\ta\nrs1\t1\n") for name in ("x.tsv", "y.tsv")]
    with pytest.raises(ParameterError, match="annotations a are there more than once"):
        read_annotations(files, toy.store, np.arange(10))
