"""What every reader of a genotype file hands over: its samples, its variants, and a decoder of its rows.

A reader is a function `open_<format>(path, …) -> Source`. It reads the tables of samples and variants, checks the sizes
of everything it will read later, and makes a decoder, which is small, can be sent to other processes, and reads any run of
rows on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from biolmm.files.encoding import Encoding, Rows

NO_FAMILY = ("", "0", "NA", ".")
"""Family ids that say that none is known."""

Strings = np.ndarray[Any, np.dtype[Any]]
"""A one-dimensional array of strings: NumPy's variable-width `StringDType`, or `str_`."""


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


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive variants of a file, decoded.

    Attributes
    ----------
    rows
        (b, width) encoded rows, see `Encoding`, in the file's order of samples.
    expected_squares
        (b,) Σᵢ E[gᵢ²] over the samples with a genotype, from genotype probabilities; None where the file has none. It
        is what IMPUTE's INFO needs beside the dosages.
    haplotype_squares
        (b,) Σᵢ (h²ᵢ₁ + h²ᵢ₂) of the haplotypes' dosages over the samples with a genotype; None where the file has
        none. It is what Minimac's R² needs beside the dosages.
    dosage_sum, dosage_squares
        (b,) Σᵢ dᵢ and Σᵢ dᵢ² over the samples with a genotype, before the dosages are rounded to codes; None where they
        are summed from the rows. Many small dosages of a rare variant round to nothing in 8 bits, which would spoil
        its quality.
    haploid_count
        (b,) How many samples with a genotype are haploid; −1 for a variant of which the file does not say it, None where
        it never does. Their genotypes are 0 or 2 copies in the rows and in all sums.
    haploid_dosage_sum
        (b,) The part of `dosage_sum` that is theirs; comes with `haploid_count`.
    """

    rows: Rows
    expected_squares: NDArray[np.float64] | None = None
    haplotype_squares: NDArray[np.float64] | None = None
    dosage_sum: NDArray[np.float64] | None = None
    dosage_squares: NDArray[np.float64] | None = None
    haploid_count: NDArray[np.int64] | None = None
    haploid_dosage_sum: NDArray[np.float64] | None = None


BLOCK_SUMS = tuple(each.name for each in fields(Block))[1:]
"""Names of what a `Block` may have beside its rows, one value a variant, in their order."""


def as_counts(sums: NDArray[np.float64]) -> NDArray[np.int64]:
    """Make counts of sums of ones; NaN, which is not known, becomes −1.

    Examples
    --------
    >>> as_counts(np.array([2.0, np.nan])).tolist()
    [2, -1]
    """
    return np.where(np.isnan(sums), -1, sums).astype(np.int64)


class Decoder(Protocol):
    """Reads rows of one file; can be pickled, and is safe to call from several threads at a time."""

    def read(self, start: int, stop: int, encoding: Encoding) -> Block:
        """Read variants `start` to `stop` (half-open) of the file in the encoding that is asked for.

        Raises
        ------
        InputFileError
            When the file cannot be read, is damaged there, or was changed meanwhile; names file and variant.
        """
        ...


@dataclass(frozen=True, eq=False)
class Source:
    """One genotype file (with the files beside it), opened and checked.

    Attributes
    ----------
    path
        The file, as messages name it.
    samples, variants
        What the columns and rows are, in the file's order; contigs as the file spells them. A variant of more than two
        alleles is split: a row for each ALT allele, consecutive, with REF as its other allele.
    has_dosages
        Whether it holds values that hard calls cannot.
    decoder
        Reads the rows.
    files
        Every file that the rows depend on.
    notes
        What the store's provenance should record: `kind` (`bed`, `bgen`, `pgen`, `vcf`, …) and particulars of the
        format, as JSON.
    random_access
        Whether any run of rows can be read at the same cost; else rows are best read in order.
    """

    path: Path
    samples: SampleTable
    variants: VariantTable
    has_dosages: bool
    decoder: Decoder
    files: tuple[Path, ...]
    notes: dict[str, Any] = field(default_factory=dict)
    random_access: bool = True
