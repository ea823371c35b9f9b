"""Names of contigs: one spelling for each, their order, and how many copies a person has of each place.

Files spell chromosome X as `X`, `chrX`, `23`, `0X` or `NC_000023.11`. Names are compared in one spelling, PLINK's letters:
`1` … `22`, `X`, `Y`, `XY` (the pseudo-autosomal regions, where X and Y pair) and `MT`.

References
----------
The Genome Reference Consortium, GRCh37 and GRCh38: coordinates of the pseudo-autosomal regions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import ParameterError

_PREFIX = re.compile(r"^chr(om(osome)?)?[_ ]?(?=.)", re.IGNORECASE)
_ACCESSION = re.compile(r"^NC_0000(0[1-9]|1[0-9]|2[0-4])(\.[0-9]+)?$", re.IGNORECASE)
_MITOCHONDRIAL_ACCESSION = re.compile(r"^NC_012920(\.[0-9]+)?$", re.IGNORECASE)

_LETTERS = {"X": "X", "Y": "Y", "XY": "XY", "M": "MT", "MT": "MT", "PAR1": "XY", "PAR2": "XY"}
_CODES = {"23": "X", "24": "Y", "25": "XY", "26": "MT"}
"""PLINK's numbers for the human chromosomes that have letters."""

_LAST_HUMAN_CODE = 26
_AFTER_NUMBERS = ("X", "XY", "Y", "MT")

_BUILDS = {
    "GRCh37": ("grch37", "hg19", "b37", "37"),
    "GRCh38": ("grch38", "hg38", "b38", "38"),
}
_BUILD_OF = {alias: build for build, aliases in _BUILDS.items() for alias in aliases}

PSEUDO_AUTOSOMAL: dict[str, dict[str, tuple[tuple[int, int], ...]]] = {
    "GRCh37": {
        "X": ((60_001, 2_699_520), (154_931_044, 155_260_560)),
        "Y": ((10_001, 2_649_520), (59_034_050, 59_363_566)),
    },
    "GRCh38": {
        "X": ((10_001, 2_781_479), (155_701_383, 156_030_895)),
        "Y": ((10_001, 2_781_479), (56_887_903, 57_217_415)),
    },
}
"""Pseudo-autosomal regions of each build and contig: 1-based, both ends included."""


def plain_contig(name: str) -> str:
    """Spell one name without prefix, leading zeros and accession; numbers are not turned into letters.

    Examples
    --------
    >>> [plain_contig(name) for name in ("chr06", "chromX", "NC_000023.11", "M", "23", "chrUn_KI270302v1")]
    ['6', 'X', 'X', 'MT', '23', 'chrUn_KI270302v1']
    """
    if accession := _ACCESSION.match(name):
        number = str(int(accession[1]))
        return _CODES.get(number, number)
    if _MITOCHONDRIAL_ACCESSION.match(name):
        return "MT"
    bare = _PREFIX.sub("", name)
    bare = bare.lstrip("0") or bare[-1:]
    if _is_number(bare):
        return bare
    return _LETTERS.get(bare.upper(), name)


def normalise_contigs(names: Sequence[str]) -> tuple[str, ...]:
    """Spell every contig of a data set in the one way that biolmm compares names in.

    A prefix `chr` or `chrom` and leading zeros are dropped; 23, 24, 25 and 26 become X, Y, XY and MT; so do `M`, `PAR1`,
    `PAR2` and the accessions of the human reference. Where a number above 26 occurs the species is not human, and all
    numbers are left alone. Names that mean nothing here stay as they are.

    Parameters
    ----------
    names
        All contigs of the data set: whether 23 means X is known from the others only. A species with 23 to 26 autosomes
        cannot be told from a human by its names.

    Returns
    -------
    As many names, in the same order; two spellings of one contig become equal.

    Examples
    --------
    >>> normalise_contigs(["chr1", "02", "23", "chrM", "PAR1"])
    ('1', '2', 'X', 'MT', 'XY')
    >>> normalise_contigs(["23", "X", "38"])
    ('23', 'X', '38')
    """
    plain = [plain_contig(name) for name in names]
    human = all(int(name) <= _LAST_HUMAN_CODE for name in plain if _is_number(name))
    return tuple(_CODES.get(name, name) if human else name for name in plain)


