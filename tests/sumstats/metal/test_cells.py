"""Every cell of every table equals METAL's formulas written out a second time, character by character."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from biolmm.sumstats.metal.run import run_plan
from biolmm.sumstats.metal.script import read_script
from oracles.metal import Metal, Options
from oracles.metal_studies import ROLES, write_studies

LABELS = """MARKER SNP
ALLELE A1 A2
EFFECT BETA
PVALUE P
STDERR SE
FREQ EAF
WEIGHT N
STRANDLABEL STRAND
CHROMOSOME CHR
POSITION BP
"""


def read_table(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Read a table: its header, and cells by marker."""
    lines = path.read_text().splitlines()
    names = lines[0].split("\t")
    at = names.index("MarkerName")
    rows = [line.split("\t") for line in lines[1:]]
    assert len({row[at] for row in rows}) == len(rows)
    return names, {row[at]: row for row in rows}


def run(folder: Path, script: str, **options: Any) -> list[Path]:
    """Run a script."""
    path = folder / "script.txt"
    path.write_text(script)
    return [table.path for table in run_plan(read_script(path), folder / "out", **options)]


def options_of(**changes: Any) -> Options:
    """Give the oracle's options with the columns of the studies."""
    wanted = {**ROLES, **changes.pop("columns", {})}
    return Options(columns=wanted, **changes)


