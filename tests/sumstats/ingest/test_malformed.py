"""Damaged, mislabelled and odd inputs, each with its verdict: refused in one line, or records counted by reason."""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from biolmm.errors import UserError
from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.matrix.change import add_studies
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.matrix.verify import verify
from biolmm.sumstats.status import Status

HEADER = ["CHR", "POS", "SNP", "EA", "NEA", "EAF", "BETA", "SE", "P", "N"]


def row(i: int, **changes: Any) -> dict[str, Any]:
    """Give the i-th good record, with some values changed."""
    good = {"CHR": 1, "POS": 1000 + i, "SNP": f"rs{i + 1}", "EA": "A", "NEA": "G", "EAF": 0.25, "BETA": 0.05 * (-1) ** i,
            "SE": 0.05, "P": 0.31731, "N": 4000}  # fmt: skip
    return good | changes


def text(rows: list[dict[str, Any]], header: list[str] | None = None, sep: str = "\t", **renamed: str) -> str:
    names = header or HEADER
    lines = [sep.join(renamed.get(name, name) for name in names)]
    return "\n".join([*lines, *(sep.join(str(r[name]) for name in names) for r in rows)]) + "\n"


def good(n: int = 40, **changes: Any) -> list[dict[str, Any]]:
    return [row(i, **changes) for i in range(n)]


def without(*names: str) -> list[str]:
    return [name for name in HEADER if name not in names]


@dataclass(frozen=True)
class Case:
    """An input, and what has to come of it: an error's words, or counts and warnings."""

    content: str | bytes
    refused: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    warned: str = ""
    said: dict[str, Any] = field(default_factory=dict)
    rules: dict[str, Any] = field(default_factory=dict)


def one(**changes: Any) -> str:
    """Forty good records and one with changed values."""
    return text([*good(), row(40, **changes)])


GOOD = text(good())

