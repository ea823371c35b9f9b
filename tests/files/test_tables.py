"""Tables: every spelling of the same table reads as the same frame; ids stay text."""

from __future__ import annotations

import gzip
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biolmm.errors import InputFileError
from biolmm.files.tables import index_by_sample, read_table

EXPECTED = pd.DataFrame(
    {"height": [1.5, np.nan, -2.25], "site": ["north", "south", np.nan]},
    index=pd.Index(["007", "1e3", "NA"], dtype=object, name="sample_id"),
).astype({"site": object})

SPELLINGS = {
    "tab, FID IID": "FID\tIID\theight\tsite\na\t007\t1.5\tnorth\na\t1e3\tNA\tsouth\nb\tNA\t-2.25\tNA\n",
    "PLINK 2, #FID IID": "#FID IID height site\na 007 1.5 north\na 1e3 nan south\nb NA -2.25 .\n",
    "PLINK 2, #IID": "#IID\theight\tsite\n007\t1.5\tnorth\n1e3\tN/A\tsouth\nNA\t-2.25\t#NA\n",
    "PLINK 2, #IID SID": "#IID\tSID\theight\tsite\n007\t0\t1.5\tnorth\n1e3\t0\tNA\tsouth\nNA\t0\t-2.25\tNA\n",
    "comma, empty fields": "IID,height,site\n007,1.5,north\n1e3,,south\nNA,-2.25,\n",
    "comma, id last": "height,site,sample_id\n1.5,north,007\n,south,1e3\n-2.25,,NA\n",
    "quoted": '"sample_id","height","site"\n"007",1.5,"north"\n"1e3",NA,"south"\n"NA",-2.25,NA\n',
    "quoted, spaces": '"FID" "IID" "height" "site"\n"a" "007" 1.5 "north"\n"a" "1e3" NA "south"\n"b" "NA" -2.25 NA\n',
    "semicolon": "IID;height;site\n007;1.5;north\n1e3;NA;south\nNA;-2.25;null\n",
    "CRLF and byte-order mark": "\ufeffIID\theight\tsite\r\n007\t1.5\tnorth\r\n1e3\tNA\tsouth\r\nNA\t-2.25\tNA\r\n",
    "lone CR": "IID\theight\tsite\r007\t1.5\tnorth\r1e3\tNA\tsouth\rNA\t-2.25\tNA\r",
    "no last line ending": "IID\theight\tsite\n007\t1.5\tnorth\n1e3\tNA\tsouth\nNA\t-2.25\tNA",
    "trailing blanks": "IID height site  \n007 1.5 north \n1e3 NA south\t \n\nNA -2.25 NA  \n\n  \n",
    "trailing tabs": "IID\theight\tsite\t\n007\t1.5\tnorth\t\n1e3\t\tsouth\t\nNA\t-2.25\t\t\n",
    "tabs in the header's ids only": "#FID IID\theight\tsite\na 007\t1.5\tnorth\na 1e3\tNA\tsouth\nb NA\t-2.25\tNA\n",
    "blanks around fields": "IID , height, site\n007 , 1.5 , north\n1e3, NA ,south\nNA, -2.25,NA\n",
    "several blanks": "IID   height  site\n007    1.5   north\n1e3     NA   south\nNA   -2.25      NA\n",
    "remarks": "##made by hand\n#IID\theight\tsite\n007\t1.5\tnorth\n1e3\tNA\tsouth\nNA\t-2.25\tNA\n",
    "lower case": "iid\theight\tsite\n007\t15e-1\tnorth\n1e3\tNULL\tsouth\nNA\t-2.250\tn/a\n",
}


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS.keys())
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_every_spelling_reads_as_the_same_table(tmp_path: Path, text: str, compress: bool) -> None:
    path = tmp_path / "table.txt"
    content = text.encode("utf-8")
    path.write_bytes(gzip.compress(content) if compress else content)
    pd.testing.assert_frame_equal(read_table(path), EXPECTED)


@pytest.mark.parametrize("as_index", [False, True], ids=["column", "index"])
def test_parquet_reads_as_the_same_table(tmp_path: Path, as_index: bool) -> None:
    path = tmp_path / "table.parquet"
    (EXPECTED if as_index else EXPECTED.reset_index(names="IID")).to_parquet(path)
    pd.testing.assert_frame_equal(read_table(path), EXPECTED)


