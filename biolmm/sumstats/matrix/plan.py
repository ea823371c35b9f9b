"""What adding studies reads, writes and holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from biolmm.files.lines import file_start
from biolmm.memory import Need, StagePlan
from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.ingest.records import row_type
from biolmm.sumstats.ingest.sources import open_study
from biolmm.sumstats.matrix.change import Sizes

_TEXT_BYTES = 60
"""Of a record, in text; a table's rows have 50 to 100 bytes."""

_BLOCK_FACTOR = 12
"""Bytes held while a byte of text is parsed: the text twice, spans of fields, numbers."""


def plan_add(studies: Sequence[StudyInput], rules: Rules, *, n_threads: int, sizes: Sizes | None = None,
             without_positions_bytes: int = 0) -> StagePlan:  # fmt: skip
    """Say what `add_studies` costs, from the sizes of the files."""
    sizes = sizes or Sizes()
    files = [file for s in studies for file in open_study(s.path, s.columns, trait=s.trait, bim=s.bim).paths]
    read = sum(file.stat().st_size for file in files)
    text = sum(file.stat().st_size * (4 if _is_packed(file) else 1) for file in files)
    record, n_workers = row_type(rules.exact).itemsize, min(n_threads, len(studies))
    needs = (
        Need("blocks of text", n_workers * sizes.block_bytes * _BLOCK_FACTOR),
        Need("records of runs", n_workers * (sizes.run_rows + sizes.block_bytes // _TEXT_BYTES) * 3 * record),
        Need("records of a stretch", 3 * sizes.stretch_rows * record),
        Need(
            "cells of a chunk",
            2 * sizes.chunk_variants * len(studies) * (row_type(rules.exact)["values"].itemsize + 10),
        ),
        Need("identifiers and their places", without_positions_bytes),
    )
    written = text // _TEXT_BYTES * (record + 8)
    return StagePlan("add", n_tasks=len(studies), n_passes=1, read_bytes=read, written_bytes=written, needs=needs)


def _is_packed(file: Path) -> bool:
    start = file_start(file)
    return start.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"))
