"""Read everything the page needs from the results directory; what a run did not write is None or empty."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from biolmm.errors import InputFileError
from biolmm.plots.heritability import h2_bars
from biolmm.plots.manhattan import manhattan
from biolmm.plots.qq import qq
from biolmm.plots.structure import pc_scatter, scree
from biolmm.plots.style import to_inline_svg
from biolmm.report.verdicts import Verdict, judge
from biolmm.results.associations import read_associations
from biolmm.results.diagnostics import lambda_gc
from biolmm.results.paths import ASSOCIATIONS, LINEAR, list_traits
from biolmm.results.record import RUN_JSON, read_record
from biolmm.results.tables import read_result_table

_COLUMNS = ("chromosome", "base_pair_location", "neg_log_10_p_value", "chisq", "n")
_PANEL = 2.9
_WIDE = 7.6


@dataclass(frozen=True)
class Tables:
    """The small tables of a run."""

    h2: pd.DataFrame | None
    leads: pd.DataFrame | None
    gamma: pd.DataFrame | None
    loco: pd.DataFrame | None
    eigen: pd.DataFrame | None
    pcs: pd.DataFrame | None
    ldsc: pd.DataFrame | None

    @classmethod
    def read(cls, results_dir: Path) -> Tables:
        """Read those that are there."""
        return cls(**{name: read_result_table(results_dir, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class TraitSection:
    """One trait's numbers and figures (SVG; empty when the page already has too many)."""

    name: str
    n: int | None
    n_variants: int
    n_loci: int | None
    best_neg_log10_p: float
    lambda_mixed: float | None
    lambda_linear: float | None
    manhattan: str
    qq_mixed: str
    qq_linear: str


@dataclass(frozen=True)
class ReportData:
    """All that the template shows."""

    record: dict[str, Any]
    tables: Tables
    traits: list[TraitSection]
    verdicts: list[Verdict]
    warnings: list[str]
    figures: dict[str, str]


def gather(results_dir: Path, max_figures: int) -> ReportData:
    """Read a results directory and draw its figures, those of at most `max_figures` traits.

    Raises
    ------
    InputFileError
        When the directory holds no association results at all, or a file of it cannot be read.
    """
    tables = Tables.read(results_dir)
    mixed, linear = list_traits(results_dir, ASSOCIATIONS), list_traits(results_dir, LINEAR)
    record = read_record(results_dir) if (results_dir / RUN_JSON).exists() else {}
    if not mixed and not linear and tables.h2 is None:
        raise InputFileError(f"{results_dir} holds no results: is it a directory written by biolmm?")
    names = sorted({*mixed, *linear}, key=_order_of(record, [*mixed, *linear]))
    traits = [
        _trait_section(results_dir, name, tables.leads, name in mixed, name in linear, index < max_figures)
        for index, name in enumerate(names)
    ]
    verdicts = judge(tables.h2, tables.gamma, tables.loco, tables.leads, tables.eigen, tables.ldsc)
    return ReportData(record, tables, traits, verdicts, _warnings(record), _figures(tables))


def _order_of(record: dict[str, Any], names: list[str]) -> Any:
    """Traits in the order of the run; others after them."""
    order = {name: index for index, name in enumerate([*record.get("traits", {}), *names][::-1])}
    return lambda name: -order[name]


def _trait_section(
    results_dir: Path, name: str, leads: pd.DataFrame | None, mixed: bool, linear: bool, draw: bool
) -> TraitSection:
    """Numbers and figures of one trait; the plain regression stands in when there is no mixed model."""
    first = read_associations(results_dir, name, columns=_COLUMNS, kind=ASSOCIATIONS if mixed else LINEAR)
    lambda_first = lambda_gc(first["chisq"])
    n = int(first["n"].max()) if first["n"].notna().any() else None
    of_trait = None if leads is None else leads[leads["trait"] == name]
    height = first["neg_log_10_p_value"]
    figures = {"manhattan": "", "qq_mixed": "", "qq_linear": ""}
    if draw:
        figures["manhattan"] = to_inline_svg(manhattan(first, of_trait, size=(_WIDE, _PANEL)), f"m-{name}")
        figures["qq_mixed" if mixed else "qq_linear"] = _qq(height, lambda_first, n, mixed, name)
    lambda_linear = None if mixed else lambda_first
    if mixed and linear:
        second = read_associations(results_dir, name, columns=("neg_log_10_p_value", "chisq"), kind=LINEAR)
        lambda_linear = lambda_gc(second["chisq"])
        if draw:
            figures["qq_linear"] = _qq(second["neg_log_10_p_value"], lambda_linear, n, False, name)
    return TraitSection(
        name=name,
        n=n,
        n_variants=int(height.notna().sum()),
        n_loci=None if of_trait is None else len(of_trait),
        best_neg_log10_p=float(height.max()),
        lambda_mixed=lambda_first if mixed else None,
        lambda_linear=lambda_linear,
        **figures,
    )


def _qq(height: pd.Series[float], inflation: float, n: int | None, mixed: bool, name: str) -> str:
    title = "mixed model" if mixed else "plain regression"
    figure = qq(height, lambda_gc=inflation, n_samples=n, title=title, size=(_PANEL, _PANEL))
    return to_inline_svg(figure, f"{title}-{name}")


def _figures(tables: Tables) -> dict[str, str]:
    figures = {"h2": "", "pcs": "", "scree": ""}
    if tables.h2 is not None and len(tables.h2):
        figures["h2"] = to_inline_svg(h2_bars(tables.h2), "h2")
    if tables.pcs is not None and tables.pcs.shape[1] > 1:
        figures["pcs"] = to_inline_svg(pc_scatter(tables.pcs), "pcs")
    if tables.eigen is not None and len(tables.eigen):
        figures["scree"] = to_inline_svg(scree(tables.eigen), "scree")
    return figures


def _warnings(record: dict[str, Any]) -> list[str]:
    if not record:
        return [f"{RUN_JSON} is missing: this page cannot say what was run, on what, or what was dropped."]
    return [str(warning) for warning in record.get("warnings", [])]
