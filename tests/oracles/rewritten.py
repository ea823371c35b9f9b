"""A store written again: other people, some of the variants, other alleles counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biolmm.files.genotypes import SampleTable, VariantTable, as_strings
from biolmm.genotypes.weights import table_of
from biolmm.store.read import GenotypeStore
from biolmm.store.write import StoreWriter
from oracles.toy import Calls, pack_rows


def rewritten(
    path: Path,
    store: GenotypeStore,
    calls: Calls,
    order: NDArray[np.int64],
    swapped: NDArray[np.bool_],
    taken: NDArray[np.int64] | None = None,
) -> GenotypeStore:
    """Write calls of a store's variants (M, N) as a store of some of them, the other allele counted where `swapped`.

    Row k is variant `order[k]` with the calls of row `taken[k]`, its own by default.
    """
    table = table_of(store, order)
    ref, alt = np.where(swapped, table.alt, table.ref), np.where(swapped, table.ref, table.alt)
    chosen = calls[order if taken is None else taken]
    recoded = np.where(swapped[:, None] & (chosen < 3), 2 - chosen, chosen).astype(np.uint8)
    ids = np.array([f"N{i}" for i in range(calls.shape[1])])
    variants = VariantTable(
        table.contig,
        table.contig_id,
        table.position,
        as_strings([f"v{i}" for i in order]),
        as_strings(ref),
        as_strings(alt),
    )
    samples = SampleTable(ids, ids, np.zeros(len(ids), np.int8))
    writer = StoreWriter.begin(path, samples, variants, provenance={}, chunk_variants=64)
    for chunk in range(writer.n_chunks):
        writer.write_chunk(chunk, pack_rows(recoded[slice(*writer.chunk_range(chunk))]))
    return GenotypeStore.open(writer.publish())
