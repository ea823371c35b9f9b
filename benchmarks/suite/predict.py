"""Plans of cohorts that do not exist, on cores that are not there: the tables of `docs/scaling.md`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from biolmm.chunks import threads
from biolmm.cluster.cost import Machine, Workers, stage_time, start_time
from biolmm.cluster.plan import duration_text, efficiency, memory_of_worker, network_bytes
from biolmm.files.encoding import Encoding
from biolmm.genotypes.arithmetic import arithmetic_of
from biolmm.genotypes.source import partition_step
from biolmm.memory import StagePlan, format_bytes
from biolmm.pipeline import AnalysisConfig, Inputs, Resources, expected
from biolmm.pipeline.machine import measure_machine
from biolmm.pipeline.plan import plan_analysis, share_memory
from biolmm.pipeline.shape import Shape, contig_task_sizes, cut_partitions, task_sizes
from biolmm.simulate.config import AUTOSOME_BP
from suite.common import Settings

CORES = (16, 32, 64, 128, 256, 512)
THREADS = 16
"""Tasks at a time in each worker of a prediction."""
CHUNK_BYTES = 8 * 2**20
DRIVER_BYTES = 64 * 2**30


def made_up(n_samples: int, n_variants: int, n_traits: int, n_covariates: int = 11) -> Shape:
    """Return the shape of hard calls on 22 autosomes, complete traits and ten covariates beside the intercept."""
    share = np.concatenate([[0.0], np.cumsum(AUTOSOME_BP)]) / sum(AUTOSOME_BP)
    contigs = np.repeat(np.arange(len(AUTOSOME_BP)), np.diff(np.rint(share * n_variants).astype(int)))
    row_bytes = Encoding.CALLS.row_bytes(n_samples)
    chunk_variants = max(1, CHUNK_BYTES // row_bytes)
    step = partition_step(n_variants, chunk_variants, row_bytes)
    parts, owners = cut_partitions(contigs, np.arange(n_variants), step)
    return Shape(
        n_samples=n_samples, n_variants=n_variants, n_scanned=n_variants, n_traits=n_traits, n_systems=1,
        n_covariates=n_covariates, n_contigs=len(AUTOSOME_BP), row_bytes=row_bytes, scan_row_bytes=row_bytes,
        chunk_bytes=chunk_variants * row_bytes, parts=tuple(parts), tasks=task_sizes(parts, row_bytes),
        contig_tasks=contig_task_sizes(parts, owners, row_bytes), scan_parts=tuple(parts),
    )  # fmt: skip


def plans_of(shape: Shape, memory_bytes: int) -> tuple[AnalysisConfig, list[StagePlan]]:
    """Plan the main job on a cohort of this shape."""
    config = AnalysisConfig(
        inputs=Inputs(genotypes=()), out=Path("nowhere"), resources=Resources(memory_bytes=memory_bytes)
    )
    config = replace(config, fit=replace(config.fit, solver="stochastic"))
    return config, plan_analysis(config, shape)


def prediction(settings: Settings) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Return the tables and what they rest on."""
    n, m, t = settings.samples or 500_000, settings.variants or 700_000, settings.traits or 50
    slow = measure_machine(n, arithmetics=[arithmetic_of("auto").name])
    fast = replace(slow, network_bytes=10 * slow.network_bytes)
    shape = made_up(n, m, t)
    with threads(THREADS):
        _, plans = plans_of(shape, DRIVER_BYTES)
        size = f"N = {n:,}, M = {m:,}, {t} traits"
        tables = {
            f"{size}, workers of {THREADS} threads, 10 Gbit/s": [_row(plans, slow, cores) for cores in CORES],
            f"{size}, workers of {THREADS} threads, 100 Gbit/s": [_row(plans, fast, cores) for cores in CORES],
            f"{size}, stage by stage on {CORES[-1]} cores, 100 Gbit/s": _stage_rows(plans, fast, CORES[-1]),
        }
    with threads(2):
        tables["N = 200,000, M = 20,000, 10 traits on one machine, --memory 8GiB"] = _memory_rows()
    remarks = [
        f"rates {slow.source}: {_rates(slow)}; of the scheduler, the network and the start as stored in "
        "`biolmm/cluster/cost.py`",
        f"{expected.LEADS} leads a trait",
        f"a pass has {len(shape.tasks)} tasks, the largest of {max(shape.tasks):,} variants",
    ]
    return tables, remarks


def _rates(machine: Machine) -> str:
    """Say what a pass reaches."""
    return (
        "; ".join(
            f"{name} " + ", ".join(f"{4 * r / seconds / 1e9:.0f} at {r:.0f} columns" for r, seconds in points if r >= 8)
            for name, points in machine.pass_seconds.items()
        )
        + " (10⁹ flop/s)"
    )


def _row(plans: list[StagePlan], machine: Machine, cores: int) -> dict[str, Any]:
    workers = Workers(max(1, cores // THREADS), THREADS)
    times = [time for plan in plans if (time := stage_time(plan, machine, workers)) is not None]
    total = sum(times, start_time(machine, workers))
    return {
        "cores": cores,
        "wall": duration_text(total.wall),
        "cpu_hours": round(total.cpu / 3600, 1),
        "efficiency": round(efficiency(total, workers), 3),
        "tasks": duration_text(total.compute),
        "network": duration_text(total.network),
        "scheduler": duration_text(total.overhead),
        "driver": duration_text(total.driver),
        "limit": total.limit,
        "network_a_pass": format_bytes(max(network_bytes(plan, workers) for plan in plans)),
        "memory_a_worker": format_bytes(max(memory_of_worker(plan, workers) for plan in plans)),
    }


def _stage_rows(plans: list[StagePlan], machine: Machine, cores: int) -> list[dict[str, Any]]:
    workers = Workers(max(1, cores // THREADS), THREADS)
    rows = []
    for plan in plans:
        time = stage_time(plan, machine, workers)
        if time is None:
            continue
        rows.append({
            "stage": plan.stage,
            "passes": round(time.passes, 1),
            "wall": duration_text(time.wall),
            "tasks": duration_text(time.compute),
            "network": duration_text(time.network),
            "scheduler": duration_text(time.overhead),
            "driver": duration_text(time.driver),
            "efficiency": round(efficiency(time, workers), 3),
            "driver_memory": format_bytes(plan.peak_bytes),
        })  # fmt: skip
    return rows


def _memory_rows() -> list[dict[str, Any]]:
    """Return the memory of each stage of a large cohort on one machine."""
    budget = 8 * 2**30
    shape = made_up(200_000, 20_000, 10)
    config, plans = plans_of(shape, budget)
    shares = share_memory(config, plans, shape)
    rows = [
        {
            "stage": plan.stage,
            "memory": format_bytes(plan.peak_bytes),
            "largest": max(plan.needs, key=lambda need: need.n_bytes).name,
        }
        for plan in plans
    ]
    kept = {
        "stage": "(rows kept between passes)",
        "memory": format_bytes(shares.cache_bytes),
        "largest": "the rest of 8 GiB",
    }
    return [*rows, kept]
