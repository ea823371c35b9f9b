"""What every reader of hard-called genotypes hands over: tables of samples and variants, and packed rows.

A packed row holds the calls of one variant at 2 bits each: copies of ALT 0, 1, 2, or 3 = missing. The first sample
sits in the lowest bits of the first byte (PLINK's bit order). Rows are padded with missing calls to a multiple of
32 samples, that is to whole 8-byte words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLES_PER_WORD = 32
"""Packed calls in one 8-byte word."""

Strings = np.ndarray[Any, np.dtype[Any]]
"""A one-dimensional array of strings: NumPy's variable-width `StringDType`, or `str_`."""


def padded_samples(n_samples: int) -> int:
    """Round up to whole 8-byte words of packed calls.

    Examples
    --------
    >>> padded_samples(1), padded_samples(32), padded_samples(33)
    (32, 32, 64)
    """
    return -(-n_samples // SAMPLES_PER_WORD) * SAMPLES_PER_WORD


def row_bytes(n_samples: int) -> int:
    """Bytes of one packed row, padding included.

    Examples
    --------
    >>> row_bytes(33)
    16
    """
    return padded_samples(n_samples) // 4


def as_strings(values: Any) -> Strings:
    """Make a variable-width string array, in which one long allele does not widen all the others."""
    return np.asarray(values, dtype=np.dtypes.StringDType())


@dataclass(frozen=True, eq=False)
class SampleTable:
    """Who the columns of a genotype matrix are, in their order."""

    sample_id: NDArray[np.str_]
    family_id: NDArray[np.str_]
    sex: NDArray[np.int8]
    """0 unknown, 1 male, 2 female."""

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.sample_id)


@dataclass(frozen=True, eq=False)
class VariantTable:
    """What the rows of a genotype matrix are, in their order."""

    contig: NDArray[np.int32]
    """Index into `contig_id`."""
    contig_id: tuple[str, ...]
    position: NDArray[np.int64]
    """1-based, in base pairs."""
    variant_id: Strings
    ref: Strings
    alt: Strings
    """The effect allele, whose copies are counted."""

    @property
    def n(self) -> int:
        """Number of variants."""
        return len(self.position)


def concatenate_variants(tables: Sequence[VariantTable]) -> VariantTable:
    """Put tables one after another; contigs keep the order in which they first appear."""
    contig_id = tuple(dict.fromkeys(name for table in tables for name in table.contig_id))
    index = {name: i for i, name in enumerate(contig_id)}
    recoded = [np.array([index[c] for c in table.contig_id], np.int32)[table.contig] for table in tables]
    return VariantTable(
        contig=np.concatenate(recoded),
        contig_id=contig_id,
        position=np.concatenate([table.position for table in tables]),
        variant_id=np.concatenate([as_strings(table.variant_id) for table in tables]),
        ref=np.concatenate([as_strings(table.ref) for table in tables]),
        alt=np.concatenate([as_strings(table.alt) for table in tables]),
    )