CASES: dict[str, Case] = {
    # the file
    "empty file": Case("", "is empty"),
    "only comments": Case("## a\n## b\n", "has no header"),
    "header only": Case("\t".join(HEADER) + "\n", "no variants below"),
    "blank lines only below": Case("\t".join(HEADER) + "\n\n  \n", "no variants below"),
    "no header": Case("\n".join(GOOD.splitlines()[1:]).replace("rs", "").replace("A\tG", "1\t3") + "\n", "has no header"),
    "zip archive": Case(b"PK\x03\x04" + bytes(40), "zip archive or a spreadsheet"),
    "bzip2": Case(b"BZh9" + bytes(40), "bzip2"),
    "xz": Case(b"\xfd7zXZ\x00" + bytes(40), "xz"),
    "UTF-16": Case(GOOD.encode("utf-16"), "UTF-16"),
    "header is no UTF-8": Case(b"CHR\tPOS\xff\xfe\n1\t2\n", "not UTF-8"),
    "zero byte": Case(GOOD.replace("rs7", "rs\0"), r"line 8: holds a zero byte"),
    "zero bytes at the end": Case(GOOD + "\0" * 100, "zero byte"),
    "binary": Case(bytes(range(256)) * 4, "zero byte"),
    "truncated gzip": Case(gzip.compress(text(good(4000)).encode())[:-500], "truncated gzip|damaged gzip"),
    "gzip without its end": Case(gzip.compress(GOOD.encode())[:-6], "truncated gzip"),
    "gzip with a flipped byte": Case(bytes(b ^ (8 if i == 150 else 0) for i, b in enumerate(gzip.compress(GOOD.encode()))),
                                     "damaged gzip|truncated gzip"),
    "gzip and then text": Case(gzip.compress(GOOD.encode()) + b"1\t5\n", "damaged gzip"),
    "truncated zstd": Case(pa.compress(text(good(4000)).encode(), "zstd", asbytes=True)[:-50], "zstd|columns"),
    "damaged Parquet": Case(b"PAR1" + bytes(100), "damaged Parquet"),
    # lines and columns
    "a line is too short": Case(GOOD.replace("rs7\tA\t", "rs7\t"), r"line 8: has 9 columns .* header has 10"),
    "a line is too long": Case(GOOD.replace("rs7\tA\t", "rs7\tA\tA\t"), r"line 8: has more than 10 columns"),
    "the last line is cut": Case(GOOD[:-25], r"line 41: has"),
    "a blank in a value": Case(text(good(), sep=" ").replace("rs7", "rs 7"), r"line 8: has more than 10"),
    "wrong header": Case(GOOD.replace("BETA", "X").replace("SE", "Y"), "has no effect"),
    "no alleles": Case(text(good(), without("EA", "NEA")), "no column with the effect allele"),
    "one allele": Case(text(good(), without("NEA")), "names one allele only"),
    "no position": Case(text(good(), without("POS", "CHR")), "no positions"),
    "no evidence": Case(text(good(), without("SE", "P")), "no standard error, p-value or z"),
    "no identifier and no position": Case(text(good(), without("POS", "CHR", "SNP")), "neither contig and position"),
    "a column twice": Case(GOOD.replace("EAF", "BETA"), "2 columns 'beta'"),
    "map of a column that is not there": Case(GOOD, "does not have", said={"columns": {"PVAL": "p"}}),
    "map to no role": Case(GOOD, "no such role", said={"columns": {"P": "pvalue"}}),
    "only other tests": Case(text([dict(r, TEST="DOM") for r in good()], [*HEADER, "TEST"]),
                             r"none of 40 records .* other_test \(tests: DOM\)", said={"columns": {"TEST": "test"}}),
    # columns that are not what their names say
    "odds ratios as beta": Case(text([row(i, BETA=1.05 + 0.001 * i) for i in range(40)]), "these are odds ratios"),
    "effects as odds ratios": Case(text(good(), BETA="OR"), "these are effects"),
    "-log10 p as p": Case(text([row(i, P=0.2 * i) for i in range(40)]), "these are −log10 p"),
    "log10 p as p": Case(text([row(i, P=-0.2 * i - 0.1) for i in range(40)]), "these are log10 p"),
    "p as -log10 p": Case(text([row(i, P=(i + 1) / 1300) for i in range(1200)], P="LOG10P"), "these are p-values"),
    "log10 p as -log10 p": Case(text([row(i, P=-0.2 * i - 0.1) for i in range(40)], P="MLOG10P"), "these are log10 p"),
    "-log10 p as log(P)": Case(text([row(i, P=0.2 * i + 0.1) for i in range(40)], P="log(P)"), "these are −log10 p"),
    "percentages": Case(text([row(i, EAF=2 * i + 2) for i in range(40)]), "percentages"),
    "another column as frequency": Case(text([row(i, EAF=-4 - i) for i in range(40)]), "another column"),
    "all se negative": Case(text(good(SE=-0.1)), "not above 0"),
    "text as beta": Case(text(good(BETA="high")), "no numbers"),
    "text as p": Case(text(good(P="low")), "no numbers"),
    "contig column is an id": Case(text([row(i, CHR=f"rs{i}x") for i in range(40_000)]), "contig"),
    # single records
    "p = 0 with se": Case(one(P=0), counts={"p_zero": 1, "present": 41}, warned="p-values are 0"),
    "p = 0 without se": Case(text([*good(), row(40, P=0)], without("SE")), counts={"bad_p": 1, "present": 40},
                             warned="p-values are 0"),
    "p > 1": Case(text([*good(200), row(200, P=1.2)]), counts={"bad_p": 1}, warned="above 1"),
    "p < 0": Case(text([*good(200), row(200, P=-0.1)]), counts={"bad_p": 1}),
    "p is text": Case(one(P="?"), counts={"bad_p": 1}),
    "p = 1e-5000": Case(one(P="1e-5000"), counts={"present": 41, "p_disagrees": 1}),
    "p missing with se": Case(one(P="NA"), counts={"present": 41}),
    "se = 0": Case(one(SE=0), counts={"bad_error": 1, "present": 40}, warned="not above 0"),
    "se negative": Case(one(SE=-0.1), counts={"bad_error": 1}, warned="not above 0"),
    "se infinite": Case(one(SE="inf"), counts={"bad_error": 1}),
    "beta missing": Case(one(BETA="NA"), counts={"bad_effect": 1}),
    "beta infinite": Case(one(BETA="1e999"), counts={"bad_effect": 1}),
    "beta is text": Case(one(BETA="0,05"), counts={"bad_effect": 1}),
    "odds ratio of 0": Case(text([row(i, BETA=1.1) for i in range(40)] + [row(40, BETA=0)], BETA="OR"), counts={"bad_effect": 1}),
    "frequency above 1": Case(one(EAF=1.3), counts={"value_removed": 1, "present": 41}, warned="outside 0 to 1"),
    "n of 0": Case(one(N=0), counts={"value_removed": 1, "present": 41}),
    "n negative": Case(one(N=-9), counts={"value_removed": 1}),
    "n is text": Case(one(N="4k"), counts={"value_removed": 1}),
    "position 0": Case(one(POS=0), counts={"no_place": 1, "present": 40}),
    "position negative": Case(one(POS=-5), counts={"no_place": 1}),
    "position a fraction": Case(one(POS=10.5), counts={"no_place": 1}),
    "position in scientific notation": Case(one(POS="1e6"), counts={"present": 41}),
    "position text": Case(one(POS="q12"), counts={"no_place": 1}),
    "contig missing": Case(one(CHR="NA"), counts={"no_place": 1}),
    "alleles equal": Case(one(EA="G"), counts={"bad_alleles": 1}),
    "allele missing": Case(one(EA="NA"), counts={"bad_alleles": 1}),
    "allele 0": Case(one(EA="0"), counts={"bad_alleles": 1}),
    "alleles I and D": Case(one(EA="I", NEA="D"), counts={"bad_alleles": 1}),
    "allele N": Case(one(NEA="N"), counts={"bad_alleles": 1}),
    "equal indels": Case(one(EA="gt", NEA="GT"), counts={"bad_alleles": 1}),
    "lower case": Case(one(EA="a", NEA="g"), counts={"present": 41}),
    "numbers as alleles": Case(one(EA="1", NEA="3"), counts={"present": 41}),
    "symbolic allele": Case(one(EA="<DEL>", NEA="G"), counts={"present": 41}),
    "allele of a million bases": Case(one(EA="A" * 1_000_000, NEA="A"), counts={"present": 41}),
    "a record twice": Case(text([*good(), row(3)]), counts={"duplicate": 1, "duplicated": 1, "present": 40}),
    "a record twice, swapped": Case(text([*good(), row(3, EA="G", NEA="A")]), counts={"duplicate": 1, "present": 40}),
    "a record twice, other strand": Case(text([*good(), row(3, EA="T", NEA="C")]), counts={"duplicate": 1}),
    "the whole file twice": Case(text([*good(), *good()]), counts={"duplicate": 40, "present": 40}),
    "two alternative alleles": Case(text([*good(), row(3, EA="C")]), counts={"present": 41}),
    "palindromic in the grey zone": Case(one(EA="T", NEA="A", EAF=0.45), counts={"bad_strand": 1, "palindromic": 1}),
    "palindromic without frequency": Case(one(EA="T", NEA="A", EAF="NA"), counts={"bad_strand": 1}),
    "palindromic, clear": Case(one(EA="T", NEA="A", EAF=0.1), counts={"present": 41, "palindromic": 1}),
    "palindromic to drop": Case(one(EA="T", NEA="A", EAF=0.1), counts={"bad_strand": 1}, rules={"palindromic": "drop"}),
    "palindromic to trust": Case(one(EA="T", NEA="A", EAF=0.5), counts={"present": 41}, rules={"palindromic": "trust"}),
    "minor frequencies": Case(text(good(1200)), counts={"present": 1200}, warned="minor"),
    "p of other tests": Case(text(good(P=1e-9)), counts={"p_disagrees": 40, "present": 40}),
    "chromosome 23": Case(one(CHR="chr23"), counts={"present": 41}),
}  # fmt: skip


