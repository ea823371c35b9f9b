"""Put the page together: numbers, tables and figures into one HTML file without any outside resource."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from biolmm.atomic import write_text
from biolmm.memory import format_bytes
from biolmm.report import format as formats
from biolmm.report.gather import ReportData, gather
from biolmm.report.verdicts import FAIR, GOOD, POOR

REPORT_HTML = "report.html"
MAX_LOCI = 50
MAX_FIGURES = 40

_WORST_SOLVES = 8


def write_report(results_dir: Path, *, max_figures: int = MAX_FIGURES) -> Path:
    """Write `report.html` into a results directory, reading nothing but the files in it.

    Parameters
    ----------
    results_dir
        The directory that `gwas` wrote. Parts that the run did not produce are left out of the page.
    max_figures
        Draw the figures of at most this many traits, so that the page stays a page; the tables have all traits.

    Returns
    -------
    Path
        The page, written atomically.

    Raises
    ------
    InputFileError
        When the directory holds no results or a file of it cannot be read.
    OutputError
        When the page cannot be written.

    Notes
    -----
    Cost: reads every trait's positions and p-values once; memory for one trait at a time.
    """
    results_dir = Path(results_dir)
    return write_text(results_dir / REPORT_HTML, render(gather(results_dir, max_figures)))


def render(data: ReportData) -> str:
    """Fill the template; every text is escaped but the figures, which are ours."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("biolmm.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "count": formats.count,
        "fixed": formats.fixed,
        "significant": formats.significant,
        "p_value": formats.p_value,
        "p_plain": formats.p_plain,
        "seconds": formats.seconds,
        "bytes": lambda value: formats.NOTHING if value is None else format_bytes(value),
        "when": formats.when,
        "words": formats.words,
        "plain": formats.plain,
        "svg": Markup,
    }
    return environment.get_template("report.html.j2").render(_context(data))


def _context(data: ReportData) -> dict[str, Any]:
    record, tables = data.record, data.tables
    stages = record.get("stages", [])
    wall = [float(stage.get("wall_seconds") or 0.0) for stage in stages]
    leads = tables.leads if tables.leads is not None else pd.DataFrame()
    levels = [verdict.level for verdict in data.verdicts]
    return {
        "record": record,
        "traits": data.traits,
        "figures": data.figures,
        "warnings": data.warnings,
        "unfinished": bool(record) and not record.get("finished"),
        "verdicts": data.verdicts,
        "n_good": levels.count(GOOD),
        "attention": [v for v in data.verdicts if v.level in (FAIR, POOR)],
        "h2": _rows(tables.h2),
        "ldsc": _rows(tables.ldsc),
        "solvers": record.get("traits", {}),
        "gamma": _gamma_rows(tables.gamma),
        "loco": _worst_solves(tables.loco),
        "n_solves": 0 if tables.loco is None else len(tables.loco),
        "loci": _rows(_top_loci(leads)),
        "n_loci": len(leads) if tables.leads is not None else None,
        "samples": _flow(record, "samples"),
        "variants": _flow(record, "variants"),
        "n_samples": _n_samples(data),
        "n_variants": max((trait.n_variants for trait in data.traits), default=None),
        "has_mixed": any(trait.lambda_mixed is not None for trait in data.traits),
        "has_linear": any(trait.lambda_linear is not None for trait in data.traits),
        "n_pcs": 0 if tables.pcs is None else tables.pcs.shape[1] - 1,
        "stages": stages,
        "total_wall": sum(wall) or None,
        "total_cpu": sum(float(stage.get("cpu_seconds") or 0.0) for stage in stages) or None,
        "longest_wall": max(wall, default=0.0) or 1.0,
        "peak_bytes": max((stage.get("peak_bytes") or 0 for stage in stages), default=0) or None,
    }


def _rows(frame: pd.DataFrame | None) -> list[dict[str, Any]]:
    return [] if frame is None else [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def _top_loci(leads: pd.DataFrame) -> pd.DataFrame:
    if leads.empty:
        return leads
    keys = ["neg_log_10_p_value", "chromosome", "base_pair_location"]
    return leads.sort_values(keys, ascending=[False, True, True]).head(MAX_LOCI)


def _gamma_rows(gamma: pd.DataFrame | None) -> list[dict[str, Any]]:
    """γ by trait and class, with the class's γ relative to the trait's mean over all sampled variants."""
    if gamma is None or gamma.empty:
        return []
    weighted = (gamma["gamma"] * gamma["n_variants"]).groupby(gamma["trait"]).transform("sum")
    mean = weighted / gamma["n_variants"].groupby(gamma["trait"]).transform("sum")
    return _rows(gamma.assign(relative=gamma["gamma"] / mean))


def _worst_solves(loco: pd.DataFrame | None) -> list[dict[str, Any]]:
    if loco is None or loco.empty:
        return []
    return _rows(loco.sort_values("relative_residual", ascending=False, kind="stable").head(_WORST_SOLVES))


def _flow(record: dict[str, Any], what: str) -> list[tuple[str, Any]]:
    counts = record.get("counts", {}).get(what, {})
    return list(counts.items()) if isinstance(counts, dict) else [(what, counts)]


def _n_samples(data: ReportData) -> int | None:
    analysed = dict(_flow(data.record, "samples")).get("analysed")
    if isinstance(analysed, int):
        return analysed
    return max((trait.n for trait in data.traits if trait.n is not None), default=None)
