"""Merging sorted records of studies into a sorted catalogue, one stretch of the genome at a time.

A record and a variant meet by place and key (`ingest/alleles.py`). Indels have two keys' worth of variants, one each way
round; a record that does not know which allele is REF takes the one that is there, and where no study has known it so
far, a record that does turns the variant round. New variants are spelled as the first
study, in the order of the studies, has them. Then each study's records are turned to the catalogue's alleles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.sumstats.ingest.alleles import Alleles, allele_keys, join_alleles
from biolmm.sumstats.ingest.normalise import EFFECT_IS_REF, UNKNOWN_SIDE
from biolmm.sumstats.ingest.options import Rules
from biolmm.sumstats.ingest.records import Records
from biolmm.sumstats.matrix.kept import ALLELES_TURNED
from biolmm.sumstats.status import Status

_SWAPPED, _COMPLEMENTED, _PRESENT = (int(bit) for bit in (Status.SWAPPED, Status.COMPLEMENTED, Status.PRESENT))
_PALINDROMIC, _BY_FREQUENCY, _BAD_STRAND = (
    int(bit) for bit in (Status.PALINDROMIC, Status.STRAND_BY_FREQUENCY, Status.BAD_STRAND)
)
_DUPLICATED = int(Status.DUPLICATED)
_REF_KNOWN = np.uint16(Status.REF_KNOWN.value)
_ROUNDING = 1e-6
"""Frequencies are in single precision; f and 1 − f have to fall into the grey zone together."""

_MODES = {"frequency": 0, "drop": 1, "trust": 2}


@dataclass(frozen=True, eq=False)
class Variants:
    """Variants of a stretch, sorted by place, key and way.

    `old` is the row that each had before, −1 for new ones; `turned` says what becomes of the cells there (`kept.py`).
    """

    place: NDArray[np.uint64]
    key: NDArray[np.uint64]
    way: NDArray[np.int8]
    alleles: Alleles
    rsid: NDArray[np.int64]
    eaf: NDArray[np.float32]
    old: NDArray[np.int64]
    turned: NDArray[np.int8]

    def __len__(self) -> int:
        """Count the variants."""
        return len(self.place)

    @classmethod
    def of(cls, place: NDArray[np.uint64], alleles: Alleles, rsid: NDArray[np.int64], eaf: NDArray[np.float32],
           old: NDArray[np.int64], turned: NDArray[np.int8] | None = None) -> Variants:  # fmt: skip
        """Make keys of variants that are sorted already."""
        key, way = allele_keys(alleles)
        return cls(place, key, way, alleles, rsid, eaf, old, np.zeros(len(old), np.int8) if turned is None else turned)

    @classmethod
    def none(cls) -> Variants:
        """Give no variants."""
        alleles = Alleles(np.empty((0, 2), np.int8), np.empty((0, 2, 2), np.int64), np.empty(0, np.uint8))
        return cls.of(
            np.empty(0, np.uint64), alleles, np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64)
        )

    def take(self, rows: NDArray[np.int64]) -> Variants:
        """Choose variants."""
        return Variants(self.place[rows], self.key[rows], self.way[rows], self.alleles.take(rows), self.rsid[rows],
                        self.eaf[rows], self.old[rows], self.turned[rows])  # fmt: skip


def join_variants(parts: Sequence[Variants]) -> Variants:
    """Put stretches one behind the other."""
    if len(parts) == 1:
        return parts[0]

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    return Variants(joined("place"), joined("key"), joined("way"), join_alleles([part.alleles for part in parts]),
                    joined("rsid"), joined("eaf"), joined("old"), joined("turned"))  # fmt: skip


@dataclass(frozen=True, eq=False)
class Cells:
    """One study's cells of a stretch: rows within it, ascending, and their numbers for ALT."""

    row: NDArray[np.int64]
    values: NDArray[np.floating]
    status: NDArray[np.uint16]


