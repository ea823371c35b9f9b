"""Adding the variants of more files to a store, such as another chromosome of the same people.

The new store is built beside the old one, in `NAME.zarr.appended`: chunks that stay as they are become further links to
the same files. Then the two change places in one step of the file system where it can do that, and the old one is
removed. Whenever it is killed, there is the old store or the new one, and the same call continues.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.atomic import saving
from biolmm.errors import DamagedStoreError, StoreFormatError, VariantMismatchError, named
from biolmm.files.genotypes import VariantTable, concatenate_variants
from biolmm.places import place, require_local
from biolmm.store.collection import Collection, check_sources, open_sources
from biolmm.store.convert import check_unchanged
from biolmm.store.data import Quality
from biolmm.store.identity import content_key
from biolmm.store.layout import choose_chunk_variants, chunk_path
from biolmm.store.read import GenotypeStore
from biolmm.store.samples import match_to
from biolmm.store.summary import counted, measured
from biolmm.store.swap import finish_swap, remove_store, swap_stores
from biolmm.store.tasks import MapTasks, call_one_by_one
from biolmm.store.write import StoreWriter, clear_aside

log = logging.getLogger(__name__)


def append(
    store_path: Path | str,
    paths: Sequence[Path | str],
    *,
    sample_file: Path | str | None = None,
    map_tasks: MapTasks = call_one_by_one,
) -> GenotypeStore:
    """Add the variants of genotype files to a store, behind those it has.

    Parameters
    ----------
    store_path
        The store.
    paths, sample_file
        The files, as `convert` takes them. Their rows are encoded as those of the store.
    map_tasks
        Runs the chunks that are written.

    Returns
    -------
    The store, now of all variants. The same files again change nothing.

    Raises
    ------
    SampleMismatchError
        When the files hold other people than the store; their order may differ.
    VariantMismatchError
        When the store has some of the variants already: the same contig, position and alleles.
    ParameterError, InputFileError
        As `Collection.open`.
    DamagedStoreError, StoreFormatError
        As `GenotypeStore.open`.
    OutputError
        When the new store cannot be written; the old one is then as it was.

    Notes
    -----
    **Cost**: reads the new files and the last chunk of the store, or all of a store of one chunk, whose size of chunks
    is then chosen anew. Disk: the new variants, and for a while the tables twice.
    """
    path = place(store_path).absolute()
    require_local(path, "a store that is appended to")
    new = path.with_name(path.name + ".appended")
    finish_swap(path, new)
    store = GenotypeStore.open(path)
    collection = _open_matching(store, paths, sample_file)
    if _has(store, collection):
        _tidy(new)
        return store
    whole = _Whole.of(store, collection)
    if not _is_finished(new, whole.key):
        remove_store(new)
        writer = StoreWriter.begin(
            new, store.samples, whole.variants, provenance=whole.provenance, chunk_variants=whole.chunk_variants,
            encoding=store.encoding,
        )  # fmt: skip
        _write(writer, store, collection, map_tasks)
        check_unchanged(collection)
        writer.publish()
    with saving(path):
        swap_stores(path, new)
    _tidy(new)
    return GenotypeStore.open(path)


@dataclass(frozen=True, eq=False)
class _Whole:
    """What the store will be."""

    variants: VariantTable
    provenance: dict[str, Any]
    chunk_variants: int
    key: str

    @classmethod
    def of(cls, store: GenotypeStore, collection: Collection) -> _Whole:
        variants = concatenate_variants([store.variants, collection.variants])
        _refuse_repeated(store, variants, collection)
        _refuse_earlier(store, collection)
        before = store.attributes["provenance"]
        added = {**collection.provenance, "to_fingerprint": store.fingerprint, "n_variants": collection.n_variants}
        provenance = {**before, "appended": [*before.get("appended", []), added]}
        chunk_variants = store.chunk_variants
        if store.n_chunks == 1:  # It is written again as a whole, so its chunks need not stay as small as it is.
            chosen = choose_chunk_variants(store.n_samples, variants.n, None, store.encoding)
            chunk_variants = max(chunk_variants, chosen)
        key = content_key(
            store.samples, variants, provenance=provenance, chunk_variants=chunk_variants, encoding=store.encoding
        )
        return cls(variants, provenance, chunk_variants, key)


@dataclass(frozen=True)
class _Job:
    """What every chunk needs."""

    writer: StoreWriter
    store: GenotypeStore
    collection: Collection


def _open_matching(store: GenotypeStore, paths: Sequence[Path | str], sample_file: Path | str | None) -> Collection:
    """Open files that hold the people of the store, in its order and encoding."""
    sources = open_sources(paths, sample_file=sample_file)
    check_sources(sources)
    if not store.encoding.is_dosage:
        for source in sources:
            if source.has_dosages:
                log.warning("%s has dosages; %s holds hard calls, and gets them.", source.path, store.path)
    matched = match_to(sources, store.samples, str(store.path))
    return Collection.of(sources, encoding=store.encoding.value, samples=matched, contigs_beside=store.contig_id)


def _has(store: GenotypeStore, collection: Collection) -> bool:
    """Whether these files are in the store already: converted first, or appended since."""
    provenance = store.attributes["provenance"]
    known = [provenance, *provenance.get("appended", [])]
    return any(each.get("files") == collection.provenance["files"] for each in known)


def _is_finished(new: Path, key: str) -> bool:
    """Whether the new store is whole beside the old one: it was killed before they changed places."""
    try:
        return new.exists() and GenotypeStore.open(new).attributes.get("biolmm_key") == key
    except (DamagedStoreError, StoreFormatError):
        return False


def _tidy(new: Path) -> None:
    """Remove the old store, which now has the name of the new one, and what its writer may have left."""
    remove_store(new)
    clear_aside(new)


def _refuse_earlier(store: GenotypeStore, collection: Collection) -> None:
    """Raise when variants belong before others of their contig that the store has: its contigs would not be sorted."""
    last = {
        name: int(store.variant_position[store.variant_contig == i].max()) for i, name in enumerate(store.contig_id)
    }
    for i, name in enumerate(collection.contig_id):
        here = collection.variant_position[collection.variant_contig == i]
        if len(here) and int(here.min()) < last.get(name, 0):
            raise VariantMismatchError(
                f"{collection.path} has variants of contig {name} from position {int(here.min()):,}, but {store.path} has "
                f"that contig up to {last[name]:,}: what is appended goes behind. Convert all files of the contig together."
            )


def _refuse_repeated(store: GenotypeStore, variants: VariantTable, collection: Collection) -> None:
    """Raise when placed variants behind those of the store are among them."""
    n = store.n_variants
    place = (variants.contig.astype(np.int64) << 40) + variants.position
    new = np.flatnonzero(np.isin(place[n:], place[:n]) & (variants.position[n:] > 0)) + n
    if not len(new):
        return
    old = np.flatnonzero(np.isin(place[:n], place[new]))
    known = set(_keys(variants, place, old))
    repeated = [i for i, key in zip(new.tolist(), _keys(variants, place, new), strict=True) if key in known]
    if repeated:
        names = (f"{variants.contig_id[variants.contig[i]]}:{variants.position[i]}" for i in repeated)
        raise VariantMismatchError(
            f"{store.path} has {len(repeated):,} of the {collection.n_variants:,} variants of {collection.path} already: "
            f"{named(names)}. Append files of other variants, or convert all files anew."
        )


def _keys(variants: VariantTable, place: NDArray[np.int64], rows: NDArray[np.int64]) -> list[tuple[int, str, str]]:
    columns = (place[rows].tolist(), variants.ref[rows].tolist(), variants.alt[rows].tolist())
    return list(zip(*columns, strict=True))


def _write(writer: StoreWriter, store: GenotypeStore, collection: Collection, map_tasks: MapTasks) -> None:
    """Take over the chunks that stay, and write the others."""
    finished = writer.finished_chunks()
    n_kept = store.n_variants // store.chunk_variants if writer.chunk_variants == store.chunk_variants else 0
    names = (*counted(store.encoding), *measured(store.encoding))
    tables = {name: store.read_table(name) for name in names}
    for chunk in sorted(set(range(n_kept)) - finished):
        start, stop = store.chunk_range(chunk)
        summary = {name: table[start:stop] for name, table in tables.items()}
        file = store.path / chunk_path(store.encoding, chunk)
        writer.adopt_chunk(chunk, file, int(store.chunk_crc32c[chunk]), summary)
    todo = sorted(set(range(n_kept, writer.n_chunks)) - finished)
    map_tasks(_write_chunk, todo, _Job(writer, store, collection))


def _write_chunk(chunk: int, job: _Job) -> None:
    """Write a chunk of new variants, behind the last old ones where it begins with them."""
    start, stop = job.writer.chunk_range(chunk)
    n_old = job.store.n_variants
    new = job.collection.read_range(max(start - n_old, 0), stop - n_old)
    if start >= n_old:
        job.writer.write_chunk(chunk, new.rows, new.quality)
        return
    rows = np.concatenate([job.store.read_rows(start // job.store.chunk_variants), new.rows])
    quality = new.quality
    old = job.store.read_quality(np.arange(start, n_old))
    if old is not None and quality is not None:
        quality = Quality(np.concatenate([old.info, quality.info]), np.concatenate([old.r2, quality.r2]))
    job.writer.write_chunk(chunk, rows, quality)
