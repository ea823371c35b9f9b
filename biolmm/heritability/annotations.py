"""Annotations of variants: tables of 0, 1 or numbers by variant id, or regions, as weights of components."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.covariance.variant_sets import ID_COLUMNS, LD_COLUMNS, PLACE_COLUMNS
from biolmm.errors import InputFileError, ParameterError, VariantMismatchError, named
from biolmm.files.lines import read_lines
from biolmm.regions import in_regions, read_bed_regions
from biolmm.store.data import GenotypeData

REST = "rest"
"""Annotation of the variants that no other one has."""

_NO_ANNOTATIONS = (*PLACE_COLUMNS, *LD_COLUMNS)


@dataclass(frozen=True)
class Annotations:
    """Weights of variants by annotation.

    Attributes
    ----------
    names
        A of them.
    weights
        (M, A), at least 0.
    n_without_row
        Variants that no table lists; they count as 0 there.
    """

    names: tuple[str, ...]
    weights: NDArray[np.float64]
    n_without_row: int = 0


def read_annotations(paths: Sequence[Path], data: GenotypeData, variants: NDArray[np.int64]) -> Annotations:
    """Read annotation files and match them with variants.

    Parameters
    ----------
    paths
        Tables with a column of variant ids (`ID`, `SNP`, `rsid`, …) and a column an annotation, of which columns that say
        where the variant is (`CHR`, `BP`, `CM`, …), `base` and LD scores (`L2`, …) are not, as in LD score regression's
        `.annot`; or UCSC BED files
        (`….bed`), each one annotation named after the file.
    data
        Genotypes, for ids and positions.
    variants
        (M,) indices of the variants.

    Returns
    -------
    Annotations
        `rest` last where some variant has no annotation.

    Raises
    ------
    InputFileError
        When a file cannot be read, repeats a variant or a name, or holds something else than numbers of at least 0.
    ParameterError
        When two annotations have the same name.
    VariantMismatchError
        When an annotation holds none of the variants.
    """
    names: list[str] = []
    columns: list[NDArray[np.float64]] = []
    unlisted = np.zeros(len(variants), dtype=bool)
    for path in paths:
        if path.name.lower().endswith(".bed"):
            inside = in_regions(
                data.contig_id, data.variant_contig[variants], data.variant_position[variants], read_bed_regions(path)
            )
            names.append(path.name[: -len(".bed")])
            columns.append(inside.astype(np.float64))
            continue
        table = _read_table(path)
        found = table.reindex([str(name) for name in data.variant_id[variants].tolist()])
        unlisted |= found.isna().any(axis=1).to_numpy()
        names += [str(name) for name in table.columns]
        columns += list(found.fillna(0.0).to_numpy(np.float64).T)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ParameterError(
            f"annotations {named(repeated)} are there more than once: give every annotation its own name."
        )
    empty = [name for name, column in zip(names, columns, strict=True) if not column.any()]
    if empty:
        raise VariantMismatchError(
            f"none of the {len(variants):,} variants is in the annotation {named(empty)}: check variant ids and builds."
        )
    weights = np.column_stack(columns)
    outside = ~(weights > 0).any(axis=1)
    if outside.any():
        name = REST if REST not in names else "rest (no annotation)"
        names, weights = [*names, name], np.column_stack([weights, outside])
    return Annotations(tuple(names), np.asarray(weights, dtype=np.float64), int(unlisted.sum()))


def _read_table(path: Path) -> pd.DataFrame:
    """Read a table of numbers indexed by variant id."""
    lines = read_lines(path)
    first = next(((n, line) for n, line in lines if not line.startswith("##")), None)
    if first is None:
        raise InputFileError(f"'{path}' is empty: a header and a row a variant are needed.")
    separator = next((s for s in ("\t", ",", ";") if s in first[1]), None)
    header = [word.strip().lstrip("#").strip('"') for word in _split(first[1], separator)]
    ids = [i for i, name in enumerate(header) if name.lower() in ID_COLUMNS]
    if not ids:
        raise InputFileError(
            f"'{path}' has no column of variant ids: its header is {named(header)}. Name it 'ID' or 'SNP'."
        )
    kept = [i for i, name in enumerate(header) if i != ids[0] and name.lower() not in _NO_ANNOTATIONS]
    if not kept:
        raise InputFileError(f"'{path}' has variant ids but no annotation beside them: its header is {named(header)}.")
    names = [header[i] for i in kept]
    if len(set(names)) < len(names):
        raise InputFileError(f"'{path}' names a column twice: {named(n for n in names if names.count(n) > 1)}.")
    keys: list[str] = []
    values: list[list[float]] = []
    for number, line in lines:
        words = _split(line, separator)
        if len(words) != len(header):
            raise InputFileError(f"'{path}', line {number:,}: {len(words)} columns instead of {len(header)}.")
        keys.append(words[ids[0]].strip())
        values.append([_number(words[i], header[i], path, number) for i in kept])
    if not keys:
        raise InputFileError(f"'{path}' has a header but no variants below it.")
    table = pd.DataFrame(values, index=pd.Index(keys, dtype=object), columns=names)
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()].unique()
        raise InputFileError(
            f"'{path}' lists {len(twice):,} variants more than once: {named(twice)}. Keep one row each."
        )
    return table


def _split(line: str, separator: str | None) -> list[str]:
    return re.split(r"\s+", line.strip()) if separator is None else line.rstrip("\r\n").split(separator)


def _number(text: str, name: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not (value >= 0 and np.isfinite(value)):
        raise InputFileError(
            f"'{path}', line {line:,}: annotation '{name}' is {text.strip()!r}, but must be a number of at least 0."
        )
    return value
