"""What a store counts of every variant while it is written, under the names of its arrays."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from biolmm import schema
from biolmm.files.encoding import Encoding, Rows
from biolmm.files.genotypes import Block
from biolmm.store.count import count_calls, count_dosages
from biolmm.store.data import Quality
from biolmm.store.quality import block_quality

Summary = dict[str, NDArray[Any]]
"""One value a variant, for each of `counted` and `measured`."""


def counted(encoding: Encoding) -> tuple[str, ...]:
    """Name the arrays that are counted from the rows alone, so that they can be counted again."""
    if encoding.is_dosage:
        return schema.VARIANT_DOSAGE_SUM, schema.VARIANT_DOSAGE_SQUARES, schema.VARIANT_MISSING_COUNT
    return schema.VARIANT_ALT_COUNT, schema.VARIANT_HET_COUNT, schema.VARIANT_MISSING_COUNT


def measured(encoding: Encoding) -> tuple[str, ...]:
    """Name the arrays that need the probabilities or haplotypes of the input."""
    return (schema.VARIANT_INFO, schema.VARIANT_R2) if encoding.is_dosage else ()


def count_rows(rows: Rows, encoding: Encoding, n_samples: int) -> Summary:
    """Count what `counted` names.

    Raises
    ------
    ValueError
        When the rows are not valid rows of this encoding and number of samples.
    """
    if encoding.is_dosage:
        if rows.shape[1:] != (n_samples,):
            raise ValueError(f"rows of {n_samples} samples cannot be {rows.shape}")
        dosages = count_dosages(rows, encoding)
        return {
            schema.VARIANT_DOSAGE_SUM: dosages.dosage_sum,
            schema.VARIANT_DOSAGE_SQUARES: dosages.dosage_squares,
            schema.VARIANT_MISSING_COUNT: n_samples - dosages.called,
        }
    calls = count_calls(rows, n_samples)
    return {
        schema.VARIANT_ALT_COUNT: calls.alt,
        schema.VARIANT_HET_COUNT: calls.het,
        schema.VARIANT_MISSING_COUNT: calls.missing,
    }


def summarise(rows: Rows, encoding: Encoding, n_samples: int, quality: Quality | None = None) -> Summary:
    """Count the rows, and add their quality: as given, else what the dosages alone say."""
    summary = count_rows(rows, encoding, n_samples)
    if encoding.is_dosage:
        known = block_quality(Block(rows), encoding) if quality is None else quality
        summary |= {schema.VARIANT_INFO: known.info, schema.VARIANT_R2: known.r2}
    return summary
