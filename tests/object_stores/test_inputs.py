"""Genotype files, tables and lists on an object store are read like local ones."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from biolmm.errors import InputFileError
from biolmm.files.encoding import Encoding
from biolmm.files.formats import expand, open_source
from biolmm.files.lists import read_id_list, read_variant_list
from biolmm.files.tables import read_table
from biolmm.places import ObjectPath
from biolmm.store.convert import convert
from biolmm.store.read import GenotypeStore
from object_stores.conftest import Flaky


def put_all(folder: Path, bucket: ObjectPath) -> None:
    for path in folder.iterdir():
        (bucket / path.name).upload(path)


def rows_of(store: GenotypeStore) -> list[bytes]:
    return [store.read_rows(i).tobytes() for i in range(store.n_chunks)]


def test_file_sets_are_converted_from_one_store_to_another(
    write_plink: Any, bucket: ObjectPath, tmp_path: Path, flaky: Flaky
) -> None:
    rng = np.random.default_rng(1)
    for contig in ("2", "10"):
        write_plink(rng.integers(0, 4, (80, 45), dtype=np.uint8), name=f"chr{contig}", contigs=[contig] * 80)
    put_all(tmp_path, bucket)
    local = convert(sorted(tmp_path.glob("*.bed")), tmp_path / "x.zarr", chunk_variants=64)
    with flaky(seed=6):
        assert [path.name for path in expand([f"{bucket}/chr*.bed"])] == ["chr2.bed", "chr10.bed"]
        assert [path.name for path in expand([f"{bucket}/chr{{2,10}}.bed"])] == ["chr2.bed", "chr10.bed"]
        remote = convert(expand([f"{bucket}/chr*.bed"]), bucket / "x.zarr", chunk_variants=64)
    assert rows_of(remote) == rows_of(local)
    assert remote.sample_id.tolist() == local.sample_id.tolist()
    assert remote.variant_id.tolist() == local.variant_id.tolist()
    again = convert(expand([f"{bucket}/chr*.bed"]), bucket / "x.zarr", chunk_variants=64)
    assert again.attributes == remote.attributes  # recognised: nothing was converted
    (bucket / "chr2.bed").write_bytes((tmp_path / "chr2.bed").read_bytes()[:-1])
    with pytest.raises(InputFileError, match=r"s3://test\w+/chr2\.bed is truncated"):
        open_source(f"{bucket}/chr2.bed")
    with pytest.raises(InputFileError, match=r"chr3\.bed: no such file"):
        open_source(f"{bucket}/chr3.bed")
    with pytest.raises(InputFileError, match=r"'s3://test\w+/x\*\.bed' matches no file"):
        expand([f"{bucket}/x*.bed"])


def test_a_short_fam_is_noticed(write_plink: Any, bucket: ObjectPath, tmp_path: Path) -> None:
    write_plink(np.ones((90, 46), np.uint8), name="a")
    lines = (tmp_path / "a.fam").read_text().splitlines(keepends=True)
    (tmp_path / "a.fam").write_text("".join(lines[:-1]))
    put_all(tmp_path, bucket)
    with pytest.raises(InputFileError, match="holds calls of more than the 45 samples"):
        open_source(bucket / "a.bed")


def test_bgen(write_plink: Any, bucket: ObjectPath, tmp_path: Path) -> None:
    plink = shutil.which("plink2")
    if plink is None:
        pytest.skip("plink2 is not installed")
    calls = np.random.default_rng(2).integers(0, 3, (70, 40), dtype=np.uint8)
    write_plink(calls, name="a")
    command = [plink, "--bfile", "a", "--export", "bgen-1.2", "bits=8", "--out", "a", "--threads", "1"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    put_all(tmp_path, bucket)
    local, remote = open_source(tmp_path / "a.bgen"), open_source(bucket / "a.bgen")
    assert remote.variants.variant_id.tolist() == local.variants.variant_id.tolist()
    for start, stop in ((0, 70), (13, 29)):
        found, expected = (source.decoder.read(start, stop, Encoding.DOSAGE8) for source in (remote, local))
        np.testing.assert_array_equal(found.rows, expected.rows)


@pytest.mark.parametrize("name", ["x.pgen", "x.vcf.gz", "x.bcf"])
def test_formats_that_need_local_files_say_so(bucket: ObjectPath, name: str) -> None:
    (bucket / name).write_bytes(b"x")
    with pytest.raises(InputFileError, match=r"must be local\. Copy it first \(aws s3 cp s3://test"):
        open_source(bucket / name)


def test_tables_and_lists(bucket: ObjectPath, tmp_path: Path, flaky: Flaky) -> None:
    text = "IID\theight\nS1\t1.5\nS2\tNA\n"
    frame = pd.DataFrame({"IID": ["S1", "S2"], "height": [1.5, np.nan]})
    frame.to_parquet(tmp_path / "t.parquet")
    (bucket / "t.tsv").write_text(text)
    (bucket / "t.tsv.gz").write_bytes(gzip.compress(text.encode()))
    (bucket / "t.parquet").upload(tmp_path / "t.parquet")
    (bucket / "keep.txt").write_text("F1 S1\nF2 S2\n")
    (bucket / "extract.txt").write_text("rs1\nrs2\n")
    with flaky(seed=7):
        for name in ("t.tsv", "t.tsv.gz", "t.parquet"):
            table = read_table(f"{bucket}/{name}")
            assert table.attrs["source"] == f"{bucket}/{name}"
            assert table.index.tolist() == ["S1", "S2"]
            np.testing.assert_array_equal(table["height"], [1.5, np.nan])
        assert read_id_list(f"{bucket}/keep.txt") == ("S1", "S2")
        assert read_variant_list(f"{bucket}/extract.txt") == ("rs1", "rs2")
    for read in (read_table, read_id_list, read_variant_list):
        with pytest.raises(InputFileError, match=r"'s3://test\w+/none' does not exist"):
            read(f"{bucket}/none")
        with pytest.raises(InputFileError, match="there is no bucket"):
            read("s3://no-such-bucket/none")
