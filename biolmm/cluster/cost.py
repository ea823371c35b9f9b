"""How long a planned stage takes on so many workers: arithmetic, reading, the network, the scheduler, and the driver.

A pass is a set of tasks that are handed to whoever is free, and a tree that adds up what they return. Its time is that of
the last core to finish, plus what nobody can help with: the columns have to reach every worker, the last partial results
climb the tree, and the driver works on the product alone before the next pass. `docs/scaling.md` has the formulas.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from biolmm.chunks import FAN_IN
from biolmm.memory import Passes, StagePlan, Work

SERVED_AT_ONCE = 10
"""Workers that one worker sends its data to at a time: `distributed.worker.connections.outgoing` of our settings."""

EVEN = 8
"""Products with a multiple of so many columns are faster: BLAS takes what is left over in several smaller steps."""


@dataclass(frozen=True)
class Workers:
    """Who computes.

    Attributes
    ----------
    count, threads
        Processes, and tasks that each does at a time.
    processors
        Processors that all of them share, where they are on one machine.
    remote
        Whether they are processes of their own; otherwise threads of the driver.
    cache_bytes
        Rows that each process keeps between passes; by default all.
    """

    count: int
    threads: int
    processors: int | None = None
    remote: bool = True
    cache_bytes: float = math.inf

    @property
    def cores(self) -> int:
        """Tasks that really run at a time."""
        return min(self.count * self.threads, self.processors or self.count * self.threads)

    @property
    def slowdown(self) -> float:
        """How much slower each task runs where more of them run than there are processors."""
        return self.count * self.threads / self.cores


@dataclass(frozen=True)
class Machine:
    """What one core, the driver and the network do, in seconds a unit of work.

    Attributes
    ----------
    pass_seconds
        For each arithmetic, seconds a genotype of a pass K X by the number of columns, ascending; straight between, for
        multiples of `EVEN` and other numbers apart.
    prepare_seconds
        For the driver to prepare an element of a pass's columns.
    add_seconds
        To make and add up an element of a partial result.
    driver_seconds
        For the driver to go over an element of a block of columns between passes.
    flop_seconds
        For an operation of its dense algebra.
    read_seconds
        To read, check and decompress a packed byte from the store.
    count_seconds
        To count a genotype under one set of samples.
    statistic_seconds, report_seconds
        To test and write a statistic (one of a variant and a trait), and to read it again for leads and report.
    evaluation_seconds
        For a likelihood of the driver.
    figure_seconds
        For the figures of a trait in the report.
    task_seconds, remote_task_seconds
        To hand out and take back a task: threads, workers.
    pass_seconds_remote
        To begin and end a pass on workers, whatever its size.
    network_bytes
        Bytes a second that a worker, or the driver, sends or receives.
    move_seconds
        CPU to send and receive a byte.
    stage_seconds
        To begin a stage with passes, load its kernels, and write what it found.
    start_seconds, start_report_seconds
        To start the program and read tables, and to make a report of nothing.
    start_worker_seconds
        To start a worker; all start at once.
    source
        Where the figures come from.
    """

    pass_seconds: Mapping[str, Sequence[tuple[float, float]]]
    prepare_seconds: float
    add_seconds: float
    driver_seconds: float
    flop_seconds: float
    read_seconds: float
    count_seconds: float
    statistic_seconds: float
    report_seconds: float
    evaluation_seconds: float
    figure_seconds: float
    task_seconds: float
    remote_task_seconds: float
    pass_seconds_remote: float
    network_bytes: float
    move_seconds: float
    stage_seconds: float
    start_seconds: float
    start_report_seconds: float
    start_worker_seconds: float
    source: str = "given"

    def genotype_seconds(self, columns: float, products: int = 2, arithmetic: str = "float32") -> float:
        """Return the seconds of one core for one genotype of a pass with so many columns."""
        known = self.pass_seconds.get(arithmetic) or self.pass_seconds["float32"]
        whole = [point for point in known if (point[0] % EVEN == 0) == (columns % EVEN == 0)]
        r, t = np.array(whole if len(whole) > 1 else known).T
        if columns <= r[-1]:
            both = float(np.interp(columns, r, t))
        else:
            both = float(t[-1] * columns / r[-1])  # wide blocks run at one rate
        # With one product the genotypes are unpacked as often and multiplied half as often.
        return both if products == 2 else (known[0][1] + both) / 2

    def values(self) -> dict[str, Any]:
        """Return the figures by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


