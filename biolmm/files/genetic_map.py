"""Genetic maps: position in base pairs to centimorgans, from the layouts in which maps are passed around.

chr id cM bp                    PLINK's .map; .bim with two alleles behind; no header
Chromosome Position Rate Map    HapMap; any order, a header names the columns
position COMBINED_rate Map      a file a chromosome: `map_chr@.txt`, where @ stands for the chromosome
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biolmm.contigs import plain_contig
from biolmm.errors import InputFileError, VariantMismatchError, named
from biolmm.files.lines import read_lines

BEYOND_CM_PER_BP = 1e-6
"""Rate before the first and behind the last point of a map: one centimorgan a megabase."""

Points = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class GeneticMap:
    """Points of the map, in between which it is linear.

    Attributes
    ----------
    source
        The file, for messages.
    points
        Positions in base pairs, ascending, and centimorgans, never falling, of each contig.
    """

    source: str
    points: Mapping[str, Points]

    def at(self, contig: str, position: NDArray[np.integer]) -> NDArray[np.float64]:
        """Give the centimorgans of positions on a contig.

        Raises
        ------
        VariantMismatchError
            When the map does not have the contig.

        Examples
        --------
        >>> points = (np.array([1e6, 2e6]), np.array([1.0, 3.0]))
        >>> GeneticMap("map", {"1": points}).at("1", np.array([500_000, 1_500_000, 4_000_000])).tolist()
        [0.5, 2.0, 5.0]
        """
        name = plain_contig(contig)
        if name not in self.points:
            raise VariantMismatchError(
                f"'{self.source}' has no contig {contig} (it has {named(self.points)}): give a map of every contig, or a "
                "window in base pairs."
            )
        bp, cm = self.points[name]
        before = np.minimum(position - bp[0], 0.0) * BEYOND_CM_PER_BP
        behind = np.maximum(position - bp[-1], 0.0) * BEYOND_CM_PER_BP
        return np.asarray(np.interp(position, bp, cm) + before + behind)


def read_genetic_map(path: Path, contigs: tuple[str, ...] = ()) -> GeneticMap:
    """Read a map of one file, or of a file a contig where the name holds an @.

    Parameters
    ----------
    path
        The file.
    contigs
        What @ stands for, one after the other.

    Raises
    ------
    InputFileError
        When a file cannot be read, its columns are not known, a value is no number, positions repeat with different
        centimorgans, or the map falls.
    """
    points: dict[str, Points] = {}
    if "@" in path.name:
        for contig in contigs:
            points |= _read(path.with_name(path.name.replace("@", contig)), contig)
    else:
        points = _read(path, None)
    return GeneticMap(str(path), points)


def _read(path: Path, contig: str | None) -> dict[str, Points]:
    rows = [(number, line.split()) for number, line in read_lines(path)]
    if not rows:
        raise InputFileError(f"'{path}' is empty: a genetic map has positions and centimorgans.")
    columns, body = _columns(path, rows[0][1], rows[1:], rows, contig)
    found: dict[str, list[tuple[float, float]]] = {}
    for number, fields in body:
        if len(fields) <= max(each for each in columns if each is not None):
            raise InputFileError(
                f"'{path}', line {number:,}: {len(fields)} columns, but the first line has {len(rows[0][1])}."
            )
        name = contig if columns[0] is None else fields[columns[0]]
        try:
            place = float(fields[columns[1]]), float(fields[columns[2]])
        except ValueError:
            raise InputFileError(
                f"'{path}', line {number:,}: position or centimorgans are no number: {' '.join(fields)!r}."
            ) from None
        found.setdefault(plain_contig(str(name)), []).append(place)
    return {name: _checked(path, name, points) for name, points in found.items()}


def _columns(path: Path, first: list[str], rest: list[tuple[int, list[str]]], rows: list[tuple[int, list[str]]],
             contig: str | None) -> tuple[tuple[int | None, int, int], list[tuple[int, list[str]]]]:  # fmt: skip
    """Find the columns of contig, position and centimorgans, and the lines that hold values."""
    if len(first) in (4, 6) and first[2].replace(".", "", 1).lstrip("-").isdigit() and first[3].isdigit():
        return (0, 3, 2), rows
    names = [name.lower() for name in first]

    def find(*words: str) -> int | None:
        return next((i for i, name in enumerate(names) if name.startswith(words) and "rate" not in name), None)

    place, map_ = find("pos", "bp"), find("map", "genetic_map", "cm", "genetic")
    where = find("chr")
    if place is None or map_ is None or (where is None and contig is None):
        raise InputFileError(
            f"'{path}' is no genetic map: its first line is {named(first)}. It needs columns of chromosome, position and "
            "centimorgans (Chromosome, Position(bp), Map(cM)), or PLINK's .map or .bim; without a chromosome, a file for "
            "each with @ in its name."
        )
    return (None if contig is not None and where is None else where, place, map_), rest


def _checked(path: Path, contig: str, points: list[tuple[float, float]]) -> Points:
    bp, cm = (np.array(values) for values in zip(*sorted(points), strict=True))
    if not np.isfinite(bp).all() or not np.isfinite(cm).all():
        raise InputFileError(f"'{path}': contig {contig} has positions or centimorgans that are not finite.")
    falls = np.flatnonzero(np.diff(cm) < 0)
    if len(falls):
        raise InputFileError(
            f"'{path}': on contig {contig} the map falls from {cm[falls[0]]:g} cM at {bp[falls[0]]:,.0f} to "
            f"{cm[falls[0] + 1]:g} cM at {bp[falls[0] + 1]:,.0f}: is it sorted, and of one build?"
        )
    if cm[-1] == cm[0] and len(cm) > 1:
        raise InputFileError(
            f"'{path}': all {len(cm):,} points of contig {contig} are at {cm[0]:g} cM, so this is no genetic map. Give "
            "one, or a window in base pairs."
        )
    return bp, cm
