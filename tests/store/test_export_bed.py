"""Exported PLINK files hold what the store holds, by the reading of bed-reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bed_reader import open_bed

from biolmm.errors import OutputError, ParameterError
from biolmm.files.genotypes import as_strings
from biolmm.store import export_bed as module
from biolmm.store.collection import Collection
from biolmm.store.convert import convert, convert_sources
from biolmm.store.export_bed import export_bed, plan_export_bed

WritePlink = Callable[..., Path]


@pytest.mark.parametrize("group_bytes", [1, 1000, 2**28])
def test_a_file_set_comes_back_byte_for_byte(
    write_plink: WritePlink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_bytes: int
) -> None:
    monkeypatch.setattr(module, "GROUP_BYTES", group_bytes)
    calls = np.random.default_rng(0).integers(0, 4, (200, 13), dtype=np.uint8)
    bed = write_plink(calls, contigs=["1"] * 120 + ["X"] * 80)
    store = convert([bed], tmp_path / "x.zarr", chunk_variants=64)
    files = export_bed(store, tmp_path / "out")
    for mine, given in zip((files.bed, files.bim), (bed, bed.with_suffix(".bim")), strict=True):
        assert mine.read_bytes() == given.read_bytes()
    fam, expected = (path.read_text().split() for path in (files.fam, bed.with_suffix(".fam")))
    assert fam == expected
    assert plan_export_bed(store).written_bytes == bed.stat().st_size - 3


@pytest.mark.parametrize("encoding", ["dosage8", "dosage16"])
def test_dosages_are_called_within_a_tenth(memory_source: Any, tmp_path: Path, encoding: Any) -> None:
    values = np.array([[0.0, 0.05, 0.12, 0.93, 1.05, np.nan, 1.89, 1.95, 2.0, 1.5]])
    collection = Collection.of([memory_source(values)], encoding=encoding)
    files = export_bed(collection, tmp_path / "out")
    with open_bed(files.bed) as bed:
        assert bed.read(dtype="int8").T.tolist() == [[0, 0, -127, 1, 1, -127, -127, 2, 2, -127]]
        assert bed.iid.tolist() == collection.sample_id.tolist()
        assert bed.allele_1.tolist() == collection.alt.tolist()


def test_files_that_are_there_are_kept_unless_asked(write_plink: WritePlink, tmp_path: Path) -> None:
    bed = write_plink(np.zeros((3, 2), np.uint8))
    store = convert([bed], tmp_path / "x.zarr")
    with pytest.raises(OutputError, match=r"cohort\.bed exists already"):
        export_bed(store, tmp_path / "cohort")
    (tmp_path / "other.fam").write_text("")
    with pytest.raises(OutputError, match=r"other\.fam exists already"):
        export_bed(store, tmp_path / "other")
    assert export_bed(store, tmp_path / "other", overwrite=True).fam.read_text()


def test_names_that_columns_cannot_hold(memory_source: Any, tmp_path: Path) -> None:
    source = memory_source(np.zeros((2, 2)))
    source.variants.variant_id[:] = as_strings(["", "rs 1"])
    source.samples.family_id[:] = ["", "F"]
    store = convert_sources([source], tmp_path / "x.zarr")
    with pytest.raises(ParameterError, match=r"has 1 variant ids with blanks, .*: 'rs 1'"):
        export_bed(store, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
    source.variants.variant_id[:] = as_strings(["", "rs1"])
    files = export_bed(convert_sources([source], tmp_path / "y.zarr"), tmp_path / "out")
    assert files.bim.read_text().splitlines()[0].split("\t")[1] == "."
    assert files.fam.read_text().splitlines()[0].split("\t")[:2] == ["0", "S0"]
