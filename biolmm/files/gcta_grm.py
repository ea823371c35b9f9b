"""GCTA's relatedness matrices: binary `.grm.bin`, `.grm.N.bin` and `.grm.id`, and sparse `.grm.sp`.

`.grm.bin` is the lower triangle with the diagonal, row by row, little-endian float32; `.grm.N.bin` in the same order the
number of variants that both samples have; `.grm.id` lines of FID and IID; `.grm.sp` lines `i j value`, i ≥ j counted from 0
(GCTA manual, *Making a GRM* and *fastGWA*; Yang et al. 2011, doi 10.1016/j.ajhg.2010.11.011).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from biolmm.atomic import atomic_path
from biolmm.errors import InputFileError, named
from biolmm.files.lines import read_lines

BIN, COUNTS, IDS, SPARSE = ".grm.bin", ".grm.N.bin", ".grm.id", ".grm.sp"
_BLOCK_BYTES = 64 * 2**20

ReadRows = Callable[[int, int], NDArray[np.floating]]
"""Gives rows `start` to `stop` of the matrix up to column `stop`."""


def beside(path: Path, suffix: str) -> Path:
    """Name a file of the set that `path` belongs to, given by any of its files or by their common prefix.

    Examples
    --------
    >>> beside(Path("a/m.grm.bin"), ".grm.id").as_posix(), beside(Path("a/m"), ".grm.id").as_posix()
    ('a/m.grm.id', 'a/m.grm.id')
    """
    name = path.name
    for known in (BIN, COUNTS, IDS, SPARSE):
        name = name.removesuffix(known)
    return path.with_name(name + suffix)


def is_gcta_grm(path: Path) -> bool:
    """Whether a path names a binary matrix of GCTA, by its suffix or as the prefix of one."""
    return path.name.endswith((BIN, COUNTS)) or (not path.exists() and beside(path, BIN).is_file())


@dataclass(frozen=True, eq=False)
class Ids:
    """Who the rows are."""

    sample_id: NDArray[np.str_]
    family_id: NDArray[np.str_]


def read_ids(path: Path) -> Ids:
    """Read a `.grm.id` or `.rel.id`: FID and IID, or IID alone; a header begins with `#` or names them.

    Raises
    ------
    InputFileError
        When it cannot be read, is empty, has lines of another number of columns, or names a sample twice.
    """
    columns: list[str] | None = None
    sample_id: list[str] = []
    family_id: list[str] = []
    for number, line in read_lines(path):
        fields = line.split()
        names = [field.lstrip("#").upper() for field in fields]
        if not sample_id and columns is None and "IID" in names and (line.startswith("#") or names[0] == "FID"):
            columns = names
            continue
        if columns is None:
            columns = ["FID", "IID"] if len(fields) >= 2 else ["IID"]
        if len(fields) != len(columns):
            raise InputFileError(
                f"'{path}', line {number:,}: {len(fields)} columns instead of {len(columns)} ({', '.join(columns)})."
            )
        sample_id.append(fields[columns.index("IID")])
        family_id.append(fields[columns.index("FID")] if "FID" in columns else "0")
    if not sample_id:
        raise InputFileError(f"'{path}' names no samples: it is empty.")
    if len(set(sample_id)) < len(sample_id):
        seen: set[str] = set()
        repeated = [name for name in sample_id if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
        raise InputFileError(
            f"'{path}' names {len(set(repeated)):,} sample ids (IID) more than once: {named(dict.fromkeys(repeated))}. "
            "Samples are matched by this id alone: make it unique."
        )
    return Ids(np.array(sample_id, np.str_), np.array(family_id, np.str_))


def write_ids(path: Path, sample_id: NDArray[np.str_], family_id: NDArray[np.str_]) -> None:
    """Write FID and IID, tab-separated, without a header."""
    with atomic_path(path) as aside:
        lines = (f"{family}\t{sample}\n" for family, sample in zip(family_id, sample_id, strict=True))
        aside.write_text("".join(lines), encoding="utf-8")


@dataclass(frozen=True, eq=False)
class GctaGrm:
    """A binary matrix of GCTA, of which only what is asked for is read.

    Attributes
    ----------
    path
        The `.grm.bin`.
    sample_id, family_id
        (N,) of the `.grm.id`.
    has_counts
        Whether the `.grm.N.bin` is there.
    """

    path: Path
    sample_id: NDArray[np.str_]
    family_id: NDArray[np.str_]
    has_counts: bool

    @classmethod
    def open(cls, path: Path) -> GctaGrm:
        """Open a set of files, named by any of them or by their prefix.

        Raises
        ------
        InputFileError
            When `.grm.bin` or `.grm.id` is missing, or sizes do not fit the number of samples.
        """
        ids = read_ids(beside(path, IDS))
        counts = beside(path, COUNTS)
        n = len(ids.sample_id)
        _check_size(beside(path, BIN), n, beside(path, IDS))
        if counts.exists():
            _check_size(counts, n, beside(path, IDS))
        return cls(beside(path, BIN), ids.sample_id, ids.family_id, counts.exists())

    @property
    def n_samples(self) -> int:
        """N."""
        return len(self.sample_id)

    def read_block(self, rows: slice, columns: slice, *, counts: bool = False) -> NDArray[np.float32]:
        """Read some rows and columns, none right of its row: what is above the diagonal is 0.

        Parameters
        ----------
        rows, columns
            Samples; `columns` end at or before the last row.
        counts
            Read the `.grm.N.bin` instead.
        """
        n = self.n_samples
        path = beside(self.path, COUNTS) if counts else self.path
        file = np.memmap(path, "<f4", mode="r", shape=(n * (n + 1) // 2,))
        out = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.float32)
        for place, row in enumerate(range(rows.start, rows.stop)):
            stop = min(columns.stop, row + 1)
            if stop > columns.start:
                first = row * (row + 1) // 2
                out[place, : stop - columns.start] = file[first + columns.start : first + stop]
        return out


def _check_size(path: Path, n: int, ids: Path) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise InputFileError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    expected = n * (n + 1) // 2 * 4
    if found != expected:
        raise InputFileError(
            f"'{path}' has {found:,} bytes, but the lower triangle of the {n:,} samples in '{ids}' has {expected:,}: "
            "the files do not belong together, or one is truncated."
        )


def write_gcta_grm(
    prefix: Path, sample_id: NDArray[np.str_], family_id: NDArray[np.str_], rows: ReadRows, counts: ReadRows | None
) -> Path:
    """Write `.grm.bin`, `.grm.N.bin` where `counts` are given, and `.grm.id`; return the path of the first.

    Parameters
    ----------
    prefix
        What the names of the files begin with.
    sample_id, family_id
        (N,).
    rows, counts
        Give rows of the matrix and of the number of variants of every pair.

    Raises
    ------
    OutputError
        When a file cannot be written.
    """
    write_ids(beside(prefix, IDS), sample_id, family_id)
    n = len(sample_id)
    for suffix, read in ((COUNTS, counts), (BIN, rows)):
        if read is None:
            continue
        with atomic_path(beside(prefix, suffix)) as aside, aside.open("wb") as file:
            for start, stop in row_runs(n):
                block = read(start, stop)
                for row in range(start, stop):
                    file.write(np.ascontiguousarray(block[row - start, : row + 1], "<f4").data)
    return beside(prefix, BIN)


def row_runs(n: int) -> list[tuple[int, int]]:
    """Cut the rows of an N × N matrix into runs of about 64 MiB.

    Examples
    --------
    >>> row_runs(3)
    [(0, 3)]
    """
    step = max(1, _BLOCK_BYTES // (8 * max(n, 1)))
    return [(start, min(start + step, n)) for start in range(0, n, step)]


@dataclass(frozen=True, eq=False)
class SparseGrm:
    """A sparse matrix and who its rows are.

    Attributes
    ----------
    matrix
        (N, N), both triangles.
    sample_id, family_id
        (N,).
    """

    matrix: sparse.csr_array
    sample_id: NDArray[np.str_]
    family_id: NDArray[np.str_]


def write_sparse_grm(prefix: Path, grm: SparseGrm) -> Path:
    """Write the lower triangle as `.grm.sp`, with `.grm.id`; return the path of the first.

    Raises
    ------
    OutputError
        When a file cannot be written.
    """
    lower = sparse.tril(grm.matrix, format="csr").tocoo()
    with ExitStack() as stack:
        aside = stack.enter_context(atomic_path(beside(prefix, SPARSE)))
        file = stack.enter_context(aside.open("w", encoding="utf-8"))
        for start in range(0, lower.nnz, 2**16):
            part = slice(start, start + 2**16)
            entries = zip(lower.row[part].tolist(), lower.col[part].tolist(), lower.data[part].tolist(), strict=True)
            file.writelines(f"{i}\t{j}\t{value:.9g}\n" for i, j, value in entries)
    write_ids(beside(prefix, IDS), grm.sample_id, grm.family_id)
    return beside(prefix, SPARSE)


def read_sparse_grm(path: Path) -> SparseGrm:
    """Read `.grm.sp` with its `.grm.id`, named by any of them or by their prefix.

    Raises
    ------
    InputFileError
        When a file is missing, a line is not `i j value`, an index names no sample, or a pair occurs twice.
    """
    ids = read_ids(beside(path, IDS))
    n = len(ids.sample_id)
    file = beside(path, SPARSE)
    places: list[tuple[int, int]] = []
    values: list[float] = []
    for number, line in read_lines(file):
        fields = line.split()
        try:
            i, j, value = int(fields[0]), int(fields[1]), float(fields[2])
        except (ValueError, IndexError):
            raise InputFileError(f"'{file}', line {number:,}: {line[:40]!r} is not two indices and a number.") from None
        if not (0 <= j < n and 0 <= i < n and len(fields) == 3 and np.isfinite(value)):
            raise InputFileError(
                f"'{file}', line {number:,}: {line[:40]!r}, but indices are 0 to {n - 1:,} for the {n:,} samples of "
                f"'{beside(path, IDS)}' and values finite."
            )
        places.append((max(i, j), min(i, j)))
        values.append(value)
    row, column = np.array(places, np.int64).reshape(-1, 2).T
    if len(set(places)) < len(places):
        raise InputFileError(f"'{file}' names {len(places) - len(set(places)):,} pairs of samples more than once.")
    off = row != column
    both = (np.concatenate([values, np.array(values)[off]]), (np.r_[row, column[off]], np.r_[column, row[off]]))
    return SparseGrm(sparse.csr_array(both, shape=(n, n)), ids.sample_id, ids.family_id)
