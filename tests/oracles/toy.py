"""Toy cohorts: calls with structure, stores made of them, and everything that a fit needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.cohort import Cohort, align_cohort
from biolmm.files.encoding import padded_samples
from biolmm.files.genotypes import SampleTable, VariantTable, as_strings
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.genotypes.standardised import standardise
from biolmm.store.read import GenotypeStore
from biolmm.store.write import StoreWriter
from oracles import dense

Calls = NDArray[np.uint8]


def pack_rows(calls: Calls) -> NDArray[np.uint8]:
    """Pack calls (b, N) two bits each, first sample lowest, rows padded with 3 to whole words."""
    padded = np.full((len(calls), padded_samples(calls.shape[1])), 3, np.uint8)
    padded[:, : calls.shape[1]] = calls
    four = padded.reshape(len(calls), -1, 4).astype(np.uint8)
    return four[:, :, 0] | four[:, :, 1] << 2 | four[:, :, 2] << 4 | four[:, :, 3] << 6


def structured_calls(n_variants: int, n_samples: int, seed: int = 1) -> Calls:
    """Draw calls of three drifted populations, 2 % missing, the first monomorphic and the second never called."""
    rng = np.random.default_rng(seed)
    ancestral = rng.uniform(0.05, 0.95, (n_variants, 1))
    drifted = np.clip(ancestral + rng.normal(0, 0.1, (n_variants, 3)), 0.02, 0.98)
    calls = rng.binomial(2, drifted[:, np.arange(n_samples) % 3]).astype(np.uint8)
    calls[rng.random(calls.shape) < 0.02] = 3
    calls[0], calls[1] = 0, 3
    return calls


def write_store(
    path: Path,
    calls: Calls,
    contigs: Sequence[str] | None = None,
    sample_ids: Sequence[str] | None = None,
    chunk_variants: int = 64,
) -> GenotypeStore:
    """Write calls (M, N) as a store."""
    n_variants, n_samples = calls.shape
    names = list(contigs) if contigs is not None else ["1"] * n_variants
    contig_id = tuple(dict.fromkeys(names))
    ids = np.array(sample_ids if sample_ids is not None else [f"S{i}" for i in range(n_samples)])
    samples = SampleTable(ids, ids, np.zeros(n_samples, np.int8))
    text = {which: as_strings([f"{which}{j}" for j in range(n_variants)]) for which in ("rs", "R", "A")}
    variants = VariantTable(
        np.array([contig_id.index(name) for name in names], np.int32), contig_id,
        np.arange(1, n_variants + 1, dtype=np.int64), text["rs"], text["R"], text["A"],
    )  # fmt: skip
    writer = StoreWriter.begin(path, samples, variants, provenance={}, chunk_variants=chunk_variants)
    for chunk in range(writer.n_chunks):
        start, stop = writer.chunk_range(chunk)
        writer.write_chunk(chunk, pack_rows(calls[start:stop]))
    return GenotypeStore.open(writer.publish())


def operator_of(
    store: GenotypeStore,
    sample_index: NDArray[np.int64] | None = None,
    variants: NDArray[np.int64] | None = None,
    cache_bytes: int = 0,
    **options: Any,
) -> GenotypeOperator:
    """Make the operator of some samples and variants of a store, all by default."""
    chosen = np.arange(store.n_samples) if sample_index is None else sample_index
    source = ChosenGenotypes.choose(store, chosen, variants, cache_bytes)
    return GenotypeOperator(standardise(source, **options))


@dataclass(frozen=True, eq=False, repr=False)
class Toy:
    """A store, its calls, and traits and covariates of its samples."""

    calls: Calls
    contigs: NDArray[np.int64]
    store: GenotypeStore
    traits: pd.DataFrame
    covariates: pd.DataFrame | None

    def cohort(self, *trait_names: str) -> Cohort:
        """Align some traits, all by default."""
        names = list(trait_names) or list(self.traits.columns)
        return align_cohort(self.store.sample_id, self.traits[names], self.covariates)

    def operator(self, **options: Any) -> GenotypeOperator:
        """Make the operator of everybody and everything."""
        return operator_of(self.store, **options)

    @property
    def design(self) -> NDArray[np.float64]:
        """X: intercept and covariates as given, in the order of the store."""
        ones = np.ones((self.store.n_samples, 1))
        if self.covariates is None:
            return ones
        return np.hstack([ones, self.covariates.loc[self.store.sample_id].to_numpy()])

    @cached_property
    def K(self) -> NDArray[np.float64]:
        """The relatedness matrix by definition."""
        return dense.relatedness(self.calls)

    @cached_property
    def left_out_K(self) -> list[NDArray[np.float64]]:
        """K₋c of every contig by definition, and K last."""
        contigs = range(len(self.store.contig_id))
        return [*(dense.left_out_relatedness(self.calls, self.contigs, c) for c in contigs), self.K]

    def y(self, trait: str) -> NDArray[np.float64]:
        """Return one trait in the order of the store."""
        return self.traits.loc[self.store.sample_id, trait].to_numpy()


def toy_traits(calls: Calls, sample_ids: Sequence[str], seed: int = 3) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Simulate traits and two covariates.

    `half` has h² = 0.5, `low` 0.2, `none` 0; `gaps` is `half` with a tenth of the samples unobserved and `holes`
    `low` with a fifth.
    """
    rng = np.random.default_rng(seed)
    Z, weight = dense.standardised(calls)
    n_samples = calls.shape[1]
    genetic = Z.T @ rng.standard_normal((len(Z), 2)) / np.sqrt(weight.sum())
    covariates = np.column_stack([rng.standard_normal(n_samples), rng.integers(0, 2, n_samples)])
    noise = rng.standard_normal((n_samples, 3))
    shift = 10 + covariates @ [0.5, 1.0]
    traits = {
        "half": shift + np.sqrt(0.5) * (genetic[:, 0] + noise[:, 0]),
        "low": 3 * (shift + np.sqrt(0.2) * genetic[:, 1] + np.sqrt(0.8) * noise[:, 1]),
        "none": noise[:, 2],
    }
    gaps, holes = traits["half"].copy(), traits["low"].copy()
    gaps[rng.random(n_samples) < 0.1] = np.nan
    holes[rng.random(n_samples) < 0.2] = np.nan
    frame = pd.DataFrame({**traits, "gaps": gaps, "holes": holes}, index=list(sample_ids))
    return frame, pd.DataFrame(covariates, columns=["age", "sex"], index=list(sample_ids))


def toy_contigs(n_variants: int) -> list[str]:
    """Cut variants into four contigs of unequal length, off the boundaries of chunks."""
    edges = np.array([0.4, 0.7, 0.9]) * n_variants + 5
    return [f"c{np.searchsorted(edges, j, side='right')}" for j in range(n_variants)]


def make_toy(path: Path, n_variants: int = 1200, n_samples: int = 317, chunk_variants: int = 64) -> Toy:
    """Write a toy cohort below a folder."""
    calls = structured_calls(n_variants, n_samples)
    contigs = toy_contigs(n_variants)
    store = write_store(path / "toy.zarr", calls, contigs, chunk_variants=chunk_variants)
    traits, covariates = toy_traits(calls, store.sample_id.tolist())
    return Toy(calls, store.variant_contig.astype(np.int64), store, traits, covariates)
