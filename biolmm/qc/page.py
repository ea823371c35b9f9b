"""The page of quality control, in the look of the report."""

from __future__ import annotations

from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from biolmm.plots.style import to_inline_svg
from biolmm.report import format as formats
from biolmm.report.verdicts import FAIR, NONE, POOR, Verdict

MAX_FLAGGED = 50
"""Flagged samples that the page names; all are in the table."""


def render(
    record: dict[str, Any], verdicts: list[Verdict], table: pd.DataFrame, figures: dict[str, Figure], out: str
) -> str:
    """Fill the template; every text is escaped but the figures, which are ours.

    Parameters
    ----------
    record
        What `qc.json` holds.
    verdicts
        In the order of the page.
    table
        The table of samples.
    figures
        By name.
    out
        The folder, as commands name it.
    """
    flagged = table[table["flagged_for"] != ""].head(MAX_FLAGGED)
    context = {
        "record": record,
        "counts": record["counts"],
        "verdicts": verdicts,
        "n_judged": sum(verdict.level != NONE for verdict in verdicts),
        "attention": [verdict for verdict in verdicts if verdict.level in (FAIR, POOR)],
        "figures": {name: to_inline_svg(figure, name) for name, figure in figures.items()},
        "flagged": flagged.to_dict("records"),
        "out": out,
    }
    return _environment().get_template("qc.html.j2").render(context)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader("biolmm.qc"), jinja2.PackageLoader("biolmm.report")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "count": formats.count,
        "fixed": formats.fixed,
        "when": formats.when,
        "words": formats.words,
        "plain": formats.plain,
        "svg": Markup,
    }
    return environment
