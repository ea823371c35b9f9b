"""The parts that a scan is written in: what a worker is told of one, the receipt it leaves, and what the receipts add up to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.atomic import write_json
from biolmm.genotypes.filters import add_counts
from biolmm.genotypes.source import ChosenGenotypes, Partition


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
class PartJob:
    """Everything a worker needs to name a part and its variants; files that are scanned leave their tables behind.

    Attributes
    ----------
    partition
        Which variants.
    labels
        What identifies each of them.
    contig, number
        Where its files go.
    marker
        Path of its receipt.
    """

    partition: Partition
    labels: Mapping[str, NDArray[Any]]
    contig: str
    number: int
    marker: Path

    def labels_of(self, variants: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return what identifies some of the part's variants, given by their ascending store indices."""
        kept = np.searchsorted(self.partition.variants, variants)
        return {name: values[kept] for name, values in self.labels.items()}

    def receipt(self, out: Path) -> dict[str, Any] | None:
        """Read the receipt, or None when it is not there or one of the part's files below `out` is missing."""
        try:
            receipt: dict[str, Any] = json.loads(self.marker.read_text())
        except (OSError, ValueError):
            return None
        return receipt if all((out / name).is_file() for name in receipt["files"]) else None

    def finish(self, out: Path, files: Sequence[Path], **counts: Any) -> None:
        """Leave the receipt: the part's files below `out`, and counts."""
        sizes = {str(file.relative_to(out)): file.stat().st_size for file in files}
        write_json(self.marker, {"files": sizes, **counts})


def part_jobs(source: ChosenGenotypes, markers: Path) -> list[PartJob]:
    """Return a job for every partition, in order."""
    store = source.store
    return [
        PartJob(
            partition=partition,
            labels={
                "base_pair_location": store.variant_position[partition.variants],
                "effect_allele": store.alt[partition.variants],
                "other_allele": store.ref[partition.variants],
                "rsid": store.variant_id[partition.variants],
            },
            contig=str(store.contig_id[partition.contig]),
            number=number,
            marker=markers / f"{partition.index:05d}.json",
        )
        for partition, number in zip(source.partitions, part_numbers(source.partitions), strict=True)
    ]


def part_numbers(partitions: Sequence[Partition]) -> list[int]:
    """Return the number of each partition among those of its contig: the part's name within the contig's folder."""
    seen: dict[int, int] = {}
    numbers = []
    for contig in (partition.contig for partition in partitions):
        numbers.append(seen.get(contig, 0))
        seen[contig] = numbers[-1] + 1
    return numbers


def summarise(jobs: Sequence[PartJob], out: Path, traits: Sequence[str], n_done_now: int) -> ScanSummary:
    """Add up the receipts of all parts, of which `n_done_now` were not there before."""
    done = [receipt for receipt in (job.receipt(out) for job in jobs) if receipt is not None]
    empty = np.array([receipt["n_without_statistics"] for receipt in done], dtype=np.int64).sum(axis=0)
    return ScanSummary(
        n_variants=sum(receipt["n_variants"] for receipt in done),
        n_monomorphic=sum(receipt["n_monomorphic"] for receipt in done),
        removed=add_counts(receipt["removed"] for receipt in done),
        n_without_statistics=dict(zip(traits, empty.tolist(), strict=True)),
        n_parts=len(jobs),
        n_resumed=len(jobs) - n_done_now,
    )
