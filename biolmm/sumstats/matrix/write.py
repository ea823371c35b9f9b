"""Building a store aside, chunk by chunk, from an old one and from studies that have been read.

Aside, in `<path>.partial`:

    key.json           what is being built
    runs/<key>/        sorted records of a study (`ingest/runs.py`)
    store/             the Zarr group that will become `<path>`
    markers/<i>.npz    written after chunk i: its checksums
    scratch/           files on their way

Chunks that do not change are hard links to the old store's files. At the end the two folders change places, so that there
is a whole store at `<path>` at every moment.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from biolmm.atomic import remove, saving, write_whole
from biolmm.errors import OutputError
from biolmm.stages import content_hash
from biolmm.store.identity import ATTRIBUTES_CRC32C, attributes_crc32c, biolmm_version
from biolmm.store.in_memory import GroupInMemory
from biolmm.store.swap import finish_swap, swap_stores
from biolmm.store.tasks import MapTasks
from biolmm.sumstats.matrix.kept import TURNING, turn_cells
from biolmm.sumstats.matrix.layout import (
    ALLELE,
    CATALOGUE,
    CATALOGUE_CRC32C,
    CELLS,
    CELLS_CRC32C,
    CONTIG,
    FORMAT,
    FORMAT_ATTRIBUTE,
    FREQUENCY,
    POSITION,
    RSID,
    STATUS,
    catalogue_path,
    cell_path,
    cell_type,
    create_arrays,
    encode_alleles,
    encode_numbers,
    fill_of,
    write_small,
)
from biolmm.sumstats.matrix.merge import Cells, Variants
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.places import Contigs, position_of, rank_of

_ENTRIES = {"key.json", "runs", "store", "markers", "scratch"}


@dataclass(frozen=True)
class Aside:
    """The folder in which a store is built."""

    path: Path

    @property
    def root(self) -> Path:
        """Where it is built."""
        return self.path.with_name(self.path.name + ".partial")

    @property
    def store(self) -> Path:
        """The group while it is built."""
        return self.root / "store"

    def recover(self) -> None:
        """Finish a change of places that was killed, so that there is a store at `path` again."""
        finish_swap(self.path, self.store)

    def begin(self, key: str) -> None:
        """Start, or continue what was begun with the same key.

        Raises
        ------
        OutputError
            When something else is there, or nothing can be written.
        """
        with saving(self.path):
            if self.root.exists():
                strange = {entry.name for entry in self.root.iterdir()} - _ENTRIES
                if strange or not self.root.is_dir():
                    raise OutputError(
                        f"{self.root} holds {', '.join(sorted(strange)[:3])}, which is not of biolmm: move it."
                    )
            if self._key() != key:
                for name in ("key.json", "store", "markers", "scratch"):
                    remove(self.root / name)
            for name in ("runs", "store", "markers", "scratch"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            self.write("../key.json", json.dumps({"key": key}).encode())

    def _key(self) -> str | None:
        try:
            return str(json.loads((self.root / "key.json").read_text(encoding="utf-8"))["key"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, file: str, content: bytes) -> None:
        """Write a file of the group."""
        target = self.store / file
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, content, self.root / "scratch")

    def link(self, file: str, source: Path) -> None:
        """Take a file of the old store as it is."""
        target = self.store / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, target)

    def marked(self, chunk: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]] | None:
        """Give the checksums of a finished chunk; None where it is not finished."""
        try:
            with np.load(io.BytesIO((self.root / "markers" / f"{chunk}.npz").read_bytes())) as saved:
                return saved["catalogue"], saved["cells"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def mark(self, chunk: int, catalogue: NDArray[np.uint32], cells: NDArray[np.uint32]) -> None:
        """Say that a chunk is finished."""
        buffer = io.BytesIO()
        np.savez(buffer, catalogue=catalogue, cells=cells)
        write_whole(self.root / "markers" / f"{chunk}.npz", buffer.getvalue(), self.root / "scratch")

    def publish(self, attributes: dict[str, Any], tables: dict[str, tuple[NDArray[Any], list[str]]]) -> None:
        """Write the group's metadata and small arrays, and put the store in its place."""
        with saving(self.path):
            laid_out = GroupInMemory()
            create_arrays(laid_out.group, attributes["n_variants"], len(attributes["studies"]),
                          attributes["chunk_variants"], attributes["exact"])  # fmt: skip
            for name, (values, dims) in tables.items():
                write_small(laid_out.group, name, values, dims)
            sums = {}
            for file, content in sorted(laid_out.take()):
                if file == "zarr.json":
                    metadata = json.loads(content)
                    continue
                sums[file] = google_crc32c.value(content)
                self.write(file, content)
            attributes = {**attributes, "checksums": sums}
            attributes[ATTRIBUTES_CRC32C] = attributes_crc32c(attributes)
            metadata["attributes"] = attributes
            self.write("zarr.json", json.dumps(metadata, indent=1).encode())
            if self.path.exists():
                swap_stores(self.path, self.store)
            else:
                self.store.rename(self.path)
            remove(self.root)


