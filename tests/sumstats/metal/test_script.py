"""METAL's language: which words are keywords, what lines do, and that ignored ones are errors that say what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from biolmm.errors import InputFileError
from biolmm.sumstats.metal.language import KEYWORDS, meanings
from biolmm.sumstats.metal.script import Plan, read_script
from biolmm.sumstats.metal.settings import Analyse, Clear, Filter, GenomicControl, ProcessFile, Settings

BODY = "PROCESS a.txt\nANALYZE\n"


def parse(folder: Path, text: str, *, as_metal: bool = False) -> Plan:
    """Parse a script."""
    (folder / "script.txt").write_text(text)
    return read_script(folder / "script.txt", as_metal=as_metal)


def settings_of(folder: Path, text: str) -> Settings:
    """Give the settings that a file is read under after some lines."""
    return parse(folder, f"{text}\n{BODY}").files[-1].settings


@pytest.mark.parametrize("keyword", KEYWORDS, ids=lambda keyword: keyword.name)
def test_a_keyword_is_its_full_name_and_what_abbreviates_it(keyword: object) -> None:
    assert keyword in KEYWORDS
    name, fewest = keyword.name, keyword.fewest  # type: ignore[attr-defined]
    for length in range(1, len(name) + 1):
        word = name[:length].lower()
        assert (keyword in meanings(word)) == (length >= fewest)
    assert keyword not in meanings(name + "X")
    assert keyword in meanings(keyword.usual) or name in ("ANALYSE", "EXIT")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("MAR rs", "marker", "rs"),
        ("markerlabel rs # why not", "marker", "rs"),
        ("PVAL p", "pvalue", "p"),
        ("EFF b", "effect", "b"),
        ("EFFECT log(OR)", "effect", "log(OR)"),
        ("W n", "weight", "n"),
        ("D 12.5", "default_weight", 12.5),
        ("MINW 100", "min_weight", 100.0),
        ("STDERR s", "stderr", "s"),
        ("STRAND s", "strand", "s"),
        ("USES ON", "use_strand", True),
        ("AV ON", "average_freq", True),
        ("AVERAGEFREQ on", "average_freq", True),
        ("MINM ON", "min_max_freq", True),
        ("FR f", "freq", "f"),
        ("CHR c", "chromosome", "c"),
        ("POS p", "position", "p"),
        ("T ON", "track_positions", True),
        ("SCHEME STD", "scheme", "stderr"),
        ("SC SA", "scheme", "samplesize"),
        ("SE C", "separator", "comma"),
        ("SEPARATOR TAB", "separator", "tab"),
        ("SEPARATOR BOTH", "separator", "both"),
        ("COL LEN", "strict", False),
        ("L ON", "log_pvalue", True),
        ("LOGPVALUE OF", "log_pvalue", False),
        ("O ON", "overlap", True),
        ("Z 2", "z_cutoff", 2.0),
        ("E 6", "effect_precision", 6),
        ("STDERR_P 7", "stderr_precision", 7),
        ("FLIP", "flip", True),
        ("FLIP\nFL", "flip", False),
        ("G ON", "genomic_control", GenomicControl(on=True)),
        ("GENOMICCONTROL 1.05", "genomic_control", GenomicControl(on=True, value=1.05)),
        ("GENOMIC LIST x.txt", "genomic_control", GenomicControl(on=True, markers=Path("x.txt"))),
        ("GENOMIC ON\nGENOMIC OFF", "genomic_control", GenomicControl()),
        ("ADDFILTER N > 10", "filters", (Filter("N", ">", 10.0),)),
        ("ADD N IS -1\nADD C in (X,y)", "filters", (Filter("N", "==", -1.0), Filter("C", "in", words=("X", "y")))),
        ("ADD N > 10\nREMOVEFILTERS", "filters", ()),
        ("CUSTOM n\nLABEL N AS total", "custom", (("n", "total"),)),
        ("CUSTOM n\nCUSTOM n", "custom", (("n", "n"),)),
        ("AL x y", "allele1", "x"),
        ("O x y", "suffix", "y"),
        ("VERBOSE ON\nHELP\nMAX 3", "max_warnings", 3),
        ("  # indented\n#FLIP", "flip", False),
    ],
)
def test_lines_set_what_they_say(line: str, name: str, value: object, tmp_path: Path) -> None:
    assert getattr(settings_of(tmp_path, line), name) == value


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("MARKERNAME rs", "write MARKER"),
        ("SNP rs", "write MARKER"),
        ("ALLELES A B", "write ALLELE"),
        ("FREQUENCY F", "write FREQ"),
        ("PVALUES P", "write PVALUE"),
        ("STDERROR S", "write STDERR"),
        ("WEIGHTS N", "write WEIGHT"),
        ("EFFECTS B", "write EFFECT"),
        ("ANALYSIS", "write ANALYZE"),
        ("MA rs", "write MARKER"),
        ("M rs", "no command of METAL's"),
        ("MARKER", "write MARKER and a name"),
        ("ALLELE A1", "write ALLELE column1 column2"),
        ("OUTFILE only", "write OUTFILE prefix suffix"),
        ("AVERAGEFREQ YES", "write AVERAGEFREQ and ON or OFF"),
        ("SCHEME SE", "write SCHEME SAMPLESIZE or STDERR"),
        ("SEPARATOR SPACE", "write SEPARATOR WHITESPACE, COMMA, TAB or BOTH"),
        ("COLUMNCOUNTING LOOSE", "write COLUMNCOUNTING STRICT or LENIENT"),
        ("GENOMICCONTROL YES", "write GENOMICCONTROL ON, OFF"),
        ("GENOMICCONTROL -1", "write GENOMICCONTROL ON, OFF"),
        ("GENOMICCONTROL LIST", "write GENOMICCONTROL ON, OFF"),
        ("DEFAULTWEIGHT many", "'many' is no number"),
        ("EFFECT_PRINT_PRECISION 99", "99 digits cannot be printed"),
        ("ADDFILTER N > 10 # comment", "with nothing after it"),
        ("ADDFILTER N >", "write ADDFILTER column condition value"),
        ("ADDFILTER N ~ 3", "is none of"),
        ("ADDFILTER N > .5", "begins with a digit or a sign"),
        ("ADDFILTER CHR == X", "write IN (X)"),
        ("ADDFILTER CHR IN X,Y", "in brackets"),
        ("LABEL N AS total", "there is no CUSTOMVARIABLE N"),
        ("LABEL N IS total", "write LABEL variable AS column"),
        ("SCHEME STDERR\nOVERLAP ON", "OVERLAP is for SCHEME SAMPLESIZE"),
        ("OVERLAP ON\nSCHEME STDERR", "write OVERLAP OFF before"),
        ("PROCESS a.txt\nSCHEME STDERR", "before the first PROCESS"),
        ("PROCESS a.txt\nAVERAGEFREQ ON", "before the first PROCESS"),
        ("PROCESS a.txt\nTRACKPOSITIONS ON", "before the first PROCESS"),
        ("PROCESS a.txt\nCUSTOMVARIABLE N", "before the first PROCESS"),
        ("GENOMICCONTROL LIST x.txt\nSCHEME STDERR", "before GENOMICCONTROL LIST"),
        ("ANALYZE HETEROGENITY", "METAL would analyse without heterogeneity"),
        ("PROCES\tS a.txt", ""),
    ],
)
def test_lines_that_metal_ignores_are_errors(line: str, remedy: str, tmp_path: Path) -> None:
    if not remedy:  # PROCES is a beginning of PROCESSFILE, and reads the file S
        assert parse(tmp_path, f"{line}\n{BODY}").files[0].name == "S"
        return
    number = line.count("\n") + 1
    with pytest.raises(InputFileError) as error:
        parse(tmp_path, f"{line}\n{BODY}")
    text = str(error.value)
    assert f"script.txt, line {number}: METAL ignores" in text and remedy in text and "--as-metal" in text
    plan = parse(tmp_path, f"{line}\n{BODY}", as_metal=True)
    assert len(plan.refusals) == 1 and plan.files


def test_all_ignored_lines_are_counted(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"line 1: .*; write MARKER\. 2 more such lines: 2, 4\."):
        parse(tmp_path, f"MARKERNAME a\nPVALUES p\nEFFECT b\nWEIGHTS n\n{BODY}")


def test_what_changes_nothing_is_no_error(tmp_path: Path) -> None:
    before = "SCHEME STDERR\nAVERAGEFREQ ON\nCUSTOMVARIABLE N\n"
    assert len(parse(tmp_path, f"{before}PROCESS a\n{before}PROCESS b\nANALYZE\n").files) == 2


def test_rounds_clear_and_what_stays(tmp_path: Path) -> None:
    text = """OUTFILE one .tbl
