"""The cost model beside measured runs, and what it says of a large cohort on many cores.

Without an option: one cohort on threads and on 1, 2 and 4 workers of this machine; the parameters of the network and of the
scheduler that fit best. `--check`: cohorts of several sizes, foretold and measured. `--predict`: nothing is run, and the tables
of `docs/scaling.md` for cohorts that do not exist are printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from biolmm.chunks import threads
from biolmm.cluster.cost import DEFAULT, Machine, StageTime, Workers, stage_time, start_time
from biolmm.genotypes.arithmetic import arithmetic_of
from biolmm.memory import Passes, StagePlan
from biolmm.pipeline import AnalysisConfig, Inputs, Resources
from biolmm.pipeline.machine import measure_machine
from biolmm.pipeline.preview import plan_only
from biolmm.results.record import read_record
from biolmm.results.tables import read_result_table
from biolmm.store.read import GenotypeStore
from suite.cohorts import cohort
from suite.common import BIOLMM, Outcome, Process, Settings, empty_folder, launch
from suite.page import check_marks, markdown, write_into
from suite.predict import prediction

MEMORY = 4 * 2**30
FIT_STAGES = ("eigenpairs", "probes and traits")
"""Stages of a plan that `run.json` has as one."""
CHECKED = ((5_000, 20_000, 10, 0), (10_000, 40_000, 1, 0), (10_000, 40_000, 10, 0), (20_000, 60_000, 10, 0),
           (10_000, 40_000, 10, 1), (10_000, 40_000, 10, 2), (10_000, 40_000, 10, 4))  # fmt: skip
FITTED = tuple((10_000, 40_000, 10, workers) for workers in (0, 1, 2, 4))
TOY = ((400, 1_500, 2, 0), (400, 1_500, 2, 2))


@dataclass(frozen=True)
class _Run:
    """One job: what was foretold, and what it took."""

    samples: int
    variants: int
    traits: int
    workers: Workers
    machine: Machine
    plans: dict[str, list[StagePlan]]
    stages: dict[str, dict[str, Any]]
    process: Process

    @property
    def size(self) -> tuple[int, int, int]:
        """People, variants, traits."""
        return self.samples, self.variants, self.traits

    @property
    def outside(self) -> float:
        """Wall seconds outside of the stages."""
        return self.process.wall_seconds - sum(stage["wall_seconds"] for stage in self.stages.values())

    @property
    def label(self) -> dict[str, Any]:
        """Columns that say which job this is."""
        who = f"{self.workers.count} workers" if self.workers.remote else f"{self.workers.threads} threads"
        return {"samples": self.samples, "variants": self.variants, "traits": self.traits, "on": who}

    def made(self, name: str) -> list[StagePlan]:
        """Return a stage's plans with the passes and columns that were made."""
        return _as_made(self.plans[name], self.stages[name], self.samples, self.variants)


def run(settings: Settings) -> Outcome:
    """Foretell, run, compare."""
    if settings.page is not None:
        check_marks(settings.page, "predict" if settings.predict else "check")
    if settings.predict:
        outcome = Outcome("scaling", settings.parameters())
        outcome.tables, outcome.remarks = prediction(settings)
        return _on_page(settings, outcome, "predict")
    jobs = TOY if settings.toy else CHECKED if settings.check else FITTED
    outcome = Outcome("scaling", {**settings.parameters(), "jobs": jobs})
    machines = {n: _machine(settings, n, m) for n, m in dict.fromkeys(job[:2] for job in jobs)}
    runs = []
    for n, m, t, count in jobs:
        runs.append(_measure(settings, n, m, t, count, machines[n]))
        print(f"… {runs[-1].label}", flush=True)
    fitted = _fit([each for each in runs if each.size in [job[:3] for job in (TOY if settings.toy else FITTED)]])
    outcome.tables["whole jobs"] = [_whole(each, fitted) for each in runs]
    outcome.tables["stages"] = [row for each in runs for row in _stages(each, fitted)]
    outcome.tables["rates of one core"] = [_rates(n, machine) for n, machine in machines.items()]
    n, m, t = (TOY if settings.toy else FITTED)[0][:3]
    outcome.tables[f"fitted on the runs of {n:,} × {m:,}, {t} traits"] = [
        {"figure": name, "fitted": value, "stored": getattr(DEFAULT, name)} for name, value in fitted.items()
    ]
    outcome.remarks += [
        "foretold: from sizes alone, but for the number of leads, which is that of the run; with_its_passes: from the passes "
        "and columns that the run made, so that what remains is the error of the rates",
        "rates are measured just before the runs, on one core and by CPU time; workers share the processors of this machine",
    ]
    return _on_page(settings, outcome, "check") if settings.check else outcome


