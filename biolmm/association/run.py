"""Run a scan part by part into a results folder; a part that is there is not computed again."""

from __future__ import annotations

import json
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
from biolmm.atomic import write_json
from biolmm.chunks import map_tasks
from biolmm.genotypes.filters import add_counts
from biolmm.genotypes.source import Partition
from biolmm.results.associations import write_part
from biolmm.store.data import GenotypeData

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScanSummary:
    """What a scan did.

    Attributes
    ----------
    n_variants
        Variants tested.
    n_monomorphic
        Variants among them that do not vary in the cohort.
    removed
        Variants that each filter took out.
    n_without_statistics
        Per trait, variants that do not vary among its samples once covariates are taken out.
    n_parts, n_resumed
        Parts in all, and parts that were there already.
    """

    n_variants: int
    n_monomorphic: int
    removed: dict[str, int]
    n_without_statistics: dict[str, int]
    n_parts: int
    n_resumed: int


@dataclass(frozen=True)
class _WritePart:
    """Everything a worker needs to scan one part and write it; `labels` say what its variants are."""

    partition: Partition
    labels: dict[str, NDArray[Any]]
    contig: str
    number: int
    marker: Path


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
    store = setup.source.store
    jobs = [
        _WritePart(
            partition=partition,
            labels=variant_columns(store, partition.variants),
            contig=setup.contig_of(partition),
            number=number,
            marker=markers / f"{partition.index:05d}.json",
        )
        for partition, number in zip(setup.source.partitions, part_numbers(setup), strict=True)
    ]
    receipts = [_receipt(job.marker, out) for job in jobs]
    todo = [job for job, receipt in zip(jobs, receipts, strict=True) if receipt is None]
    job_of = {job.partition.index: job for job in todo}
    log.info("scan: %d of %d parts to do", len(todo), len(jobs))
    for panel, partitions in setup.groups([job.partition for job in todo]) if todo else []:
        shared = _Shared(panel, folders, setup.exact)
        map_tasks(_scan_and_write, [job_of[partition.index] for partition in partitions], shared)
    done = [receipt for receipt in (_receipt(job.marker, out) for job in jobs) if receipt is not None]
    totals = np.sum([receipt["n_without_statistics"] for receipt in done], axis=0)
    return ScanSummary(
        n_variants=sum(receipt["n_variants"] for receipt in done),
        n_monomorphic=sum(receipt["n_monomorphic"] for receipt in done),
        removed=add_counts(receipt["removed"] for receipt in done),
        n_without_statistics=dict(zip(setup.panel.traits, (int(n) for n in totals), strict=True)),
        n_parts=len(jobs),
        n_resumed=len(jobs) - len(todo),
    )


def part_numbers(setup: ScanSetup) -> list[int]:
    """Return the number of each partition among those of its contig: the part's name within the contig's folder."""
    seen: dict[int, int] = {}
    numbers = []
    for contig in (partition.contig for partition in setup.source.partitions):
        numbers.append(seen.get(contig, 0))
        seen[contig] = numbers[-1] + 1
    return numbers


def _scan_and_write(job: _WritePart, shared: _Shared) -> None:
    """Scan one part, write its files, then its receipt."""
    found = score_partition(job.partition, shared.panel, job.contig)
    kept = np.searchsorted(job.partition.variants, found.variants)
    common = {name: values[kept] for name, values in job.labels.items()}
    if found.info is not None:
        common["info"] = found.info
    n = n_counted(shared.panel, job.partition)
    files = []
    for kind, statistics in found.statistics.items():
        for t, trait in enumerate(shared.panel.traits if len(found.variants) else ()):
            columns = {
                **common,
                **trait_columns(statistics, t, int(n[t])),
                "exact": np.full(len(statistics.beta), shared.exact or kind == "linear"),
            }
            files.append(write_part(shared.folders[kind], trait, job.contig, job.number, columns))
    empty = np.isnan(next(iter(found.statistics.values())).chisq).sum(axis=0)
    root = shared.folders["associations"].parent
    receipt = {
        "files": {str(file.relative_to(root)): file.stat().st_size for file in files},
        "n_variants": len(found.variants),
        "n_monomorphic": found.n_monomorphic,
        "n_without_statistics": empty.tolist(),
        "removed": found.removed,
    }
    write_json(job.marker, receipt)


def variant_columns(store: GenotypeData, variants: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return what identifies variants, given by their store indices."""
    return {
        "base_pair_location": store.variant_position[variants],
        "effect_allele": store.alt[variants],
        "other_allele": store.ref[variants],
        "rsid": store.variant_id[variants],
    }


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


def _receipt(marker: Path, out: Path) -> dict[str, Any] | None:
    """Read a part's receipt, or None when it is not there or one of its files is missing."""
    try:
        receipt: dict[str, Any] = json.loads(marker.read_text())
    except (OSError, ValueError):
        return None
    return receipt if all((out / name).is_file() for name in receipt["files"]) else None