CASES: dict[str, tuple[str, str, Options, dict[str, Any]]] = {
    "sample size": ("", "", options_of(), {}),
    "sample size, heterogeneity": ("", "HETEROGENEITY", options_of(), {"heterogeneity": True}),
    "sample size, control": ("GENOMICCONTROL ON", "HET", options_of(control="on"), {"heterogeneity": True}),
    "standard errors": ("SCHEME STDERR", "", options_of(scheme="stderr"), {}),
    "standard errors, control": ("SCHEME STDERR\nGENOMICCONTROL ON", "HET", options_of(scheme="stderr", control="on"),
                                 {"heterogeneity": True}),
    "fixed control": ("SCHEME STDERR\nGENOMICCONTROL 1.31", "HET", options_of(scheme="stderr", control=1.31),
                      {"heterogeneity": True}),
    "frequencies": ("SCHEME STDERR\nAVERAGEFREQ ON\nMINMAXFREQ ON\nGENOMICCONTROL ON", "",
                    options_of(scheme="stderr", control="on", average=True, extremes=True), {}),
    "frequencies by N": ("AVERAGEFREQ ON\nMINMAXFREQ ON", "", options_of(average=True, extremes=True), {}),
    "custom variables": ("SCHEME STDERR\nCUSTOMVARIABLE Total\nLABEL Total AS N\nCUSTOMVARIABLE CASES", "HET",
                         options_of(scheme="stderr", custom=("N", "CASES")), {"heterogeneity": True}),
    "precision": ("SCHEME STDERR\nEFFECT_PRINT_PRECISION 12\nSTDERR_PRINT_PRECISION 9", "", options_of(scheme="stderr"),
                  {"precision": (12, 9)}),
    "logarithms of p": ("LOGPVALUE ON\nSCHEME STDERR", "HET", options_of(scheme="stderr"),
                        {"heterogeneity": True, "log_p": True}),
    "flip": ("SCHEME STDERR\nFLIP", "", options_of(scheme="stderr", flip=True), {}),
    "odds ratios": ("SCHEME STDERR\nEFFECT log(OR)", "", options_of(scheme="stderr", log_effect=True, columns={"effect": "OR"}),
                    {}),
    "odds ratios by N": ("EFFECT log(OR)", "", options_of(log_effect=True, columns={"effect": "OR"}), {}),
    "strand": ("SCHEME STDERR\nUSESTRAND ON", "", options_of(scheme="stderr", use_strand=True), {}),
    "positions": ("SCHEME STDERR\nTRACKPOSITIONS ON", "HET", options_of(scheme="stderr", track=True), {"heterogeneity": True}),
    "default weight": ("WEIGHT none\nDEFAULTWEIGHT 1234.5", "",
                       options_of(columns={"weight": "none"}, default_weight=1234.5), {}),
    "least weight": ("MINWEIGHT 30000", "", options_of(), {"min_weight": 30000}),
    "least weight is for sample sizes": ("MINWEIGHT 1e9\nSCHEME STDERR", "", options_of(scheme="stderr"), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_cells_are_metals(name: str, tmp_path: Path) -> None:
    commands, analyse, options, printed = CASES[name]
    files = write_studies(tmp_path)
    oracle = Metal()
    for file in files:
        oracle.process(file, options)
    process = "\n".join(f"PROCESS {file}" for file in files)
    (table,) = run(tmp_path, f"{LABELS}{commands}\n{process}\nANALYZE {analyse}\n")
    expected = oracle.rows(options, **printed)
    assert len(expected) > 200
    assert read_table(table)[1] == expected


FILTERS: dict[str, Any] = {
    "INFO > 0.5": lambda row: float(row["INFO"]) > 0.5,
    "INFO >= 0.5": lambda row: float(row["INFO"]) >= 0.5,
    "N < 5000": lambda row: float(row["N"]) < 5000,
    "N <= 5000": lambda row: float(row["N"]) <= 5000,
    "CHR == 3": lambda row: row["CHR"] == "3",
    "CHR = 3": lambda row: row["CHR"] == "3",
    "chr IS 3": lambda row: row["CHR"] == "3",
    "CHR != 3": lambda row: row["CHR"] != "3",
    "CHR <> 3": lambda row: row["CHR"] != "3",
    "CHR ISNOT 3": lambda row: row["CHR"] != "3",
    "PANEL IN (A,b)": lambda row: row["PANEL"] in "aB",
    "P < 0.5": lambda row: row["P"] not in ("NA", "x") and float(row["P"]) < 0.5,
}


@pytest.mark.parametrize("condition", FILTERS)
def test_filters_keep_what_they_say(condition: str, tmp_path: Path) -> None:
    files, options = write_studies(tmp_path), options_of(scheme="stderr", keep=FILTERS[condition])
    oracle = Metal()
    for file in files:
        oracle.process(file, options)
    process = "\n".join(f"PROCESS {file}" for file in files)
    (table,) = run(tmp_path, f"{LABELS}SCHEME STDERR\nADDFILTER {condition}\n{process}\nANALYZE\n")
    expected = oracle.rows(options)
    assert expected and read_table(table)[1] == expected


@pytest.mark.parametrize(("word", "character"), [("COMMA", ","), ("TAB", "\t"), ("BOTH", ","), ("WHITESPACE", "  ")])
def test_separators(word: str, character: str, tmp_path: Path) -> None:
    files = write_studies(tmp_path, separator=character, n_markers=100)
    options = options_of(scheme="stderr", separator=character if character != "  " else None)
    oracle = Metal()
    for file in files:
        oracle.process(file, options)
    process = "\n".join(f"PROCESS {file}" for file in files)
    (table,) = run(tmp_path, f"{LABELS}SEPARATOR {word}\nSCHEME STDERR\n{process}\nANALYZE\n")
    assert read_table(table)[1] == oracle.rows(options)


def test_control_by_a_list_of_markers(tmp_path: Path) -> None:
    files = write_studies(tmp_path)
    listed = [f"rs{i}" for i in range(0, 400, 7)]
    (tmp_path / "null.txt").write_text("\n".join([*listed, "", "rs99999"]) + "\n")
    options = options_of(scheme="stderr", control="on", control_list=listed)
    oracle = Metal()
    for file in files:
        oracle.process(file, options)
    process = "\n".join(f"PROCESS {file}" for file in files)
    (table,) = run(tmp_path, f"{LABELS}SCHEME STDERR\nGENOMICCONTROL LIST {tmp_path}/null.txt\n{process}\nANALYZE\n")
    assert read_table(table)[1] == oracle.rows(options)


def test_several_analyses_clear_and_settings_between_files(tmp_path: Path) -> None:
    one, two, three = write_studies(tmp_path)
    script = f"""{LABELS}SCHEME STDERR
OUTFILE first .tbl
PROCESS {one}
FLIP
PROCESS {two}
ANALYZE
FLIP
GENOMICCONTROL ON
ADDFILTER INFO > 0.4
PROCESS {three}
ANALYZE HETEROGENEITY
CLEAR
SCHEME SAMPLESIZE
CUSTOMVARIABLE CASES
PROCESS {two}
PROCESS {three}
ANALYSE
QUIT
nonsense that is never read
"""
    tables = run(tmp_path, script)
    assert [table.name for table in tables] == ["first1.tbl", "first2.tbl", "first3.tbl"]
    by_error, oracle = options_of(scheme="stderr"), Metal()
    oracle.process(one, by_error)
    oracle.process(two, options_of(scheme="stderr", flip=True))
    assert read_table(tables[0])[1] == oracle.rows(by_error)
    oracle.process(three, options_of(scheme="stderr", control="on", keep=lambda row: float(row["INFO"]) > 0.4))
    assert read_table(tables[1])[1] == oracle.rows(by_error, heterogeneity=True)
    oracle, by_size = Metal(), options_of(control="on", custom=("CASES",))
    oracle.process(two, by_size)
    oracle.process(three, by_size)
    assert read_table(tables[2])[1] == oracle.rows(by_size)


@pytest.mark.parametrize("block_bytes", [300, 5000])
def test_blocks_of_text_make_no_difference(block_bytes: int, tmp_path: Path) -> None:
    files = write_studies(tmp_path)
    process = "\n".join(f"PROCESS {file}" for file in files)
    script = f"{LABELS}SCHEME STDERR\nGENOMICCONTROL ON\nAVERAGEFREQ ON\nCUSTOMVARIABLE N\n{process}\nANALYZE HET\n"
    (table,) = run(tmp_path, script)
    whole = table.read_bytes()
    (table,) = run(tmp_path, script, block_bytes=block_bytes)
    assert table.read_bytes() == whole


def test_compressed_files_read_the_same(tmp_path: Path) -> None:
    import gzip

    files = write_studies(tmp_path)
    for file in files:
        file.with_suffix(".txt.gz").write_bytes(gzip.compress(file.read_bytes()))
    script = "{}SCHEME STDERR\n{}\nANALYZE\n"
    tables = []
    for suffix in ("", ".gz"):
        (table,) = run(tmp_path, script.format(LABELS, "\n".join(f"PROCESS {file}{suffix}" for file in files)))
        tables.append(table.read_bytes())
    assert tables[0] == tables[1]
