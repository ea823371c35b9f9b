from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from biolmm.errors import InputFileError
from biolmm.report import write_report
from biolmm.report.verdicts import FAIR, GOOD, POOR, judge
from biolmm.results.tables import read_result_table, write_result_table

NASTY = "bmi <script>alert(1)</script> & $x^2$"
VOID = {"meta", "br", "hr", "img", "input", "link", "path", "use", "image", "rect", "circle"}


class Page(HTMLParser):
    """Collects the ids, references and text of a page, and checks that its elements nest."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("src", "href", "xlink:href") and value:
                self.references.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(results: Path) -> Page:
    page = Page(write_report(results).read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_page_has_every_part(make_results: Callable[..., Path]) -> None:
    page = page_of(make_results(("height", NASTY)))
    sections = {
        "heritability",
        "associations",
        "calibration",
        "loci",
        "structure",
        "whom",
        "accuracy",
        "run",
        "trait-1",
        "trait-2",
    }
    assert sections <= set(page.ids)
    for text in (
        "9,812", "biolmm gwas --genotypes cohort.bed", "cohort.bed", "9f2b5c0d1e",
        "collinear with the intercept and sex",
        "S00004", "mixed model", "plain regression", "λ mixed model", "λ plain regression", "Manhattan", "16 probes",
        "Monte-Carlo error of h²", "LOCO solves", "Denominators of the scan (γ)", "Leads, scan against exact",
        "Eigenpairs", "LD score intercept", "LD score ratio", "1.120 ± 0.009 at worst",
        "h2 is above 1", "contig left out", "peak memory", "3 outliers beyond 8 standard deviations",
    ):  # fmt: skip
        assert text in page.text, text


def test_page_is_self_contained_and_links_resolve(make_results: Callable[..., Path]) -> None:
    results = make_results(("height", NASTY))
    html = write_report(results).read_text(encoding="utf-8")
    page = Page(html)
    without_pictures = re.sub(r"data:image/png;base64,[^\"]*", "", html)
    assert not re.search(r"https?:|//|@import|url\((?!#)|<link|<script", without_pictures)
    for reference in page.references:
        assert reference.startswith("data:image/png;base64,") or reference[1:] in page.ids, reference
    assert len(page.ids) == len(set(page.ids))


def test_names_are_escaped_everywhere(make_results: Callable[..., Path]) -> None:
    page = page_of(make_results((NASTY,)))
    assert page.text.count(NASTY) >= 5
    assert "script" not in page.tags
    assert "batch=<b>7" in page.text


def test_page_of_ten_traits_stays_small(make_results: Callable[..., Path]) -> None:
    results = make_results(tuple(f"trait {i}" for i in range(10)))
    assert write_report(results).stat().st_size < 5_000_000


def test_figures_stop_at_the_limit_and_the_page_says_so(make_results: Callable[..., Path]) -> None:
    results = make_results(("t1", "t2", "t3"))
    text = Page(write_report(results, max_figures=1).read_text(encoding="utf-8"))
    assert "trait-1" in text.ids
    assert "trait-2" not in text.ids
    assert "first 1 traits; the tables have all 3" in text.text


@pytest.mark.parametrize(
    "missing", ["h2.tsv", "leads.tsv", "eigen.tsv", "pcs.tsv", "gamma.tsv", "loco.tsv", "linear", "run.json"]
)
def test_any_part_may_be_missing(make_results: Callable[..., Path], missing: str) -> None:
    results = make_results()
    path = results / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = page_of(results)
    assert "height" in page.text
    if missing == "run.json":
        assert "run.json is missing" in page.text


def test_plain_regression_alone_makes_a_page(make_results: Callable[..., Path]) -> None:
    results = make_results()
    for path in results.glob("*.tsv"):
        path.unlink()
    shutil.rmtree(results / "associations")
    page = page_of(results)
    assert "plain regression" in page.text
    assert "λ mixed model" not in page.text
    assert "heritability" not in page.ids


def test_tables_without_rows_make_a_page(make_results: Callable[..., Path]) -> None:
    results = make_results()
    for name in ("leads", "gamma", "loco", "eigen"):
        frame = read_result_table(results, name)
        assert frame is not None
        write_result_table(results, name, frame.head(0))
    assert "No variant reaches p < 5 × 10⁻⁸" in page_of(results).text


def test_huge_significance_is_written_out(make_results: Callable[..., Path]) -> None:
    results = make_results(strongest_z=150.0)
    assert re.search(r"× 10⁻[¹²³⁴⁵⁶⁷⁸⁹⁰]{4}", page_of(results).text)


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="holds no results"):
        write_report(tmp_path)


def test_the_same_results_give_the_same_page(make_results: Callable[..., Path]) -> None:
    results = make_results()
    assert write_report(results).read_bytes() == write_report(results).read_bytes()


def levels(**tables: pd.DataFrame | None) -> list[str]:
    empty: dict[str, pd.DataFrame | None] = dict.fromkeys(("h2", "gamma", "loco", "leads", "eigen", "ldsc"))
    return [verdict.level for verdict in judge(**{**empty, **tables})]


@pytest.mark.parametrize(
    ("error", "level"), [(0.0, GOOD), (0.001, GOOD), (0.0015, FAIR), (0.004, POOR), (float("nan"), FAIR)]
)
def test_monte_carlo_error_is_judged_against_the_standard_error(error: float, level: str) -> None:
    h2 = pd.DataFrame({"trait": ["a", "b"], "h2_se": [0.01, 0.02], "h2_mc_se": [error, 0.0]})
    assert levels(h2=h2) == [level]


@pytest.mark.parametrize(
    ("residual", "converged", "level"),
    [(5e-3, True, GOOD), (1e-2, True, FAIR), (0.1, True, POOR), (1e-3, False, FAIR), (float("nan"), False, POOR)],
)
def test_solves_are_judged_by_the_worst(residual: float, converged: bool, level: str) -> None:
    loco = pd.DataFrame({"trait": "t", "contig": ["1", "2"], "iterations": 3, "relative_residual": [1e-4, residual]})
    assert levels(loco=loco.assign(converged=[True, converged])) == [level]


@pytest.mark.parametrize(("scan", "level"), [(100.0, GOOD), (101.9, GOOD), (92.0, FAIR), (80.0, POOR)])
def test_leads_are_judged_by_their_change(scan: float, level: str) -> None:
    assert levels(leads=pd.DataFrame({"trait": "t", "rsid": "r", "chisq": [100.0], "chisq_scan": [scan]})) == [level]


def test_gamma_and_eigenpairs_are_judged_by_relative_error() -> None:
    gamma = pd.DataFrame({"trait": "t", "maf_class": "c", "n_variants": 9, "gamma": [2.0], "gamma_se": [0.05]})
    eigen = pd.DataFrame({"component": [1, 2], "eigenvalue": [9.0, 2.0], "residual": [1e-6, 0.02]})
    assert levels(gamma=gamma) == [FAIR]
    assert levels(eigen=eigen) == [FAIR]
    assert levels() == []


@pytest.mark.parametrize(
    ("intercept", "error", "ratio", "expected"),
    [
        (1.01, 0.01, 0.02, [GOOD, GOOD]),
        (1.04, 0.01, 0.08, [GOOD, GOOD]),  # within 0.05
        (1.2, 0.02, 0.06, [GOOD, GOOD]),  # a polygenic trait of a large cohort
        (1.1, 0.02, 0.15, [FAIR, FAIR]),
        (1.3, 0.02, 0.4, [POOR, POOR]),
        (0.9, 0.01, -0.3, [FAIR, GOOD]),
        (0.7, 0.01, float("nan"), [POOR]),
        (1.1, 0.2, 0.5, [FAIR, GOOD]),  # nobody can tell
        (float("nan"), float("nan"), float("nan"), [FAIR]),
    ],
)
def test_calibration_is_judged_by_intercept_and_ratio(
    intercept: float, error: float, ratio: float, expected: list[str]
) -> None:
    ldsc = pd.DataFrame(
        {"trait": ["t"], "intercept": [intercept], "intercept_se": [error], "ratio": [ratio], "ratio_se": [error / 0.5]}
    )
    assert levels(ldsc=ldsc) == expected
    good = ldsc.assign(trait="u", intercept=1.0, intercept_se=0.01, ratio=0.0, ratio_se=0.02)
    both = judge(None, None, None, None, None, pd.concat([good, ldsc]))
    assert [verdict.level for verdict in both] == [*expected, GOOD][:2]
