"""Building a store chunk by chunk, so that it can be killed at any moment and continued.

Aside, in `<path>.partial`:

    key.json          what is being written; the last file of `begin`
    store/            the Zarr group that will become `<path>`
    markers/<i>.npz   written after chunk i: its CRC-32C, its size, what was counted of its variants
    scratch/          files on their way

On an object store, where nothing can be renamed and every upload is whole or not at all, the chunks and tables are written
to `<path>` itself, and the group's `zarr.json`, without which nothing is a store, last.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd

from biolmm import schema
from biolmm.atomic import saving, write_whole
from biolmm.errors import BiolmmError, OutputError, named
from biolmm.files.encoding import Encoding, Rows
from biolmm.files.genotypes import SampleTable, VariantTable
from biolmm.places import is_remote, place, remove_tree
from biolmm.store.data import Quality
from biolmm.store.identity import (
    ATTRIBUTES_CRC32C,
    attributes_crc32c,
    biolmm_version,
    content_key,
    fingerprint,
    table_digest,
)
from biolmm.store.in_memory import GroupInMemory
from biolmm.store.layout import (
    ZSTD_LEVEL,
    choose_chunk_variants,
    chunk_path,
    chunk_range,
    create_genotypes,
    genotype_array,
    table_files,
    write_array,
)
from biolmm.store.read import is_unfinished
from biolmm.store.summary import Summary, counted, measured, summarise

_ASIDE = {"key.json", "markers", "scratch", "store"}
_GROUP = "zarr.json"
_N_THREADS = 16

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Marker:
    """What is known of a finished chunk."""

    crc32c: int
    n_bytes: int
    summary: Summary


@dataclass(frozen=True)
class StoreWriter:
    """Writes one store; cheap to send to threads and processes, which may write different chunks at the same time."""

    path: Path
    n_samples: int
    n_variants: int
    chunk_variants: int
    encoding: Encoding = Encoding.CALLS

    @classmethod
    def begin(
        cls,
        path: Path | str,
        samples: SampleTable,
        variants: VariantTable,
        *,
        provenance: Mapping[str, Any],
        chunk_variants: int | None = None,
        encoding: Encoding = Encoding.CALLS,
    ) -> StoreWriter:
        """Start a store aside, or continue one that was begun with exactly these arguments.

        Parameters
        ----------
        path
            Where the store will be after `publish`.
        samples, variants
            What the columns and rows are.
        provenance
            Where the genotypes come from, as JSON; part of what makes two runs the same, so without times of the run.
        chunk_variants
            Variants of a chunk, a multiple of 64; by default about 8 MiB of rows.
        encoding
            How rows will be given and are stored.

        Raises
        ------
        OutputError
            When there is something at `path` already, or nothing can be written there.
        ParameterError
            When there are no samples or no variants, or `chunk_variants` is not a multiple of 64.
        """
        path = place(path).absolute()
        chosen = choose_chunk_variants(samples.n, variants.n, chunk_variants, encoding)
        writer = cls(path, samples.n, variants.n, chosen, encoding)
        if path.exists() and not is_unfinished(path):
            raise OutputError(f"{path} exists already. Remove it, choose another name, or ask to overwrite it.")
        key = content_key(samples, variants, provenance=provenance, chunk_variants=chosen, encoding=encoding)
        with saving(path):
            if writer._begun_with(key):
                return writer
            clear_aside(path)
            writer._lay_out(samples, variants, {"key": key, "provenance": dict(provenance)})
        return writer

    @property
    def aside(self) -> Path:
        """Folder in which the store is built."""
        return _aside(self.path)

    @property
    def root(self) -> Path:
        """Folder of the Zarr group while it is built."""
        return self.path if is_remote(self.path) else self.aside / "store"

    @property
    def n_chunks(self) -> int:
        """Number of chunks of genotypes."""
        return -(-self.n_variants // self.chunk_variants)

    def chunk_range(self, chunk: int) -> tuple[int, int]:
        """Give the half-open range of variants of a chunk; IndexError when there is no such chunk."""
        return chunk_range(chunk, self.chunk_variants, self.n_variants)

    def finished_chunks(self) -> set[int]:
        """Find the chunks whose marker is whole and whose file has the size in it."""
        markers = _in_threads(self._read_marker, range(self.n_chunks))
        return {chunk for chunk, marker in enumerate(markers) if marker is not None}

    def write_chunk(self, chunk: int, rows: Rows, quality: Quality | None = None) -> None:
        """Count, compress and write one chunk, then its marker.

        Parameters
        ----------
        chunk
            Index of the chunk.
        rows
            Encoded rows (variants of the chunk, width); packed calls padded with missing ones.
        quality
            Of dosages: their quality in the input; by default what the dosages alone say.

        Raises
        ------
        OutputError
            When the file cannot be written; chunks written before are kept.
        ValueError
            When `rows` have another shape or type, other padding, or codes that mean nothing.

        Notes
        -----
        **Cost**: compression, about 8·10⁸ bytes of rows per second and core; memory twice `rows`.
        """
        start, stop = self.chunk_range(chunk)
        expected, dtype = (stop - start, self.encoding.width(self.n_samples)), self.encoding.dtype
        if rows.shape != expected or rows.dtype != dtype:
            raise ValueError(f"chunk {chunk} is {dtype} {expected}, not {rows.dtype} {rows.shape}")
        summary = summarise(rows, self.encoding, self.n_samples, quality)
        if len(rows) < self.chunk_variants:  # Zarr chunks are whole: missing genotypes fill the last one.
            filling = self.encoding.missing_rows(self.chunk_variants - len(rows), self.n_samples)
            rows = np.concatenate([rows, filling])
        encoded = Zstd(level=ZSTD_LEVEL, checksum=True).encode(np.ascontiguousarray(rows))
        with saving(self.path):
            self._unmark(chunk)
            self._write(self.root / chunk_path(self.encoding, chunk), encoded)
            self._mark(chunk, Marker(google_crc32c.value(encoded), len(encoded), summary))

    def adopt_chunk(self, chunk: int, file: Path, crc32c: int, summary: Summary) -> None:
        """Take a chunk from another store as it is: link its file, or copy it where links are impossible.

        Raises
        ------
        OutputError
            When the file cannot be linked or copied.
        """
        target = self.root / chunk_path(self.encoding, chunk)
        with saving(self.path):
            self._unmark(chunk)
            target.unlink(missing_ok=True)
            try:
                target.hardlink_to(file)
            except OSError:
                shutil.copyfile(file, target)
            self._mark(chunk, Marker(crc32c, target.stat().st_size, summary))

    def _unmark(self, chunk: int) -> None:
        """Say that a chunk is not finished, and make the folder of its file."""
        self._marker_path(chunk).unlink(missing_ok=True)
        (self.root / chunk_path(self.encoding, chunk)).parent.mkdir(exist_ok=True)

    def _mark(self, chunk: int, marker: Marker) -> None:
        self._write(self._marker_path(chunk), _encode_marker(marker))

    def _write(self, target: Path, content: bytes) -> None:
        write_whole(target, content, self.aside / "scratch")

    def _write_group(self, arrays: Mapping[str, Any], *, with_genotypes: bool = False) -> list[str]:
        """Write the files of small arrays one after another, and of the group as far as it may be there; name them."""
        written = []
        laid_out = GroupInMemory()
        if with_genotypes:
            create_genotypes(laid_out.group, self.n_variants, self.n_samples, self.chunk_variants, self.encoding)
        for name in (None, *arrays):
            if name is not None:
                write_array(laid_out.group, name, arrays[name])
            files = [file for file in laid_out.take() if file[0] != _GROUP or not is_remote(self.path)]
            _in_threads(self._write_file, files)
            written += [file for file, _ in files]
        return written

    def _write_file(self, named_content: tuple[str, bytes]) -> None:
        file, content = named_content
        (self.root / file).parent.mkdir(parents=True, exist_ok=True)
        self._write(self.root / file, content)

    def publish(self) -> Path:
        """Write counts and checksums, and put the finished store in its place.

        Raises
        ------
        BiolmmError
            When chunks are missing.
        OutputError
            When the store cannot be written, or something has appeared in its place.
        """
        markers = _in_threads(self._read_marker, range(self.n_chunks))
        finished = [marker for marker in markers if marker is not None]
        if len(finished) < self.n_chunks:
            missing = named(i for i, marker in enumerate(markers) if marker is None)
            raise BiolmmError(f"{self.path} is not finished: chunks {missing} of {self.n_chunks:,} are not written. "
                              "Run the same command again: it continues.")  # fmt: skip
        if self.path.exists() and not is_unfinished(self.path):
            raise OutputError(f"{self.path} has appeared while it was being written. Remove it and run again.")
        with saving(self.path):
            self._write_summaries(finished)
            self._write_attributes(finished)
            if self.root != self.path:
                self.root.rename(self.path)
            remove_tree(self.aside)
        return self.path

    def _begun_with(self, key: str) -> bool:
        try:
            begun = json.loads((self.aside / "key.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return False
        if begun.get("key") != key:
            return False
        return set(begun["files"]) <= {str(file.relative_to(self.root)) for file in self.root.rglob("*")}

    def _lay_out(self, samples: SampleTable, variants: VariantTable, begun: dict[str, Any]) -> None:
        for folder in ("markers", "scratch", "store"):
            (self.aside / folder).mkdir(parents=True)
        if is_remote(self.path):  # what is at the path from now on is ours, and may be removed
            self._write(self.aside / "markers" / "begun", b"")
        (self.root / genotype_array(self.encoding) / "c").mkdir(parents=True)
        allele = np.stack([np.asarray(a, np.dtypes.StringDType()) for a in (variants.ref, variants.alt)], axis=1)
        arrays = {
            schema.SAMPLE_ID: samples.sample_id,
            schema.SAMPLE_FAMILY_ID: samples.family_id,
            schema.SAMPLE_SEX: samples.sex,
            schema.CONTIG_ID: np.array(variants.contig_id, np.dtypes.StringDType()),
            schema.VARIANT_CONTIG: variants.contig,
            schema.VARIANT_POSITION: variants.position,
            schema.VARIANT_ID: variants.variant_id,
            schema.VARIANT_ALLELE: allele,
        }
        begun["files"] = self._write_group(arrays, with_genotypes=True)
        begun["tables"] = table_digest(samples, variants)
        self._write(self.aside / "key.json", json.dumps(begun).encode())

    def _checksum(self, file: Path) -> tuple[str, int]:
        return str(file), google_crc32c.value((self.root / file).read_bytes())

    def _marker_path(self, chunk: int) -> Path:
        return self.aside / "markers" / f"{chunk}.npz"

    def _read_marker(self, chunk: int) -> Marker | None:
        start, stop = self.chunk_range(chunk)
        try:
            with np.load(io.BytesIO(self._marker_path(chunk).read_bytes())) as saved:
                summary = {name: saved[name] for name in (*counted(self.encoding), *measured(self.encoding))}
                marker = Marker(int(saved["crc32c"]), int(saved["n_bytes"]), summary)
            size = (self.root / chunk_path(self.encoding, chunk)).stat().st_size
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        whole = all(len(values) == stop - start for values in summary.values())
        return marker if whole and size == marker.n_bytes else None

    def _write_summaries(self, markers: list[Marker]) -> None:
        names = (*counted(self.encoding), *measured(self.encoding))
        arrays = {name: np.concatenate([marker.summary[name] for marker in markers]) for name in names}
        arrays[schema.CHUNK_CRC32C] = np.array([marker.crc32c for marker in markers], np.uint32)
        self._write_group(arrays)

    def _write_attributes(self, markers: list[Marker]) -> None:
        begun = json.loads((self.aside / "key.json").read_text(encoding="utf-8"))
        attributes: dict[str, Any] = {
            "biolmm_format": schema.FORMAT_VERSION,
            "vcf_zarr_version": schema.VCF_ZARR_VERSION,
            "encoding": self.encoding.value,
            "source": f"biolmm {biolmm_version()}",
            "dosage_allele": "ALT",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "provenance": begun["provenance"],
            "biolmm_key": begun["key"],
            "fingerprint": fingerprint(begun["tables"], [marker.crc32c for marker in markers]),
            "encoded_bytes": sum(marker.n_bytes for marker in markers),
            "checksums": dict(_in_threads(self._checksum, table_files(self.root))),
        }
        attributes[ATTRIBUTES_CRC32C] = attributes_crc32c(attributes)
        metadata = json.loads(dict(GroupInMemory().take())[_GROUP])
        metadata["attributes"] = attributes
        self._write(self.root / _GROUP, json.dumps(metadata, indent=1).encode())


def _in_threads(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Call a function, which waits for a disk or an object store, on each item."""
    with ThreadPoolExecutor(_N_THREADS) as threads:
        return list(threads.map(function, items))


def clear_aside(path: Path) -> None:
    """Remove what a writer of the store `path` has left beside it, but nothing that is not ours.

    Raises
    ------
    OutputError
        When something else is there under that name, or it cannot be removed.
    """
    aside = _aside(path)
    if not aside.exists():
        return
    if not {entry.name for entry in aside.iterdir()} <= _ASIDE:
        raise OutputError(f"{aside} is in the way and was not written by biolmm. Move it and run again.")
    with saving(path):
        if is_unfinished(path):
            remove_tree(path)
        remove_tree(aside)


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _encode_marker(marker: Marker) -> bytes:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {**marker.summary, "crc32c": np.uint32(marker.crc32c), "n_bytes": marker.n_bytes}
    np.savez(buffer, **arrays)
    return buffer.getvalue()
