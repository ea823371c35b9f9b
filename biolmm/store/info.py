"""What is in a store, for `biolmm info`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.store.read import GenotypeStore

MAF_EDGES = (0.0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Bounds of the classes of the frequency spectrum; each class includes its upper bound."""

QUALITY_EDGES = (0.3, 0.5, 0.8, 0.9, 0.95)
"""Bounds between the classes of INFO and R²; each class includes its upper bound."""


def describe(store: GenotypeStore) -> dict[str, Any]:
    """Describe a store by numbers that JSON can hold.

    Returns
    -------
    `path`, `fingerprint`, `encoding` (`calls`, `dosage8`, `dosage16`), `n_samples`, `n_variants`, `sexes`, `contigs` (a
    list of name, n_variants, first_bp, last_bp), `chunks`, `sizes` (bytes on disk and bits per genotype), `frequencies`
    (monomorphic variants, variants never called, and a list of classes of the minor allele frequency), `missingness`,
    `provenance`; of dosages also `info` and `r2` (how many variants have none, the mean, and classes).

    Notes
    -----
    **Cost**: reads the small arrays only; the counts were taken when the store was written.
    """
    n_calls = store.n_samples * store.n_variants
    return {
        "path": str(store.path),
        "fingerprint": store.fingerprint,
        "source": store.attributes["source"],
        "created": store.attributes["created"],
        "encoding": store.encoding.value,
        "n_samples": store.n_samples,
        "n_variants": store.n_variants,
        "sexes": {name: int(np.sum(store.sex == code)) for code, name in enumerate(("unknown", "male", "female"))},
        "contigs": _contigs(store),
        "chunks": {"n": store.n_chunks, "variants": store.chunk_variants, "packed_bytes": _chunk_bytes(store)},
        "sizes": {"calls_bytes": store.encoded_bytes, "bits_per_genotype": 8 * store.encoded_bytes / n_calls},
        "frequencies": _frequencies(store),
        "missingness": _missingness(store),
        **_qualities(store),
        "provenance": store.attributes["provenance"],
    }


def _chunk_bytes(store: GenotypeStore) -> int:
    return store.chunk_variants * store.row_bytes


def _contigs(store: GenotypeStore) -> list[dict[str, Any]]:
    rows = []
    for index, name in enumerate(store.contig_id):
        position = store.variant_position[store.variant_contig == index]
        n, first, last = len(position), int(position.min()), int(position.max())
        rows.append({"name": name, "n_variants": n, "first_bp": first, "last_bp": last})
    return rows


def _frequencies(store: GenotypeStore) -> dict[str, Any]:
    called = store.n_samples - store.missing_count
    with np.errstate(invalid="ignore"):
        frequency = store.dosage_sum / (2 * called)
    maf = np.minimum(frequency, 1 - frequency)
    n_monomorphic = int(np.sum(maf == 0))
    classes = [
        {"above": low, "to": high, "n_variants": int(np.sum((maf > low) & (maf <= high)))}
        for low, high in pairwise(MAF_EDGES)
    ]
    return {"n_monomorphic": n_monomorphic, "n_never_called": int(np.sum(called == 0)), "maf_classes": classes}


def _qualities(store: GenotypeStore) -> dict[str, Any]:
    if not store.encoding.is_dosage:
        return {}
    return {"info": _quality(store.info), "r2": _quality(store.r2)}


def _quality(values: NDArray[np.float32]) -> dict[str, Any]:
    known = values[~np.isnan(values)].astype(np.float64)
    bounds = [-np.inf, *QUALITY_EDGES, np.inf]  # R² can be a little above 1, and INFO below 0
    classes = [
        {
            "above": low if np.isfinite(low) else None,
            "to": high if np.isfinite(high) else None,
            "n_variants": int(np.sum((known > low) & (known <= high))),
        }
        for low, high in pairwise(bounds)
    ]
    mean = float(known.mean()) if len(known) else None
    return {"n_undefined": len(values) - len(known), "mean": mean, "classes": classes}


def _missingness(store: GenotypeStore) -> dict[str, Any]:
    rate = store.missing_count / store.n_samples
    over = {f"over_{limit:g}": int(np.sum(rate > limit)) for limit in (0.01, 0.05, 0.1)}
    return {"mean": float(rate.mean()), "max": float(rate.max()), "n_variants": over}
