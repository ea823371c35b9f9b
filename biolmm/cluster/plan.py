"""What a plan means for those who compute: time, the memory of each worker, and what a pass moves between them.

A pass sends its columns, n_samples × columns of single precision, to every worker once; each task of a pass returns a partial
result of the same size, and a tree of sums moves those that are not added where they were made. `cost.py` has the times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from biolmm.chunks import n_threads
from biolmm.cluster.cost import Machine, StageTime, Workers, stage_time, start_time, tree_moves
from biolmm.memory import StagePlan, format_bytes

PROCESS_BYTES = 600 * 2**20
"""The interpreter of a worker, with libraries and kernels."""
HELD = 4
"""Partial results that a worker holds beside one a thread."""
_CHUNKS = "chunks of genotypes in hand"

_expected: ContextVar[Workers | None] = ContextVar("biolmm_workers", default=None)


@contextmanager
def expected_workers(count: int | None, threads: int, processors: int | None = None) -> Iterator[None]:
    """Extend the plans that are printed inside the block by what they mean for so many workers; None: by nothing.

    `processors` is how many they share, where they are on one machine.
    """
    token = _expected.set(None if count is None else Workers(count, threads, processors))
    try:
        yield
    finally:
        _expected.reset(token)


def network_bytes(plan: StagePlan, workers: Workers) -> int:
    """Return what one pass of a stage moves between processes.

    Every worker gets the columns. Of the partial results, those travel that are added elsewhere than where they were made
    (`tree_moves`). The sum goes to the driver.

    Examples
    --------
    >>> network_bytes(StagePlan("fit", n_passes=1, n_tasks=32, panel_bytes=100), Workers(1, 2))
    200
    >>> network_bytes(StagePlan("fit", n_passes=1, n_tasks=32, panel_bytes=100), Workers(4, 2))
    1000
    """
    if not plan.panel_bytes:
        return 0
    n_tasks = max(plan.n_tasks // max(plan.n_passes, 1), 1)
    columns = min(workers.count, n_tasks) * plan.panel_bytes
    if plan.stage == "scan":  # workers write what they find
        return columns
    moved = sum(all_of_them for all_of_them, _ in tree_moves(n_tasks, workers))
    return columns + (moved + 1) * plan.panel_bytes


def memory_of_worker(plan: StagePlan, workers: Workers) -> int:
    """Return what a worker holds in one stage: itself, the columns, partial results, chunks in hand, and rows it keeps."""
    tasks = workers.threads
    chunks = sum(need.n_bytes for need in plan.needs if need.name == _CHUNKS)
    from biolmm.cluster.processes import CACHE_SHARE  # brings Dask's scheduler with it

    in_hand = chunks * tasks // max(n_threads(), 1)
    held = PROCESS_BYTES + plan.panel_bytes * (1 + tasks + HELD) + in_hand
    return int(held / (1 - CACHE_SHARE))


def workers_text(plans: Sequence[StagePlan], machine: Machine | None = None) -> str:
    """Return the lines that `--plan` adds for the workers of this run; empty where their number is not known."""
    workers = _expected.get()
    if workers is None:
        return ""
    header = ["stage", "network a pass", "network in all", "memory a worker"]
    rows = [
        [
            plan.stage,
            format_bytes(network_bytes(plan, workers)),
            format_bytes(network_bytes(plan, workers) * max(plan.n_passes, 1)),
            format_bytes(memory_of_worker(plan, workers)),
        ]
        for plan in plans
        if plan.panel_bytes
    ]
    text = f"\non {workers.count} workers of {workers.threads} threads:\n{_aligned([header, *rows])}"
    return text if machine is None else f"{text}\n{time_text(plans, machine, workers)}"


def threads_text(plans: Sequence[StagePlan], machine: Machine, threads: int) -> str:
    """Return the lines that `--plan` adds on the time of threads of this process; empty where no stage's is known."""
    if _expected.get() is not None or all(plan.work is None for plan in plans):
        return ""
    return f"\non {threads} threads:\n" + time_text(plans, machine, Workers(1, threads, remote=False))


def time_text(plans: Sequence[StagePlan], machine: Machine, workers: Workers) -> str:
    """Return the expected time of every stage, what it goes to, and what it rests on."""
    header = ["stage", "passes", "wall", "CPU", "cores busy", "most of it"]
    rows, total, unknown = [], start_time(machine, workers), []
    for plan in plans:
        time = stage_time(plan, machine, workers)
        if time is None:
            unknown.append(plan.stage)
            continue
        total += time
        rows.append([plan.stage, f"{time.passes:.0f}", *_seconds(time), _busy(time, workers), time.limit])
    rows.append(["in all, with start-up", f"{total.passes:.0f}", *_seconds(total), _busy(total, workers), total.limit])
    notes = [f"Expected, not bounds; rates {machine.source}."]
    if unknown:
        notes.append(f"Without {', '.join(unknown)}.")
    return "\n".join([_aligned([header, *rows], right=5), " ".join(notes)])


def _seconds(time: StageTime) -> tuple[str, str]:
    return duration_text(time.wall), duration_text(time.cpu)


def _busy(time: StageTime, workers: Workers) -> str:
    return f"{100 * efficiency(time, workers):.0f} %"


def efficiency(time: StageTime, workers: Workers) -> float:
    """Return the share of the cores' time that goes to tasks: at most 1."""
    return min(1.0, time.useful / (time.wall * workers.cores)) if time.wall > 0 else 0.0


def duration_text(seconds: float) -> str:
    """Write a time for people.

    Examples
    --------
    >>> duration_text(7.25), duration_text(75), duration_text(7500), duration_text(360000)
    ('7.2 s', '75 s', '125 min', '100.0 h')
    """
    if seconds < 20:
        return f"{seconds:.1f} s"
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 18_000 else f"{seconds / 3600:.1f} h"


def _aligned(rows: Sequence[Sequence[str]], right: int | None = None) -> str:
    """Line up rows: the first column left, the others up to number `right` (all by default) right, the rest left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    last = len(widths) if right is None else right
    cells = (
        [
            cell.rjust(width) if 0 < i < last else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    )
    return "\n".join("  ".join(row).rstrip() for row in cells)
