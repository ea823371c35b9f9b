"""From the fields of a block to records: one row of numbers a variant, its alleles coded, its key made."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.sumstats.ingest.alleles import Alleles, allele_keys, are_valid, read_alleles
from biolmm.sumstats.ingest.effects import Statistics, read_statistics
from biolmm.sumstats.ingest.fields import Fields, Mask
from biolmm.sumstats.ingest.normalise import EFFECT_IS_REF, OTHER_IS_REF, UNKNOWN_SIDE, normalise
from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.ingest.other_alleles import OtherAlleles
from biolmm.sumstats.ingest.reference import Reference
from biolmm.sumstats.ingest.roles import Layout
from biolmm.sumstats.ingest.tokens import Spans, number_words, parse_rs_numbers, read_numbers, same_words, split_marker
from biolmm.sumstats.ingest.verdicts import Ranges
from biolmm.sumstats.places import Contigs, make_places
from biolmm.sumstats.status import Status

VALUES = ("beta", "se", "eaf", "info", "n", "neg_log10_p")
"""Numbers of a record, in the order in which they are stored."""

ADDITIVE_TESTS = ("ADD", "ADD-CONDTL", "ADD-WGR-LR", "ADD-WGR-FIRTH", "ADD-WGR-SPA")
"""Names of the test of a variant's additive main effect: PLINK's and regenie's; not of interactions or of sets."""

_MAX_CONTIGS = 30_000
_MAX_POSITION = 1 << 38


