"""PLINK's relatedness matrices: `.rel.bin` with `.rel.id`.

Little-endian float64 or float32, the whole matrix or its lower triangle row by row (`--make-rel bin | bin4`, alone or with
`square`, `square0` or `triangle`); which of them it is the size of the file tells. `.king.bin` has the same layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from biolmm.atomic import atomic_path
from biolmm.errors import InputFileError
from biolmm.files.gcta_grm import ReadRows, read_ids, row_runs, write_ids

Shape = Literal["square", "triangle"]


def is_plink_rel(path: Path) -> bool:
    """Whether a path names a binary matrix of PLINK, by its suffix."""
    return path.name.endswith((".rel.bin", ".king.bin"))


def ids_path(path: Path) -> Path:
    """Name the file of ids of a matrix.

    Examples
    --------
    >>> ids_path(Path("a.rel.bin")).name
    'a.rel.id'
    """
    return path.with_name(path.name.removesuffix(".bin") + ".id")


@dataclass(frozen=True, eq=False)
class PlinkRel:
    """A binary matrix of PLINK, of which only what is asked for is read.

    Attributes
    ----------
    path
        The `.rel.bin`.
    sample_id, family_id
        (N,) of the `.rel.id`; the family is `0` where it has none.
    dtype
        `<f8` or `<f4`.
    shape
        How it is laid out.
    """

    path: Path
    sample_id: NDArray[np.str_]
    family_id: NDArray[np.str_]
    dtype: str
    shape: Shape

    @classmethod
    def open(cls, path: Path) -> PlinkRel:
        """Open a matrix; its lower triangle is what is read.

        Raises
        ------
        InputFileError
            When a file is missing or the size fits no layout.
        """
        ids = read_ids(ids_path(path))
        n = len(ids.sample_id)
        try:
            found = path.stat().st_size
        except OSError as error:
            raise InputFileError(f"'{path}' cannot be read: {error.strerror or error}.") from error
        layouts: dict[int, tuple[str, Shape]] = {}
        for dtype, width in (("<f4", 4), ("<f8", 8)):
            layouts[n * (n + 1) // 2 * width] = (dtype, "triangle")
            layouts[n * n * width] = (dtype, "square")
        if found not in layouts:
            sizes = ", ".join(f"{size:,}" for size in sorted(layouts))
            raise InputFileError(
                f"'{path}' has {found:,} bytes, but a matrix of the {n:,} samples in '{ids_path(path)}' has {sizes}: "
                "the files do not belong together, or one is truncated."
            )
        return cls(path, ids.sample_id, ids.family_id, *layouts[found])

    @property
    def n_samples(self) -> int:
        """N."""
        return len(self.sample_id)

    def read_block(self, rows: slice, columns: slice, *, counts: bool = False) -> NDArray[np.floating]:
        """Read some rows and columns, none right of its row: what is above the diagonal is 0.

        Raises
        ------
        ValueError
            When `counts` are asked for, which these files do not have.
        """
        if counts:
            raise ValueError(f"{self.path} has no counts")
        n = self.n_samples
        size = n * n if self.shape == "square" else n * (n + 1) // 2
        file = np.memmap(self.path, self.dtype, mode="r", shape=(size,))
        native = np.dtype(self.dtype).newbyteorder("=")
        out: NDArray[np.floating] = np.zeros((rows.stop - rows.start, columns.stop - columns.start), native)
        for place, row in enumerate(range(rows.start, rows.stop)):
            stop = min(columns.stop, row + 1)
            if stop > columns.start:
                first = row * n if self.shape == "square" else row * (row + 1) // 2
                out[place, : stop - columns.start] = file[first + columns.start : first + stop]
        return out


def write_plink_rel(
    path: Path,
    sample_id: NDArray[np.str_],
    family_id: NDArray[np.str_],
    rows: ReadRows,
    *,
    shape: Shape = "square",
    dtype: str = "<f8",
) -> Path:
    """Write `.rel.bin` and `.rel.id`.

    Parameters
    ----------
    path
        The `.rel.bin`.
    sample_id, family_id
        (N,).
    rows
        Gives rows of the matrix: all columns for a square, those up to the last row for a triangle.
    shape, dtype
        The layout: PLINK's `bin` is `<f8`, its `bin4` `<f4`.

    Raises
    ------
    OutputError
        When a file cannot be written.
    """
    write_ids(ids_path(path), sample_id, family_id)
    with atomic_path(path) as aside, aside.open("wb") as file:
        for start, stop in row_runs(len(sample_id)):
            block = np.asarray(rows(start, stop), dtype)
            if shape == "square":
                file.write(np.ascontiguousarray(block).data)
                continue
            for row in range(start, stop):
                file.write(np.ascontiguousarray(block[row - start, : row + 1]).data)
    return path
