"""Annotations of LD score regression: `.annot` files and the matrix of variants that annotations share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from biolmm.errors import InputFileError, named
from biolmm.files.ldscore_files import ANNOT_ENDINGS, OVERLAP_ENDING, Overlap, find_files
from biolmm.files.text_columns import header_of, read_columns

_PLACES = ("CHR", "BP", "SNP", "CM")
FREQUENCY_ENDINGS = (".frq", ".frq.gz", ".afreq")


@dataclass(frozen=True, eq=False)
class Annotations:
    """A: annotations of variants.

    Attributes
    ----------
    names
        Of the annotations.
    snp
        (m,) identifiers; None in thin files.
    values
        (m, c).
    """

    names: tuple[str, ...]
    snp: pa.Array | None
    values: NDArray[np.float64]


def read_annot(prefix: str) -> Annotations:
    """Read `.annot` files of a prefix, one or a chromosome each, under one another; or the one file that is named.

    Raises
    ------
    InputFileError
        When a file is missing or damaged, or files have different columns.
    """
    files = [(prefix, Path(prefix))] if Path(prefix).is_file() else find_files(prefix, ANNOT_ENDINGS)
    parts, first = [], None
    for _, path in files:
        header = header_of(path)
        names = tuple(name for name in header if name not in _PLACES)
        if not names:
            raise InputFileError(f"'{path}' holds no annotations: its columns are {named(header)}.")
        if first is not None and header != first:
            raise InputFileError(f"'{path}' has columns {named(header)}, but '{files[0][1]}' has {named(first)}.")
        first = header
        types: dict[str, pa.DataType] = dict.fromkeys(names, pa.float64())
        parts.append(read_columns(path, types | ({"SNP": pa.string()} if "SNP" in header else {})))
    table = pa.concat_tables(parts).combine_chunks()
    values = np.column_stack([table[name].to_numpy() for name in names])
    if not np.isfinite(values).all():
        raise InputFileError(
            f"'{prefix}': {np.count_nonzero(~np.isfinite(values)):,} annotations are missing or not finite."
        )
    return Annotations(names, table["SNP"].combine_chunks() if "SNP" in table.column_names else None, values)


def read_common(prefix: str) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Read which variants have a minor allele frequency above 5 %, from `.frq` or `.afreq` files of PLINK.

    Returns
    -------
    Identifiers and whether they are common.

    Raises
    ------
    InputFileError
        When a file is missing or damaged or has no frequencies.
    """
    files = [(prefix, Path(prefix))] if Path(prefix).is_file() else find_files(prefix, FREQUENCY_ENDINGS)
    ids, common = [], []
    for _, path in files:
        header = header_of(path)
        frequency = next((name for name in ("MAF", "ALT_FREQS", "FRQ") if name in header), None)
        name = next((name for name in ("SNP", "ID") if name in header), None)
        if frequency is None or name is None:
            raise InputFileError(
                f"'{path}' holds no frequencies: it needs SNP and MAF (or ID and ALT_FREQS), found {named(header)}."
            )
        table = read_columns(path, {name: pa.string(), frequency: pa.float64()})
        values = table[frequency].to_numpy()
        ids.append(table[name].combine_chunks())
        common.append(np.minimum(values, 1 - values) > 0.05)
    return pa.concat_arrays(ids), np.concatenate(common)


def read_overlap(prefix: str, *, common: bool) -> Overlap:
    """Add up the `.l2.overlap.tsv` files of a prefix that biolmm writes.

    Raises
    ------
    InputFileError
        When there is none, or it is not such a file.
    """
    names, shared, n_variants = None, None, 0
    for _, path in find_files(prefix, (OVERLAP_ENDING,)):
        try:
            frame = pd.read_csv(path, sep="\t", dtype={"annotation": str})
            mine = frame[frame["variants"] == ("common" if common else "all")]
            here = tuple(mine["annotation"])
            matrix = mine[list(here)].to_numpy(np.float64)
            n_variants += int(mine["n_variants"].iloc[0])
        except (KeyError, ValueError, IndexError, pd.errors.ParserError) as error:
            raise InputFileError(f"'{path}' is no table of shared variants: {str(error).splitlines()[0]}.") from None
        if names is not None and here != names:
            raise InputFileError(f"'{path}' has annotations {named(here)}, but others have {named(names)}.")
        names, shared = here, matrix if shared is None else shared + matrix
    if names is None or shared is None:
        raise InputFileError(f"'{prefix}{OVERLAP_ENDING}' does not exist.")
    return Overlap(names, shared, n_variants)


def overlap_of(annotations: Annotations, common: tuple[pa.Array, NDArray[np.bool_]] | None = None) -> Overlap:
    """Count the variants that annotations share, of all or of the common ones.

    Raises
    ------
    InputFileError
        When frequencies do not fit the annotations.
    """
    values = annotations.values
    if common is not None:
        ids, is_common = common
        if annotations.snp is None:
            if len(ids) != len(values):
                raise InputFileError(
                    f"There are {len(ids):,} frequencies, but {len(values):,} variants with annotations."
                )
            values = values[is_common]
        else:
            kept = pc.is_in(annotations.snp, ids.filter(pa.array(is_common)))
            values = values[kept.to_numpy(zero_copy_only=False)]
    return Overlap(annotations.names, values.T @ values, len(values))
