"""Small stores, and genotype files that are in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.files.encoding import Encoding, padded_samples, rows_from_dosages
from biolmm.files.genotypes import Block, SampleTable, Source, VariantTable, as_strings
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


@dataclass(frozen=True, eq=False)
class MemoryDecoder:
    """Encodes rows of a matrix of dosages; remembers what was read."""

    dosages: NDArray[np.float64]
    expected_squares: NDArray[np.float64] | None
    haplotype_squares: NDArray[np.float64] | None
    reads: list[tuple[int, int]] = field(default_factory=list)

    def read(self, start: int, stop: int, encoding: Encoding) -> Block:
        """Read variants `start` to `stop`."""
        self.reads.append((start, stop))
        part = self.dosages[start:stop]
        moments = [
            None if each is None else each[start:stop] for each in (self.expected_squares, self.haplotype_squares)
        ]
        has = ~np.isnan(part)
        sums = [np.where(has, part**power, 0).sum(axis=1) for power in (1, 2)]
        return Block(rows_from_dosages(part, encoding), *moments, *sums)


class MemorySources:
    """Makes genotype files whose content is in memory; only their sizes and times are on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        dosages: NDArray[Any],
        name: str = "a.mem",
        sample_ids: Sequence[str] | None = None,
        contigs: Sequence[str] | None = None,
        positions: Sequence[int] | None = None,
        alleles: Sequence[str] | None = None,
        **options: Any,
    ) -> Source:
        """Make one; `expected_squares` and `haplotype_squares` as of `Block`, `random_access` as of `Source`."""
        n_variants, n_samples = dosages.shape
        contigs = list(contigs) if contigs is not None else ["1"] * n_variants
        contig_id = tuple(dict.fromkeys(contigs))
        ids = np.array(sample_ids if sample_ids is not None else [f"S{i}" for i in range(n_samples)])
        samples = SampleTable(ids, np.array([f"F-{each}" for each in ids]), (np.arange(n_samples) % 3).astype(np.int8))
        variants = VariantTable(
            np.array([contig_id.index(each) for each in contigs], np.int32), contig_id,
            np.array(positions if positions is not None else range(1, n_variants + 1), np.int64),
            as_strings([f"{name}:{i}" for i in range(n_variants)]), as_strings(["A"] * n_variants),
            as_strings(alleles if alleles is not None else ["C"] * n_variants),
        )  # fmt: skip
        path = self.folder / name
        path.write_bytes(dosages.tobytes())
        moments = [options.pop(each, None) for each in ("expected_squares", "haplotype_squares")]
        dosages = np.asarray(dosages, np.float64)
        options.setdefault("has_dosages", bool(np.any(dosages != np.rint(dosages), where=~np.isnan(dosages))))
        notes = {"kind": "memory"}
        return Source(
            path, samples, variants, decoder=MemoryDecoder(dosages, *moments), files=(path,), notes=notes, **options
        )


@pytest.fixture
def memory_source(tmp_path: Path) -> MemorySources:
    """Give a maker of genotype files in memory."""
    return MemorySources(tmp_path)


MakeSources = Callable[[Path], MemorySources]


@pytest.fixture(scope="session")
def make_sources() -> MakeSources:
    """Give the maker for another folder, for tests that hypothesis repeats."""
    return MemorySources
