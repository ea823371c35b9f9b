"""Reference frequencies, of a panel's table, joined to the catalogue: a file of single precision beside the results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.sumstats.ingest.alleles import LONG, Alleles, read_alleles
from biolmm.sumstats.ingest.fields import Fields
from biolmm.sumstats.ingest.roles import SYNONYMS, Layout
from biolmm.sumstats.ingest.sources import ParquetSource, StudySource, TextSource
from biolmm.sumstats.ingest.text import TextBlocks, split_header
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.matrix.stretches import read_places
from biolmm.sumstats.places import Contigs, make_places
from biolmm.sumstats.quality.histogram import Vector

_ROLES = ("contig", "position", "effect_allele", "other_allele", "eaf")


def join_frequencies(store: SumstatsStore, table: Path, to: Path) -> tuple[Callable[[int], Vector], int]:
    """Find the frequency of ALT in a table for every variant of a store.

    Parameters
    ----------
    store
        The store.
    table
        Text or Parquet with columns for contig, position, effect allele, other allele and its frequency, by any of their
        usual names (chrom, pos, alt, ref, af). In genome order each chunk of the catalogue is read once.
    to
        A file for the frequencies, 4 bytes a variant.

    Returns
    -------
    Callable, int
        Gives a chunk's frequencies, NaN where the table has none; and how many were found.

    Raises
    ------
    InputFileError
        When the table cannot be read, lacks a column, or shares no variant with the store.
    """
    found = np.memmap(to, np.float32, mode="w+", shape=(max(store.n_variants, 1),))
    found[:] = np.nan
    source, contigs = _open(table), Contigs(list(store.attributes["others"]))
    chunk, places, catalogue = -1, np.empty(0, np.uint64), None
    for fields in source.blocks():
        place, alleles, eaf = _block(fields, contigs)
        chunks = np.searchsorted(store.first_places, place, side="right") - 1
        for number in np.unique(chunks[chunks >= 0]).tolist():
            # A place may begin in the chunk before, where its other alleles are.
            for each in {max(number - 1, 0), number}:
                if each != chunk:
                    chunk, places, catalogue = each, read_places(store, each), store.read_alleles(each)
                assert catalogue is not None
                rows = np.flatnonzero(chunks == number)
                _match(found, store.chunk_range(each)[0], places, catalogue, rows, place, alleles, eaf)
    n = int(np.count_nonzero(~np.isnan(found)))
    if not n:
        raise InputFileError(f"{table} has no variant of {store.path}: is it of another build?")

    def read(number: int) -> Vector:
        start, stop = store.chunk_range(number)
        return np.asarray(found[start:stop], dtype=np.float64)

    return read, n


def _open(table: Path) -> StudySource:
    """Open a table whose columns have one of their usual names."""
    import pyarrow.parquet as pq

    from biolmm.files.lines import file_start

    if file_start(table).startswith(b"PAR1"):
        names = list(pq.read_schema(table).names)
        return ParquetSource([table], _layout(table, names))
    text, n = TextBlocks(table), 0
    while (header := text.next_header()) is not None:
        n += 1
        if header.strip() and not header.startswith("##"):
            delimiter, names = split_header(header)
            return TextSource(table, n, delimiter, _layout(table, names))
    raise InputFileError(f"{table} has no header.")


def _layout(table: Path, names: list[str]) -> Layout:
    column: dict[str, int] = {}
    for at, name in enumerate(names):
        role = SYNONYMS.get(name.strip().strip('"').removeprefix("#").lower())
        if role in _ROLES and role not in column:
            column[role] = at
    lacking = [role for role in _ROLES if role not in column]
    if lacking:
        raise InputFileError(f"{table} has no column for {', '.join(lacking)}; it has {', '.join(names[:12])}. "
                             "Name them chromosome, position, effect_allele, other_allele and eaf.")  # fmt: skip
    return Layout("table", column, False, tuple(names))


def _block(fields: Fields, contigs: Contigs) -> tuple[NDArray[np.uint64], Alleles, Vector]:
    data, spans = fields.words("contig")
    names, which = np.unique(
        np.array([data[a:b].tobytes().decode("ascii", "replace") for a, b in spans], dtype=object).astype(str),
        return_inverse=True,
    )
    known = {name: contigs.rank(str(name)) for name in names.tolist()}
    ranks = np.array([known[name] for name in names.tolist()], np.int64)[which] if len(names) else np.empty(0, np.int64)
    position, eaf = fields.numbers("position")[0], fields.numbers("eaf")[0]
    good = np.isfinite(position) & (position > 0) & (position < 1 << 38) & (ranks > 0) & (eaf >= 0) & (eaf <= 1)
    (first, effect), (second, other) = fields.words("effect_allele"), fields.words("other_allele")
    if first is second:
        alleles = read_alleles(first, effect, other)
    else:
        alleles = read_alleles(np.concatenate([first, second]), effect, other + len(first))
    rows = np.flatnonzero(good)
    return make_places(ranks[rows], position[rows].astype(np.int64)), alleles.take(rows), eaf[rows]


def _match(found: NDArray[np.float32], start: int, places: NDArray[np.uint64], catalogue: Alleles, rows: NDArray[np.intp],
           place: NDArray[np.uint64], alleles: Alleles, eaf: Vector) -> None:  # fmt: skip
    """Write the frequencies of the rows whose alleles the chunk has, in either order."""
    first = np.searchsorted(places, place[rows])
    last = np.searchsorted(places, place[rows], side="right")
    for offset in range(int((last - first).max(initial=0))):
        at = first + offset
        hit = at < last
        at, row = at[hit], rows[hit]
        simple = (catalogue.codes[at] < LONG).all(axis=1) & (alleles.codes[row] < LONG).all(axis=1)
        ref, alt = catalogue.codes[at].T
        effect, other = alleles.codes[row].T
        same, turned = simple & (effect == alt) & (other == ref), simple & (effect == ref) & (other == alt)
        for number in np.flatnonzero(~simple):
            mine = tuple(catalogue.text(int(at[number]), side) for side in (0, 1))
            theirs = tuple(alleles.text(int(row[number]), side) for side in (0, 1))
            same[number], turned[number] = theirs == mine[::-1], theirs == mine
        found[start + at[same]] = eaf[row[same]]
        found[start + at[turned]] = 1 - eaf[row[turned]]
