"""Records of a block against the reference genome: strand, REF, and alleles trimmed and shifted to the left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biolmm.sumstats.ingest.alleles import Alleles, join_alleles, read_alleles
from biolmm.sumstats.ingest.reference import Normalised, Reference
from biolmm.sumstats.places import Contigs, make_places, position_of, rank_of
from biolmm.sumstats.status import Status

UNKNOWN_SIDE, EFFECT_IS_REF, OTHER_IS_REF = 0, 1, 2
"""Values of `side`: which allele is REF of a genome."""


@dataclass(frozen=True, eq=False)
class Placed:
    """What the reference makes of n records; effect alleles first."""

    place: NDArray[np.uint64]
    alleles: Alleles
    side: NDArray[np.int8]
    status: NDArray[np.uint16]
    """Bits to add."""
    is_there: NDArray[np.bool_]
    """Whether the reference has one of the alleles there."""


def normalise(reference: Reference, contigs: Contigs, place: NDArray[np.uint64], alleles: Alleles,
              side: NDArray[np.int8]) -> Placed:  # fmt: skip
    """Bring records to the reference's strand, say which allele is REF, trim and left-align.

    Notes
    -----
    **Cost**: one lookup a record, and a few microseconds for each that moves.
    """
    place, side = place.copy(), side.copy()
    there, status = np.zeros(len(place), bool), np.zeros(len(place), np.uint16)
    codes = alleles.codes.copy()
    ranks = rank_of(place)
    moved: list[tuple[int, int, str, str]] = []
    for rank in np.unique(ranks):
        rows = np.flatnonzero(ranks == rank)
        name, part = contigs.name(int(rank)), alleles.take(rows)
        declared = side[rows] != UNKNOWN_SIDE
        found = reference.normalise(name, position_of(place[rows]), part)
        there[rows] = found.is_there
        known = found.ref_known
        side[rows] = np.where(known, np.where(found.effect_is_ref, EFFECT_IS_REF, OTHER_IS_REF),
                              np.where(declared, side[rows], UNKNOWN_SIDE))  # fmt: skip
        turned = found.complemented
        status[rows[turned]] |= Status.COMPLEMENTED.value
        codes[rows[turned]] = 3 - codes[rows[turned]]
        moved += _moved(reference, name, rows, place, part, found)
    out = Alleles(codes, alleles.spans, alleles.heap)
    if moved:
        rows = np.array([row for row, *_ in moved])
        status[rows] |= Status.NORMALISED.value
        place[rows] = make_places(ranks[rows], np.array([position for _, position, _, _ in moved]))
        out = _replaced(out, rows, [effect for _, _, effect, _ in moved], [other for _, _, _, other in moved])
    return Placed(place, out, side, status, there)


def _moved(reference: Reference, contig: str, rows: NDArray[np.int64], place: NDArray[np.uint64], alleles: Alleles,
           found: Normalised) -> list[tuple[int, int, str, str]]:  # fmt: skip
    """Spell the records that change: row, position, effect allele, other allele."""
    changed = np.flatnonzero((found.shift > 0) | (found.trim > 0).any(axis=1))
    out = []
    for i in changed:
        position, shift = int(position_of(place[rows[i : i + 1]])[0]), int(found.shift[i])
        ahead, behind = (int(n) for n in found.trim[i])
        front = reference.bases(contig, position - shift, shift)
        texts = [front + alleles.text(int(i), side) for side in (0, 1)]
        effect, other = (text[ahead : len(text) - behind] for text in texts)
        out.append((int(rows[i]), position - shift + ahead, effect, other))
    return out


def _replaced(alleles: Alleles, rows: NDArray[np.int64], effects: list[str], others: list[str]) -> Alleles:
    """Put other texts in the place of some records' alleles."""
    texts = [text.encode() for pair in zip(effects, others, strict=True) for text in pair]
    ends = np.cumsum([0, *map(len, texts)])
    spans = np.column_stack([ends[:-1], ends[1:]])
    new = read_alleles(np.frombuffer(b"".join(texts), np.uint8), spans[0::2], spans[1::2])
    joined = join_alleles([alleles, new])
    index = np.arange(len(alleles))
    index[rows] = len(alleles) + np.arange(len(rows))
    return joined.take(index)