def _on_page(settings: Settings, outcome: Outcome, mark: str) -> Outcome:
    """Put the tables into the page, where one was named."""
    if settings.page is not None:
        blocks = [f"**{title}**\n\n{markdown(rows)}" for title, rows in outcome.tables.items()]
        remarks = "\n".join(f"* {remark}" for remark in outcome.remarks)
        write_into(settings.page, mark, "\n\n".join([*blocks, remarks]))
    return outcome


def _machine(settings: Settings, samples: int, variants: int) -> Machine:
    files = cohort(settings.work, samples, variants, _cohort_traits(settings))
    return measure_machine(samples, GenotypeStore.open(files.store), [arithmetic_of("auto").name])


def _cohort_traits(settings: Settings) -> int:
    return 2 if settings.toy else 10


def _measure(settings: Settings, n: int, m: int, t: int, count: int, machine: Machine) -> _Run:
    """Run one job in a process of its own, on so many workers (0: threads), and plan it."""
    files = cohort(settings.work, n, m, _cohort_traits(settings))
    out = empty_folder(settings.work / f"scaling_{n}_{m}_{t}_{count}")
    traits = [word for i in range(t) for word in ("--trait", f"trait{i + 1}")]
    solver = "stochastic" if settings.toy else "auto"
    inputs: list[str | Path] = [
        "gwas", "--genotypes", files.store, "--traits", files.traits, "--covariates", files.covariates, *traits,
        "--solver", solver, "--memory", str(MEMORY), "--out", out,
    ]  # fmt: skip
    cluster = ["run", "--cluster", "local", "--workers", str(count), "--worker-memory", "2GiB", "--"]
    command = [*BIOLMM, *(cluster if count else ()), *inputs, "--threads", str(settings.threads)]
    process = launch(command, out.with_suffix(".log"), settings.limit_seconds)
    workers = Workers(count, 1, settings.threads) if count else Workers(1, settings.threads, remote=False)
    config = AnalysisConfig(
        inputs=Inputs(genotypes=(files.store,), traits=files.traits, covariates=files.covariates),
        out=out,
        resources=Resources(threads=settings.threads, memory_bytes=MEMORY),
    )
    config = replace(
        config,
        cohort=replace(config.cohort, trait_names=tuple(f"trait{i + 1}" for i in range(t))),
        fit=replace(config.fit, solver=solver),
    )
    leads = read_result_table(out, "leads")
    with threads(settings.threads):
        plans = plan_only(config, leads=len(leads) / t if leads is not None else 0)
    stages = {stage["name"]: stage for stage in read_record(out)["stages"]}
    return _Run(n, m, t, workers, machine, _by_stage(plans), stages, process)


def _by_stage(plans: Sequence[StagePlan]) -> dict[str, list[StagePlan]]:
    """Give the plans under the names that `run.json` has."""
    found: dict[str, list[StagePlan]] = {}
    for plan in plans:
        found.setdefault("fit" if plan.stage in FIT_STAGES else plan.stage, []).append(plan)
    return found


def _as_made(plans: list[StagePlan], stage: dict[str, Any], n: int, m: int) -> list[StagePlan]:
    """Put the passes and the column-passes of a run in the place of the expected ones."""
    works = [plan.work for plan in plans if plan.work is not None]
    expected_passes = sum(work.n_passes for work in works)
    expected_columns = sum(work.column_passes for work in works)
    columns = stage["flop"] / (4.0 * n * m)
    if not expected_passes or not expected_columns or not columns:
        return plans
    more, wider = stage["passes"] / expected_passes, columns / expected_columns
    return [
        plan if plan.work is None else replace(plan, work=replace(plan.work, passes=tuple(
            Passes(p.count * more, p.columns * wider / more, p.rounds, p.products, p.arithmetic)
            for p in plan.work.passes), driver_elements=plan.work.driver_elements * wider))
        for plan in plans
    ]  # fmt: skip


def _time(plans: Sequence[StagePlan], machine: Machine, workers: Workers) -> StageTime:
    times = [stage_time(plan, machine, workers) for plan in plans]
    return sum((time for time in times if time is not None), StageTime())


def _with(machine: Machine, fitted: dict[str, float]) -> Machine:
    return replace(machine, **{name: fitted[name] for name in fitted if hasattr(machine, name)})


