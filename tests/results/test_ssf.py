from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from biolmm.errors import InputFileError
from biolmm.results.associations import write_part
from biolmm.results.ssf import write_ssf

HEADER = (
    "chromosome\tbase_pair_location\teffect_allele\tother_allele\tbeta\tstandard_error\teffect_allele_frequency\t"
    "neg_log_10_p_value\tvariant_id\trsid\tn\tinfo"
)


def write(directory: Path, contig: str, part: int, rows: list[tuple[int, str, str, float, str]]) -> None:
    n = len(rows)
    place, effect, other, beta, rsid = zip(*rows, strict=True)
    missing = np.isnan(beta)
    columns = {
        "base_pair_location": np.array(place, dtype=np.int64),
        "effect_allele": np.array(effect, dtype=object),
        "other_allele": np.array(other, dtype=object),
        "beta": np.array(beta),
        "standard_error": np.where(missing, np.nan, 0.1),
        "effect_allele_frequency": np.full(n, 0.25),
        "neg_log_10_p_value": np.where(missing, np.nan, 400.5),
        "rsid": np.array(rsid, dtype=object),
        "n": np.full(n, 123, dtype=np.int32),
        "chisq": np.ones(n),
        "exact": np.zeros(n, dtype=bool),
    }
    write_part(directory / "associations", "height & <co>", contig, part, columns)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write(tmp_path, "X", 0, [(7, "A", "C", 0.5, "rs1")])
    write(tmp_path, "MT", 0, [(1, "A", "C", 0.5, "rs1")])
    write(tmp_path, "GL000192.1", 0, [(1, "A", "C", 0.5, "rs1"), (2, "A", "C", 0.5, "rs2")])
    write(tmp_path, "10", 0, [(5, "a", "<DEL>", 1 / 3, "snp7"), (6, "A", "C", np.nan, "rs2")])
    write(tmp_path, "10", 1, [(9, "AT", "C", 0.5, "rs3"), (11, "0", "C", 0.5, "rs4")])
    write(tmp_path, "2", 0, [(3, "G", "T", -0.5, "rs5")])
    return tmp_path


def test_columns_order_numbers_and_missing_values(results: Path) -> None:
    summary = write_ssf(results, "height & <co>", results / "ssf" / "height.tsv.gz")
    lines = gzip.decompress(summary.path.read_bytes()).decode().splitlines()
    assert lines[0] == HEADER
    rows = [line.split("\t") for line in lines[1:]]
    assert [(row[0], row[1]) for row in rows] == [("2", "3"), ("10", "5"), ("10", "9"), ("23", "7"), ("25", "1")]
    assert rows[1] == [
        "10", "5", "A", "LONG_STRING", repr(1 / 3), "0.1", "0.25", "400.5", "#NA", "#NA", "123", "#NA",
    ]  # fmt: skip
    assert rows[2][8:10] == ["10_9_C_AT", "rs3"]
    assert (summary.n_rows, summary.n_without_statistics, summary.n_other_contig, summary.n_other_allele) == (
        5,
        1,
        2,
        1,
    )
    assert summary.is_sorted


def test_metadata_names_the_file_and_its_digest(results: Path) -> None:
    summary = write_ssf(results, "height & <co>", results / "height.tsv.gz")
    text = summary.metadata_path.read_text()
    assert summary.metadata_path.name == "height.tsv.gz-meta.yaml"
    assert f"data_file_md5sum: {hashlib.md5(summary.path.read_bytes()).hexdigest()}" in text.replace('"', "")
    assert 'trait_description:\n  - "height & <co>"' in text
    for line in ("file_type: GWAS-SSF v1.0", 'coordinate_system: "1-based"', "is_sorted: true", "  - sample_size: 123"):
        assert line in text


def test_the_same_results_give_the_same_bytes(results: Path) -> None:
    first = write_ssf(results, "height & <co>", results / "a.tsv.gz").path.read_bytes()
    assert write_ssf(results, "height & <co>", results / "b.tsv.gz").path.read_bytes() == first


def test_unsorted_positions_are_declared(tmp_path: Path) -> None:
    write(tmp_path, "1", 0, [(9, "A", "C", 0.5, "rs1")])
    write(tmp_path, "1", 1, [(4, "A", "C", 0.5, "rs1")])
    assert not write_ssf(tmp_path, "height & <co>", tmp_path / "x.tsv.gz").is_sorted


def test_unknown_trait_leaves_no_file(results: Path) -> None:
    with pytest.raises(InputFileError, match="no trait 'weight'"):
        write_ssf(results, "weight", results / "weight.tsv.gz")
    assert not (results / "weight.tsv.gz").exists()
