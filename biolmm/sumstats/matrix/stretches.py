"""Walking the genome in stretches: of the old catalogue and of the studies' records what lies between two places."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from biolmm.sumstats.ingest.runs import SAMPLE_EVERY, StudyRuns
from biolmm.sumstats.matrix.kept import KeptStudies
from biolmm.sumstats.matrix.layout import CONTIG, FREQUENCY, POSITION, RSID
from biolmm.sumstats.matrix.merge import Cells, Variants, join_variants
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.places import make_places

STRETCH_ROWS = 1 << 20
"""Records, of all studies together, of a stretch."""

_END = 1 << 63


def cut_genome(
    old: SumstatsStore | None, studies: Sequence[StudyRuns], rows: int = STRETCH_ROWS
) -> list[tuple[int, int]]:
    """Cut the genome into stretches of about `rows` records each: first place, and the place behind the last.

    Records of one place are never apart.
    """
    places = [runs.sample_places() for runs in studies]
    weights = [np.full(len(each), SAMPLE_EVERY, np.int64) for each in places]
    if old is not None:
        places.append(old.first_places)
        weights.append(np.full(old.n_chunks, old.chunk_variants, np.int64))
    joined = np.concatenate([np.empty(0, np.uint64), *places])
    order = np.argsort(joined, kind="stable")
    filled = np.cumsum(np.concatenate([np.empty(0, np.int64), *weights])[order]) // rows
    cuts = joined[order][np.flatnonzero(np.diff(filled, prepend=0) > 0)]
    bounds = [0, *(int(place) for place in np.unique(cuts)), _END]
    return [(low, high) for low, high in pairwise(bounds) if low < high]


@dataclass(frozen=True)
class OldCatalogue:
    """The variants of a store by place, as the studies that stay have them; a few chunks are kept decoded."""

    store: SumstatsStore
    studies: KeptStudies
    _kept: OrderedDict[int, Variants] = field(default_factory=OrderedDict, repr=False)

    def read(self, low: int, high: int) -> Variants:
        """Give the variants with low ≤ place < high."""
        first_places = self.store.first_places
        first = max(int(np.searchsorted(first_places, np.uint64(low), side="left")) - 1, 0)
        last = int(np.searchsorted(first_places, np.uint64(high), side="left"))
        parts = []
        for chunk in range(first, last):
            variants = self._chunk(chunk)
            a, b = (int(np.searchsorted(variants.place, np.uint64(bound))) for bound in (low, high))
            if a < b:
                whole = b - a == len(variants)
                parts.append(variants if whole else variants.take(np.arange(a, b)))
        return join_variants(parts) if parts else Variants.none()

    def _chunk(self, chunk: int) -> Variants:
        if chunk not in self._kept:
            if len(self._kept) >= 2:
                self._kept.popitem(last=False)
            self._kept[chunk] = read_variants(self.store, chunk, self.studies)
        return self._kept[chunk]


def read_places(store: SumstatsStore, chunk: int) -> NDArray[np.uint64]:
    """Give the places of a chunk's variants."""
    ranks = np.array(store.contig_ranks, np.int64)
    return make_places(ranks[store.read_column(CONTIG, chunk)], store.read_column(POSITION, chunk))


def read_variants(store: SumstatsStore, chunk: int, studies: KeptStudies | None = None) -> Variants:
    """Read a chunk of the catalogue; as these studies alone have it, if given."""
    start, stop = store.chunk_range(chunk)
    alleles = store.read_alleles(chunk)
    eaf, turned = (store.read_column(FREQUENCY, chunk), None) if studies is None else studies.judge(chunk)
    return Variants.of(read_places(store, chunk), alleles.take(np.arange(stop - start)), store.read_column(RSID, chunk),
                       eaf, np.arange(start, stop, dtype=np.int64), turned)  # fmt: skip


@dataclass
class Gathered:
    """Merged stretches on their way to becoming chunks."""

    n_studies: int
    chunk_variants: int
    _variants: list[Variants] = field(default_factory=list)
    _cells: list[list[Cells]] = field(default_factory=list)
    _n: int = 0

    def add(self, variants: Variants, cells: Sequence[Cells]) -> None:
        """Take a stretch."""
        if not self._cells:
            self._cells = [[] for _ in range(self.n_studies)]
        if not len(variants):
            return
        for kept, part in zip(self._cells, cells, strict=True):
            kept.append(Cells(part.row + self._n, part.values, part.status))
        self._variants.append(variants)
        self._n += len(variants)

    def chunks(self, *, all_of_it: bool) -> Iterator[tuple[Variants, list[Cells]]]:
        """Give whole chunks, and at the end what is left."""
        size = self.chunk_variants
        if not self._n or (self._n < size and not all_of_it):
            return
        variants, cells = join_variants(self._variants), [_join_cells(parts) for parts in self._cells]
        start = 0
        while self._n - start >= size or (all_of_it and start < self._n):
            stop = min(start + size, self._n)
            yield variants.take(np.arange(start, stop)), [_between(part, start, stop) for part in cells]
            start = stop
        self._variants = [variants.take(np.arange(start, self._n))] if start < self._n else []
        self._cells = [[_between(part, start, self._n)] for part in cells]
        self._n -= start


def _join_cells(parts: Sequence[Cells]) -> Cells:
    if len(parts) == 1:
        return parts[0]
    return Cells(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("row", "values", "status")))


def _between(cells: Cells, start: int, stop: int) -> Cells:
    a, b = np.searchsorted(cells.row, [start, stop])
    return Cells(cells.row[a:b] - start, cells.values[a:b], cells.status[a:b])
