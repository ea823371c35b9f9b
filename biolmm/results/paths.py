"""Where things lie in a results directory, and in which order they are listed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from biolmm.errors import InputFileError, named
from biolmm.places import is_remote

ASSOCIATIONS = "associations"
LINEAR = "linear"

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_SPECIAL_CONTIGS = {"X": 23, "Y": 24, "XY": 25, "PAR1": 25, "PAR2": 25, "MT": 26, "M": 26}


def quote_name(name: str) -> str:
    """Percent-encode everything but letters, digits, `.`, `_` and `-`: safe as one folder name, as hive does it.

    Examples
    --------
    >>> quote_name("HbA1c <%>/é")
    'HbA1c%20%3C%25%3E%2F%C3%A9'
    """
    return _UNSAFE.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), name)


def unquote_name(text: str) -> str:
    """Undo `quote_name`.

    Examples
    --------
    >>> unquote_name("a%2Fb")
    'a/b'
    """
    return unquote(text)


def natural_key(name: str) -> tuple[int, int, str]:
    """Order contigs as people do: numbers by value, then X, Y, XY, MT, then the others by name.

    Examples
    --------
    >>> sorted(["10", "X", "2", "GL000", "MT"], key=natural_key)
    ['2', '10', 'X', 'MT', 'GL000']
    """
    bare = name.removeprefix("chr")
    if bare.isascii() and bare.isdigit():
        return (0, int(bare), name)
    if bare.upper() in _SPECIAL_CONTIGS:
        return (1, _SPECIAL_CONTIGS[bare.upper()], name)
    return (2, 0, name)


def readable(path: Path) -> Path | IO[bytes]:
    """Give what Arrow and pandas can read: a local path as it is, an object of a store as a file that is open."""
    return path.open("rb") if is_remote(path) else path


def part_path(directory: Path, trait: str, contig: str, part: int) -> Path:
    """Path of one part below `directory` (`results/associations` or `results/linear`)."""
    return directory / f"trait={quote_name(trait)}" / f"contig={quote_name(contig)}" / f"part-{part:05d}.parquet"


def list_traits(results_dir: Path, kind: str = ASSOCIATIONS) -> list[str]:
    """Names of the traits with results of this kind, in natural order."""
    return sorted(_values(results_dir / kind, "trait"), key=_trait_key)


def list_contigs(results_dir: Path, trait: str, kind: str = ASSOCIATIONS) -> list[str]:
    """Contigs of a trait's results, in genome order."""
    return sorted(_values(results_dir / kind / f"trait={quote_name(trait)}", "contig"), key=natural_key)


def list_parts(
    results_dir: Path, trait: str | None = None, contig: str | None = None, kind: str = ASSOCIATIONS
) -> list[tuple[str, str, Path]]:
    """Trait, contig and path of every finished part: traits in natural order, contigs in genome order.

    Raises
    ------
    InputFileError
        When there are no results of this kind, or none for the trait or contig asked for.
    """
    traits = list_traits(results_dir, kind)
    if not traits:
        raise InputFileError(f"{results_dir / kind} holds no results: is {results_dir} a directory written by biolmm?")
    if trait is not None and trait not in traits:
        raise InputFileError(f"{results_dir / kind} has no trait {trait!r}; it has {named(traits)}.")
    parts = [
        (one, here, path)
        for one in (traits if trait is None else [trait])
        for here in list_contigs(results_dir, one, kind)
        if contig is None or here == contig
        for path in sorted(part_path(results_dir / kind, one, here, 0).parent.glob("part-*.parquet"))
    ]
    if not parts and contig is not None:
        raise InputFileError(f"{results_dir / kind} has no contig {contig!r}.")
    return parts


def _values(directory: Path, key: str) -> list[str]:
    prefix = f"{key}="
    return [unquote_name(path.name.removeprefix(prefix)) for path in directory.glob(f"{prefix}*") if path.is_dir()]


def _trait_key(name: str) -> tuple[tuple[int, str], ...]:
    return tuple(
        (int(piece), "") if piece.isascii() and piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", name)
    )
