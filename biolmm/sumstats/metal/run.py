"""Carrying out a METAL script: check everything that can be checked, then read each file once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from biolmm.errors import InputFileError
from biolmm.memory import Need, StagePlan
from biolmm.sumstats.metal.columns import Columns, find_columns
from biolmm.sumstats.metal.combine import combine
from biolmm.sumstats.metal.script import Plan
from biolmm.sumstats.metal.settings import Analyse, Clear, ProcessFile
from biolmm.sumstats.metal.study import BLOCK_BYTES, Shelf, Study, read_marker_list, read_study
from biolmm.sumstats.metal.writer import write_info, write_table

log = logging.getLogger(__name__)

_BYTES_PER_LINE = 60
_BYTES_PER_MARKER = 64


@dataclass(frozen=True)
class Table:
    """A table that was written: where, how many markers, and the studies in it with their counts."""

    path: Path
    n_markers: int
    studies: tuple[Study, ...] = field(repr=False)


def check_plan(plan: Plan, *, as_metal: bool = False) -> dict[int, Columns]:
    """Find the columns of every file of a plan, before any is read further than its header.

    Returns
    -------
    dict
        Columns by the number of the step. With `as_metal` files that METAL would leave out are not there.

    Raises
    ------
    InputFileError
        When a file is missing, is no text, or lacks a column; or sizes and settings contradict each other.
    """
    found: dict[int, Columns] = {}
    overlaps: set[tuple[bool, float]] = set()
    for number, step in enumerate(plan.steps):
        if isinstance(step, Clear):
            overlaps.clear()
        if isinstance(step, Analyse):
            overlaps.add((step.settings.overlap, step.settings.z_cutoff if step.settings.overlap else 0.0))
        if not isinstance(step, ProcessFile):
            _check_overlap(overlaps, step)
            continue
        overlaps.add((step.settings.overlap, step.settings.z_cutoff if step.settings.overlap else 0.0))
        if step.settings.genomic_control.markers is not None:
            read_marker_list(step.settings.genomic_control.markers)
        try:
            found[number] = find_columns(step, as_metal=as_metal)
        except InputFileError as error:
            if not as_metal:
                raise
            log.warning("left out, as METAL does: %s", error)
    return found


def _check_overlap(overlaps: set[tuple[bool, float]], step: Analyse | Clear) -> None:
    if len(overlaps) > 1 and isinstance(step, Analyse):
        raise InputFileError(f"{step.line}: OVERLAP and ZCUTOFF differ between the files of this analysis and it; set them once, "
                             "before the first PROCESS.")  # fmt: skip


def plan_memory(plan: Plan, columns: dict[int, Columns]) -> StagePlan:
    """Estimate what a plan reads and holds, from the sizes of its files."""
    files = [plan.steps[number] for number in columns]
    sizes = [step.path.stat().st_size * (4 if step.path.suffix in (".gz", ".bgz", ".zst") else 1)
             for step in files if isinstance(step, ProcessFile)]  # fmt: skip
    lines = [size // _BYTES_PER_LINE for size in sizes]
    width = 24 if any(step.settings.use_freq for step in plan.files) else 16
    needs = (
        Need("the studies' statistics", max(lines, default=0) * width * len(lines)),
        Need("markers", max(lines, default=0) * _BYTES_PER_MARKER),
        Need("blocks of text", 8 * BLOCK_BYTES),
    )
    return StagePlan("metal", n_tasks=len(files), n_passes=1, read_bytes=sum(sizes), needs=needs)


def run_plan(plan: Plan, out_dir: Path | None = None, *, as_metal: bool = False,
             columns: dict[int, Columns] | None = None, block_bytes: int = BLOCK_BYTES) -> list[Table]:  # fmt: skip
    """Carry out a script.

    Parameters
    ----------
    plan
        From `read_script`.
    out_dir
        Folder of the tables; by default where the script says, relative to the working folder.
    as_metal
        Go on where METAL does: leave files out, take missing numbers for 0.
    columns
        From `check_plan`, which is called otherwise.
    block_bytes
        Text of a block; results do not depend on it.

    Returns
    -------
    list
        A table for each ANALYZE, in order.

    Raises
    ------
    InputFileError
        When a file cannot be used.
    OutputError
        When a table cannot be written.

    Notes
    -----
    **Cost** half a second a million lines and file, 3 µs a marker and table. Files are read once, also for heterogeneity.
    """
    columns = check_plan(plan, as_metal=as_metal) if columns is None else columns
    for refusal in plan.refusals:
        log.warning("left out: %s", refusal)
    shelf, studies, tables = Shelf(), [], []  # type: Shelf, list[Study], list[Table]
    for number, step in enumerate(plan.steps):
        if isinstance(step, Clear):
            shelf, studies = Shelf(), []
        elif isinstance(step, Analyse):
            tables.append(_analyse(step, studies, shelf, out_dir, as_metal))
        elif number in columns:
            for note in columns[number].notes:
                log.warning("%s: %s", step.name, note)
            studies.append(read_study(step, columns[number], shelf, as_metal=as_metal, block_bytes=block_bytes))
            log.info("%s", describe(studies[-1]))
    return tables


def _analyse(step: Analyse, studies: Sequence[Study], shelf: Shelf, out_dir: Path | None, as_metal: bool) -> Table:
    if not studies:
        raise InputFileError(f"{step.line}: no file was processed before this ANALYZE.")
    name = Path(step.file_name)
    path = name if out_dir is None else out_dir / name.name
    n = write_table(step, path, combine(step, studies, shelf, as_metal=as_metal), shelf)
    write_info(step, path, [study.name for study in studies])
    log.info("%s: %s markers", path, f"{n:,}")
    return Table(path, n, tuple(studies))


def describe(study: Study) -> str:
    """Say what became of a file's lines.

    Examples
    --------
    >>> from collections import Counter
    >>> import numpy as np
    >>> counts = Counter({"lines": 10, "used": 8, "alleles": 2})
    >>> describe(Study("a.txt", np.empty(0), np.empty(0), None, 1.05, counts))
    'a.txt: 8 of 10 markers used; λ 1.050; left out: alleles 2'
    """
    counts = {reason: n for reason, n in study.counts.items() if n and reason not in ("lines", "used")}
    left_out = ", ".join(f"{reason} {n:,}" for reason, n in counts.items())
    lines = study.counts["lines"] + study.counts["columns"]
    text = f"{study.name}: {study.counts['used']:,} of {lines:,} markers used"
    if study.lambda_gc > 1:
        text += f"; λ {study.lambda_gc:.3f}"
    return text + (f"; left out: {left_out}" if left_out else "")
