"""A relatedness matrix that is given (`--grm`), matched by sample id, instead of one made of the model's genotypes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biolmm.cohort import Cohort
from biolmm.covariance.terms import check_matrix
from biolmm.errors import ParameterError, SampleMismatchError
from biolmm.exact import ExactConfig, ExactScan
from biolmm.files.gcta_grm import GctaGrm, is_gcta_grm
from biolmm.genotypes.operator import NO_CONTIG
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.relatedness.grm import Grm
from biolmm.results.record import fingerprint_file
from biolmm.stages import content_hash
from biolmm.store.matrix import MatrixStore, is_matrix


def numbers_of(path: Path) -> Path:
    """Return the file or folder with the numbers of an input: of a matrix of GCTA, which a prefix may name, the `.grm.bin`."""
    return GctaGrm.open(path).path if is_gcta_grm(path) else path


def fingerprint_input(path: Path) -> str:
    """Hash what a table or a matrix holds."""
    return MatrixStore.open(path).fingerprint if is_matrix(path) else fingerprint_file(numbers_of(path))


@dataclass(frozen=True, eq=False)
class GivenMatrix:
    """A matrix of biolmm, GCTA or PLINK, and whose it is.

    Attributes
    ----------
    grm
        The matrix.
    """

    grm: Grm

    @classmethod
    def open(cls, path: Path, *, loco: bool) -> GivenMatrix:
        """Open a matrix that contigs can be left out of, or need not be.

        Raises
        ------
        UserError
            When it cannot be read.
        ParameterError
            When contigs are to be left out and their own matrices are not there.
        """
        grm = Grm.open(path)
        if loco and not grm.contigs:
            raise ParameterError(
                f"'{path}' holds no matrix of any contig, so none can be left out: add --no-loco, or give a matrix that "
                "`biolmm grm --per-contig` has made."
            )
        return cls(grm)

    @property
    def path(self) -> Path:
        """The file or folder with the numbers."""
        return numbers_of(self.grm.path)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what it holds, and of whom."""
        return content_hash(fingerprint_input(self.grm.path), self.grm.sample_id.tolist())

    @property
    def n_variants(self) -> int | None:
        """Variants that it was made of, where the file says."""
        return self.grm.n_variants if self.grm.n_variants >= 0 else None

    def holds(self, sample_id: NDArray[np.str_]) -> NDArray[np.bool_]:
        """Return which samples it has.

        Raises
        ------
        SampleMismatchError
            When it has none.
        """
        found = np.isin(sample_id, self.grm.sample_id)
        if not found.any():
            raise SampleMismatchError(
                f"None of the {len(sample_id):,} samples of the genotypes is in '{self.grm.path}' ({self.grm.n_samples:,} "
                f"samples): '{self.grm.sample_id[0]}' there, '{sample_id[0]}' here. The sample ids (IID) must be spelled "
                "alike in both."
            )
        return found

    def scan(self, cohort: Cohort, source: ChosenGenotypes, config: ExactConfig) -> ExactScan:
        """Test variants with this matrix; `cohort` has nobody whom it lacks."""
        place = {name: i for i, name in enumerate(self.grm.sample_id.tolist())}
        index = np.array([place[name] for name in cohort.sample_id.tolist()], np.int64)
        contigs = {name: i for i, name in enumerate(self.grm.contigs)} if config.loco else {}

        def relatedness(contig: int) -> NDArray[np.float64]:
            grm = self.grm if contig == NO_CONTIG else self.grm.without(self.grm.contigs[contig])
            K = grm.dense(index)
            check_matrix(K, f"'{grm.path}'")
            return K

        return ExactScan(cohort, source, relatedness, contigs, config)
