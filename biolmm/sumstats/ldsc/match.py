"""Records beside the variants of LD scores: by identifier, or by place and alleles where that finds more."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from biolmm.files.ldscore_files import LdScoreTable
from biolmm.sumstats.ingest.alleles import allele_keys, read_alleles
from biolmm.sumstats.ingest.fields import ArrowFields
from biolmm.sumstats.ingest.tokens import Spans, parse_rs_numbers
from biolmm.sumstats.places import Contigs, Places, make_places

MatchBy = Literal["auto", "id", "position"]
MATCH_BY: tuple[MatchBy, ...] = ("auto", "id", "position")

Rows = NDArray[np.int64]
NOWHERE = -1


@dataclass(frozen=True, eq=False)
class Wanted:
    """Variants to find.

    Attributes
    ----------
    snp
        (m,) their identifiers, unique.
    place
        (m,) their places, where they are known.
    key
        (m,) keys of their alleles (`allele_keys`), where they are known.
    contigs
        Ranks of contigs, which places are made of.
    """

    snp: pa.Array
    place: Places | None = None
    key: NDArray[np.uint64] | None = None
    contigs: Contigs = field(default_factory=Contigs)

    @classmethod
    def of(cls, ld: LdScoreTable | pa.Array) -> Wanted:
        """Take the variants of LD scores, or identifiers alone."""
        if not isinstance(ld, LdScoreTable):
            return cls(ld)
        contigs, named = Contigs(), ld.chromosome.dictionary_encode()
        ranks = np.array([contigs.rank(str(name)) for name in named.dictionary.to_pylist()] or [0], np.int64)
        place = make_places(ranks[named.indices.to_numpy(zero_copy_only=False)], ld.position)
        if ld.alleles is None:
            return cls(ld.snp, place, None, contigs)
        (data, first), (more, second) = (words_of(column) for column in ld.alleles)
        alleles = read_alleles(np.concatenate([data, more]), first, second + len(data))
        return cls(ld.snp, place, allele_keys(alleles)[0], contigs)

    def find_ids(self, ids: pa.Array) -> Rows:
        """Find identifiers: row of each, −1 where there is none."""
        at = pc.index_in(ids, value_set=self.snp.cast(ids.type))
        return np.asarray(pc.fill_null(at, NOWHERE).to_numpy(zero_copy_only=False), np.int64)

    def find_rs_numbers(self, numbers: NDArray[np.int64]) -> Rows:
        """Find numbers of rs identifiers; 0 is none."""
        known, rows = self._rs_numbers
        if not len(known):
            return np.full(len(numbers), NOWHERE, np.int64)
        at = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
        return np.where((numbers > 0) & (known[at] == numbers), rows[at], NOWHERE)

    def find_places(self, place: Places, key: NDArray[np.uint64]) -> Rows:
        """Find places with the same alleles, on either strand; without known alleles, those that hold one variant only.

        Examples
        --------
        >>> wanted = Wanted(pa.array(["a", "b"]), np.array([7, 7], np.uint64), np.array([1, 0], np.uint64))
        >>> wanted.find_places(np.array([7, 7, 8], np.uint64), np.array([0, 3, 0], np.uint64)).tolist()
        [1, -1, -1]
        """
        out = np.full(len(place), NOWHERE, np.int64)
        if self.place is None or not len(self.place):
            return out
        order, known, longest = self._sorted_places
        first = np.searchsorted(known, place)
        if self.key is None:
            at = np.minimum(first, len(known) - 1)
            alone = np.searchsorted(known, place, side="right") == first + 1
            return np.where((place > 0) & alone, order[at], out)
        for step in range(longest):
            at = np.minimum(first + step, len(known) - 1)
            same = (place > 0) & (known[at] == place) & (self.key[order[at]] == key)
            out = np.where(same & (out == NOWHERE), order[at], out)
        return out

    @cached_property
    def _rs_numbers(self) -> tuple[NDArray[np.int64], Rows]:
        numbers = np.zeros(len(self.snp), np.int64)
        parse_rs_numbers(*words_of(self.snp), numbers)
        rows = np.flatnonzero(numbers > 0)
        rows = rows[np.argsort(numbers[rows], kind="stable")]
        return numbers[rows], rows

    @cached_property
    def _sorted_places(self) -> tuple[Rows, Places, int]:
        assert self.place is not None
        order = np.argsort(self.place, kind="stable")
        known = self.place[order]
        return order, known, int(np.unique(known, return_counts=True)[1].max())


def words_of(column: pa.Array) -> tuple[NDArray[np.uint8], Spans]:
    """Give text as bytes, and where each word is in them."""
    return ArrowFields(len(column), 1, {"word": column}).words("word")


def choose_rows(by_id: Rows, by_place: Rows, wanted: Wanted, match_by: MatchBy) -> Rows:
    """Choose how records are found: as asked, or by what finds more; identifiers where that is equal.

    Places of the wrong build find next to nothing, and so do identifiers that are no rs numbers: the larger one is right.
    Without known alleles, a variant that several records claim is none of them.
    """
    if match_by == "auto":
        match_by = "id" if np.count_nonzero(by_id >= 0) >= np.count_nonzero(by_place >= 0) else "position"
    if match_by == "id":
        return by_id
    if wanted.key is None and (by_place >= 0).any():
        claims = np.bincount(by_place[by_place >= 0], minlength=len(wanted.snp))
        return np.where((by_place >= 0) & (claims[by_place] == 1), by_place, NOWHERE)
    return by_place
