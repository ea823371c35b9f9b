"""Which variants are good enough: thresholds on frequency, missingness, imputation quality and Hardy–Weinberg proportions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from biolmm.contigs import Ploidy
from biolmm.errors import ParameterError
from biolmm.files.encoding import Rows
from biolmm.genotypes.coding import Counted
from biolmm.genotypes.moments import SampleMasks, genotype_counts
from biolmm.genotypes.source import RowReader
from biolmm.hwe import hwe_exact_p


@dataclass(frozen=True)
class Passing:
    """Which variants pass, and how many each filter took out.

    Attributes
    ----------
    kept
        (b,) whether each variant passes every filter.
    removed
        Variants by the first filter that they fail.
    """

    kept: NDArray[np.bool_]
    removed: dict[str, int]


@dataclass(frozen=True)
class VariantFilters:
    """Thresholds, all on the cohort's samples; the defaults let everything pass.

    Attributes
    ----------
    min_maf
        Minor allele frequency.
    min_mac
        Minor allele count.
    max_missing
        Share of samples without a genotype.
    min_info
        IMPUTE's INFO, or Minimac's R² where there are no genotype probabilities; what has neither, as hard calls, passes.
    min_hwe_p
        Exact mid-p of Hardy–Weinberg proportions among hard calls; on X of the females, on haploid contigs of nobody.
    """

    min_maf: float = 0.0
    min_mac: float = 0.0
    max_missing: float = 1.0
    min_info: float = 0.0
    min_hwe_p: float = 0.0

    def __post_init__(self) -> None:
        bounds = {"min_maf": 0.5, "min_mac": np.inf, "max_missing": 1.0, "min_info": 1.0, "min_hwe_p": 1.0}
        for name, top in bounds.items():
            value = getattr(self, name)
            if not 0 <= value <= top:
                option = "--" + name.replace("_", "-")
                raise ParameterError(f"{option} is {value} but must be between 0 and {top:g}.")

    @property
    def active(self) -> bool:
        """Whether any filter can take a variant out."""
        return any(getattr(self, field.name) != field.default for field in fields(self))

    def passing(
        self, rows: Rows, reader: RowReader, variants: NDArray[np.int64], counted: Counted, ploidy: int
    ) -> Passing:
        """Say which variants pass.

        Parameters
        ----------
        rows
            (b, width) rows of the cohort.
        reader
            Where they came from.
        variants
            (b,) store indices.
        counted
            Their sums; the first set of samples is the whole cohort.
        ploidy
            Theirs.
        """
        kept = np.ones(len(rows), dtype=bool)
        removed: dict[str, int] = {}
        if not self.active:
            return Passing(kept, removed)
        alt, n = counted.alt_alleles[:, 0], counted.n_alleles[:, 0]
        minor = np.minimum(alt, n - alt)
        n_people = self._n_counted(reader, ploidy)
        checks = {
            # 15 of 300 are not more than 5 %, whatever the rounding of 0.05.
            "max_missing": lambda: n_people - counted.moments.called[:, 0] <= self.max_missing * n_people + 1e-6,
            "min_mac": lambda: minor >= self.min_mac - 1e-9,
            "min_maf": lambda: minor >= (self.min_maf - 1e-12) * n,
            "min_info": lambda: _information(reader, variants) >= self.min_info,
            "min_hwe_p": lambda: _hwe_p(rows, reader, ploidy) >= self.min_hwe_p,
        }
        defaults = {field.name: field.default for field in fields(self)}
        for name, check in checks.items():
            if getattr(self, name) == defaults[name]:
                continue
            passes = check()
            removed[f"--{name.replace('_', '-')}"] = int(np.count_nonzero(kept & ~passes))
            kept &= passes
        return Passing(kept, removed)

    @staticmethod
    def _n_counted(reader: RowReader, ploidy: int) -> int:
        """Samples that could have a genotype: on Y, males."""
        return max(int(reader.coding.male.sum()), 1) if ploidy == Ploidy.Y else reader.n_samples


def add_counts(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Add up what filters took out of several parts."""
    total: dict[str, int] = {}
    for part in counts:
        for name, n in part.items():
            total[name] = total.get(name, 0) + n
    return total


def information(reader: RowReader, variants: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Return IMPUTE's INFO of variants, Minimac's R² where that is not known, None for hard calls."""
    quality = reader.store.read_quality(variants)
    if quality is None:
        return None
    return np.where(np.isnan(quality.info), quality.r2, quality.info).astype(np.float64)


def _information(reader: RowReader, variants: NDArray[np.int64]) -> NDArray[np.float64]:
    found = information(reader, variants)
    return np.full(len(variants), np.inf) if found is None else np.where(np.isnan(found), np.inf, found)


def _hwe_p(rows: Rows, reader: RowReader, ploidy: int) -> NDArray[np.float64]:
    if ploidy in (Ploidy.Y, Ploidy.HAPLOID):
        return np.ones(len(rows))
    tested = ~reader.coding.male if ploidy == Ploidy.X else np.ones(reader.n_samples, dtype=bool)
    counts = genotype_counts(rows, reader.encoding, SampleMasks(tested[None, :]))[:, 0]
    return np.asarray(hwe_exact_p(counts[:, 0], counts[:, 1], counts[:, 2]))