def merge_stretch(
    old: Variants,
    studies: Sequence[Records],
    rules: Rules,
    know_ref: Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None = None,
) -> tuple[Variants, list[Cells], list[Counter[str]]]:
    """Extend a catalogue's stretch by what the studies bring, and turn their records to its alleles.

    Parameters
    ----------
    old
        The catalogue's variants of the stretch.
    studies
        Each study's records of the same stretch, sorted.
    rules
        The store's rules.
    know_ref
        Says of the catalogue's variants, by their rows, whether a study of the store knows which allele is REF.

    Returns
    -------
    The new variants of the stretch, each study's cells, and counts: records without a cell, `known_variants` that were in
    the catalogue or in a study before, and `other_alleles`, records at a known place with alleles that are not.
    """
    variants = old if know_ref is None else _turned_round(old, studies, know_ref)
    counts: list[Counter[str]] = [Counter() for _ in studies]
    for is_sure in (True, False):  # what knows its REF comes first, whichever study has it
        for records, counted in zip(studies, counts, strict=True):
            variants = _extended(variants, records, is_sure, counted, longer_is_ref=rules.reference is not None)
    rsid, eaf = variants.rsid.copy(), variants.eaf.copy()
    cells = [
        _turned(variants, records, rules, rsid, eaf, counted) for records, counted in zip(studies, counts, strict=True)
    ]
    found = replace(variants, rsid=rsid, eaf=eaf)
    return found, cells, counts


def _turned_round(
    variants: Variants, studies: Sequence[Records], know_ref: Callable[[NDArray[np.int64]], NDArray[np.bool_]]
) -> Variants:
    """Exchange REF and ALT of indels that records which know REF have the other way round, and that no study knew before."""
    wanted, right = np.zeros(len(variants), np.bool_), np.zeros(len(variants), np.bool_)
    for records in studies:
        rows = records.rows[(records.rows["way"] != 0) & (records.rows["side"] != UNKNOWN_SIDE)]
        if not len(rows) or not len(variants):
            continue
        way = _wanted_way(rows)
        at, across = _match(variants, rows, way), _match(variants, rows, (3 - way).astype(np.int8))
        right[at[at >= 0]] = True
        wanted[across[(across >= 0) & (at < 0)]] = True
    chosen = np.flatnonzero(wanted & ~right)
    chosen = chosen[~know_ref(variants.old[chosen])] if len(chosen) else chosen
    if not len(chosen):
        return variants
    codes, spans, way = variants.alleles.codes.copy(), variants.alleles.spans.copy(), variants.way.copy()
    eaf, turned = variants.eaf.copy(), variants.turned.copy()
    codes[chosen], spans[chosen] = codes[chosen, ::-1], spans[chosen, ::-1]
    way[chosen], eaf[chosen], turned[chosen] = 3 - way[chosen], 1 - eaf[chosen], ALLELES_TURNED
    alleles = Alleles(codes, spans, variants.alleles.heap)
    return replace(variants, way=way, alleles=alleles, eaf=eaf, turned=turned)


def _wanted_way(rows: NDArray[np.void]) -> NDArray[np.int8]:
    """Give the way round that a record's variant has; 0 for single bases, and for any."""
    way = np.where(rows["side"] == EFFECT_IS_REF, 3 - rows["way"], rows["way"])
    return np.where((rows["way"] == 0) | (rows["side"] == UNKNOWN_SIDE), 0, way).astype(np.int8)


