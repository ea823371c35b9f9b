from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from biolmm import atomic, schema
from biolmm.errors import DamagedStoreError, InputFileError, OutputError
from biolmm.results.associations import ARROW_SCHEMA, COLUMN_NAMES, patch_rows, read_associations, write_part
from biolmm.results.dataset import open_results
from biolmm.results.paths import list_contigs, list_traits, part_path, quote_name, unquote_name


def columns(positions: list[int], beta: float = 0.5) -> dict[str, NDArray[Any]]:
    n = len(positions)
    return {
        "base_pair_location": np.array(positions, dtype=np.int64),
        "effect_allele": np.array(["A"] * n, dtype=object),
        "other_allele": np.array(["G"] * n, dtype=object),
        "beta": np.full(n, beta),
        "standard_error": np.full(n, 0.1),
        "effect_allele_frequency": np.full(n, 0.3),
        "neg_log_10_p_value": np.arange(n, dtype=float),
        "rsid": np.array([f"rs{p}" for p in positions], dtype=object),
        "n": np.full(n, 100, dtype=np.int32),
        "chisq": np.arange(n, dtype=float) + 0.1,
        "exact": np.zeros(n, dtype=bool),
    }


def write(directory: Path, trait: str, contig: str, part: int, positions: list[int]) -> Path:
    return write_part(directory / "associations", trait, contig, part, columns(positions))


def test_part_has_the_columns_and_types_of_the_schema(tmp_path: Path) -> None:
    path = write(tmp_path, "height", "1", 0, [5, 9])
    table = pq.ParquetFile(path).read()
    assert table.schema.equals(ARROW_SCHEMA)
    assert table.column_names == [column.name for column in schema.ASSOCIATION_COLUMNS]
    assert path == tmp_path / "associations" / "trait=height" / "contig=1" / "part-00000.parquet"
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_variant_id_chromosome_and_info_are_filled_in(tmp_path: Path) -> None:
    write(tmp_path, "height", "7", 0, [5])
    row = read_associations(tmp_path, "height").iloc[0]
    assert (row["variant_id"], row["chromosome"]) == ("7_5_G_A", "7")
    assert np.isnan(row["info"])


def test_nan_is_stored_as_null_and_read_as_nan(tmp_path: Path) -> None:
    values = columns([1, 2]) | {"beta": np.array([np.nan, 0.25])}
    path = write_part(tmp_path / "associations", "t", "1", 0, values)
    assert pq.ParquetFile(path).read().column("beta").null_count == 1
    np.testing.assert_array_equal(read_associations(tmp_path, "t")["beta"], [np.nan, 0.25])


@pytest.mark.parametrize("trait", ["a b", "x/y", "<b>&%", "../..", "=", "été", "50%25", ".", "a~b", "NA"])
def test_any_trait_name_is_one_folder_and_comes_back(tmp_path: Path, trait: str) -> None:
    path = write(tmp_path, trait, "chr 1", 0, [3])
    assert path.parent.parent.parent == tmp_path / "associations"
    assert unquote_name(quote_name(trait)) == trait
    assert list_traits(tmp_path) == [trait]
    assert list_contigs(tmp_path, trait) == ["chr 1"]
    assert len(read_associations(tmp_path, trait)) == 1


def test_arrow_reads_the_tree_as_one_table_with_trait_and_contig(tmp_path: Path) -> None:
    write(tmp_path, "a <b>", "1", 0, [3])
    write(tmp_path, "c/d", "X", 0, [4])
    (tmp_path / "associations" / "trait=c%2Fd" / "contig=X" / ".0123.partial").write_bytes(b"unfinished")
    hive = ds.partitioning(pa.schema([("trait", pa.string()), ("contig", pa.string())]), flavor="hive")
    table = ds.dataset(tmp_path / "associations", partitioning=hive).to_table()
    assert sorted(table.column("trait").to_pylist()) == ["a <b>", "c/d"]
    assert sorted(table.column("contig").to_pylist()) == ["1", "X"]


def test_rows_come_in_genome_order(tmp_path: Path) -> None:
    for contig in ("X", "10", "2", "MT"):
        write(tmp_path, "t", contig, 1, [30, 40])
        write(tmp_path, "t", contig, 0, [10, 20])
    write(tmp_path, "t", "2", 2, [15, 35])
    frame = read_associations(tmp_path, "t", columns=["chromosome", "base_pair_location"])
    assert frame["chromosome"].unique().tolist() == ["2", "10", "X", "MT"]
    assert frame.loc[frame["chromosome"] == "2", "base_pair_location"].tolist() == [10, 15, 20, 30, 35, 40]
    assert list(frame.columns) == ["chromosome", "base_pair_location"]


