"""The reference genome from an uncompressed FASTA file, mapped into memory, and alleles normalised against it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.contigs import normalise_contigs
from biolmm.errors import InputFileError
from biolmm.files.lines import file_start
from biolmm.sumstats.ingest.alleles import LONG, Alleles

_SCAN_BYTES = 1 << 24


@dataclass(frozen=True)
class _Contig:
    """A row of a .fai index: bases, first byte, bases of a line, bytes of a line."""

    n_bases: int
    offset: int
    line_bases: int
    line_bytes: int


@dataclass(frozen=True)
class Reference:
    """A FASTA file; bases are read where they are needed."""

    path: Path

    @cached_property
    def contigs(self) -> dict[str, _Contig]:
        """Contigs by their normalised names, from the .fai file beside the FASTA file, or by reading it once.

        Raises
        ------
        InputFileError
            When the file is missing, compressed, no FASTA file, or does not fit its index.
        """
        start = file_start(self.path)
        if start[:2] == b"\x1f\x8b":
            raise InputFileError(f"{self.path} is compressed: decompress it (gunzip -k) and give the .fa file.")
        if start[:1] != b">":
            raise InputFileError(f"{self.path} is no FASTA file: its first character is not '>'.")
        index = self.path.with_name(self.path.name + ".fai")
        found = self._read_index(index) if index.exists() else self._scan()
        names = normalise_contigs(list(found))
        size = self.path.stat().st_size
        for contig, row in found.items():
            lines = -(-row.n_bases // max(row.line_bases, 1))
            if row.line_bytes <= row.line_bases or row.offset + row.n_bases + (lines - 1) > size:
                raise InputFileError(f"{index} does not fit {self.path}: contig {contig} would end behind the file's end. "
                                     "Make the index again (samtools faidx).")  # fmt: skip
        return dict(zip(names, found.values(), strict=True))

    @cached_property
    def data(self) -> NDArray[np.uint8]:
        """The file's bytes, mapped."""
        return np.memmap(self.path, np.uint8, mode="r")

    def bases(self, contig: str, position: int, n: int) -> str:
        """Spell n bases from a 1-based position."""
        row = self.contigs[contig]
        shape = np.array([row.offset, row.n_bases, row.line_bases, row.line_bytes], np.int64)
        return "".join(chr(base_at(self.data, shape, position + k)) for k in range(n))

    def normalise(self, contig: str, position: NDArray[np.int64], alleles: Alleles) -> Normalised:
        """Find REF, turn strands, and left-align, for records of one contig (effect allele first in `alleles`).

        An allele is REF when the reference has it at the position; single bases are complemented when neither is. Where
        both are (a deletion and an insertion may both fit) `ref_known` is False. Common ends are trimmed and indels
        shifted to the left (Tan, Abecasis and Kang 2015).
        """
        row = self.contigs.get(contig)
        out = Normalised.empty(len(alleles))
        if row is None:
            out.is_there[:] = False
            return out
        shape = np.array([row.offset, row.n_bases, row.line_bases, row.line_bytes], np.int64)
        is_sequence = np.zeros((len(alleles), 2), np.bool_)
        _normalise(self.data, shape, position, alleles.codes, alleles.spans, alleles.heap, is_sequence,
                   out.is_there, out.complemented, out.effect_is_ref, out.ref_known, out.shift, out.trim)  # fmt: skip
        return out

    def _read_index(self, index: Path) -> dict[str, _Contig]:
        found = {}
        for number, line in enumerate(index.read_text(encoding="utf-8").splitlines(), 1):
            parts = line.split("\t")
            try:
                found[parts[0]] = _Contig(*(int(text) for text in parts[1:5]))
            except (ValueError, TypeError):
                raise InputFileError(f"{index}, line {number:,}: is no line of a FASTA index: {line[:40]!r}.") from None
        return found

    def _scan(self) -> dict[str, _Contig]:
        """Make the index by reading the file once; all lines of a contig but the last have to be equally long."""
        found: dict[str, _Contig] = {}
        name, offset, bases, line_bases, line_bytes, ended = "", 0, 0, 0, 0, False
        at = 0
        with self.path.open("rb") as file:
            for line in file:
                if line.startswith(b">"):
                    if name:
                        found[name] = _Contig(bases, offset, line_bases, line_bytes)
                    words = line[1:].split()
                    name = words[0].decode("ascii", "replace") if words else ""
                    if not name or name in found:
                        raise InputFileError(f"{self.path}: a contig has no name or that of another: {line[:40]!r}.")
                    offset, bases, line_bases, line_bytes, ended = at + len(line), 0, 0, 0, False
                elif length := len(line.strip()):
                    if ended or (line_bases and length > line_bases):
                        raise InputFileError(f"{self.path}: lines of contig {name} have different lengths; wrap them "
                                             "all at one length (samtools faidx).")  # fmt: skip
                    if not line_bases:
                        line_bases, line_bytes = length, max(len(line), length + 1)
                    ended = length < line_bases
                    bases += length
                at += len(line)
        found[name] = _Contig(bases, offset, line_bases, line_bytes)
        return found


