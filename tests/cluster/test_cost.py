"""The cost model: makespans, trees, limits, and the bytes that workers really move."""

from __future__ import annotations

import math
from dataclasses import replace

import dask
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biolmm.chunks import FAN_IN, sum_tasks
from biolmm.cluster import connect
from biolmm.cluster.cost import (
    DEFAULT,
    SERVED_AT_ONCE,
    Workers,
    broadcast_seconds,
    makespan,
    stage_time,
    start_time,
    tree_moves,
)
from biolmm.cluster.plan import (
    efficiency,
    expected_workers,
    memory_of_worker,
    network_bytes,
    threads_text,
    workers_text,
)
from biolmm.cluster.settings import DEFAULTS
from biolmm.memory import Passes, StagePlan, Work

TASKS = (1000,) * 60 + (400,) * 7


def stage(columns: float = 32, count: float = 5, **work: float) -> StagePlan:
    """Plan a stage of some passes over 62,800 variants of 20,000 people."""
    passes = (Passes(count, columns, (TASKS,)),)
    made = Work(20_000, 5_000, passes=passes, **work)  # type: ignore[arg-type]
    return StagePlan("fit", n_tasks=5 * 67, n_passes=5, panel_bytes=int(80_000 * columns), work=made)


patient = settings(deadline=None)
durations = st.lists(st.floats(0.01, 10), min_size=1, max_size=60)


@patient
@given(durations, st.integers(1, 40))
def test_a_makespan_lies_between_its_bounds(seconds: list[float], cores: int) -> None:
    """At least the mean load and the longest task; list scheduling is at most their sum (Graham 1966)."""
    found = makespan(seconds, cores)
    least = max(sum(seconds) / cores, max(seconds))
    assert least * (1 - 1e-9) <= found <= (sum(seconds) / cores + max(seconds)) * (1 + 1e-9)


@patient
@given(st.integers(1, 200), st.integers(1, 30), st.integers(1, 4))
def test_a_tree_moves_no_more_than_it_has(n_tasks: int, count: int, threads: int) -> None:
    """One partial result leaves each worker but one at least, and each of n tasks' results travels once at most."""
    moves = tree_moves(n_tasks, Workers(count, threads))
    moved = sum(total for total, _ in moves)
    assert min(count, n_tasks) - 1 <= moved <= n_tasks - 1
    assert len(moves) == math.ceil(math.log(n_tasks, FAN_IN) - 1e-9)
    assert all(most <= min(total, FAN_IN - 1) for total, most in moves)
    assert count > 1 or moved == 0


def test_wall_time_falls_and_the_share_of_busy_cores_with_it() -> None:
    """More workers end sooner while tasks are what takes the time; they are never busier than all the time."""
    plans = [stage_time(stage(), DEFAULT, Workers(count, 1)) for count in (1, 2, 4, 8, 16, 32)]
    times = [time for time in plans if time is not None]
    assert len(times) == 6
    compute = [time.compute for time in times]
    network = [time.network for time in times]
    busy = [efficiency(time, Workers(count, 1)) for time, count in zip(times, (1, 2, 4, 8, 16, 32), strict=True)]
    assert compute == sorted(compute, reverse=True)
    assert network == sorted(network)
    assert busy == sorted(busy, reverse=True)
    assert 0 < busy[-1] < busy[0] <= 1
    assert [time.wall for time in times[:4]] == sorted((time.wall for time in times[:4]), reverse=True)
    assert len({round(time.useful, 9) for time in times}) == 1  # the work is the same whoever does it


def test_no_more_cores_are_busy_than_there_are_tasks() -> None:
    many, few = (stage_time(stage(), DEFAULT, Workers(count, 1)) for count in (67, 670))
    assert many is not None
    assert few is not None
    assert few.compute == pytest.approx(many.compute)
    assert efficiency(few, Workers(670, 1)) <= 67 / 670


def test_workers_that_share_processors_are_no_faster() -> None:
    """Four workers of two processors take as long as two, but for the ends of passes."""
    two, four = (stage_time(stage(), DEFAULT, Workers(count, 1, processors=2)) for count in (2, 4))
    assert two is not None
    assert four is not None
    assert four.compute == pytest.approx(two.compute, rel=0.1)
    assert four.useful == two.useful


def test_every_part_of_a_stage_costs() -> None:
    """Each figure of the machine and each amount of work enters: twice as much is more, by what it is."""
    threads = Workers(1, 2, remote=False)
    plan = stage(driver_elements=1e6, driver_flop=1e8, evaluations=3, reported=1e5, from_store=1.0, drawn=2)
    before = stage_time(plan, DEFAULT, threads)
    assert before is not None
    assert plan.work is not None
    alone = {
        "driver_seconds": 1e6, "flop_seconds": 1e8, "evaluation_seconds": 3, "report_seconds": 1e5, "figure_seconds": 2,
        "start_report_seconds": 1, "stage_seconds": 1, "prepare_seconds": 5 * 20_000 * 32,
    }  # fmt: skip
    for name, amount in alone.items():
        value = getattr(DEFAULT, name)
        after = stage_time(plan, replace(DEFAULT, **{name: 2 * value}), threads)
        assert after is not None
        assert after.wall - before.wall == pytest.approx(amount * value), name
    after = stage_time(plan, replace(DEFAULT, read_seconds=2 * DEFAULT.read_seconds), threads)
    assert after is not None
    assert after.useful - before.useful == pytest.approx(62_800 * 5_000 * DEFAULT.read_seconds)  # one of five passes
    picked = stage_time(replace(plan, work=replace(plan.work, picked_bytes=1e9)), DEFAULT, threads)
    assert picked is not None
    assert picked.wall - before.wall == pytest.approx(1e9 * DEFAULT.read_seconds / 2)
    work = replace(plan.work, counted=1e9, statistics=1e6, passes=(Passes(1, 32, (TASKS,), products=1),))
    scan, without = (stage_time(replace(plan, work=each), DEFAULT, threads)
                     for each in (work, replace(work, counted=0.0, statistics=1e-9)))  # fmt: skip
    assert scan is not None
    assert without is not None
    assert scan.useful - without.useful == pytest.approx(1e9 * DEFAULT.count_seconds + 1e6 * DEFAULT.statistic_seconds)
    assert stage_time(replace(plan, work=None), DEFAULT, threads) is None
    started = start_time(DEFAULT, Workers(3, 1)).cpu - start_time(DEFAULT, threads).cpu
    assert started == pytest.approx(3 * DEFAULT.start_worker_seconds)