def row_type(exact: bool) -> np.dtype[np.void]:
    """Give the type of a record's row; numbers in single precision unless `exact`."""
    number = "<f8" if exact else "<f4"
    return np.dtype(
        [("place", "<u8"), ("key", "<u8"), ("line", "<i8"), ("rsid", "<i8"), ("heap", "<i8"), ("lengths", "<i4", (2,)),
         ("values", number, (len(VALUES),)), ("status", "<u2"), ("codes", "<i1", (2,)), ("way", "<i1"), ("side", "<i1")],
        align=True,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Records:
    """Records of a study in no order: rows of `row_type`, and the bytes of their long alleles.

    `codes` and `lengths` are of the effect allele and the other allele; a row's `heap` is where its long alleles begin.
    `way` is that of (other, effect) as (REF, ALT); `side` says which really is REF.
    """

    rows: NDArray[np.void]
    heap: NDArray[np.uint8]

    def __len__(self) -> int:
        """Count the records."""
        return len(self.rows)

    def alleles(self) -> Alleles:
        """Give the alleles, effect allele first."""
        return alleles_of(self.rows, self.heap)


def alleles_of(rows: NDArray[np.void], heap: NDArray[np.uint8]) -> Alleles:
    """Give the alleles of rows whose long alleles are in `heap`."""
    spans = np.zeros((len(rows), 2, 2), np.int64)
    lengths = rows["lengths"].astype(np.int64)
    spans[:, 0, 0] = rows["heap"]
    spans[:, 0, 1] = spans[:, 1, 0] = rows["heap"] + lengths[:, 0]
    spans[:, 1, 1] = spans[:, 1, 0] + lengths[:, 1]
    return Alleles(rows["codes"], spans, heap)


@dataclass
class Reader:
    """Makes records of one study's blocks, and counts what has no place in the store."""

    study: StudyInput
    rules: Rules
    layout: Layout
    contigs: Contigs
    place_of_id: tuple[NDArray[np.int64], NDArray[np.uint64]] | None = None
    """Identifiers of the catalogue, sorted, and their places: for files without positions."""

    ranges: Ranges = field(default_factory=Ranges)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Open the reference, and the table of alleles."""
        self.other_alleles = None if self.study.bim is None else OtherAlleles(self.study.bim)
        self.reference = None if self.rules.reference is None else Reference(self.rules.reference)

    def read(self, fields: Fields) -> Records:
        """Make the records of a block."""
        self.counts["records"] += fields.n
        statistics = read_statistics(fields, self.ranges, n_given=self.study.n, exact=self.rules.exact,
                                     effects_from_z=self.rules.effects_from_z)  # fmt: skip
        additive = self.additive(fields)
        rsid = np.zeros(fields.n, np.int64)
        if fields.has("rsid"):
            parse_rs_numbers(*fields.words("rsid"), rsid)
        place = self.places(fields, rsid)
        alleles, side = self.alleles(fields)
        lines = fields.first_line + np.arange(fields.n, dtype=np.int64)
        good = self._count_out(additive, "other_test", np.ones(fields.n, bool))
        good = self._count_out(place > 0, "no_place" if fields.has("position") else "unknown_id", good)
        good = self._count_out(are_valid(alleles), "bad_alleles", good)
        chosen = np.flatnonzero(good)
        place, alleles, side, status = place[chosen], alleles.take(chosen), side[chosen], statistics.status[chosen]
        if self.reference is not None:
            found = normalise(self.reference, self.contigs, place, alleles, side)
            self.counts["not_in_reference"] += int((~found.is_there).sum())
            kept = np.flatnonzero(found.is_there)
            chosen, status = chosen[kept], (status | found.status)[kept]
            place, alleles, side = found.place[kept], found.alleles.take(kept), found.side[kept]
        return self._rows(statistics, chosen, place, alleles, side, status, rsid, lines)

    def _rows(self, statistics: Statistics, chosen: NDArray[np.int64], place: NDArray[np.uint64], alleles: Alleles,
              side: NDArray[np.int8], status: NDArray[np.uint16], rsid: NDArray[np.int64],
              lines: NDArray[np.int64]) -> Records:  # fmt: skip
        rows = np.zeros(len(chosen), row_type(self.rules.exact))
        keys, ways = allele_keys(alleles)
        if self.rules.alleles == "metal":
            side = np.zeros_like(side)
        rows["place"], rows["key"], rows["line"], rows["rsid"] = place, keys, lines[chosen], rsid[chosen]
        rows["heap"], rows["codes"] = alleles.spans[:, 0, 0], alleles.codes  # `take` left them one behind the other
        rows["lengths"] = alleles.spans[:, :, 1] - alleles.spans[:, :, 0]
        for at, name in enumerate(VALUES):
            rows["values"][:, at] = getattr(statistics, name)[chosen]
        palindromic = (keys == 2) | (keys == 3)
        rows["status"] = status | np.where(palindromic, Status.PALINDROMIC.value, 0).astype(np.uint16)
        rows["way"], rows["side"] = np.where(ways > 0, 3 - ways, 0), side
        return Records(rows, alleles.heap)

    def _count_out(self, passes: Mask, reason: str, good: Mask) -> Mask:
        n = int(np.count_nonzero(good & ~passes))
        if n:
            self.counts[reason] += n
        return good & passes

    def additive(self, fields: Fields) -> Mask:
        """Find the lines of the additive test; all, where there is no such column."""
        if not fields.has("test"):
            return np.ones(fields.n, bool)
        codes, names = _numbered(fields, "test", str(self.study.path))
        for name in names:
            self.ranges.tests[name] = self.ranges.tests.get(name, 0) + 1
        return np.isin(codes, [i for i, name in enumerate(names) if name.upper() in ADDITIVE_TESTS])

    def places(self, fields: Fields, rsid: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Give the place of each record; 0 where it has none."""
        if not fields.has("position"):
            return self._places_of_markers(fields, rsid)
        positions = _positions(fields.numbers("position")[0])
        if fields.has("contig"):
            codes, names = _numbered(fields, "contig", str(self.study.path))
        else:
            codes, names = self._marker_contigs(fields)[:2]
        return self._joined(codes, names, positions)

    def _joined(self, codes: NDArray[np.int32], names: list[str], positions: NDArray[np.int64]) -> NDArray[np.uint64]:
        ranks = np.array([self.contigs.rank(name) for name in names] or [0], np.int64)[codes]
        return np.where((ranks > 0) & (positions > 0), make_places(ranks, positions), np.uint64(0))

    def _marker_contigs(self, fields: Fields) -> tuple[NDArray[np.int32], list[str], NDArray[np.int64]]:
        """Cut markers such as chr1:123:A:G into contigs and positions."""
        data, spans = fields.words("rsid")
        parts = np.empty((4, fields.n, 2), np.int64)
        split_marker(data, spans, parts)
        positions = _positions(read_numbers(data, parts[1])[0])
        parts[0][positions == 0] = 0  # an identifier, whose words would all be different contigs
        codes, names = _number_words(data, parts[0], str(self.study.path))
        return codes, names, positions

    def _places_of_markers(self, fields: Fields, rsid: NDArray[np.int64]) -> NDArray[np.uint64]:
        places = self._joined(*self._marker_contigs(fields))
        if self.place_of_id is None or not len(self.place_of_id[0]):
            if fields.n and not places.any():
                raise InputFileError(
                    f"{self.study.path} has identifiers but no positions, and no study with positions is in the store: "
                    "add one first, or name the columns: --map COLUMN=contig, --map COLUMN=position."
                )
            return places
        ids, known = self.place_of_id
        at = np.minimum(np.searchsorted(ids, rsid), len(ids) - 1)
        return np.where((places == 0) & (rsid > 0) & (ids[at] == rsid), known[at], places)

    def alleles(self, fields: Fields) -> tuple[Alleles, NDArray[np.int8]]:
        """Read effect and other allele, and which is REF if the file says so."""
        data, effect = fields.words("effect_allele")
        side = np.full(fields.n, OTHER_IS_REF if self.layout.declares_ref else UNKNOWN_SIDE, np.int8)
        if fields.has("other_allele"):
            other_data, other = fields.words("other_allele")
        elif not fields.has("ref_allele"):
            assert self.other_alleles is not None
            other_data, other = self.other_alleles.find(fields)
        else:
            other_data, other, is_ref = self._not_the_effect_allele(fields)
            side[is_ref] = EFFECT_IS_REF
        if fields.has("ref_allele") and fields.has("other_allele"):
            side = self._declared_side(fields, side)
        if other_data is not data:
            other = other + len(data)
            data = np.concatenate([data, other_data])
        return read_alleles(data, effect, other), side

    def _not_the_effect_allele(self, fields: Fields) -> tuple[NDArray[np.uint8], Spans, Mask]:
        """Of REF and ALT take that which the effect allele is not."""
        data, ref = fields.words("ref_allele")
        alt_data, alt = fields.words("alt_allele")
        is_ref = _same_words(data, ref, *fields.words("effect_allele"))
        if alt_data is not data:
            alt = alt + len(data)
            data = np.concatenate([data, alt_data])
        return data, np.where(is_ref[:, None], alt, ref), is_ref

    def _declared_side(self, fields: Fields, side: NDArray[np.int8]) -> NDArray[np.int8]:
        """Read GWAS-SSF's EA and OA, or compare REF with both alleles."""
        codes, names = _numbered(fields, "ref_allele", str(self.study.path), limit=64)
        if names and all(name.upper() in ("EA", "OA", "NR", "#NA", "NA", "") for name in names):
            sides = {"EA": EFFECT_IS_REF, "OA": OTHER_IS_REF}
            return np.array([sides.get(name.upper(), UNKNOWN_SIDE) for name in names], np.int8)[codes]
        ref = fields.words("ref_allele")
        side = np.where(_same_words(*ref, *fields.words("other_allele")), OTHER_IS_REF, UNKNOWN_SIDE)
        return np.where(_same_words(*ref, *fields.words("effect_allele")), EFFECT_IS_REF, side).astype(np.int8)


def _positions(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give whole positive numbers; 0 for anything else."""
    with np.errstate(invalid="ignore"):
        good = (values >= 1) & (values < _MAX_POSITION) & (values == np.floor(values))
    return np.where(good, values, 0).astype(np.int64)


def _numbered(fields: Fields, role: str, source: str, limit: int = _MAX_CONTIGS) -> tuple[NDArray[np.int32], list[str]]:
    return _number_words(*fields.words(role), source, limit)


def _number_words(data: NDArray[np.uint8], spans: Spans, source: str,
                  limit: int = _MAX_CONTIGS) -> tuple[NDArray[np.int32], list[str]]:  # fmt: skip
    codes, words = np.empty(len(spans), np.int32), np.empty((limit, 2), np.int64)
    n = number_words(data, spans, codes, words)
    if n < 0:
        if limit < _MAX_CONTIGS:
            return codes, ["?"]
        raise InputFileError(f"{source}: the column of contigs has more than {limit:,} names; is it the contig's? "
                             "Say which column is: --map COLUMN=contig.")  # fmt: skip
    return codes, [data[a:b].tobytes().decode("utf-8", "replace") for a, b in words[:n]]


def _same_words(data: NDArray[np.uint8], spans: Spans, other: NDArray[np.uint8], others: Spans) -> Mask:
    out = np.empty(len(spans), np.bool_)
    same_words(data, spans, other, others, out)
    return out