DEFAULT = Machine(
    pass_seconds={"float32": ((1, 0.5e-9), (8, 0.7e-9), (10, 0.9e-9), (32, 1.0e-9), (108, 2.7e-9), (128, 2.9e-9))},
    prepare_seconds=5e-9,
    add_seconds=0.3e-9,
    driver_seconds=15e-9,
    flop_seconds=0.1e-9,
    read_seconds=0.8e-9,
    count_seconds=0.02e-9,
    statistic_seconds=0.4e-6,
    report_seconds=0.5e-6,
    evaluation_seconds=5e-3,
    figure_seconds=0.12,
    task_seconds=0.3e-3,
    remote_task_seconds=0.7e-3,
    pass_seconds_remote=0.04,
    network_bytes=1.25e9,
    move_seconds=1.0e-9,
    stage_seconds=0.15,
    start_seconds=2.5,
    start_report_seconds=0.4,
    start_worker_seconds=2.0,
    source="stored figures of a core of an AMD EPYC with AVX-512, and a network of 10 Gbit/s",
)
"""Where nothing was measured."""


@dataclass
class StageTime:
    """Seconds of a stage, by what they go to.

    Attributes
    ----------
    compute
        Wall time of the tasks.
    network
        Wall time of columns on their way out and partial results on their way back, beyond the tasks.
    overhead
        Handing out tasks, beginning and ending passes.
    driver
        Algebra between passes, on the driver alone.
    cpu
        CPU time of everybody together.
    moved
        Bytes between processes.
    useful
        CPU time of the tasks: what would remain on one core.
    """

    compute: float = 0.0
    network: float = 0.0
    overhead: float = 0.0
    driver: float = 0.0
    cpu: float = 0.0
    moved: float = 0.0
    useful: float = 0.0
    passes: float = 0.0

    @property
    def wall(self) -> float:
        """Seconds from the beginning to the end."""
        return self.compute + self.network + self.overhead + self.driver

    @property
    def limit(self) -> str:
        """What takes the largest part."""
        parts = {"tasks": self.compute, "network": self.network, "scheduler": self.overhead, "driver": self.driver}
        return max(parts, key=lambda name: parts[name])

    def __add__(self, other: StageTime) -> StageTime:
        names = ("compute", "network", "overhead", "driver", "cpu", "moved", "useful", "passes")
        return StageTime(**{name: getattr(self, name) + getattr(other, name) for name in names})


def stage_time(plan: StagePlan, machine: Machine, workers: Workers) -> StageTime | None:
    """Foretell the time of a stage; None where its work is not known."""
    work = plan.work
    if work is None:
        return None
    total = StageTime()
    n_passes = max(work.n_passes, 1)
    read = work.from_store + (n_passes - work.from_store) * _missed(work, workers)
    for passes in work.passes:
        total += _passes_time(passes, work, machine, workers, read / n_passes, scan=work.statistics > 0)
    picked = work.picked_bytes * machine.read_seconds
    total += StageTime(compute=picked / workers.cores, cpu=picked, useful=picked)
    alone = work.driver_elements * machine.driver_seconds + work.driver_flop * machine.flop_seconds
    alone += work.evaluations * machine.evaluation_seconds + work.reported * machine.report_seconds
    alone += work.drawn * machine.figure_seconds + (machine.start_report_seconds if work.drawn else 0.0)
    total.driver += alone + (machine.stage_seconds if work.passes else 0.0)
    total.cpu += total.driver
    return total


def start_time(machine: Machine, workers: Workers) -> StageTime:
    """Return the time until the first stage begins."""
    wall = cpu = machine.start_seconds
    if workers.remote:
        wall += machine.start_worker_seconds * workers.slowdown
        cpu += machine.start_worker_seconds * workers.count
    return StageTime(driver=wall, cpu=cpu)


