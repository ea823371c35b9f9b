"""The variant table of a BGEN file, put together from parsed windows or records of an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.files.bgen_header import shown
from biolmm.files.bgen_walk import Field, Window, text_of
from biolmm.files.genotypes import Strings, VariantTable, as_strings

_ROWS = 1 << 16
"""Rows whose texts are decoded together."""
_TEXTS = ("id", "REF", "ALT")


@dataclass
class RowCollector:
    """Collects the rows of a variant table: one for each allele of a variant but the first.

    Texts are collected as bytes that end in a newline each, and decoded many at a time, which is several times faster than
    one by one. A text that is empty becomes `.`.
    """

    path: Path
    n_alts: list[NDArray[np.int64]] = field(default_factory=list)
    position: list[NDArray[np.int64]] = field(default_factory=list)
    contig: list[NDArray[np.int32]] = field(default_factory=list)
    contigs: dict[bytes, int] = field(default_factory=dict)
    _pending: tuple[list[bytes], list[bytes], list[bytes]] = field(default_factory=lambda: ([], [], []))
    _n_pending: int = 0
    _texts: list[tuple[Strings, Strings, Strings]] = field(default_factory=list)
    _n_done: int = 0

    def add_window(self, window: Window) -> None:
        """Add the variants of a window."""
        table = window.table
        if not len(table):
            return
        data = np.frombuffer(window.data, np.uint8)
        n_alts = table[:, Field.N_ALLELES] - 1
        of_row = np.repeat(np.arange(len(table)), n_alts)
        alleles = _alleles(data, table[:, Field.ALLELES], n_alts, len(of_row))
        names = np.where(
            (table[:, Field.ID_LENGTH] > 0)[:, None],
            table[:, [Field.ID, Field.ID_LENGTH]],
            table[:, [Field.OTHER_ID, Field.OTHER_ID_LENGTH]],
        )
        starts = np.flatnonzero(_starts(data, table[:, Field.CONTIG], table[:, Field.CONTIG_LENGTH]))
        codes = [self._code(text_of(window, int(row), Field.CONTIG)) for row in starts]
        contig = np.repeat(np.array(codes, np.int32), np.diff(starts, append=len(table)))
        texts = (names[of_row], alleles[:, :2], alleles[:, 2:])
        joined = tuple(_joined(data, places[:, 0], places[:, 1]).tobytes() for places in texts)
        self._add(n_alts, table[of_row, Field.POSITION], contig[of_row], joined)

    def add_records(
        self, position: NDArray[np.int64], contig: Sequence[bytes], texts: Sequence[Sequence[bytes]]
    ) -> None:
        """Add variants of two alleles; `texts` are the columns of ids, REF and ALT."""
        if not len(position):
            return
        for name in dict.fromkeys(contig):
            self._code(name)
        codes = np.array([self.contigs[name] for name in contig], np.int32)
        self._add(np.ones(len(position), np.int64), position, codes, tuple(map(_lines, texts)))

    def _code(self, contig: bytes) -> int:
        return self.contigs.setdefault(contig, len(self.contigs))

    def _add(
        self,
        n_alts: NDArray[np.int64],
        position: NDArray[np.int64],
        contig: NDArray[np.int32],
        texts: tuple[bytes, ...],
    ) -> None:
        self.n_alts.append(n_alts)
        self.position.append(position)
        self.contig.append(contig)
        for column, text in zip(self._pending, texts, strict=True):
            column.append(text)
        self._n_pending += len(position)
        if self._n_pending >= _ROWS:
            self._decode()

    def _decode(self) -> None:
        names, refs, alts = (
            self._strings(b"".join(column), what) for column, what in zip(self._pending, _TEXTS, strict=True)
        )
        self._texts.append((names, refs, alts))
        self._n_done += self._n_pending
        self._pending, self._n_pending = ([], [], []), 0

    def _strings(self, joined: bytes, what: str) -> Strings:
        try:
            whole = joined.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._not_text(self._n_done + joined.count(b"\n", 0, error.start), what) from None
        parts = whole[:-1].split("\n") if whole else []
        if not whole.replace("\n", "").isprintable() or len(parts) != self._n_pending:
            bad = next((i for i, part in enumerate(parts) if not part.isprintable()), 0)
            raise self._not_text(self._n_done + bad, what)
        return as_strings(parts)

    def _not_text(self, row: int, what: str) -> InputFileError:
        """Name the variant of a row."""
        known = [name.encode() for names, _, _ in self._texts for name in names.tolist()]
        name = shown([*known, *b"".join(self._pending[0]).split(b"\n")][row])
        last_row = np.cumsum(np.concatenate(self.n_alts))
        number = int(np.searchsorted(last_row, row, side="right")) + 1
        return InputFileError(
            f"{self.path}, variant {number:,} ({name}): its {what} is not text. The file is damaged: copy or make it again."
        )

    def table(self) -> tuple[VariantTable, NDArray[np.int64] | None]:
        """Put everything together; with the first row of each variant where some variant has several (n + 1).

        Raises
        ------
        InputFileError
            When an id, an allele or a chromosome is not text.
        """
        self._decode()
        contig = np.concatenate(self.contig)
        for name, code in self.contigs.items():
            if not _is_text(name):
                raise self._not_text(int(np.flatnonzero(contig == code)[0]), "chromosome")
        names, refs, alts = (np.concatenate(column) for column in zip(*self._texts, strict=True))
        variants = VariantTable(
            contig=contig,
            contig_id=tuple((name or b".").decode("utf-8") for name in self.contigs),
            position=np.concatenate(self.position),
            variant_id=names,
            ref=refs,
            alt=alts,
        )
        n_alts = np.concatenate(self.n_alts)
        return variants, np.concatenate([[0], np.cumsum(n_alts)]) if n_alts.max() > 1 else None


def _lines(texts: Sequence[bytes]) -> bytes:
    """End every text with a newline; one in a text becomes a byte that no text has."""
    joined = b"\n".join(texts) + b"\n"
    if joined.count(b"\n") == len(texts) and b"" not in texts:
        return joined
    return b"".join((text or b".").replace(b"\n", b"\0") + b"\n" for text in texts)


def _is_text(raw: bytes) -> bool:
    try:
        return raw.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return False


@numba.njit(nogil=True, cache=True)
def _alleles(data, at, n_alts, n_rows):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Locate REF and ALT of every row: (n_rows, 4) begin and length of each."""
    found, row = np.empty((n_rows, 4), np.int64), 0
    for i in range(len(at)):
        begin, ref, ref_length = at[i], np.int64(0), np.int64(0)
        for allele in range(n_alts[i] + 1):
            length = np.int64(0)
            for k in range(4):
                length |= np.int64(data[begin + k]) << 8 * k
            begin += 4
            if allele == 0:
                ref, ref_length = begin, length
            else:
                found[row, 0], found[row, 1], found[row, 2], found[row, 3] = ref, ref_length, begin, length
                row += 1
            begin += length
    return found


@numba.njit(nogil=True, cache=True)
def _starts(data, at, length):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Tell where a text differs from the one before."""
    found = np.ones(len(at), np.bool_)
    for i in range(1, len(at)):
        same = length[i] == length[i - 1]
        for k in range(length[i] if same else 0):
            same = same and data[at[i] + k] == data[at[i - 1] + k]
        found[i] = not same
    return found


@numba.njit(nogil=True, cache=True)
def _joined(data, at, length):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Do what `_lines` does to texts of a window, one after another."""
    n_bytes = np.int64(0)
    for i in range(len(at)):
        n_bytes += max(length[i], 1) + 1
    out, end = np.empty(n_bytes, np.uint8), 0
    for i in range(len(at)):
        if length[i] == 0:
            out[end] = 46
            end += 1
        for k in range(length[i]):
            byte = data[at[i] + k]
            out[end] = byte if byte != 10 else 0
            end += 1
        out[end] = 10
        end += 1
    return out
