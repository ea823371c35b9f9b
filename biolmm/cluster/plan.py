"""What a plan means for workers: the memory of each, and what a pass moves between them.

A pass sends its columns, n_samples × columns of single precision, to every worker once; each task of a pass returns a partial
result of the same size, and a tree of sums moves those that are not added where they were made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from biolmm.cluster.processes import CACHE_SHARE
from biolmm.memory import StagePlan, format_bytes

PROCESS_BYTES = 600 * 2**20
"""The interpreter of a worker, with libraries and kernels."""
PARTIALS = 32
"""Partial results of a pass that are added up at most."""
FAN_IN = 4
_SHARED = ("chunks of genotypes in hand",)


@dataclass(frozen=True)
class Workers:
    """How many workers a plan is for, and how many tasks each does at a time."""

    count: int
    threads: int


_expected: ContextVar[Workers | None] = ContextVar("biolmm_workers", default=None)


@contextmanager
def expected_workers(count: int | None, threads: int) -> Iterator[None]:
    """Extend the plans that are printed inside the block by what they mean for so many workers; None: by nothing."""
    token = _expected.set(None if count is None else Workers(count, threads))
    try:
        yield
    finally:
        _expected.reset(token)


def network_bytes(plan: StagePlan, workers: Workers) -> int:
    """Return what one pass of a stage moves between processes.

    Every worker gets the columns. Of the partial results, a share 1 − 1/workers is added elsewhere than where it was made:
    in each group of four three at most travel. The sum goes to the driver.

    Examples
    --------
    >>> network_bytes(StagePlan("fit", n_passes=1, n_tasks=32, panel_bytes=100), Workers(1, 2))
    200
    >>> network_bytes(StagePlan("fit", n_passes=1, n_tasks=32, panel_bytes=100), Workers(4, 2))
    2825
    """
    if not plan.panel_bytes:
        return 0
    columns = workers.count * plan.panel_bytes
    if plan.stage == "scan":  # workers write what they find
        return columns
    n_partials = min(PARTIALS, max(plan.n_tasks // max(plan.n_passes, 1), 1))
    moved, level = 0.0, n_partials
    while level > 1:
        following = -(-level // FAN_IN)
        moved += (level - following) * (1 - 1 / workers.count)
        level = following
    return int(columns + moved * plan.panel_bytes + plan.panel_bytes)


def memory_of_worker(plan: StagePlan, workers: Workers, tasks_held: int = 4) -> int:
    """Return what a worker holds in one stage: itself, the columns, partial results, chunks in hand, and rows it keeps."""
    tasks = workers.threads
    chunks = sum(need.n_bytes for need in plan.needs if need.name in _SHARED)
    from biolmm.chunks import n_threads

    in_hand = chunks * tasks // max(n_threads(), 1)
    held = PROCESS_BYTES + plan.panel_bytes * (1 + tasks + tasks_held) + in_hand
    return int(held / (1 - CACHE_SHARE))


def workers_text(plans: Sequence[StagePlan]) -> str:
    """Return the lines that `--plan` adds for the workers of this run; empty where their number is not known."""
    workers = _expected.get()
    if workers is None:
        return ""
    header = ("stage", "network a pass", "network in all", "memory a worker")
    rows = [
        (
            plan.stage,
            format_bytes(network_bytes(plan, workers)),
            format_bytes(network_bytes(plan, workers) * max(plan.n_passes, 1)),
            format_bytes(memory_of_worker(plan, workers)),
        )
        for plan in plans
    ]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in [header, *rows]
    ]
    return "\n".join([f"\non {workers.count} workers of {workers.threads} threads:", *lines])