@dataclass(frozen=True, eq=False)
class Column:
    """A study of the new store: the number of one of the old store's, or that of one that is added."""

    meta: dict[str, Any]
    old: int | None = None
    new: int | None = None


@dataclass(frozen=True, eq=False)
class ChunkTask:
    """What a worker needs to write one study's part of a chunk."""

    chunk: int
    study: int
    column: Column
    old_rows: NDArray[np.int64]
    cells: Cells | None
    turned: NDArray[np.int8]
    """What becomes of old cells (`kept.py`)."""


@dataclass(frozen=True)
class ChunkWriter:
    """Writes chunks of the new store."""

    aside: Aside
    old: SumstatsStore | None
    columns: Sequence[Column]
    chunk_variants: int
    exact: bool
    contigs: Contigs
    contig_ranks: Sequence[int]
    map_tasks: MapTasks

    def link(self, chunk: int) -> None:
        """Take a chunk whose rows stay as they are from the old store, with those of its studies that stay."""
        if self.old is None or self.aside.marked(chunk) is not None:
            return
        start, stop = self.old.chunk_range(chunk)
        sums = []
        for name in CATALOGUE:
            self.aside.link(catalogue_path(name, chunk), self.old.path / catalogue_path(name, chunk))
            sums.append(self.old.chunk_crc32c(name, chunk))
        rows = np.arange(start, stop)
        turned = np.zeros(len(rows), np.int8)
        cells = [
            self._write_old(ChunkTask(chunk, at, column, rows, None, turned)) for at, column in enumerate(self.columns)
        ]
        self._mark(chunk, np.array(sums, np.uint32), cells)

    def write(self, chunk: int, variants: Variants, cells: Sequence[Cells]) -> None:
        """Write a chunk of the catalogue and of all studies, then its marker; a finished one is left alone."""
        if self.aside.marked(chunk) is not None:
            return
        catalogue = self._write_catalogue(chunk, variants)
        tasks = [
            ChunkTask(
                chunk, at, column, variants.old, None if column.new is None else cells[column.new], variants.turned
            )
            for at, column in enumerate(self.columns)
        ]
        sums = self.map_tasks(self._write_study, tasks)
        self._mark(chunk, catalogue, sums)

    def _mark(self, chunk: int, catalogue: NDArray[np.uint32], cells: Sequence[Sequence[int]]) -> None:
        self.aside.mark(chunk, catalogue, np.array(cells, np.uint32).reshape(len(cells), len(CELLS)).T)

    def _write_catalogue(self, chunk: int, variants: Variants) -> NDArray[np.uint32]:
        size, sums = self.chunk_variants, []
        numbers: dict[str, NDArray[Any]] = {
            CONTIG: np.searchsorted(np.array(self.contig_ranks), rank_of(variants.place)),
            POSITION: position_of(variants.place),
            RSID: variants.rsid,
            FREQUENCY: variants.eaf,
        }
        for name in CATALOGUE:
            if name == ALLELE:
                content, crc = encode_alleles(variants.alleles, size)
            else:
                kind = cell_type(name, self.exact)
                content, crc = encode_numbers(numbers[name].astype(kind), size, fill_of(kind))
            self.aside.write(catalogue_path(name, chunk), content)
            sums.append(crc)
        return np.array(sums, np.uint32)

    def _write_study(self, task: ChunkTask) -> list[int]:
        if task.column.old is not None:
            return self._write_old(task)
        assert task.cells is not None
        n, cells, sums = len(task.old_rows), task.cells, []
        for at, name in enumerate(CELLS):
            kind = cell_type(name, self.exact)
            values = np.full(n, fill_of(kind), kind)
            values[cells.row] = cells.status if name == STATUS else cells.values[:, at]
            sums.append(self._write_cells(name, task, values))
        return sums

    def _write_cells(self, name: str, task: ChunkTask, values: NDArray[Any]) -> int:
        """Write one array's chunk; none, where all is missing."""
        if not (values != 0).any() if name == STATUS else np.isnan(values).all():
            return 0
        content, crc = encode_numbers(values, self.chunk_variants, fill_of(values.dtype))
        self.aside.write(cell_path(name, task.chunk, task.study), content)
        return crc

    def _write_old(self, task: ChunkTask) -> list[int]:
        """Move an old study's numbers to their new rows, turned, or link its files where they are as they were."""
        assert self.old is not None and task.column.old is not None
        rows, study, sums = task.old_rows, task.column.old, []
        start, stop = task.chunk * self.chunk_variants, task.chunk * self.chunk_variants + len(rows)
        same = self.old.chunk_variants == self.chunk_variants and task.chunk < self.old.n_chunks
        same = (
            same and self.old.chunk_range(task.chunk) == (start, stop) and np.array_equal(rows, np.arange(start, stop))
        )
        there, turns = np.flatnonzero(rows >= 0), bool(task.turned.any())
        for name in CELLS:
            turning = turns and name in TURNING
            if same and not turning:
                crc = self.old.chunk_crc32c(name, task.chunk, study)
                if crc:
                    source = self.old.path / cell_path(name, task.chunk, study)
                    self.aside.link(cell_path(name, task.chunk, task.study), source)
                sums.append(crc)
                continue
            kind = cell_type(name, self.exact)
            values = np.full(len(rows), fill_of(kind), kind)
            if len(there):
                values[there] = gather(self.old, name, study, rows[there])
            if turning:
                values = turn_cells(name, values, task.turned)
            sums.append(self._write_cells(name, task, values))
        return sums

    def finish(self, n_variants: int, attributes: dict[str, Any], first_places: Sequence[int]) -> None:
        """Collect the markers and publish the store."""
        n_chunks = -(-n_variants // self.chunk_variants)
        marked = [self.aside.marked(chunk) for chunk in range(n_chunks)]
        done = [each for each in marked if each is not None]
        if len(done) != n_chunks:
            raise OutputError(f"{self.aside.root} has lost chunks while it was written. Run the same command again.")
        catalogue = np.stack([each[0] for each in done], axis=1)
        cells = np.stack([each[1] for each in done], axis=1).reshape(len(CELLS), n_chunks, len(self.columns))
        names = [str(column.meta["name"]) for column in self.columns]
        contig_id = [self.contigs.name(rank) for rank in self.contig_ranks]
        tables = {
            "contig_id": (np.array(contig_id, object), ["contigs"]),
            "study_id": (np.array(names, object), ["studies"]),
            "chunk_first_place": (np.array(first_places, np.uint64), ["chunks"]),
            CATALOGUE_CRC32C: (catalogue, ["catalogue_arrays", "chunks"]),
            CELLS_CRC32C: (cells, ["cell_arrays", "chunks", "studies"]),
        }
        attributes = {
            FORMAT_ATTRIBUTE: FORMAT,
            **attributes,
            "n_variants": n_variants,
            "chunk_variants": self.chunk_variants,
            "exact": self.exact,
            "contig_ranks": [int(rank) for rank in self.contig_ranks],
            "others": list(self.contigs.others),
            "studies": [column.meta for column in self.columns],
            "catalogue": list(CATALOGUE),
            "cells": list(CELLS),
            "source": f"biolmm {biolmm_version()}",
            "fingerprint": content_hash(catalogue.tobytes(), cells.tobytes(), names, contig_id, n_variants),
        }
        self.aside.publish(attributes, tables)


def gather(store: SumstatsStore, name: str, study: int, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Read some rows, ascending, of one study's array."""
    chunks = rows // store.chunk_variants
    parts = []
    for chunk in range(int(chunks[0]), int(chunks[-1]) + 1):
        inside = rows[np.searchsorted(chunks, chunk) : np.searchsorted(chunks, chunk, side="right")]
        if len(inside):
            parts.append(store.read_cells(name, chunk, study)[inside - chunk * store.chunk_variants])
    return np.concatenate(parts)
