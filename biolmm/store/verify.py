"""Looking for damage in a whole store: every file is read, and everything that was counted is counted again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from biolmm import schema
from biolmm.errors import BiolmmError, DamagedStoreError
from biolmm.files.encoding import Encoding
from biolmm.places import place
from biolmm.store.identity import fingerprint, table_digest
from biolmm.store.layout import chunk_path, genotype_array
from biolmm.store.read import GenotypeStore, read_attributes
from biolmm.store.summary import Summary, count_rows, counted
from biolmm.store.tasks import MapTasks, call_one_by_one

_ROOT = "zarr.json"


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong with a store."""

    file: str
    """Relative to the store."""
    problem: str

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}"


@dataclass(frozen=True)
class Verification:
    """What was read of a store, and everything that is wrong with it."""

    path: Path
    n_files: int
    n_bytes: int
    damages: tuple[Damage, ...]

    @property
    def is_intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damages


def verify(store_path: Path | str, *, map_tasks: MapTasks = call_one_by_one) -> Verification:
    """Read a store from end to end and list all of its damage.

    Every file is compared with its CRC-32C, every chunk is decoded and its genotypes counted again, the fingerprint is
    computed again, and files that are missing or do not belong are named.

    Parameters
    ----------
    store_path
        The store.
    map_tasks
        Runs the chunks.

    Returns
    -------
    What was read and found, damages in the order of their files. INFO and R² cannot be computed again without the
    input; their CRC-32C is compared.

    Raises
    ------
    InputFileError
        When there is nothing at the path.
    StoreFormatError
        When it is something else than a store of this version.

    Notes
    -----
    **Cost**: one pass over the store. Memory: one chunk a task, and the tables.
    """
    path = place(store_path).absolute()
    found = {str(file.relative_to(path)): file for file in path.rglob("*") if not file.is_dir()}
    n_bytes = sum(file.stat().st_size for file in found.values())
    damages: list[Damage] = []
    try:
        attributes = read_attributes(path)
        damages += _check_group(path) + _check_table_files(path, attributes)
        store = GenotypeStore.open(path)
    except DamagedStoreError as error:
        # Without the attributes, or the list of its chunks, nothing else can be judged.
        damages = damages or [Damage(_ROOT, _shortened(path, error))]
        return Verification(path, len(found), n_bytes, _in_order(damages))
    expected = {_ROOT, *attributes["checksums"], *(chunk_path(store.encoding, i) for i in range(store.n_chunks))}
    damages += [Damage(name, "does not belong to the store") for name in found.keys() - expected]
    tables = _read_tables(store)
    chunks = map_tasks(_check_chunk, range(store.n_chunks), store)
    for chunk, checked in enumerate(chunks):
        damages += checked.damages
        damages += _compare_counts(store, chunk, checked.counts, tables)
    damages += _check_whole(store, tables)
    chunk_bytes = sum(each.n_bytes for each in chunks)
    if chunk_bytes != store.encoded_bytes and not any(each.damages for each in chunks):
        damages.append(Damage(_ROOT, f"says {store.encoded_bytes:,} bytes of genotypes; there are {chunk_bytes:,}"))
    return Verification(path, len(found), n_bytes, _in_order(damages))


def _in_order(damages: list[Damage]) -> tuple[Damage, ...]:
    return tuple(sorted(set(damages), key=lambda each: (each.file, each.problem)))


@dataclass(frozen=True, eq=False)
class _Checked:
    """What a task found in one chunk."""

    damages: tuple[Damage, ...]
    counts: Summary | None
    n_bytes: int


def _check_chunk(chunk: int, store: GenotypeStore) -> _Checked:
    """Read, decode and count one chunk."""
    file = chunk_path(store.encoding, chunk)
    try:
        encoded = store.read_encoded(chunk)
    except BiolmmError as error:
        return _Checked((Damage(file, _shortened(store.path, error)),), None, 0)
    try:
        rows = store.decode(chunk, encoded)
        counts = count_rows(rows, store.encoding, store.n_samples)
    except (ValueError, RuntimeError) as error:
        return _Checked((Damage(file, f"cannot be decoded: {error}"),), None, len(encoded))
    return _Checked((), counts, len(encoded))


