"""What the statistics need of genotypes, whether they come from a store or straight from files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biolmm.files.encoding import Encoding, Rows
from biolmm.files.genotypes import Strings


@dataclass(frozen=True, eq=False)
class Quality:
    """How well variants were imputed, over all samples of the files; NaN where it is not defined.

    Attributes
    ----------
    info
        (b,) IMPUTE's INFO, from genotype probabilities.
    r2
        (b,) Minimac's R²: from haplotype dosages where they are phased, else from the variance of the dosage; see `store.quality`.
    """

    info: NDArray[np.float32]
    r2: NDArray[np.float32]


class GenotypeData(Protocol):
    """Genotypes in chunks of consecutive variants of all samples; can be sent to other processes cheaply."""

    @property
    def path(self) -> Path:
        """The store or the first file, for messages."""
        ...

    @property
    def n_samples(self) -> int:
        """Samples."""
        ...

    @property
    def n_variants(self) -> int:
        """Variants."""
        ...

    @property
    def chunk_variants(self) -> int:
        """Variants of every chunk but the last."""
        ...

    @property
    def encoding(self) -> Encoding:
        """How rows are encoded."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of the content; of a file, of its size and time of change."""
        ...

    @property
    def sample_id(self) -> NDArray[np.str_]:
        """Identifier of each sample, unique."""
        ...

    @property
    def family_id(self) -> NDArray[np.str_]:
        """Family of each sample."""
        ...

    @property
    def sex(self) -> NDArray[np.int8]:
        """Sex of each sample: 0 unknown, 1 male, 2 female."""
        ...

    @property
    def contig_id(self) -> tuple[str, ...]:
        """Contig names, normalised (`1`, not `chr1`), in natural order."""
        ...

    @property
    def variant_contig(self) -> NDArray[np.int32]:
        """Index into `contig_id` of each variant."""
        ...

    @property
    def variant_position(self) -> NDArray[np.int64]:
        """Position of each variant in base pairs, 1-based."""
        ...

    @property
    def variant_id(self) -> Strings:
        """Identifier of each variant."""
        ...

    @property
    def ref(self) -> Strings:
        """Other allele of each variant."""
        ...

    @property
    def alt(self) -> Strings:
        """Effect allele of each variant, whose copies are counted."""
        ...

    def chunk_range(self, chunk: int) -> tuple[int, int]:
        """Give the half-open range of variants of a chunk."""
        ...

    def read_rows(self, chunk: int) -> Rows:
        """Read the encoded rows of a chunk, (variants of the chunk, width)."""
        ...

    def read_quality(self, variants: NDArray[np.int64]) -> Quality | None:
        """Return the imputation quality of variants; None for hard calls, which have none."""
        ...