FLIP
ADDFILTER N > 10
CUSTOMVARIABLE N
PROCESS a
ANALYZE
ANALYZE HET
CLEAR
SCHEME STDERR
PROCESS b
ANALYSE HETEROGENEITY
OUTFILE two .tbl
ANALYZE
"""
    plan = parse(tmp_path, text)
    assert [step.file_name for step in plan.steps if isinstance(step, Analyse)] == [
        "one1.tbl", "one2.tbl", "one3.tbl", "two1.tbl"
    ]  # fmt: skip
    assert [step.heterogeneity for step in plan.steps if isinstance(step, Analyse)] == [False, True, True, False]
    assert [type(step) for step in plan.steps].index(Clear) == 3
    after = plan.files[1].settings
    assert (after.flip, after.filters, after.custom, after.scheme) == (True, (), (), "stderr")


def test_scripts_source_others(tmp_path: Path) -> None:
    (tmp_path / "inner.txt").write_text("MARKER rs\nRETURN\nMARKER never\n")
    assert settings_of(tmp_path, f"SOURCE {tmp_path}/inner.txt").marker == "rs"
    (tmp_path / "inner.txt").write_text("PROCESS a\nANALYZE\nQUIT\n")
    plan = parse(tmp_path, f"SOURCE {tmp_path}/inner.txt\nPROCESS b\n")
    assert [step.name for step in plan.files] == ["a"]
    (tmp_path / "inner.txt").write_text(f"SOURCE {tmp_path}/inner.txt\n")
    with pytest.raises(InputFileError, match="is it a circle"):
        parse(tmp_path, f"SOURCE {tmp_path}/inner.txt\n")
    with pytest.raises(InputFileError, match=r"script.txt, line 1: the script .*none.txt cannot be read"):
        parse(tmp_path, f"SOURCE {tmp_path}/none.txt\n")


@pytest.mark.parametrize(
    ("text", "word"), [("ANALYZE\n", "PROCESS"), ("PROCESS a\n", "ANALYZE"), ("# nothing\n", "PROCESS")]
)
def test_a_script_that_does_nothing_is_an_error(text: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=f"has no {word} line"):
        parse(tmp_path, text)


def test_steps_know_their_line(tmp_path: Path) -> None:
    (step,) = parse(tmp_path, f"\n\n{BODY}").files
    assert isinstance(step, ProcessFile) and step.line.endswith("script.txt, line 3")
