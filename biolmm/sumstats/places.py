"""Places on the genome as one number each, in genome order: rank of the contig × 2⁴⁰ + position."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from biolmm.contigs import is_autosome, normalise_contigs
from biolmm.errors import InputFileError

POSITION_BITS = 40
_LETTERS = ("X", "XY", "Y", "MT")
_FIRST_LETTER = 40_000
_FIRST_OTHER = 40_010
_LAST = 65_535

Places = NDArray[np.uint64]


@dataclass
class Contigs:
    """Ranks of contigs: numbers, then X, XY, Y, MT, then others in the order in which a store met them.

    Safe to use from several threads.

    Attributes
    ----------
    others
        Names without number or letter, in order.

    Examples
    --------
    >>> contigs = Contigs()
    >>> [contigs.rank(name) for name in ("chr2", "X", "23", "HLA-A", "HLA-B", "HLA-A")]
    [2, 40000, 40000, 40010, 40011, 40010]
    >>> contigs.name(40011)
    'HLA-B'
    """

    others: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def rank(self, name: str) -> int:
        """Give the rank of a contig by any of its spellings; 0 for none (empty, `.`, NA, 0).

        Raises
        ------
        InputFileError
            When there are more names than contigs can be.
        """
        if not name or name in (".", "NA", "0", "nan"):
            return 0
        plain = normalise_contigs([name])[0]
        if is_autosome(plain) and int(plain) < _FIRST_LETTER:
            return int(plain)
        if plain in _LETTERS:
            return _FIRST_LETTER + _LETTERS.index(plain)
        with self._lock:
            if plain not in self.others:
                if _FIRST_OTHER + len(self.others) >= _LAST:
                    raise InputFileError(f"There are more than {len(self.others):,} contig names, the last {name!r}: "
                                         "is that column the contig?")  # fmt: skip
                self.others.append(plain)
            return _FIRST_OTHER + self.others.index(plain)

    def name(self, rank: int) -> str:
        """Give the name of a rank."""
        if rank < _FIRST_LETTER:
            return str(rank)
        if rank < _FIRST_OTHER:
            return _LETTERS[rank - _FIRST_LETTER]
        return self.others[rank - _FIRST_OTHER]


def make_places(ranks: NDArray[np.integer], positions: NDArray[np.integer]) -> Places:
    """Join ranks and positions.

    Examples
    --------
    >>> place = make_places(np.array([3]), np.array([77]))
    >>> rank_of(place).tolist(), position_of(place).tolist()
    ([3], [77])
    """
    return (ranks.astype(np.uint64) << np.uint64(POSITION_BITS)) | positions.astype(np.uint64)


def rank_of(places: Places) -> NDArray[np.int64]:
    """Give the contig's rank of each place."""
    return (places >> np.uint64(POSITION_BITS)).astype(np.int64)


def position_of(places: Places) -> NDArray[np.int64]:
    """Give the position of each place."""
    return (places & np.uint64((1 << POSITION_BITS) - 1)).astype(np.int64)