def test_parquet_whole_numbers_truth_values_and_categories(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "IID": [3, 1, 2],
            "count": pd.array([1, None, 3], dtype="Int64"),
            "case": [True, False, True],
            "batch": pd.Categorical(["a", "b", "NA"]),
        }
    )
    frame.to_parquet(tmp_path / "table.parquet")
    table = read_table(tmp_path / "table.parquet")
    assert list(table.index) == ["3", "1", "2"]
    np.testing.assert_array_equal(table["count"], [1, np.nan, 3])
    np.testing.assert_array_equal(table["case"], [1, 0, 1])
    assert table["batch"].tolist()[:2] == ["a", "b"]
    assert pd.isna(table["batch"].iloc[2])


@pytest.mark.parametrize(("default_name", "names"), [("PHENO", ["PHENO1", "PHENO2"]), ("COVAR", ["COVAR1", "COVAR2"])])
def test_plink_files_without_a_header(tmp_path: Path, default_name: str, names: list[str]) -> None:
    path = tmp_path / "plink.pheno"
    path.write_text("1 01 1.5 -9\n1 02 NA 2\n")
    table = read_table(path, default_name=default_name)
    assert list(table.columns) == names
    assert list(table.index) == ["01", "02"]
    np.testing.assert_array_equal(table.to_numpy(), [[1.5, -9], [np.nan, 2]])


def test_minus_nine_is_missing_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    path.write_text("IID a b c\ns1 -9 -9.0 x\ns2 1 2 -9\ns3 -9.5 -9 3\n")
    plain, asked = read_table(path), read_table(path, missing_value=-9)
    np.testing.assert_array_equal(plain["a"], [-9, 1, -9.5])
    np.testing.assert_array_equal(asked["a"], [np.nan, 1, -9.5])
    np.testing.assert_array_equal(asked["b"], [np.nan, 2, np.nan])
    assert asked["c"].isna().tolist() == [False, True, False]
    assert asked["c"].dropna().tolist() == ["x", "3"]


def test_a_missing_code_of_text_leaves_numbers(tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    path.write_text("IID a b\ns1 unknown 1\ns2 1 2\n")
    table = read_table(path, missing_value="unknown")
    assert (table.dtypes == "float64").all()
    np.testing.assert_array_equal(table.to_numpy(), [[np.nan, 1], [1, 2]])


def test_truth_values_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    path.write_text("IID case\ns1 TRUE\ns2 NA\ns3 FALSE\n")
    np.testing.assert_array_equal(read_table(path)["case"], [1, np.nan, 0])


def test_truth_values_are_categories_on_request(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("IID\ta\tb\tn\n1\tTRUE\tFALSE\t1\n2\tFALSE\tNA\t0\n")
    table = read_table(path, truth_as_text=True)
    assert table["a"].tolist() == ["True", "False"]
    assert table["b"].dropna().tolist() == ["False"]
    assert table["n"].tolist() == [1, 0]


def test_the_source_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    path.write_text("IID a\ns1 1\n")
    assert read_table(path).attrs["source"] == str(path)
    assert read_table(str(path)).index.name == "sample_id"


def test_frames_from_python_are_indexed_by_text() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0]}, index=[10, 9])
    assert list(index_by_sample(frame, "the table").index) == ["10", "9"]
    with pytest.raises(InputFileError, match="the table has no sample id column: found a"):
        index_by_sample(frame.reset_index(drop=True), "the table")


IDS = st.text("0123456789.eENAna_-:", min_size=1, max_size=6).filter(lambda text: not text.startswith("##"))


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(IDS, min_size=1, max_size=8, unique=True),
    separator=st.sampled_from(["\t", ",", ";", " "]),
    data=st.data(),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], separator: str, data: st.DataObject
) -> None:
    finite = st.one_of(st.just(np.nan), st.floats(allow_nan=False, allow_infinity=False))
    values = data.draw(hnp.arrays(np.float64, (len(ids), 2), elements=finite))
    path = tmp_path_factory.mktemp("table") / "table.txt"
    rows = [separator.join(["NA" if np.isnan(v) else repr(float(v)) for v in row]) for row in values]
    header = separator.join(["IID", "y1", "y2"])
    path.write_text("\n".join([header, *(f"{name}{separator}{row}" for name, row in zip(ids, rows, strict=True))]))
    table = read_table(path)
    assert list(table.index) == ids
    np.testing.assert_array_equal(table.to_numpy(), values)


def test_mouse_traits(shared_data: Path) -> None:
    table = read_table(shared_data / "mouse_hs1940" / "traits.tsv")
    assert table.shape == (1940, 6)
    assert table.index[0] == "A048005080"
    assert table["CD8"].count() == 1410
    assert table["MCH"].count() == 1580
