"""One block of a study file, column by column: numbers, tails of p-values and words, from text or from Parquet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from biolmm.sumstats.ingest.tokens import Spans, read_numbers, read_tails

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Fields(ABC):
    """n rows of a file, by the roles of its columns."""

    n: int
    first_line: int
    """Number of the first row's line in the file, or of the row in a Parquet file."""

    @abstractmethod
    def has(self, role: str) -> bool:
        """Whether there is a column of this role."""

    @abstractmethod
    def numbers(self, role: str) -> tuple[Vector, Mask]:
        """Give a column as numbers, NaN where missing, and where something is no number."""

    @abstractmethod
    def tails(self, role: str) -> tuple[Vector, Mask]:
        """Give a column of p-values as −log₁₀ p: +inf for 0, below 0 for p > 1, -inf for p < 0."""

    @abstractmethod
    def words(self, role: str) -> tuple[NDArray[np.uint8], Spans]:
        """Give a column as text: bytes, and where each row's word is in them."""


@dataclass(frozen=True, eq=False)
class TextFields(Fields):
    """Fields of a text table, where `tokenise` found them."""

    n: int
    first_line: int
    data: NDArray[np.uint8]
    spans: Mapping[str, Spans]

    def has(self, role: str) -> bool:
        """Whether there is a column of this role."""
        return role in self.spans

    def numbers(self, role: str) -> tuple[Vector, Mask]:
        """Parse a column of numbers."""
        return read_numbers(self.data, self.spans[role])

    def tails(self, role: str) -> tuple[Vector, Mask]:
        """Parse a column of p-values, of any size."""
        return read_tails(self.data, self.spans[role])

    def words(self, role: str) -> tuple[NDArray[np.uint8], Spans]:
        """Give the bytes of the block and the spans of the column."""
        return self.data, self.spans[role]


@dataclass(frozen=True, eq=False)
class ArrowFields(Fields):
    """Columns of a Parquet file."""

    n: int
    first_line: int
    columns: Mapping[str, pa.Array]

    def has(self, role: str) -> bool:
        """Whether there is a column of this role."""
        return role in self.columns

    def numbers(self, role: str) -> tuple[Vector, Mask]:
        """Give a column of numbers; one of text is parsed."""
        column = self.columns[role]
        if _is_text(column.type):
            return read_numbers(*self.words(role))
        if pa.types.is_null(column.type):
            return np.full(self.n, np.nan), np.zeros(self.n, bool)
        values = pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
        infinite = np.isinf(values)
        return np.where(infinite, np.nan, values), infinite

    def tails(self, role: str) -> tuple[Vector, Mask]:
        """Give p-values as −log₁₀ p; those below 1e-308 have to be text in a Parquet file, or −log₁₀ p."""
        if _is_text(self.columns[role].type):
            return read_tails(*self.words(role))
        values, wrong = self.numbers(role)
        with np.errstate(divide="ignore", invalid="ignore"):
            tails = np.where(values < 0, -np.inf, -np.log10(np.abs(values)))
        return tails + 0.0, wrong

    def words(self, role: str) -> tuple[NDArray[np.uint8], Spans]:
        """Give text as Arrow holds it; numbers are spelled."""
        column = self.columns[role]
        if pa.types.is_floating(column.type):
            column = pc.cast(column, pa.int64(), safe=False)
        column = pc.fill_null(pc.cast(column, pa.large_string()), "")
        if not self.n:
            return np.empty(0, np.uint8), np.empty((0, 2), np.int64)
        _, offsets, data = column.buffers()
        ends = np.frombuffer(offsets, np.int64)[column.offset : column.offset + self.n + 1]
        text = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
        return text, np.column_stack([ends[:-1], ends[1:]])


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
