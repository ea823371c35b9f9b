"""Records of a study in genome order, on disk: sorted runs as the file is read, and slices of all runs put together.

A run is two files, `<i>.rows` (rows of `row_type`, sorted by place and key) and `<i>.heap` (long alleles), and its places
once more in `<i>.place`, where slices are looked up, with every 2,048th in `<i>.sample`. Memory is that of one run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.atomic import remove, write_json
from biolmm.errors import InputFileError
from biolmm.sumstats.ingest.alleles import copy_texts
from biolmm.sumstats.ingest.records import Reader, Records, row_type
from biolmm.sumstats.ingest.sources import StudySource
from biolmm.sumstats.places import Contigs, make_places, position_of, rank_of

RUN_ROWS = 1 << 20
SAMPLE_EVERY = 2048
_ID_SAMPLE = 64
"""Of identifiers one in this many is kept to compare builds: those whose stirred number is a multiple of it."""


@dataclass(frozen=True)
class StudyRuns:
    """The sorted runs of a study that has been read."""

    folder: Path
    meta: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> StudyRuns | None:
        """Open finished runs; None where reading was not finished."""
        try:
            return cls(folder, json.loads((folder / "runs.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    @property
    def n_rows(self) -> int:
        """Count the records."""
        return int(sum(self.meta["rows"]))

    @cached_property
    def _samples(self) -> list[NDArray[np.uint64]]:
        return [np.fromfile(self.folder / f"{i}.sample", "<u8") for i in range(len(self.meta["rows"]))]

    def sample_places(self) -> NDArray[np.uint64]:
        """Give every 2,048th place of each run, each standing for so many records."""
        return np.concatenate([np.empty(0, np.uint64), *self._samples])

    def sample_ids(self) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Give a fixed part of the rs numbers, sorted, and their places."""
        with np.load(self.folder / "ids.npz") as saved:
            return saved["ids"], saved["places"]

    def read(self, low: int, high: int) -> Records:
        """Read the records with low ≤ place < high, sorted by place, key and line."""
        kind = row_type(bool(self.meta["exact"]))
        parts, heaps, base = [], [], 0
        for i in range(len(self.meta["rows"])):
            first, last = self._find(i, low), self._find(i, high)
            if first == last:
                continue
            rows = np.fromfile(self.folder / f"{i}.rows", kind, last - first, offset=first * kind.itemsize)
            heap = _own_texts(rows, self.folder / f"{i}.heap")
            rows["heap"] += base
            base += len(heap)
            parts.append(rows)
            heaps.append(heap)
        if not parts:
            return Records(np.empty(0, kind), np.empty(0, np.uint8))
        if len(parts) == 1:
            return Records(parts[0], heaps[0])
        return _sorted(Records(np.concatenate(parts), np.concatenate(heaps)))

    def _find(self, run: int, place: int) -> int:
        """Give the number of a run's records before a place, from its sample and one read of what is between two of it."""
        before = int(np.searchsorted(self._samples[run], np.uint64(place)))
        if not before:
            return 0
        start = (before - 1) * SAMPLE_EVERY
        some = np.fromfile(self.folder / f"{run}.place", "<u8", SAMPLE_EVERY, offset=8 * start)
        return start + int(np.searchsorted(some, np.uint64(place)))


def write_runs(source: StudySource, reader: Reader, folder: Path, *, run_rows: int = RUN_ROWS) -> StudyRuns:
    """Read a study from beginning to end into sorted runs; what a killed reading left is replaced.

    Raises
    ------
    InputFileError
        When the file is malformed, its columns are not what their names say, or nothing in it can be used.
    """
    remove(folder)
    folder.mkdir(parents=True)
    sizes: list[int] = []
    ids: list[NDArray[np.void]] = []
    pending: list[Records] = []
    ranks: set[int] = set()
    for fields in source.blocks():
        pending.append(reader.read(fields))
        if sum(map(len, pending)) >= run_rows:
            sizes.append(_write_run(folder, len(sizes), pending, ids, ranks))
            pending = []
    if any(map(len, pending)):
        sizes.append(_write_run(folder, len(sizes), pending, ids, ranks))
    _check(source, reader, sum(sizes))
    sampled = np.concatenate([np.empty(0, _ID_TYPE), *ids])
    sampled = sampled[np.argsort(sampled["id"], kind="stable")]
    np.savez(folder / "ids.npz", ids=sampled["id"], places=sampled["place"])
    meta = {
        "rows": sizes,
        "exact": reader.rules.exact,
        "counts": dict(reader.counts),
        "warnings": reader.ranges.warnings(),
        "ranges": reader.ranges.counts,
        "format": source.layout.format,
        "others": list(reader.contigs.others),
        "contig_ranks": sorted(ranks),
    }
    write_json(folder / "runs.json", meta)
    return StudyRuns(folder, meta)


_ID_TYPE = np.dtype([("id", "<i8"), ("place", "<u8")])