def makespan(seconds: Sequence[float], cores: int) -> float:
    """Return when the last of some tasks ends that are handed out in order to whichever core is free.

    Examples
    --------
    >>> makespan([1.0, 1.0, 1.0], 2), makespan([1.0, 1.0, 1.0], 8)
    (2.0, 1.0)
    """
    free = [0.0] * min(cores, max(len(seconds), 1))
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def broadcast_seconds(n_bytes: float, workers: Workers, machine: Machine) -> float:
    """Return how long columns take from the driver to all workers.

    They go to the scheduler and to the worker that unpacks them; the others ask that one, which serves `SERVED_AT_ONCE` of
    them over its one link; those who were served serve as many more each, and so on.
    """
    have, others, copies = 1, workers.count - 1, 0
    while others > 0:
        served = min(others, have * SERVED_AT_ONCE)
        copies += math.ceil(served / have)
        have, others = have + served, others - served
    return (2 + copies) * n_bytes / machine.network_bytes


def tree_moves(n_tasks: int, workers: Workers) -> list[tuple[int, int]]:
    """Return what changes process on each level of a sum: partial results in all, and the most that one node waits for.

    Neighbouring tasks run on the same worker, where there are as many tasks as workers, and a node of the tree runs where most
    of its parts are.

    Examples
    --------
    >>> tree_moves(32, Workers(4, 2))
    [(0, 0), (4, 2), (1, 1)]
    >>> tree_moves(3, Workers(4, 2))
    [(2, 2)]
    """
    slots = workers.count * workers.threads
    owners = [i * slots // n_tasks // workers.threads if n_tasks >= workers.count else i for i in range(n_tasks)]
    moves = []
    while len(owners) > 1:
        nodes = [owners[i : i + FAN_IN] for i in range(0, len(owners), FAN_IN)]
        owners = [max(node, key=node.count) for node in nodes]
        away = [len(node) - node.count(owner) for node, owner in zip(nodes, owners, strict=True)]
        moves.append((sum(away), max(away)))
    return moves


def _missed(work: Work, workers: Workers) -> float:
    """Return the share of rows that no worker has room to keep between passes: each has its own tasks in every pass."""
    whole = work.row_bytes * max((each.n_variants for each in work.passes), default=0)
    return max(0.0, 1 - workers.count * workers.cache_bytes / whole) if whole else 0.0


def _passes_time(
    passes: Passes, work: Work, machine: Machine, workers: Workers, read: float, *, scan: bool
) -> StageTime:
    """Return the time of equal passes, each of which reads a share of its rows from the store."""
    N, r = work.n_samples, passes.columns
    element = float(N) * r
    genotype = machine.genotype_seconds(r, passes.products, passes.arithmetic)
    a_variant = N * genotype + read * work.row_bytes * machine.read_seconds
    if scan:
        variants = max(passes.n_variants, 1)
        a_variant += (work.counted * machine.count_seconds + work.statistics * machine.statistic_seconds) / variants
    summed = passes.products == 2
    time = StageTime()
    for tasks in passes.rounds:
        seconds = [size * a_variant + (element * machine.add_seconds if summed else 0.0) for size in tasks]
        time.useful += sum(seconds)
        time.compute += makespan([each * workers.slowdown for each in seconds], workers.count * workers.threads)
        if workers.remote:
            _add_remote(time, len(tasks), 4 * element, machine, workers, summed=summed)
        else:
            time.overhead += len(tasks) * machine.task_seconds
    if summed:
        time.driver += element * machine.prepare_seconds
    time.cpu = time.useful + time.moved * machine.move_seconds + time.overhead
    for name in ("compute", "network", "overhead", "driver", "cpu", "moved", "useful"):
        setattr(time, name, passes.count * getattr(time, name))
    time.passes = passes.count
    return time


def _add_remote(
    time: StageTime, n_tasks: int, n_bytes: float, machine: Machine, workers: Workers, *, summed: bool
) -> None:
    """Add what one sum over tasks costs because they run elsewhere; `n_bytes` of its columns, and of a partial result."""
    busy = min(workers.count, n_tasks)
    asking = Workers(busy, 1)
    time.network += broadcast_seconds(n_bytes, asking, machine)
    time.moved += (2 + busy - 1) * n_bytes
    time.overhead += machine.pass_seconds_remote + n_tasks * machine.remote_task_seconds
    if summed:
        moves = tree_moves(n_tasks, workers)
        moved = sum(all_of_them for all_of_them, _ in moves)
        climb = sum(most for _, most in moves) * n_bytes / machine.network_bytes
        shared = moved * n_bytes / machine.network_bytes / busy
        time.network += max(climb, shared) + 2 * n_bytes / machine.network_bytes
        time.moved += (moved + 2) * n_bytes
