"""The genotypes of a cohort as packed rows, part by part, kept in memory within a budget."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.kernels import gather_samples
from biolmm.stages import content_hash
from biolmm.store.layout import row_bytes
from biolmm.store.read import GenotypeStore

MAX_PARTITIONS = 96
"""A pass is cut into about so many parts (more where there are more contigs)."""


@dataclass(frozen=True)
class Partition:
    """A run of variants of one contig: the unit of work. Boundaries depend on the data alone.

    Attributes
    ----------
    index
        Position in the list of partitions.
    contig
        Index into the store's contigs.
    variants
        Store indices of the variants, ascending.
    """

    index: int
    contig: int
    variants: NDArray[np.int64]


@dataclass(frozen=True)
class RowReader:
    """Reads packed rows of a cohort's samples anywhere, and keeps those that fit its budget in this process.

    Attributes
    ----------
    store
        Where the chunks are.
    sample_index
        (N,) store indices of the cohort's samples, in the order of the cohort.
    cache_bytes
        Packed rows up to this size stay in each process's memory between passes.
    key
        Names the choice of samples and variants in the cache.
    """

    store: GenotypeStore
    sample_index: NDArray[np.int64]
    cache_bytes: int
    key: str

    @property
    def n_samples(self) -> int:
        """Samples of the cohort, N."""
        return len(self.sample_index)

    @property
    def is_whole(self) -> bool:
        """Whether the cohort is every sample of the store, in its order."""
        return self.n_samples == self.store.n_samples and bool(np.all(np.diff(self.sample_index) == 1))

    def rows(self, partition: Partition) -> NDArray[np.uint8]:
        """Return the packed rows of a partition, (b, row bytes of N), from memory where they are kept.

        Raises
        ------
        DamagedStoreError
            When a chunk is missing or its checksum does not fit.
        """
        key = (self.key, partition.index)
        kept = _CACHE.get(key)
        if kept is not None:
            return kept
        packed = self._read(partition)
        _CACHE.put(key, packed, self.cache_bytes)
        return packed

    def _read(self, partition: Partition) -> NDArray[np.uint8]:
        variants, store = partition.variants, self.store
        packed = np.full((len(variants), row_bytes(self.n_samples)), 255, np.uint8)
        chunk_of = variants // store.chunk_variants  # ascends, so a chunk's variants are consecutive
        for chunk in np.unique(chunk_of):
            first, stop = np.searchsorted(chunk_of, [chunk, chunk + 1])
            wanted = variants[first:stop] - store.chunk_range(int(chunk))[0]
            source = store.read_packed(int(chunk))
            whole = len(wanted) == wanted[-1] - wanted[0] + 1
            rows = source[wanted[0] : wanted[-1] + 1] if whole else source[wanted]
            if self.is_whole:
                packed[first:stop] = rows
            else:
                gather_samples(rows, self.sample_index, packed[first:stop])
        return packed


@dataclass(frozen=True)
class PackedGenotypes:
    """Chosen variants and samples of a store: a reader and what to read with it.

    Attributes
    ----------
    reader
        Reads the rows of the cohort's samples.
    partitions
        The chosen variants, cut along contigs.
    """

    reader: RowReader
    partitions: tuple[Partition, ...]

    @classmethod
    def choose(
        cls,
        store: GenotypeStore,
        sample_index: NDArray[np.int64],
        variants: NDArray[np.int64] | None = None,
        cache_bytes: int = 0,
    ) -> PackedGenotypes:
        """Cut the chosen variants (all by default) of a store into partitions."""
        chosen = np.arange(store.n_variants) if variants is None else np.sort(variants)
        key = content_hash(store.fingerprint, sample_index.tobytes(), chosen.tobytes())
        return cls(RowReader(store, sample_index, cache_bytes, key), tuple(_partitions(store, chosen)))

    @property
    def store(self) -> GenotypeStore:
        """Where the chunks are."""
        return self.reader.store

    @property
    def n_samples(self) -> int:
        """Samples of the cohort, N."""
        return self.reader.n_samples

    @property
    def n_variants(self) -> int:
        """Chosen variants, M."""
        return sum(len(partition.variants) for partition in self.partitions)

    @property
    def variants(self) -> NDArray[np.int64]:
        """Store indices of the chosen variants in the order of the partitions."""
        parts = [partition.variants for partition in self.partitions]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    @property
    def packed_bytes(self) -> int:
        """Bytes of all packed rows of the cohort: what one pass reads."""
        return self.n_variants * row_bytes(self.n_samples)


def _partitions(store: GenotypeStore, chosen: NDArray[np.int64]) -> Iterable[Partition]:
    """Cut variants into runs of one contig, at chunk boundaries where a run is long."""
    contigs = store.variant_contig[chosen]
    step = max(store.chunk_variants, -(-len(chosen) // MAX_PARTITIONS))
    step = -(-step // store.chunk_variants) * store.chunk_variants
    changes = (np.diff(contigs) != 0) | (np.diff(chosen // step) != 0)
    edges = np.concatenate([[0], np.flatnonzero(changes) + 1, [len(chosen)]])
    index = 0
    for start, stop in pairwise(edges):
        if stop > start:
            yield Partition(index, int(contigs[start]), chosen[start:stop])
            index += 1


class _Cache:
    """Packed rows of this process; first come, first kept, since a pass visits every partition in turn."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int], NDArray[np.uint8]] = {}
        self._n_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[str, int]) -> NDArray[np.uint8] | None:
        return self._rows.get(key)

    def put(self, key: tuple[str, int], rows: NDArray[np.uint8], budget_bytes: int) -> None:
        with self._lock:
            if self._n_bytes + rows.nbytes > budget_bytes:
                self._forget_others(key[0])
            if key not in self._rows and self._n_bytes + rows.nbytes <= budget_bytes:
                self._rows[key] = rows
                self._n_bytes += rows.nbytes

    def _forget_others(self, reader: str) -> None:
        """Drop the rows of other choices of samples and variants: they are not in use any more."""
        for other in [key for key in self._rows if key[0] != reader]:
            self._n_bytes -= self._rows.pop(other).nbytes

    def clear(self) -> None:
        with self._lock:
            self._rows.clear()
            self._n_bytes = 0


_CACHE = _Cache()


def clear_cache() -> None:
    """Forget every row kept in this process."""
    _CACHE.clear()
