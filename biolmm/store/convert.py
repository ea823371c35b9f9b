"""Making a store from PLINK 1 file sets."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from biolmm.atomic import saving
from biolmm.errors import (
    DamagedStoreError,
    InputFileError,
    OutputError,
    ParameterError,
    SampleMismatchError,
    StoreFormatError,
)
from biolmm.files.bed import BedFiles, bed_files, check_bed, read_bim, read_fam, read_packed_rows
from biolmm.files.bed_tables import count_duplicates
from biolmm.files.encoding import row_bytes
from biolmm.files.genotypes import SampleTable, VariantTable, concatenate_variants
from biolmm.memory import Need, StagePlan
from biolmm.store.identity import content_key
from biolmm.store.read import GenotypeStore
from biolmm.store.write import StoreWriter, choose_chunk_variants

MapTasks = Callable[[Callable[[int], None], Sequence[int]], list[None]]
"""Calls a function on each item, in any order, possibly in other threads or processes."""


@dataclass(frozen=True, eq=False)
class BedInput:
    """File sets that were checked and fit together."""

    files: tuple[BedFiles, ...]
    samples: SampleTable
    variants: VariantTable
    offsets: tuple[int, ...]
    """First variant of each file set, and the total."""
    provenance: dict[str, Any]


@dataclass(frozen=True)
class ConvertChunk:
    """Reads the variants of one chunk from the file sets that hold them, and writes the chunk."""

    writer: StoreWriter
    beds: tuple[Path, ...]
    offsets: tuple[int, ...]

    def __call__(self, chunk: int) -> None:
        """Convert one chunk."""
        start, stop = self.writer.chunk_range(chunk)
        packed = np.empty((stop - start, row_bytes(self.writer.n_samples)), np.uint8)
        for bed, (first, last) in zip(self.beds, pairwise(self.offsets), strict=True):
            a, b = max(start, first), min(stop, last)
            if a < b:
                out = packed[a - start : b - start]
                read_packed_rows(bed, self.writer.n_samples, a - first, b - first, out=out)
        self.writer.write_chunk(chunk, packed)


def call_one_by_one(function: Callable[[int], None], items: Sequence[int]) -> list[None]:
    """Call in this thread, in order: the `map_tasks` that needs no scheduler."""
    for item in items:
        function(item)
    return [None] * len(items)


def read_bed_input(bed_paths: Sequence[Path | str]) -> BedInput:
    """Read and check the tables of file sets and the sizes of their `.bed` files.

    Raises
    ------
    ParameterError
        When no file is given, or one twice.
    InputFileError
        When a file is missing, malformed, truncated, or does not fit the others of its set.
    SampleMismatchError
        When file sets hold other samples, or the same in another order.
    """
    if not bed_paths:
        raise ParameterError("no .bed file was given.")
    files = tuple(bed_files(path) for path in bed_paths)
    resolved = [each.bed.resolve() for each in files]
    if len(set(resolved)) < len(files):
        twice = next(each.bed for i, each in enumerate(files) if resolved[i] in resolved[:i])
        raise ParameterError(f"{twice} was given twice.")
    samples = read_fam(files[0].fam)
    tables = []
    for each in files:
        _check_same_samples(files[0].fam, samples, each.fam)
        tables.append(read_bim(each.bim))
        check_bed(each, samples.n, tables[-1])
    variants = concatenate_variants(tables)
    source = [_identity(path) for each in files for path in (each.bed, each.bim, each.fam)]
    return BedInput(
        files=files,
        samples=samples,
        variants=variants,
        offsets=tuple(accumulate((table.n for table in tables), initial=0)),
        provenance={
            "kind": "bed",
            "files": source,
            "n_duplicate_variants": count_duplicates(variants),
            "n_negative_positions": int(np.sum(variants.position < 0)),
        },
    )


def convert(
    bed_paths: Sequence[Path | str],
    out: Path | str,
    *,
    chunk_variants: int | None = None,
    overwrite: bool = False,
    map_tasks: MapTasks = call_one_by_one,
) -> GenotypeStore:
    """Convert one PLINK 1 file set, or several of the same samples, to a store.

    Parameters
    ----------
    bed_paths
        The `.bed` files, for example one a chromosome; their variants follow one another in this order.
    out
        Path of the store.
    chunk_variants
        Variants of a chunk, a multiple of 64; by default about 8 MiB packed.
    overwrite
        Whether a store at `out` is replaced. Otherwise it is returned when the same files were converted to it,
        and refused when not.
    map_tasks
        Runs the chunks; they are independent.

    Returns
    -------
    The store. `attributes["provenance"]` lists the files and counts the duplicate variants.

    Raises
    ------
    ParameterError, InputFileError, SampleMismatchError
        As `read_bed_input`; also InputFileError when a file changes meanwhile.
    OutputError
        When something else is at `out`, or the store cannot be written. What is written is kept, and the next call
        continues it.

    Notes
    -----
    **Cost**: one pass over the `.bed` files; about 2·10⁹ calls per second and core. Memory: three chunks a task.
    """
    given = read_bed_input(bed_paths)
    out = Path(out).absolute()
    chosen = choose_chunk_variants(given.samples.n, given.variants.n, chunk_variants)
    key = content_key(given.samples, given.variants, provenance=given.provenance, chunk_variants=chosen)
    if overwrite:
        _remove_existing(out)
    existing = _existing(out)
    if existing is not None and existing.attributes.get("biolmm_key") == key:
        return existing
    writer = StoreWriter.begin(
        out, given.samples, given.variants, provenance=given.provenance, chunk_variants=chunk_variants
    )
    todo = sorted(set(range(writer.n_chunks)) - writer.finished_chunks())
    map_tasks(ConvertChunk(writer, tuple(each.bed for each in given.files), given.offsets), todo)
    for before in given.provenance["files"]:
        if _identity(Path(before["path"])) != before:
            raise InputFileError(f"{before['path']} was changed while it was converted. Run again.")
    return GenotypeStore.open(writer.publish())


def plan_convert(
    bed_paths: Sequence[Path | str], *, chunk_variants: int | None = None, n_workers: int = 1
) -> StagePlan:
    """Say what `convert` of the same files will read, write and hold, for `n_workers` tasks at a time."""
    given = read_bed_input(bed_paths)
    chosen = choose_chunk_variants(given.samples.n, given.variants.n, chunk_variants)
    chunk_bytes = chosen * row_bytes(given.samples.n)
    n_chunks = -(-given.variants.n // chosen)
    return StagePlan(
        stage="convert",
        n_tasks=n_chunks,
        n_passes=1,
        read_bytes=sum(item["n_bytes"] for item in given.provenance["files"]),
        written_bytes=n_chunks * chunk_bytes,
        needs=(
            Need(f"{n_workers} chunks of calls, as read, packed and compressed", 4 * n_workers * chunk_bytes),
            Need("tables of samples and variants", 400 * given.variants.n + 200 * given.samples.n),
        ),
    )


def _existing(out: Path) -> GenotypeStore | None:
    """Open what is at `out`; None where nothing is."""
    if not out.exists():
        return None
    try:
        return GenotypeStore.open(out)
    except StoreFormatError as error:
        raise OutputError(f"{out} exists and is not a store of this biolmm: choose another name or move it.") from error


def _remove_existing(out: Path) -> None:
    """Remove the store at `out`, damaged or not, but nothing that is not a store."""
    with suppress(DamagedStoreError):
        if _existing(out) is None:
            return
    with saving(out):
        shutil.rmtree(out)


def _identity(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"path": str(path.absolute()), "n_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _check_same_samples(first_fam: Path, first: SampleTable, fam: Path) -> None:
    if fam == first_fam:
        return
    found = read_fam(fam).sample_id
    if np.array_equal(found, first.sample_id):
        return
    if len(found) != first.n:
        raise SampleMismatchError(
            f"{fam} has {len(found):,} samples, {first_fam} has {first.n:,}: all file sets must hold the same samples. "
            "Cut them alike with plink2 --keep."
        )
    row = int(np.argmax(found != first.sample_id))
    if set(found.tolist()) == set(first.sample_id.tolist()):
        remedy = "The samples are the same in another order: sort them alike with plink2 --indiv-sort."
    else:
        remedy = "All file sets must hold the same samples: cut them alike with plink2 --keep."
    raise SampleMismatchError(
        f"{fam} differs from {first_fam} at sample {row + 1:,}: {found[row]} instead of {first.sample_id[row]}. "
        f"{remedy}"
    )