@dataclass(frozen=True, eq=False)
class Normalised:
    """What the reference says of n records.

    Attributes
    ----------
    is_there
        Whether an allele is that of the reference.
    complemented
        Alleles of one base are of the other strand.
    effect_is_ref
        The effect allele is REF.
    ref_known
        Which allele is REF is certain.
    shift
        Bases that the record moves to the left before it is trimmed (so many are put in front of both alleles).
    trim
        (n, 2): bases cut off both alleles in front and behind, after that.
    """

    is_there: NDArray[np.bool_]
    complemented: NDArray[np.bool_]
    effect_is_ref: NDArray[np.bool_]
    ref_known: NDArray[np.bool_]
    shift: NDArray[np.int64]
    trim: NDArray[np.int64]

    @classmethod
    def empty(cls, n: int) -> Normalised:
        """Make room for n records."""
        return cls(np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, bool),
                   np.zeros(n, np.int64), np.zeros((n, 2), np.int64))  # fmt: skip


@numba.njit(nogil=True, cache=True)
def base_at(data, shape, position):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Read the base at a 1-based position, in capitals; 0 outside the contig."""
    if position < 1 or position > shape[1]:
        return np.uint8(0)
    at = position - 1
    return data[shape[0] + at // shape[2] * shape[3] + at % shape[2]] & np.uint8(223)


@numba.njit(nogil=True, cache=True)
def _letter(codes, spans, heap, i, side, k):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Give the k-th base of an allele."""
    bases = (65, 67, 71, 84)
    if codes[i, side] < LONG:
        return np.uint8(bases[codes[i, side]])
    return heap[spans[i, side, 0] + k]


@numba.njit(nogil=True, cache=True)
def _matches(data, shape, position, codes, spans, heap, i, side):  # type: ignore[no-untyped-def]  # pragma: no cover
    length = 1 if codes[i, side] < LONG else spans[i, side, 1] - spans[i, side, 0]
    for k in range(length):  # noqa: SIM110
        if _letter(codes, spans, heap, i, side, k) != base_at(data, shape, position + k):
            return False
    return True


@numba.njit(nogil=True, cache=True)
def _normalise(  # type: ignore[no-untyped-def]  # pragma: no cover
    data, shape, position, codes, spans, heap, is_sequence, is_there, complemented, effect_is_ref, ref_known,
    shift, trim
):  # fmt: skip
    complements = (84, 71, 67, 65)
    for i in range(len(codes)):
        a, b = codes[i, 0], codes[i, 1]
        if a < LONG and b < LONG:
            base = base_at(data, shape, position[i])
            effect, other = _letter(codes, spans, heap, i, 0, 0), _letter(codes, spans, heap, i, 1, 0)
            if base in (other, effect):
                effect_is_ref[i] = base == effect
            elif base in (complements[a], complements[b]):
                complemented[i] = True
                effect_is_ref[i] = base == complements[a]
            else:
                continue
            is_there[i] = ref_known[i] = True
            continue
        for side in range(2):
            is_sequence[i, side] = codes[i, side] < LONG or heap[spans[i, side, 0]] != 60
        other_fits = is_sequence[i, 1] and _matches(data, shape, position[i], codes, spans, heap, i, 1)
        effect_fits = is_sequence[i, 0] and _matches(data, shape, position[i], codes, spans, heap, i, 0)
        if not other_fits and not effect_fits:
            continue
        is_there[i] = True
        ref_known[i] = other_fits != effect_fits
        effect_is_ref[i] = not other_fits
        if not (is_sequence[i, 0] and is_sequence[i, 1]):
            continue
        # behind: while the last bases are equal, drop them; where an allele would be empty, take one more in front
        lengths = [1 if codes[i, s] < LONG else spans[i, s, 1] - spans[i, s, 0] for s in range(2)]
        front = cut = 0
        while True:
            left_0, left_1 = lengths[0] + front - cut, lengths[1] + front - cut
            if left_0 <= 1 and left_1 <= 1:
                break
            if left_0 == 1 or left_1 == 1:
                if position[i] - front <= 1 or not _ends_alike(
                    data, shape, position[i], codes, spans, heap, i, lengths, front, cut
                ):
                    break
                front += 1
                cut += 1
                continue
            if not _ends_alike(data, shape, position[i], codes, spans, heap, i, lengths, front, cut):
                break
            cut += 1
        ahead = 0
        while lengths[0] + front - cut - ahead > 1 and lengths[1] + front - cut - ahead > 1:
            if _extended(data, shape, position[i], codes, spans, heap, i, 0, ahead - front) != _extended(
                data, shape, position[i], codes, spans, heap, i, 1, ahead - front
            ):
                break
            ahead += 1
        shift[i], trim[i, 0], trim[i, 1] = front, ahead, cut


@numba.njit(nogil=True, cache=True)
def _extended(data, shape, position, codes, spans, heap, i, side, k):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Give a base of an allele, of the reference in front of it for k < 0."""
    if k < 0:
        return base_at(data, shape, position + k)
    return _letter(codes, spans, heap, i, side, k)


@numba.njit(nogil=True, cache=True)
def _ends_alike(data, shape, position, codes, spans, heap, i, lengths, front, cut):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether both alleles, with `front` bases more and `cut` less, end with the same base."""
    one = _extended(data, shape, position, codes, spans, heap, i, 0, lengths[0] - cut - 1)
    other = _extended(data, shape, position, codes, spans, heap, i, 1, lengths[1] - cut - 1)
    return one == other