def _whole(each: _Run, fitted: dict[str, float]) -> dict[str, Any]:
    """Return a row: the whole job, foretold and measured."""
    machine = _with(each.machine, fitted)
    foretold = _time([p for plans in each.plans.values() for p in plans], machine, each.workers)
    made = _time([p for name in each.plans if name in each.stages for p in each.made(name)], machine, each.workers)
    start = start_time(machine, each.workers)
    wall, cpu = each.process.wall_seconds, each.process.cpu_seconds
    return {
        **each.label,
        "wall_s": round(wall, 2),
        "foretold_wall_s": round(foretold.wall + start.wall, 2),
        "wall_ratio": round((foretold.wall + start.wall) / wall, 3),
        "with_its_passes": round((made.wall + start.wall) / wall, 3),
        "cpu_s": round(cpu, 2),
        "foretold_cpu_s": round(foretold.cpu + start.cpu, 2),
        "cpu_ratio": round((foretold.cpu + start.cpu) / cpu, 3),
        "cpu_with_its_passes": round((made.cpu + start.cpu) / cpu, 3),
    }


def _stages(each: _Run, fitted: dict[str, float]) -> list[dict[str, Any]]:
    """Return a row a stage."""
    machine, rows = _with(each.machine, fitted), []
    for name, plans in each.plans.items():
        if name not in each.stages:
            continue
        stage = each.stages[name]
        foretold, made = _time(plans, machine, each.workers), _time(each.made(name), machine, each.workers)
        rows.append({
            **each.label,
            "stage": name,
            "passes": stage["passes"],
            "foretold_passes": round(foretold.passes, 1),
            "columns": round(stage["flop"] / (4.0 * each.samples * each.variants), 1),
            "foretold_columns": round(sum(p.work.column_passes for p in plans if p.work) if name != "scan" else 0, 1),
            "wall_s": round(stage["wall_seconds"], 2),
            "foretold_wall_s": round(foretold.wall, 2),
            "wall_with_its_passes": round(made.wall, 2),
            "cpu_s": None if each.workers.remote else round(stage["cpu_seconds"], 2),
            "cpu_with_its_passes": round(made.cpu, 2),
        })  # fmt: skip
    return rows


def _rates(n: int, machine: Machine) -> dict[str, Any]:
    rates = {
        f"{name}_gflops_r{r:.0f}": round(4 * r / seconds / 1e9, 1)
        for name, points in machine.pass_seconds.items()
        for r, seconds in points
    }
    small = ("add_seconds", "driver_seconds", "flop_seconds", "read_seconds", "count_seconds")
    return {"samples": n, **rates, **{f"{name[:-8]}_ns": round(getattr(machine, name) * 1e9, 4) for name in small}}


def _fit(runs: list[_Run]) -> dict[str, float]:
    """Fit what starting costs, and on workers what a pass, a task and a byte cost, by least squares on stages' wall times.

    Each stage's equation is divided by its time, so that short stages count as much as long ones; nothing is negative.
    """
    alone = [each.outside for each in runs if not each.workers.remote]
    remote = [each for each in runs if each.workers.remote]
    start = float(np.mean(alone)) if alone else DEFAULT.start_seconds
    if not remote:
        return {"start_seconds": start}
    worker = np.mean([max(each.outside - start, 0.0) / each.workers.slowdown for each in remote])
    names = ("pass_seconds_remote", "remote_task_seconds", "byte")
    rows, right = zip(*(equation for each in remote for equation in _equations(each)), strict=True)
    scale = np.maximum(np.abs(np.array(rows)).max(axis=0), 1e-30)
    found = dict(zip(names, (nnls(np.array(rows) / scale, np.array(right))[0] / scale).tolist(), strict=True))
    byte = found.pop("byte")
    network = 1 / byte if byte > 0 else DEFAULT.network_bytes
    return {"start_seconds": start, "start_worker_seconds": float(worker), **found, "network_bytes": network}


def _equations(each: _Run) -> Iterator[tuple[list[float], float]]:
    """Give, for every stage with passes, what a unit of each figure adds to its wall time, and what the tasks leave over."""
    nothing = replace(each.machine, pass_seconds_remote=0.0, remote_task_seconds=0.0, network_bytes=float("inf"))
    units = ({"pass_seconds_remote": 1.0}, {"remote_task_seconds": 1.0}, {"network_bytes": 1.0})
    for name, stage in each.stages.items():
        if name not in each.plans or not stage["passes"] or name == "scan":
            continue
        wall, plans = stage["wall_seconds"], each.made(name)
        base = _time(plans, nothing, each.workers).wall
        parts = [_time(plans, replace(nothing, **unit), each.workers).wall - base for unit in units]
        yield [part / wall for part in parts], (wall - base) / wall
