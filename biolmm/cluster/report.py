"""Dask's performance report of a block: what ran where, and what was moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from distributed import performance_report

from biolmm.errors import ParameterError


@contextmanager
def performance_report_to(file: Path) -> Iterator[None]:
    """Write the report of what the client of this process does inside the block, an HTML page.

    Raises
    ------
    ParameterError
        When bokeh, which draws it, is not installed, or the file has no folder.
    """
    if find_spec("bokeh") is None:
        raise ParameterError("--performance-report needs bokeh: pip install 'biolmm[report]'.")
    if not file.absolute().parent.is_dir():
        raise ParameterError(f"--performance-report: the folder of '{file}' does not exist.")
    with performance_report(filename=str(file)):
        yield
