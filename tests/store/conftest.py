"""Small stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.files.encoding import padded_samples
from biolmm.files.genotypes import SampleTable, VariantTable, as_strings
from biolmm.store.packbits import pack_calls
from biolmm.store.read import GenotypeStore
from biolmm.store.write import StoreWriter


def random_calls(n_variants: int, n_samples: int) -> NDArray[np.uint8]:
    """Draw calls with some missing, the first variant monomorphic and the last never called."""
    calls = np.random.default_rng([n_variants, n_samples]).integers(0, 4, (n_variants, n_samples), dtype=np.uint8)
    calls[0], calls[-1] = 0, 3
    return calls


def small_tables(n_variants: int, n_samples: int) -> tuple[SampleTable, VariantTable]:
    """Name samples and variants; two contigs."""
    samples = SampleTable(
        np.array([f"S{i}" for i in range(n_samples)]),
        np.array([f"F{i // 2}" for i in range(n_samples)]),
        (np.arange(n_samples) % 3).astype(np.int8),
    )
    index = np.arange(n_variants)
    contig = (index >= n_variants // 2).astype(np.int32) if n_variants > 1 else np.zeros(1, np.int32)
    contigs = ("3", "X") if n_variants > 1 else ("3",)
    names, refs = [as_strings([f"{prefix}{i}" for i in index]) for prefix in ("rs", "A")]
    alts = as_strings(["G" * (1 + i % 40) for i in index])
    return samples, VariantTable(contig, contigs, 100 * index + 1, names, refs, alts)


def padded_rows(calls: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pack calls into padded rows."""
    padded = np.full((len(calls), padded_samples(calls.shape[1])), 3, np.uint8)
    padded[:, : calls.shape[1]] = calls
    return pack_calls(padded).reshape(len(calls), -1)


class SmallStores:
    """Makes calls, writers and stores below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def calls(self, n_variants: int = 150, n_samples: int = 45) -> NDArray[np.uint8]:
        """Calls of the store of this size."""
        return random_calls(n_variants, n_samples)

    def tables(self, n_variants: int, n_samples: int) -> tuple[SampleTable, VariantTable]:
        """Samples and variants of the store of this size."""
        return small_tables(n_variants, n_samples)

    def begin(self, n_variants: int = 150, n_samples: int = 45, name: str = "x.zarr", source: str = "a") -> StoreWriter:
        """Begin a store with chunks of 64 variants."""
        samples, variants = small_tables(n_variants, n_samples)
        provenance = {"source": source}
        return StoreWriter.begin(self.folder / name, samples, variants, provenance=provenance, chunk_variants=64)

    def write(self, writer: StoreWriter, chunk: int) -> None:
        """Write one chunk of `calls`."""
        start, stop = writer.chunk_range(chunk)
        writer.write_chunk(chunk, padded_rows(random_calls(writer.n_variants, writer.n_samples)[start:stop]))

    def finished(self, n_variants: int = 150, n_samples: int = 45, name: str = "x.zarr") -> GenotypeStore:
        """Write and open a store."""
        writer = self.begin(n_variants, n_samples, name)
        for chunk in range(writer.n_chunks):
            self.write(writer, chunk)
        return GenotypeStore.open(writer.publish())


@pytest.fixture
def small_stores(tmp_path: Path) -> SmallStores:
    """Give a maker of small stores; `small_stores.finished()` has 150 variants in 3 chunks and 45 samples."""
    return SmallStores(tmp_path)


MakeStores = Callable[[Path], SmallStores]


@pytest.fixture(scope="session")
def make_stores() -> MakeStores:
    """Give the maker for another folder, for tests that hypothesis repeats."""
    return SmallStores
