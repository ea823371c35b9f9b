"""Run a scan part by part into a results folder; a part that is there is not computed again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.association.panel import ScanPanel
from biolmm.association.score import Statistics, n_counted, score_partition
from biolmm.association.setup import ScanSetup
from biolmm.chunks import map_tasks
from biolmm.genotypes.parts import PartJob, ScanSummary, part_jobs, summarise
from biolmm.results.associations import write_parts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Shared:
    panel: ScanPanel
    folders: Mapping[str, Path]
    exact: bool


def run_scan(setup: ScanSetup, out: Path, markers: Path) -> ScanSummary:
    """Scan every part and write `out/associations` (and `out/linear`).

    Parameters
    ----------
    setup
        From `prepare_scan`.
    out
        The results folder.
    markers
        Folder of receipts, one a finished part, named after what the scan depends on; parts with a receipt whose
        files are there are skipped.

    Raises
    ------
    OutputError
        When a part cannot be written. Finished parts stay.
    DamagedStoreError
        When a chunk of genotypes is damaged.
    """
    folders = {"associations": out / "associations", "linear": out / "linear"}
    if not setup.config.mixed:
        folders["linear"] = out / "associations"
    jobs = part_jobs(setup.source, markers)
    todo = {job.partition.index: job for job in jobs if job.receipt(out) is None}
    log.info("scan: %d of %d parts to do", len(todo), len(jobs))
    for panel, partitions in setup.groups([job.partition for job in todo.values()]) if todo else []:
        shared = _Shared(panel, folders, setup.exact)
        map_tasks(_scan_and_write, [todo[partition.index] for partition in partitions], shared)
    return summarise(jobs, out, setup.panel.traits, len(todo))


def _scan_and_write(job: PartJob, shared: _Shared) -> None:
    """Scan one part, write its files, then its receipt."""
    found = score_partition(job.partition, shared.panel, job.contig)
    common = job.labels_of(found.variants)
    if found.info is not None:
        common["info"] = found.info
    n = n_counted(shared.panel, job.partition)
    files = []
    for kind, statistics in found.statistics.items() if len(found.variants) else ():
        exact = np.full(len(found.variants), shared.exact or kind == "linear")
        columns = {
            trait: {**trait_columns(statistics, t, int(n[t])), "exact": exact}
            for t, trait in enumerate(shared.panel.traits)
        }
        files += write_parts(shared.folders[kind], job.contig, job.number, common, columns)
    empty = np.isnan(next(iter(found.statistics.values())).chisq).sum(axis=0)
    job.finish(
        shared.folders["associations"].parent,
        files,
        n_variants=len(found.variants),
        n_monomorphic=found.n_monomorphic,
        n_without_statistics=empty.tolist(),
        removed=found.removed,
    )


def trait_columns(statistics: Statistics, trait: int, n_observed: int) -> dict[str, NDArray[Any]]:
    """Return one trait's statistics under the names of the result columns."""
    return {
        "beta": statistics.beta[:, trait],
        "standard_error": statistics.standard_error[:, trait],
        "effect_allele_frequency": statistics.frequency[:, trait],
        "neg_log_10_p_value": statistics.neg_log_10_p_value[:, trait],
        "chisq": statistics.chisq[:, trait],
        "n": np.full(len(statistics.beta), n_observed, np.int32),
    }