def add(folder: Path, case: Case) -> SumstatsStore:
    path = folder / "study.tsv"
    path.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
    return add_studies(folder / "s.zarr", [StudyInput(path, **case.said)], Rules(**case.rules))


def test_there_are_enough() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("name", CASES)
def test_verdict(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    if case.refused:
        with pytest.raises(UserError, match=case.refused) as caught:
            add(tmp_path, case)
        message = str(caught.value)
        assert "\n" not in message and "study.tsv" in message
        assert not (tmp_path / "s.zarr").exists()
        return
    store = add(tmp_path, case)
    counts = store.studies[0]["counts"]
    assert {reason: counts.get(reason, 0) for reason in case.counts} == case.counts
    assert case.warned in " ".join(store.studies[0]["warnings"])
    assert bool(case.warned) == bool(store.studies[0]["warnings"])
    statuses = [int(s) for block in store.blocks(columns=["status"]) for s in block.cells["status"].ravel()]
    assert sum(1 for s in statuses if s & Status.PRESENT.value) == counts["present"]
    left_out = ("bad_effect", "bad_error", "bad_p", "bad_strand", "no_place", "bad_alleles", "duplicate", "unknown_id")
    assert counts["records"] == counts["present"] + sum(counts.get(reason, 0) for reason in left_out)
    for block in store.blocks(columns=("beta", "se", "eaf", "n", "neg_log10_p")):
        block.study_block()  # nothing that the statistics refuse
    assert verify(store.path).is_intact


def test_p_beyond_double_precision_is_exact(tmp_path: Path) -> None:
    store = add(tmp_path, Case(one(P="3.16e-4321")))
    tails = [float(t) for block in store.blocks(columns=["neg_log10_p"]) for t in block.cells["neg_log10_p"].ravel()]
    assert tails[-1] == pytest.approx(4321 - math.log10(3.16), rel=1e-7)


def pair(folder: Path, first: list[dict[str, Any]], second: list[dict[str, Any]], **rules: Any) -> SumstatsStore:
    for name, rows in (("a", first), ("b", second)):
        (folder / f"{name}.tsv").write_text(text(rows))
    return add_studies(folder / "s.zarr", [StudyInput(folder / "a.tsv"), StudyInput(folder / "b.tsv")], Rules(**rules))


def test_mixed_builds_by_identifiers(tmp_path: Path) -> None:
    shifted = [row(i, POS=7000 + 3 * i) for i in range(5000)]
    with pytest.raises(UserError, match="positions are of another build"):
        pair(tmp_path, good(5000), shifted)


def test_mixed_builds_by_alleles(tmp_path: Path) -> None:
    pairs = [("A", "G"), ("A", "C"), ("AT", "A"), ("G", "T")]
    first = [row(i, SNP=".", EA=pairs[i % 4][0], NEA=pairs[i % 4][1]) for i in range(2000)]
    second = [row(i, SNP=".", EA=pairs[i // 4 % 4][0], NEA=pairs[i // 4 % 4][1]) for i in range(2000)]
    with pytest.raises(UserError, match="has other alleles"):
        pair(tmp_path, first, second)


def test_best_p_of_duplicates(tmp_path: Path) -> None:
    twice = [*good(), row(3, BETA=0.4, P=1.2e-15)]
    for rule, beta in (("first", -0.05), ("best-p", 0.4)):
        (tmp_path / rule).mkdir()
        store = add(tmp_path / rule, Case(text(twice), rules={"duplicates": rule, "exact": True}))
        assert store.to_dataset()["beta"].values[3, 0] == beta


def test_a_usable_duplicate_beats_an_unusable_first(tmp_path: Path) -> None:
    store = add(tmp_path, Case(text([row(3, SE=-1), *good()]), rules={"exact": True}))
    assert store.to_dataset()["beta"].values[3, 0] == -0.05
