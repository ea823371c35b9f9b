"""Building a store chunk by chunk, so that it can be killed at any moment and continued.

Aside, in `<path>.partial`:

    key.json          what is being written; the last file of `begin`
    store/            the Zarr group that will become `<path>`
    markers/<i>.npz   written after chunk i: its CRC-32C, its size, the counts of its variants
    scratch/          files on their way
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from biolmm import schema
from biolmm.atomic import saving, write_whole
from biolmm.errors import BiolmmError, OutputError, ParameterError, named
from biolmm.files.encoding import row_bytes
from biolmm.files.genotypes import SampleTable, VariantTable
from biolmm.store.count import CallCounts, count_calls
from biolmm.store.identity import biolmm_version, content_key, fingerprint, table_digest
from biolmm.store.layout import (
    ZSTD_LEVEL,
    call_chunk_path,
    chunk_range,
    create_calls,
    default_chunk_variants,
    table_files,
    write_array,
)

_ASIDE = {"key.json", "markers", "scratch", "store"}


@dataclass(frozen=True, eq=False)
class _Marker:
    """What is known of a finished chunk."""

    crc32c: int
    n_bytes: int
    counts: CallCounts


@dataclass(frozen=True)
class StoreWriter:
    """Writes one store; cheap to send to threads and processes, which may write different chunks at the same time."""

    path: Path
    n_samples: int
    n_variants: int
    chunk_variants: int

    @classmethod
    def begin(
        cls,
        path: Path | str,
        samples: SampleTable,
        variants: VariantTable,
        *,
        provenance: Mapping[str, Any],
        chunk_variants: int | None = None,
    ) -> StoreWriter:
        """Start a store aside, or continue one that was begun with exactly these arguments.

        Parameters
        ----------
        path
            Where the store will be after `publish`.
        samples, variants
            What the columns and rows are.
        provenance
            Where the calls come from, as JSON; part of what makes two runs the same, so without times of the run.
        chunk_variants
            Variants of a chunk, a multiple of 64; by default about 8 MiB packed.

        Raises
        ------
        OutputError
            When there is something at `path` already, or nothing can be written there.
        ParameterError
            When there are no samples or no variants, or `chunk_variants` is not a multiple of 64.
        """
        path = Path(path).absolute()
        chosen = choose_chunk_variants(samples.n, variants.n, chunk_variants)
        writer = cls(path=path, n_samples=samples.n, n_variants=variants.n, chunk_variants=chosen)
        if path.exists():
            raise OutputError(f"{path} exists already. Remove it, choose another name, or ask to overwrite it.")
        key = content_key(samples, variants, provenance=provenance, chunk_variants=chosen)
        with saving(path):
            if writer._begun_with(key):
                return writer
            writer._clear()
            writer._lay_out(samples, variants, {"key": key, "provenance": dict(provenance)})
        return writer

    @property
    def aside(self) -> Path:
        """Folder in which the store is built."""
        return self.path.with_name(self.path.name + ".partial")

    @property
    def n_chunks(self) -> int:
        """Number of chunks of calls."""
        return -(-self.n_variants // self.chunk_variants)

    def chunk_range(self, chunk: int) -> tuple[int, int]:
        """Give the half-open range of variants of a chunk; IndexError when there is no such chunk."""
        return chunk_range(chunk, self.chunk_variants, self.n_variants)

    def finished_chunks(self) -> set[int]:
        """Find the chunks whose marker is whole and whose file has the size in it."""
        with ThreadPoolExecutor(8) as threads:
            markers = threads.map(self._read_marker, range(self.n_chunks))
            return {chunk for chunk, marker in enumerate(markers) if marker is not None}

    def write_chunk(self, chunk: int, packed: NDArray[np.uint8]) -> None:
        """Count, compress and write one chunk, then its marker.

        Parameters
        ----------
        chunk
            Index of the chunk.
        packed
            Packed rows (variants of the chunk, row_bytes), padded with missing calls.

        Raises
        ------
        OutputError
            When the file cannot be written; chunks written before are kept.
        ValueError
            When `packed` has another shape, or other padding.

        Notes
        -----
        **Cost**: compression, about 3·10⁹ calls per second and core; memory twice `packed`.
        """
        start, stop = self.chunk_range(chunk)
        width = row_bytes(self.n_samples)
        if packed.shape != (stop - start, width) or packed.dtype != np.uint8:
            raise ValueError(f"chunk {chunk} is uint8 {(stop - start, width)}, not {packed.dtype} {packed.shape}")
        counts = count_calls(packed, self.n_samples)
        if len(packed) < self.chunk_variants:  # Zarr chunks are whole: missing calls fill the last one.
            filling = np.full((self.chunk_variants - len(packed), width), 0xFF, np.uint8)
            packed = np.concatenate([packed, filling])
        encoded = Zstd(level=ZSTD_LEVEL, checksum=True).encode(np.ascontiguousarray(packed))
        with saving(self.path):
            target = self.aside / "store" / call_chunk_path(chunk)
            target.parent.mkdir(exist_ok=True)
            self._marker_path(chunk).unlink(missing_ok=True)
            write_whole(target, encoded, self.aside / "scratch")
            marker = _encode_marker(_Marker(google_crc32c.value(encoded), len(encoded), counts))
            write_whole(self._marker_path(chunk), marker, self.aside / "scratch")

    def publish(self) -> Path:
        """Write counts and checksums, and rename the finished store to its place.

        Raises
        ------
        BiolmmError
            When chunks are missing.
        OutputError
            When the store cannot be written, or something has appeared in its place.
        """
        markers = [self._read_marker(chunk) for chunk in range(self.n_chunks)]
        finished = [marker for marker in markers if marker is not None]
        if len(finished) < self.n_chunks:
            missing = named(i for i, marker in enumerate(markers) if marker is None)
            raise BiolmmError(f"{self.path} is not finished: chunks {missing} of {self.n_chunks:,} are not written. "
                              "Run the same command again: it continues.")  # fmt: skip
        if self.path.exists():
            raise OutputError(f"{self.path} has appeared while it was being written. Remove it and run again.")
        with saving(self.path):
            self._write_counts(finished)
            self._write_attributes(finished)
            (self.aside / "store").rename(self.path)
            shutil.rmtree(self.aside)
        return self.path

    def _begun_with(self, key: str) -> bool:
        try:
            begun = json.loads((self.aside / "key.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return False
        return bool(begun.get("key") == key and (self.aside / "store" / "zarr.json").is_file())

    def _clear(self) -> None:
        """Remove what another run has left, but nothing that is not ours."""
        if not self.aside.exists():
            return
        if not {entry.name for entry in self.aside.iterdir()} <= _ASIDE:
            raise OutputError(f"{self.aside} is in the way and was not written by biolmm. Move it and run again.")
        shutil.rmtree(self.aside)

    def _lay_out(self, samples: SampleTable, variants: VariantTable, begun: dict[str, Any]) -> None:
        for folder in ("markers", "scratch", "store"):
            (self.aside / folder).mkdir(parents=True)
        group = zarr.create_group(self.aside / "store", zarr_format=3)
        create_calls(group, self.n_variants, self.n_samples, self.chunk_variants)
        (self.aside / "store" / schema.CALL_ALT_COUNT / "c").mkdir(exist_ok=True)
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
        for name, values in arrays.items():
            write_array(group, name, values)
        begun["tables"] = table_digest(samples, variants)
        write_whole(self.aside / "key.json", json.dumps(begun).encode(), self.aside / "scratch")

    def _marker_path(self, chunk: int) -> Path:
        return self.aside / "markers" / f"{chunk}.npz"

    def _read_marker(self, chunk: int) -> _Marker | None:
        start, stop = self.chunk_range(chunk)
        try:
            with np.load(io.BytesIO(self._marker_path(chunk).read_bytes())) as saved:
                counts = CallCounts(alt=saved["alt"], het=saved["het"], missing=saved["missing"])
                marker = _Marker(int(saved["crc32c"]), int(saved["n_bytes"]), counts)
            size = (self.aside / "store" / call_chunk_path(chunk)).stat().st_size
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return marker if size == marker.n_bytes and len(counts.alt) == stop - start else None

    def _write_counts(self, markers: list[_Marker]) -> None:
        group = zarr.open_group(self.aside / "store", mode="r+")
        counts = [marker.counts for marker in markers]
        write_array(group, schema.VARIANT_ALT_COUNT, np.concatenate([c.alt for c in counts]))
        write_array(group, schema.VARIANT_HET_COUNT, np.concatenate([c.het for c in counts]))
        write_array(group, schema.VARIANT_MISSING_COUNT, np.concatenate([c.missing for c in counts]))
        write_array(group, schema.CHUNK_CRC32C, np.array([marker.crc32c for marker in markers], np.uint32))

    def _write_attributes(self, markers: list[_Marker]) -> None:
        store = self.aside / "store"
        begun = json.loads((self.aside / "key.json").read_text(encoding="utf-8"))
        attributes = {
            "biolmm_format": schema.FORMAT_VERSION,
            "vcf_zarr_version": schema.VCF_ZARR_VERSION,
            "source": f"biolmm {biolmm_version()}",
            "dosage_allele": "ALT",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "provenance": begun["provenance"],
            "biolmm_key": begun["key"],
            "fingerprint": fingerprint(begun["tables"], [marker.crc32c for marker in markers]),
            "encoded_bytes": sum(marker.n_bytes for marker in markers),
            "checksums": {str(file): google_crc32c.value((store / file).read_bytes()) for file in table_files(store)},
        }
        metadata = json.loads((store / "zarr.json").read_text(encoding="utf-8"))
        metadata["attributes"] = attributes
        write_whole(store / "zarr.json", json.dumps(metadata, indent=1).encode(), self.aside / "scratch")


def choose_chunk_variants(n_samples: int, n_variants: int, asked: int | None) -> int:
    """Settle the variants of a chunk: as asked or by default, and no more than the variants there are.

    Raises
    ------
    ParameterError
        When there are no samples or no variants, or `asked` is not a positive multiple of 64.

    Examples
    --------
    >>> choose_chunk_variants(20_000, 100, None)
    128
    """
    if not n_samples or not n_variants:
        raise ParameterError(f"a store needs samples and variants, not {n_samples:,} and {n_variants:,}.")
    if asked is not None and (asked <= 0 or asked % 64):
        raise ParameterError(f"{asked:,} variants a chunk: give a positive multiple of 64.")
    return min(asked or default_chunk_variants(n_samples), -(-n_variants // 64) * 64)


def _encode_marker(marker: _Marker) -> bytes:
    buffer = io.BytesIO()
    counts = marker.counts
    crc32c, n_bytes = np.uint32(marker.crc32c), np.int64(marker.n_bytes)
    np.savez(buffer, alt=counts.alt, het=counts.het, missing=counts.missing, crc32c=crc32c, n_bytes=n_bytes)
    return buffer.getvalue()
