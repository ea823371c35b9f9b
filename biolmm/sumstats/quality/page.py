"""The pages: one a study and one of all, in the look of the report; each stands alone."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from biolmm.plots.style import to_png
from biolmm.report import format as formats

_DPI = 130


def render(template: str, context: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """Fill a template; every text is escaped, figures are embedded as PNG."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader("biolmm.sumstats.quality"), jinja2.PackageLoader("biolmm.report")]
        ),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"count": formats.count, "fixed": formats.fixed, "significant": formats.significant,
                            "words": formats.words, "plain": formats.plain, "when": formats.when}  # fmt: skip
    images = {name: _image(figure, name) for name, figure in figures.items()}
    return environment.get_template(template).render({**context, "figures": images})


def _image(figure: Figure, name: str) -> Markup:
    data = base64.b64encode(to_png(figure, _DPI)).decode("ascii")
    width = round(float(figure.get_figwidth()) * 96)
    return Markup('<img alt="{}" width="{}" src="data:image/png;base64,{}">').format(name, width, Markup(data))
