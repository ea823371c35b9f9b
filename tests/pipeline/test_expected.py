"""What a plan expects beside what the analysis does: tasks, panels and bytes exactly, passes and columns nearly."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biolmm.chunks import threads
from biolmm.cluster.cost import DEFAULT, Machine
from biolmm.files.encoding import Encoding
from biolmm.genotypes import operator as operator_module
from biolmm.genotypes import source as source_module
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import ChosenGenotypes, partition_step
from biolmm.genotypes.standardised import standardise
from biolmm.memory import StagePlan
from biolmm.pipeline import AnalysisConfig, Inputs, Resources
from biolmm.pipeline import shape as shape_module
from biolmm.pipeline.expected import LEADS, Blocks, gamma_work, lead_work, recursion_work
from biolmm.pipeline.machine import ENOUGH_SECONDS, measure_machine
from biolmm.pipeline.plan import PANELS_HELD, panel_width, plan_analysis
from biolmm.pipeline.preview import plan_only
from biolmm.pipeline.shape import Shape, contig_task_sizes, partition_sizes, task_sizes
from biolmm.reml.fit import FitConfig
from biolmm.store.read import GenotypeStore
from running import Disk, run_command

FIT = ("eigenpairs", "probes and traits")
MEMORY = 2 * 2**30
ROW_BYTES = Encoding.CALLS.row_bytes(180)


@pytest.fixture
def many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the small cohort as a large one is cut: partitions of two chunks, some of them a task."""
    for module in (operator_module, shape_module):
        monkeypatch.setattr(module, "MIN_GROUP_BYTES", 1)
        monkeypatch.setattr(module, "N_GROUPS", 5)
    monkeypatch.setattr(source_module, "MAX_PARTITION_BYTES", 2 * 64 * ROW_BYTES)


def operator_on(disk: Disk, choose: Callable[[int], np.ndarray] = np.arange) -> GenotypeOperator:
    """Return K of some variants of the small cohort."""
    store = GenotypeStore.open(disk.store)
    source = ChosenGenotypes.choose(store, np.arange(store.n_samples), choose(store.n_variants))
    return GenotypeOperator(standardise(source), panel_bytes=2**20)


@pytest.mark.usefixtures("many_tasks")
@pytest.mark.parametrize("step", [1, 3])
def test_tasks_are_those_of_the_operator(disk: Disk, step: int) -> None:
    """Partitions, the tasks of a pass, and those of a pass contig by contig: sizes and order."""
    operator = operator_on(disk, lambda n: np.arange(0, n, step))
    source = operator.source
    sizes, contigs = partition_sizes(source.store, source.variants)  # type: ignore[arg-type]
    assert sizes == [len(partition.variants) for partition in source.partitions]
    assert contigs == [partition.contig for partition in source.partitions]
    assert len(sizes) > 3

    def planned(tasks: list[object]) -> tuple[int, ...]:
        return tuple(sum(len(t.partition.variants) for t in group) for group in operator._groups(tasks))  # type: ignore

    tasks = list(operator.genotypes.tasks)
    row_bytes = source.reader.row_bytes
    assert task_sizes(sizes, row_bytes) == planned(tasks)  # type: ignore[arg-type]
    assert contig_task_sizes(sizes, contigs, row_bytes) == tuple(
        planned([task for task in tasks if task.partition.contig == contig]) for contig in dict.fromkeys(contigs)
    )
    assert len(task_sizes(sizes, row_bytes)) > 1


def test_large_cohorts_are_cut_into_more_than_a_hundred_parts() -> None:
    """No partition has more than 128 MiB but for a chunk; up to some 10⁹ bytes there are about 96, as few rows need."""
    assert partition_step(110_000, 1_677, 5_000) == 1_677
    step = partition_step(700_000, 67, 125_000)
    assert step % 67 == 0
    assert 2**27 <= step * 125_000 < 2**27 + 67 * 125_000
    assert partition_step(10, 67, 2**40) == 67