def contig_order(name: str) -> tuple[int, int, tuple[tuple[int, int, str], ...]]:
    """Make a sort key: numbers, X, XY, Y, MT, then other names with the numbers inside them in numeric order.

    Examples
    --------
    >>> sorted(["MT", "10", "scaffold_10", "X", "2", "scaffold_9", "XY"], key=contig_order)
    ['2', '10', 'X', 'XY', 'MT', 'scaffold_9', 'scaffold_10']
    """
    if is_autosome(name):
        return 0, int(name), ((0, 0, name),)
    if name in _AFTER_NUMBERS:
        return 1, _AFTER_NUMBERS.index(name), ()
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return 2, 0, tuple((0, int(part), part) if _is_number(part) else (1, 0, part) for part in parts)


def is_autosome(name: str) -> bool:
    """Whether a normalised name is that of an autosome: a number other than 0, which marks unplaced variants.

    Examples
    --------
    >>> [is_autosome(name) for name in ("1", "22", "X", "XY", "0", "scaffold_9")]
    [True, True, False, False, False, False]
    """
    return _is_number(name) and int(name) > 0


class Ploidy(IntEnum):
    """How many copies of a place men and women have."""

    DIPLOID = 0
    """Two each: autosomes, the pseudo-autosomal regions, and contigs with other names."""
    X = 1
    """Women two, men one: X outside the pseudo-autosomal regions."""
    Y = 2
    """Men one, women none."""
    HAPLOID = 3
    """One each: the mitochondrial genome."""


_PLOIDY = {"X": Ploidy.X, "Y": Ploidy.Y, "MT": Ploidy.HAPLOID}


def ploidy_of(
    contig_id: Sequence[str],
    variant_contig: NDArray[np.integer],
    position: NDArray[np.integer],
    build: str | None = None,
) -> NDArray[np.uint8]:
    """Give the `Ploidy` of each variant.

    Parameters
    ----------
    contig_id
        Normalised names of contigs.
    variant_contig, position
        (M,) Index into `contig_id` and 1-based position of each variant.
    build
        Reference that positions refer to. With it, places of X and Y in a pseudo-autosomal region are diploid; without
        it all of X is `X` and all of Y is `Y`. Variants of contig `XY` are diploid either way.

    Returns
    -------
    NDArray[np.uint8]
        (M,) Values of `Ploidy`.

    Raises
    ------
    ParameterError
        When the build is not one that is known.

    Examples
    --------
    >>> ploidy_of(("1", "X"), np.array([0, 1, 1]), np.array([5, 100_000, 5_000_000]), "GRCh38").tolist()
    [0, 0, 1]
    """
    of_contig = np.array([_PLOIDY.get(name, Ploidy.DIPLOID) for name in contig_id], np.uint8)
    ploidy = of_contig[np.asarray(variant_contig)]
    regions = {} if build is None else PSEUDO_AUTOSOMAL[normalise_build(build)]
    for i, name in enumerate(contig_id):
        for start, end in regions.get(name, ()):
            ploidy[(variant_contig == i) & (position >= start) & (position <= end)] = Ploidy.DIPLOID
    return ploidy


def normalise_build(text: str) -> str:
    """Give the name of a human reference build: `GRCh37` (hg19, b37, 37) or `GRCh38` (hg38, b38, 38).

    Raises
    ------
    ParameterError
        When it is neither.

    Examples
    --------
    >>> normalise_build("hg38"), normalise_build("b37")
    ('GRCh38', 'GRCh37')
    """
    build = _BUILD_OF.get(text.strip().lower())
    if build is None:
        known = " or ".join(f"{name} ({', '.join(aliases[1:])})" for name, aliases in _BUILDS.items())
        raise ParameterError(f"'{text}' is not a reference build that biolmm knows: give {known}.")
    return build


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
