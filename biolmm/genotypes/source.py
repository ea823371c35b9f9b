"""The genotypes of a cohort as encoded rows, part by part, kept in memory within a budget."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from biolmm.contigs import Ploidy, ploidy_of
from biolmm.files.encoding import Encoding, Rows
from biolmm.genotypes.coding import MALE, Coding, MaleX
from biolmm.genotypes.kernels import gather_columns, gather_samples
from biolmm.memory import CACHE_VARIABLE
from biolmm.stages import content_hash
from biolmm.store.data import GenotypeData

MAX_PARTITIONS = 96
"""A pass is cut into about so many parts (more where there are more contigs), or more, so that none has more than"""
MAX_PARTITION_BYTES = 128 * 2**20
"""packed bytes of all samples: a large cohort keeps hundreds of processors busy."""


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
    ploidy
        What its genotypes count, see `Coding`.
    """

    index: int
    contig: int
    variants: NDArray[np.int64]
    ploidy: int = Ploidy.DIPLOID


@dataclass(frozen=True)
class RowReader:
    """Reads rows of a cohort's samples anywhere, and keeps those that fit its budget in this process.

    Attributes
    ----------
    store
        Where the chunks are: a store, or files.
    sample_index
        (N,) store indices of the cohort's samples, in the order of the cohort.
    cache_bytes
        Rows up to this size stay in each process's memory between passes.
    key
        Names the choice of samples and variants in the cache.
    coding
        How much each sample's genotype counts on which kind of contig.
    """

    store: GenotypeData
    sample_index: NDArray[np.int64]
    cache_bytes: int
    key: str
    coding: Coding

    @property
    def n_samples(self) -> int:
        """Samples of the cohort, N."""
        return len(self.sample_index)

    @property
    def encoding(self) -> Encoding:
        """How rows are encoded."""
        return self.store.encoding

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of the cohort."""
        return self.encoding.row_bytes(self.n_samples)

    @property
    def is_whole(self) -> bool:
        """Whether the cohort is every sample of the store, in its order."""
        return self.n_samples == self.store.n_samples and bool(np.all(np.diff(self.sample_index) == 1))

    def rows(self, partition: Partition) -> Rows:
        """Return the rows of a partition, (b, width), from memory where they are kept.

        Raises
        ------
        DamagedStoreError
            When a chunk is missing or its checksum does not fit.
        InputFileError
            When a genotype file cannot be read.
        """
        kept = _CACHE.get((self.key, partition.index))
        if kept is not None:
            return kept
        return _joined([rows for _, rows in self.blocks(partition)], self.encoding, self.n_samples)

    def blocks(self, partition: Partition) -> Iterator[tuple[slice, Rows]]:
        """Yield the rows of a partition chunk by chunk and where they are in it, from memory or from the store.

        The same blocks either way: sums over them round alike, whoever has read the partition before.

        Raises
        ------
        DamagedStoreError, InputFileError
            As `rows`.
        """
        key = (self.key, partition.index)
        kept = _CACHE.get(key)
        if kept is not None:
            for _, where in self._chunks(partition.variants):
                yield where, kept[where.start : where.stop]
            return
        parts = []
        for where, rows in self._read(partition.variants):
            # Kept while there may be room for the whole partition: a pass visits every partition in turn.
            if _CACHE.may_keep(key, len(partition.variants) * self.row_bytes, self.cache_bytes):
                parts.append(rows)
            yield where, rows
        if parts and sum(map(len, parts)) == len(partition.variants):
            _CACHE.put(key, _joined(parts, self.encoding, self.n_samples), self.cache_bytes)

    def read_variants(self, variants: NDArray[np.int64]) -> Rows:
        """Return the rows of any variants, given by store indices that ascend, each once, (b, width)."""
        if np.any(np.diff(variants) < 1):
            raise ValueError("variants must ascend, each once")
        return _joined([rows for _, rows in self._read(variants)], self.encoding, self.n_samples)

    def _read(self, variants: NDArray[np.int64]) -> Iterator[tuple[slice, Rows]]:
        for chunk, where in self._chunks(variants):
            wanted = variants[where] - self.store.chunk_range(chunk)[0]
            found = self.store.read_rows(chunk)
            rows = found[wanted[0] : wanted[-1] + 1] if len(wanted) == wanted[-1] - wanted[0] + 1 else found[wanted]
            yield where, rows if self.is_whole else self._of_cohort(rows)

    def _chunks(self, variants: NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
        """Yield the chunks that hold the variants, and where in the variants theirs are."""
        chunk_of = variants // self.store.chunk_variants  # ascends, so a chunk's variants are consecutive
        for chunk in np.unique(chunk_of):
            first, stop = (int(i) for i in np.searchsorted(chunk_of, [chunk, chunk + 1]))
            yield int(chunk), slice(first, stop)

    def _of_cohort(self, rows: Rows) -> Rows:
        """Take the cohort's samples out of rows of the store."""
        out = self.encoding.missing_rows(len(rows), self.n_samples)
        gather = gather_samples if self.encoding is Encoding.CALLS else gather_columns
        gather(rows, self.sample_index, out)
        return out