@pytest.mark.parametrize("columns", [1, 16, 17, 200, 1000])
def test_panels_are_those_of_the_operator(disk: Disk, columns: int) -> None:
    operator = operator_on(disk)
    for count in (1, 3):
        with threads(count):
            width = panel_width(operator.panel_bytes, operator.n_samples)
            assert len(operator._panels(columns)) == -(-columns // width)


def planned(disk: Disk, solver: str = "stochastic", leads: float = LEADS) -> list[StagePlan]:
    """Return the plan of the main job on the small cohort."""
    inputs = Inputs(
        genotypes=(disk.store,), traits=disk.folder / "toy.traits.tsv", covariates=disk.folder / "toy.covariates.tsv"
    )
    config = AnalysisConfig(inputs=inputs, out=Path("nowhere"), resources=Resources(threads=2, memory_bytes=MEMORY))
    return plan_only(replace(config, fit=replace(config.fit, solver=solver)), leads=leads)  # type: ignore[arg-type]


def test_passes_columns_and_bytes_against_the_run(disk: Disk, streamed: Path) -> None:
    """The scan and the bytes a pass exactly; adaptive stages, of which 180 people are no typical
    case, within a factor of two and a half."""
    stages = {stage["name"]: stage for stage in json.loads((streamed / "run.json").read_text())["stages"]}
    n_leads = len((streamed / "leads.tsv").read_text().splitlines()) - 1
    plans = {plan.stage: plan for plan in planned(disk, leads=n_leads / 2)}
    n, m = 180, 384
    assert plans["scan"].n_passes == stages["scan"]["passes"] == 1
    assert plans["scan"].read_bytes == stages["scan"]["read_bytes"]
    assert all(plan.read_bytes == plan.n_passes * m * ROW_BYTES for plan in plans.values() if plan.stage != "report")
    for name, parts in {"fit": FIT, "loco": ("loco",), "gamma": ("gamma",), "leads": ("leads",)}.items():
        works = [work for part in parts if (work := plans[part].work) is not None]
        assert stages[name]["read_bytes"] == stages[name]["passes"] * m * ROW_BYTES
        passes = sum(work.n_passes for work in works)
        columns = sum(work.column_passes for work in works)
        assert 0.4 <= passes / stages[name]["passes"] <= 2.5, name
        assert 0.4 <= columns / (stages[name]["flop"] / (4 * n * m)) <= 2.5, name
        assert all(each.n_variants == m for work in works for each in work.passes)


def made_up(n: int, **given: Any) -> Shape:
    """Return the shape of a cohort that does not exist."""
    tasks = (1000,) * 30
    sizes = {"n_scanned": 30_000, "n_traits": 10, "n_systems": 1, "n_covariates": 5, "n_contigs": 22, **given}
    return Shape(
        n_samples=n, n_variants=30_000, row_bytes=n // 4, scan_row_bytes=n // 4, chunk_bytes=2**23, parts=tasks,
        tasks=tasks, contig_tasks=tuple((each,) for each in tasks), scan_parts=tasks, **sizes,
    )  # fmt: skip


def plans_of(shape: Shape, memory_bytes: int) -> dict[str, StagePlan]:
    """Plan a cohort that does not exist."""
    config = AnalysisConfig(
        inputs=Inputs(genotypes=()), out=Path("nowhere"), resources=Resources(memory_bytes=memory_bytes)
    )
    config = replace(config, fit=replace(config.fit, solver="stochastic"))
    return {plan.stage: plan for plan in plan_analysis(config, shape)}


def test_less_memory_means_more_passes_of_fewer_columns() -> None:
    """The same products in all; none has more columns than the panel holds."""
    shape = made_up(100_000)
    with threads(4):
        little, much = plans_of(shape, 2 * 2**30), plans_of(shape, 64 * 2**30)
        width = panel_width(2**30, shape.n_samples)
        assert width == 2**30 // ((4 + PANELS_HELD) * 400_000)
    for stage in ("probes and traits", "loco", "gamma"):
        one, other = little[stage].work, much[stage].work
        assert one is not None
        assert other is not None
        assert one.column_passes == pytest.approx(other.column_passes)
        assert one.n_passes >= other.n_passes
        assert max(each.columns for each in other.passes if each.products == 2) <= width
    loco = little["loco"].work
    assert loco is not None
    assert loco.n_passes > 4  # which it is where all columns fit
    assert little["loco"].n_passes >= loco.n_passes - 1


def test_more_traits_sets_and_leads_are_more_work() -> None:
    def columns(shape: Shape) -> float:
        return sum(plan.work.column_passes for plan in plans_of(shape, 2**34).values() if plan.work is not None)

    few = columns(made_up(50_000))
    assert few < columns(made_up(50_000, n_traits=20))
    assert few < columns(made_up(50_000, n_systems=3, n_used=3))
    shape = made_up(50_000)
    works = [lead_work(FitConfig(), shape, Blocks(10_000), leads) for leads in (0, 1, 5, 20)]
    assert works[0].n_passes == 0
    assert [work.column_passes for work in works] == sorted(work.column_passes for work in works)
    assert lead_work(FitConfig(), shape, Blocks(10_000), 5, exact=False).n_passes == 0


def test_traits_of_few_people_take_more_columns_and_memory() -> None:
    """γ is measured on 3 × 16 variants or more for each, and moments with 28 probes instead of 6."""
    n, few = 500_000, 20
    sizes = {"n_traits": few, "n_systems": 1 + few, "n_used": few}
    nearly = plans_of(made_up(n, **sizes, observed=(0.97,) * few), 2**38)
    sparse = plans_of(made_up(n, **sizes, observed=(0.5,) * few), 2**38)
    assert sparse["gamma"].peak_bytes > 16e9 > nearly["gamma"].peak_bytes
    stage = "probes and traits"
    assert sparse[stage].peak_bytes - nearly[stage].peak_bytes > 22 * few * 4 * n
    shape, wide = made_up(n, **sizes, observed=(0.5,) * few), Blocks(10_000)
    assert max(each.columns for each in gamma_work(FitConfig(), shape, wide).passes) == 48 * (1 + few)
    assert max(each.columns for each in recursion_work(FitConfig(), shape, wide).passes) == 32 + 28 * few + few
    assert plans_of(made_up(n, **sizes), 2**38)["gamma"] == nearly["gamma"]


def test_the_measured_machine_is_one() -> None:
    """Every figure is positive, wider passes take longer, and it is said where the figures come from."""
    machine: Machine = measure_machine(3_000)
    for points in machine.pass_seconds.values():
        assert all(0 < seconds < 1e-6 for _, seconds in points)
        assert points[0][1] < points[-1][1]
    changed = [name for name, value in machine.values().items() if value != getattr(DEFAULT, name)]
    assert {
        "pass_seconds",
        "prepare_seconds",
        "add_seconds",
        "driver_seconds",
        "flop_seconds",
        "count_seconds",
        "source",
    } == set(changed)
    assert machine.source.startswith("measured on one core here in")
    assert ENOUGH_SECONDS <= 2


def test_the_plan_is_printed_with_its_time(disk: Disk, tmp_path: Path) -> None:
    done = run_command("gwas", *disk.inputs(), "--solver", "stochastic", "--out", tmp_path / "out", "--plan",
                       "--plan-leads", "40", "--threads", "2")  # fmt: skip
    assert done.code == 0, done.err
    assert "on 2 threads:" in done.out
    (leads,) = [line.split() for line in done.out.splitlines()[8:] if line.startswith("leads ")][-1:]
    work = lead_work(FitConfig(), made_up(180, n_traits=2, n_contigs=3), Blocks(10_000), 40)
    assert float(leads[1]) >= work.n_passes - 1
    assert "in all, with start-up" in done.out
    assert "Expected, not bounds; rates measured on one core here in" in done.out