def test_all_traits_are_named_in_a_first_column(tmp_path: Path) -> None:
    for trait in ("t10", "t2"):
        write(tmp_path, trait, "1", 0, [1, 2])
    frame = read_associations(tmp_path)
    assert frame["trait"].tolist() == ["t2", "t2", "t10", "t10"]
    assert list(frame.columns) == ["trait", *COLUMN_NAMES]


def test_unknown_trait_contig_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="holds no results"):
        read_associations(tmp_path)
    write(tmp_path, "height", "1", 0, [1])
    with pytest.raises(InputFileError, match="no trait 'hieght'; it has height"):
        read_associations(tmp_path, "hieght")
    with pytest.raises(InputFileError, match="no contig '9'"):
        read_associations(tmp_path, "height", "9")


def test_patch_changes_the_rows_asked_for_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, "t", "1", 0, [10, 20, 30])
    write(tmp_path, "t", "1", 1, [15, 25])
    before = read_associations(tmp_path, "t", locate=True)
    chosen = before[before["base_pair_location"].isin([30, 10])].iloc[::-1]
    new = {"chisq": np.array([300.0, np.nan]), "exact": np.array([True, True])}
    patch_rows(Path(chosen["part"].iloc[0]), chosen["row"].to_numpy(), new)
    after = read_associations(tmp_path, "t", locate=True)
    expected = before.copy()
    expected.loc[expected["base_pair_location"] == 30, ["chisq", "exact"]] = [300.0, True]
    expected.loc[expected["base_pair_location"] == 10, ["chisq", "exact"]] = [np.nan, True]
    pd.testing.assert_frame_equal(after, expected)


def test_patch_refuses_rows_and_columns_that_are_not_there(tmp_path: Path) -> None:
    path = write(tmp_path, "t", "1", 0, [1, 2])
    with pytest.raises(ValueError, match="has 2"):
        patch_rows(path, np.array([2]), {"chisq": np.array([1.0])})
    with pytest.raises(ValueError, match="'zscore' is not a column"):
        patch_rows(path, np.array([0]), {"zscore": np.array([1.0])})


def test_a_write_that_fails_leaves_the_old_part_and_no_debris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "t", "1", 0, [1, 2])
    before = path.read_bytes()

    def full(table: pa.Table, where: Path, **options: object) -> None:
        Path(where).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write(tmp_path, "t", "1", 0, [1, 2, 3])
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_error_inside_the_block_publishes_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), atomic.atomic_path(tmp_path / "x.tsv") as aside:
        aside.write_text("half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_missing_and_unknown_columns_are_refused(tmp_path: Path) -> None:
    values = columns([1])
    with pytest.raises(ValueError, match=r"missing columns \['beta'\]"):
        write_part(tmp_path, "t", "1", 0, {k: v for k, v in values.items() if k != "beta"})
    with pytest.raises(ValueError, match=r"unknown columns \['pvalue'\]"):
        write_part(tmp_path, "t", "1", 0, values | {"pvalue": np.ones(1)})


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "t", "1", 0, [1, 2])
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DamagedStoreError, match=r"part-00000.parquet is damaged"):
        read_associations(tmp_path, "t")


def test_dataset_holds_the_same_values_and_reads_only_what_is_indexed(tmp_path: Path) -> None:
    for index, trait in enumerate(("t1", "t2")):
        for contig, part, positions in (("1", 0, [1, 2, 3]), ("1", 1, [4]), ("2", 0, [7, 8])):
            values = columns(positions) | {"beta": 10.0 * index + np.array(positions)}
            write_part(tmp_path / "associations", trait, contig, part, values)
    data = open_results(tmp_path)
    expected = np.array([[1, 2, 3, 4, 7, 8], [11, 12, 13, 14, 17, 18]], dtype=float).T
    assert dict(data.sizes) == {"variants": 6, "traits": 2}
    np.testing.assert_array_equal(data["beta"], expected)
    np.testing.assert_array_equal(data["beta"][2:5, 1], expected[2:5, 1])
    np.testing.assert_array_equal(data["beta"].isel(variants=[5, 0], traits=[1]), expected[[5, 0]][:, [1]])
    assert float(data["beta"].isel(variants=3, traits=0)) == 4.0
    assert data["exact"].dtype == bool
    assert data["chromosome"].values.tolist() == ["1"] * 4 + ["2"] * 2
    part_path(tmp_path / "associations", "t2", "2", 0).write_bytes(b"gone")
    np.testing.assert_array_equal(data["beta"].sel(traits="t1"), expected[:, 0])


def test_dataset_of_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "t1", "1", 0, [1, 2])
    write(tmp_path, "t2", "1", 0, [1])
    with pytest.raises(InputFileError, match="1 variants for trait 't2' but 2 for 't1'"):
        open_results(tmp_path)
