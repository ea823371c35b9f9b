"""Figures as files: PNG for screens, SVG and PDF for print."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from biolmm.atomic import atomic_path
from biolmm.errors import ParameterError
from biolmm.plots.style import RASTER_DPI, RC

FORMATS = ("png", "svg", "pdf")


def format_of(path: Path, asked: str | None = None) -> str:
    """Tell the format of a figure: the one asked for, else by the file's ending.

    Raises
    ------
    ParameterError
        When it is none of PNG, SVG and PDF.

    Examples
    --------
    >>> format_of(Path("a.svg")), format_of(Path("a"), "pdf")
    ('svg', 'pdf')
    """
    found = asked or path.suffix.removeprefix(".").lower()
    if found not in FORMATS:
        raise ParameterError(f"{path} does not say its format: end its name in .png, .svg or .pdf, or give --format.")
    return found


def save_figure(figure: Figure, path: Path, format: str | None = None, *, dpi: int = RASTER_DPI) -> Path:
    """Write a figure atomically, on white; text stays text in SVG and PDF, and no date makes two runs differ.

    Parameters
    ----------
    figure
        A figure of this package.
    path
        Where to; the ending tells the format.
    format
        `png`, `svg` or `pdf`, whatever the ending.
    dpi
        Of PNG files, and of the points in the others, which are one picture.

    Raises
    ------
    ParameterError
        When the format is none of these.
    OutputError
        When the file cannot be written.
    """
    kind = format_of(path, format)
    metadata: dict[str, dict[str, str | None]] = {
        "png": {"Software": None},
        "svg": dict.fromkeys(("Creator", "Date", "Format", "Type")),
        "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    }
    with atomic_path(path) as aside, mpl.rc_context({**RC, "pdf.fonttype": 42, "svg.hashsalt": "biolmm"}):
        figure.savefig(aside, format=kind, dpi=dpi, facecolor="white", metadata=metadata[kind])
    return path