def sampled_ids(rsid: NDArray[np.int64], place: NDArray[np.uint64]) -> NDArray[np.void]:
    """Choose a fixed part of the rs numbers, the same in every study."""
    stirred = (rsid.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    chosen = np.flatnonzero((rsid > 0) & (stirred % np.uint64(_ID_SAMPLE) == 0))
    out = np.empty(len(chosen), _ID_TYPE)
    out["id"], out["place"] = rsid[chosen], place[chosen]
    return out


def _check(source: StudySource, reader: Reader, n_rows: int) -> None:
    """Refuse a file of which nothing is left, or whose columns are mislabelled."""
    name = str(reader.study.path)
    reader.ranges.check(name)
    if n_rows:
        return
    n = reader.counts["records"]
    if not n:
        raise InputFileError(f"{name} has a header but no variants below it.")
    reasons = {reason: count for reason, count in reader.counts.items() if reason != "records" and count}
    worst = max(reasons, key=lambda reason: reasons[reason])
    tests = f" (tests: {', '.join(sorted(reader.ranges.tests))})" if worst == "other_test" else ""
    read_as = ", ".join(f"{source.layout.names[at]}={role}" for role, at in source.layout.column.items())
    raise InputFileError(
        f"{name}: none of {n:,} records can be used; {reasons[worst]:,} because of {worst}{tests}. Columns were read as "
        f"{source.layout.format}: {read_as}."
    )


def _write_run(folder: Path, number: int, pending: Sequence[Records], ids: list[NDArray[np.void]],
               ranks: set[int]) -> int:  # fmt: skip
    joined = _sorted(_join(pending))
    rows = joined.rows
    ids.append(sampled_ids(rows["rsid"], rows["place"]))
    ranks.update(np.unique(rank_of(rows["place"])).tolist())
    _save_run(folder, number, joined)
    return len(rows)


def _save_run(folder: Path, number: int, joined: Records) -> None:
    rows = joined.rows
    rows.tofile(folder / f"{number}.rows")
    place = np.ascontiguousarray(rows["place"])
    place.tofile(folder / f"{number}.place")
    place[::SAMPLE_EVERY].tofile(folder / f"{number}.sample")
    joined.heap.tofile(folder / f"{number}.heap")


def rank_again(runs: StudyRuns, others: Sequence[str]) -> StudyRuns:
    """Give contigs the ranks that they have among `others`, where those of the reading were others.

    Names of contigs that are no numbers and letters are known only when all studies have been read.
    """
    mine = list(runs.meta["others"])
    if mine == list(others)[: len(mine)]:
        return runs
    before, after = Contigs(mine), Contigs(list(others))
    change = {rank: after.rank(before.name(rank)) for rank in runs.meta["contig_ranks"]}
    table = np.array(sorted(change), np.int64)
    to = np.array([change[int(rank)] for rank in table], np.int64)

    def placed(place: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return make_places(to[np.searchsorted(table, rank_of(place))], position_of(place))

    aside = runs.folder.with_name(runs.folder.name + ".ranked")
    remove(aside)
    aside.mkdir()
    kind = row_type(bool(runs.meta["exact"]))
    for number in range(len(runs.meta["rows"])):
        rows = np.fromfile(runs.folder / f"{number}.rows", kind)
        rows["place"] = placed(np.ascontiguousarray(rows["place"]))
        _save_run(aside, number, _sorted(Records(rows, np.fromfile(runs.folder / f"{number}.heap", np.uint8))))
    ids, places = runs.sample_ids()
    np.savez(aside / "ids.npz", ids=ids, places=placed(places) if len(places) else places)
    meta = {**runs.meta, "others": list(others), "contig_ranks": sorted(change.values())}
    write_json(aside / "runs.json", meta)
    remove(runs.folder)
    aside.rename(runs.folder)
    return StudyRuns(runs.folder, meta)


def _join(parts: Sequence[Records]) -> Records:
    if len(parts) == 1:
        return parts[0]
    base = 0
    for part in parts:
        part.rows["heap"] += base
        base += len(part.heap)
    return Records(np.concatenate([part.rows for part in parts]), np.concatenate([part.heap for part in parts]))


def _sorted(records: Records) -> Records:
    """Sort by place, key and line; records that are sorted, as most files are, cost one look at each."""
    rows = records.rows
    place, key, line = (np.ascontiguousarray(rows[name]) for name in ("place", "key", "line"))
    if _is_sorted(place, key, line):
        return records
    order = np.argsort(place, kind="stable")
    _sort_ties(order, place, key, line)
    return Records(rows[order], records.heap)


def _own_texts(rows: NDArray[np.void], file: Path) -> NDArray[np.uint8]:
    """Read the long alleles of some rows from a run's heap; their `heap` is changed to where they are now."""
    lengths = rows["lengths"].sum(axis=1, dtype=np.int64)
    long = np.flatnonzero(lengths)
    if not len(long):
        rows["heap"] = 0
        return np.empty(0, np.uint8)
    spans = np.column_stack([rows["heap"], rows["heap"] + lengths])
    start, stop = int(spans[long, 0].min()), int(spans[long, 1].max())
    heap = np.fromfile(file, np.uint8, stop - start, offset=start)
    spans = np.where(lengths[:, None] > 0, spans - start, 0)
    out, moved = np.empty(int(lengths.sum()), np.uint8), np.empty_like(spans)
    copy_texts(heap, spans, out, moved)
    rows["heap"] = moved[:, 0]
    return out


@numba.njit(nogil=True, cache=True)
def _is_sorted(place, key, line):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(1, len(place)):
        if place[i] < place[i - 1]:
            return False
        tied = place[i] == place[i - 1]
        if tied and (key[i] < key[i - 1] or (key[i] == key[i - 1] and line[i] < line[i - 1])):
            return False
    return True


@numba.njit(nogil=True, cache=True)
def _sort_ties(order, place, key, line):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sort records of the same place by key and line."""
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and place[order[stop]] == place[order[start]]:
            stop += 1
        if stop - start > 24:
            ties = order[start:stop][np.argsort(line[order[start:stop]], kind="mergesort")]
            order[start:stop] = ties[np.argsort(key[ties], kind="mergesort")]
        else:
            for i in range(start + 1, stop):
                moving, j = order[i], i
                while j > start and (
                    key[order[j - 1]] > key[moving]
                    or (key[order[j - 1]] == key[moving] and line[order[j - 1]] > line[moving])
                ):
                    order[j] = order[j - 1]
                    j -= 1
                order[j] = moving
        start = stop
