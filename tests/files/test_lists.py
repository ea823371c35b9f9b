"""Lists of ids: the same ids from every layout."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from biolmm.files.lists import read_id_list, read_variant_list

SAMPLE_LISTS = {
    "one a line": "007\n1e3\nNA\n",
    "repeated": "007\n1e3\n007\nNA\n",
    "FID IID": "a 007\na 1e3\nb NA\n",
    "fam": "a 007 0 0 1 -9\na 1e3 0 0 2 -9\nb NA 0 0 0 -9\n",
    "header": "IID\n007\n1e3\nNA\n",
    "two headers": "#FID\tIID\na\t007\na\t1e3\nb\tNA\n",
    "id first": "#IID SEX\n007 1\n1e3 2\nNA NA\n",
    "sample_id": "sample_id\n007\n1e3\nNA\n",
    "CRLF, byte-order mark, blanks": "\ufeff007\r\n\r\n1e3  \r\nNA\r\n",
}


@pytest.mark.parametrize("text", SAMPLE_LISTS.values(), ids=SAMPLE_LISTS.keys())
def test_sample_lists(tmp_path: Path, text: str) -> None:
    path = tmp_path / "samples.txt"
    path.write_bytes(text.encode("utf-8"))
    assert read_id_list(path) == ("007", "1e3", "NA")
    path.write_bytes(gzip.compress(text.encode("utf-8")))
    assert read_id_list(path) == ("007", "1e3", "NA")


VARIANT_LISTS = {
    "one a line": "rs1\n1:2_A,T\nrs3\n",
    "header": "SNP\nrs1\n1:2_A,T\nrs3\n",
    "PLINK 2": "#ID\nrs1\n1:2_A,T\nrs3\nrs1\n",
    "one of several columns": "##remark\n#CHROM POS ID\n1 1 rs1\n1 2 1:2_A,T\n1 3 rs3\n",
}


@pytest.mark.parametrize("text", VARIANT_LISTS.values(), ids=VARIANT_LISTS.keys())
def test_variant_lists(tmp_path: Path, text: str) -> None:
    path = tmp_path / "variants.txt"
    path.write_text(text)
    assert read_variant_list(path) == ("rs1", "1:2_A,T", "rs3")