def test_rows_that_nobody_keeps_are_read_in_every_pass() -> None:
    half = Workers(2, 1, cache_bytes=62_800 * 5_000 / 4)
    kept, missed = (stage_time(stage(), DEFAULT, each) for each in (Workers(2, 1), half))
    assert kept is not None
    assert missed is not None
    assert missed.useful - kept.useful == pytest.approx(5 * 0.5 * 62_800 * 5_000 * DEFAULT.read_seconds)


def test_the_time_of_a_genotype_lies_on_the_measured_points() -> None:
    points = {"float32": ((1, 1e-9), (8, 2e-9), (10, 4e-9), (32, 5e-9)), "int8": ((1, 0.5e-9), (31, 1e-9))}
    machine = replace(DEFAULT, pass_seconds=points)
    assert machine.genotype_seconds(8) == 2e-9
    assert machine.genotype_seconds(24) == pytest.approx(4e-9)  # between multiples of eight
    assert machine.genotype_seconds(7) == pytest.approx(3e-9)  # between other numbers
    assert machine.genotype_seconds(64) == pytest.approx(10e-9)  # beyond them in proportion
    assert machine.genotype_seconds(8, products=1) == pytest.approx(1.5e-9)
    assert machine.genotype_seconds(16, arithmetic="int8") == pytest.approx(0.75e-9)
    assert machine.genotype_seconds(8, arithmetic="unheard of") == 2e-9


def test_columns_reach_many_workers_in_turns() -> None:
    """Ten are served by the first; when they are done, all eleven serve ten each, and so on."""
    counts, machine = (1, 11, 22, 121, 122), replace(DEFAULT, network_bytes=1e9)
    seconds = [broadcast_seconds(1e9, Workers(count, 1), machine) for count in counts]
    assert seconds == [2, 12, 13, 22, 23]
    assert DEFAULTS["distributed.worker.connections.outgoing"] == SERVED_AT_ONCE == 10


def test_plans_say_time_network_and_memory() -> None:
    plans = [stage(), StagePlan("convert", n_passes=1)]
    machine = replace(DEFAULT, source="measured somewhere")
    assert workers_text(plans) == ""
    with expected_workers(4, 2):
        text = workers_text(plans, machine)
        assert threads_text(plans, machine, 2) == ""
    assert "on 4 workers of 2 threads:" in text
    for words in (
        "network a pass",
        "memory a worker",
        "wall",
        "CPU",
        "cores busy",
        "measured somewhere",
        "Without convert.",
    ):
        assert words in text
    alone = threads_text(plans, machine, 2)
    assert "on 2 threads:" in alone
    assert "network" not in alone
    assert threads_text([StagePlan("convert")], machine, 2) == ""


def test_memory_and_network_of_plans_grow_with_threads_and_workers() -> None:
    plan = stage()
    memory = [memory_of_worker(plan, Workers(1, threads)) for threads in (1, 4, 16)]
    assert memory == sorted(memory)
    assert memory[0] < memory[-1]
    network = [network_bytes(plan, Workers(count, 1)) for count in (1, 2, 8, 64)]
    assert network == sorted(network)
    assert network[0] == 2 * plan.panel_bytes


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_workers_move_the_bytes_that_are_foretold() -> None:
    """Columns to the other worker, one partial result, the sum to the driver: three blocks, and some hundred bytes of each task."""
    X = np.ones((2_000, 100), np.float32)
    # On a busy machine idle workers take tasks of others, which is not what is foretold.
    as_placed = {"distributed.scheduler.work-stealing": False, "distributed.scheduler.worker-saturation": "inf"}
    with dask.config.set(as_placed), connect("local", workers=2) as client:

        def sent() -> int:
            return sum(client.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total).values())

        found = []
        for _ in range(3):  # the first while workers start
            before = sent()
            assert np.all(sum_tasks(np.multiply, list(range(32)), X) == 32 * 31 / 2)
            found.append(sent() - before)
    expected = (1 + sum(total for total, _ in tree_moves(32, Workers(2, 1))) + 1) * X.nbytes
    assert any(moved == pytest.approx(expected, rel=0.02) for moved in found), [moved / X.nbytes for moved in found]
    plan = StagePlan("fit", n_tasks=32, n_passes=1, panel_bytes=X.nbytes)
    assert network_bytes(plan, Workers(2, 1)) == expected + X.nbytes  # and the columns to the first worker
