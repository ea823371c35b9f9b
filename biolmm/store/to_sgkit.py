"""A store as sgkit's functions expect it."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from biolmm import schema
from biolmm.files.encoding import HARD_CALL_THRESHOLD

PLOIDY = 2


def to_sgkit(store: xr.Dataset) -> xr.Dataset:
    """Add sgkit's call variables to a Dataset that `open_store` returned, lazily.

    Parameters
    ----------
    store
        Dataset with `call_alt_count`, or of a store of dosages `call_dosage`, (variants, samples).

    Returns
    -------
    xr.Dataset
        `call_genotype` (variants, samples, ploidy; −1 where missing), `call_genotype_mask`, `call_dosage` (float32
        copies of ALT; NaN where missing), `call_dosage_mask`, `variant_allele`, `variant_contig`, `variant_position`,
        `variant_id`, `sample_id`, `contig_id`. A heterozygote is written 0, 1: phase is unknown. A dosage further than
        0.1 from a whole number has no call.

    Examples
    --------
    ::

        import sgkit
        stats = sgkit.variant_stats(biolmm.to_sgkit(biolmm.open_store("cohort.zarr")))
    """
    if schema.CALL_DOSAGE in store:
        dosage = store[schema.CALL_DOSAGE].data
        calls = dosage.map_blocks(_hard_calls, dtype=np.uint8)
    else:
        calls = store[schema.CALL_ALT_COUNT].data
        dosage = calls.astype(np.float32).map_blocks(_with_nan, dtype=np.float32)
    genotype = calls[:, :, None].map_blocks(_alleles, dtype=np.int8, chunks=(*calls.chunks, (PLOIDY,)))
    dims = (schema.VARIANTS, schema.SAMPLES)
    labels = [
        schema.VARIANT_ALLELE, schema.VARIANT_CONTIG, schema.VARIANT_POSITION, schema.VARIANT_ID, schema.SAMPLE_ID,
        schema.CONTIG_ID,
    ]  # fmt: skip
    return xr.Dataset(
        {
            "call_genotype": ((*dims, "ploidy"), genotype),
            "call_genotype_mask": ((*dims, "ploidy"), genotype < 0),
            "call_dosage": (dims, dosage),
            "call_dosage_mask": (dims, dosage.map_blocks(np.isnan, dtype=np.bool_)),
            **{name: (store[name].dims, store[name].values) for name in labels},
        },
        attrs={"contigs": [str(name) for name in store[schema.CONTIG_ID].values]},
    )


def _alleles(calls: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Write 0, 1, 2 copies as allele pairs (…, 2): 0/0, 0/1, 1/1; missing as −1/−1."""
    pairs = np.array([[0, 0], [0, 1], [1, 1], [-1, -1]], dtype=np.int8)
    return np.asarray(pairs[calls[:, :, 0]])


def _with_nan(calls: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.where(calls == schema.MISSING_CALL, np.nan, calls), dtype=np.float32)


def _hard_calls(dosages: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round dosages to calls where they are near a whole number; everything else is missing."""
    nearest = np.rint(dosages)
    called = np.abs(dosages - nearest) <= HARD_CALL_THRESHOLD + 1e-6
    return np.where(called, nearest, schema.MISSING_CALL).astype(np.uint8)