def _extended(variants: Variants, records: Records, is_sure: bool, counted: Counter[str], *,
              longer_is_ref: bool) -> Variants:  # fmt: skip
    rows = records.rows
    if not len(rows):
        return variants
    sure = (rows["way"] == 0) | (rows["side"] != UNKNOWN_SIDE)
    if not is_sure and sure.all():
        return variants
    at = _match(variants, rows)
    new = np.flatnonzero((at == -1) & (sure if is_sure else ~sure))
    if is_sure:
        counted["known_variants"] += int(np.count_nonzero(at != -1))
    if not len(new):
        return variants
    chosen = rows[new]
    if len(variants):
        places = np.ascontiguousarray(chosen["place"])
        found_at = np.minimum(np.searchsorted(variants.place, places), len(variants) - 1)
        counted["other_alleles"] += int(np.count_nonzero(variants.place[found_at] == places))
    effect_is_ref = chosen["side"] == EFFECT_IS_REF
    if longer_is_ref:  # the reference has both; this does not depend on which study comes first
        longer = chosen["lengths"][:, 0] > chosen["lengths"][:, 1]
        effect_is_ref |= (chosen["side"] == UNKNOWN_SIDE) & longer
    alleles = Records(chosen, records.heap).alleles()
    order = np.where(effect_is_ref[:, None], [0, 1], [1, 0])
    each = np.arange(len(new))[:, None]
    turned = Alleles(alleles.codes[each, order], alleles.spans[each, order], alleles.heap)
    nothing = np.full(len(new), np.nan, np.float32)
    found = Variants.of(np.ascontiguousarray(chosen["place"]), turned, np.zeros(len(new), np.int64), nothing,
                        np.full(len(new), -1, np.int64))  # fmt: skip
    by_way = np.lexsort((chosen["line"], found.way, found.key, found.place)) if found.way.any() else np.arange(len(new))
    order_of_both = _merge(variants.place, variants.key, variants.way, found.place[by_way], found.key[by_way],
                           found.way[by_way])  # fmt: skip
    n = len(variants)
    source = np.where(order_of_both < n, order_of_both, n + by_way[np.maximum(order_of_both - n, 0)])
    return join_variants([variants, found]).take(source)


def _match(variants: Variants, rows: NDArray[np.void], way: NDArray[np.int8] | None = None) -> NDArray[np.int64]:
    out = np.empty(len(rows), np.int64)
    _match_sorted(variants.place, variants.key, variants.way, np.ascontiguousarray(rows["place"]),
                  np.ascontiguousarray(rows["key"]), _wanted_way(rows) if way is None else way, out)  # fmt: skip
    return out


def _turned(variants: Variants, records: Records, rules: Rules, rsid: NDArray[np.int64],
            eaf: NDArray[np.float32], counted: Counter[str]) -> Cells:  # fmt: skip
    """Turn a study's records to the catalogue's alleles, and choose among duplicates; fills `rsid` and `eaf` up."""
    rows = records.rows
    at = _match(variants, rows)
    if ambiguous := int(np.count_nonzero(at == -2)):
        counted["ambiguous_indel"] = ambiguous
        rows, at = rows[at >= 0], at[at >= 0]
    values, status = np.array(rows["values"]), np.array(rows["status"])
    status[(rows["way"] != 0) & (rows["side"] != UNKNOWN_SIDE)] |= _REF_KNOWN
    _turn(at, np.ascontiguousarray(rows["codes"]), np.ascontiguousarray(rows["way"]), variants.alleles.codes,
          variants.way, eaf, values, status, _MODES[rules.palindromic], rules.grey_zone[0] - _ROUNDING,
          rules.grey_zone[1] + _ROUNDING)  # fmt: skip
    keep = np.ones(len(rows), np.bool_)
    n_duplicates = _choose(at, values, status, rules.duplicates == "best-p", keep,
                           np.full(len(variants), -1, np.int64))  # fmt: skip
    if n_duplicates:
        counted["duplicate"] = int(n_duplicates)
        at, values, status, rows = at[keep], values[keep], status[keep], rows[keep]
    fresh = (rsid[at] == 0) & (rows["rsid"] > 0)
    rsid[at[fresh]] = rows["rsid"][fresh]
    order = np.argsort(at, kind="stable") if np.any(np.diff(at) < 0) else slice(None)
    return Cells(at[order], values[order], status[order])


