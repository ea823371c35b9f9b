"""What users get wrong in tables, lists and choices: each with the beginning of its one line."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from biolmm.cohort import CohortConfig, align_cohort
from biolmm.errors import (
    CovariateError,
    InputFileError,
    ParameterError,
    SampleMismatchError,
    TraitError,
    UserError,
)
from biolmm.files.lists import read_id_list, read_variant_list
from biolmm.files.tables import read_table


def check_message(error: UserError, beginning: str) -> None:
    """A message is one line, begins as expected and ends as a sentence."""
    message = str(error)
    assert message.startswith(beginning), message
    assert "\n" not in message
    assert message.endswith((".", "?"))
    assert error.exit_code == 2


BAD_TABLES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "'{path}' is empty: a header and one row a sample are needed"),
    "blank lines only": (b"\n \n\r\n", "'{path}' is empty"),
    "header only": (b"IID y\n", "'{path}' has a header but no samples below it"),
    "no id column": (b"name\theight\nS1\t1\n", "'{path}' has no sample id column: its header is name, height (tab-"),
    "two id columns": (b"IID,sample_id,y\na,a,1\n", "'{path}' has 2 sample id columns (IID, sample_id): keep one"),
    "ids only": (b"FID IID\na a\n", "'{path}' has only sample ids (FID, IID): no column of values"),
    "ids only, no header": (b"S1\nS2\n", "'{path}' has no sample id column: its header is S1"),
    "short row": (
        b"IID y z\na 1 2\nb 1\n",
        "'{path}', line 3: the header has 3 fields (whitespace-separated), this line 2",
    ),
    "long row": (
        b"IID,y\na,1\n\nb,1,2\n",
        "'{path}', line 4: the header has 2 fields (comma-separated), this line 3",
    ),
    "row names": (
        b'"IID" "y"\n"1" "a" 2\n',
        "'{path}', line 2: the header has 2 fields (whitespace-separated), this line 3",
    ),
    "spaces below tabs": (b"IID\ty\na 1\n", "'{path}', line 2: the header has 2 fields (tab-separated), this line 1"),
    "repeated id": (b"IID y\na 1\nb 2\na 3\n", "'{path}' repeats 1 of 2 sample ids: a. Keep one row"),
    "same IID in two families": (b"FID IID y\n1 a 1\n2 a 2\n", "'{path}' repeats 1 of 1 sample ids: a."),
    "many repeated ids": (
        b"IID y\n" + b"".join(b"s%d 1\n" % (number // 2) for number in range(14)),
        "'{path}' repeats 7 of 7 sample ids: s0, s1, s2, s3, s4 and 2 more.",
    ),
    "empty id": (b"IID\ty\na\t1\n\t2\n", "'{path}' has no sample id in 1 of 2 rows, the first at line 3."),
    "repeated column": (b"IID y z y\na 1 2 3\n", "'{path}' has repeated column names: y. Rename"),
    "unnamed column": (b"IID,,y\na,1,2\n", "'{path}' has no name for 1 of its columns"),
    "zero byte": (b"IID y\na \x00\n", "'{path}', line 2: holds a zero byte, so this is not a text file"),
    "not UTF-8": (
        b"IID y\na Z\xfcrich\n",
        "'{path}', after line 0: byte 0xfc is not UTF-8 text. Save",
    ),
    "UTF-16": ("IID y\na 1\n".encode("utf-16"), "'{path}' is UTF-16 text: save it as UTF-8"),
    "spreadsheet": (b"PK\x03\x04rest", "'{path}' is a zip archive or a spreadsheet (.xlsx)"),
    "zstd": (b"\x28\xb5\x2f\xfdrest", "'{path}' is compressed with zstd"),
    "truncated gzip": (gzip.compress(b"IID y\na 1\n")[:-9], "'{path}' is a damaged or truncated gzip file"),
    "damaged gzip": (gzip.compress(b"IID y\na 1\n")[:-8] + bytes(8), "'{path}' is a damaged or truncated gzip file"),
    "damaged Parquet": (b"PAR1 not really", "'{path}' is a damaged Parquet file ("),
}


@pytest.mark.parametrize(("content", "beginning"), BAD_TABLES.values(), ids=BAD_TABLES.keys())
def test_bad_tables(tmp_path: Path, content: bytes, beginning: str) -> None:
    path = tmp_path / "traits.tsv"
    path.write_bytes(content)
    with pytest.raises(InputFileError) as caught:
        read_table(path)
    check_message(caught.value, beginning.format(path=path))


BAD_PARQUET: dict[str, tuple[pd.DataFrame, str]] = {
    "no id column": (pd.DataFrame({"name": ["a"], "y": [1.0]}), "'{path}' has no sample id column: found name, y."),
    "ids are fractions": (pd.DataFrame({"IID": [1.5], "y": [1.0]}), "'{path}' holds sample ids as decimal numbers"),
    "id missing": (pd.DataFrame({"IID": ["a", None], "y": [1.0, 2]}), "'{path}' has no sample id in 1 of 2 rows"),
    "repeated id": (pd.DataFrame({"IID": ["a", "a"], "y": [1.0, 2]}), "'{path}' repeats 1 of 1 sample ids: a"),
    "no values": (pd.DataFrame({"IID": ["a", "b"]}), "'{path}' holds 2 samples and 0 columns of values"),
}


@pytest.mark.parametrize(("frame", "beginning"), BAD_PARQUET.values(), ids=BAD_PARQUET.keys())
def test_bad_parquet(tmp_path: Path, frame: pd.DataFrame, beginning: str) -> None:
    path = tmp_path / "traits.parquet"
    frame.to_parquet(path)
    with pytest.raises(InputFileError) as caught:
        read_table(path)
    check_message(caught.value, beginning.format(path=path))


@pytest.mark.parametrize("read", [read_table, read_id_list, read_variant_list])
def test_files_that_are_not_there(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    with pytest.raises(InputFileError) as caught:
        read(tmp_path / "absent.tsv")
    check_message(caught.value, f"'{tmp_path / 'absent.tsv'}' does not exist: check the path.")
    with pytest.raises(InputFileError) as caught:
        read(tmp_path)
    check_message(caught.value, f"'{tmp_path}' is a folder, but a file is needed.")


BAD_LISTS: dict[str, tuple[Callable[[Path], Any], bytes, str]] = {
    "no samples": (read_id_list, b"\n", "'{path}' lists no samples: it is empty"),
    "header only": (read_id_list, b"FID IID\n", "'{path}' lists no samples: it is empty"),
    "no variants": (read_variant_list, b"", "'{path}' lists no variants: it is empty"),
    "one column, then two": (
        read_id_list,
        b"a\nb c\n",
        "'{path}', line 2: the number of columns changes from 1 (line 1) to 2",
    ),
    "two columns, then one": (
        read_id_list,
        b"FID IID\na b\nc\n",
        "'{path}', line 3: the number of columns changes from 2 (line 2) to 1",
    ),
    "bim as variant list": (read_variant_list, b"1 rs1 0 1 A G\n", "'{path}', line 1: 6 columns and no header naming"),
    "binary": (read_id_list, b"l\x1b\x01\x00\x00", "'{path}', line 1: holds a zero byte"),
    "Parquet": (read_variant_list, b"PAR1....", "'{path}' is a Parquet file: plain text is needed here"),
}


@pytest.mark.parametrize(("read", "content", "beginning"), BAD_LISTS.values(), ids=BAD_LISTS.keys())
def test_bad_lists(tmp_path: Path, read: Callable[[Path], Any], content: bytes, beginning: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(InputFileError) as caught:
        read(path)
    check_message(caught.value, beginning.format(path=path))


STORE = [f"S{number}" for number in range(8)]
RAMP = np.arange(8.0)


def frame(**columns: Any) -> pd.DataFrame:
    """Make a table of the eight samples."""
    return pd.DataFrame(columns, index=STORE)


def relabelled(ids: list[str]) -> pd.DataFrame:
    """Make a trait table with other ids."""
    return pd.DataFrame({"y": RAMP**2}, index=ids)


TRAIT = frame(y=RAMP**2)
TEXT = np.array(["1", "2", "tall", "4", "5", None, "7", "8,5"], dtype=object)
NAN = np.full(8, np.nan)
LETTERS = list("abcdefgh")

BAD_COHORTS: dict[str, tuple[type[UserError], tuple[Any, ...], dict[str, Any], str]] = {
    "trait not numeric": (
        TraitError, (STORE, frame(y=TEXT)), {},
        "Trait 'y' in the trait table is not numeric: sample 'S2' has 'tall', and 1 more like it (use",
    ),
    "decimal comma": (
        TraitError, (STORE, frame(y=["1,5", *"2345678"])), {},
        "Trait 'y' in the trait table is not numeric: sample 'S0' has '1,5' (a decimal comma? Use a point)",
    ),
    "trait constant": (
        TraitError, (STORE, TRAIT.assign(flat=3.0, level=0.0)), {},
        "No variation in 'flat' (8 times 3), 'level' (8 times 0) among the analysed samples",
    ),
    "trait seen once": (
        TraitError, (STORE, TRAIT.assign(rare=[1.0, *NAN[1:]])), {}, "No variation in 'rare' (1 times 1)",
    ),
    "trait all missing": (
        TraitError, (STORE, TRAIT.assign(none=NAN)), {}, "No value for 'none' in any of the 8 analysed samples",
    ),
    "trait missing where analysed": (
        TraitError, (STORE, frame(y=[*NAN[:4], *RAMP[4:]])), {"keep": ("S0", "S1")},
        "No value for 'y' in any of the 2 analysed samples",
    ),
    "trait infinite": (
        TraitError, (STORE, frame(y=[1, np.inf, -np.inf, *RAMP[3:]])), {},
        "Infinite values in the trait table: 'y' (sample 'S1' has inf, and 1 more like it).",
    ),
    "unknown trait": (
        TraitError, (STORE, TRAIT.assign(height=RAMP)), {"trait_names": ("hieght", "z")},
        "No traits 'hieght' (did you mean 'height'?), 'z' in the trait table: it has y, height.",
    ),
    "no trait": (TraitError, (STORE, TRAIT[[]]), {}, "the trait table has no column of traits."),
    "too few samples": (
        TraitError, (STORE, frame(y=[1, 2, 5, *NAN[3:]]), frame(x=RAMP)), {},
        "Too few samples for the covariates: 'y' (3 observed, 2 covariates with the intercept).",
    ),
    "trait among the covariates": (
        TraitError, (STORE, TRAIT, frame(x=2 * RAMP**2 - 1)), {}, "Nothing is left of 'y' after the covariates",
    ),
    "unknown covariate": (
        CovariateError, (STORE, TRAIT, frame(age=RAMP)), {"covariate_names": ("Age",)},
        "No covariate 'Age' (did you mean 'age'?) in the covariate table: it has age.",
    ),
    "unknown categorical": (
        CovariateError, (STORE, TRAIT, frame(age=RAMP)), {"categorical": ("site",)},
        "No categorical covariate 'site' in the covariate table",
    ),
    "categorical not used": (
        CovariateError, (STORE, TRAIT, frame(age=RAMP, site=LETTERS)),
        {"covariate_names": ("age",), "categorical": ("site",)},
        "Categorical covariates site are not among the covariates used",
    ),
    "covariates without a table": (
        CovariateError, (STORE, TRAIT), {"covariate_names": ("age",)},
        "Covariates age are named but there is no table of covariates.",
    ),
    "covariate all missing": (
        CovariateError, (STORE, TRAIT, frame(age=RAMP, sex=NAN)), {},
        "No value for covariate 'sex' in any of the 8 samples",
    ),
    "nobody has all covariates": (
        CovariateError, (STORE, TRAIT, frame(a=[*RAMP[:4], *NAN[4:]], b=[*NAN[:4], *RAMP[4:]])), {},
        "No sample of 8 has all covariates (the covariate table); missing: 'a' (4), 'b' (4).",
    ),
    "a slip in a numeric covariate": (
        CovariateError, (STORE, TRAIT, frame(age=["40", "4o", *"567890"])), {},
        "Covariate 'age' in the covariate table is a number for 7 of 8 samples, but sample 'S1' has '4o'.",
    ),
    "covariate infinite": (
        CovariateError, (STORE, TRAIT, frame(age=[*RAMP[:7], -np.inf])), {},
        "Covariate 'age' in the covariate table is infinite for 1 of 8 samples, the first 'S7'.",
    ),
    "too many categories": (
        CovariateError, (STORE, TRAIT, frame(site=LETTERS)), {"max_categories": 7},
        "Covariate 'site' in the covariate table has 8 categories, more than 7: a, b, c, d, e and 3 more.",
    ),
    "names clash": (
        CovariateError, (STORE, TRAIT, pd.DataFrame({"s": list("aaaaabbb"), "s=b": RAMP}, index=STORE)), {},
        "Covariate names clash once categories are expanded: s=b, s=b.",
    ),
    "no overlap": (
        SampleMismatchError, (STORE, relabelled(LETTERS)), {},
        "None of the 8 sample ids in the trait table is in the genotypes (8 samples): 'a' there, 'S0' in the genotypes."
        " Is one of them FID_IID",
    ),
    "no overlap: FID_IID in the table": (
        SampleMismatchError, (STORE, relabelled([f"F_{text}" for text in STORE])), {},
        "None of the 8 sample ids in the trait table is in the genotypes (8 samples): 'F_S0' there, 'S0' in the "
        "genotypes. The ids there look like FID_IID",
    ),
    "no overlap: FID_IID in the genotypes": (
        SampleMismatchError, ([f"F_{text}" for text in STORE], TRAIT), {},
        "None of the 8 sample ids in the trait table is in the genotypes (8 samples): 'S0' there, 'F_S0' in the "
        "genotypes. The ids in the genotypes look like FID_IID",
    ),
    "no overlap: zeros": (
        SampleMismatchError, ([f"00{n}" for n in range(1, 9)], relabelled([str(n) for n in range(1, 9)])), {},
        "None of the 8 sample ids in the trait table is in the genotypes (8 samples): '1' there, '001' in the "
        "genotypes. They differ in leading zeros",
    ),
    "no overlap: case": (
        SampleMismatchError, (STORE, relabelled([text.lower() for text in STORE])), {},
        "None of the 8 sample ids in the trait table is in the genotypes (8 samples): 's0' there, 'S0' in the "
        "genotypes. They differ in upper and lower case",
    ),
    "covariates of others": (
        SampleMismatchError, (STORE, TRAIT, pd.DataFrame({"age": RAMP}, index=LETTERS)), {},
        "None of the 8 sample ids in the covariate table is in the genotypes",
    ),
    "keep list of others": (
        SampleMismatchError, (STORE, TRAIT), {"keep": ("x", "y")},
        "None of the 2 sample ids in the keep list is in the genotypes (8 samples): 'x' there, 'S0' in the genotypes.",
    ),
    "all removed": (
        SampleMismatchError, (STORE, TRAIT), {"remove": tuple(STORE)},
        "No samples are left of 8 in the genotypes: 8 in the remove list.",
    ),
    "nobody in both tables": (
        SampleMismatchError, (STORE, TRAIT.iloc[:4], frame(age=RAMP).iloc[4:]), {},
        "No samples are left of 8 in the genotypes: 4 without a row in the trait table; 4 without a row in the covar",
    ),
    "no genotypes": (SampleMismatchError, ([], TRAIT), {}, "The genotypes hold no samples."),
    "repeated ids in the genotypes": (
        SampleMismatchError, (["S0", *STORE], TRAIT), {}, "The genotypes repeat 1 of 8 sample ids: S0.",
    ),
    "repeated ids in a frame": (
        InputFileError, (STORE, pd.concat([TRAIT, TRAIT.iloc[:1]])), {},
        "the trait table repeats 1 of 8 sample ids: S0.",
    ),
    "frame without ids": (
        InputFileError, (STORE, TRAIT.reset_index(drop=True)), {}, "the trait table has no sample id column: found y.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "arguments", "choices", "beginning"), BAD_COHORTS.values(), ids=BAD_COHORTS.keys())
def test_bad_cohorts(
    kind: type[UserError], arguments: tuple[Any, ...], choices: dict[str, Any], beginning: str
) -> None:
    with pytest.raises(UserError) as caught:
        store, traits, covariates = (*arguments, None)[:3]
        align_cohort(store, traits, covariates, CohortConfig(**choices))
    assert type(caught.value) is kind
    check_message(caught.value, beginning)


BAD_CHOICES: dict[str, tuple[dict[str, Any], str]] = {
    "transform": (
        {"transform": "rnit"},
        "There is no transform 'rnit' (did you mean 'rint'?): use one of none, rint, rint-indirect.",
    ),
    "max_categories": ({"max_categories": 1}, "max_categories is 1: it must be at least 2."),
    "no traits": ({"trait_names": ()}, "The list of traits is empty"),
    "trait twice": ({"trait_names": ("a", "b", "a")}, "The list of traits names a more than once"),
    "covariate twice": ({"covariate_names": ("x", "x")}, "The list of covariates names x more than once"),
}


@pytest.mark.parametrize(("choices", "beginning"), BAD_CHOICES.values(), ids=BAD_CHOICES.keys())
def test_bad_choices(choices: dict[str, Any], beginning: str) -> None:
    with pytest.raises(ParameterError) as caught:
        CohortConfig(**choices)
    check_message(caught.value, beginning)


def test_a_bad_value_is_found_in_its_file(tmp_path: Path) -> None:
    path = tmp_path / "traits.tsv"
    path.write_text("FID IID y\n" + "".join(f"f S{number} {number}\n" for number in range(7)) + "f S7 x7\n")
    with pytest.raises(TraitError) as caught:
        align_cohort(STORE, read_table(path))
    check_message(caught.value, f"Trait 'y' in '{path}' is not numeric: sample 'S7' has 'x7' (use numbers")
