"""Making a store from genotype files of any format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from biolmm.atomic import saving
from biolmm.errors import InputFileError, OutputError, StoreFormatError
from biolmm.files.genotypes import Source
from biolmm.memory import Need, StagePlan
from biolmm.places import is_remote, place
from biolmm.store.collection import AskedEncoding, Collection
from biolmm.store.identity import content_key, file_identity
from biolmm.store.read import GenotypeStore, is_unfinished
from biolmm.store.samples import Which
from biolmm.store.swap import check_is_store, finish_swap, remove_store, swap_stores
from biolmm.store.tasks import MapTasks, call_one_by_one
from biolmm.store.write import StoreWriter, clear_aside

__all__ = ["MapTasks", "call_one_by_one", "convert", "convert_collection", "convert_sources", "plan_convert"]

_BYTES_A_VARIANT, _BYTES_A_SAMPLE = 400, 200
"""Memory of the tables."""


@dataclass(frozen=True)
class _Job:
    """What every chunk needs: where it goes and where it comes from."""

    writer: StoreWriter
    collection: Collection


def _convert_chunk(chunk: int, job: _Job) -> None:
    """Read the variants of one chunk from the files that hold them, and write the chunk."""
    decoded = job.collection.read_range(*job.writer.chunk_range(chunk))
    job.writer.write_chunk(chunk, decoded.rows, decoded.quality)


def convert(
    paths: Sequence[Path | str],
    out: Path | str,
    *,
    encoding: AskedEncoding = "auto",
    samples: Which = "intersection",
    sample_file: Path | str | None = None,
    chunk_variants: int | None = None,
    overwrite: bool = False,
    map_tasks: MapTasks = call_one_by_one,
) -> GenotypeStore:
    """Convert genotype files, one or many of any format, to a store.

    Parameters
    ----------
    paths
        The files, for example one a chromosome, in any order: `.bed`, `.bgen`, `.pgen`, `.vcf.gz`, `.bcf`, VCF Zarr.
    out
        Path of the store.
    encoding, samples, sample_file, chunk_variants
        As `Collection.open`.
    overwrite
        Whether a store at `out` is replaced. Otherwise it is returned when the same files were converted to it,
        and refused when not.
    map_tasks
        Runs the chunks; they are independent.

    Returns
    -------
    The store. `attributes["provenance"]` lists the files, the people left out and the contigs renamed, and counts the
    duplicate variants.

    Raises
    ------
    ParameterError, InputFileError, SampleMismatchError
        As `Collection.open`; also InputFileError when a file is damaged or changes meanwhile.
    OutputError
        When something else is at `out`, or the store cannot be written. What is written is kept, and the next call
        continues it.

    Notes
    -----
    **Cost**: one pass over the files. Memory: about four chunks a task, and the tables of samples and variants.
    """
    collection = Collection.open(
        paths, sample_file=sample_file, encoding=encoding, samples=samples, chunk_variants=chunk_variants
    )
    return convert_collection(collection, out, overwrite=overwrite, map_tasks=map_tasks)


def convert_sources(
    sources: Sequence[Source],
    out: Path | str,
    *,
    encoding: AskedEncoding = "auto",
    samples: Which = "intersection",
    chunk_variants: int | None = None,
    overwrite: bool = False,
    map_tasks: MapTasks = call_one_by_one,
) -> GenotypeStore:
    """Convert files that are open; otherwise as `convert`."""
    collection = Collection.of(sources, encoding=encoding, samples=samples, chunk_variants=chunk_variants)
    return convert_collection(collection, out, overwrite=overwrite, map_tasks=map_tasks)


def convert_collection(
    collection: Collection, out: Path | str, *, overwrite: bool = False, map_tasks: MapTasks = call_one_by_one
) -> GenotypeStore:
    """Convert a collection; otherwise as `convert`.

    A local store that is replaced stays until the new one is whole.
    """
    out = place(out).absolute()
    if overwrite and not is_remote(out):
        new = out.with_name(out.name + ".new")
        finish_swap(out, new)
        if out.exists():
            return _replace(collection, out, new, map_tasks)
    key = content_key(
        collection.samples, collection.variants, provenance=collection.provenance,
        chunk_variants=collection.chunk_variants, encoding=collection.encoding,
    )  # fmt: skip
    if overwrite:
        remove_store(out)
    existing = _existing(out)
    if existing is not None and existing.attributes.get("biolmm_key") == key:
        clear_aside(out)
        return existing
    writer = StoreWriter.begin(
        out, collection.samples, collection.variants, provenance=collection.provenance,
        chunk_variants=collection.chunk_variants, encoding=collection.encoding,
    )  # fmt: skip
    todo = sorted(set(range(writer.n_chunks)) - writer.finished_chunks())
    map_tasks(_convert_chunk, todo, _Job(writer, collection))
    check_unchanged(collection)
    return GenotypeStore.open(writer.publish())


def _replace(collection: Collection, out: Path, new: Path, map_tasks: MapTasks) -> GenotypeStore:
    """Convert beside the store that is there, and let the two change places."""
    check_is_store(out)
    try:
        convert_collection(collection, new, map_tasks=map_tasks)
    except OutputError:
        if not new.exists():
            raise
        remove_store(new)  # of another run that was killed
        convert_collection(collection, new, map_tasks=map_tasks)
    with saving(out):
        swap_stores(out, new)
    remove_store(new)
    return GenotypeStore.open(out)


def plan_convert(collection: Collection, *, n_workers: int = 1) -> StagePlan:
    """Say what `convert_collection` will read, write and hold, for `n_workers` tasks at a time."""
    chunk_bytes = collection.chunk_variants * collection.encoding.row_bytes(collection.n_samples)
    # A reader may hold dosages as numbers of 4 bytes before they are rounded to codes.
    n_values = collection.chunk_variants * max(part.n_samples for part in collection.parts)
    decoded = 4 * n_values if collection.encoding.is_dosage else 0
    tables = _BYTES_A_VARIANT * collection.n_variants + _BYTES_A_SAMPLE * collection.n_samples
    return StagePlan(
        stage="convert",
        n_tasks=collection.n_chunks,
        n_passes=1,
        read_bytes=sum(item["n_bytes"] for item in collection.provenance["files"]),
        written_bytes=collection.n_chunks * chunk_bytes,
        needs=(
            Need(
                f"{n_workers} chunks of genotypes, as read, encoded and compressed",
                n_workers * (4 * chunk_bytes + decoded),
            ),
            Need("tables of samples and variants", tables),
        ),
    )


def check_unchanged(collection: Collection) -> None:
    """Raise `InputFileError` when a file of a collection is not the one that was opened."""
    for before in collection.provenance["files"]:
        try:
            same = file_identity(place(before["path"])) == before
        except OSError:
            same = False
        if not same:
            raise InputFileError(f"{before['path']} was changed while it was read. Run again.")


def _existing(out: Path) -> GenotypeStore | None:
    """Open what is at `out`; None where nothing is."""
    if not out.exists() or is_unfinished(out):
        return None
    try:
        return GenotypeStore.open(out)
    except StoreFormatError as error:
        raise OutputError(f"{out} exists and is not a store of this biolmm: choose another name or move it.") from error
