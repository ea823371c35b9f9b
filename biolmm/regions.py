"""Stretches of the genome: as people write them, from UCSC BED files, and those that are known for long-range LD.

References
----------
* Price A. L. et al. (2008). Long-range LD can confound genome scans in admixed populations. AJHG 83, 132–135.
* Anderson C. A. et al. (2010). Data quality control in genetic case-control association studies. Nature Protocols 5,
  1564–1573.
* UCSC Genome Browser, BED format: start counts from 0, end is the first base behind the region.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biolmm.contigs import normalise_build, normalise_contigs, plain_contig
from biolmm.errors import InputFileError, ParameterError

END_OF_CONTIG = 2**62
"""End of a region that goes on to the end of its contig."""

_REGION = re.compile(r"(?P<contig>[^:\s]+)(:(?P<start>[0-9][^-\s]*)-(?P<end>[0-9]\S*))?")
_PLACE = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?(e[0-9]{1,2})?)(?P<unit>mb|kb|bp|m|k)?")
_UNITS = {"m": 1_000_000, "k": 1_000, "b": 1}
_EXAMPLE = "Give CONTIG or CONTIG:START-END, for example 6:25-34mb or 6:25000000-34000000"

_BED_REMARKS = ("#", "track ", "track\t", "browser ", "browser\t")


@dataclass(frozen=True)
class Region:
    """Consecutive positions of one contig, 1-based, both ends included."""

    contig: str
    start_bp: int
    end_bp: int
    name: str

    def __str__(self) -> str:
        """Write it as `contig:start-end`."""
        return self.contig if self.end_bp >= END_OF_CONTIG else f"{self.contig}:{self.start_bp}-{self.end_bp}"


def parse_region(text: str) -> Region:
    """Read `CONTIG` or `CONTIG:START-END`; ends in base pairs, or with `kb` or `mb` after the last or after both.

    Raises
    ------
    ParameterError
        When it is neither, ends before it starts, or starts at 0.

    Examples
    --------
    >>> str(parse_region("6:25-34mb")), str(parse_region("chr6:25,000,000-34,000,000"))
    ('6:25000000-34000000', '6:25000000-34000000')
    >>> str(parse_region("6:25e6-34e6")), str(parse_region("X"))
    ('6:25000000-34000000', 'X')
    """
    given = text.strip()
    match = _REGION.fullmatch(given)
    if match is None:
        raise ParameterError(f"'{text}' is not a region. {_EXAMPLE}.")
    contig = plain_contig(match["contig"])
    if match["start"] is None:
        return Region(contig, 1, END_OF_CONTIG, given)
    end, unit = _place(match["end"], text, "")
    start, _ = _place(match["start"], text, unit)
    if start < 1:
        raise ParameterError(f"'{text}' starts at {start:,}, but positions count from 1. {_EXAMPLE}.")
    if end < start:
        raise ParameterError(f"'{text}' ends at {end:,}, before it starts at {start:,}. {_EXAMPLE}.")
    return Region(contig, start, end, given)


def _place(place: str, text: str, default_unit: str) -> tuple[int, str]:
    """Read one end of a region in base pairs, and its unit."""
    plain = place.lower().replace(",", "").replace("_", "")
    match = _PLACE.fullmatch(plain)
    if match is None:
        raise ParameterError(f"'{place}' in '{text}' is not a position. {_EXAMPLE}.")
    unit = match["unit"] or default_unit
    base_pairs = float(match["number"]) * _UNITS[unit[:1] or "b"]
    if base_pairs != round(base_pairs) or base_pairs >= END_OF_CONTIG:
        raise ParameterError(f"'{place}' in '{text}' is not a whole number of base pairs. {_EXAMPLE}.")
    return int(base_pairs), unit


_Megabases = tuple[tuple[str, float, float], ...]

MHC: dict[str, _Megabases] = {"GRCh37": (("6", 25.0, 34.0),), "GRCh38": (("6", 25.0, 34.0),)}
"""The extended major histocompatibility complex (Mb), as it is generally left out; both builds agree to 0.1 Mb there."""

LONG_RANGE_LD: dict[str, _Megabases] = {
    "GRCh37": (
        ("1", 48.0, 52.0), ("2", 86.0, 100.5), ("2", 134.5, 138.0), ("2", 183.0, 190.0), ("3", 47.5, 50.0),
        ("3", 83.5, 87.0), ("3", 89.0, 97.5), ("5", 44.5, 50.5), ("5", 98.0, 100.5), ("5", 129.0, 132.0),
        ("5", 135.5, 138.5), ("6", 25.0, 35.0), ("6", 57.0, 64.0), ("6", 140.0, 142.5), ("7", 55.0, 66.0),
        ("8", 7.0, 13.0), ("8", 43.0, 50.0), ("8", 112.0, 115.0), ("10", 37.0, 43.0), ("11", 46.0, 57.0),
        ("11", 87.5, 90.5), ("12", 33.0, 40.0), ("12", 109.5, 112.0), ("20", 32.0, 34.5),
    ),
    "GRCh38": (
        ("1", 47.534328, 51.534328), ("2", 85.7, 99.9), ("2", 133.742429, 137.242430),
        ("2", 182.135273, 189.135274), ("3", 47.458510, 49.962567), ("3", 83.450849, 86.950850), ("3", 88.9, 97.8),
        ("5", 44.4, 51.3), ("5", 98.664296, 101.164296), ("5", 129.664307, 132.664308),
        ("5", 136.164311, 139.164311), ("6", 24.999772, 35.032223), ("6", 57.0, 63.3), ("6", 139.678863, 142.178863),
        ("7", 54.9, 66.6), ("8", 7.142478, 13.142491), ("8", 43.1, 49.1), ("8", 110.987771, 113.987771),
        ("10", 36.7, 42.6), ("11", 45.9, 57.3), ("11", 87.789108, 90.766832), ("12", 32.8, 39.7),
        ("12", 109.062195, 111.562196), ("20", 33.412194, 35.912078),
    ),
}  # fmt: skip
"""The 24 autosomal regions of long-range LD (Mb).