@numba.njit(nogil=True, cache=True)
def _match_sorted(place, key, way, r_place, r_key, r_way, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Find the variant of each record; -1 none, -2 two where the record knows no way round. Both are sorted."""
    i = 0
    for j in range(len(r_place)):
        while i < len(place) and (place[i] < r_place[j] or (place[i] == r_place[j] and key[i] < r_key[j])):
            i += 1
        out[j] = -1
        k = i
        while k < len(place) and place[k] == r_place[j] and key[k] == r_key[j]:
            if r_way[j] == 0 or way[k] == r_way[j]:
                out[j] = k if out[j] == -1 else -2
            k += 1


@numba.njit(nogil=True, cache=True)
def _merge(place, key, way, n_place, n_key, n_way):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Merge new variants into old ones; of equal new ones the first stays. Gives indices, new ones behind the old."""
    n_old, n_new = len(place), len(n_place)
    out = np.empty(n_old + n_new, np.int64)
    i = to = 0
    for j in range(n_new):
        if j and n_place[j] == n_place[j - 1] and n_key[j] == n_key[j - 1] and n_way[j] == n_way[j - 1]:
            continue
        while i < n_old and (
            place[i] < n_place[j]
            or (place[i] == n_place[j] and (key[i] < n_key[j] or (key[i] == n_key[j] and way[i] < n_way[j])))
        ):
            out[to] = i
            to += 1
            i += 1
        out[to] = n_old + j
        to += 1
    while i < n_old:
        out[to] = i
        to += 1
        i += 1
    return out[:to]


@numba.njit(nogil=True, cache=True)
def _turn(at, codes, way, c_codes, c_way, eaf, values, status, mode, low, high):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Orient values (beta, se, eaf, …) to the catalogue's ALT, in place; fills the catalogue's frequencies up."""
    for j in range(len(at)):
        i = at[j]
        swapped = complemented = False
        if way[j] == 0:
            effect, other, ref, alt = codes[j, 0], codes[j, 1], c_codes[i, 0], c_codes[i, 1]
            if effect == alt and other == ref:
                pass
            elif effect == ref and other == alt:
                swapped = True
            else:
                complemented = True
                swapped = 3 - effect == ref
        else:
            swapped = way[j] != c_way[i]
        bits = status[j]
        frequency = 1 - values[j, 2] if swapped else values[j, 2]
        if bits & _PALINDROMIC and mode != 2:
            known = eaf[i]
            if mode == 1 or not (frequency < low or frequency > high) or low <= known <= high:
                bits |= _BAD_STRAND
            elif known == known and (known < low) != (frequency < low):
                swapped = not swapped
                frequency = 1 - frequency
                bits |= _BY_FREQUENCY
            if bits & _BAD_STRAND:
                bits &= ~_PRESENT
                values[j, :] = np.nan
        if swapped:
            bits |= _SWAPPED
            values[j, 0] = -values[j, 0]
            values[j, 2] = 1 - values[j, 2]
        if complemented:
            bits |= _COMPLEMENTED
        status[j] = bits
        if bits & _PRESENT and eaf[i] != eaf[i] and frequency == frequency:
            eaf[i] = frequency


@numba.njit(nogil=True, cache=True)
def _choose(at, values, status, best, keep, kept):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Of records of one variant keep a usable one, the first or that of the smallest p; returns how many go.

    `kept` has a place a variant, all −1: the record that it is kept for.
    """
    removed = 0
    for j in range(len(at)):
        k = kept[at[j]]
        if k < 0:
            kept[at[j]] = j
            continue
        better = (status[j] & _PRESENT) > (status[k] & _PRESENT)
        if best and (status[j] & _PRESENT) and (status[k] & _PRESENT):
            better = _strength(values, j) > _strength(values, k)
        gone, stays = (k, j) if better else (j, k)
        keep[gone] = False
        kept[at[j]] = stays
        status[stays] |= _DUPLICATED
        removed += 1
    return removed


@numba.njit(nogil=True, cache=True)
def _strength(values, j):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Order records by evidence: z², or what makes the same −log₁₀ p far out."""
    if values[j, 5] == values[j, 5]:
        return values[j, 5] * 4.605170185988092
    if values[j, 1] > 0:
        return (values[j, 0] / values[j, 1]) ** 2
    return 0.0