def _check_group(path: Path) -> list[Damage]:
    """Look at what surrounds the attributes, which their own checksum does not cover."""
    metadata = json.loads((path / _ROOT).read_text(encoding="utf-8"))
    wrong = [name for name, value in (("zarr_format", 3), ("node_type", "group")) if metadata.get(name) != value]
    return [Damage(_ROOT, f"its {' and '.join(wrong)} are not those of a Zarr v3 group")] if wrong else []


def _check_table_files(path: Path, attributes: dict[str, Any]) -> list[Damage]:
    """Compare every file but the chunks of genotypes with its checksum; look for arrays that have none."""
    damages = []
    for name, expected in attributes["checksums"].items():
        try:
            content = (path / name).read_bytes()
        except OSError as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            damages.append(Damage(name, "is missing" if missing else f"cannot be read: {error.strerror}"))
            continue
        found = google_crc32c.value(content)
        if found != expected:
            damages.append(
                Damage(name, f"has CRC-32C {found:08x} in {len(content):,} bytes where {expected:08x} was written")
            )
    needed = (f"{name}/zarr.json" for name in schema.stored_variables(attributes["encoding"] != Encoding.CALLS.value))
    return damages + [Damage(file, "has no checksum") for file in needed if file not in attributes["checksums"]]


def _read_tables(store: GenotypeStore) -> dict[str, NDArray[Any]]:
    """Read the tables that can be read; damage to the others is known already."""
    tables = {}
    for name in schema.stored_variables(store.encoding.is_dosage):
        if name == genotype_array(store.encoding):
            continue
        try:
            tables[name] = store.read_table(name)
        except BiolmmError:
            continue
    return tables


def _compare_counts(
    store: GenotypeStore, chunk: int, counts: Summary | None, tables: dict[str, NDArray[Any]]
) -> list[Damage]:
    """Compare the counts of a chunk with those in the tables; both files are intact by their checksums."""
    if counts is None:
        return []
    start, stop = store.chunk_range(chunk)
    damages = []
    for name in counted(store.encoding):
        if name not in tables:
            continue
        stored = tables[name][start:stop]
        if stored.shape != counts[name].shape:
            damages.append(Damage(name, f"has {len(tables[name]):,} values for {store.n_variants:,} variants"))
        elif not np.array_equal(stored, counts[name]):
            different = np.flatnonzero(stored != counts[name])
            first = int(different[0])
            damages.append(
                Damage(
                    name,
                    f"is {stored[first]} for variant {start + first + 1:,}, whose genotypes count {counts[name][first]}; "
                    f"it is wrong for {len(different):,} variants of chunk {chunk}",
                )
            )
    return damages


def _check_whole(store: GenotypeStore, tables: dict[str, NDArray[Any]]) -> list[Damage]:
    """Check what concerns several arrays: their lengths, the indices into contigs, the fingerprint."""
    damages = []
    sizes = {schema.VARIANTS: store.n_variants, schema.SAMPLES: store.n_samples}
    for name, table in tables.items():
        dim = schema.STORE_VARIABLES[name].dims[0]
        if dim in sizes and len(table) != sizes[dim]:
            damages.append(Damage(name, f"has {len(table):,} values instead of {sizes[dim]:,}"))
    contig, names = tables.get(schema.VARIANT_CONTIG), tables.get(schema.CONTIG_ID)
    if contig is not None and names is not None and len(contig) and not 0 <= contig.min() <= contig.max() < len(names):
        damages.append(Damage(schema.VARIANT_CONTIG, f"has values outside the {len(names)} contigs"))
    ids = tables.get(schema.SAMPLE_ID)
    if ids is not None and len(set(ids.tolist())) < len(ids):
        damages.append(Damage(schema.SAMPLE_ID, "names a sample more than once"))
    if damages or len(tables) < len(schema.stored_variables(store.encoding.is_dosage)) - 1:
        return damages
    found = fingerprint(table_digest(store.samples, store.variants), store.chunk_crc32c)
    if found != store.fingerprint:
        damages.append(Damage(_ROOT, f"has fingerprint {store.fingerprint[:16]}… but its content has {found[:16]}…"))
    return damages


def _shortened(path: Path, error: BiolmmError) -> str:
    """Leave out of a message what the report says already."""
    return str(error).removeprefix(f"{path} is damaged: ").split(" Restore it from a backup")[0].rstrip(". ")
