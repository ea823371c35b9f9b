"""A store as it was before variants were appended to it: the same people, and the variants that it had then."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import VariantMismatchError
from biolmm.files.encoding import Encoding, Rows
from biolmm.files.genotypes import Strings
from biolmm.store.data import GenotypeData, Quality
from biolmm.store.layout import chunk_range
from biolmm.store.read import GenotypeStore


def variants_at(data: GenotypeData, fingerprint: str) -> int | None:
    """Count the variants that a store had when its fingerprint was this one.

    Returns
    -------
    int or None
        All of them where it is the fingerprint of now; None where it never was this store's.
    """
    if data.fingerprint == fingerprint:
        return data.n_variants
    if not isinstance(data, GenotypeStore):
        return None
    appended = data.attributes.get("provenance", {}).get("appended", [])
    n_after = 0
    for each in reversed(appended):  # what was appended is behind what was there
        n_after += int(each["n_variants"])
        if each.get("to_fingerprint") == fingerprint:
            return data.n_variants - n_after
    return None


def as_of(data: GenotypeData, fingerprint: str) -> GenotypeData:
    """Return a store as it was when its fingerprint was this one; itself where that is now.

    Raises
    ------
    VariantMismatchError
        When it never was this store's.
    """
    count = variants_at(data, fingerprint)
    if count is None:
        raise VariantMismatchError(
            f"'{data.path}' is not the store with fingerprint {fingerprint[:12]}…, nor was it made of that one with "
            "`biolmm convert --append`: put that store back, or fit a new model."
        )
    if data.fingerprint == fingerprint or not isinstance(data, GenotypeStore):
        return data
    return EarlierStore(data, count, fingerprint)


@dataclass(frozen=True, eq=False)
class EarlierStore:
    """The first variants of a store, under the fingerprint that it had when there were no others; see `GenotypeData`."""

    store: GenotypeStore
    n_variants: int
    fingerprint: str

    @property
    def path(self) -> Path:
        """The store."""
        return self.store.path

    @property
    def n_samples(self) -> int:
        """Samples."""
        return self.store.n_samples

    @property
    def chunk_variants(self) -> int:
        """Variants of every chunk but the last."""
        return self.store.chunk_variants

    @property
    def encoding(self) -> Encoding:
        """How rows are encoded."""
        return self.store.encoding

    @property
    def sample_id(self) -> NDArray[np.str_]:
        """Identifier of each sample."""
        return self.store.sample_id

    @property
    def family_id(self) -> NDArray[np.str_]:
        """Family of each sample."""
        return self.store.family_id

    @property
    def sex(self) -> NDArray[np.int8]:
        """Sex of each sample."""
        return self.store.sex

    @cached_property
    def contig_id(self) -> tuple[str, ...]:
        """Contigs that it had; those that were appended come last."""
        return self.store.contig_id[: int(self.variant_contig.max(initial=-1)) + 1]

    @property
    def variant_contig(self) -> NDArray[np.int32]:
        """Index into `contig_id` of each variant."""
        return self.store.variant_contig[: self.n_variants]

    @property
    def variant_position(self) -> NDArray[np.int64]:
        """Position of each variant."""
        return self.store.variant_position[: self.n_variants]

    @property
    def variant_id(self) -> Strings:
        """Identifier of each variant."""
        return self.store.variant_id[: self.n_variants]

    @property
    def ref(self) -> Strings:
        """Other allele of each variant."""
        return self.store.ref[: self.n_variants]

    @property
    def alt(self) -> Strings:
        """Effect allele of each variant."""
        return self.store.alt[: self.n_variants]

    def chunk_range(self, chunk: int) -> tuple[int, int]:
        """Give the half-open range of variants of a chunk."""
        return chunk_range(chunk, self.chunk_variants, self.n_variants)

    def read_rows(self, chunk: int) -> Rows:
        """Read the encoded rows of a chunk; of the last one those that were there."""
        start, stop = self.chunk_range(chunk)
        return self.store.read_rows(chunk)[: stop - start]

    def read_quality(self, variants: NDArray[np.int64]) -> Quality | None:
        """Return the imputation quality of variants; None for hard calls."""
        return self.store.read_quality(variants)