GRCh37: the list of Price et al. as the Genome Analysis Wiki of the University of Michigan gives it for this build. GRCh38:
the same regions lifted over; of the nine that hold a centromere or a gap, and so do not lift over in one piece, the ends
were lifted one by one and rounded outwards to 0.1 Mb.
"""

_KNOWN: dict[str, dict[str, _Megabases]] = {"mhc": MHC, "long-range-ld": LONG_RANGE_LD}


def known_regions(name: str, build: str | None) -> tuple[Region, ...]:
    """Give regions that have a name: `mhc`, or `long-range-ld`, which includes it.

    Raises
    ------
    ParameterError
        When the name is not known, or the build is missing or not known.

    Examples
    --------
    >>> [str(region) for region in known_regions("mhc", "hg38")]
    ['6:25000000-34000000']
    """
    key = name.strip().lower()
    if key not in _KNOWN:
        raise ParameterError(f"'{name}' is not a list of regions that biolmm knows: give {' or '.join(_KNOWN)}.")
    if build is None:
        raise ParameterError(f"the regions '{key}' have other positions in every build: give --build GRCh37 or GRCh38.")
    table = _KNOWN[key][normalise_build(build)]
    return tuple(
        Region(c, round(start * 1e6), round(end * 1e6), f"{key}-{i}") for i, (c, start, end) in enumerate(table, 1)
    )


def find_regions(text: str, build: str | None) -> tuple[Region, ...]:
    """Give the regions that a text names: a list that is known, a UCSC BED file (`….bed`), or a place.

    Raises
    ------
    ParameterError
        When it is none of them, or a name needs a build and none is given.
    InputFileError
        When the file is damaged.

    Examples
    --------
    >>> [len(find_regions(text, "GRCh38")) for text in ("mhc", "long-range-ld", "8:7-13mb")]
    [1, 24, 1]
    """
    if text.strip().lower() in _KNOWN:
        return known_regions(text, build)
    if text.strip().lower().endswith(".bed"):
        return read_bed_regions(text.strip())
    return (parse_region(text),)


def read_bed_regions(path: str | Path) -> tuple[Region, ...]:
    """Read a UCSC BED file, which counts from 0 and ends behind the last base, as 1-based closed regions.

    Parameters
    ----------
    path
        Text with contig, start, end and perhaps a name a line, separated by tabs or spaces; further columns, remarks,
        `track` and `browser` lines are passed over. Regions of no length (start = end) hold no position and are left out.

    Raises
    ------
    InputFileError
        When the file cannot be read, holds no region, or a line has fewer than three columns, a start or end that is not
        a whole number, or an end before its start; names file and line.
    """
    path = Path(path)
    regions = []
    for number, line in _text_lines(path):
        if not line.strip() or line.lower().startswith(_BED_REMARKS):
            continue
        fields = line.split("\t") if "\t" in line else line.split()
        where = f"'{path}', line {number:,}"
        if len(fields) < 3:
            raise InputFileError(f"{where}: {len(fields)} columns instead of at least 3 (contig, start, end).")
        start, end = (_bed_number(field, where) for field in fields[1:3])
        if end < start:
            raise InputFileError(f"{where}: the region ends at {end:,}, before it starts at {start:,}.")
        name = fields[3].strip() if len(fields) > 3 else ""
        contig = plain_contig(fields[0].strip())
        if end > start:
            regions.append(Region(contig, start + 1, end, name or f"{contig}:{start + 1}-{end}"))
    if not regions:
        raise InputFileError(f"'{path}' holds no region: give contig, start and end a line (UCSC BED).")
    return tuple(regions)


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give numbered lines without their ends."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                yield number, line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise InputFileError(f"'{path}' is not a text file: {error.reason} at byte {error.start:,}.") from None
    except OSError as error:
        raise InputFileError(f"'{path}' cannot be read: {error.strerror}.") from error


def _bed_number(field: str, where: str) -> int:
    text = field.strip()
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise InputFileError(f"{where}: {text!r} is not a whole number of base pairs.")
    return int(text)


def in_regions(
    contig_id: Sequence[str],
    variant_contig: NDArray[np.integer],
    position: NDArray[np.integer],
    regions: Sequence[Region],
) -> NDArray[np.bool_]:
    """Tell which variants lie in any of the regions.

    Parameters
    ----------
    contig_id
        Names of contigs, as `normalise_contigs` spells them; regions are spelled the same way here.
    variant_contig, position
        (M,) Index into `contig_id` and 1-based position of each variant.

    Returns
    -------
    NDArray[np.bool_]
        (M,) Whether a region holds the variant; a region of a contig that is not there holds none.

    Examples
    --------
    >>> in_regions(("6", "X"), np.array([0, 0, 1]), np.array([1, 30_000_000, 5]), known_regions("mhc", "38")).tolist()
    [False, True, False]
    """
    variant_contig, position = np.asarray(variant_contig), np.asarray(position)
    inside = np.zeros(len(position), dtype=bool)
    for region in regions:
        *names, wanted = normalise_contigs([*contig_id, region.contig])
        for i, name in enumerate(names):
            if name == wanted:
                inside |= (variant_contig == i) & (position >= region.start_bp) & (position <= region.end_bp)
    return inside