def _joined(parts: list[Rows], encoding: Encoding, n_samples: int) -> Rows:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else encoding.missing_rows(0, n_samples)


@dataclass(frozen=True)
class ChosenGenotypes:
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
        store: GenotypeData,
        sample_index: NDArray[np.int64],
        variants: NDArray[np.int64] | None = None,
        cache_bytes: int = 0,
        *,
        sex: NDArray[np.int8] | None = None,
        male_x: MaleX = "0/2",
        build: str | None = None,
    ) -> ChosenGenotypes:
        """Cut the chosen variants (all by default) of a store into partitions.

        Parameters
        ----------
        store
            Where the genotypes are.
        sample_index
            (N,) the cohort's samples.
        variants
            Indices of the variants.
        cache_bytes
            Rows up to this size stay in memory.
        sex
            (N,) the cohort's sexes; by default those of the store.
        male_x
            How males count on X outside the pseudo-autosomal regions.
        build
            Reference build, which says where those are; without it they are counted as the rest of X.
        """
        chosen = np.arange(store.n_variants) if variants is None else np.sort(variants)
        coding = Coding((store.sex[sample_index] if sex is None else sex) == MALE, male_x)
        ploidy = ploidy_of(store.contig_id, store.variant_contig[chosen], store.variant_position[chosen], build)
        parts = tuple(_partitions(store, chosen, ploidy))
        counted = [coding.male.tobytes(), male_x, ploidy.tobytes()] if ploidy.any() else []
        # Partitions depend on the chunks, and rows are kept by partition.
        key = content_hash(store.fingerprint, store.chunk_variants, sample_index.tobytes(), chosen.tobytes(), *counted)
        return cls(RowReader(store, sample_index, cache_bytes, key, coding), parts)

    def keep(self, kept: NDArray[np.bool_]) -> ChosenGenotypes:
        """Return the same samples with some of the variants, given in the order of the partitions."""
        marked, stop = [], 0
        for part in self.partitions:
            start, stop = stop, stop + len(part.variants)
            marked.append(replace(part, variants=part.variants[kept[start:stop]]))
        parts = tuple(replace(part, index=i) for i, part in enumerate(p for p in marked if len(p.variants)))
        key = content_hash(self.reader.key, np.packbits(kept).tobytes())
        return ChosenGenotypes(replace(self.reader, key=key), parts)

    @property
    def store(self) -> GenotypeData:
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
    def n_bytes(self) -> int:
        """Bytes of all rows of the cohort: what one pass reads."""
        return self.n_variants * self.reader.row_bytes


def partition_step(n_variants: int, chunk_variants: int, row_bytes: int) -> int:
    """Return after how many variants of the store a partition ends, a multiple of its chunks.

    Examples
    --------
    >>> partition_step(1_000_000, chunk_variants=1000, row_bytes=1_000), partition_step(1_000_000, 100, 100_000)
    (11000, 1400)
    """
    step = min(-(-n_variants // MAX_PARTITIONS), MAX_PARTITION_BYTES // row_bytes)
    return -(-max(step, 1) // chunk_variants) * chunk_variants


def _partitions(store: GenotypeData, chosen: NDArray[np.int64], ploidy: NDArray[np.uint8]) -> Iterable[Partition]:
    """Cut variants into runs of one contig and ploidy, at chunk boundaries where a run is long."""
    contigs = store.variant_contig[chosen]
    step = partition_step(len(chosen), store.chunk_variants, store.encoding.row_bytes(store.n_samples))
    changes = (np.diff(contigs) != 0) | (np.diff(ploidy) != 0) | (np.diff(chosen // step) != 0)
    edges = np.concatenate([[0], np.flatnonzero(changes) + 1, [len(chosen)]])
    index = 0
    for start, stop in pairwise(edges):
        if stop > start:
            yield Partition(index, int(contigs[start]), chosen[start:stop], int(ploidy[start]))
            index += 1


class _Cache:
    """Rows of this process; first come, first kept, since a pass visits every partition in turn."""

    def __init__(self) -> None:
        self._cap_bytes = int(os.environ.get(CACHE_VARIABLE, 2**63))
        self._rows: dict[tuple[str, int], Rows] = {}
        self._n_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[str, int]) -> Rows | None:
        return self._rows.get(key)

    def may_keep(self, key: tuple[str, int], n_bytes: int, budget_bytes: int) -> bool:
        """Whether rows of this size could be kept."""
        with self._lock:
            mine = sum(rows.nbytes for (reader, _), rows in self._rows.items() if reader == key[0])
            return mine + n_bytes <= min(budget_bytes, self._cap_bytes)

    def put(self, key: tuple[str, int], rows: Rows, budget_bytes: int) -> None:
        budget_bytes = min(budget_bytes, self._cap_bytes)
        with self._lock:
            if self._n_bytes + rows.nbytes > budget_bytes:
                self._forget_others(key[0])
            if key not in self._rows and self._n_bytes + rows.nbytes <= budget_bytes:
                # A part of a chunk would keep the whole chunk in memory.
                self._rows[key] = rows if rows.base is None else rows.copy()
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
