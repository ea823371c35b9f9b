"""Files of sets of variants: a set and a variant a line, and a weight where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biolmm.errors import InputFileError
from biolmm.files.lines import read_lines
from biolmm.places import place


@dataclass(frozen=True)
class VariantSet:
    """Variants that are tested together.

    Attributes
    ----------
    name
        Of the set.
    variants
        Ids, each once.
    weights
        One each; 1 where the file has none.
    """

    name: str
    variants: tuple[str, ...]
    weights: tuple[float, ...]


def read_variant_sets(path: str | Path) -> tuple[VariantSet, ...]:
    """Read sets of variants: `set variant [weight]` a line, separated by tabs, spaces or commas; lines with # are comments.

    A first line whose third field is no number, or that reads `set variant`, is a header.

    Returns
    -------
    tuple of VariantSet
        In order of first appearance; the lines of a set may be anywhere.

    Raises
    ------
    InputFileError
        When the file cannot be read, a line has another number of fields, a weight is no finite number or negative, a
        variant is twice in a set, or there is no set.
    """
    path = place(path)
    members: dict[str, dict[str, float]] = {}
    width = 0
    for number, line in read_lines(path):
        fields = line.replace(",", " ").split()
        if not fields or fields[0].startswith("#"):
            continue
        where = f"'{path}', line {number:,}"
        if width == 0:
            width = len(fields)
            if width not in (2, 3):
                raise InputFileError(
                    f"{where}: {width} fields where 2 or 3 are expected: set, variant and, if wanted, a weight."
                )
            if _is_header(fields):
                continue
        if len(fields) != width:
            raise InputFileError(
                f"{where}: {len(fields)} fields, but {width} in the lines before: give every line the same."
            )
        name, variant = fields[:2]
        weight = _weight(fields[2], where) if width == 3 else 1.0
        if variant in members.setdefault(name, {}):
            raise InputFileError(f"{where}: variant '{variant}' is in set '{name}' already: list it once.")
        members[name][variant] = weight
    if not members:
        raise InputFileError(f"'{path}' holds no set: give a set and a variant a line.")
    return tuple(VariantSet(name, tuple(each), tuple(each.values())) for name, each in members.items())


def _is_header(fields: list[str]) -> bool:
    if len(fields) == 3:
        try:
            float(fields[2])
        except ValueError:
            return True
        return False
    return fields[0].lower() in ("set", "set_id", "gene") and fields[1].lower() in (
        "variant",
        "variant_id",
        "id",
        "snp",
    )


def _weight(text: str, where: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = np.nan
    if not (np.isfinite(weight) and weight >= 0):
        raise InputFileError(f"{where}: '{text}' is no weight: give a number that is not negative.")
    return weight
