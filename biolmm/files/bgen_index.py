"""What the variants of a BGEN file are and where they lie: from the `.bgi` beside it, or by walking the file.

A `.bgi` is the SQLite index that bgenix makes. It is used when it lists every byte of the file exactly once, its record
of the file's size and first bytes is right, and the variants that are looked up for a test are as it says; else it is
stale, a warning says so, and the file is walked.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.files.bgen_header import BgenHeader, read_range, shown
from biolmm.files.bgen_rows import RowCollector
from biolmm.files.bgen_walk import Field, Window, alleles_of, parse_range, text_of, walk_variants
from biolmm.files.genotypes import VariantTable
from biolmm.places import as_object

log = logging.getLogger(__name__)

_BATCH = 1 << 16
_N_LOOKED_UP = 32
_QUERY = (
    "SELECT file_start_position, size_in_bytes, position, number_of_alleles, chromosome, rsid, allele1, allele2 "
    "FROM Variant ORDER BY file_start_position"
)
_Record = tuple[int, int, int, int, bytes, bytes, bytes, bytes]


@dataclass(frozen=True, eq=False)
class BgenIndex:
    """Variants of a BGEN file.

    Attributes
    ----------
    offsets
        (n + 1) where each variant begins, and where the last one ends.
    first_row
        (n + 1) the row that each variant's first ALT allele has; None where every variant has two alleles, and so one
        row.
    variants
        What the rows are. Texts that are empty in the file are `.`; a variant's id is its rsid or, where that is empty,
        its other identifier.
    """

    offsets: NDArray[np.int64]
    first_row: NDArray[np.int64] | None
    variants: VariantTable


def read_index(header: BgenHeader, bgi: Path) -> BgenIndex:
    """Read the variants from the index beside the file where there is one that fits, else from the file.

    Raises
    ------
    InputFileError
        When the file is damaged.

    Notes
    -----
    **Cost**: one read of the index, or of the file (`walk_variants`); about a microsecond a variant to make its strings.
    """
    if bgi.is_file():
        try:
            return read_bgi(header, bgi)
        except _StaleError as error:
            log.warning(
                "%s does not belong to %s: %s. The file itself is read instead; make the index again with bgenix -index.",
                bgi, header.path, error,
            )  # fmt: skip
    return walk_index(header)


def walk_index(header: BgenHeader) -> BgenIndex:
    """Make the index from the file alone.

    Raises
    ------
    InputFileError
        When a variant does not fit the file, or holds text that is none.
    """
    rows, ends = RowCollector(header.path), [np.array([header.first_variant], np.int64)]
    for window in walk_variants(header):
        ends.append(window.table[:, Field.END])
        rows.add_window(window)
    variants, first_row = rows.table()
    return BgenIndex(np.concatenate(ends), first_row, variants)


class _StaleError(Exception):
    """Why a `.bgi` cannot be used."""


def read_bgi(header: BgenHeader, bgi: Path) -> BgenIndex:
    """Make the index from a `.bgi`, checked against the file.

    Raises
    ------
    InputFileError
        When the file is damaged where it is looked up.
    _StaleError
        When the `.bgi` belongs to another file or is damaged.
    """
    try:
        with closing(_connect(bgi)) as connection:
            connection.text_factory = bytes
            _check_metadata(header, connection)
            return _index_of_records(header, connection.execute(_QUERY))
    except OSError as error:
        raise _StaleError(f"it cannot be read ({error.strerror or error})") from None
    except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:  # SQLite's own messages may hold damaged names
        raise _StaleError(f"it cannot be read ({error})") from None
    except InputFileError:
        raise _StaleError("the file is not as it says") from None


def _connect(bgi: Path) -> sqlite3.Connection:
    """Open the index for reading; of an object of a store, its content in memory."""
    found = as_object(bgi)
    if found is None:
        return sqlite3.connect(f"file:{quote(str(bgi))}?mode=ro&immutable=1", uri=True)
    connection = sqlite3.connect(":memory:")
    connection.deserialize(found.read_bytes())
    return connection


def _index_of_records(header: BgenHeader, records: sqlite3.Cursor) -> BgenIndex:
    """Check that the records follow one another through the whole file, and some of them against it."""
    looked_up = np.unique(np.linspace(0, header.n_variants - 1, _N_LOOKED_UP).astype(int))
    rows, ends, end = RowCollector(header.path), [np.array([header.first_variant], np.int64)], header.first_variant
    first = 0
    while batch := records.fetchmany(_BATCH):
        (begin, size, position, n_alleles), (contig, *texts) = _columns(batch)
        expected = np.concatenate([[end], begin[:-1] + size[:-1]])
        if first + len(batch) > header.n_variants or (begin != expected).any() or (size <= 0).any():
            raise _StaleError("its variants do not follow one another from the first to the last byte")
        ends.append(begin + size)
        end = int(ends[-1][-1])
        if end > header.size:
            raise _StaleError("its variants go beyond the end of the file")
        for i in looked_up[(looked_up >= first) & (looked_up < first + len(batch))] - first:
            _look_up(header, first + int(i), batch[i])
        # What the index does not say is read from the file: further alleles, and the other id where there is no rsid.
        unsaid = np.flatnonzero((n_alleles != 2) | np.array([not name for name in texts[0]])).tolist()
        for low, high in pairwise([-1, *unsaid, len(batch)]):
            said = slice(low + 1, high)
            rows.add_records(position[said], contig[said], [column[said] for column in texts])
            if high < len(batch):
                rows.add_window(_parse_one(header, first + high, int(begin[high]), int(begin[high] + size[high])))
        first += len(batch)
    if first != header.n_variants or end != header.size:
        raise _StaleError(f"it lists {first:,} variants up to byte {end:,}; the file has {header.n_variants:,}")
    variants, first_row = rows.table()
    return BgenIndex(np.concatenate(ends), first_row, variants)


def _columns(batch: list[_Record]) -> tuple[NDArray[np.int64], list[tuple[bytes, ...]]]:
    """Turn records to columns; SQLite stores any type in any column, so they are checked."""
    columns = list(zip(*batch, strict=True))
    if any(set(map(type, column)) != {int} for column in columns[:4]):
        raise _StaleError("a number in it is none")
    if any(set(map(type, column)) != {bytes} for column in columns[4:]):
        raise _StaleError("a text in it is none")
    numbers = np.array(columns[:4], np.int64)
    if (numbers < 0).any() or (numbers >= 1 << 48).any():
        raise _StaleError("a number in it is none that a file can hold")
    return numbers, columns[4:]


def _check_metadata(header: BgenHeader, connection: sqlite3.Connection) -> None:
    """Compare the size and first bytes that newer versions of bgenix record; names change when files are copied."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'Metadata'").fetchone():
        return
    recorded = connection.execute("SELECT file_size, first_1000_bytes FROM Metadata").fetchone()
    if recorded is None:
        return
    if recorded[0] != header.size:
        raise _StaleError(f"it was made for a file of {recorded[0]} bytes and this one has {header.size}")
    if recorded[1] != read_range(header.path, 0, min(1000, header.size)):
        raise _StaleError("it was made for a file that begins with other bytes")


def _parse_one(header: BgenHeader, number: int, begin: int, end: int) -> Window:
    return parse_range(header, number, np.array([begin, end], np.int64), read_range(header.path, begin, end - begin))


def _look_up(header: BgenHeader, number: int, record: _Record) -> None:
    """Compare a variant with what the file says of it."""
    begin, size, position, n_alleles, contig, name, *alleles = record
    window = _parse_one(header, number, begin, begin + size)
    found = [*window.table[0, [Field.POSITION, Field.N_ALLELES]].tolist(), text_of(window, 0, Field.CONTIG)]
    found += [text_of(window, 0, Field.ID), *alleles_of(window, 0)[:2]]
    if found != [position, n_alleles, contig, name, *alleles]:
        raise _StaleError(f"variant {number + 1:,} ({shown(name)}) is another one in the file")
