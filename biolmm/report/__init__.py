"""One self-contained page about a run: what was done, what was found and how well the approximations held."""

from __future__ import annotations

from biolmm.report.page import write_report

__all__ = ["write_report"]
